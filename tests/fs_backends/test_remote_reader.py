"""How a remote file is read in pieces: what is fetched, what is kept, what is fetched ahead."""

from __future__ import annotations

import gc
import random
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends import budget, waiting
from vfswasi.fs_backends.remote.cache import ReadCache
from vfswasi.fs_backends.remote.client import Data
from vfswasi.fs_backends.remote.reader import Reader, ReadOptions

KIB = 1 << 10
MIB = 1 << 20
SIZE = 10 * MIB + 1234
CONTENTS = random.Random(1).randbytes(SIZE)


class Store:
    """Fetches at once, unless it is told to wait, and remembers what."""

    def __init__(self, contents: bytes = CONTENTS) -> None:
        self.contents = contents
        self.ranges: list[tuple[int, int]] = []
        self.returned: list[Data] = []
        self.waiting: list[Future[Data]] = []
        self.answers = True
        self.fail: FsError | None = None

    def fetch(self, start: int, end: int) -> Future[Data]:
        assert 0 <= start < end <= len(self.contents)
        self.ranges.append((start, end))
        future: Future[Data] = Future()
        if self.fail is not None:
            future.set_exception(self.fail)
        elif self.answers:
            future.set_result(bytearray(self.contents[start:end]))
        else:
            self.waiting.append(future)
        return future

    def give_back(self, data: Data) -> None:
        assert isinstance(data, bytearray)
        data[:] = bytes(len(data))  # who still looks at it would see that
        self.returned.append(data)

    @property
    def fetched(self) -> int:
        return sum(end - start for start, end in self.ranges)


def reader(store: Store, cache_bytes: int | None = 64 * MIB, *, readahead: int = MIB, block: int = 32 * KIB) -> Reader:
    cache = None if cache_bytes is None else ReadCache(cache_bytes)
    options = ReadOptions(block=block, readahead=readahead, cache=cache, timeout_s=5)
    return Reader(store.fetch, len(store.contents), "file", options, "store", store.give_back)


def read(made: Reader, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    count = made.read_into(offset, memoryview(buffer))
    return bytes(buffer[:count])


@pytest.mark.parametrize("cache_bytes", [64 * MIB, 8 * MIB, 1 * MIB, 100, None])
@pytest.mark.parametrize("size", [1000, 4096, 64 * KIB, 3 * MIB])
def test_in_order_every_byte_comes_once(cache_bytes: int | None, size: int) -> None:
    store = Store()
    made = reader(store, cache_bytes)
    assert b"".join(read(made, offset, size) for offset in range(0, SIZE + size, size)) == CONTENTS
    assert store.fetched <= SIZE * 1.01 + 64 * KIB
    assert len(store.ranges) < SIZE / (64 * KIB)
    assert not made._ahead


def test_scattered_reads_fetch_one_block_and_keep_it() -> None:
    store = Store()
    made = reader(store)
    places = random.Random(2).sample(range(1, SIZE // (32 * KIB)), 50)
    for block in places:
        assert read(made, block * 32 * KIB + 100, 4096) == CONTENTS[block * 32 * KIB + 100 :][:4096]
    assert sorted(store.ranges) == sorted((b * 32 * KIB, min((b + 1) * 32 * KIB, SIZE)) for b in places)
    for block in places:
        read(made, block * 32 * KIB, 32 * KIB)
    assert len(store.ranges) == 50


def test_a_read_over_two_blocks_asks_only_for_the_missing_one() -> None:
    store = Store()
    made = reader(store)
    read(made, 320 * KIB, 100)
    read(made, 352 * KIB - 10, 20)
    assert store.ranges == [(320 * KIB, 352 * KIB), (352 * KIB, 384 * KIB)]


def test_a_large_read_is_a_few_requests() -> None:
    store = Store()
    made = reader(store)
    assert read(made, 5 * MIB, 4 * MIB) == CONTENTS[5 * MIB : 9 * MIB]
    assert len(store.ranges) <= 8
    assert store.fetched == 4 * MIB


def test_a_scan_leaves_nothing_of_a_large_file_in_the_cache() -> None:
    for cache_bytes, kept in ((64 * MIB, SIZE), (8 * MIB, 0)):
        store = Store()
        made = reader(store, cache_bytes)
        for offset in range(0, SIZE, 64 * KIB):
            read(made, offset, 64 * KIB)
        assert made._cache is not None
        assert abs(len(made._cache) - kept) <= 64 * KIB


def test_the_window_grows_and_is_bounded() -> None:
    store = Store()
    store.answers = True
    made = reader(store, readahead=512 * KIB)
    most = 0
    for offset in range(0, 4 * MIB, 16 * KIB):
        read(made, offset, 16 * KIB)
        most = max(most, store.ranges[-1][1] - offset)
    assert 256 * KIB <= most <= 600 * KIB
    made.close()


def test_a_jump_gives_up_what_was_on_its_way() -> None:
    store = Store()
    made = reader(store)
    for offset in range(0, MIB, 64 * KIB):
        read(made, offset, 64 * KIB)
    store.answers = False
    made._read_ahead(MIB)
    ahead = list(made._ahead)
    store.answers = True
    read(made, 8 * MIB, 100)
    assert not made._ahead
    assert all(piece.future.done() for piece in ahead)
    made.close()


def test_advice() -> None:
    store = Store()
    made = reader(store)
    made.advise(MIB, 256 * KIB, "willneed")
    assert store.fetched == 256 * KIB
    before = len(store.ranges)
    assert read(made, MIB, 256 * KIB) == CONTENTS[MIB : MIB + 256 * KIB]
    assert len(store.ranges) == before

    made.advise(0, 0, "random")
    for offset in range(2 * MIB, 3 * MIB, 4096):
        read(made, offset, 4096)
    assert all(end - start == 32 * KIB for start, end in store.ranges[before:])

    assert made._cache is not None
    size = len(made._cache)
    made.advise(2 * MIB, MIB, "dontneed")
    assert len(made._cache) == size - MIB
    made.advise(0, 0, "noreuse")
    read(made, 5 * MIB + 7, 10)
    assert len(made._cache) == size - MIB

    store = Store()
    made = reader(store)
    made.advise(0, 0, "sequential")
    read(made, 0, 100)
    read(made, 100, 40 * KIB)
    assert store.fetched >= MIB


def test_failures_reach_the_reader_and_pass() -> None:
    store = Store()
    made = reader(store)
    read(made, 0, 40 * KIB)
    store.fail = FsError(Errno.IO, "broken")
    for offset in (MIB, 2 * MIB + 5, 2 * MIB + 105):
        with pytest.raises(FsError, match="broken"):
            read(made, offset, 100 * KIB)
    store.fail = None
    assert read(made, MIB, 100 * KIB) == CONTENTS[MIB : MIB + 100 * KIB]


def test_fewer_bytes_than_asked_for_are_an_error() -> None:
    store = Store()

    def short(start: int, end: int) -> Future[Data]:
        future: Future[Data] = Future()
        future.set_result(CONTENTS[start : end - 1])
        return future

    made = Reader(short, SIZE, "file", ReadOptions(), "store")
    with pytest.raises(FsError) as caught:
        read(made, 0, 10)
    assert caught.value.errno is Errno.IO
    assert store.ranges == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 100_000)), max_size=25),
    st.sampled_from([None, 0, 50_000, 10 * MIB]),
    st.sampled_from([512, 4096, 32 * KIB]),
    st.sampled_from([0, 10_000, MIB]),
)
def test_any_reads_give_the_bytes(
    reads: list[tuple[int, int]], cache_bytes: int | None, block: int, readahead: int
) -> None:
    store = Store(CONTENTS[:300_001])
    made = reader(store, cache_bytes, block=block, readahead=readahead)
    for offset, size in reads:
        assert read(made, offset, size) == store.contents[offset : offset + size]
        follow = offset + size
        assert read(made, follow, 1000) == store.contents[follow : follow + 1000]
    made.close()


class Far(Store):
    """A store of many files, some of whose answers are on their way for long."""

    def __init__(self, size: int) -> None:
        super().__init__(b"")
        self.size = size
        self.held = 0
        self.most = 0

    def fetch(self, start: int, end: int) -> Future[Data]:
        self.ranges.append((start, end))
        self.held += end - start
        self.most = max(self.most, self.held)
        future: Future[Data] = Future()
        future.add_done_callback(lambda done: done.cancelled() and self._gone(end - start))
        if self.answers:
            future.set_result(bytearray(end - start))
        return future

    def _gone(self, count: int) -> None:
        self.held -= count

    def give_back(self, data: Data) -> None:
        self.held -= len(data)


def run_of(buffer_bytes: int) -> waiting.Allowance:
    return waiting.Allowance(10**6, 1 << 50, 10**6, buffer_bytes=buffer_bytes)


def many_readers(store: Far, count: int, cache: ReadCache | None) -> list[Reader]:
    options = ReadOptions(readahead=24 * MIB, cache=cache, timeout_s=5)
    return [Reader(store.fetch, store.size, number, options, "store", store.give_back) for number in range(count)]


@pytest.mark.parametrize("cache", [None, ReadCache(1 * MIB)], ids=["alone", "cache"])
@pytest.mark.parametrize("advice", ["normal", "sequential", "willneed"])
def test_all_files_of_a_run_read_ahead_within_one_budget(cache: ReadCache | None, advice: str) -> None:
    """Sixty files of which each would have 24 MiB on their way."""
    store = Far(100 * MIB)
    allowance = run_of(16 * MIB)
    with waiting.bounded_by(None, allowance):
        readers = many_readers(store, 60, cache)
        for made in readers:
            made.advise(0, 0, advice)
        for step in range(300):
            for made in readers:
                assert len(read(made, step * 32 * KIB, 32 * KIB)) == 32 * KIB
            assert allowance.buffers.used <= 8 * MIB + 60 * 32 * KIB
        assert store.held <= 16 * MIB + 60 * 32 * KIB
        for made in readers:
            made.close()
    assert allowance.buffers.used == 0


def test_a_file_that_is_read_alone_reads_far_ahead_within_it() -> None:
    store = Far(100 * MIB)
    allowance = run_of(64 * MIB)
    with waiting.bounded_by(None, allowance):
        made = many_readers(store, 1, None)[0]
        for step in range(200):
            read(made, step * 256 * KIB, 256 * KIB)
        assert allowance.buffers.used > 20 * MIB
    made.close()
    assert allowance.buffers.used == 0


def test_where_there_is_no_room_at_all_reads_still_work() -> None:
    store = Store()
    allowance = run_of(0)
    with waiting.bounded_by(None, allowance):
        for cache_bytes in (64 * MIB, None):
            made = reader(store, cache_bytes)
            for size in (1000, 100 * KIB):
                for offset in range(0, 3 * size, size):
                    assert read(made, offset, size) == CONTENTS[offset : offset + size]
            made.close()
    assert allowance.buffers.used == 0


def test_a_call_for_much_takes_what_there_is_and_gives_it_back() -> None:
    store = Store()
    allowance = run_of(MIB)
    with waiting.bounded_by(None, allowance):
        made = reader(store, None)
        assert read(made, 0, SIZE) == CONTENTS
        made.close()
    assert allowance.buffers.used == 0


def test_what_others_have_taken_is_left_to_them() -> None:
    """A decoder cannot do with less, reading ahead can."""
    store = Far(100 * MIB)
    allowance = run_of(16 * MIB)
    with waiting.bounded_by(None, allowance):
        readers = many_readers(store, 60, None)
        for step in range(100):
            for made in readers:
                read(made, step * 32 * KIB, 32 * KIB)
        allowance.buffers.take(5 * MIB)
        for made in readers:
            made.close()
        allowance.buffers.give(5 * MIB)
    assert allowance.buffers.used == 0


def test_what_is_on_its_way_counts_until_it_has_come_or_was_given_up() -> None:
    store = Far(100 * MIB)
    allowance = run_of(64 * MIB)
    with waiting.bounded_by(None, allowance):
        made = many_readers(store, 1, None)[0]
        read(made, 0, 20 * KIB)
        read(made, 20 * KIB, 20 * KIB)
        store.answers = False
        made.advise(0, 0, "sequential")
        made._read_ahead(40 * KIB)
        futures = [piece.future for piece in made._ahead if not piece.future.done()]
        for future in futures:
            future.set_running_or_notify_cancel()
    taken = allowance.buffers.used
    assert taken > 10 * MIB
    made.close()
    assert allowance.buffers.used > 10 * MIB
    for future in futures:
        future.set_result(b"")
    assert allowance.buffers.used == 0


def test_a_reader_that_is_let_go_of_gives_back_what_it_took() -> None:
    store = Far(100 * MIB)
    allowance = run_of(64 * MIB)
    with waiting.bounded_by(None, allowance):
        made = many_readers(store, 1, None)[0]
        for offset in range(0, 10 * MIB, MIB):
            read(made, offset, MIB)
        made.advise(0, 0, "sequential")
        assert allowance.buffers.used > MIB
        del made
        gc.collect()
    assert allowance.buffers.used == 0


def scan(made: Reader, start: int, end: int) -> None:
    for offset in range(start, end, 32 * KIB):
        read(made, offset, 32 * KIB)


class Interrupted(BaseException):
    """As Ctrl-C is: anywhere."""


@pytest.mark.parametrize("where", ["fetch", "cache", "give_back"])
def test_what_is_raised_anywhere_gives_back_what_was_taken(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Far(100 * MIB)
    allowance = run_of(64 * MIB)
    with waiting.bounded_by(None, allowance):
        made = many_readers(store, 1, None if where != "cache" else ReadCache(64 * MIB))[0]
        scan(made, 0, 4 * MIB)

        def interrupted(*_: object) -> None:
            raise Interrupted

        if where == "cache":
            made._keeps = True
        monkeypatch.setattr(made, {"fetch": "_fetch", "cache": "_keep", "give_back": "_give_back"}[where], interrupted)
        with pytest.raises(Interrupted):
            scan(made, 4 * MIB, 60 * MIB)
        monkeypatch.undo()
        made.close()
        del made
        gc.collect()
    assert allowance.buffers.used == 0


def test_a_block_that_was_kept_is_given_back_with_its_reader() -> None:
    allowance = run_of(64 * MIB)
    with waiting.bounded_by(None, allowance):
        made = reader(Store(), None)
        read(made, 5 * MIB, 10)
        assert allowance.buffers.used == 32 * KIB
        del made
        gc.collect()
    assert allowance.buffers.used == 0


def test_all_runs_together_are_within_the_budget_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_buffers", budget.Budget("all", 4 * MIB))
    store = Far(100 * MIB)
    runs = [run_of(64 * MIB) for _ in range(8)]
    readers = many_readers(store, 8, None)
    for step in range(100):
        for allowance, made in zip(runs, readers, strict=True):
            with waiting.bounded_by(None, allowance):
                read(made, step * 64 * KIB, 64 * KIB)
    assert sum(allowance.buffers.used for allowance in runs) <= 4 * MIB
    for made in readers:
        made.close()
    assert budget._buffers.used == 0
