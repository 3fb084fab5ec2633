"""Holes that were found in other hosts of WASI in 2026, each as a test of ours. None of their code is used here.

- GHSA-2r75-cxrj-cmph (May): files of a read-only directory could be truncated and written to.
- GHSA-4ch3-9j33-3pmj (June): the same, by a hard link or a rename into a writable directory that was given too.
- GHSA-vqjp-4c8c-hfgg (August): a slash behind a symbolic link, in a path or in a link's target, led out.
- wasmtime's issues 14359 and 14380 (September): `file/` was looked at as the file, `link/` as the link.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend, FileType

from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest
from .jail import PATH_CALLS, fill, fingerprints

SLASHES = ("/", "//", "/.", "/./", "//.//", "/.//.")

# Links of the jail: where they lead, seen from the directory that they are in.
LINKS = {
    "to a file": "f",
    "to a directory": "sub",
    "to nothing": "new-here",
    "to itself": "link",
    "to a file with a slash": "f/",
    "to a directory with a slash": "sub/",
    "to nothing with a slash": "new-here/",
    "to a file with dots": "f/.",
    "to a directory with dots": "sub/./",
    "out to a file": "../outside/secret",
    "out to a directory": "../outside/room",
    "out to nothing": "../outside/new",
    "out to a file with a slash": "../outside/secret/",
    "out to a directory with a slash": "../outside/room/",
    "out to a directory with dots": "../outside/room/.",
    "out to nothing with a slash": "../outside/new/",
    "out, absolute": "{outside}/room",
    "out, absolute, with a slash": "{outside}/room/",
    "out, absolute, to a file": "{outside}/secret",
    "out by way of a directory": "sub/../../outside/room/",
    "to the jail's parent": "..",
    "to the jail's parent with a slash": "../",
}
INSIDE: dict[str, Any] = {"f": b"content", "sub": {"g": b"below"}, "empty": {}}
OUTSIDE: dict[str, Any] = {"secret": b"the secret", "room": {"g": b"the secret"}}


class Place:
    """A writable store with a link in it, and a directory of the host's that links lead to."""

    def __init__(self, kind: str, place: Path, target: str) -> None:
        self.outside = place / "outside"
        fill(self.outside, OUTSIDE)
        tree = {**INSIDE, "link": vfswasi.Symlink(target.format(outside=self.outside))}
        self.source: Any
        self.look: Callable[[], object]
        if kind == "memory":
            backend: Backend = vfswasi.MemoryBackend(tree)
            self.source, self.look = backend, lambda: fingerprints(backend)
        elif kind == "zip":
            _pack(place / "jail.zip", tree)
            self.source = place / "jail.zip"
            self.look = lambda: (place / "jail.zip").read_bytes()
        else:
            fill(place / "jail", tree)
            backend = vfswasi.LocalBackend(place / "jail", use_openat2=None if kind == "local" else False)
            self.source, self.look = backend, lambda: fingerprints(backend)

    def look_outside(self) -> object:
        """Everything there, with times; and that nothing appeared beside it."""
        around = sorted(path.name for path in self.outside.parent.iterdir() if path.suffix != ".zip")
        return around, [
            (str(path), path.lstat().st_mode, path.lstat().st_nlink, path.lstat().st_mtime_ns, path.lstat().st_size)
            for path in sorted(self.outside.rglob("*"))
        ]

    def mounted(self, rw: bool = True) -> RawGuest:
        return RawGuest({"/jail": vfswasi.Mount(self.source, rw=rw)})


def _pack(archive: Path, tree: dict[str, Any], prefix: str = "") -> None:
    with zipfile.ZipFile(archive, "a") as made:
        for name, value in tree.items():
            if isinstance(value, dict):
                made.writestr(f"{prefix}{name}/", b"")
            elif isinstance(value, vfswasi.Symlink):
                link = zipfile.ZipInfo(prefix + name)
                link.create_system = 3
                link.external_attr = 0o120777 << 16
                made.writestr(link, value.target)
            else:
                made.writestr(prefix + name, value)
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            _pack(archive, value, f"{prefix}{name}/")


KINDS = ["memory", "local", "local by component", "zip"]
each_kind = pytest.mark.parametrize("kind", KINDS)


# Calls that change nothing that the next call could meet.
LOOKING = {"open", "open nofollow", "open directory", "open for writing", "stat", "lstat", "readlink"}


@each_kind
@pytest.mark.parametrize("link", LINKS)
def test_ghsa_vqjp_a_slash_behind_a_link_leads_nowhere_else(kind: str, link: str, tmp_path: Path) -> None:
    """Whatever comes behind a link that leads out, nothing out there is looked at, opened, made or changed; and behind
    one that stays inside, every store answers as memory does."""
    target = LINKS[link]
    leads_out = link.startswith(("out", "to the jail's parent"))
    (tmp_path / "reference").mkdir()
    calls = [(call, slash) for call in PATH_CALLS for slash in SLASHES]
    before: object = None
    while calls:
        place = Place(kind, tmp_path, target)
        before = before or place.look_outside()
        with place.mounted() as guest, Place("memory", tmp_path / "reference", target).mounted() as memory:
            while calls:
                call, slash = calls.pop()
                errno = call.call(guest, 3, "link" + slash)
                expected = call.call(memory, 3, "link" + slash)
                if kind == "zip" and call.name.startswith("link") and expected is Errno.SUCCESS:
                    expected = Errno.NOTSUP
                assert errno is expected, (call.name, slash)
                changed = errno is Errno.SUCCESS and call.name not in LOOKING
                if leads_out:
                    assert errno is not Errno.SUCCESS, (call.name, slash)
                    for name in ("secret", "g", "new"):
                        behind = call.call(guest, 3, f"link{slash}/{name}")
                        assert behind in (Errno.NOTCAPABLE, Errno.NOTDIR), (call.name, slash, name)
                elif call.name == "open directory" and errno is Errno.SUCCESS:
                    directory = guest.opendir(f"link{slash}")
                    assert guest.try_open("../../outside/secret", fd=directory)[0] is Errno.NOTCAPABLE
                if changed:
                    break
        assert place.look_outside() == before
        shutil.rmtree(tmp_path / "jail", ignore_errors=True)
        (tmp_path / "jail.zip").unlink(missing_ok=True)


@each_kind
def test_issue_14359_a_file_with_a_slash_is_no_file(kind: str, tmp_path: Path) -> None:
    with Place(kind, tmp_path, "f").mounted() as guest:
        for slash in SLASHES:
            for name in ("f", "sub/g", "link"):
                for follow in (0, 1):
                    path = guest.text(name + slash)
                    assert guest.call("path_filestat_get", 3, follow, *path, FREE) is Errno.NOTDIR
                    assert guest.call("path_filestat_set_times", 3, follow, *path, 0, 0, 5) is Errno.NOTDIR
                    for oflags in (0, c.OFLAG_CREAT, c.OFLAG_TRUNC, c.OFLAG_DIRECTORY):
                        opened = guest.try_open(name + slash, follow=bool(follow), oflags=oflags)
                        assert opened[0] is Errno.NOTDIR
            assert guest.contents("f") == b"content"


@each_kind
@pytest.mark.parametrize("target", ["sub", "sub/", "./sub/."])
def test_issue_14380_a_link_with_a_slash_is_the_directory_it_leads_to(kind: str, target: str, tmp_path: Path) -> None:
    with Place(kind, tmp_path, target).mounted() as guest:
        assert guest.stat("link", follow=False).filetype == FileType.SYMBOLIC_LINK
        for slash in SLASHES:
            for follow in (False, True):
                assert guest.stat("link" + slash, follow=follow).filetype == FileType.DIRECTORY
            assert guest.contents(f"link{slash}/g") == b"below"
            assert guest.call("path_readlink", 3, *guest.text("link" + slash), FREE, 9, FREE) is Errno.INVAL
            assert guest.unlink("link" + slash) in (Errno.NOTDIR, Errno.ISDIR)
            assert guest.rmdir("link" + slash) in (Errno.NOTDIR, Errno.INVAL)
        assert guest.contents("link/g") == b"below"


@each_kind
@pytest.mark.parametrize("descriptor", ["preopen", "directory", "directory, no rights asked for"])
def test_ghsa_2r75_nothing_of_a_read_only_mount_is_truncated_or_written(
    kind: str, descriptor: str, tmp_path: Path
) -> None:
    place = Place(kind, tmp_path, "f")
    before = place.look()
    with place.mounted(rw=False) as guest:
        top = guest.fdstat(3)
        fd = 3
        if descriptor != "preopen":
            asked = (top.base, top.inheriting) if descriptor == "directory" else (0, 0)
            fd = guest.open(".", oflags=c.OFLAG_DIRECTORY, base=asked[0], inheriting=asked[1])
        everything = (1 << 30) - 1
        bases = [0, c.RIGHT_FD_READ, c.RIGHT_FD_WRITE, ALL_FILE_RIGHTS, everything, *(1 << bit for bit in range(30))]
        for base in bases:
            for oflags in range(16):
                for fdflags in (0, c.FDFLAG_APPEND):
                    errno, file = guest.try_open("f", fd=fd, oflags=oflags, base=base, fdflags=fdflags)
                    if errno is not Errno.SUCCESS:
                        continue
                    assert not oflags & c.OFLAG_TRUNC
                    guest.poke(FREE, b"evil")
                    for name, args in {
                        "fd_write": (*guest.iovs((FREE, 4)), FREE + 8),
                        "fd_pwrite": (*guest.iovs((FREE, 4)), 0, FREE + 8),
                        "fd_filestat_set_size": (0,),
                        "fd_allocate": (0, 100),
                        "fd_filestat_set_times": (0, 0, c.FSTFLAG_MTIM),
                    }.items():
                        assert guest.call(name, file, *args) in (Errno.ROFS, Errno.NOTCAPABLE), name
                    guest.close_fd(file)
        for call in PATH_CALLS:
            if "open" not in call.name and "stat" not in call.name and call.name != "readlink":
                assert call.call(guest, fd, "f") in (Errno.ROFS, Errno.NOTCAPABLE), call.name
    assert place.look() == before


@pytest.fixture(
    params=["memory, overlap", "local, overlap", "local, neighbours", "local, below", "by component, below"]
)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RawGuest, Callable[[], object]]]:
    """A guest with a read-only mount as descriptor 3 and a writable one as 4, and a look at the read-only files."""
    kind: str = request.param
    ro, rw = tmp_path / "tree" / "ro", tmp_path / "tree" / "rw"
    (tmp_path / "tree").mkdir()
    for directory in (ro, rw):
        fill(directory, {"f": b"content", "sub": {"g": b"below"}, "empty": {}})

    def local(path: Path) -> vfswasi.LocalBackend:
        return vfswasi.LocalBackend(path, use_openat2=False if kind.startswith("by component") else None)

    if kind.startswith("memory"):
        store: Backend = vfswasi.MemoryBackend({"f": b"content", "sub": {"g": b"below"}, "empty": {}})
        first, second = store, store
    elif kind.endswith("overlap"):
        store = local(ro)
        first, second = store, local(ro)
    elif kind.endswith("neighbours"):
        first, second = local(ro), local(rw)
    else:  # the read-only one lies in the writable one
        first, second = local(ro), local(tmp_path / "tree")
    overlap = not kind.endswith("neighbours")
    with RawGuest(
        {
            "/ro": vfswasi.Mount(first, rw=False),
            "/rw": vfswasi.Mount(second, rw=True, overlap=overlap),
        }
    ) as guest:
        yield guest, lambda: fingerprints(first)


def test_ghsa_4ch3_nothing_leaves_a_read_only_mount_by_link_or_rename(
    pair: tuple[RawGuest, Callable[[], object]],
) -> None:
    guest, look = pair
    before = look()
    sub_ro, sub_rw = guest.opendir("empty", fd=3), guest.opendir(".", fd=4)
    for source, target in ((3, 4), (3, sub_rw), (sub_ro, 4), (3, 3), (4, 3), (sub_rw, 3), (sub_rw, sub_ro)):
        for name in ("f", "sub/g", "sub", "./f", "sub/../f", "empty"):
            for new in ("new", "f", "sub/new", "new/", "./new"):
                for made in (
                    guest.link(name, new, fd=source, new_fd=target),
                    guest.rename(name, new, fd=source, new_fd=target),
                ):
                    assert made in (Errno.ROFS, Errno.NOTCAPABLE, Errno.XDEV, Errno.NOENT), (source, target, name, new)
    assert look() == before


def test_ghsa_4ch3_a_read_only_directory_stays_one_under_another_number(
    pair: tuple[RawGuest, Callable[[], object]],
) -> None:
    """Moved onto the number of the writable one, which is what the name of the preopen is looked up by."""
    guest, look = pair
    before = look()
    spare = guest.opendir(".", fd=3)
    guest.must("fd_renumber", spare, 4)
    assert guest.link("f", "new", fd=4, new_fd=4) is Errno.ROFS
    assert guest.rename("f", "new", fd=4, new_fd=4) is Errno.ROFS
    assert guest.rename("f", "new", fd=3, new_fd=4) is Errno.ROFS
    assert guest.try_open("f", fd=4, base=c.RIGHT_FD_WRITE)[0] is Errno.ROFS
    assert guest.symlink("f", "new", fd=4) is Errno.ROFS
    assert look() == before


def test_ghsa_4ch3_a_link_in_the_writable_mount_does_not_reach_the_read_only_one(tmp_path: Path) -> None:
    ro, rw = tmp_path / "ro", tmp_path / "rw"
    for directory in (ro, rw):
        fill(directory, {"f": b"content"})
    with RawGuest({"/ro": vfswasi.Mount(ro), "/rw": vfswasi.Mount(rw, rw=True)}) as guest:
        for target in ("../ro/f", "../ro/f/", "../ro", "../ro/"):
            assert guest.symlink(target, "link", fd=4) is Errno.SUCCESS
            for path in ("link", "link/", "link/f"):
                for oflags in (0, c.OFLAG_TRUNC, c.OFLAG_CREAT):
                    errno = guest.try_open(path, fd=4, base=c.RIGHT_FD_WRITE, oflags=oflags)[0]
                    assert errno is Errno.NOTCAPABLE
                assert guest.link(path, "new", fd=4, new_fd=4) is not Errno.SUCCESS or path == "link"
                guest.unlink("new", fd=4)
                assert guest.try_open("new", fd=4, base=c.RIGHT_FD_WRITE)[0] is not Errno.SUCCESS
            assert guest.unlink("link", fd=4) is Errno.SUCCESS
    assert (ro / "f").read_bytes() == b"content"
    assert (ro / "f").stat().st_nlink == 1
