"""A jail of each kind with something worth stealing beside it, both seen from behind the guest's back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import vfswasi
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend, FileType, Key

from ..rawguest import RawGuest

SECRET = b"the secret"

# What lies in the jail, and beside it under names that begin with the jail's.
INSIDE: dict[str, Any] = {"f": b"content", "sub": {"g": b"below", "deep": {}}, "empty": {}}
OUTSIDE: dict[str, dict[str, Any]] = {
    "jail-evil": {"secret": SECRET, "f": SECRET, "room": {}},
    "jailbreak": {"secret": SECRET},
    "other": {"secret": SECRET},
}


class Fingerprint(NamedTuple):
    """One object: what it is, what it holds, and its times in ns. Looking at directories and links moves their
    access times on a disk, so theirs are left out."""

    filetype: FileType
    content: bytes | str
    atim_ns: int | None
    mtim_ns: int | None
    nlink: int


def fingerprints(backend: Backend, key: Key = ()) -> dict[str, Fingerprint]:
    """Every object of a store below (and with) `key`, by path. Attributes are taken before anything is read."""
    stat = backend.stat(key)
    content: bytes | str = b""
    found: dict[str, Fingerprint] = {}
    if stat.filetype is FileType.REGULAR_FILE:
        handle = backend.open(key, False)
        buffer = bytearray(stat.size)
        content = bytes(buffer[: handle.read_into(0, buffer)])
        handle.close()
    elif stat.filetype is FileType.SYMBOLIC_LINK:
        content = backend.readlink(key)
    atim_ns = stat.atim_ns if stat.filetype is FileType.REGULAR_FILE else None
    found["/".join(key)] = Fingerprint(stat.filetype, content, atim_ns, stat.mtim_ns, stat.nlink)
    if stat.filetype is FileType.DIRECTORY:
        for entry in backend.list(key):
            found |= fingerprints(backend, (*key, entry.name))
    return found


def fill(directory: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree literal to disk. The access times lie far ahead, so that looking does not move them."""
    directory.mkdir(exist_ok=True)
    for name, value in tree.items():
        if isinstance(value, Mapping):
            fill(directory / name, value)
        elif isinstance(value, vfswasi.Symlink):
            (directory / name).symlink_to(value.target)
        else:
            (directory / name).write_bytes(value)
        os.utime(directory / name, (4_000_000_000, 1_000_000_000), follow_symlinks=False)
    os.utime(directory, (4_000_000_000, 1_000_000_000))


class Jail:
    """A writable mount as descriptor 3 of `guest`; for a memory jail its neighbours are stores of their own.

    `neighbours`: what must not change, each by name.
    """

    def __init__(self, kind: str, place: Path) -> None:
        self.kind = kind
        self.place = place
        self.backend: Backend
        fill(place, OUTSIDE)
        self.neighbours: dict[str, Backend] = {}
        if kind == "memory":
            self.backend = vfswasi.MemoryBackend(INSIDE)
            self.neighbours = {name: vfswasi.MemoryBackend(tree) for name, tree in OUTSIDE.items()}
        else:
            fill(place / "jail", INSIDE)
            self.backend = vfswasi.LocalBackend(place / "jail")
        self.guest = RawGuest({"/jail": vfswasi.Mount(self.backend, rw=True), **self.neighbours})

    def plant(self, name: str, target: str) -> None:
        """Make a symbolic link behind the guest's back, to anywhere."""
        if self.kind == "memory":
            self.backend.symlink(target, tuple(name.split("/")))
        else:
            (self.place / "jail" / name).symlink_to(target)

    def inside(self) -> dict[str, Fingerprint]:
        return fingerprints(self.backend)

    def outside(self) -> dict[str, Any]:
        """Everything that is not the jail: on disk, and in the neighbours' stores."""
        seen: dict[str, Any] = {name: fingerprints(store) for name, store in self.neighbours.items()}
        for path in sorted(self.place.rglob("*")):
            if path.relative_to(self.place).parts[0] != "jail":
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                seen[str(path)] = (status.st_mode, status.st_nlink, status.st_mtime_ns, content)
        return seen

    def close(self) -> None:
        self.guest.close()
        self.backend.close()


class PathCall(NamedTuple):
    """A call with one path under test. `follows`: a link as the last component is followed."""

    name: str
    call: Any  # (guest, fd, path) -> Errno
    follows: bool


def _set_times(follow: int) -> Any:
    return lambda guest, fd, path: guest.call(
        "path_filestat_set_times", fd, follow, *guest.text(path), 10**18, 10**18, 5
    )


def _stat(follow: int) -> Any:
    return lambda guest, fd, path: guest.call("path_filestat_get", fd, follow, *guest.text(path), 0x30000)


def _open(**options: Any) -> Any:
    return lambda guest, fd, path: guest.try_open(path, fd=fd, **options)[0]


def _readlink(guest: RawGuest, fd: int, path: str | bytes) -> Errno:
    return guest.call("path_readlink", fd, *guest.text(path), 0x30000, 64, 0x30100)


WRITE = 1 << 6
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8

# Every way in which a path gets into a call; the other path of two is the plain "f" or "new" of the jail.
PATH_CALLS = [
    PathCall("open", _open(), True),
    PathCall("open nofollow", _open(follow=False), False),
    PathCall("open directory", _open(oflags=DIRECTORY, base=0), True),
    PathCall("open for writing", _open(base=WRITE), True),
    PathCall("open creat", _open(base=WRITE, oflags=CREAT), True),
    PathCall("open creat nofollow", _open(base=WRITE, oflags=CREAT, follow=False), False),
    PathCall("open creat excl", _open(base=WRITE, oflags=CREAT | EXCL), False),
    PathCall("open creat trunc", _open(base=WRITE, oflags=CREAT | TRUNC), True),
    PathCall("open trunc", _open(oflags=TRUNC), True),
    PathCall("stat", _stat(1), True),
    PathCall("lstat", _stat(0), False),
    PathCall("set_times", _set_times(1), True),
    PathCall("set_times nofollow", _set_times(0), False),
    PathCall("mkdir", lambda guest, fd, path: guest.mkdir(path, fd=fd), False),
    PathCall("rmdir", lambda guest, fd, path: guest.rmdir(path, fd=fd), False),
    PathCall("unlink", lambda guest, fd, path: guest.unlink(path, fd=fd), False),
    PathCall("readlink", _readlink, False),
    PathCall("symlink", lambda guest, fd, path: guest.symlink("f", path, fd=fd), False),
    PathCall("link from", lambda guest, fd, path: guest.link(path, "new", fd=fd), False),
    PathCall("link to", lambda guest, fd, path: guest.link("f", path, new_fd=fd), False),
    PathCall("rename from", lambda guest, fd, path: guest.rename(path, "new", fd=fd), False),
    PathCall("rename to", lambda guest, fd, path: guest.rename("f", path, new_fd=fd), False),
]
