"""What a program is given of files, in their order: `--mount`, `--dir` of wasmtime, `-v` of docker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from ...mounts.options import Mount, check_without_password, guest_name, parse_mount, parse_source
from ...printing import shown


def preopens(mounts: Iterable[tuple[str, str]], *, tmp: bool, dev: bool) -> dict[str, Any]:
    """`mounts`: (option, text). Raises ValueError."""
    found: dict[str, Any] = {}
    for option, text in mounts:
        guest, mount = _READERS[option](text)
        if guest in found:
            raise ValueError(f"{option} {guest}: given twice; each guest directory can have one source")
        found[guest] = mount
    for guest, wanted, url in (("/tmp", tmp, "mem:"), ("/dev", dev, "dev:")):
        if wanted and found.setdefault(guest, url) is not url:
            raise ValueError(f"--mount {guest}: given twice, by {guest.replace('/', '--')} too")
    return found


def _directory(text: str) -> tuple[str, Mount]:
    """HOST[::GUEST][,OPTION...]"""
    mount = parse_source(text)
    host, separated, guest = mount.source.rpartition("::")
    path, _, mode = guest.rpartition(":")
    if separated and mode in ("rw", "ro", *_OVERLAY):
        mode = "overlay" if mode in _OVERLAY else mode
        raise ValueError(f"--dir {shown(text)}: write {mode} behind a comma: --dir {host}::{path},{mode}")
    if not separated and ":/" in guest and "://" not in guest and not os.path.exists(guest):
        raise ValueError(f"--dir {shown(text)} is not HOST[::GUEST]; HOST:GUEST with one colon is -v {guest}")
    if not separated:
        host, guest = guest, os.path.normpath(guest) if guest else ""
    if not host or not guest:
        raise ValueError(f"--dir {shown(text)} is not HOST[::GUEST], such as . or ./corpus::/data")
    if "://" in host:
        raise ValueError(f"--dir takes a directory of this machine; write --mount /data={shown(host)[1:-1]}")
    try:
        return guest_name(guest), _with_source(mount, Path(host))
    except ValueError as error:
        raise ValueError(f"--dir {shown(text)}: {error}") from None


def _with_source(mount: Mount, source: Any) -> Mount:
    from dataclasses import replace

    return replace(mount, source=source)


def _volume(text: str) -> tuple[str, Mount]:
    """HOST:GUEST[:rw|:ro|:O]"""
    rest, mode = text, ""
    before, colon, last = text.rpartition(":")
    if colon and "/" not in last:
        rest, mode = before, last
    host, colon, guest = rest.rpartition(":")
    if not colon or not host or not guest.startswith("/"):
        raise ValueError(
            f"-v {shown(text)} is not HOST:GUEST[:rw], such as ./corpus:/data or ./results:/out:rw; for an empty "
            "directory in memory write --mount /dir=mem:"
        )
    if mode not in ("", "rw", "ro", *_OVERLAY):
        raise ValueError(
            f"-v {shown(rest)}: there is no mode {mode[:20]!r}; it is rw, O for an overlay, or ro, which is the default"
        )
    check_without_password(host)
    try:
        return guest_name(guest), Mount(host, overlay=True) if mode in _OVERLAY else Mount(host, rw=mode == "rw")
    except ValueError as error:
        raise ValueError(f"-v {shown(text)}: {error}") from None


_OVERLAY: Final = ("O", "overlay")
_READERS: Final[dict[str, Callable[[str], tuple[str, Mount]]]] = {
    "--mount": parse_mount,
    "--dir": _directory,
    "-v": _volume,
}
