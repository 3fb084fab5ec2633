"""The conformance kit over every backend and wrapper."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from examples.mapping_backend import MappingBackend
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat
from vfswasi.fs_backends.layers.readonly import ReadOnly
from vfswasi.fs_backends.layers.timed import Account, Timed
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import TREE

ROOT = Path(__file__).parents[2]


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


def _zip(writer: zipfile.ZipFile, tree: dict[str, Any], where: str, method: int) -> None:
    for name, value in tree.items():
        info = zipfile.ZipInfo(f"{where}{name}", (2026, 1, 2, 3, 4, 6))
        info.compress_type = method
        info.create_system = 3
        if isinstance(value, dict):
            info.filename += "/"
            info.external_attr = (stat.S_IFDIR | 0o755) << 16
            writer.writestr(info, b"")
            _zip(writer, value, f"{where}{name}/", method)
        elif isinstance(value, Symlink):
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            writer.writestr(info, value.target.encode())
        else:
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            writer.writestr(info, value)


def _archive(tree: dict[str, Any], method: int) -> io.BytesIO:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        _zip(writer, tree, "", method)
    return archive


class TestMemory(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return MemoryBackend(tree)


class TestReadOnlyMemory(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return ReadOnly(MemoryBackend(tree))


class TestTimedMemory(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return Timed(MemoryBackend(tree), Account())


class _Local(BackendConformance):
    use_openat2 = True

    def make(self, tree: dict[str, Any]) -> Backend:
        root = Path(tempfile.mkdtemp(prefix="vfswasi-test-"))
        _write(root, tree)
        return _Temporary(root, use_openat2=self.use_openat2)


class _Temporary(LocalBackend):
    """Removes its directory when it is closed."""

    def __init__(self, root: Path, *, use_openat2: bool) -> None:
        super().__init__(root, use_openat2=use_openat2)
        self._remove = root

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._remove)


class TestLocal(_Local):
    pass


class TestLocalByComponent(_Local):
    use_openat2 = False


class TestReadOnlyLocal(_Local):
    def make(self, tree: dict[str, Any]) -> Backend:
        return ReadOnly(super().make(tree))


class TestZipStored(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return ZipBackend(_archive(tree, zipfile.ZIP_STORED))


class TestZipDeflated(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return ZipBackend(_archive(tree, zipfile.ZIP_DEFLATED))


class _Forgetful(MemoryBackend):
    """A store that can do little: no links, no times, and whose kernel-visible capabilities say so."""

    caps = Caps.WRITE | Caps.RANDOM_WRITE | Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK | Caps.ATOMIC_RENAME
    symlink = Backend.symlink
    link = Backend.link
    set_times = Backend.set_times


class TestWithoutLinksAndTimes(BackendConformance):
    symlinks_in_tree = False

    def make(self, tree: dict[str, Any]) -> Backend:
        return _Forgetful(tree)


class TestTheExampleOfTheDocumentation(BackendConformance):
    symlinks_in_tree = False
    empty_dirs_in_tree = False

    def make(self, tree: dict[str, Any]) -> Backend:
        def flatten(below: dict[str, Any], where: str = "") -> Any:
            for name, value in below.items():
                if isinstance(value, dict):
                    yield from flatten(value, f"{where}{name}/")
                else:
                    yield f"{where}{name}", value

        return MappingBackend(dict(flatten(tree)))


# The kit itself: each of these stores breaks one promise, and the named test has to notice.


class _WalksThroughFiles(MemoryBackend):
    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        try:
            return super().walk(key, names)
        except FsError:
            return 0, None


class _FollowsLinks(MemoryBackend):
    def open(self, key: Key, write: bool) -> Handle:
        if self.stat(key).filetype is FileType.SYMBOLIC_LINK:
            key = (*key[:-1], self.readlink(key))
        return super().open(key, write)


class _ForgetsIdents(MemoryBackend):
    def list(self, key: Key) -> Iterable[DirEntry]:
        return [entry._replace(ident=None) for entry in super().list(key)]


class _Normalises(MemoryBackend):
    def list(self, key: Key) -> Iterable[DirEntry]:
        return [entry._replace(name=unicodedata.normalize("NFC", entry.name)) for entry in super().list(key)]


class _CreatesOverFiles(MemoryBackend):
    def create(self, key: Key) -> Handle:
        if key and key[-1] == "file":
            self.remove(key)
        return super().create(key)


class _WritesThroughReaders(MemoryBackend):
    def open(self, key: Key, write: bool) -> Handle:
        return super().open(key, True)


class _RemovesFullDirectories(MemoryBackend):
    def rename(self, old: Key, new: Key) -> None:
        for entry in list(self.list(new)) if new == ("dir",) else []:
            if entry.filetype is FileType.REGULAR_FILE:
                self.remove((*new, entry.name))
        super().rename(old, new)


class _RoundsTimes(MemoryBackend):
    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        super().set_times(key, atim_ns and atim_ns // 10**9 * 10**9, mtim_ns and mtim_ns // 10**9 * 10**9)


class _ForgetsUnlinkedFiles(MemoryBackend):
    def remove(self, key: Key) -> None:
        if self.stat(key).size:
            self.open(key, True).truncate(0)
        super().remove(key)


class _RaisesPythonsErrors(MemoryBackend):
    def mkdir(self, key: Key) -> None:
        try:
            super().mkdir(key)
        except FsError as error:
            raise FileExistsError from error


class _LeavesTraces(MemoryBackend):
    def rename(self, old: Key, new: Key) -> None:
        try:
            super().rename(old, new)
        except FsError:
            self.create(("trace",)).close()
            raise


class _TakesLinksItHasNot(MemoryBackend):
    caps = MemoryBackend.caps & ~Caps.HARDLINKS


@pytest.mark.parametrize(
    ("broken", "test", "more"),
    [
        (_WalksThroughFiles, "test_walk", ()),
        (_FollowsLinks, "test_symbolic_links_are_looked_at_and_not_followed", None),
        (_ForgetsIdents, "test_list", ()),
        (_Normalises, "test_awkward_names", None),
        (_CreatesOverFiles, "test_create_is_exclusive", (True,)),
        (_WritesThroughReaders, "test_a_handle_for_reading_does_not_write", ()),
        (_RemovesFullDirectories, "test_rename", (True, ("target",), ("dir",), Errno.NOTEMPTY)),
        (_RoundsTimes, "test_times", (True,)),
        (_ForgetsUnlinkedFiles, "test_removing_files", (True,)),
        (_RaisesPythonsErrors, "test_directories", (True,)),
        (_LeavesTraces, "test_a_call_that_fails_changes_nothing", ()),
        (_TakesLinksItHasNot, "test_hard_links", (True,)),
    ],
)
def test_the_kit_notices(broken: type[MemoryBackend], test: str, more: tuple[Any, ...] | None) -> None:
    """`more`: arguments after the backend, None where the test makes its own."""

    def run(kind: type[MemoryBackend]) -> None:
        kit = BackendConformance()
        kit.make = kind  # type: ignore[assignment, method-assign]
        getattr(kit, test)(*(() if more is None else (kind(TREE), *more)))

    run(MemoryBackend)
    with pytest.raises((AssertionError, FsError, OSError)):
        run(broken)


def test_the_kit_says_that_it_needs_pytest() -> None:
    program = """if True:
        import sys
        sys.modules["pytest"] = None
        import vfswasi, vfswasi.testing
        try:
            from vfswasi.testing import BackendConformance
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "the conformance kit needs pytest: pip install pytest\n"


def test_a_failure_of_the_kit_shows_values(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from vfswasi.fs_backends.memory.backend import MemoryBackend\n"
        "from vfswasi.testing import BackendConformance\n"
        "class TestMine(BackendConformance):\n"
        "    def make(self, tree):\n"
        "        return MemoryBackend({'unexpected': b''})\n"
    )
    program = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        "-k",
        "test_list",
        str(tmp_path),
    ]
    done = subprocess.run([sys.executable, *program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Extra items in the left set:" in done.stdout
    assert "'unexpected'" in done.stdout
