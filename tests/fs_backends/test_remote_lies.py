"""File systems of fsspec and PyFilesystem2, and backends, that say what no store can mean: IO, or a name less; the run
and the rest of the mount go on."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vfswasi import Errno, Mount
from vfswasi.errors import FsError
from vfswasi.fs_backends.base import Backend, DirEntry, FileType, Handle, Key, Stat
from vfswasi.fs_backends.remote.entries import nanoseconds

from ..rawguest import GuestErrno, RawGuest

GOOD = {"name": "/lies/good", "type": "file", "size": 4, "mtime": 1e9}


class Liar(MemoryFileSystem):  # type: ignore[misc]
    """`odd` is described and read as it is told; `good` is as it should be."""

    protocol = "liar"  # far away: it is listed first, and remembered

    def __init__(self, entry: Any, data: Any = b"data", **options: Any) -> None:
        super().__init__(**options)
        self.entry, self.data = entry, data

    def _entry(self) -> Any:
        if isinstance(self.entry, BaseException):
            raise self.entry
        return self.entry

    def info(self, path: str, **_: Any) -> Any:
        if path.endswith("/odd"):
            return self._entry()
        if path.endswith("/good"):
            return GOOD
        if path.rstrip("/").endswith("lies"):
            return {"name": "/lies", "type": "directory", "size": 0}
        raise FileNotFoundError(path)

    def ls(self, path: str, **_: Any) -> Any:
        return [self._entry(), GOOD]

    def cat_file(self, path: str, start: int = 0, end: int | None = None, **_: Any) -> Any:
        if path.endswith("/good"):
            return b"good"[start:end]
        if isinstance(self.data, BaseException):
            raise self.data
        return self.data


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "/lies/odd", "type": "file", "size": 4, "mtime": 1e9, **changes}


class Moody:
    def __str__(self) -> str:
        raise KeyError("moody")

    __eq__ = __hash__ = __bool__ = __index__ = __str__  # type: ignore[assignment]


class Zone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> Any:
        raise KeyError("zone")


LEFT_OUT: list[Any] = [
    None, 7, "odd", [], {}, Moody(), {"name": "/lies/odd", "size": Moody()},
    *(entry(size=size) for size in (-5, 2**63, 2**64, "abc", "4", True, 1.5, float("nan"), float("inf"), [], Moody())),
    *(entry(name=name) for name in (None, 7, b"/lies/odd", "", "/lies/", "/lies/.", "/lies/..", "/lies/nul\0",
                                    "/lies/\udcff", "/lies/" + "x" * 256, Moody())),
]  # fmt: skip
KEPT: list[Any] = [
    *(entry(mtime=time) for time in (None, "", "soon", "0000-01-01", float("inf"), float("nan"), 10**400, [],
                                     datetime.datetime.min, datetime.datetime.max, Moody(),
                                     datetime.datetime(2020, 1, 1, tzinfo=Zone()), True)),
    entry(size=4.0), entry(ETag=Moody()), entry(ETag=["x"]), entry(type=None), entry(extra=Moody()),
]  # fmt: skip


def in_guest(fs: Any) -> RawGuest:
    return RawGuest({"/d": Mount(fs, root="/lies", cache=0, timeout=5, trust=True)})


@pytest.mark.parametrize("odd", LEFT_OUT, ids=lambda odd: f"{type(odd).__name__}")
def test_an_entry_that_no_store_can_mean_is_left_out_and_the_others_are_there(odd: Any) -> None:
    with in_guest(Liar(odd, skip_instance_cache=True)) as guest:
        assert guest.names() == [b"good"]
        assert guest.contents("good") == b"good"
        assert guest.try_open("odd")[0] in (Errno.NOENT, Errno.IO)
        assert guest.names() == [b"good"]


@pytest.mark.parametrize("odd", KEPT, ids=lambda odd: f"{odd!r:.30}" if "Moody" not in repr(type(odd)) else "moody")
def test_what_does_not_matter_does_not_keep_a_file_from_being_read(odd: Any) -> None:
    with in_guest(Liar(odd, skip_instance_cache=True)) as guest:
        assert sorted(guest.names()) == [b"good", b"odd"]
        assert guest.stat("odd").size == 4
        assert guest.contents("odd") == b"data"


@pytest.mark.parametrize("kind", ["socket", 7, b"file", [], Moody()], ids=lambda kind: type(kind).__name__)
def test_what_is_of_no_known_kind_is_no_file(kind: Any) -> None:
    with in_guest(Liar(entry(type=kind), skip_instance_cache=True)) as guest:
        assert guest.contents("good") == b"good"
        assert guest.try_open("odd")[0] in (Errno.ACCES, Errno.NOENT)


RAISED: list[BaseException] = [
    KeyError("x"), StopIteration(), RecursionError(), ZeroDivisionError(), MemoryError(),
    UnicodeDecodeError("a", b"", 0, 1, ""), OSError(), OSError("no number"), OSError(99999, "odd"),
    asyncio.CancelledError(), GeneratorExit(), SystemExit(3),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_library_raises_is_an_errno(error: BaseException) -> None:
    with in_guest(Liar(entry(), error, skip_instance_cache=True)) as guest:
        with pytest.raises(GuestErrno):
            guest.contents("odd")
        assert guest.contents("good") == b"good"
    fs = Liar(entry(), skip_instance_cache=True)
    with in_guest(fs) as guest:
        fs.entry = error
        with pytest.raises(GuestErrno):
            guest.names()


def _entries() -> Iterator[Any]:
    yield GOOD


@pytest.mark.parametrize(
    "listed", [None, 7, "text", {"name": GOOD}, b"bytes", _entries(), Moody()], ids=lambda listed: type(listed).__name__
)
def test_a_directory_that_is_no_list_is_io(listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liar, "ls", lambda *_, **__: listed)
    with in_guest(Liar(entry(), skip_instance_cache=True)) as guest:
        with pytest.raises(GuestErrno) as caught:
            guest.names()
        assert caught.value.errno is Errno.IO


@pytest.mark.parametrize("data", [None, 7, "text", b"", b"dat", b"data and more", [b"data"]], ids=repr)
def test_contents_that_are_others_than_was_asked_for_are_io(data: Any) -> None:
    with in_guest(Liar(entry(), data, skip_instance_cache=True)) as guest:
        with pytest.raises(GuestErrno) as caught:
            guest.contents("odd")
        assert caught.value.errno is Errno.IO


@pytest.mark.parametrize("data", [bytearray(b"data"), memoryview(b"data")], ids=["bytearray", "memoryview"])
def test_any_kind_of_bytes_will_do(data: Any) -> None:
    with in_guest(Liar(entry(), data, skip_instance_cache=True)) as guest:
        assert guest.contents("odd") == b"data"


def test_times_that_are_none() -> None:
    for value in (None, True, "x", 10**400, float("inf"), 2**70, Moody(), datetime.datetime(1, 1, 1), b"1", ()):
        assert nanoseconds(value) is None or isinstance(value, datetime.datetime)
    assert nanoseconds(1.5) == 1_500_000_000


# Backends of the user's own

NUMBERS: list[Any] = [None, "7", -1, -5, 2**64, 2**70, 1.5, print, True]


class Own(Backend):
    """A directory with one file, which are what it is told."""

    def __init__(self, **told: Any) -> None:
        self.told = told

    def stat(self, key: Key) -> Stat:
        if not key:
            return Stat(FileType.DIRECTORY, 0)
        told: Stat = self.told.get("stat", Stat(FileType.REGULAR_FILE, 4))
        return told

    def list(self, key: Key) -> Any:
        return self.told.get("list", [DirEntry("f", FileType.REGULAR_FILE)])

    def open(self, key: Key, write: bool) -> Any:
        return self.told.get("open") or OwnHandle(self)

    def readlink(self, key: Key) -> Any:
        return self.told["target"]


class OwnHandle(Handle):
    def __init__(self, backend: Own) -> None:
        self.backend = backend

    def stat(self) -> Stat:
        return self.backend.stat(("f",))

    def read_into(self, offset: int, buf: Any) -> Any:
        return self.backend.told.get("count", 0)


def met(told: dict[str, Any]) -> list[Errno]:
    """What a guest meets that lists, looks, opens and reads."""
    found = []
    with RawGuest({"/d": Own(**told)}) as guest:
        for call in (
            lambda: guest.names(),
            lambda: guest.stat("f", follow=False),
            lambda: guest.readlink("f"),
            lambda: guest.fstat(guest.open("f")),
            lambda: guest.read(guest.open("f"), 10),
        ):
            try:
                call()
                found.append(Errno.SUCCESS)
            except GuestErrno as error:
                found.append(error.errno)
    return found


STATS = [
    *({"stat": Stat(FileType.REGULAR_FILE, 4)._replace(**{field: number})}
      for field in ("size", "filetype", "nlink") for number in NUMBERS if not (field != "size" and number is True)),
    *({"stat": Stat(FileType.REGULAR_FILE, 4)._replace(ident=number)} for number in NUMBERS if number is not None),
    *({"stat": stat} for stat in (None, 7, (4, 3), "stat")),
]  # fmt: skip


@pytest.mark.parametrize("told", STATS, ids=repr)
def test_a_stat_that_nothing_can_have_is_io(told: dict[str, Any]) -> None:
    found = met(told)
    assert found[0] is Errno.SUCCESS
    assert found[1] is Errno.IO
    assert Errno.SUCCESS not in found[2:]


@pytest.mark.parametrize("number", [None, "7", -1, 11, 2**31, 1.5, True], ids=repr)
def test_a_read_of_an_impossible_length_is_io(number: Any) -> None:
    assert met({"count": number})[4] is Errno.IO


@pytest.mark.parametrize("number", [None, 7, b"x", "\ud800"], ids=ascii)
def test_a_link_to_what_is_no_text_is_io(number: Any) -> None:
    told = {"stat": Stat(FileType.SYMBOLIC_LINK, 4), "target": number}
    assert met(told)[2] is Errno.IO


def test_an_open_that_gives_no_handle_is_io() -> None:
    assert met({"open": object()})[3] is Errno.IO


ENTRIES: list[Any] = [
    None, 7, "odd", ("odd", 4), DirEntry("odd", 77), DirEntry("odd", None),  # type: ignore[arg-type]
    *(DirEntry(name, FileType.REGULAR_FILE)
      for name in (None, 7, b"odd", "", ".", "..", "a/b", "nul\0", "\udcff", "x" * 256)),
    *(DirEntry("odd", FileType.REGULAR_FILE, number) for number in NUMBERS if number is not None),
    DirEntry("f", FileType.REGULAR_FILE),
]  # fmt: skip


@pytest.mark.parametrize("odd", ENTRIES, ids=lambda odd: f"{odd!a:.40}")
def test_an_entry_that_is_no_name_is_left_out(odd: Any) -> None:
    with RawGuest({"/d": Own(list=[odd, DirEntry("f", FileType.REGULAR_FILE)])}) as guest:
        assert guest.names() == [b"f"]


def test_what_a_method_raises_is_passed_on() -> None:
    class Failing(Own):
        def list(self, key: Key) -> Any:
            yield DirEntry("f", FileType.REGULAR_FILE)
            raise FsError(Errno.ACCES)

    with RawGuest({"/d": Failing()}) as guest, pytest.raises(GuestErrno) as caught:
        guest.names()
    assert caught.value.errno is Errno.ACCES
