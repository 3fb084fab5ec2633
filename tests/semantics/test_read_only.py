"""Read-only mounts: whatever would change something fails and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from tests.rawguest import READ, RawGuest
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.kernel import rights

TREE: dict[str, Any] = {"file": b"data", "dir": {}, "full": {"f": b""}, "link": vfswasi.Symlink("file")}


@pytest.fixture(params=["memory", "local"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return vfswasi.MemoryBackend(TREE)
    (tmp_path / "dir").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "full" / "f").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    return tmp_path


def _snapshot(source: Any) -> Any:
    if isinstance(source, vfswasi.MemoryBackend):
        return source.export(), source.stat(("file",)), source.stat(())
    return sorted(
        (
            str(path),
            path.lstat().st_ctime_ns,
            path.lstat().st_mtime_ns,
            path.lstat().st_nlink,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [source, *source.rglob("*")]
    )


@pytest.fixture
def readonly(source: Any) -> Iterator[RawGuest]:
    """The tree read-only as 3, a writable empty one as 4."""
    with RawGuest({"/r": vfswasi.Mount(source, rw=False), "/w": {}}) as guest:
        yield guest


CHANGES: dict[str, Callable[[RawGuest], Errno]] = {
    "open for writing": lambda g: g.try_open("file", base=READ | c.RIGHT_FD_WRITE)[0],
    "open for writing only": lambda g: g.try_open("file", base=c.RIGHT_FD_WRITE)[0],
    "open with truncation": lambda g: g.try_open("file", oflags=c.OFLAG_TRUNC)[0],
    "create": lambda g: g.try_open("new", oflags=c.OFLAG_CREAT)[0],
    "create exclusively": lambda g: g.try_open("new", oflags=c.OFLAG_CREAT | c.OFLAG_EXCL)[0],
    "mkdir": lambda g: g.mkdir("new"),
    "rmdir": lambda g: g.rmdir("dir"),
    "unlink": lambda g: g.unlink("file"),
    "symlink": lambda g: g.symlink("x", "new"),
    "link inside": lambda g: g.link("file", "new"),
    "link out": lambda g: g.link("file", "new", new_fd=4),
    "link in": lambda g: g.link("f", "new", fd=4, new_fd=3),
    "rename inside": lambda g: g.rename("file", "new"),
    "rename out": lambda g: g.rename("file", "new", new_fd=4),
    "rename in": lambda g: g.rename("f", "new", fd=4, new_fd=3),
    "set times": lambda g: g.call("path_filestat_set_times", 3, 1, *g.text("file"), 1, 1, 5),
    "set times of a link": lambda g: g.call("path_filestat_set_times", 3, 0, *g.text("link"), 1, 1, 5),
    "set times through a descriptor": lambda g: g.call("fd_filestat_set_times", g.open("file"), 1, 1, 5),
    "set times of the directory": lambda g: g.call("fd_filestat_set_times", 3, 1, 1, 5),
    "set size": lambda g: g.call("fd_filestat_set_size", g.open("file"), 0),
    "allocate": lambda g: g.call("fd_allocate", g.open("file"), 0, 100),
    "write": lambda g: g.call("fd_write", g.open("file"), *g.iovs((0x20000, 1)), 0x3000),
    "pwrite": lambda g: g.call("fd_pwrite", g.open("file"), *g.iovs((0x20000, 1)), 0, 0x3000),
    "write nothing": lambda g: g.call("fd_write", g.open("file"), *g.iovs((0x20000, 0)), 0x3000),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_rofs_and_changes_nothing(change: str, readonly: RawGuest, source: Any) -> None:
    readonly.close_fd(readonly.create("f", b"x", fd=4))
    before = _snapshot(source)
    assert CHANGES[change](readonly) is Errno.ROFS
    assert _snapshot(source) == before
    assert readonly.names(fd=4) == [b"f"]


def test_reading_works(readonly: RawGuest) -> None:
    assert readonly.contents("link") == b"data"
    assert readonly.names() == [b"dir", b"file", b"full", b"link"]
    assert readonly.stat("full/f").size == 0


def test_creat_on_an_existing_file_only_opens_it(readonly: RawGuest) -> None:
    fd = readonly.open("file", oflags=c.OFLAG_CREAT)
    assert readonly.read(fd, 9) == b"data"


def test_a_read_only_directory_does_not_offer_to_write(readonly: RawGuest) -> None:
    for fd in (3, readonly.opendir("full")):
        stat = readonly.fdstat(fd)
        assert not (stat.base | stat.inheriting) & rights.MUTATING
        assert stat.inheriting & c.RIGHT_FD_READ


def test_rights_to_change_are_dropped_when_opened_for_reading(readonly: RawGuest) -> None:
    fd = readonly.open("file", base=READ | c.RIGHT_FD_FILESTAT_SET_TIMES | c.RIGHT_FD_ALLOCATE)
    assert readonly.fdstat(fd).base == READ
