"""The usual outcome of a call by path asks the store once, so that a system call of the guest is one of the host's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink

from ..rawguest import RawGuest

TREE: dict[str, Any] = {
    "d": {"f": b"data", "l": Symlink("f"), "e": {}, "full": {"x": b""}},
    "in": Symlink("d"),
    "out": Symlink("../d"),
}
CALLS = "stat walk list open create mkdir rmdir remove readlink".split()


def counted(backend: Backend) -> list[str]:
    """The names of the calls that the backend gets, from now on."""
    seen: list[str] = []

    def counting(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted_call(*args: object) -> object:
            seen.append(name)
            return call(*args)

        return counted_call

    for name in CALLS:
        setattr(backend, name, counting(name, getattr(backend, name)))
    return seen


def build(place: Path, tree: dict[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            (place / name).mkdir()
            build(place / name, value)
        elif isinstance(value, Symlink):
            (place / name).symlink_to(value.target)
        else:
            (place / name).write_bytes(value)


@pytest.fixture(params=["memory", "local", "local, by component"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend(TREE)
        return
    build(tmp_path, TREE)
    backend = LocalBackend(tmp_path, use_openat2=None if request.param == "local" else False)
    yield backend
    backend.close()


@pytest.fixture
def guest(store: Backend) -> Iterator[RawGuest]:
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=False) as guest:
        yield guest


def path_of(guest: RawGuest, path: str) -> tuple[int, int]:
    raw = path.encode()
    guest.poke(0x20000, raw)
    return 0x20000, len(raw)


def act(guest: RawGuest, name: str, path: str) -> Errno:
    at = path_of(guest, path)
    if name == "path_readlink":
        return guest.call(name, 3, *at, 0x21000, 64, 0x22000)
    if name == "path_filestat_get":
        return guest.call(name, 3, 0, *at, 0x21000)
    return guest.call(name, 3, *at)


@pytest.mark.parametrize(
    ("name", "path", "errno", "calls"),
    [
        ("path_filestat_get", "d/f", Errno.SUCCESS, ["walk"]),
        ("path_filestat_get", "d/none", Errno.NOENT, ["walk"]),
        ("path_create_directory", "d/new", Errno.SUCCESS, ["mkdir"]),
        ("path_remove_directory", "d/e", Errno.SUCCESS, ["rmdir"]),
        ("path_remove_directory", "d/full", Errno.NOTEMPTY, ["rmdir"]),
        ("path_unlink_file", "d/f", Errno.SUCCESS, ["remove"]),
        ("path_readlink", "d/l", Errno.SUCCESS, ["readlink"]),
        ("path_readlink", "d/f", Errno.INVAL, ["readlink"]),
        ("path_readlink", "d/none", Errno.NOENT, ["readlink"]),
    ],
)
def test_the_usual_outcome_is_one_call(
    guest: RawGuest, store: Backend, name: str, path: str, errno: Errno, calls: list[str]
) -> None:
    seen = counted(store)
    assert act(guest, name, path) is errno
    assert seen == calls


@pytest.mark.parametrize(
    ("name", "path", "errno"),
    [
        ("path_create_directory", "in/new", Errno.SUCCESS),
        ("path_create_directory", "out/new", Errno.NOTCAPABLE),
        ("path_create_directory", "d/f", Errno.EXIST),
        ("path_create_directory", "d/l", Errno.EXIST),
        ("path_create_directory", "in", Errno.EXIST),
        ("path_create_directory", "d/f/new", Errno.NOTDIR),
        ("path_create_directory", "none/new", Errno.NOENT),
        ("path_create_directory", "d/./new/", Errno.SUCCESS),
        ("path_remove_directory", "in/e", Errno.SUCCESS),
        ("path_remove_directory", "out/e", Errno.NOTCAPABLE),
        ("path_remove_directory", "in", Errno.NOTDIR),
        ("path_remove_directory", "d/f", Errno.NOTDIR),
        ("path_remove_directory", "d/none", Errno.NOENT),
        ("path_readlink", "in/l", Errno.SUCCESS),
        ("path_readlink", "in/f", Errno.INVAL),
        ("path_readlink", "in/none", Errno.NOENT),
        ("path_readlink", "out/l", Errno.NOTCAPABLE),
        ("path_readlink", "d", Errno.INVAL),
        ("path_readlink", "d/f/l", Errno.NOTDIR),
        ("path_readlink", "none/l", Errno.NOENT),
        ("path_readlink", "d/l/", Errno.NOTDIR),
    ],
)
def test_any_other_outcome_is_that_of_a_walk(guest: RawGuest, name: str, path: str, errno: Errno) -> None:
    assert act(guest, name, path) is errno


def test_a_directory_that_is_open_and_removed_is_nameless(guest: RawGuest) -> None:
    fd = guest.opendir("d/e")
    assert act(guest, "path_remove_directory", "d/e") is Errno.SUCCESS
    assert guest.call("path_create_directory", fd, *path_of(guest, "x")) is Errno.NOENT
    assert act(guest, "path_create_directory", "d/e") is Errno.SUCCESS
    assert guest.call("path_create_directory", fd, *path_of(guest, "x")) is Errno.NOENT


def test_what_is_there_already_is_told_before_that_there_is_no_room(store: Backend) -> None:
    limits = vfswasi.Limits(inodes=1)
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=False, limits=limits) as guest:
        assert act(guest, "path_create_directory", "new") is Errno.SUCCESS
        assert act(guest, "path_create_directory", "new") is Errno.EXIST
        assert act(guest, "path_create_directory", "d/f/new") is Errno.NOTDIR
        assert act(guest, "path_create_directory", "newer") is Errno.DQUOT
        assert act(guest, "path_remove_directory", "new") is Errno.SUCCESS
        assert act(guest, "path_create_directory", "newer") is Errno.SUCCESS
