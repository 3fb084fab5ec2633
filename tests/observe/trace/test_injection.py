"""`trace=` as a callable: it is told of each call before it is made, may put an errno in its place, and has the whole
call afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Call, Errno

from ...wat_programs import program as wat

# Writes "so fa" to standard output, and ends with the errno that it got.
WRITES = wat("(call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))")


def run(trace: Any, **options: Any) -> vfswasi.Result[bytes]:
    return vfswasi.run(WRITES, stdout=vfswasi.PIPE, timeout=60, trace=trace, **options)


@pytest.mark.parametrize("answer", [Errno.NOSPC, "NOSPC", "ENOSPC", 51], ids=["member", "name", "name of C", "number"])
def test_an_errno_is_what_the_guest_gets_and_the_call_is_not_made(answer: Any) -> None:
    result = run(lambda call: answer if call.name == "fd_write" else None)
    assert (result.returncode, result.stdout) == (Errno.NOSPC, b"")
    call = (result.trace or ())[0]
    assert (call.errno, call.injected, dict(call.results)) == (Errno.NOSPC, True, {})
    assert call.line(duration=False).endswith(" = NOSPC (injected)")


@pytest.mark.parametrize("errno", [each for each in Errno if each], ids=lambda errno: errno.name)
def test_every_errno_can_be_injected_by_each_of_its_spellings(errno: Errno) -> None:
    for answer in (errno, int(errno), errno.name, f"E{errno.name}"):
        assert run(lambda call, answer=answer: answer if call.name == "fd_write" else None).returncode == errno


@pytest.mark.parametrize(
    "answer",
    [True, False, 0, Errno.SUCCESS, "SUCCESS", 77, -1, "", "E", "NOPE", "nospc", b"NOSPC", 51.0, [51], ValueError()],
    ids=repr,
)
def test_anything_else_is_a_type_error_that_reaches_the_caller(answer: Any) -> None:
    with pytest.raises(TypeError, match="trace= answered"):
        run(lambda call: answer)


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        vfswasi.FsError(Errno.IO, "mine"),
        MemoryError(),
        KeyboardInterrupt(),
        SystemExit(4),
        vfswasi.GuestExitError("mine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_it_raises_ends_the_guest_and_reaches_the_caller_unchanged(error: BaseException) -> None:
    calls: list[Call] = []

    def raises(call: Call) -> None:
        calls.append(call)
        raise error

    with pytest.raises(type(error)) as caught:
        run(raises)
    assert caught.value is error
    assert [(call.name, call.errno, call.ended) for call in calls] == [("fd_write", None, True)]


def test_the_call_that_it_was_told_of_is_complete_afterwards() -> None:
    calls: list[Call] = []
    before: list[tuple[Errno | None, dict[str, Any]]] = []

    def told(call: Call) -> None:
        calls.append(call)
        before.append((call.errno, dict(call.results)))

    result = run(told)
    assert result.stdout == b"so fa"
    assert before[0] == (None, {})
    assert [call.name for call in calls] == ["fd_write", "proc_exit"]
    assert (calls[0].errno, calls[0].results) == (Errno.SUCCESS, {"nwritten": 5})
    assert calls[0].duration_ns > 0
    assert result.trace is not None
    assert all(mine is theirs for mine, theirs in zip(calls, result.trace, strict=True))


def test_a_list_takes_them() -> None:
    calls: list[Call] = []
    assert run(calls.append).returncode == 0
    assert [call.number for call in calls] == [0, 1]


def test_a_callable_that_is_as_false_as_an_empty_list_is_asked_all_the_same() -> None:
    class Calls(list[Call]):
        def __call__(self, call: Call) -> None:
            self.append(call)

    calls = Calls()
    run(calls)
    assert len(calls) == 2


def test_it_may_run_another_guest_meanwhile() -> None:
    inner: list[int] = []
    result = run(lambda call: inner.append(run(None).returncode))
    assert (result.returncode, inner) == (0, [0, 0])


@pytest.mark.parametrize("trace", [1, "yes", [], object()], ids=["number", "text", "list", "object"])
def test_what_is_neither_true_nor_callable_is_refused_before_anything_runs(trace: Any) -> None:
    for way in (
        lambda: run(trace),
        lambda: vfswasi.Sandbox(WRITES).start(trace=trace),
        lambda: vfswasi.WASI(version="preview1", trace=trace),
    ):
        with pytest.raises(TypeError, match="trace must be"):
            way()


def test_the_third_write_of_a_real_program_can_fail(program: Callable[[str], Path]) -> None:
    writes = 0

    def third(call: Call) -> str | None:
        nonlocal writes
        writes += call.name == "fd_write" and call.path == "/out/file"
        return "NOSPC" if writes == 3 else None

    result = vfswasi.run(
        program("seqwrite"), ["/out/file", "300000"], preopens={"/out": {}}, trace=third, capture_output=True
    )
    assert writes == 3
    assert result.returncode != 0
    assert result.trace is not None
    assert [call.injected for call in result.trace if call.path == "/out/file"].count(True) == 1
