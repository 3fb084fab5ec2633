"""File systems of PyFilesystem2, and of a fork of it."""

from __future__ import annotations

import io
import os
import stat as stat_module
import subprocess
import sys
import tarfile
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends.base import Backend, Caps, FileType
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import Symlink
from vfswasi.fs_backends.pyfilesystem import package
from vfswasi.fs_backends.pyfilesystem.backend import PyFilesystemBackend
from vfswasi.fs_backends.pyfilesystem.file import MEMORY_FILE_MAX_BYTES
from vfswasi.fs_backends.pyfilesystem.package import library_error
from vfswasi.fs_backends.remote.translate import StoreError
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import contents, errno_of, read

from ..rawguest import ALL_FILE_RIGHTS, RawGuest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the original imports pkg_resources, which warns
    import fs
    import fs.errors
    import fs.info
    import fs.memoryfs
    import fs.mountfs
    import fs.multifs
    import fs.osfs
    import fs.tarfs
    import fs.tempfs
    import fs.wrap
    import fs.wrapfs
    import fs.zipfs

ROOT = Path(__file__).parents[2]
FORK = "fitzyracing-fs==2.4.18"


def _fill(store: Any, tree: dict[str, Any], where: str = "") -> None:
    for name, value in tree.items():
        path = f"{where}/{name}"
        if isinstance(value, dict):
            store.makedir(path)
            _fill(store, value, path)
        else:
            store.writebytes(path, value)


def _write(root: Path, tree: dict[str, Any]) -> None:
    for name, value in tree.items():
        path = root / name
        if isinstance(value, dict):
            path.mkdir()
            _write(path, value)
        elif isinstance(value, Symlink):
            path.symlink_to(value.target)
        else:
            path.write_bytes(value)


def _archive(tree: dict[str, Any]) -> io.BytesIO:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:

        def add(below: dict[str, Any], where: str) -> None:
            for name, value in below.items():
                info = zipfile.ZipInfo(f"{where}{name}" + "/" * isinstance(value, dict), (2026, 1, 2, 3, 4, 6))
                writer.writestr(info, b"" if isinstance(value, dict) else value)
                if isinstance(value, dict):
                    add(value, f"{where}{name}/")

        add(tree, "")
    archive.seek(0)
    return archive


class Uploading(fs.wrapfs.WrapFS):  # type: ignore[type-arg, misc, name-defined]
    """Writes whole files only, as many stores far away do. `fail`: what the next upload raises, half way."""

    fail: Exception | None = None
    uploads = 0

    def openbin(self, path: str, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        if "+" in mode or "a" in mode:
            raise fs.errors.Unsupported("whole files only")
        return super().openbin(path, mode, buffering, **options)

    def upload(self, path: str, file: Any, chunk_size: int | None = None, **options: Any) -> None:
        self.uploads += 1
        if self.fail is not None:
            raise self.fail
        super().upload(path, file, chunk_size, **options)

    def setinfo(self, path: str, info: Any) -> None:
        super().setinfo(path, info)


# The conformance kit


class TestMemoryFS(BackendConformance):
    symlinks_in_tree = False
    times_granularity_ns = 1000

    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.memoryfs.MemoryFS()
        _fill(store, tree)
        return PyFilesystemBackend(store, close=True)


class TestBelowARoot(TestMemoryFS):
    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.memoryfs.MemoryFS()
        _fill(store, {"file": b"outside", "a": {"b": tree}})
        return PyFilesystemBackend(store, root="/a/b/")


class TestSubFS(TestMemoryFS):
    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.memoryfs.MemoryFS()
        _fill(store, {"file": b"outside", "sub": tree})
        return PyFilesystemBackend(store.opendir("sub"))


class TestOSFS(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.tempfs.TempFS()
        _write(Path(store.getsyspath("/")), tree)
        return PyFilesystemBackend(store, close=True)


class TestSubFSOfOSFS(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.tempfs.TempFS()
        _write(Path(store.getsyspath("/")), {"sub": tree})
        return PyFilesystemBackend(store.opendir("sub"))


class TestStaged(TestMemoryFS):
    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.memoryfs.MemoryFS()
        _fill(store, tree)
        return PyFilesystemBackend(Uploading(store), trust=True)


class TestMounted(BackendConformance):
    """OSFS within a MountFS: links are seen through it."""

    times_granularity_ns = 1000

    def make(self, tree: dict[str, Any]) -> Backend:
        temporary = fs.tempfs.TempFS()
        _write(Path(temporary.getsyspath("/")), tree)
        store = fs.mountfs.MountFS()
        store.mount("here", temporary)
        return PyFilesystemBackend(store, root="here", close=True, trust=True)


class TestReadOnly(TestMemoryFS):
    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.memoryfs.MemoryFS()
        _fill(store, tree)
        return PyFilesystemBackend(fs.wrap.read_only(store))


class TestReadOnlyOSFS(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.tempfs.TempFS()
        _write(Path(store.getsyspath("/")), tree)
        return PyFilesystemBackend(fs.wrap.read_only(store), close=True)


class TestZipFS(BackendConformance):
    symlinks_in_tree = False

    def make(self, tree: dict[str, Any]) -> Backend:
        return PyFilesystemBackend(fs.zipfs.ZipFS(_archive(tree)), close=True)


class TestTarFS(BackendConformance):
    symlinks_in_tree = False

    def make(self, tree: dict[str, Any]) -> Backend:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as writer:

            def add(below: dict[str, Any], where: str) -> None:
                for name, value in below.items():
                    info = tarfile.TarInfo(f"{where}{name}")
                    if isinstance(value, dict):
                        info.type = tarfile.DIRTYPE
                        writer.addfile(info)
                        add(value, f"{where}{name}/")
                    else:
                        info.size = len(value)
                        writer.addfile(info, io.BytesIO(value))

            add(tree, "")
        archive.seek(0)
        return PyFilesystemBackend(fs.tarfs.TarFS(archive), close=True)


# What the kit does not know


def _osfs(tmp_path: Path, tree: dict[str, Any]) -> tuple[Path, PyFilesystemBackend]:
    root = tmp_path / "root"
    root.mkdir()
    _write(root, tree)
    return root, PyFilesystemBackend(fs.osfs.OSFS(str(root)), close=True)


def _memory(tree: dict[str, Any]) -> tuple[Any, PyFilesystemBackend]:
    store = fs.memoryfs.MemoryFS()
    _fill(store, tree)
    return store, PyFilesystemBackend(store)


def _uploading(tree: dict[str, Any]) -> tuple[Uploading, PyFilesystemBackend]:
    store = fs.memoryfs.MemoryFS()
    _fill(store, tree)
    return (wrapped := Uploading(store)), PyFilesystemBackend(wrapped, trust=True)


EVERYWHERE = Caps.WRITE | Caps.RANDOM_WRITE | Caps.EMPTY_DIRS | Caps.SET_TIMES | Caps.SHARED
GOOD = EVERYWHERE | Caps.ATOMIC_RENAME | Caps.HANDLE_SURVIVES_UNLINK | Caps.DURABLE_WRITES


def test_capabilities(tmp_path: Path) -> None:
    memory = fs.memoryfs.MemoryFS()
    for store, caps in (
        (fs.osfs.OSFS(str(tmp_path)), GOOD),
        (memory, GOOD),
        (memory.makedir("sub"), GOOD),
        (Uploading(memory), EVERYWHERE),
        (fs.wrap.read_only(memory), Caps.EMPTY_DIRS | Caps.SHARED),
        (fs.zipfs.ZipFS(_archive({})), Caps.EMPTY_DIRS | Caps.IMMUTABLE),
    ):
        assert PyFilesystemBackend(store, trust=True).caps == caps, store


def test_a_guest_works_on_one(tmp_path: Path) -> None:
    for kind in ("mem", "osfs", "staged"):
        store: Any = fs.osfs.OSFS(str(tmp_path)) if kind == "osfs" else fs.memoryfs.MemoryFS()
        wrapped = Uploading(store) if kind == "staged" else store
        with RawGuest({"/d": vfswasi.Mount(PyFilesystemBackend(wrapped, trust=True), rw=True)}) as guest:
            fd = guest.create("f", b"hello")
            guest.pwrite(fd, b"!", 9)
            assert guest.mkdir("d") is Errno.SUCCESS
            assert guest.rename("f", "d/g") is Errno.SUCCESS
            assert guest.write(fd, b" world") == 6
            second = guest.open("d/g", base=ALL_FILE_RIGHTS)
            assert guest.unlink("d/g") is Errno.SUCCESS
            assert guest.pread(second, 99, 0) == b"hello world"
            guest.create("kept", b"k" * 3_000)
            assert guest.names() == [b"d", b"kept"]
        assert store.readbytes("kept") == b"k" * 3_000
        assert store.listdir("d") == []
        store.close()


@pytest.mark.parametrize("source", ["fs", "mount", "url"])
def test_it_is_a_source_of_mounts(tmp_path: Path, source: str) -> None:
    store = fs.memoryfs.MemoryFS()
    _fill(store, {"f": b"data", "sub": {"g": b"below"}})
    if source == "url":
        _write(tmp_path, {"f": b"data"})
    given: Any = {"fs": store, "mount": vfswasi.Mount(store, root="sub"), "url": f"pyfs+osfs://{tmp_path}"}[source]
    with RawGuest({"/d": given}) as guest:
        assert guest.contents("g" if source == "mount" else "f") == (b"below" if source == "mount" else b"data")
        assert guest.try_open("new", oflags=1, base=ALL_FILE_RIGHTS)[0] is Errno.ROFS
    assert not store.isclosed(), "it is the caller's"


def test_objects_are_known_by_their_methods() -> None:
    class Duck:
        def openbin(self) -> None: ...
        def getinfo(self) -> None: ...
        def scandir(self) -> None: ...
        def getmeta(self) -> None: ...

    assert package.is_pyfilesystem(fs.memoryfs.MemoryFS())
    assert package.is_pyfilesystem(Duck())
    for other in (fs.memoryfs.MemoryFS, Duck, object(), "mem://", {}, None, 3):
        assert not package.is_pyfilesystem(other)
    with pytest.raises(TypeError, match="not int"):
        PyFilesystemBackend(3)


def test_importing_the_module_imports_no_library() -> None:
    code = (
        "import sys, vfswasi.fs_backends.pyfilesystem.backend as p; p.is_pyfilesystem(object()); "
        "print('fs' in sys.modules, 'fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


# Opening


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://user:secret@host/x", "no installed package knows this protocol"),
        ("osfs:///no/such/secret/directory", "cannot be opened: CreateFailed"),
        ("zip:///no/such/secret.zip", "cannot be opened: CreateFailed"),
        ("ftp://user:secret@127.0.0.1:1/", ""),
        ("secret", "begins with a protocol"),
        ("", "begins with a protocol"),
        ("mem:secret", "begins with a protocol"),
        ("://secret", "begins with a protocol"),
    ],
)
def test_urls_that_cannot_be_opened(url: str, message: str) -> None:
    with pytest.raises(MountError) as caught:
        PyFilesystemBackend(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("missing", ["fs", "pkg_resources", "other"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    class Missing:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "fs":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.delitem(sys.modules, "fs")
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(MountError) as caught:
        PyFilesystemBackend("mem://")
    expected = "setuptools<82" if missing == "pkg_resources" else 'pip install "vfswasi[pyfilesystem]"'
    assert expected in str(caught.value)


def test_the_known_break_of_the_original(tmp_path: Path) -> None:
    """As on a fresh Python, where setuptools has no pkg_resources."""
    (tmp_path / "pkg_resources.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'pkg_resources'\", name=__name__)"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from vfswasi.fs_backends.pyfilesystem.backend import *\n"
        "try: PyFilesystemBackend('mem://')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    if FORK_IN_USE:
        assert done.stdout == "", "the forks do without it"
    else:
        assert done.stdout.startswith("MountError the PyFilesystem2 URL mem://...")
        assert 'pip install "setuptools<82"' in done.stdout


def test_urls_that_can(tmp_path: Path) -> None:
    _write(tmp_path, {"f": b"data"})
    (tmp_path / "a.zip").write_bytes(_archive({"f": b"zipped"}).getvalue())
    for url, expected in (
        ("mem://", None),
        ("temp://", None),
        (f"osfs://{tmp_path}", b"data"),
        (f"zip://{tmp_path}/a.zip", b"zipped"),
    ):
        backend = PyFilesystemBackend(url)
        if expected is None:
            assert list(backend.list(())) == []
        else:
            assert contents(backend, ("f",)) == expected
        backend.close()


@pytest.mark.parametrize("close", [None, True, False])
@pytest.mark.parametrize("opened", [True, False])
def test_who_closes_the_file_system(monkeypatch: pytest.MonkeyPatch, close: bool | None, opened: bool) -> None:
    store = fs.memoryfs.MemoryFS()
    monkeypatch.setattr(fs, "open_fs", lambda url: store)
    PyFilesystemBackend("mem://" if opened else store, close=close).close()
    assert store.isclosed() is (opened if close is None else close)


@pytest.mark.parametrize("root", ["missing", "file", "dir/missing", "..", "dir/../..", "./dir", "a\0b"])
def test_a_root_that_is_no_directory(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    store = fs.memoryfs.MemoryFS()
    _fill(store, {"file": b"", "dir": {}})
    with pytest.raises(MountError):
        PyFilesystemBackend(store, root=root)
    assert not store.isclosed()
    monkeypatch.setattr(fs, "open_fs", lambda url: store)
    with pytest.raises(MountError):
        PyFilesystemBackend("mem://", root=root)
    assert store.isclosed(), "what was opened here is not left open"


def test_a_closed_file_system() -> None:
    store = fs.osfs.OSFS(tempfile.gettempdir())
    backend = PyFilesystemBackend(store)
    store.close()
    assert errno_of(backend.stat, ("x" * 50,)) in (Errno.IO, Errno.NOENT)
    assert errno_of(backend.list, ()) is Errno.IO
    with pytest.raises(MountError, match="FilesystemClosed"):
        PyFilesystemBackend(store)


# Errors


@pytest.mark.parametrize(
    ("error", "errno"),
    [
        (fs.errors.ResourceNotFound("p"), Errno.NOENT),
        (fs.errors.FileExists("p"), Errno.EXIST),
        (fs.errors.DirectoryExists("p"), Errno.EXIST),
        (fs.errors.DestinationExists("p"), Errno.EXIST),
        (fs.errors.FileExpected("p"), Errno.ISDIR),
        (fs.errors.DirectoryExpected("p"), Errno.NOTDIR),
        (fs.errors.DirectoryNotEmpty("p"), Errno.NOTEMPTY),
        (fs.errors.ResourceReadOnly("p"), Errno.ROFS),
        (fs.errors.ResourceLocked("p"), Errno.BUSY),
        (fs.errors.RemoveRootError(), Errno.BUSY),
        (fs.errors.PermissionDenied("p"), Errno.ACCES),
        (fs.errors.InsufficientStorage("p"), Errno.NOSPC),
        (fs.errors.Unsupported("p"), Errno.NOTSUP),
        (fs.errors.NoSysPath("p"), Errno.NOTSUP),
        (fs.errors.InvalidCharsInPath("p"), Errno.INVAL),
        (fs.errors.InvalidPath("p"), Errno.NAMETOOLONG),
        (fs.errors.IllegalBackReference("p"), Errno.INVAL),
        (fs.errors.OperationTimeout("p"), Errno.IO),
        (fs.errors.RemoteConnectionError("p"), Errno.IO),
        (fs.errors.FilesystemClosed(), Errno.IO),
        (fs.errors.OperationFailed("p"), Errno.IO),
        (fs.errors.ResourceError("p"), Errno.IO),
        (fs.errors.PathError("p", exc=OSError(36, "too long")), Errno.NAMETOOLONG),
        (fs.errors.ResourceNotFound("p", exc=NotADirectoryError(20, "x")), Errno.NOTDIR),
        (fs.errors.OperationFailed("p", exc=OSError(122, "quota")), Errno.DQUOT),
        (fs.errors.OperationFailed("p", exc=OSError(5, "io")), Errno.IO),
        (io.UnsupportedOperation("seek"), Errno.NOTSUP),
        (MemoryError(), Errno.NOSPC),
        (OSError(28, "full"), Errno.NOSPC),
        (zipfile.BadZipFile("bad"), Errno.IO),
        (RecursionError(), Errno.IO),
        (AssertionError(), Errno.IO),
        (KeyError("x"), Errno.IO),
        (type("Mine", (fs.errors.ResourceNotFound,), {})("p"), Errno.NOENT),
        (FsError(Errno.LOOP), Errno.LOOP),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.name,
)
def test_what_the_exceptions_of_the_library_mean(error: Exception, errno: Errno) -> None:
    assert library_error(error, "test").errno is errno


@pytest.mark.parametrize("error", [KeyError("boom"), EOFError(), RecursionError(), AssertionError(), OSError()])
def test_nothing_but_fs_errors_leaves_it(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    store, backend = _memory({"f": b"data", "d": {}})
    handle = backend.open(("f",), True)
    buffer = bytearray(4)

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    for name in ("getinfo", "scandir", "listdir", "openbin", "makedir", "remove", "removedir", "move", "setinfo"):
        monkeypatch.setattr(store, name, fail)
    for name in ("read", "write", "seek", "truncate"):
        monkeypatch.setattr(handle._file._file, name, fail)  # type: ignore[attr-defined]
    for call, args in (
        (backend.stat, (("f",),)),
        (backend.walk, ((), ("f",))),
        (backend.list, ((),)),
        (backend.open, (("f",), False)),
        (backend.create, (("new",),)),
        (backend.mkdir, (("new",),)),
        (backend.rmdir, (("d",),)),
        (backend.remove, (("f",),)),
        (backend.rename, (("f",), ("g",))),
        (backend.readlink, (("f",),)),
        (backend.set_times, (("f",), 1, 1)),
        (handle.read_into, (0, buffer)),
        (handle.write_from, (0, b"x")),
        (handle.append, (b"x",)),
        (handle.truncate, (0,)),
        (handle.size, ()),
        (handle.stat, ()),
    ):
        with pytest.raises(FsError) as caught:
            call(*args)
        assert caught.value.errno is Errno.IO, call
        assert isinstance(caught.value.__cause__, StoreError), call
        assert caught.value.__cause__.kind == type(error).__qualname__, call


# Odd stores


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"basic": {}},
        {"basic": {"name": "f", "is_dir": False}, "details": 7},
        {"basic": {"name": "f", "is_dir": False}, "details": {"size": -5}},
    ],
    ids=["none", "basic", "details", "size"],
)
def test_attributes_that_make_no_sense_are_an_error_and_no_entry(
    monkeypatch: pytest.MonkeyPatch, raw: dict[str, Any]
) -> None:
    store, backend = _memory({"f": b"data", "d": {}})
    scandir = store.scandir
    monkeypatch.setattr(store, "scandir", lambda *_, **__: iter([fs.info.Info(raw)]))
    assert list(backend.list(())) == []
    monkeypatch.setattr(store, "scandir", scandir)
    monkeypatch.setattr(store, "getinfo", lambda *_, **__: fs.info.Info(raw))
    assert errno_of(backend.stat, ("f",)) is Errno.IO


def test_a_store_that_does_not_describe_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    store = fs.memoryfs.MemoryFS()
    monkeypatch.setattr(store, "getmeta", lambda: None)
    with pytest.raises(MountError):
        PyFilesystemBackend(store)


def test_a_wrapper_that_never_looks_again_is_left_out() -> None:
    store = fs.memoryfs.MemoryFS()
    _fill(store, {"f": b"abc"})
    cached = fs.wrap.cache_directory(store)
    backend = PyFilesystemBackend(cached, close=True)
    assert backend.caps == GOOD
    assert backend.stat(("f",)).size == 3
    backend.create(("new",)).close()
    handle = backend.open(("f",), True)
    handle.append(b"def")
    handle.close()
    assert backend.stat(("f",)).size == 6
    backend.remove(("f",))
    assert errno_of(backend.stat, ("f",)) is Errno.NOENT
    assert [entry.name for entry in backend.list(())] == ["new"]
    backend.close()
    assert cached.isclosed()


def test_times_that_a_store_would_ignore_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = _memory({"f": b"data"})
    getinfo = store.getinfo

    def without(path: str, namespaces: Any = None) -> Any:
        raw = {name: dict(values) for name, values in getinfo(path, namespaces).raw.items()}
        raw.get("details", {}).pop("_write", None)
        return fs.info.Info(raw)

    monkeypatch.setattr(store, "getinfo", without)
    backend = PyFilesystemBackend(store)
    assert Caps.SET_TIMES not in backend.caps
    handle = backend.open(("f",), True)
    assert errno_of(handle.set_times, 5, 5) is errno_of(backend.set_times, ("f",), 5, 5) is Errno.NOTSUP
    handle.close()


def test_names_that_no_key_can_hold_are_left_out(tmp_path: Path) -> None:
    root, backend = _osfs(tmp_path, {"good": b""})
    os.close(os.open(os.fsencode(root) + b"/bad\xff", os.O_CREAT))
    assert [entry.name for entry in backend.list(())] == ["good"]
    store, memory = _memory({"good": b""})
    for name in ("", ".", "..", "a/b", "nul\0", "x" * 256, "\udc80"):
        store.root.set_entry(name, store._make_dir_entry(fs.ResourceType.file, name))
    assert [entry.name for entry in memory.list(())] == ["good"]
    backend.close()


def test_keys_deeper_than_pythons_stack(tmp_path: Path) -> None:
    missing, through = ("d",) * 1100, ("f", *("d",) * 1100)
    for backend in (_osfs(tmp_path, {"f": b""})[1], _memory({"f": b""})[1], _uploading({"f": b""})[1]):
        for call in (backend.stat, backend.create):
            assert errno_of(call, missing) in (Errno.NOENT, Errno.NAMETOOLONG)
            assert errno_of(call, through) in (Errno.NOTDIR, Errno.NAMETOOLONG)
        backend.close()


def test_characters_that_a_store_refuses() -> None:
    store = fs.memoryfs.MemoryFS()
    store._meta["invalid_path_chars"] = "\0?*"
    backend = PyFilesystemBackend(store)
    assert errno_of(backend.stat, ("a?b",)) is Errno.NOENT
    assert backend.walk((), ("a?b", "c")) == (0, None)
    assert errno_of(backend.create, ("a?b",)) is Errno.INVAL
    assert errno_of(backend.mkdir, ("*",)) is Errno.INVAL
    backend.create(("a",)).close()
    assert errno_of(backend.rename, ("a",), ("a?",)) is Errno.INVAL


def test_a_store_without_upper_and_lower_case() -> None:
    store = fs.memoryfs.MemoryFS()
    store._meta["case_insensitive"] = True
    backend = PyFilesystemBackend(store)
    handle = backend.create(("File",))
    handle.write_from(0, b"data")
    backend.rename(("File",), ("FILE",))
    assert read(handle, 0, 9) == b"data"
    assert [entry.name for entry in backend.list(())] == ["FILE"]
    handle.close()


@pytest.mark.parametrize(
    ("raw", "filetype", "size"),
    [
        ({"basic": {"is_dir": False}}, FileType.REGULAR_FILE, 0),
        ({"basic": {"is_dir": True}, "details": {"size": 4096, "type": 1}}, FileType.DIRECTORY, 0),
        ({"basic": {"is_dir": False}, "details": {"size": None, "type": 0}}, FileType.REGULAR_FILE, 0),
        ({"basic": {"is_dir": False}, "details": {"size": 3, "type": 1}}, FileType.REGULAR_FILE, 3),
        ({"basic": {"is_dir": False}, "link": {"target": "\ud800"}}, FileType.SYMBOLIC_LINK, 3),
        ({"basic": {"is_dir": False}, "details": {"type": 3}}, FileType.CHARACTER_DEVICE, 0),
        ({"basic": {"is_dir": False}, "details": {"type": 5}}, FileType.UNKNOWN, 0),
        ({"basic": {"is_dir": False}, "details": {"type": 6}}, FileType.SOCKET_STREAM, 0),
        ({"basic": {"is_dir": True}, "link": {"target": "ü"}, "details": {"size": 9}}, FileType.SYMBOLIC_LINK, 2),
        ({"basic": {"is_dir": False}, "link": {"target": None}, "details": {"size": 9}}, FileType.REGULAR_FILE, 9),
    ],
)
def test_attributes_that_a_store_tells(raw: dict[str, Any], filetype: FileType, size: int) -> None:
    assert (package.stat_of(raw)[0].filetype, package.stat_of(raw)[0].size) == (filetype, size)


def test_times_that_a_store_tells() -> None:
    assert package.nanoseconds(1_700_000_000) == 1_700_000_000 * 10**9
    assert package.nanoseconds(1.25) == 1_250_000_000
    assert package.nanoseconds(-1.5) == -1_500_000_000
    for odd in (None, True, "1", float("nan"), float("inf")):
        assert package.nanoseconds(odd) is None


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation("seek")


class _Streams(fs.wrapfs.WrapFS):  # type: ignore[type-arg, misc, name-defined]
    """Files that can only be read from their start, and do not tell their size."""

    tells_size = True

    def openbin(self, path: str, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        return _Pipe(self.delegate_fs().readbytes(path))

    def getinfo(self, path: str, namespaces: Any = None) -> Any:
        info = super().getinfo(path, namespaces)
        if not self.tells_size:
            info.raw.get("details", {}).pop("size", None)
        return info


@pytest.mark.parametrize("tells_size", [True, False])
def test_files_that_cannot_seek_are_copied_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, tells_size: bool) -> None:
    store = fs.memoryfs.MemoryFS()
    _fill(store, {"f": bytes(range(256)) * 8192})
    streams = _Streams(store)
    streams.tells_size = tells_size
    backend = PyFilesystemBackend(streams, trust=True)
    handle = backend.open(("f",), False)
    assert read(handle, 1_000_000, 3) == (bytes(range(256)) * 8192)[1_000_000:1_000_003]
    assert read(handle, 0, 3) == b"\0\1\2"
    assert handle.size() == 2 << 20
    handle.close()
    monkeypatch.setattr("vfswasi.fs_backends.pyfilesystem.file.SPOOL_MAX_BYTES", 1 << 20)
    assert errno_of(backend.open, ("f",), False) is Errno.FBIG


def test_a_file_of_a_memory_file_system_has_a_bound() -> None:
    _, backend = _memory({"f": b"data"})
    handle = backend.open(("f",), True)
    for call, args in (
        (handle.truncate, (MEMORY_FILE_MAX_BYTES + 1,)),
        (handle.write_from, (MEMORY_FILE_MAX_BYTES, b"x")),
        (handle.allocate, (MEMORY_FILE_MAX_BYTES, 1)),
    ):
        assert errno_of(call, *args) is Errno.FBIG
    assert handle.size() == 4
    handle.close()


def test_threads_may_share_a_backend() -> None:
    _, backend = _memory({"f": bytes(100_000)})
    handle = backend.open(("f",), True)
    wrong: list[bytes] = []

    def work(letter: int) -> None:
        for number in range(200):
            offset = letter * 1000 + number
            handle.write_from(offset, bytes([letter]))
            if read(handle, offset, 1) != bytes([letter]):
                wrong.append(bytes([letter]))

    threads = [threading.Thread(target=work, args=(letter,)) for letter in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    handle.close()


def test_the_identity_of_a_store(tmp_path: Path) -> None:
    store = fs.memoryfs.MemoryFS()
    _fill(store, {"a": {"b": {}}})
    by_root, by_subfs = PyFilesystemBackend(store, root="a"), PyFilesystemBackend(store.opendir("a"))
    assert by_root.identity == by_subfs.identity != PyFilesystemBackend(store).identity
    place, above = PyFilesystemBackend(store, root="a/b").place, by_root.place
    assert place is not None
    assert above is not None
    assert place[: len(above)] == above
    assert PyFilesystemBackend(fs.memoryfs.MemoryFS()).identity != PyFilesystemBackend(store).identity
    local = LocalBackend(tmp_path)
    assert PyFilesystemBackend(fs.osfs.OSFS(str(tmp_path))).place == local.place
    local.close()


# Files that are handed over as a whole


def test_a_staged_file_is_uploaded_at_sync_and_close() -> None:
    store, backend = _uploading({"f": b"hello"})
    handle = backend.open(("f",), True)
    handle.write_from(0, b"J")
    assert (store.uploads, store.readbytes("f")) == (0, b"hello")
    assert backend.stat(("f",)).size == 5
    handle.append(b" world")
    assert backend.stat(("f",)).size == 11
    handle.sync(False)
    assert (store.uploads, store.readbytes("f")) == (1, b"Jello world")
    handle.sync(True)
    handle.close()
    assert store.uploads == 1, "nothing was written since"
    unchanged = backend.open(("f",), True)
    unchanged.close()
    assert store.uploads == 1


def test_a_file_that_is_cut_to_nothing_is_not_fetched_first(monkeypatch: pytest.MonkeyPatch) -> None:
    store, backend = _uploading({"f": b"hello"})
    handle = backend.open(("f",), True)
    monkeypatch.setattr(store, "openbin", None)
    handle.truncate(0)
    handle.write_from(0, b"new")
    monkeypatch.undo()
    handle.close()
    assert store.readbytes("f") == b"new"


def test_a_discarded_file_is_not_uploaded() -> None:
    store, backend = _uploading({"f": b"hello"})
    handle = backend.open(("f",), True)
    handle.write_from(0, b"half")
    handle.discard()
    assert (store.uploads, store.readbytes("f")) == (0, b"hello")
    assert contents(backend, ("f",)) == b"hello"


def test_an_open_staged_file_follows_its_name() -> None:
    store, backend = _uploading({"f": b"hello", "old": b"old", "d": {}})
    handle = backend.open(("f",), True)
    handle.write_from(0, b"J")
    backend.rename(("f",), ("d", "g"))
    handle.write_from(1, b"E")
    handle.close()
    assert store.readbytes("d/g") == b"JEllo"
    assert not store.exists("f")
    gone = backend.open(("old",), True)
    gone.write_from(0, b"lost")
    backend.remove(("old",))
    gone.write_from(0, b"more")
    assert gone.stat().nlink == 0
    gone.close()
    assert not store.exists("old")


def test_two_backends_of_one_store_know_of_each_other() -> None:
    store, backend = _uploading({"f": b"hello"})
    other = PyFilesystemBackend(store, trust=True)
    handle, second = backend.open(("f",), True), other.open(("f",), False)
    handle.write_from(0, b"J")
    assert read(second, 0, 9) == b"Jello"
    other.rename(("f",), ("g",))
    second.close()
    handle.close()
    assert store.listdir("/") == ["g"]
    assert store.readbytes("g") == b"Jello"


def test_a_member_of_an_archive_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(100_000)
    backend = PyFilesystemBackend(fs.zipfs.ZipFS(_archive({"f": data})))
    handle = backend.open(("f",), False)
    assert read(handle, 50_000, 10) == data[50_000:50_010]
    assert read(handle, 10, 10) == data[10:20]
    monkeypatch.setattr("zipfile.ZipExtFile.read", None)
    for offset in range(90_000, 0, -10_000):
        assert read(handle, offset, 10) == data[offset : offset + 10]
    handle.close()


def test_a_directory_with_something_in_it_is_not_copied_under_another_name() -> None:
    store, backend = _uploading({"full": {"f": b""}, "empty": {}, "target": {}})
    assert errno_of(backend.rename, ("full",), ("new",)) is Errno.NOTSUP
    backend.rename(("empty",), ("new",))
    backend.rename(("new",), ("target",))
    assert sorted(store.listdir("/")) == ["full", "target"]


def test_what_could_not_be_uploaded_is_kept() -> None:
    store, backend = _uploading({"f": b"hello", "d": {}})
    first, second = backend.open(("f",), True), backend.open(("f",), True)
    first.write_from(0, b"J")
    store.fail = fs.errors.InsufficientStorage("f")
    assert errno_of(first.sync, False) is Errno.NOSPC
    assert errno_of(first.close) is Errno.NOSPC
    assert list(backend.take_uncommitted()) == [], "another handle may still manage"
    assert errno_of(second.close) is Errno.NOSPC
    (lost,) = backend.take_uncommitted()
    assert (lost.path, lost.size, lost.read(), lost.error.errno) == ("f", 5, b"Jello", Errno.NOSPC)
    lost.close()
    assert list(backend.take_uncommitted()) == []
    store.fail = None
    assert contents(backend, ("f",)) == b"hello"


def test_a_run_tells_of_files_that_could_not_be_uploaded() -> None:
    store, backend = _uploading({"f": b"hello"})
    store.fail = fs.errors.RemoteConnectionError("gone")
    guest = RawGuest({"/d": vfswasi.Mount(backend, rw=True)})
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    guest.write(fd, b"J")
    assert guest.call("fd_close", fd) is Errno.IO
    with pytest.raises(vfswasi.UncommittedError) as caught:
        guest.close()
    (lost,) = caught.value.files
    assert (lost.path, lost.read()) == ("/d/f", b"Jello")
    lost.close()


class _Distant(Uploading):
    """Says that it is far away, and hangs when told to."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.hang = threading.Event()
        self.hang.set()

    def getmeta(self, namespace: str = "standard") -> Any:
        return {**super().getmeta(namespace), "network": True}

    def getinfo(self, path: str, namespaces: Any = None) -> Any:
        self.hang.wait(30)
        return super().getinfo(path, namespaces)


def test_a_store_that_hangs_does_not_keep_the_run() -> None:
    store = _Distant(fs.memoryfs.MemoryFS())
    store.writebytes("f", b"data")
    backend = PyFilesystemBackend(store, trust=True)
    assert contents(backend, ("f",)) == b"data"
    store.hang.clear()
    from vfswasi.fs_backends import waiting
    from vfswasi.kernel.clocks import Deadline

    with waiting.bounded_by(Deadline(0.1)):
        assert errno_of(backend.stat, ("f",)) is Errno.CANCELED
    store.hang.set()
    backend.close()


class _SlowUpload(_Distant):
    """Waits in the middle of an upload."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.go_on, self.stored = threading.Event(), threading.Event()

    def upload(self, path: str, file: Any, chunk_size: int | None = None, **options: Any) -> None:
        begin = file.read(4)
        self.go_on.wait(30)
        self.delegate_fs().writebytes(path, begin + file.read())
        self.stored.set()


@pytest.mark.parametrize("end", ["discard", "close"])
def test_an_upload_that_nobody_waits_for_any_more_stores_the_whole_file(end: str) -> None:
    from vfswasi.fs_backends import waiting
    from vfswasi.kernel.clocks import Deadline

    store = _SlowUpload(fs.memoryfs.MemoryFS())
    store.delegate_fs().writebytes("f", b"before")
    backend = PyFilesystemBackend(store, trust=True)
    handle = backend.open(("f",), True)
    handle.truncate(0)
    handle.write_from(0, b"all of it")
    with waiting.bounded_by(Deadline(0.1)):
        assert errno_of(handle.sync, False) is Errno.CANCELED
        assert errno_of(getattr(handle, end)) is (Errno.CANCELED if end == "close" else Errno.SUCCESS)
    for lost in backend.take_uncommitted():
        assert lost.read() == b"all of it"
        lost.close()
    store.go_on.set()
    assert store.stored.wait(30)
    assert store.delegate_fs().readbytes("f") == b"all of it"
    backend.close()


def test_a_zip_archive_is_written_when_the_file_system_is_closed() -> None:
    archive = io.BytesIO()
    backend = PyFilesystemBackend(fs.zipfs.ZipFS(archive, write=True), close=True)
    handle = backend.create(("f",))
    handle.write_from(3, b"x")
    handle.close()
    backend.mkdir(("d",))
    backend.close()
    with zipfile.ZipFile(archive) as reader:
        assert reader.read("f") == b"\0\0\0x"
        assert "d/" in reader.namelist()


# Links out of a directory


@pytest.fixture(params=["osfs", "mounted", "several"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, PyFilesystemBackend]]:
    outside = tmp_path / "outside"
    outside.mkdir()
    _write(outside, {"secret": b"secret", "d": {"secret": b"secret"}})
    root, backend = _osfs(
        tmp_path,
        {
            "file": Symlink(str(outside / "secret")),
            "dir": Symlink("../outside"),
            "dangling": Symlink("nowhere"),
            "loop": Symlink("loop"),
            "sub": {"up": Symlink("../../outside/d"), "f": b"data"},
            "plain": b"plain",
        },
    )
    if request.param == "mounted":
        store = fs.mountfs.MountFS()
        store.mount("m", fs.osfs.OSFS(str(root)))
        backend = PyFilesystemBackend(store, root="m", close=True, trust=True)
    elif request.param == "several":
        store = fs.multifs.MultiFS()
        store.add_fs("osfs", fs.osfs.OSFS(str(root)), write=True)
        store.add_fs("other", fs.memoryfs.MemoryFS(), priority=-1)
        backend = PyFilesystemBackend(store, close=True, trust=True)
    yield root, backend
    backend.close()


@pytest.mark.parametrize("key", [("file",), ("dir",), ("dangling",), ("loop",), ("sub", "up")])
def test_a_link_is_shown_and_not_followed(hostile: tuple[Path, PyFilesystemBackend], key: tuple[str, ...]) -> None:
    root, backend = hostile
    if key in (("dangling",), ("loop",)) and errno_of(backend.stat, key) in (Errno.NOENT, Errno.LOOP):
        assert type(backend._library.fs).__name__ == "MultiFS"  # to which they are not there
        assert key[-1] not in {entry.name for entry in backend.list(())}
        return
    stat = backend.stat(key)
    assert stat.filetype is FileType.SYMBOLIC_LINK
    assert stat.ident in (None, os.lstat(root.joinpath(*key)).st_ino)
    assert backend.readlink(key) == os.readlink(root.joinpath(*key))
    assert key[-1] in {entry.name for entry in backend.list(key[:-1]) if entry.filetype is FileType.SYMBOLIC_LINK}
    for write in (False, True):
        assert errno_of(backend.open, key, write) is Errno.LOOP
    assert errno_of(backend.list, key) is Errno.NOTDIR
    assert errno_of(backend.create, key) is errno_of(backend.mkdir, key) is Errno.EXIST
    assert errno_of(backend.rmdir, key) is Errno.NOTDIR
    before = [os.stat(root.parent / "outside" / name).st_mtime_ns for name in ("", "secret", "d")]
    if backend._in_paths:
        backend.set_times(key, 5, 5)
        assert backend.stat(key).mtim_ns == 5
    else:
        for call, args in (
            (backend.set_times, (key, 5, 5)),
            (backend.rename, (key, ("new",))),
            (backend.rename, (("plain",), key)),
        ):
            assert errno_of(call, *args) is Errno.NOTSUP
    assert [os.stat(root.parent / "outside" / name).st_mtime_ns for name in ("", "secret", "d")] == before


@pytest.mark.parametrize("way", [("dir",), ("sub", "up"), ("file",)])
def test_nothing_is_done_through_a_link(hostile: tuple[Path, PyFilesystemBackend], way: tuple[str, ...]) -> None:
    root, backend = hostile
    before = sorted(str(path) for path in root.parent.rglob("*"))
    for name in ("secret", "new"):
        key = (*way, name)
        for call, args in (
            (backend.stat, (key,)),
            (backend.open, (key, False)),
            (backend.open, (key, True)),
            (backend.create, (key,)),
            (backend.mkdir, (key,)),
            (backend.rmdir, (key,)),
            (backend.remove, (key,)),
            (backend.list, (key,)),
            (backend.readlink, (key,)),
            (backend.rename, (key, ("moved",))),
            (backend.rename, (("plain",), key)),
            (backend.set_times, (key, 5, 5)),
        ):
            assert errno_of(call, *args) is Errno.NOTDIR, (call, args)
        assert backend.walk((), key) == (len(way), backend.stat(way))
    assert sorted(str(path) for path in root.parent.rglob("*")) == before
    assert (root.parent / "outside" / "secret").read_bytes() == b"secret"


def test_a_link_itself_can_be_removed_and_renamed(hostile: tuple[Path, PyFilesystemBackend]) -> None:
    root, backend = hostile
    if backend._in_paths:
        backend.rename(("dir",), ("sub", "moved"))
        backend.rename(("plain",), ("file",))
        assert (root / "file").read_bytes() == b"plain"
        backend.remove(("sub", "moved"))
    else:
        backend.remove(("dir",))
    backend.remove(("sub", "up"))
    assert sorted(entry.name for entry in backend.list(("sub",))) == ["f"]
    assert (root.parent / "outside" / "secret").read_bytes() == b"secret"
    assert (root.parent / "outside" / "d").is_dir()


def test_a_guest_cannot_leave_through_links(hostile: tuple[Path, PyFilesystemBackend]) -> None:
    _, backend = hostile
    if not backend._in_paths:  # nobody knows which directories of this machine are in it: it could be any
        with pytest.raises(vfswasi.MountError, match="what vfswasi runs or trusts"):
            RawGuest({"/d": vfswasi.Mount(backend, rw=True)})
    with RawGuest({"/d": vfswasi.Mount(backend, rw=backend._in_paths)}) as guest:
        for path in ("file", "dir/secret", "sub/up/secret"):
            assert guest.try_open(path)[0] is Errno.NOTCAPABLE
        assert guest.try_open("loop")[0] in (Errno.LOOP, Errno.NOENT)
        assert guest.contents("sub/f") == b"data"


def test_a_file_that_becomes_a_link_while_it_is_opened_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    root, backend = _osfs(tmp_path, {"plain": b"plain"})
    store = backend._library.fs
    openbin = store.openbin

    def swap(path: str, *args: Any) -> Any:
        (root / "plain").unlink(missing_ok=True)
        (root / "plain").symlink_to("../outside/secret")
        return openbin(path, *args)

    monkeypatch.setattr(store, "openbin", swap)
    assert errno_of(backend.open, ("plain",), False) is Errno.LOOP
    backend.close()


def test_what_is_neither_file_nor_directory_is_not_opened(tmp_path: Path) -> None:
    root, backend = _osfs(tmp_path, {})
    os.mkfifo(root / "fifo")
    assert stat_module.S_ISFIFO(os.stat(root / "fifo").st_mode)
    assert backend.stat(("fifo",)).filetype is FileType.UNKNOWN
    assert errno_of(backend.open, ("fifo",), False) is Errno.ACCES
    backend.close()


def test_a_link_whose_target_is_no_text(tmp_path: Path) -> None:
    root, backend = _osfs(tmp_path, {})
    os.symlink(b"bad\xff", os.fsencode(root) + b"/l")
    assert errno_of(backend.readlink, ("l",)) is Errno.ILSEQ
    backend.close()


# A fork

FORK_IN_USE = os.environ.get("VFSWASI_PYFILESYSTEM_FORK", "")


def test_a_fork_passes_the_same_tests() -> None:
    if FORK_IN_USE:
        assert str(fs.__file__).startswith(FORK_IN_USE), "these are the tests of the fork"
        return
    target = ROOT / ".cache" / "packages" / FORK.replace("==", "-")
    if not (target / "fs" / "__init__.py").exists():
        building = target.with_name(f"{target.name}.{os.getpid()}.building")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(building), FORK]
        subprocess.run(install, check=True, capture_output=True)
        building.rename(target)
    environment = {**os.environ, "VFSWASI_PYFILESYSTEM_FORK": str(target), "PYTHONPATH": f"{target}:{ROOT}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
