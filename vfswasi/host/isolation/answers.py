"""From what a worker says to what a caller gets: everything is looked at, since a guest may have written it."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ... import errors
from ...engine.interruption.ways import EPOCH, PAGE
from ...errors import Errno, FsError, Uncommitted
from ...fs_backends.base import Traffic
from ...fs_backends.memory.backend import MemoryBackend
from ...limits import Usage
from ...observe.refusals import Refusal
from ...printing import printable
from ..results.result import Result
from .process import Answer
from .trees import unpacked
from .wire import MOUNTS_MAX, TEXT_MAX, NoAnswerError

_ERRORS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        errors.InvalidModuleError,
        errors.MissingImportError,
        errors.MissingExportError,
        errors.ModuleError,
        errors.CompileError,
        errors.CompileLimitError,
        errors.CompileTimeoutError,
        errors.MountError,
        errors.WasiStateError,
        errors.HostCallError,
        errors.GuestLimitError,
        errors.GuestTimeoutError,
        errors.GuestFuelError,
        errors.GuestInterruptedError,
        errors.UncommittedError,
        ValueError,
        TypeError,
        LookupError,
        NotImplementedError,
    )
}
_COUNT_MAX: Final = 1 << 64
_FILES_MAX: Final = 10_000
_REFUSALS_MAX: Final = 100


class Expected(NamedTuple):
    """What the caller knows of an answer before it comes. trees: guest directory -> objects at most, of each mount
    that is a tree in memory. mounts: all of them."""

    args: list[str]
    mounts: tuple[str, ...]
    trees: Mapping[str, int]
    captured: tuple[bool, bool]
    codec: tuple[str, str] | None
    timeout_s: float | None
    output_bytes: int


class MemoryOverError(Exception):
    """The worker needed more memory than it may have."""


def error_of(answer: Answer, result: Result[Any] | None = None) -> Exception | None:
    """The exception of a request that failed, but UncommittedError; None: it did not. Raises NoAnswerError."""
    told = answer.content.get("error")
    if told is None:
        return None
    _check(isinstance(told, dict))
    kind, message = told.get("type"), _text(told.get("message"))
    _check(isinstance(kind, str))
    if kind == "MemoryError":
        return MemoryOverError()
    if kind == "FsError":
        return FsError(_errno(told.get("errno")), message)
    if kind == "OSError":
        number, name = _count(told.get("errno")), told.get("filename")
        return OSError(number, message, *([] if name is None else [_text(name)]))
    made = _ERRORS.get(kind)
    if made is None or issubclass(made, errors.UncommittedError):
        return errors.HostCallError(f"a worker failed: {printable(kind[:100])}: {message}")
    if issubclass(made, errors.GuestError):
        return made(message, result=result)
    return made(message)


def traffic_of(told: Any, mounts: tuple[str, ...]) -> dict[str, Traffic]:
    """Raises NoAnswerError."""
    _check(isinstance(told, dict) and told.keys() <= set(mounts))
    found = {}
    for name, counts in told.items():
        _check(isinstance(counts, list) and len(counts) == len(Traffic.__annotations__))
        found[name] = Traffic(*map(_count, counts))
    return found


def result_of(answer: Answer, expected: Expected) -> Result[Any] | None:
    """The result in an answer; None: there is none. Raises NoAnswerError."""
    told = answer.content.get("result")
    if told is None:
        return None
    _check(isinstance(told, dict))
    parts = list(answer.parts)
    code = told.get("returncode")
    _check(type(code) is int and -64 <= code < 1 << 32)
    captured = told.get("captured")
    _check(captured in ([True, True], [True, False], [False, True], [False, False]))
    names = told.get("trees")
    _check(isinstance(names, list) and all(isinstance(name, str) for name in names))
    _check(len(set(names)) == len(names) and set(names) <= expected.trees.keys())
    _check(len(parts) == sum(captured) + len(names))
    outputs: list[Any] = []
    for wanted, there in zip(expected.captured, captured, strict=True):
        _check(wanted or not there)
        raw = bytes(parts.pop(0)) if there else None
        _check(raw is None or len(raw) <= expected.output_bytes)
        outputs.append(raw if raw is None or expected.codec is None else raw.decode(*expected.codec))
    trees = {name: MemoryBackend(unpacked(part, expected.trees[name])) for name, part in zip(names, parts, strict=True)}
    limit, way, trap = told.get("limit"), told.get("interruption"), told.get("trap")
    _check(limit in (None, "stack", "wall_seconds", "fuel") and way in (PAGE, EPOCH))
    flags = told.get("truncated"), told.get("interrupted")
    _check(all(isinstance(flag, bool) for flag in flags))
    calls = told.get("fast_calls")
    _check(isinstance(calls, dict) and len(calls) < 1000)
    return Result(
        expected.args,
        code,
        outputs[0],
        outputs[1],
        None if trap is None else _text(trap),
        limit,
        _usage(told.get("usage")),
        {printable(name): _count(count) for name, count in calls.items()},
        traffic_of(told.get("traffic"), expected.mounts),
        PAGE if way == PAGE else EPOCH,
        flags[0],
        trees,
        expected.timeout_s,
        flags[1],
        refusals=refusals_of(told.get("refusals")),
    )


def refusals_of(told: Any) -> tuple[Refusal, ...]:
    """Raises NoAnswerError."""
    _check(isinstance(told, list) and len(told) <= _REFUSALS_MAX)
    found = []
    for each in told:
        _check(isinstance(each, list) and len(each) == 9)
        call, path, errno, mount, readonly, devices, outside, detail, mounts = each
        _check(isinstance(readonly, bool) and isinstance(devices, bool) and isinstance(mounts, list))
        texts = [None if text is None else _text(text) for text in (path, mount)]
        _check(len(mounts) <= MOUNTS_MAX)
        names = tuple(map(_text, mounts))
        found.append(
            Refusal(
                _text(call), texts[0], _errno(errno), texts[1], readonly, devices, _text(outside), _text(detail), names
            )
        )
    return tuple(found)


def _usage(told: Any) -> Usage:
    _check(isinstance(told, dict) and told.keys() == Usage.__annotations__.keys())
    seconds, fuel = told.pop("wall_seconds"), told.pop("fuel")
    _check(type(seconds) in (int, float) and math.isfinite(seconds) and seconds >= 0)
    counts = {name: _count(count) for name, count in told.items()}
    return Usage(float(seconds), None if fuel is None else _count(fuel), **counts)


class Spill:
    """A file without a name, for what a worker cannot store; it goes with the last who reads it."""

    def __init__(self) -> None:
        """Raises OSError."""
        with tempfile.TemporaryFile(prefix="vfswasi-") as file:
            self.fd = os.dup(file.fileno())
        self.close = weakref.finalize(self, os.close, self.fd)


def lost_of(answer: Answer, spilled: Spill | None) -> list[Uncommitted]:
    """The files that could not be stored, whose contents are in `spilled`; empty: everything was. Raises
    NoAnswerError."""
    told = answer.content.get("files")
    if told is None:
        return []
    _check(isinstance(told, list) and 0 < len(told) <= _FILES_MAX)
    there = 0 if spilled is None else os.fstat(spilled.fd).st_size
    lost = []
    for entry in told:
        _check(isinstance(entry, list) and len(entry) == 5)
        path, errno, detail, at, size = entry
        at, size = _count(at), _count(size)
        _check(at + size <= there)
        lost.append(
            Uncommitted(_text(path), FsError(_errno(errno), _text(detail)), size, _reader(spilled, at), _nothing)
        )
    return lost


def _reader(file: Spill | None, at: int) -> Callable[[int, int], bytes]:
    def read(offset: int, count: int) -> bytes:
        return b"" if file is None or count <= 0 else os.pread(file.fd, count, at + offset)

    return read


def _nothing() -> None:
    """The file goes with the last of its readers."""


def _check(good: bool) -> None:
    if not good:
        raise NoAnswerError("it sent an answer that cannot be")


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _COUNT_MAX:
        raise NoAnswerError("it sent a number that cannot be")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise NoAnswerError("it sent a text that cannot be")
    return "\n".join(map(printable, value.split("\n")))


def _errno(value: Any) -> Errno:
    try:
        return Errno(_count(value))
    except ValueError:
        raise NoAnswerError("it sent an error that cannot be") from None
