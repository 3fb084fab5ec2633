"""What is staged: contents against a plain array of bytes, whatever memory there is and whatever the disk does."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.open_files import open_files, opened_since
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.staging.pages import PAGE_BYTES
from vfswasi.fs_backends.staging.space import SIZE_MAX, Staged, StagingSpace
from vfswasi.testing.ground import errno_of

P = PAGE_BYTES
SMALL = 4 * P  # no content of the model is longer
MEMORY = (0, 1000, P + 500, 3 * P, 1 << 30)

offsets = st.one_of(
    st.integers(0, SMALL), st.sampled_from([0, 1, P - 1, P, P + 1, 2 * P, 3 * P - 1, 3 * P]), st.integers(0, 40)
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), offsets, st.integers(1, 2 * P + 7)),
        st.tuples(st.just("write"), offsets, st.integers(1, 40)),
        st.tuples(st.just("append"), st.just(0), st.integers(1, 5000)),
        st.tuples(st.just("truncate"), offsets, st.just(0)),
        st.tuples(st.just("reserve"), offsets, st.integers(0, 2 * P)),
        st.tuples(st.just("copy"), st.just(0), st.sampled_from(MEMORY)),
    ),
    max_size=14,
)


def noise(seed: int, count: int) -> bytes:
    return bytes((seed * 31 + at * 7 + at // 251) % 255 + 1 for at in range(min(count, 509))) * (count // 509 + 1)


def piece(seed: int, count: int) -> bytes:
    return noise(seed, count)[:count]


def over(data: bytes) -> Callable[[int, memoryview], None]:
    """`data`, to lie under a content."""

    def fill(offset: int, view: memoryview) -> None:
        assert offset >= 0
        assert offset + len(view) <= len(data), "read behind the end of what lies under it"
        view[:] = data[offset : offset + len(view)]

    return fill


def put(model: bytearray, offset: int, data: bytes) -> None:
    model.extend(bytes(max(0, offset - len(model))))
    model[offset : offset + len(data)] = data


def check(staged: Staged, model: bytearray) -> None:
    assert staged.size == len(model)
    assert staged.read(0, staged.size + 10) == model
    for offset, count in ((0, 3), (P - 2, 4), (P, P), (len(model) - 1 if model else 0, 5), (len(model) + 3, 1)):
        buf = bytearray(b"?" * count)
        done = staged.read_into(offset, buf)
        assert buf[:done] == model[offset : offset + count]
        assert buf[done:] == b"?" * (count - done)


def check_charges(space: StagingSpace, staged: Staged) -> None:
    """What the space says that it has is what the content has."""
    pages = staged._pages
    memory = sum(len(page) + 200 for page in pages.values() if isinstance(page, bytearray))
    assert space.used_memory_bytes == memory <= max(space.memory_bytes, 0)
    behind = sum(max(0, min(P, staged.under_bytes - number * P)) for number in pages)
    assert space.used_bytes == max(staged.size, staged.promised) - staged.under_bytes + behind
    assert staged.whole == (behind == staged.under_bytes)
    for number, page in pages.items():
        assert isinstance(page, int) or not any(page[max(0, staged.size - number * P) :])
    slots = [page for page in pages.values() if isinstance(page, int)]
    free = space.slots._free
    assert len(set(slots)) == len(slots)
    assert sorted([*slots, *free]) == list(range(space.slots._count))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(MEMORY), st.sampled_from([0, 1, 700, P, 2 * P + 9, SMALL]), steps)
def test_a_content_is_what_was_written_over_what_lies_under_it(
    memory_bytes: int, under_bytes: int, plan: list[tuple[str, int, int]]
) -> None:
    under = piece(1, under_bytes)
    space = StagingSpace(memory_bytes, file_memory_bytes=2 * P if len(plan) % 2 else SIZE_MAX)
    staged = Staged(space, over(under), under_bytes) if under else Staged(space)
    model = bytearray(under)
    for number, (what, offset, amount) in enumerate(plan, 2):
        if what in ("write", "append"):
            offset = len(model) if what == "append" else offset
            staged.write(offset, memoryview(piece(number, amount)))
            put(model, offset, piece(number, amount))
        elif what == "truncate":
            staged.truncate(offset)
            model = bytearray(model[:offset].ljust(offset, b"\0"))
        elif what == "reserve":
            assert staged.reserve(offset, amount)
        else:
            other = StagingSpace(amount)
            made = staged.copy(other, staged._under)
            check(made, model)
            check_charges(other, made)
            staged.release()
            assert space.used_bytes == space.used_memory_bytes == 0
            staged, space = made, other
        check(staged, model)
        check_charges(space, staged)
    staged.release()
    assert space.used_bytes == space.used_memory_bytes == staged.size == 0


def test_what_was_cut_off_is_not_seen_again_wherever_the_content_goes() -> None:
    space = StagingSpace(0)
    staged = Staged(space)
    staged.write(0, b"x" * (P + 100))
    staged.truncate(P + 10)
    other = StagingSpace()
    copied = staged.copy(other, None)
    check_charges(other, copied)
    space.memory_bytes = 4 * P
    staged.write(P - 1, b"yy")  # into pages in memory
    check_charges(space, staged)
    for made in (staged, copied):
        made.truncate(P + 50)
        assert made.read(P + 9, 100) == b"x" + bytes(40)


class Disk:
    """Fails one of the writes to come, and all after it as long as it is full."""

    def __init__(self) -> None:
        self.left = SIZE_MAX
        self.error = errno.ENOSPC

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if not self.left:
            raise OSError(self.error, os.strerror(self.error))
        self.left -= 1
        return _pwrite(fd, data, offset)


_pwrite = os.pwrite


@contextmanager
def disk() -> Iterator[Disk]:
    made = Disk()
    os.pwrite = made.pwrite
    try:
        yield made
    finally:
        os.pwrite = _pwrite


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(MEMORY[:-1]),
    st.sampled_from([0, P + 9, SMALL]),
    steps,
    st.lists(st.integers(0, 4), min_size=14, max_size=14),
    st.sampled_from([errno.ENOSPC, errno.EIO, errno.EDQUOT]),
)
def test_a_disk_that_fails_at_any_write_has_changed_nothing(
    memory_bytes: int, under_bytes: int, plan: list[tuple[str, int, int]], failing: list[int], error: int
) -> None:
    under = piece(1, under_bytes)
    space = StagingSpace(memory_bytes)
    staged = Staged(space, over(under), under_bytes)
    model = bytearray(under)
    answers: set[Errno] = set()
    with disk() as full:
        full.error = error
        for number, (what, offset, amount) in enumerate(plan, 2):
            full.left = failing[number - 2]
            after = bytearray(model)
            offset = len(model) if what == "append" else offset
            try:
                if what in ("write", "append"):
                    put(after, offset, piece(number, amount))
                    if not staged.promised:
                        staged.write(offset, piece(number, amount))
                    else:
                        full.left = SIZE_MAX  # several slots are changed in place then
                        staged.write(offset, piece(number, amount))
                elif what == "truncate":
                    after = bytearray(model[:offset].ljust(offset, b"\0"))
                    staged.truncate(offset)
                elif what == "reserve":
                    staged.reserve(offset, amount)
                else:
                    other = StagingSpace(amount)
                    try:
                        check(staged.copy(other, staged._under), model)
                    except FsError:
                        assert other.used_bytes == other.used_memory_bytes == 0
                model = after
            except FsError as failed:
                answers.add(failed.errno)
            full.left = SIZE_MAX
            check(staged, model)
            check_charges(space, staged)
    assert answers <= {Errno.IO if error == errno.EIO else Errno.NOSPC}
    staged.release()
    assert space.used_bytes == space.used_memory_bytes == 0


@pytest.mark.parametrize("memory_bytes", [0, P, 1 << 30])
@pytest.mark.parametrize("under_bytes", [0, 2 * P + 5])
def test_what_is_reserved_is_there_when_the_disk_is_full(memory_bytes: int, under_bytes: int) -> None:
    under = piece(1, under_bytes)
    space = StagingSpace(memory_bytes)
    staged = Staged(space, over(under), under_bytes)
    staged.write(P + 10, b"here")
    expected = bytearray(staged.read(0, SMALL))
    with disk() as full:
        assert staged.reserve(7, 3 * P)
        full.left = 0 if memory_bytes > P else SIZE_MAX
        put(expected, 7, piece(2, 3 * P))
        full.error = errno.ENOSPC
        made = space.slots._count
        staged.write(7, piece(2, 3 * P))  # of what is on the disk, all has its place there
        assert space.slots._count == made
    check(staged, expected)
    assert staged.reserve(0, 0)
    check_charges(space, staged)


def test_what_is_reserved_is_counted_and_given_back() -> None:
    space = StagingSpace(memory_bytes=2 * P, max_bytes=100 * P)
    first, second = Staged(space), Staged(space)
    first.write(0, b"x")
    assert first.reserve(0, 60 * P)
    assert not second.reserve(0, 60 * P)
    assert errno_of(second.write, 50 * P, b"x") is Errno.NOSPC
    first.write(59 * P, b"y")
    assert first.reserve(0, 0)
    assert space.used_bytes == 59 * P + 1
    assert len(first._pages) == 2 + 58  # what was reserved within the content remains
    first.truncate(0)
    assert space.used_bytes == space.used_memory_bytes == 0
    assert second.reserve(0, 60 * P)
    second.truncate(0)
    assert space.used_bytes == space.used_memory_bytes == 0
    assert space.slots._count == 0


def test_a_range_that_cannot_be_reserved_leaves_nothing() -> None:
    space = StagingSpace(0)
    staged = Staged(space)
    staged.write(0, b"abc")
    with disk() as full:
        full.left = 3
        assert not staged.reserve(0, 10 * P)
    assert not staged.reserve(SIZE_MAX, 5)
    assert (space.used_bytes, len(staged._pages)) == (3, 1)
    assert staged.read(0, 9) == b"abc"


def test_what_lies_under_it_is_read_only_where_it_must_be() -> None:
    asked: list[tuple[int, int]] = []
    data = piece(3, 5 * P)

    def under(offset: int, view: memoryview) -> None:
        asked.append((offset, len(view)))
        view[:] = data[offset : offset + len(view)]

    staged = Staged(StagingSpace(), under, len(data))
    staged.write(P, bytes(2 * P))
    assert asked == []  # whole pages need nothing of what was there
    staged.write(4 * P + 5, b"x")
    assert asked == [(4 * P, P)]
    asked.clear()
    staged.read(0, 5 * P)
    assert asked == [(0, P), (3 * P, P)]
    assert not staged.whole
    staged.truncate(3 * P)
    asked.clear()
    staged.write(0, b"first")
    assert asked == [(0, P)]
    assert staged.whole
    staged.truncate(5 * P)
    assert staged.read(3 * P, 2 * P) == bytes(2 * P)
    assert staged.whole


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_what_lies_under_it_may_fail(memory_bytes: int) -> None:
    def under(offset: int, view: memoryview) -> None:
        if offset >= P:
            raise FsError(Errno.STALE)
        view[:] = b"u" * len(view)

    space = StagingSpace(memory_bytes)
    staged = Staged(space, under, 3 * P)
    for call, args in (
        (staged.write, (P - 5, b"0123456789")),
        (staged.write, (0, bytes(P + 1))),
        (staged.write, (2 * P + 1, b"x")),
        (staged.read, (P, P)),
    ):
        assert errno_of(call, *args) is Errno.STALE
        assert space.used_bytes == space.used_memory_bytes == 0
    assert not staged.reserve(0, 3 * P)
    assert staged.read(0, P) == b"u" * P
    staged.write(0, b"x")
    staged.truncate(P)
    assert staged.read(0, 2 * P) == b"x" + b"u" * (P - 1)
    staged.release()
    assert space.used_bytes == space.used_memory_bytes == 0


def test_pages_over_what_lies_under_a_content_are_counted() -> None:
    space = StagingSpace(0, max_bytes=4 * P)
    staged = Staged(space, over(bytes(100 * P)), 100 * P)
    for number in range(4):
        staged.write(20 * number * P, b"x")
    assert errno_of(staged.write, 50 * P, b"x") is Errno.NOSPC
    assert not staged.reserve(50 * P, 1)
    assert space.slots._count - len(space.slots._free) == 4
    staged.truncate(30 * P)
    staged.write(10 * P, b"x")
    assert space.used_bytes == 3 * P


HUGE = (1 << 62, SIZE_MAX - 1)


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_sizes_beyond_all_disks_take_no_time(huge: int, memory_bytes: int) -> None:
    begun = time.monotonic()
    space = StagingSpace(memory_bytes, max_bytes=SIZE_MAX)
    staged = Staged(space)
    staged.write(5, b"low")
    staged.write(huge, b"h")
    assert staged.size == huge + 1
    assert staged.read(huge - 3, 10) == b"\0\0\0h"
    staged.truncate(huge)
    assert staged.read(huge - 3, 10) == b"\0\0\0"
    staged.truncate(9)
    staged.truncate(huge)
    staged.truncate(8)
    assert staged.read(0, 20) == bytes(5) + b"low"
    assert errno_of(staged.write, SIZE_MAX, b"x") is Errno.FBIG
    assert errno_of(staged.truncate, SIZE_MAX + 1) is Errno.FBIG
    assert not Staged(StagingSpace(0)).reserve(0, huge)
    copied = staged.copy(StagingSpace(memory_bytes, SIZE_MAX), None)
    assert copied.read(0, 20) == staged.read(0, 20)
    below = Staged(space, over(b""), huge)
    assert not below.whole
    below.truncate(0)
    assert below.whole
    assert time.monotonic() - begun < 5


def test_holes_are_read_in_one_go() -> None:
    asked: list[int] = []
    staged = Staged(StagingSpace(), lambda offset, view: asked.append(len(view)), 64 << 20)
    staged.read_into(3, bytearray(40 << 20))
    assert asked == [40 << 20]
    staged.truncate(0)
    staged.truncate(64 << 20)
    assert staged.read(1, 40 << 20) == bytes(40 << 20)


class Over:
    def over(self) -> BaseException | None:
        return TimeoutError()


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_long_calls_end_with_the_runs_time_and_have_changed_nothing(memory_bytes: int) -> None:
    space = StagingSpace(memory_bytes)
    staged = Staged(space)
    staged.write(0, b"kept")
    large = bytes(8 << 20)
    used = space.used_memory_bytes
    with waiting.bounded_by(Over()):
        assert errno_of(staged.write, 2, large) is Errno.CANCELED
        assert errno_of(staged.write, 10, large) is Errno.CANCELED
        assert not staged.reserve(0, 8 << 20)
        staged.write(2, b"short calls are made")
    assert staged.read(0, 100) == b"keshort calls are made"
    assert space.used_memory_bytes <= used + 100
    staged.write(0, large)
    with waiting.bounded_by(Over()):
        assert errno_of(staged.read, 0, 8 << 20) is Errno.CANCELED
        assert errno_of(staged.copy, StagingSpace(memory_bytes), None) is Errno.CANCELED
        hole = Staged(space)
        hole.truncate(8 << 20)
        assert errno_of(hole.read, 0, 8 << 20) is Errno.CANCELED
        staged.release()
        hole.release()
    assert space.used_bytes == space.used_memory_bytes == 0


def test_one_unnamed_file_takes_what_memory_does_not(tmp_path: os.PathLike[str]) -> None:
    before = open_files()
    space = StagingSpace(0, directory=os.fspath(tmp_path))
    contents = [Staged(space) for _ in range(50)]
    for number, staged in enumerate(contents):
        staged.write(0, piece(number, 40_000))
    assert len(opened_since(before)) == 1
    assert os.listdir(tmp_path) == []
    for number, staged in enumerate(contents):
        assert staged.read(0, 40_000) == piece(number, 40_000)
    assert space.slots._file is not None
    fd = space.slots._file.fileno()
    assert os.fstat(fd).st_size == 100 * P
    for staged in contents:
        staged.release()
    assert opened_since(before) == []
    staged.write(0, b"again")
    assert len(opened_since(before)) == 1
    del staged, contents, space
    assert opened_since(before) == []


def test_the_first_part_of_each_content_is_in_memory_and_the_rest_leaves_room_for_others() -> None:
    space = StagingSpace(10 * P, file_memory_bytes=2 * P)
    large, small = Staged(space), Staged(space)
    for offset in range(0, 20 * P, P // 2):
        large.write(offset, bytes(P // 2))
    small.write(0, b"small")
    assert space.used_memory_bytes == 2 * (P + 200) + 5 + 200
    assert [type(page) for page in large._pages.values()] == [bytearray] * 2 + [int] * 18


def test_where_no_file_can_be_made_there_is_no_space(tmp_path: os.PathLike[str]) -> None:
    space = StagingSpace(P, directory=os.path.join(tmp_path, "missing"))
    staged = Staged(space)
    staged.write(0, b"fits")
    assert errno_of(staged.write, 4, bytes(P)) is Errno.IO
    assert staged.read(0, 100) == b"fits"
    assert space.used_bytes == 4


def test_a_file_that_was_closed_is_an_error_and_nobody_elses_file() -> None:
    staged = Staged(space := StagingSpace(0))
    staged.write(0, b"x")
    space.close()
    assert errno_of(staged.read, 0, 1) is Errno.IO
    assert errno_of(staged.write, 0, b"y") is Errno.IO
    staged.release()
    assert space.used_bytes == 0


@pytest.mark.parametrize("memory_bytes", [0, 3 * P, 1 << 30])
def test_threads_that_share_a_space_have_each_their_own(memory_bytes: int) -> None:
    space = StagingSpace(memory_bytes)
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(30):
                staged, model = Staged(space), bytearray()
                for number in range(6):
                    offset = (seed * 7919 + turn * 104_729 + number * 15_485_863) % (3 * P)
                    data = piece(seed + number, 1 + offset % 9000)
                    staged.write(offset, data)
                    put(model, offset, data)
                assert staged.read(0, SMALL) == model
                staged.release()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert space.used_bytes == space.used_memory_bytes == 0
