"""W6: whatever a guest calls, and however often, the other threads of the process run, and every run ends in time.

Python's lock is free for less than a microsecond between two host calls, which is too short for a thread that waits for
it. `benchmarks/lock.py` measures the same storms against the promise (100 ms, and 30 ms for other threads); here the
best of a few tries has to be near it and every try below what starvation takes, since the machine does other things.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vfswasi
from vfswasi.engine import guests
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends import turns
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.fs_backends.waiting import bounded_by
from vfswasi.kernel.buffers import BUFFERS
from vfswasi.kernel.clocks import Deadline, Interrupted
from vfswasi.kernel.streams import ends as streams
from vfswasi.kernel.streams.stream import Stream
from vfswasi.syscalls.memory import GuestMemory

from ..rawguest import RawGuest
from ..storms import STORMS, Storm, measure

pytestmark = pytest.mark.alone

LATE_S = 0.3
GAP_S = 0.3
STARVED_S = 5.0
TRIES = 4
SECONDS = 0.4


@pytest.mark.parametrize("name", STORMS)
def test_w6_a_storm_of_calls_holds_nobody_up(name: str) -> None:
    for _ in range(TRIES):
        numbers = measure(STORMS[name], SECONDS)
        print(f"{name}: {numbers}")
        assert numbers.within(STARVED_S, STARVED_S), str(numbers)
        if numbers.within(LATE_S, GAP_S):
            return
    pytest.fail(f"never within {1000 * LATE_S:g} ms and {1000 * GAP_S:g} ms; last: {numbers}")


@contextmanager
def nobody_but_the_guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the watchdog nor the thread that waits tells the guest that its time is over."""
    monkeypatch.setattr("vfswasi.engine.runner._watchdog._tick", lambda: None)
    monkeypatch.setattr("vfswasi.engine.threads.workers.GRACE_S", 60)
    yield


@pytest.mark.parametrize(
    "name", ["a path of 60 pairs, memory", "path_rename, memory", "fd_filestat_get, without the fast path"]
)
def test_w6_the_deadline_is_kept_on_the_guests_own_thread(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storm = STORMS[name]
    with nobody_but_the_guest(monkeypatch):
        begun = time.monotonic()
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(storm.module, preopens=storm.preopens(tmp_path), limits=storm.limits, timeout=0.3)
        assert 0.3 <= time.monotonic() - begun < STARVED_S


def test_w6_a_guest_hands_the_lock_on_while_it_makes_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    handed: list[float] = []

    def hand_on() -> float:
        handed.append(time.monotonic())
        return turns.hand_on()

    monkeypatch.setattr(guests, "hand_on", hand_on)
    storm = STORMS["a path of 60 pairs, memory"]
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(storm.module, preopens=storm.preopens(tmp_path), timeout=0.5)
    assert len(handed) > 10


def test_w6_the_lock_is_handed_on_within_one_long_call(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[int] = []
    monkeypatch.setattr(turns, "hand_on", lambda: handed.append(1) or 0.0)
    store = MemoryBackend({"d": {f"{index}": b"" for index in range(100_000)}})
    file = store.create(("f",))
    size = 16 << 20
    steps = size // turns.STEP_BYTES
    data = bytearray(size)
    for step in (
        lambda: file.truncate(size),
        lambda: file.read_into(0, data),
        lambda: file.write_from(0, data),
        lambda: file.append(data),
    ):
        handed.clear()
        step()
        assert len(handed) >= steps - 1
    handed.clear()
    assert len(list(store.list(("d",)))) == 100_000
    assert handed


def test_w6_the_lock_is_handed_on_between_many_small_pieces_of_a_stream(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handed: list[int] = []
    monkeypatch.setattr(turns, "hand_on", lambda: handed.append(1) or 0.0)
    deadline, count = Deadline(None), 65_536
    (tmp_path / "f").write_bytes(bytes(count))

    class Generous:
        def read(self, _size: int) -> bytes:
            return bytes(count)

    with (tmp_path / "f").open("r+b", buffering=0) as file:
        stream_ends: list[streams.Source | streams.Sink] = [
            streams.BytesSource(bytes(count)),
            streams.DescriptorSource(file.fileno()),
            streams.FileSource(Generous()),
            streams.CaptureSink(count),
            streams.DescriptorSink(file.fileno()),
            streams.FileSink(io.StringIO(), text=True, partial=False),
            streams.CallableSink(lambda _: None),
            streams.Sink(),
        ]
        for end in stream_ends:
            for length in (1, 0):
                buffers = [memoryview(bytearray(length))] * count
                handed.clear()
                if isinstance(end, streams.Source):
                    done = Stream(1, end, None).read(buffers, deadline)
                else:
                    done = Stream(1, None, end).write(buffers, deadline)
                assert done == count * length
                assert len(handed) >= count // BUFFERS, end
            end.close()


def test_w6_many_small_pieces_of_a_stream_end_with_the_run() -> None:
    deadline = Deadline(None)
    deadline.interrupt()
    stream = Stream(1, streams.BytesSource(bytes(BUFFERS)), streams.Sink())
    for call in (stream.read, stream.write):
        with pytest.raises(Interrupted):
            call([memoryview(bytearray(1))] * BUFFERS, deadline)


def test_w6_an_object_that_gives_more_than_it_was_asked_for_loses_nothing() -> None:
    given = [bytes(range(200)), bytes(range(100, 256)), "text", b"", None]

    class Generous:
        def read(self, _size: int) -> object:
            return given.pop(0)

    source, seen = streams.FileSource(Generous()), b""
    deadline = Deadline(None)
    while piece := source.read(7, deadline):
        assert len(piece) <= 7
        seen += piece
    assert seen == bytes(range(200)) + bytes(range(100, 256)) + b"text"


def test_w6_the_lock_is_handed_on_while_a_pipe_takes_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[int] = []
    monkeypatch.setattr(turns, "hand_on", lambda: handed.append(1) or 0.0)
    reading, writing = os.pipe()
    seen: list[bytes] = []

    def drain() -> None:
        while piece := os.read(reading, 1 << 16):
            seen.append(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    sink = streams.DescriptorSink(writing)
    os.close(writing)
    data = bytes(range(256)) * 4096
    assert Stream(1, None, sink).write([memoryview(data)], Deadline(None)) == len(data)
    sink.close()
    thread.join(30)
    os.close(reading)
    assert b"".join(seen) == data
    assert len(handed) >= len(data) // 4096 - 1


def test_w6_a_file_that_could_not_grow_in_time_is_as_it_was() -> None:
    store = MemoryBackend()
    file = store.create(("f",))
    file.write_from(0, b"before")
    deadline = Deadline(10)
    deadline.interrupt()
    with bounded_by(deadline), pytest.raises(FsError) as raised:
        file.truncate(64 << 20)
    assert raised.value.errno is Errno.CANCELED
    assert file.size() == 6
    assert store.used_bytes == 6


def test_w6_what_is_copied_in_steps_is_the_same() -> None:
    data = bytes(range(251)) * (5 * turns.STEP_BYTES // 2 // 251 + 1)
    store = MemoryBackend({"f": data})
    file = store.open(("f",), True)
    seen = bytearray(len(data) + 10)
    assert file.read_into(0, seen) == len(data)
    assert seen[: len(data)] == data
    file.write_from(3, data)  # over the end
    assert file.size() == len(data) + 3
    assert store.export() == {"f": data[:3] + data}
    file.truncate(5)
    assert store.export() == {"f": (data[:3] + data)[:5]}
    assert store.used_bytes == 5


def test_w6_a_call_of_the_users_functions_is_a_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = b"""(module (import "env" "f" (func $f)) (memory (export "memory") 1)
      (func (export "_start") (loop $again (call $f) (br $again))))"""
    called: list[int] = []

    def busy(_memory: object) -> None:
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            called.append(1)

    with nobody_but_the_guest(monkeypatch):
        begun = time.monotonic()
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(module, imports={"env": {"f": busy}}, timeout=0.3)
        assert time.monotonic() - begun < STARVED_S
    assert called


def test_w6_two_storms_at_once_hold_nobody_up(tmp_path: Path) -> None:
    storm: Storm = STORMS["links of 1200 pairs, memory"]
    other = vfswasi.Sandbox(storm.module, preopens=storm.preopens(tmp_path))

    def run() -> None:
        with pytest.raises(vfswasi.HostCallError):
            other.run(timeout=120)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(TRIES):
            numbers = measure(storm, SECONDS)
            print(numbers)
            assert numbers.within(STARVED_S, STARVED_S), str(numbers)
            if numbers.within(LATE_S, GAP_S):
                return
        pytest.fail(f"last: {numbers}")
    finally:
        other.interrupt()
        thread.join()


@pytest.mark.parametrize("store", ["memory", "local"])
def test_w6_many_buffers_are_what_few_are(store: str, tmp_path: Path) -> None:
    """Each is made when it is its turn, and they are joined for the store."""
    preopens = {"/d": MemoryBackend() if store == "memory" else vfswasi.Mount(str(tmp_path), rw=True)}
    with RawGuest(preopens) as guest:
        fd = guest.create("f")
        at = len(guest.memory.read(guest.store))
        for _ in range(4):
            guest.grow()
        lengths = [number % 7 for number in range(5000)]
        lengths[17] = 70_000
        data = bytes(number % 251 for number in range(sum(lengths)))
        buffers, first = at, at + 8 * len(lengths)
        starts = [first + sum(lengths[:index]) for index in range(len(lengths))]
        guest.poke(buffers, b"".join(struct.pack("<II", *pair) for pair in zip(starts, lengths, strict=True)))
        guest.poke(first, data)
        guest.must("fd_write", fd, buffers, len(lengths), 8)
        assert guest.u32(8) == len(data)
        guest.poke(first, bytes(len(data)))
        guest.must("fd_pread", fd, buffers, len(lengths), 0, 8)
        assert guest.u32(8) == len(data)
        assert guest.peek(first, len(data)) == data


def test_w6_a_table_of_buffers_is_read_like_a_list() -> None:
    limits = vfswasi.Limits(call_bytes=50)
    view = memoryview(bytearray(range(256)) * 40)
    for number in range(300):
        struct.pack_into("<II", view, 8 * number, number, number % 3)
    buffers = GuestMemory(view, vfswasi.Limits()).iovecs(0, 300)
    assert len(buffers) == 300
    assert [bytes(buffer) for buffer in buffers] == [bytes(view[n : n + n % 3]) for n in range(300)]
    assert bytes(buffers[-1]) == bytes(view[299:301])
    assert [len(buffer) for buffer in buffers[1:4]] == [1, 2, 0]
    few = GuestMemory(view, limits).iovecs(0, 300)
    assert sum(map(len, few)) == 50
    assert b"".join(few) == b"".join(buffers)[:50]
