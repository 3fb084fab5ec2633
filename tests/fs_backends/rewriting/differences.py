"""Lists of differences by hand, and ways to look at the archives that come out."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.fs_backends.tar_forge import tree
from vfswasi.fs_backends.archive.rewriting import ArchiveFile
from vfswasi.fs_backends.base import Buffer, FileType, Handle, Stat
from vfswasi.fs_backends.layers.overlay.entries import Entry

NEW_NS = 1_700_000_000_123_456_789
KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


class BytesContent:
    """Contents that are in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.data = data

    def open(self) -> Handle:
        return _Reader(self.data)


class _Reader(Handle):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, offset: int, buf: Buffer) -> int:
        piece = self._data[offset : offset + len(buf)]
        buf[: len(piece)] = piece
        return len(piece)

    def stat(self) -> Stat:
        return Stat(FileType.REGULAR_FILE, len(self._data))

    def close(self) -> None:
        pass


def added(path: str, data: bytes = b"", **more: object) -> Entry:
    content = BytesContent(data)
    return Entry("added", path, FileType.REGULAR_FILE, size=len(data), content=content, mtim_ns=NEW_NS, **more)  # type: ignore[arg-type]


def modified(path: str, data: bytes | BytesContent, old_path: str | None = None) -> Entry:
    content = BytesContent(data) if isinstance(data, bytes) else data
    size = content.size
    return Entry("modified", path, FileType.REGULAR_FILE, old_path, size=size, content=content, mtim_ns=NEW_NS)


def directory(path: str) -> Entry:
    return Entry("added", path, FileType.DIRECTORY, mtim_ns=NEW_NS)


def symlink(path: str, target: str) -> Entry:
    return Entry("added", path, FileType.SYMBOLIC_LINK, target=target, mtim_ns=NEW_NS)


def link(path: str, to: str) -> Entry:
    return Entry("added", path, FileType.REGULAR_FILE, link_to=to, mtim_ns=NEW_NS)


def removed(path: str) -> Entry:
    return Entry("removed", path, FileType.REGULAR_FILE)


def renamed(old: str, new: str) -> Entry:
    return Entry("renamed", new, FileType.REGULAR_FILE, old)


def dated(path: str, time_ns: int = NEW_NS) -> Entry:
    return Entry("attributes", path, FileType.REGULAR_FILE, mtim_ns=time_ns)


def pack(path: Path, members: dict[str, bytes | None]) -> None:
    """An archive of the kind that its name says; None is a directory. Times are those of 2020."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in members.items():
                info = zipfile.ZipInfo(name + "/" * (data is None), (2020, 2, 3, 4, 5, 6))
                info.external_attr = (0o40755 if data is None else 0o100644) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                file.writestr(info, data or b"")
        return
    mode = {"tar": "w", "gz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}[path.name.rpartition(".")[2]]
    with tarfile.open(path, mode) as target:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.mtime, member.mode = 1_580_702_706, 0o755 if data is None else 0o644
            member.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            member.size = len(data or b"")
            target.addfile(member, io.BytesIO(data or b""))


def names(path: Path) -> list[str]:
    """Of the members, in their order, as Python's own reader has them."""
    if zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None
            return file.namelist()
    with tarfile.open(path) as target:
        return [member.name + "/" * member.isdir() for member in target]


def seen(path: Path) -> dict[str, object]:
    """What a mount shows."""
    with ArchiveFile(path) as archive:
        return tree(archive.backend)


def extracted(path: Path, into: Path) -> dict[str, object]:
    """What the system's own program takes out."""
    into.mkdir()
    command = ["unzip", "-q", path, "-d", into] if path.suffix == ".zip" else ["tar", "-xf", path, "-C", into]
    subprocess.run(command, check=True, capture_output=True)

    def look(where: Path) -> dict[str, object]:
        return {each.name: _one(each, look) for each in where.iterdir()}

    return look(into)


def _one(path: Path, look: Callable[[Path], dict[str, object]]) -> object:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return look(path) if path.is_dir() else path.read_bytes()
