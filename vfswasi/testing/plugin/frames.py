"""Tracebacks without our own frames: a test that fails is about a program, not about how it is run."""

from __future__ import annotations

from types import TracebackType

_OURS = ("vfswasi", "wasmtime")


def without_ours(error: Exception) -> Exception:
    """The same error, with the frames of others alone, such as those of a callable of the test's; and so for the errors
    that caused it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _others(one.__traceback__)
        todo += [one.__cause__, one.__context__]
    return error


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
