"""X1, X2, X6: what stands around a store is no way around the sandbox; a store that is not known is not mounted."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.cached import CachingFileSystem, SimpleCacheFileSystem, WholeFileCacheFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.implementations.reference import ReferenceFileSystem

import vfswasi
from vfswasi import Mount, MountError
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.fsspec.backend import FsspecBackend, FsspecClient
from vfswasi.fs_backends.trust import PAGES, UNKNOWN
from vfswasi.fs_backends.trust import fsspec as trusted_fsspec
from vfswasi.mounts.finding import sources
from vfswasi.testing.ground import contents, errno_of

from ..rawguest import RawGuest

CACHES = (CachingFileSystem, WholeFileCacheFileSystem, SimpleCacheFileSystem)
Source = Callable[[Path], Any]


def _jail(place: Path) -> Path:
    """A directory with links out of it beside a secret one."""
    jail, outside = place / "jail", place / "outside"
    for directory in (jail / "sub", outside):
        directory.mkdir(parents=True)
    (outside / "secret").write_bytes(b"secret")
    (jail / "f").write_bytes(b"content")
    (jail / "sub" / "g").write_bytes(b"below")
    (jail / "out").symlink_to("../outside")
    (jail / "file").symlink_to("../outside/secret")
    (jail / "new").symlink_to("../outside/made")
    return jail


def _local() -> LocalFileSystem:
    return LocalFileSystem(skip_instance_cache=True)


# How a directory of this machine can be spelled. Each is that directory, as if its path had been given.
SPELLINGS: dict[str, Source] = {
    "path": str,
    "PathLike": lambda jail: jail,
    "file URL": lambda jail: f"file://{jail}",
    "local URL": lambda jail: f"local://{jail}",
    "simplecache": lambda jail: f"simplecache::file://{jail}",
    "filecache": lambda jail: f"filecache::file://{jail}",
    "blockcache": lambda jail: f"blockcache::file://{jail}",
    "cached": lambda jail: f"cached::local://{jail}",
    "with slashes": lambda jail: f"simplecache://::file://{jail}",
    "twice": lambda jail: f"simplecache::filecache::file://{jail}",
    "dir URL": lambda jail: f"dir://jail::file://{jail.parent}",
    "dir without a path": lambda jail: f"dir::file://{jail}",
    "cache of dir without a path": lambda jail: f"simplecache::dir://::file://{jail}",
    "dir of a cache": lambda jail: f"dir://jail::simplecache::file://{jail.parent}",
    "cache of a dir": lambda jail: f"simplecache::dir://jail::file://{jail.parent}",
    "target in the options": lambda jail: Mount(f"simplecache://{jail}", storage_options={"target_protocol": "file"}),
    "object": lambda jail: Mount(_local(), root=str(jail)),
    "object with a URL": lambda jail: Mount(_local(), root=f"local://{jail}"),
    "dir object": lambda jail: DirFileSystem(str(jail), _local()),
    "dir object and root": lambda jail: Mount(DirFileSystem(str(jail.parent), _local()), root="jail"),
    "dir in dir": lambda jail: DirFileSystem("jail", DirFileSystem(str(jail.parent), _local())),
    "asynchronous": lambda jail: Mount(AsyncFileSystemWrapper(_local(), asynchronous=False), root=str(jail)),
    "dir of asynchronous": lambda jail: DirFileSystem(str(jail), AsyncFileSystemWrapper(_local(), asynchronous=False)),
    **{
        f"{cls.__name__} object": lambda jail, cls=cls: Mount(cls(fs=_local()), root=str(jail))  # type: ignore[misc]
        for cls in CACHES
    },
    "cache of a dir object": lambda jail: SimpleCacheFileSystem(fs=DirFileSystem(str(jail), _local())),
}


def _mount(source: Any, **options: Any) -> Mount:
    return replace(source if isinstance(source, Mount) else Mount(source), **options)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_x1_a_directory_of_this_machine_is_that_directory_whatever_stands_around_it(
    spelling: str, tmp_path: Path
) -> None:
    jail = _jail(tmp_path)
    with RawGuest({"/d": _mount(SPELLINGS[spelling](jail), rw=True)}) as guest:
        assert guest.contents("f") == b"content"
        assert guest.stat("out", follow=False).filetype == FileType.SYMBOLIC_LINK
        for path in ("out/secret", "file", "sub/../out/secret", "out/made", "new"):
            assert guest.try_open(path)[0] is Errno.NOTCAPABLE, path
        assert guest.mkdir("out/made") is Errno.NOTCAPABLE
        assert guest.unlink("out/secret") is Errno.NOTCAPABLE
        guest.close_fd(guest.create("made", b"new"))
    assert (jail / "made").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_x1_a_link_made_in_one_mount_leads_nowhere_in_another(spelling: str, tmp_path: Path) -> None:
    """Cold and warm, and while a file behind the name is open."""
    jail = _jail(tmp_path)
    other = _mount(SPELLINGS[spelling](jail), rw=True)
    with RawGuest({"/rw": Mount(jail, rw=True), "/other": other}) as guest:
        fd = guest.open("sub/g", fd=4)
        assert guest.rename("sub", "was", fd=3) is Errno.SUCCESS
        assert guest.symlink("../outside", "sub", fd=3) is Errno.SUCCESS
        (tmp_path / "outside" / "g").write_bytes(b"secret")
        for fd_of in (3, 4):
            assert guest.try_open("sub/g", fd=fd_of)[0] is Errno.NOTCAPABLE
            assert guest.try_open("sub/secret", fd=fd_of)[0] is Errno.NOTCAPABLE
        assert guest.read(fd, 100) == b"below"


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("what", ["the same", "one inside", "one around"])
def test_x1_overlaps_are_seen_through_everything(spelling: str, what: str, tmp_path: Path) -> None:
    jail = _jail(tmp_path)
    plain = {"the same": jail, "one inside": jail / "sub", "one around": tmp_path}[what]
    for rw in (True, False):
        with pytest.raises(MountError, match="overlap"):
            RawGuest({"/a": _mount(SPELLINGS[spelling](jail), rw=rw), "/b": Mount(plain, rw=not rw)})


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_x1_the_compiled_modules_are_out_of_reach_through_everything(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jail = _jail(tmp_path)
    for cache in (jail, jail / "sub", jail / "sub" / "not" / "there"):
        monkeypatch.setenv("VFSWASI_CACHE_DIR", str(cache))
        with pytest.raises(MountError, match="what vfswasi runs or trusts"):
            RawGuest({"/d": _mount(SPELLINGS[spelling](jail), rw=True)})
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(tmp_path))
    with pytest.raises(MountError, match="what vfswasi runs or trusts"):
        RawGuest({"/d": _mount(SPELLINGS[spelling](jail), rw=True)})


# A directory that another mount of the system shows elsewhere

_BOUND = """
import os, subprocess, sys
def bind(*args):
    subprocess.run(["mount", *args], check=True, stderr=subprocess.DEVNULL)
try:
    bind("--make-rprivate", "/")
    os.makedirs("real/sub"), os.makedirs("bound"), os.makedirs("part"), os.makedirs("around/inner")
    bind("--bind", "real", "bound"); bind("--bind", "real/sub", "part"); bind("--bind", "real", "around/inner")
except Exception:
    sys.exit(77)
import vfswasi
from vfswasi.mounts.table import MountTable
pairs = [("real", "bound"), ("real", "part"), ("bound", "part"), ("bound/sub", "part"), ("real", "around"),
         ("part", "around"), ("bound", "around/inner"), ("real/sub", "around/inner")]
for one, other in pairs:
    for first, second in ((one, other), (other, one)):
        try:
            MountTable({"/a": vfswasi.Mount(first, rw=True), "/b": second})
        except vfswasi.MountError as error:
            assert "overlap" in str(error), error
        else:
            sys.exit(f"{first} and {second} are not seen to overlap")
os.makedirs("apart")
MountTable({"/a": vfswasi.Mount("apart", rw=True), "/b": "around"}).close()
for cache, mounted in [(one, other) for pair in pairs for one, other in (pair, pair[::-1])]:
    try:
        MountTable({"/a": vfswasi.Mount(mounted, rw=True)}, [cache])
    except vfswasi.MountError as error:
        assert "what vfswasi runs or trusts" in str(error), error
    else:
        sys.exit(f"{mounted} is not seen to hold, or to lie in, {cache}")
MountTable({"/a": vfswasi.Mount("apart", rw=True)}, ["around"]).close()
"""


def test_x1_bind_mounts_are_the_directories_that_they_show(tmp_path: Path) -> None:
    """In a mount namespace of its own; where none can be made the rule is tried on what a bind mount looks like."""
    command = ["unshare", "--mount", "--map-root-user", sys.executable, "-c", _BOUND]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    assert done.returncode == 77 or "unshare" in done.stderr, done.stderr
    from vfswasi.fs_backends.trust.directories import Seen

    real = Seen((1, 10), frozenset({(1, 2)}), (("8:1", ("real",)),))
    part = Seen((1, 11), frozenset({(1, 3)}), (("8:1", ("real", "sub")),))
    around = Seen((1, 12), frozenset({(1, 2)}), (("8:1", ("around",)), ("8:1", ("real",))))
    apart = Seen((1, 13), frozenset({(1, 2)}), (("8:1", ("really",)),))
    for one, other in ((real, part), (part, around), (around, real)):
        assert one.meets(other)
        assert other.meets(one)
    for other in (real, part, around):
        assert not apart.meets(other)
        assert not other.meets(apart)


def test_x1_a_directory_is_known_by_its_inode(tmp_path: Path) -> None:
    """Without a mount table, as on other systems than Linux."""
    from vfswasi.fs_backends.trust import directories

    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "c").mkdir()
    seen = [directories.seen_from(str(tmp_path / name)) for name in ("a", "link", "c")]
    a, b, c = (replace(each, regions=()) for each in seen if each is not None)
    assert a.holds(b)
    assert not b.holds(a)
    assert a.meets(b)
    assert b.meets(a)
    assert not a.meets(c)
    status = os.stat(tmp_path / "a")
    assert a.itself == (status.st_dev, status.st_ino)
    assert directories.seen_from(str(tmp_path / "a"), ("local", 1, 2)) is None, "another directory is there now"


# What is not recognised


class Mine(LocalFileSystem):
    """A known class with something of the user's own."""


class Forwarding(fsspec.AbstractFileSystem):
    """As a library to come may look: all that it is asked it asks another store. What it says of itself is a lie."""

    protocol = "memory"
    cachable = False

    def __init__(self, inner: Any, attribute: str = "inner") -> None:
        super().__init__()
        setattr(self, attribute, inner)
        self._forward = inner

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        return self._forward.ls(path, detail)

    def info(self, path: str, **options: Any) -> Any:
        return self._forward.info(path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> Any:
        return self._forward.cat_file(path, start, end)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        self._forward.cp_file(path1, path2)

    def rm_file(self, path: str) -> None:
        self._forward.rm_file(path)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path


class Caching(SimpleCacheFileSystem):
    """A subclass of a wrapper."""


def _registered(jail: Path) -> str:
    fsspec.register_implementation("vfswasi-mine", Mine, clobber=True)
    return f"vfswasi-mine://{jail}"


def _shadowed() -> Any:
    """An object of a class that says of itself that it is fsspec's."""
    return type("MemoryFileSystem", (Mine,), {"__module__": "fsspec.implementations.memory", "protocol": "memory"})()


UNRECOGNISED: dict[str, Source] = {
    "a subclass of the local one": lambda jail: Mount(Mine(), root=str(jail)),
    "one that has another's name": lambda jail: Mount(_shadowed(), root=str(jail)),
    "one that forwards": lambda jail: Mount(Forwarding(_local()), root=str(jail)),
    "one that forwards as fs": lambda jail: Mount(Forwarding(_local(), "fs"), root=str(jail)),
    "one that forwards as _fs": lambda jail: Mount(Forwarding(_local(), "_fs"), root=str(jail)),
    "one that forwards to a known one": lambda jail: Mount(Forwarding(MemoryFileSystem()), root="/"),
    "a subclass of a cache": lambda jail: Mount(Caching(fs=_local()), root=str(jail)),
    "in a directory": lambda jail: DirFileSystem(str(jail), Mine()),
    "in a cache": lambda jail: Mount(SimpleCacheFileSystem(fs=Forwarding(_local())), root=str(jail)),
    "registered by the user": _registered,
    "a generic URL": lambda jail: f"generic::file://{jail}",
    "generic": lambda jail: Mount(fsspec.filesystem("generic"), root=f"file://{jail}"),
    "a reference object": lambda jail: ReferenceFileSystem({"f": [f"file://{jail}/../outside/secret"]}),
    "in a directory of a reference": lambda jail: DirFileSystem("x", ReferenceFileSystem({"f": [f"file://{jail}/f"]})),
}


@pytest.mark.parametrize("what", UNRECOGNISED)
def test_x1_what_is_not_recognised_is_not_mounted(what: str, tmp_path: Path) -> None:
    source = UNRECOGNISED[what](_jail(tmp_path))
    with pytest.raises(MountError, match="mount") as caught:
        sources.open_source(source)
    assert "\n" not in str(caught.value)
    mount = _mount(source)
    if not isinstance(mount.source, str):
        with pytest.raises(MountError, match="mount"):
            FsspecBackend(mount.source, mount.root)


def test_x1_a_trusted_store_over_a_directory_could_be_any_directory(tmp_path: Path) -> None:
    jail = _jail(tmp_path)
    for store in (Mine(), Forwarding(_local()), Forwarding(Mine(), "_fs")):
        backend = sources.open_source(Mount(store, root=str(jail), trust=True))
        assert contents(backend, ("f",)) == b"content"
        backend.close()
        for rw in (True, False):
            with pytest.raises(MountError, match=r"overlap|what vfswasi runs or trusts"):
                RawGuest({"/a": Mount(store, root=str(jail), trust=True, rw=rw), "/b": Mount(tmp_path, rw=not rw)})


def test_x1_a_known_store_is_known_by_its_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryFileSystem()
    monkeypatch.setattr(store, "protocol", "file", raising=False)
    store.pipe_file("/x1-known/f", b"content")
    backend = sources.open_source(Mount(store, root="/x1-known"))
    assert contents(backend, ("f",)) == b"content"
    backend.close()


def test_x1_a_store_that_is_reached_in_two_ways_is_one(tmp_path: Path) -> None:
    store = MemoryFileSystem(skip_instance_cache=True)
    store.pipe_file("/x1-two/d/f", b"content")
    other = MemoryFileSystem(auto_mkdir=False, skip_instance_cache=True)
    for second in ("memory://x1-two", DirFileSystem("/x1-two", other), "simplecache::memory://x1-two/d",
                   Mount(AsyncFileSystemWrapper(other, asynchronous=False), root="/x1-two")):  # fmt: skip
        with pytest.raises(MountError, match="overlap"):
            RawGuest({"/a": Mount(store, root="/x1-two", rw=True), "/b": second})


# Servers that follow links


@pytest.mark.parametrize("root", ["/dir", "/dir/sub", "dir"])
def test_x1_a_part_of_a_server_that_follows_links_needs_trust(root: str) -> None:
    server: Any = FTPFileSystem.__new__(FTPFileSystem)
    server.ftp = SimpleNamespace(close=lambda: None)
    with pytest.raises(MountError, match="the server follows links"):
        trusted_fsspec.resolved(server, root)
    with pytest.raises(MountError, match="the server follows links"):
        trusted_fsspec.resolved(DirFileSystem(root, server), "")
    store = trusted_fsspec.resolved(server, root, trust=True)
    assert isinstance(store, trusted_fsspec.Store)
    assert store.nature.walked
    assert isinstance(trusted_fsspec.resolved(server, root, one_file=True), trusted_fsspec.Store)
    whole = trusted_fsspec.resolved(server, "/")
    assert isinstance(whole, trusted_fsspec.Store)


def _linked(jail: Path, **options: Any) -> RemoteBackend:
    """The directory as a trusted server's, with what its listings say."""
    nature = replace(UNKNOWN, in_process=True, **options)
    return RemoteBackend(FsspecClient(_local(), str(jail), nature=nature))


def test_x2_a_rename_that_copies_copies_regular_files_alone(tmp_path: Path) -> None:
    jail = _jail(tmp_path)
    os.mkfifo(jail / "fifo")
    (jail / "sub" / "link").symlink_to("../../outside")
    backend = _linked(jail)
    for old, new in (
        (("file",), ("copy",)),
        (("out",), ("copy",)),
        (("new",), ("copy",)),
        (("fifo",), ("copy",)),
        (("f",), ("file",)),
        (("f",), ("new",)),
        (("f",), ("fifo",)),
        (("sub",), ("copy",)),
    ):
        assert errno_of(backend.rename, old, new) is Errno.NOTSUP, (old, new)
    assert sorted(os.listdir(jail)) == ["f", "fifo", "file", "new", "out", "sub"]
    assert sorted(os.listdir(jail / "sub")) == ["g", "link"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "outside").iterdir()} == {"secret": b"secret"}
    backend.rename(("f",), ("sub", "moved"))
    assert (jail / "sub" / "moved").read_bytes() == b"content"
    backend.close()


def test_x2_a_guest_cannot_copy_what_is_behind_a_link(tmp_path: Path) -> None:
    jail = _jail(tmp_path)
    client = FsspecClient(_local(), str(jail), nature=replace(UNKNOWN, in_process=True))
    with RawGuest({"/d": Mount(RemoteBackend(client), rw=True), "/rw": Mount(jail, rw=True)}) as guest:
        assert guest.symlink("../outside/secret", "mine", fd=4) is Errno.SUCCESS
        for name in ("mine", "file"):
            assert guest.rename(name, "copy") is Errno.NOTSUP
        assert guest.try_open("copy")[0] is Errno.NOENT


# root= narrows, or is an error


def _archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("top/private/k", b"secret")
        made.writestr("top/public/x", b"x")
    return path


def _tree(place: Path) -> Path:
    for name, data in (("private/k", b"secret"), ("public/x", b"x")):
        (place / "top" / name).parent.mkdir(parents=True)
        (place / "top" / name).write_bytes(data)
    return place / "top"


def _in_memory(place: Path) -> tuple[Any, str]:
    store, root = MemoryFileSystem(), f"/x6-{place.name}"
    store.pipe_file(f"{root}/top/private/k", b"secret")
    store.pipe_file(f"{root}/top/public/x", b"x")
    store.pipe_file(f"{root}/a.zip", _archive(place / "a.zip").read_bytes())
    return store, root


class Pathish:
    """As UPath looks."""

    protocol = "memory"

    def __init__(self, fs: Any, path: str) -> None:
        self.fs = fs
        self.path = path


NARROWED: dict[str, Source] = {
    "path": lambda place: str(_tree(place)),
    "PathLike": _tree,
    "file URL": lambda place: f"file://{_tree(place)}",
    "cache of a file URL": lambda place: f"simplecache::file://{_tree(place)}",
    "dir object over local": lambda place: DirFileSystem(str(_tree(place)), _local()),
    "zip": lambda place: Mount(_archive(place / "a.zip"), root="top/"),
    "zip URL": lambda place: f"zip://top::{_archive(place / 'a.zip')}",
    "zip with rw": lambda place: Mount(_archive(place / "a.zip"), root="top/", rw=True),
    "zip in memory": lambda place: f"zip://top::memory:/{_in_memory(place)[1]}/a.zip",
    "memory URL": lambda place: f"memory:/{_in_memory(place)[1]}/top",
    "cache of memory": lambda place: f"filecache::memory:/{_in_memory(place)[1]}/top",
    "dir URL": lambda place: f"dir://top::memory:/{_in_memory(place)[1]}",
    "dir object": lambda place: DirFileSystem(f"{_in_memory(place)[1]}/top", _in_memory_again()),
    "UPath": lambda place: Pathish(*_upath(place)),
    "PyFilesystem2": lambda place: _pyfilesystem(),
    "PyFilesystem2 directory": lambda place: _osfs(_tree(place)),
    "PyFilesystem2 URL": lambda place: f"pyfs+osfs://{_tree(place)}",
}


def _in_memory_again() -> Any:
    return MemoryFileSystem()


def _upath(place: Path) -> tuple[Any, str]:
    store, root = _in_memory(place)
    return store, f"{root}/top"


def _pyfilesystem() -> Any:
    memoryfs = pytest.importorskip("fs.memoryfs")
    store = memoryfs.MemoryFS()
    for name, data in (("private/k", b"secret"), ("public/x", b"x")):
        store.makedirs(name.split("/")[0])
        store.writebytes(name, data)
    return store


def _osfs(path: Path) -> Any:
    return pytest.importorskip("fs.osfs").OSFS(str(path))


@pytest.mark.parametrize("kind", NARROWED)
def test_x6_root_narrows(kind: str, tmp_path: Path) -> None:
    mount = _mount(NARROWED[kind](tmp_path))
    backend = sources.open_source(replace(mount, root=mount.root + "public"))
    assert [entry.name for entry in backend.list(())] == ["x"]
    assert contents(backend, ("x",)) == b"x"
    assert errno_of(backend.stat, ("private",)) is Errno.NOENT
    backend.close()
    for root in ("..", "public/..", "public/../private", "./public", "public//x", "../top/private"):
        if root == "public//x" and not isinstance(mount.source, str | os.PathLike):
            continue
        with pytest.raises(MountError):
            sources.open_source(replace(mount, root=mount.root + root))
    for root in ("missing", "public/x"):
        with pytest.raises(MountError):
            sources.open_source(replace(mount, root=mount.root + root))


@pytest.mark.parametrize("root", ["/public", "//public", "/", "public\0", "/etc"])
@pytest.mark.parametrize(
    "kind", ["path", "PathLike", "file URL", "zip URL", "memory URL", "UPath", "PyFilesystem2 URL"]
)
def test_x6_root_is_no_absolute_path(kind: str, root: str, tmp_path: Path) -> None:
    with pytest.raises(MountError, match="root="):
        sources.open_source(_mount(NARROWED[kind](tmp_path), root=root))


@pytest.mark.parametrize(
    "source",
    [{"public": {}}, "mem:", "dev:", vfswasi.MemoryBackend({"public": {}}), LocalBackend(".")],
    ids=lambda source: type(source).__name__ if isinstance(source, vfswasi.Backend) else repr(source),
)
def test_x6_where_root_does_not_apply_it_is_an_error(source: Any) -> None:
    with pytest.raises(MountError, match="does not apply"):
        sources.open_source(Mount(source, root="public"))
    with pytest.raises(MountError, match="does not apply"):
        RawGuest({"/d": Mount(source, root="public")})


def test_x6_no_link_leads_to_the_root(tmp_path: Path) -> None:
    """Somebody who may write to the directory could have put it there."""
    jail = _jail(tmp_path)
    for source in (jail, f"file://{jail}", f"simplecache::file://{jail}", DirFileSystem(str(jail), _local())):
        with pytest.raises(MountError):
            sources.open_source(Mount(source, root="out"))
    backend = sources.open_source(Mount(jail, root="sub"))
    assert isinstance(backend, LocalBackend)
    assert backend.place == ("local", *str(jail).split("/"), "sub")
    backend.close()


# A path is a path

ODD = ["a::b", "simplecache::x", "dev:", "mem:", "zip::x", "s3:", "a?b#c", "%41", "file:x", "~", "a b::c", "$HOME"]


@pytest.mark.parametrize("name", ODD)
def test_a_path_object_is_a_path_whatever_it_looks_like(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "f").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)
    from urllib.parse import quote

    class Like:
        def __fspath__(self) -> Any:
            return name

    class Bytes:
        def __fspath__(self) -> Any:
            return os.fsencode(name)

    spelled = [Path(name), Like(), Bytes(), f"./{name}", f"{tmp_path}/{name}", f"file://{quote(str(tmp_path / name))}"]
    if not {"?", "#", "%"} & set(name):
        spelled += [f"file://{tmp_path}/{name}", f"simplecache::local://{tmp_path}/{name}"]
    for source in spelled:
        backend = sources.open_source(source)
        assert isinstance(backend, LocalBackend), source
        assert contents(backend, ("f",)) == b"content"
        backend.close()
    _archive(tmp_path / name / "x::y.zip")
    for source in (Path(name, "x::y.zip"), f"zip://top::./{name}/x::y.zip", f"zip://top::{tmp_path}/{name}/x::y.zip"):
        backend = sources.open_source(source)
        assert {entry.name for entry in backend.list(())} <= {"top", "public", "private"}
        backend.close()


def test_a_text_means_the_same_whatever_files_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`NAME::` and `NAME://` are URLs; `./` before them makes a path."""
    monkeypatch.chdir(tmp_path)
    for name in ("a::b", "simplecache::b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(b"content")
        backend = sources.open_source(f"./{name}")
        assert contents(backend, ("f",)) == b"content"
        backend.close()
    with pytest.raises(MountError, match=r"written with \./"):
        sources.open_source("a::b")
    with pytest.raises(MountError, match="does not exist"):
        sources.open_source("simplecache::b")  # the path b
    for path in ("zip://x", "memory://x", "mem:"):
        with pytest.raises(MountError, match="does not exist"):
            sources.open_source(Path(path))


@pytest.mark.parametrize("url", ["file://other/x", "file:///x?y", "file:///x#y", "file://x", "file::x", "file:///%00"])
def test_a_file_url_that_is_no_path_of_this_machine_is_refused(url: str) -> None:
    for source in (url, f"simplecache::{url}", f"zip://*::{url}", f"tar://*::simplecache::{url}"):
        with pytest.raises(MountError):
            sources.open_source(source)


# Caches of fsspec, written through


def _ends(backend: Backend) -> None:
    """What goes wrong where copies are kept: old contents under a new name, changes taken for somebody else's."""
    for name in ("a", "b"):
        handle = backend.create((name,))
        handle.write_from(0, name.encode() * 3)
        handle.close()
    assert contents(backend, ("b",)) == b"bbb"
    backend.rename(("a",), ("b",))
    assert contents(backend, ("b",)) == b"aaa"
    for _ in range(2):
        handle = backend.open(("b",), True)
        handle.append(b"+")
        handle.close()
    assert contents(backend, ("b",)) == b"aaa++"
    backend.mkdir(("d",))
    assert backend.stat(("d",)).filetype is FileType.DIRECTORY
    assert {entry.name: entry.filetype for entry in backend.list(())} == {
        "b": FileType.REGULAR_FILE,
        "d": FileType.DIRECTORY,
    }
    assert not backend.take_uncommitted()


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache", "simplecache::filecache"])
@pytest.mark.parametrize("store", ["memory", "file"])
def test_what_a_cache_of_fsspec_stands_before_is_written_itself(cache: str, store: str, tmp_path: Path) -> None:
    name = f"/x1-{tmp_path.name}"
    MemoryFileSystem().mkdir(name)
    backend = sources.open_source(Mount(f"{cache}::{store}://{tmp_path if store == 'file' else name}", rw=True))
    _ends(backend)
    backend.close()


def test_a_cache_that_changes_what_is_read_is_refused() -> None:
    MemoryFileSystem().pipe_file("/x1-packed/f.gz", b"packed")
    for source in (
        Mount("filecache::memory://x1-packed", storage_options={"filecache": {"compression": "gzip"}}),
        Mount(SimpleCacheFileSystem(target_protocol="memory", compression="infer"), root="/x1-packed"),
    ):
        with pytest.raises(MountError, match="mount"):
            sources.open_source(source)
    kept = {"filecache": {"cache_storage": "TMP", "expiry_time": 1}}
    backend = sources.open_source(Mount("filecache::memory://x1-packed", storage_options=kept))
    assert contents(backend, ("f.gz",)) == b"packed"
    backend.close()


def test_an_archive_behind_a_cache_is_the_archive(tmp_path: Path) -> None:
    _archive(tmp_path / "a.zip")
    _, root = _in_memory(tmp_path)
    for target in (f"simplecache::file://{tmp_path}/a.zip", f"simplecache::memory:/{root}/a.zip"):
        backend = sources.open_source(f"zip://top/public::{target}")
        assert contents(backend, ("x",)) == b"x"
        backend.close()


def test_links_of_archives_and_repositories_are_shown_as_links(tmp_path: Path) -> None:
    """TarFileSystem gives the contents of what a link leads to, from anywhere in the archive."""
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for name, data in (("secret", b"secret"), ("d/f", b"content")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("d/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret"
        made.addfile(link)
    backend = sources.open_source(Mount(fsspec.filesystem("tar", fo=str(tmp_path / "a.tar")), root="d"))
    assert contents(backend, ("f",)) == b"content"
    assert backend.stat(("link",)).filetype is FileType.SYMBOLIC_LINK
    assert errno_of(backend.open, ("link",), False) is Errno.LOOP
    backend.close()
    client = FsspecClient(MemoryFileSystem(), "/")
    for mode in ("120000", 0o120777):
        assert client.info_of({"name": "x", "type": "file", "mode": mode}).filetype is FileType.SYMBOLIC_LINK
    client.close()


def test_unknown_errors_of_the_system_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(LocalBackend, "__init__", fails)
    with pytest.raises(MountError, match="Too many open files") as caught:
        sources.open_source(f"simplecache::file://{tmp_path}")
    assert "\n" not in str(caught.value)


# Other libraries that forward, where they are installed


def test_x1_a_upath_is_the_file_system_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upath = pytest.importorskip("upath")
    jail = _jail(tmp_path)
    monkeypatch.chdir(tmp_path)
    for source in (str(jail), f"file://{jail}", f"local://{jail}", f"simplecache::file://{jail}"):
        backend = sources.open_source(upath.UPath(source))
        assert isinstance(backend, LocalBackend), source
        backend.close()
        narrowed = sources.open_source(Mount(upath.UPath(source), root="sub"))
        assert contents(narrowed, ("g",)) == b"below"
        narrowed.close()
        with pytest.raises(MountError):
            sources.open_source(Mount(upath.UPath(source), root="../outside"))
    store, root = _in_memory(tmp_path)
    assert store
    backend = sources.open_source(Mount(upath.UPath(f"memory:/{root}"), root="top/public"))
    assert contents(backend, ("x",)) == b"x"
    backend.close()


def test_x1_what_pyarrow_forwards_to_is_mounted_or_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow.fs")
    from fsspec.implementations.arrow import ArrowFSWrapper

    jail = _jail(tmp_path)
    local = arrow.LocalFileSystem()
    inside = arrow.SubTreeFileSystem(str(jail), local)
    handler = arrow.PyFileSystem(arrow.FSSpecHandler(_local()))
    for store, root in ((local, str(jail)), (inside, ""), (inside, "sub/"), (handler, str(jail))):
        backend = sources.open_source(Mount(ArrowFSWrapper(store), root=root))
        assert isinstance(backend, LocalBackend)
        backend.close()
    with pytest.raises(MountError):
        sources.open_source(Mount(ArrowFSWrapper(inside), root="out"))
    mine = arrow.PyFileSystem(arrow.FSSpecHandler(Mine()))
    for store in (mine, arrow.SubTreeFileSystem(str(jail), mine), arrow._MockFileSystem()):
        with pytest.raises(MountError, match="trust"):
            sources.open_source(Mount(ArrowFSWrapper(store), root=str(jail)))


def test_x6_root_narrows_a_url_of_a_web_server() -> None:
    store = trusted_fsspec.Store(None, "https://host/d?token=x", PAGES)
    assert trusted_fsspec.narrowed(store, ("a b", "?", "..%2f")).path == "https://host/d/a%20b/%3F/..%252f?token=x"
    for root in ("..", "../x", "/x", "a/../..", "."):
        with pytest.raises(MountError, match="root="):
            sources.open_source(Mount("https://127.0.0.1:1/d", root=root))
