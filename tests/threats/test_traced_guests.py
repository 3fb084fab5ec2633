"""What a guest does to whoever looks at its trace: names that a terminal obeys, pointers that lead nowhere, and more
than anybody can keep."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest

import vfswasi
from vfswasi.errors import Errno
from vfswasi.kernel.paths.places import TEXT_MAX
from vfswasi.observe.trace.lines import as_json

from ..rawguest import FREE, SIZE, RawGuest
from .test_pointers import DATA, EXTREMES, EXTREMES_64, FD, IOVS, OUT, POINTERS, P

EVIL = "\x1b[2J\x1b]0;title\x07\r\n\x9b31m\u202egnp.exe\u2028\x7f\"'\\"


def shown(guest: RawGuest) -> vfswasi.Call:
    """The last call, when it was looked at in each form."""
    call = (guest.wasi.trace or ())[-1]
    assert str(call).isprintable()
    text = as_json(call)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["name"] == call.name
    return call


@pytest.mark.parametrize(
    "data", [EVIL.encode(), b"\xff\xfe\x1b[2J\xc3", b"\x1b" * 100], ids=["text", "no text", "long"]
)
def test_names_and_data_are_printed_so_that_a_terminal_does_nothing(data: bytes) -> None:
    with RawGuest({"/d": {}}, trace=True) as guest:
        for make in (guest.mkdir, guest.unlink, guest.rmdir):
            make(data)
            shown(guest)
        guest.symlink(data, b"link")
        shown(guest)
        if b"\xff" not in data:
            assert guest.readlink("link") == data
            assert shown(guest).results["target"] == data.decode()
            guest.create(data[:200], b"x")
            guest.readdir(3)
            shown(guest)
            guest.tell(4)
            assert "removed" not in str(shown(guest))
        guest.create("file", data)
        shown(guest)
        guest.contents("file")
        shown(guest)


def test_arguments_and_the_environment_too_and_values_are_not_shown() -> None:
    evil = EVIL.replace("\0", "")
    with RawGuest({"/d": {}}, args=["a", evil], env={"SECRET": "hunter2", "b\x1b[2J": "c"}, trace=True) as guest:
        guest.must("args_get", FREE, FREE + 4096)
        assert shown(guest).results["argv"] == ("a", evil)
        guest.must("environ_get", FREE, FREE + 4096)
        call = shown(guest)
    assert call.results["names"] == ("SECRET", "b\x1b[2J")
    assert "hunter2" not in as_json(call) + str(call)


@pytest.mark.parametrize(
    ("name", "args", "size"), POINTERS, ids=[f"{name} {args.index(P)}" for name, args, _ in POINTERS]
)
def test_a_pointer_out_of_memory_is_the_same_fault_and_is_shown(name: str, args: tuple[Any, ...], size: int) -> None:
    with RawGuest({"/d": {"f": b"content"}}, args=["a"], env={"A": "1"}, trace=True) as guest:
        file = guest.open("f")
        guest.poke(OUT, b"fgh")
        guest.poke(IOVS, struct.pack("<II", DATA, 4))
        for bad in (SIZE - size + 1, SIZE, 2**31, 2**32 - size, 2**32 - 1):
            filled = [bad if arg is P else file if arg is FD else arg for arg in args]
            assert guest.call(name, *filled) is Errno.FAULT
            call = shown(guest)
            assert (call.name, call.errno, dict(call.results)) == (name, Errno.FAULT, {})


def test_a_path_out_of_memory_is_shown_as_the_pointer_that_it_was() -> None:
    with RawGuest({"/d": {}}, trace=True) as guest:
        guest.call("path_unlink_file", 3, 2**32 - 16, 8)
        call = shown(guest)
    assert (call.arguments["path"], call.path) == (2**32 - 16, None)
    assert "0xfffffff0" in str(call)


@pytest.mark.parametrize("version", ["preview1", "unstable"])
def test_any_numbers_for_any_function_are_answered_as_without_a_trace(version: str) -> None:
    rng = random.Random(version)
    apart = {"proc_exit", "proc_raise", "fd_allocate", "fd_filestat_set_size", "clock_time_get", "random_get"}
    apart |= {"fd_filestat_get", "path_filestat_get"}  # which give the times of two guests
    tree = {"f": b"content", "sub": {"g": b"more"}}
    with (
        RawGuest({"/d": tree}, version=version, trace=True) as traced,
        RawGuest({"/d": tree}, version=version) as plain,
    ):
        names = sorted(set(plain.abi.functions) - apart)
        for turn in range(1500):
            if turn % 100 == 0:
                for guest in (traced, plain):
                    guest.poke(OUT, b"f\0\0\0new/../sub".ljust(64, b"\0"))
                    guest.poke(IOVS, struct.pack("<IIII", DATA, 16, OUT, 8))
            name = rng.choice(names)
            types = plain.abi.functions[name]
            args = [rng.choice(EXTREMES if letter == "i" else EXTREMES_64) for letter in types]
            if name == "poll_oneoff":
                args[0] = SIZE
            elif types and rng.random() < 0.7:
                args[0] = rng.choice([3, 4, 5])
            assert traced.call(name, *args) is plain.call(name, *args), (name, args)
            shown(traced)
        assert traced.peek(0, IOVS) == plain.peek(0, IOVS)


def test_texts_are_cut_and_so_is_what_is_kept_of_them() -> None:
    long = "ä" * 2000
    with RawGuest({"/d": {}}, trace=True, limits=vfswasi.Limits(path_bytes=4095)) as guest:
        guest.unlink("a/" * 1000)
        call = shown(guest)
        assert len(call.arguments["path"]) <= TEXT_MAX + 3
        assert len(call.path or "") <= TEXT_MAX + 3
        guest.unlink(long)
        assert len(shown(guest).arguments["path"]) <= TEXT_MAX + 3
        guest.symlink(long, "link")
        assert len(shown(guest).arguments["old_path"]) <= TEXT_MAX + 3
        guest.call("path_unlink_file", 3, 0, SIZE)
        assert len(str(shown(guest))) < 10 * TEXT_MAX  # NULs, escaped


def test_of_a_hundred_thousand_iovecs_few_are_looked_at() -> None:
    count = 20_000
    with RawGuest({"/d": {}}, trace=True) as guest:
        file = guest.create("f")
        guest.poke(FREE, struct.pack("<II", DATA, 1) * 1000)
        guest.call("fd_write", file, FREE, count, OUT)
        call = shown(guest)
        assert (call.arguments["iovs"], call.arguments["nbytes"]) == (count, 1000)
        assert len(call.arguments["data"]) == 32
        guest.call("poll_oneoff", FREE, DATA, 2**28, OUT)
        shown(guest)
        guest.call("fd_write", file, FREE, 2**32 - 1, OUT)
        shown(guest)


def test_results_that_overwrite_the_arguments_are_shown_as_they_came() -> None:
    with RawGuest({"/d": {"f": b"content"}}, trace=True) as guest:
        file = guest.open("f")
        guest.poke(IOVS, struct.pack("<II", IOVS, 8))  # the data lands on the iovec
        assert guest.call("fd_read", file, IOVS, 1, OUT) is Errno.SUCCESS
        call = shown(guest)
        assert (call.results["nread"], call.results["data"]) == (7, b"content")
        guest.seek(file, 0)
        guest.poke(IOVS, struct.pack("<II", DATA, 4))
        assert guest.call("fd_read", file, IOVS, 1, DATA) is Errno.SUCCESS  # the count lands on the data
        assert shown(guest).results["nread"] == 4


def test_a_store_whose_names_are_hostile_is_printed_so_too() -> None:
    source = vfswasi.MemoryBackend({"a\x1b[2Jb": {"\u202ec": b""}})
    with RawGuest({"/d\x1b[31m": source}, trace=True) as guest:
        directory = guest.opendir("a\x1b[2Jb")
        guest.readdir(directory)
        call = shown(guest)
    assert "\\x1b[2J" in str(call)
    assert call.mount == "/d\x1b[31m"


def test_refusals_of_hostile_names_are_printed_so_too() -> None:
    with RawGuest({"/d": vfswasi.Mount({}, rw=False)}) as guest:
        guest.mkdir(EVIL)
        guest.call("path_create_directory", 3, 2**32 - 1, 100)
        guest.call("path_create_directory", 3, 0, SIZE)
        known = guest.wasi._process.refusals
    if known is None:
        pytest.fail("nothing was noted")
    from vfswasi.host.results.refused import refusals_of

    for each in refusals_of(guest.wasi._process, True):
        assert str(each).isprintable()
        assert each.told(command_line=True).isprintable()
        assert len(str(each)) < 10 * TEXT_MAX


def test_an_error_of_a_strangers_store_cannot_do_anything_by_what_it_says() -> None:
    class Hostile(vfswasi.FsError):
        @property
        def detail(self) -> str:  # type: ignore[override]
            raise KeyboardInterrupt

    class Text(str):
        def __getitem__(self, key: Any) -> str:
            raise ZeroDivisionError

    errors = [
        lambda: vfswasi.FsError(Errno.IO, Text("x")),
        lambda: vfswasi.FsError(Errno.IO, 7),  # type: ignore[arg-type]
        lambda: vfswasi.FsError(Errno.IO, "\x1b[2J\n" * 10_000),
    ]
    for traced in (None, True):
        for make in errors:

            class Store(vfswasi.MemoryBackend):
                def mkdir(self, key: Any, make: Any = make) -> None:
                    raise make()

            with RawGuest({"/d": vfswasi.Mount(Store({}), rw=True)}, trace=traced) as guest:
                assert guest.mkdir("x") is Errno.IO
                known = guest.wasi._process.refusals
            assert known is not None
            assert len(known.newest_first()[0].detail) <= 300
