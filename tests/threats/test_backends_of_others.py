"""W8: a backend of the user's own may be wrong in every way: the process lives, and the guest gets an errno, or the run
ends with what the backend raised."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

import vfswasi
from vfswasi.errors import Errno, FsError, Uncommitted, errno_of
from vfswasi.fs_backends.base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat, Traffic
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.fs_backends.layers.readonly import ReadOnly
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..rawguest import RawGuest
from ..wat_programs import program


class Told(Backend):
    """A small tree in memory. `answers`: by name of a method or attribute, what to call for it."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        self.inner = MemoryBackend({"f": b"hello", "d": {"g": b"x"}})
        self.answers = answers

    def _answer(self, name: str, *args: Any) -> Any:
        if name in self.answers:
            return self.answers[name](*args)
        found = getattr(self.inner, name)
        return found(*args) if callable(found) and name != "identity" else found

    @property
    def caps(self) -> Caps:  # type: ignore[override]
        return self._answer("caps")  # type: ignore[no-any-return]

    @property
    def identity(self) -> object:
        return self._answer("identity")

    @property
    def place(self) -> Key | None:
        return self._answer("place")  # type: ignore[no-any-return]

    def stat(self, key: Key) -> Stat:
        return self._answer("stat", key)  # type: ignore[no-any-return]

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        return self._answer("walk", key, names)  # type: ignore[no-any-return]

    def list(self, key: Key) -> Iterable[DirEntry]:
        return self._answer("list", key)  # type: ignore[no-any-return]

    def open(self, key: Key, write: bool) -> Handle:
        return self._answer("open", key, write)  # type: ignore[no-any-return]

    def readlink(self, key: Key) -> str:
        return self._answer("readlink", key)  # type: ignore[no-any-return]

    def take_uncommitted(self) -> list[Uncommitted]:
        return self._answer("take_uncommitted")  # type: ignore[no-any-return]

    def traffic(self) -> Traffic | None:
        return self._answer("traffic")  # type: ignore[no-any-return]

    def finish(self, keep: bool) -> None:
        self._answer("finish", keep)


class Bare(FsError):
    """An error whose class forgot what it is made of."""

    def __init__(self) -> None:
        pass


def error_of(errno: Any) -> FsError:
    error = FsError(Errno.IO, "planned")
    error.errno = errno
    return error


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


NO_ERRNOS: dict[str, Any] = {
    repr(errno): errno for errno in ("x", 70000, -1, None, 1 << 40, 0, Errno.SUCCESS, [], 1.5, True, 44)
}


# What an FsError carries


@pytest.mark.parametrize("version", ["preview1", "unstable"])
@pytest.mark.parametrize("call", ["open", "walk", "list"])
@pytest.mark.parametrize("errno", [*NO_ERRNOS, "nothing"])
def test_w8_an_error_without_an_errno_is_io(errno: str, call: str, version: str) -> None:
    """The number goes to the guest as it is: what cannot be one must not be written there."""
    error = Bare() if errno == "nothing" else error_of(NO_ERRNOS[errno])
    with RawGuest({"/d": vfswasi.Mount(Told(**{call: raising(error)}), rw=True)}, version=version) as guest:
        if call == "list":
            assert guest.call("fd_readdir", 3, 4096, 4096, 0, 40) is Errno.IO
        else:
            assert guest.try_open("f") == (Errno.IO, -1)
        assert guest.call("fd_fdstat_get", 3, 4096) is Errno.SUCCESS


@pytest.mark.parametrize("errno", [*NO_ERRNOS, "nothing"])
def test_w8_an_error_without_an_errno_can_be_told_of(errno: str) -> None:
    error = Bare() if errno == "nothing" else error_of(NO_ERRNOS[errno])
    assert errno_of(error) is Errno.IO
    assert str(error).startswith("IO")
    with pytest.raises(vfswasi.UncommittedError, match=r"could not be stored: /d \(IO"):
        vfswasi.run(program(""), preopens={"/d": vfswasi.Mount(Told(finish=raising(error)), rw=True)})
    assert errno_of(FsError(Errno.NOSPC)) is Errno.NOSPC


class Forgetful(MemoryBackend):
    """What has `none` in its name is missing, and it says so with an error that carries nothing."""

    def stat(self, key: Key) -> Stat:
        if key and "none" in key[-1]:
            raise Bare
        return super().stat(key)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        return Backend.walk(self, key, names)


def test_w8_our_own_code_compares_an_error_that_carries_nothing() -> None:
    error = Bare()
    assert error.errno is Errno.IO
    assert error.detail == ""
    assert not hasattr(error, "else")
    assert str(error) == "IO"
    assert pickle.loads(pickle.dumps(Plain(Errno.NOENT, "x"))).errno is Errno.NOENT
    store = Forgetful({"d": {"f": b"x"}})
    with pytest.raises(FsError) as caught:
        store.walk((), ("d", "none", "f"))
    assert caught.value.errno is Errno.IO
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        assert guest.try_open("none") == (Errno.IO, -1)
        assert guest.try_open("d/none/f") == (Errno.IO, -1)
        assert guest.try_open("none", oflags=1)[0] is Errno.IO
        assert guest.try_open("d/f")[0] is Errno.SUCCESS


def test_w8_layers_of_ours_compare_an_error_that_carries_nothing() -> None:
    class Missing(MemoryFileSystem):  # type: ignore[misc]
        protocol = "missing"

        def info(self, path: str, **_: Any) -> Any:
            raise Bare

    with pytest.raises(vfswasi.MountError):
        vfswasi.FsspecBackend(Missing(skip_instance_cache=True), "/x", trust=True)
    layered = Faulty(ReadOnly(Told(stat=raising(Bare()), walk=raising(Bare()))))
    for call in (lambda: layered.stat(("f",)), lambda: layered.walk((), ("f",))):
        with pytest.raises(FsError) as caught:
            call()
        assert errno_of(caught.value) is Errno.IO


class Plain(FsError):
    """One that is as it should be."""


# What is asked when it is mounted


class _Unhashable:
    __hash__ = None  # type: ignore[assignment]


ATTRIBUTES: dict[str, tuple[str, Any]] = {
    "no capabilities": ("caps", None),
    "a number as capabilities": ("caps", 7),
    "a text as capabilities": ("caps", "WRITE"),
    "an identity without a hash": ("identity", _Unhashable()),
    "a list as identity": ("identity", []),
    "a text as place": ("place", "local"),
    "no names as place": ("place", ()),
    "a number as place": ("place", 7),
    "numbers as place": ("place", ("local", 7)),
    "a NUL in the place": ("place", ("local", "a\0b")),
    "a list as place": ("place", ["local", "srv"]),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_w8_wrong_attributes_are_told_when_it_is_mounted(name: str) -> None:
    attribute, value = ATTRIBUTES[name]
    backend = Told(**{attribute: lambda: value})
    for source in (backend, vfswasi.Mount(backend), vfswasi.Mount(backend, rw=True)):
        with pytest.raises(TypeError, match=rf"Told\.{attribute} must be"):
            vfswasi.Sandbox(program(""), preopens={"/d": source})


def test_w8_what_an_attribute_raises_is_passed_on() -> None:
    for attribute in ("caps", "identity", "place"):
        with pytest.raises(ZeroDivisionError):
            vfswasi.Sandbox(program(""), preopens={"/d": Told(**{attribute: raising(ZeroDivisionError())})})


# Listings without an end


def _junk(_: Key) -> Iterator[Any]:
    return itertools.repeat(None)


def _doubles(_: Key) -> Iterator[Any]:
    return itertools.repeat(DirEntry("a", FileType.REGULAR_FILE))


def _impossible(_: Key) -> Iterator[Any]:
    return (DirEntry(f"{index}/", FileType.REGULAR_FILE) for index in itertools.count())


READDIR = program(
    "(drop (call $readdir (i32.const 3) (i32.const 4096) (i32.const 4096) (i64.const 0) (i32.const 40)))",
    '(import "wasi_snapshot_preview1" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))',
)


@pytest.mark.parametrize("names", [_junk, _doubles, _impossible])
def test_w8_a_listing_of_nothing_that_can_be_shown_ends_with_the_run(names: Callable[[Key], Any]) -> None:
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(READDIR, preopens={"/d": Told(list=names)}, timeout=0.3)


def test_w8_a_listing_without_an_end_is_an_errno() -> None:
    endless = Told(list=lambda _: (DirEntry(f"{index}", FileType.REGULAR_FILE) for index in itertools.count()))
    with RawGuest({"/d": endless}, limits=vfswasi.Limits(directory_entries=1000)) as guest:
        assert guest.call("fd_readdir", 3, 4096, 4096, 0, 40) is Errno.NOMEM


# What methods raise


def _deeper(*args: Any) -> Any:
    return _deeper(*args)


@pytest.mark.parametrize("call", ["walk", "stat", "list", "open"])
@pytest.mark.parametrize("kind", [RecursionError, SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_w8_what_a_method_raises_ends_the_run_and_reaches_the_caller(kind: type[BaseException], call: str) -> None:
    backend = Told(**{call: _deeper if kind is RecursionError else raising(kind())})
    if call == "stat":  # asked by `Backend.walk`
        backend.answers["walk"] = lambda key, names: Backend.walk(backend, key, names)
    preopens = {"/d": vfswasi.Mount(backend, rw=True)}
    with RawGuest(preopens) as guest, pytest.raises(kind):
        _ = guest.try_open("f"), guest.call("fd_readdir", 3, 4096, 4096, 0, 40)


# What is told at the end


@pytest.mark.parametrize(
    "traffic",
    [7, None, Traffic("a", 0, 0), Traffic(0, None, 0), Traffic(0, 0, -1), Traffic(1.5, 0, 0)],  # type: ignore[arg-type]
)
def test_w8_impossible_numbers_of_requests_are_not_told(traffic: Any) -> None:
    result = vfswasi.run(program(""), preopens={"/d": Told(traffic=lambda: traffic)})
    assert result.returncode == 0
    assert "/d" not in result.traffic


def test_w8_a_store_that_counts_now_and_then() -> None:
    """Whether it tells at the beginning says nothing about the end."""
    told = itertools.cycle([Traffic(1, 2, 3), None, Traffic("a", 2, 3)])  # type: ignore[arg-type]
    for _ in range(5):
        assert vfswasi.run(program(""), preopens={"/d": Told(traffic=lambda: next(told))}).returncode == 0


@pytest.mark.parametrize("path", [7, None, "a\udc00\n", b"bytes", "x" * 100_000])
def test_w8_a_file_that_could_not_be_stored_may_have_any_name(path: Any) -> None:
    def lost() -> list[Uncommitted]:
        return [Uncommitted(path, error_of("x"), 5, lambda _offset, _count: b"", lambda: None)]

    with pytest.raises(vfswasi.UncommittedError, match="could not be stored") as raised:
        vfswasi.run(program(""), preopens={"/d": vfswasi.Mount(Told(take_uncommitted=lost), rw=True)})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("target", [7, None, b"f", "x/" * 5_000_000, "\ud800", ""])
def test_w8_a_link_may_lead_anywhere(target: Any) -> None:
    link = Stat(FileType.SYMBOLIC_LINK, 5)
    backend = Told(readlink=lambda _: target, walk=lambda _key, _names: (1, link), stat=lambda _: link)
    with RawGuest({"/d": backend}) as guest:
        errno, fd = guest.try_open("f")
        assert errno in (Errno.IO, Errno.NAMETOOLONG, Errno.LOOP, Errno.NOENT, Errno.ILSEQ, Errno.INVAL)
        assert fd == -1
