"""W5: the way to the cache of compiled code, every directory and link of it, is out of the reach of guests."""

from __future__ import annotations

from pathlib import Path

import pytest

import vfswasi
from vfswasi.engine.compiling import modules

from ..rawguest import RawGuest
from ..wat_programs import compiled


def _exiting(code: int) -> bytes:
    return f"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))""".encode()


def _status() -> int | None:
    """What a module that exits with 1 exits with, in the next process."""
    modules._remembered.clear()
    return vfswasi.run(_exiting(1), vdso=False).returncode


@pytest.mark.parametrize(
    "where",
    [
        "a directory on the way",
        "a link on the way",
    ],
)
def test_w5_no_guest_can_put_another_directory_in_the_place_of_the_cache(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a home directory that is mounted writable and whose `.cache` is a link to a larger disk."""
    home, disk = tmp_path / "home", tmp_path / "disk"
    (disk / "vfswasi").mkdir(parents=True, mode=0o700)
    home.mkdir()
    if where == "a link on the way":
        (home / ".cache").symlink_to(disk)
    else:
        (home / ".cache" / "vfswasi").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(home / ".cache" / "vfswasi"))
    monkeypatch.setattr(modules, "_CACHE_WORTH_S", -1.0)
    monkeypatch.setattr(modules, "_CACHE_WORTH_BYTES", 0)
    monkeypatch.setattr(modules, "_remembered", type(modules._remembered)())
    assert _status() == 1
    (file,) = (home / ".cache" / "vfswasi").glob("*.cwasm")
    code = compiled(_exiting(66))
    try:
        with RawGuest({"/home": vfswasi.Mount(home, rw=True)}) as guest:
            guest.rename(".cache", "old")
            guest.mkdir(".cache")
            guest.mkdir(".cache/vfswasi")
            fd = guest.create(f".cache/vfswasi/{file.name}")
            for start in range(0, len(code), 0x8000):
                guest.write(fd, bytes(code[start : start + 0x8000]))
            guest.close_fd(fd)
    except vfswasi.MountError:
        pass
    assert _status() == 1
