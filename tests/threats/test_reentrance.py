"""W9: no view of a guest's memory lives across code of the host's, which may let the memory move."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine.memory import HostMemory
from vfswasi.errors import Errno
from vfswasi.fs_backends.layers.faulty import Call, Faulty
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest
from ..wat_programs import program
from .meddler import CALLS, RESULT

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("answered_by", ["python", "vdso"])
def test_w9_memory_that_moves_in_the_middle_of_a_call(answered_by: str) -> None:
    """Streams and a store call the guest, which lets its memory grow; what they give still arrives."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.threats.meddler", answered_by],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert done.stdout.split() == list(CALLS)


@pytest.mark.parametrize("vdso", [False, True])
@pytest.mark.parametrize("by", ["a stream", "a store"])
def test_w9_a_system_call_in_the_middle_of_another_is_refused(by: str, vdso: bool) -> None:
    """Whatever that call is, and whoever makes it; the first one goes on if the host's code wants it to."""
    told: list[str] = []
    act: list[Callable[[], Any]] = []

    def meddle(_: object = None) -> None:
        if act:
            try:
                act.pop()()
            except vfswasi.WasiStateError as error:
                told.append(str(error))

    store = Faulty(MemoryBackend({"f": b"x" * 100}), meddle)
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, stdout=meddle, vdso=vdso) as guest:
        fd = guest.open("f", base=ALL_FILE_RIGHTS)
        for _ in range(60):
            guest.pread(fd, 10, 0)
        guest.poke(FREE, b"abcde")
        inner: dict[str, Callable[[], Any]] = {
            "read": lambda: guest.read(fd, 10),
            "write": lambda: guest.write(fd, b"z"),
            "output": lambda: guest.write(1, b"z"),
            "sizes": lambda: guest.call("args_sizes_get", FREE, FREE),
            "seek": lambda: guest.seek(fd, 0),
            "close": lambda: guest.close_fd(fd),
        }
        for name, call in inner.items():
            act[:] = [call]
            if by == "a stream":
                assert guest.call("fd_write", 1, *guest.iovs((FREE, 5)), RESULT) is Errno.SUCCESS, name
            else:
                assert guest.call("path_filestat_get", 3, 0, *guest.text("f"), RESULT) is Errno.SUCCESS, name
            assert not act, f"{name}: nothing was called"
        assert len(told) == len(inner)
        assert all("in the middle of another" in text for text in told)
        assert guest.read(fd, 3) == b"xxx", "and then everything works as before"
        assert guest.tell(fd) == 3


@pytest.mark.parametrize("vdso", [False, True])
def test_w9_while_a_file_is_being_published_no_call_is_answered(vdso: bool) -> None:
    """The store is asked between two system calls then: what the guest calls in that moment is refused as well."""
    told: list[str] = []
    guests: list[RawGuest] = []

    def meddle(call: Call) -> None:
        if guests and call.name == "handle.size":
            guest = guests.pop()
            try:
                guest.pread(4, 10, 0)
            except vfswasi.WasiStateError as error:
                told.append(str(error))

    store = Faulty(MemoryBackend({"f": b"x" * 100}), meddle)
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=vdso) as guest:
        guest.open("f", base=ALL_FILE_RIGHTS)
        guests.append(guest)
        for _ in range(80):
            assert guest.pread(4, 10, 0) == b"x" * 10
    assert len(told) == int(vdso and vfswasi.engine.fast_path.publishing.wanted(None))


def test_w9_host_code_may_call_what_only_computes() -> None:
    grown = []
    with RawGuest({"/d": {}}, stdout=lambda data: grown.append(guest._exports["grow"](guest.store))) as guest:
        guest.write(1, b"abc")
        guest.write(1, b"abc")
        assert grown == [4, 5]


def test_w9_the_memory_of_a_host_function_is_its_own_until_it_returns() -> None:
    kept: list[HostMemory] = []
    wasm = program("(call $f) (call $f)", '(import "env" "f" (func $f))')

    def function(memory: HostMemory) -> None:
        for old in kept:
            with pytest.raises(ValueError, match="until it returns"):
                old.read(0, 1)
            with pytest.raises(ValueError, match="until it returns"):
                old.write(0, b"x")
            with pytest.raises(ValueError, match="until it returns"):
                len(old)
        assert memory.read(16, 2) == b"so"
        kept.append(memory)

    assert vfswasi.run(wasm, imports={"env": {"f": function}}).returncode == 0
    assert len(kept) == 2
    with pytest.raises(ValueError, match="until it returns"):
        kept[1].read(0, 1)


def test_w9_a_large_read_takes_no_more_of_the_hosts_memory_than_a_piece() -> None:
    """Buffers are copies in a store of the user's: there is a smaller count, not as much memory as the guest says."""
    with RawGuest({"/d": {"f": bytes(100)}}) as guest:
        fd = guest.open("f")
        # The same 50,000 bytes, five hundred times.
        guest.poke(FREE, (FREE.to_bytes(4, "little") + (50_000).to_bytes(4, "little")) * 500)
        assert guest.call("fd_read", fd, FREE, 500, RESULT) is Errno.SUCCESS
        assert guest.u32(RESULT) == 100
        memory = guest.wasi._embedding.guest.turn.memory  # type: ignore[union-attr]
        assert memory is not None
        guest.poke(FREE, (FREE.to_bytes(4, "little") + (50_000).to_bytes(4, "little")) * 500)
        assert sum(map(len, memory.iovecs(FREE, 500))) == 16 << 20
