"""docs/trust.md: its table is the one that the code makes, and what it says of a class is what happens to an object."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from vfswasi import MountError
from vfswasi.fs_backends import trust
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.trust import fsspec as for_fsspec
from vfswasi.fs_backends.trust import pyfilesystem as for_pyfilesystem
from vfswasi.mounts.finding import sources

from .. import trust_table

CLASSES = sorted(set(trust_table.implementations().values()))


def test_the_table_is_the_one_that_the_code_makes() -> None:
    assert trust_table.parts()[1] == trust_table.table(), "python -m tests.trust_table writes it again"


def test_the_table_has_every_implementation_that_fsspec_knows() -> None:
    rows = trust_table.parts()[1]
    for protocol, name in trust_table.implementations().items():
        assert f"`{protocol}`" in rows
        assert f"`{name}`" in rows
    assert len(CLASSES) > 40


@pytest.mark.parametrize("name", CLASSES)
def test_an_object_of_the_class_becomes_what_the_table_says(name: str, tmp_path: Path) -> None:
    """An object without a connection: it has the class, and what the class forwards to."""
    module, _, attribute = name.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        assert trust_table.of_fsspec(name), "not installed; the name decides"
        return
    if name in for_fsspec.CACHES:
        store = cls(fs=LocalFileSystem())
    else:
        store = cls.__new__(cls)
        quiet = SimpleNamespace(close=lambda: None)
        vars(store).update(asynchronous=False, path=str(tmp_path), ftp=quiet, zip=quiet)
        vars(store).update(fs=LocalFileSystem(), sync_fs=LocalFileSystem())
    expected = trust_table.of_fsspec(name)
    found: Any
    for path in ("/", str(tmp_path)):
        try:
            found = for_fsspec.resolved(store, "" if name == for_fsspec.DIRECTORY else path)
        except MountError as error:
            found = str(error)
        nature = for_fsspec.NATURES.get(name, trust.UNKNOWN)
        if expected.startswith(trust_table.FORWARDS) or expected == trust_table.LOCAL:
            assert isinstance(found, for_fsspec.Directory)
        elif expected.startswith("refused") or (nature.resolves and path != "/"):
            assert isinstance(found, str)
        elif name != for_fsspec.ARROW:
            assert isinstance(found, for_fsspec.Store)
            assert found.nature is nature
    if expected == trust_table.REFUSED:
        vouched = for_fsspec.resolved(store, "/", trust=True)
        assert isinstance(vouched, for_fsspec.Store)
        assert vouched.nature.walked


def _of_the_library(name: str, place: Path) -> Any:
    """An object of a class of PyFilesystem2 over a directory or in memory; None: not without a server, or abstract."""
    module, _, attribute = name.rpartition(".")
    cls = getattr(importlib.import_module(module), attribute)
    osfs, memory = importlib.import_module("fs.osfs"), importlib.import_module("fs.memoryfs")
    if name in for_pyfilesystem.WRAPPERS:
        return cls(osfs.OSFS(str(place)), *(("/",) if "SubFS" in name else ()))
    if name in ("fs.mountfs.MountFS", "fs.multifs.MultiFS", "fs.memoryfs.MemoryFS", "fs.tempfs.TempFS"):
        store = cls()
        if hasattr(store, "mount"):
            store.mount("m", osfs.OSFS(str(place)))
        elif hasattr(store, "add_fs"):
            store.add_fs("m", osfs.OSFS(str(place)))
        return store
    if name == "fs.osfs.OSFS":
        return cls(str(place))
    if name in for_pyfilesystem.PACKED:
        return cls(str(place / "archive"), temp_fs=memory.MemoryFS())
    return None


@pytest.mark.parametrize("name", trust_table.classes_of_pyfilesystem())
def test_an_object_of_pyfilesystem_becomes_what_the_table_says(name: str, tmp_path: Path) -> None:
    store = _of_the_library(name, tmp_path)
    expected = trust_table.of_pyfilesystem(name)
    assert expected
    if store is None:
        return
    try:
        backend = sources.open_source(store)
    except MountError:
        assert "refused" in expected
        return
    if expected in (trust_table.LOCAL, trust_table.FORWARDS):
        assert isinstance(backend, LocalBackend)
    else:
        assert expected.startswith("mounted")
    backend.close()
    store.close()


def test_nothing_is_imported_to_recognise_a_class() -> None:
    """A package that is not there recognises nothing."""
    assert not trust.exact(object(), "no_such_package.Class")
    assert "no_such_package" not in sys.modules
