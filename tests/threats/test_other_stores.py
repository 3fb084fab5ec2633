"""P2, P6, P8, R1 and S4 on stores that are neither memory nor a local directory; and what no store may tell."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.writable import WritableZipBackend
from vfswasi.kernel import rights

from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest
from .jail import CREAT, PATH_CALLS, SECRET, TRUNC, WRITE, fill, fingerprints
from .test_names import ODD_NAMES
from .test_read_only import ATTEMPTS, Attempt

TREE: dict[str, Any] = {"f": b"content", "sub": {"g": b"below"}}


@pytest.fixture
def memory_files() -> Iterator[Any]:
    """A file system of fsspec, empty before and after."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    for held in (files.store, files.pseudo_dirs):
        held.clear()
    yield files
    files.store.clear()


# P2: a root inside something larger is no beginning of a name.


def _neighbours() -> dict[str, bytes]:
    return {"jail/f": b"content", "jailbreak/f": SECRET, "jail-evil/f": SECRET, "secret": SECRET, "jail.txt": SECRET}


def _mount_inside(kind: str, place: Path, files: Any) -> vfswasi.Mount:
    if kind == "fsspec":
        for name, data in _neighbours().items():
            files.pipe_file(f"/top/{name}", data)
        return vfswasi.Mount(files, root="/top/jail", rw=True)
    if kind == "zip":
        with zipfile.ZipFile(place / "a", "w") as made:
            for name, data in _neighbours().items():
                made.writestr(name, data)
        return vfswasi.Mount(f"zip://jail::{place / 'a'}")
    with tarfile.open(place / "a", "w") as archive:
        for name, data in _neighbours().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return vfswasi.Mount(f"tar://jail::{place / 'a'}")


@pytest.mark.parametrize("kind", ["zip", "tar", "fsspec"])
def test_p2_a_root_inside_a_store_is_a_directory_not_a_prefix(kind: str, tmp_path: Path, memory_files: Any) -> None:
    with RawGuest({"/jail": _mount_inside(kind, tmp_path, memory_files)}) as guest:
        assert guest.names() == [b"f"]
        assert guest.contents("f") == b"content"
        for path in ("break/f", "-evil/f", "secret", ".txt", "jail/f", "jailbreak/f"):
            assert guest.try_open(path)[0] is Errno.NOENT
        for path in ("../jailbreak/f", "../jail-evil/f", "../secret", "/secret", "../jail/f", "../jail.txt"):
            for call in PATH_CALLS:
                assert call.call(guest, 3, path) in (Errno.NOTCAPABLE, Errno.ROFS)
            assert guest.try_open(path)[0] is Errno.NOTCAPABLE
    if kind == "fsspec":
        for name, data in _neighbours().items():
            assert name == "jail/f" or memory_files.cat_file(f"/top/{name}") == data


# P6: each name is made, listed, read and unlinked, and is one file.


@pytest.mark.parametrize("kind", ["zip with rw", "fsspec"])
def test_p6_an_odd_name_is_one_file_in_other_stores_too(kind: str, tmp_path: Path, memory_files: Any) -> None:
    path = tmp_path / "a.zip"
    store: Any = WritableZipBackend(path) if kind == "zip with rw" else None
    memory_files.pipe_file("/top/kept", b"old")
    mount = vfswasi.Mount(store, rw=True) if store is not None else vfswasi.Mount(memory_files, root="/top", rw=True)
    with RawGuest({"/d": mount}) as guest:
        guest.close_fd(guest.create("kept", b"kept"))
        for name in ODD_NAMES:
            guest.close_fd(guest.create(name, name.encode()))
            assert guest.contents(name) == name.encode()
        assert guest.names() == sorted({b"kept", *(name.encode() for name in ODD_NAMES)})
        if store is not None:
            store.finish(True)
            with zipfile.ZipFile(path) as made:
                assert {name: made.read(name) for name in made.namelist()} == {
                    "kept": b"kept", **{name: name.encode() for name in ODD_NAMES}}  # fmt: skip
        else:
            assert {key.removeprefix("/top/") for key in memory_files.store} == {"kept", *ODD_NAMES}
        left = [name.encode() for name in ODD_NAMES]
        for name in ODD_NAMES:
            assert guest.unlink(name) is Errno.SUCCESS
            left.remove(name.encode())
            assert guest.names() == sorted([b"kept", *left])
        assert guest.contents("kept") == b"kept"
    if store is not None:
        store.close()


# P8: overlaps of other stores.


def _zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("sub/f", b"x")
    return path


OVERLAPS: dict[str, Callable[[Path, Any], tuple[Any, Any]]] = {
    "an fsspec root": lambda place, files: (
        vfswasi.Mount(files, root="/top", rw=False), vfswasi.Mount(files, root="/top", rw=True)),
    "below an fsspec root": lambda place, files: (
        vfswasi.Mount(files, root="/top", rw=False), vfswasi.Mount(files, root="/top/jail", rw=True)),
    "an archive": lambda place, files: (
        vfswasi.Mount(_zip(place / "a.zip"), rw=False), vfswasi.Mount(place / "a.zip", rw=True)),
}  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", OVERLAPS)
def test_p8_other_overlaps_with_other_permissions_are_refused(
    name: str, turned: bool, tmp_path: Path, memory_files: Any
) -> None:
    memory_files.pipe_file("/top/jail/f", b"content")
    pair = OVERLAPS[name](tmp_path, memory_files)
    with pytest.raises(vfswasi.MountError, match="overlap"):
        RawGuest(dict(zip(("/a", "/b"), pair[:: -1 if turned else 1], strict=True))).close()


def test_p8_an_archive_and_its_directory_are_two_stores(tmp_path: Path) -> None:
    """Who mounts both lets the guest change the archive's bytes, and no more than that comes of it."""
    preopens = {"/a": vfswasi.Mount(_zip(tmp_path / "a.zip"), rw=False), "/b": vfswasi.Mount(tmp_path, rw=True)}
    with RawGuest(preopens) as guest:
        assert guest.contents("sub/f", fd=3) == b"x"
        fd = guest.open("a.zip", fd=4, base=ALL_FILE_RIGHTS)
        guest.must("fd_filestat_set_size", fd, 0)
        opened = guest.try_open("sub/f", fd=3)[0]
        assert opened in (Errno.IO, Errno.SUCCESS)
        assert guest.unlink("sub/f", fd=3) is Errno.ROFS


def test_p8_roots_that_begin_alike_do_not_overlap(memory_files: Any) -> None:
    for name in ("jail", "jailbreak"):
        memory_files.pipe_file(f"/top/{name}/f", b"content")
    mounts = {
        "/a": vfswasi.Mount(memory_files, root="/top/jail", rw=False),
        "/b": vfswasi.Mount(memory_files, root="/top/jailbreak", rw=True),
    }
    with RawGuest(mounts) as guest:
        assert guest.mkdir("new", fd=3) is Errno.ROFS
        assert guest.mkdir("new", fd=4) is Errno.SUCCESS


# R1: read-only, whatever it is.


def _tar(place: Path) -> Path:
    with tarfile.open(place / "a.tar", "w") as made:
        for name, data in {"f": b"content", "sub/g": b"below"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, BytesIO(data))
        for name, kind, target in (("empty", tarfile.DIRTYPE, ""), ("link", tarfile.SYMTYPE, "f")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            made.addfile(info)
    return place / "a.tar"


@pytest.mark.parametrize("kind", ["tar", "fsspec", "zip that could be written", "a store of the host's"])
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda one: f"{one.function} {one.what}".strip())
def test_r1_read_only_holds_for_other_stores(kind: str, attempt: Attempt, tmp_path: Path, memory_files: Any) -> None:
    look: Callable[[], object]
    if kind == "fsspec":
        for name, data in {"f": b"content", "sub/g": b"below", "link": b"f"}.items():
            memory_files.pipe_file(f"/{name}", data)
        memory_files.makedirs("/empty")
        source: Any = vfswasi.Mount(memory_files, root="/", rw=False)
        look = lambda: {key: file.getvalue() for key, file in memory_files.store.items()}  # noqa: E731
    elif kind == "a store of the host's":
        backend = vfswasi.MemoryBackend({**TREE, "empty": {}, "link": vfswasi.Symlink("f")})
        source = vfswasi.Mount(backend, rw=False)
        look = lambda: fingerprints(backend)  # noqa: E731
    else:
        path = _tar(tmp_path)
        if kind.startswith("zip"):
            path = tmp_path / "a.zip"
            (tmp_path / "a.tar").unlink()
            with zipfile.ZipFile(path, "w") as made:
                for name in ("f", "sub/g", "empty/", "link"):
                    made.writestr(name, b"f" * 7)
        source = vfswasi.Mount(path, rw=False)
        look = lambda: (path.read_bytes(), path.stat().st_mtime_ns, sorted(tmp_path.iterdir()))  # noqa: E731
    before = look()
    with RawGuest({"/d": source, "/free": vfswasi.Mount({"f": b"free"}, rw=True)}) as guest:
        file = guest.open("f", base=guest.fdstat(3).inheriting & rights.FILE)
        assert attempt.make(guest, file) is attempt.readonly
        assert look() == before
    assert look() == before


# S4: a guest sees errnos, and nothing of where things are.


@pytest.mark.parametrize("kind", ["local", "zip", "tar"])
def test_s4_no_call_puts_a_path_of_the_host_into_guest_memory(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "very-telling-name"
    place.mkdir()
    if kind == "local":
        fill(place, {**TREE, "out": vfswasi.Symlink("../x"), "loop": vfswasi.Symlink("loop")})
    source = {"local": place, "zip": _zip(place / "a.zip") if kind == "zip" else None,
              "tar": _tar(place) if kind == "tar" else None}[kind]  # fmt: skip
    with RawGuest({"/d": vfswasi.Mount(source, rw=kind == "local")}, args=["a"], env={"B": "c"}) as guest:
        for path in ("f", "sub/g", "missing", "missing/x", "f/x", "out", "loop", "../x", "/etc", "n" * 300, "sub", "."):
            for call in PATH_CALLS:
                call.call(guest, 3, path)
            guest.try_open(path, base=ALL_FILE_RIGHTS | WRITE, oflags=CREAT | TRUNC)
        for name in ("args_get", "environ_get"):
            guest.call(name, FREE, FREE + 0x100)
        guest.call("fd_prestat_dir_name", 3, FREE + 0x200, 2)
        guest.readdir_raw(3, 4096)
        memory = guest.peek(0, 4 * 65536)
    for telling in (b"very-telling-name", os.fsencode(tmp_path), os.fsencode(Path.home()) + b"/", b"Traceback"):
        assert telling not in memory


def test_s4_a_preopen_is_known_by_the_name_that_it_was_given(tmp_path: Path) -> None:
    with RawGuest({"/data": tmp_path}) as guest:
        assert guest.u32() == 0
        guest.must("fd_prestat_get", 3, FREE)
        guest.must("fd_prestat_dir_name", 3, FREE + 64, 5)
        assert (guest.u32(FREE + 4), guest.peek(FREE + 64, 6)) == (5, b"/data\0")
