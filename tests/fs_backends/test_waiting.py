"""Waiting for storage ends with the run, with its own timeout, and leaves nothing behind that matters."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from concurrent.futures import Future

import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends import waiting
from vfswasi.kernel.clocks import Deadline

pytestmark = pytest.mark.alone


def test_a_result_and_an_error_pass_through() -> None:
    future: Future[int] = Future()
    future.set_result(7)
    assert waiting.result(future, 1, "seven") == 7
    failed: Future[int] = Future()
    failed.set_exception(KeyError("mine"))
    with pytest.raises(KeyError, match="mine"):
        waiting.result(failed, 1, "failed")


def test_a_timeout_of_the_work_itself_is_not_taken_for_ours() -> None:
    failed: Future[int] = Future()
    failed.set_exception(TimeoutError("theirs"))
    with pytest.raises(TimeoutError, match="theirs"):
        waiting.result(failed, 10, "failed")


def test_what_does_not_come_is_io_and_cancelled() -> None:
    future: Future[int] = Future()
    start = time.monotonic()
    with pytest.raises(FsError) as caught:
        waiting.result(future, 0.1, "the moon")
    assert caught.value.errno is Errno.IO
    assert "the moon: no answer within 0.1 s" in str(caught.value)
    assert time.monotonic() - start < 1
    assert future.cancelled()


def test_the_runs_deadline_ends_it() -> None:
    future: Future[int] = Future()
    start = time.monotonic()
    with waiting.bounded_by(Deadline(0.1)), pytest.raises(FsError) as caught:
        waiting.result(future, 60, "the moon")
    assert caught.value.errno is Errno.CANCELED
    assert 0.1 <= time.monotonic() - start < 0.5


def test_an_interruption_from_another_thread_ends_it() -> None:
    deadline = Deadline()
    threading.Timer(0.1, deadline.interrupt).start()
    start = time.monotonic()
    with waiting.bounded_by(deadline), pytest.raises(FsError):
        waiting.result(Future[int](), None, "the moon")
    assert time.monotonic() - start < 0.5


def test_bounds_nest_and_belong_to_a_thread() -> None:
    over = Deadline(0)
    future: Future[int] = Future()
    threading.Timer(0.2, future.set_result, (1,)).start()
    with waiting.bounded_by(over), waiting.unbounded():
        assert waiting.result(future, 5, "one") == 1
    results: list[int] = []
    with waiting.bounded_by(over):
        later: Future[int] = Future()
        threading.Timer(0.1, later.set_result, (2,)).start()
        thread = threading.Thread(target=lambda: results.append(waiting.result(later, 5, "two")))
        thread.start()
        thread.join()
    assert results == [2]


def test_threads_run_calls_and_end() -> None:
    threads = waiting.Threads(2, "test-waiting")
    together = threading.Barrier(2)
    futures = [threads.submit(lambda: together.wait(5) >= 0) for _ in range(2)]
    assert [waiting.result(future, 5, "both") for future in futures] == [True, True]
    failing = threads.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        waiting.result(failing, 5, "failing")
    for _ in range(20):
        waiting.result(threads.submit(int), 5, "zero")
    assert sum(thread.name == "test-waiting" for thread in threading.enumerate()) <= 2
    threads.close()
    give_up = time.monotonic() + 5
    while any(thread.name == "test-waiting" for thread in threading.enumerate()):
        assert time.monotonic() < give_up
        time.sleep(0.01)


class _JustInTime(Future[int]):
    """Is done between the end of a wait and the look at whether it is."""

    def result(self, timeout: float | None = None) -> int:
        if not self.done():
            self.set_result(5)
            raise concurrent.futures.TimeoutError
        return super().result(timeout)


def test_what_comes_at_the_end_of_a_wait_has_come() -> None:
    assert waiting.result(_JustInTime(), 10, "x") == 5


def test_another_thread_charges_the_run_that_it_works_for() -> None:
    allowance = waiting.Allowance(2, 10, 1)
    with waiting.bounded_by(None, allowance):
        charge = waiting.charger()
    charge(1, 10)
    assert (allowance.requests, allowance.bytes) == (1, 10)
    with pytest.raises(FsError, match="remote_bytes"):
        charge(0, 1)
    waiting.charger()(1000, 1000)  # of nobody's run
