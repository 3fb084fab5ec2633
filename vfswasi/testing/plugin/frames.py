"""Tracebacks without our own frames: a test that fails is about a program, not about how it is run."""

from __future__ import annotations

from types import TracebackType

import pytest

_OURS = ("vfswasi", "wasmtime")


def hide_ours(call: pytest.CallInfo[None]) -> None:
    """Of what was raised in a phase of a test, and of what caused it, the frames of others alone are left, such as
    those of a callable of the test's."""
    assert call.excinfo is not None
    error = call.excinfo.value
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        left = _others(one.__traceback__)
        if left is not None or one is not error:
            one.__traceback__ = left
        todo += [one.__cause__, one.__context__]
    call.excinfo = pytest.ExceptionInfo.from_exception(error)


def _others(trace: TracebackType | None) -> TracebackType | None:
    frames: list[TracebackType] = []
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _OURS:
            frames.append(trace)
        trace = trace.tb_next
    left: TracebackType | None = None
    for frame in reversed(frames):
        left = TracebackType(left, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return left
