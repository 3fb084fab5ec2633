"""Where the calls of a guest are found: after runs of every kind, in sessions and their copies, in WASI; how many."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Call, Errno, Trace
from vfswasi.observe.trace import recorder
from vfswasi.observe.trace.trace import Counted

from ...rawguest import RawGuest
from ...wat_programs import ENDLESS, OPEN, READ, SAY, SLEEP, pipe_ends, program

SAYS = program(SAY)
WRITES = ["fd_write(1<stdout>", "fd_write(2<stderr>"]
# $times x fd_write, with no buffers.
MANY = program(
    "(local $left i32) (local.set $left (i32.const 25000)) (loop $again"
    " (drop (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))"
    " (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
)
# One function for each thing that a session does.
SESSION = b"""(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "yield") (drop (call $yield)))
  (func (export "exit") (call $exit (i32.const 3))))"""


def starts(trace: Trace | None) -> list[str]:
    assert trace is not None
    return [str(call).partition(",")[0] for call in trace]


def test_without_trace_there_is_none() -> None:
    assert vfswasi.run(SAYS, capture_output=True).trace is None
    assert vfswasi.run(SAYS, capture_output=True, trace=False).trace is None


def test_every_way_to_run_has_them() -> None:
    options: dict[str, Any] = {"stdout": vfswasi.DEVNULL, "stderr": vfswasi.DEVNULL, "trace": True}
    with vfswasi.Sandbox(SAYS) as sandbox:
        with sandbox.start(**options) as started:
            pass

        async def started_async() -> vfswasi.Result[Any]:
            async with sandbox.start_async(**options) as run:
                return await run.result()

        results = [
            vfswasi.run(SAYS, **options),
            sandbox.run(**options),
            started.result(),
            asyncio.run(vfswasi.run_async(SAYS, **options)),
            asyncio.run(sandbox.run_async(**options)),
            asyncio.run(started_async()),
        ]
    assert [starts(result.trace) for result in results] == [WRITES] * len(results)


def test_runs_of_one_sandbox_have_calls_of_their_own() -> None:
    with vfswasi.Sandbox(SAYS) as sandbox:
        calls: list[Call] = []
        first = sandbox.run(capture_output=True, trace=True)
        second = sandbox.run(capture_output=True, trace=calls.append)
        third = sandbox.run(capture_output=True)
    assert starts(first.trace) == starts(second.trace) == WRITES
    assert len(calls) == 2
    assert third.trace is None


def test_the_last_ten_thousand_are_kept_and_all_are_counted() -> None:
    trace = vfswasi.run(MANY, stdout=vfswasi.DEVNULL, trace=True, timeout=120).trace
    assert trace is not None
    assert recorder.CALLS_MAX == 10_000
    assert (len(trace), trace.forgotten) == (10_000, 15_000)
    assert (trace[0].number, trace[-1].number) == (15_000, 24_999)
    assert set(trace.stats) == {"fd_write"}
    assert trace.stats["fd_write"][:3] == (25_000, 0, 0)
    assert repr(trace) == "<Trace of 10,000 calls and 15,000 before them>"


def test_stats_have_calls_errors_bytes_and_time_of_each_name() -> None:
    with RawGuest({"/d": {"f": b"content"}}, trace=True) as guest:
        file = guest.open("f")
        assert guest.read(file, 4) == b"cont"
        assert guest.pread(file, 100, 0) == b"content"
        assert guest.try_open("missing")[0] is Errno.NOENT
        trace = guest.wasi.trace
    assert trace is not None
    assert {name: counted[:3] for name, counted in trace.stats.items()} == {
        "path_open": (2, 1, 0),
        "fd_read": (1, 0, 4),
        "fd_pread": (1, 0, 7),
    }
    assert all(counted.ns > 0 for counted in trace.stats.values())
    assert trace.stats["fd_read"].ns == sum(call.duration_ns for call in trace if call.name == "fd_read")
    rows = trace.summary().splitlines()
    assert len(rows) == 5
    assert rows[0].split() == ["%", "time", "seconds", "us/call", "calls", "errors", "bytes", "call"]
    assert rows[-1].split()[0] == "100.00"
    assert rows[-1].split()[-4:] == ["4", "1", "11", "total"]


def test_times_go_on_from_the_beginning_of_the_run() -> None:
    result = vfswasi.run(SAYS, capture_output=True, trace=True)
    first, second = result.trace or ()
    assert 0 <= first.started_ns <= first.started_ns + first.duration_ns <= second.started_ns
    assert second.started_ns + second.duration_ns <= result.usage.wall_seconds * 1e9


@pytest.mark.parametrize(("body", "name"), [(SLEEP, "poll_oneoff"), (READ, "fd_read")], ids=["sleeping", "reading"])
def test_the_call_in_which_the_time_is_over_is_the_last(body: str, name: str) -> None:
    with pipe_ends() as (reads, _), pytest.raises(vfswasi.GuestTimeoutError) as caught:
        vfswasi.run(program(body), stdin=reads, trace=True, timeout=0.3)
    trace = caught.value.result.trace
    assert [(call.name, call.errno) for call in trace] == [(name, None)]


def test_a_guest_that_computes_until_its_time_is_over_has_those_before() -> None:
    with pytest.raises(vfswasi.GuestTimeoutError) as caught:
        vfswasi.run(program(SAY + ENDLESS), trace=True, timeout=0.3, capture_output=True)
    assert starts(caught.value.result.trace) == WRITES


def test_a_trap_leaves_those_before_it() -> None:
    result = vfswasi.run(program(SAY + "unreachable"), trace=True, capture_output=True)
    assert result.trap is not None
    assert starts(result.trace) == WRITES


def test_a_trace_can_be_pickled_and_copied() -> None:
    result = vfswasi.run(SAYS, trace=True, capture_output=True)
    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert again.trace == result.trace
        assert again.trace.stats == (result.trace or Trace()).stats
        assert type(again.trace) is Trace
    assert Trace([Call("a")], {"a": Counted(1)}, 3) != Trace([Call("a")], {"a": Counted(1)}, 4)


@pytest.mark.parametrize("trace", [True, lambda call: None], ids=["true", "callable"])
def test_a_guest_in_a_process_of_its_own_cannot_be_traced(trace: Any) -> None:
    with pytest.raises(ValueError, match="trace= tells of calls in this process"):
        vfswasi.run(SAYS, trace=trace, isolation="process")


def test_a_session_has_the_calls_of_all_its_calls() -> None:
    with vfswasi.Sandbox(SESSION) as sandbox, sandbox.session(trace=True) as session:
        assert session.trace == ()
        session.call("yield")
        session.call("yield")
        assert starts(session.trace) == ["sched_yield() = 0 " + str(call)[18:] for call in session.trace or ()]
        with pytest.raises(vfswasi.GuestExitError) as caught:
            session.call("exit")
        assert [call.name for call in session.trace or ()] == ["sched_yield", "sched_yield", "proc_exit"]
        assert caught.value.result.trace == session.trace
    with vfswasi.Sandbox(SESSION) as sandbox, sandbox.session() as session:
        session.call("yield")
        assert session.trace is None


def test_a_copy_of_a_session_has_its_own_and_the_same_callable() -> None:
    calls: list[Call] = []
    with vfswasi.Sandbox(SESSION) as sandbox, sandbox.session(trace=calls.append) as session:
        session.call("yield")
        with session.fork() as fork:
            fork.call("yield")
            fork.call("yield")
            assert (len(session.trace or ()), len(fork.trace or ())) == (1, 2)
        with session.snapshot() as snapshot, snapshot.session() as other:
            other.call("yield")
            assert len(other.trace or ()) == 1
    assert len(calls) == 4


def test_a_callable_in_a_session_may_put_an_errno_there() -> None:
    module = SESSION.replace(b'(export "yield") (drop (call $yield))', b'(export "yield") (result i32) (call $yield)')
    with vfswasi.Sandbox(module) as sandbox, sandbox.session(trace=lambda call: "NOSYS") as session:
        assert session.call("yield") == Errno.NOSYS


def test_wasi_has_them_and_an_errno_can_be_injected() -> None:
    with RawGuest({"/d": {}}, trace=lambda call: "ROFS" if call.path == "/d/no" else None) as guest:
        assert (guest.mkdir("yes"), guest.mkdir("no")) == (Errno.SUCCESS, Errno.ROFS)
        assert [call.path for call in guest.wasi.trace or ()] == ["/d/yes", "/d/no"]
    with RawGuest({"/d": {}}) as guest:
        assert guest.wasi.trace is None


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "not traced"])
def test_a_traced_run_does_what_one_without_the_fast_path_does(traced: bool, program: Callable[[str], Path]) -> None:
    result = vfswasi.run(program("errands"), preopens={".": {"given": b"given"}}, capture_output=True, trace=traced)
    assert result.stdout == b"done\n"
    assert sorted(result.files["."]) == ["given", "link", "symlink"]
    assert any(result.fast_calls.values()) is not traced


def test_a_write_that_finds_no_room_is_one_call() -> None:
    result = vfswasi.run(
        program_writing(), preopens={"/d": {}}, limits=vfswasi.Limits(mount_bytes=3), trace=True, timeout=60
    )
    assert [(call.name, call.errno) for call in result.trace or ()] == [
        ("path_open", Errno.SUCCESS),
        ("fd_write", Errno.DQUOT),
    ]


def program_writing() -> bytes:
    """Creates a file and writes five bytes to it."""
    return program(f"{OPEN} (call $say (i32.load (i32.const 64)))")


def test_descriptors_are_called_by_what_they_are_now() -> None:
    with RawGuest({"/d": {"sub": {}}}, trace=True) as guest:
        file = guest.create("f", b"x")
        assert guest.rename("f", "sub/g") is Errno.SUCCESS
        guest.tell(file)
        assert guest.unlink("sub/g") is Errno.SUCCESS
        guest.tell(file)
        lines = [call.line(duration=False) for call in guest.wasi.trace or () if call.name == "fd_tell"]
    assert lines == ["fd_tell(4</d/sub/g>) = 0 {offset: 1}", "fd_tell(4<(removed)>) = 0 {offset: 1}"]


def test_paths_are_as_their_text_says_and_links_are_not_followed() -> None:
    with RawGuest({"/d": {"sub": {"f": b""}}}, trace=True) as guest:
        sub = guest.opendir("sub")
        for text, fd in (("./f", sub), ("../f", sub), ("../../etc/passwd", sub), ("/etc/passwd", 3), ("sub//f/", 3)):
            guest.try_open(text, fd=fd)
        found = [call.path for call in guest.wasi.trace or ()][1:]
    assert found == ["/d/sub/f", "/d/f", "/etc/passwd", "/etc/passwd", "/d/sub/f"]
