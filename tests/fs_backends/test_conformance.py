"""The conformance kit over every backend and wrapper."""

from __future__ import annotations

import io
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from examples.mapping_backend import MappingBackend
from vfswasi.fs_backends.base import Backend, Caps
from vfswasi.fs_backends.local import LocalBackend
from vfswasi.fs_backends.memory import MemoryBackend, Symlink
from vfswasi.fs_backends.readonly import ReadOnly
from vfswasi.fs_backends.zip import ZipBackend
from vfswasi.testing import BackendConformance


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
