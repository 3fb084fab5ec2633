"""`Result`: what a finished run was like."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic

from ...engine.interruption.ways import EPOCH, Way
from ...engine.runner import INTERRUPTED, Ending, Meter
from ...errors import (
    GuestError,
    GuestExitError,
    GuestFuelError,
    GuestInterruptedError,
    GuestTimeoutError,
    GuestTrapError,
)
from ...fs_backends.base import Backend, Traffic
from ...fs_backends.layers.checked import Checked
from ...fs_backends.layers.readonly import ReadOnly
from ...fs_backends.layers.recorded import Recorded
from ...fs_backends.memory.backend import MemoryBackend
from ...kernel.process import Preopen, Process
from ...limits import Usage
from ...printing import counted
from ...records import field, record
from ..runs.observed import UNOBSERVED, Observed
from .files import Files, files_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ...observe.accesses.accesses import Accesses
    from ...observe.changes import Changes
    from ...observe.refusals import Refusal
    from ...observe.report.given import Given
    from ...observe.report.report import Report
    from ...observe.trace.trace import Trace

    Captured = TypeVar("Captured", bound=str | bytes, default=Any)  # whoever writes `Result` alone means any
else:
    from typing import TypeVar

    Captured = TypeVar("Captured")


@record(frozen=True, slots=False)
class Result(Generic[Captured]):
    """A finished run. It can be pickled and copied; what `files` holds at that moment goes along.

    args: the guest's argv. returncode: its exit status (u32), or -N if signal N ended it; a trap counts as
    SIGABRT (-6), and a run that was ended from outside as SIGKILL (-9). stdout, stderr: what was captured, bytes or
    str, or None. truncated: whether the guest wrote more than `Limits.output_bytes` of one of them. trap: the message
    of a trap with the guest's backtrace, or None. limit: the limit that ended it: "stack" (a trap), "wall_seconds",
    "fuel", else None; a run that ends at one of the last two is an exception, which has this as its `result`. usage:
    what it used of its limits. fast_calls: function -> calls that were answered inside wasm, without Python, and
    "bytes_read", "bytes_written" by them; empty if the fast path was off. traffic: guest directory -> requests and
    bytes that the run cost, for mounts whose files are far away (what other runs of
    the same mount did meanwhile is in it). interruption: how the guest could have been ended while it
    computed: "page", which lets it run at full speed, or "epoch" (see docs/python.md). changes: guest directory ->
    `Changes`, for every mount that the run could change. accesses: what it looked at, if that was asked for
    (`accesses=True`). trace: its calls, if they were (`trace=True`). refusals: what it was refused last, the newest
    first, and if it failed, what of its arguments is not mounted; an error that says that it failed has the first of
    them as notes.
    """

    args: list[str]
    returncode: int
    stdout: Captured | None = None
    stderr: Captured | None = None
    trap: str | None = None
    limit: str | None = None
    usage: Usage = field(default_factory=Usage, compare=False)
    fast_calls: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    traffic: Mapping[str, Traffic] = field(default_factory=dict, repr=False, compare=False)
    interruption: Way = field(default=EPOCH, repr=False, compare=False)
    truncated: bool = False
    _trees: Mapping[str, MemoryBackend] = field(default_factory=dict, repr=False, compare=False)
    _timeout_s: float | None = field(default=None, repr=False, compare=False)
    _interrupted: bool = field(default=False, repr=False, compare=False)
    changes: Mapping[str, Changes] = field(default_factory=dict, repr=False, compare=False)
    accesses: Accesses | None = field(default=None, repr=False, compare=False)
    trace: Trace | None = field(default=None, repr=False, compare=False)
    refusals: tuple[Refusal, ...] = field(default=(), repr=False, compare=False)
    _given: Given | None = field(default=None, repr=False, compare=False)

    @cached_property
    def files(self) -> Files:
        """Guest directory -> tree, for every memory mount: files as bytes, directories as dicts, links as Symlink.
        A path of the guest's, such as `files["/out/report.txt"]`, gives what is there."""
        return files_of(self._trees)

    def save(self, target: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write what is in `files`, below the names of the guest's directories, to a directory, new or not, or to a
        new archive: what `target` ends with decides, such as `out.zip` or `out.tar.gz`.

        Links are written as links, and none that is in the directory is followed. Files get mode 0600, directories
        0700. overwrite: files and links that are there are replaced; otherwise nothing is written and FileExistsError
        says what is there. Raises OSError, ValueError.
        """
        from .saving import save

        save(self._trees, target, overwrite)

    def report(self) -> Report:
        """A page about the run, to be saved or shown: when which calls were made, what they moved, what was refused,
        changed and printed. It has most of a run with `trace=True, accesses=True`, and of others what is known. Raises
        SandboxError: it needs a package of the extra `report`.
        """
        from ...observe.report.report import report_of

        return report_of(self)

    @property
    def ended_from_outside(self) -> bool:
        """Whether the guest did not come to an end of its own: its time or fuel was over, or it was killed."""
        return self._interrupted or self.limit in ("wall_seconds", "fuel")

    def __repr__(self) -> str:
        from .views import result_text

        return result_text(self)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from .views import result_html

        return result_html(self, self._trees)

    def check_returncode(self) -> None:
        """Raises the GuestError that says why, if the guest did not end with status 0."""
        if self.returncode == 0:
            return
        error = self._error()
        if self.refusals and not self._interrupted:
            add_notes(error, self.refusals)
        try:
            raise error
        finally:
            del error  # its traceback leads to this frame

    def _error(self) -> GuestError:
        name = self.args[0] if self.args else "guest"
        if self._interrupted:
            return GuestInterruptedError(f"{name}: the run was interrupted", result=self)
        if self.limit == "wall_seconds":
            return GuestTimeoutError(
                f"{name} was still running after {counted(self._timeout_s or 0, 'second')}", result=self
            )
        if self.limit == "fuel":
            return GuestFuelError(f"{name} had used up its fuel of {self.usage.fuel or 0:,}", result=self)
        if self.trap is not None:
            return GuestTrapError(f"{name} trapped: {self.trap}", result=self)
        if self.returncode < 0:
            return GuestTrapError(f"{name} was ended by signal {-self.returncode}", result=self)
        return GuestExitError(f"{name} ended with exit status {self.returncode}", result=self)


def add_notes(error: GuestError, refusals: Iterable[Refusal]) -> None:
    """What the guest was refused, for whoever reads how it failed."""
    from .refused import telling  # most runs are refused nothing

    for each in telling(refusals):
        error.add_note(str(each))


_SIGKILL: Final = 9


def result_of(
    argv: list[str],
    ending: Ending,
    captured: Sequence[Any],
    truncated: bool,
    preopens: Sequence[Preopen],
    timeout_s: float | None,
    traffic: Mapping[str, Traffic],
    usage: Usage,
    interruption: Way,
    changes: Mapping[str, Changes] | None = None,
    observed: Observed = UNOBSERVED,
    refusals: tuple[Refusal, ...] = (),
    given: Given | None = None,
) -> Result[Any]:
    stdout, stderr = captured
    trees = {
        preopen.name: backend
        for preopen in preopens
        if isinstance(backend := _unwrapped(preopen.backend), MemoryBackend)
    }
    return Result(
        argv,
        -_SIGKILL if ending.returncode is None else ending.returncode,
        stdout,
        stderr,
        ending.trap,
        None if ending.limit == INTERRUPTED else ending.limit,
        usage,
        dict(ending.fast_calls),
        traffic,
        interruption,
        truncated,
        trees,
        timeout_s,
        ending.limit == INTERRUPTED,
        {} if changes is None else changes,
        observed.accesses(preopens),
        observed.trace(),
        refusals,
        _given=given,
    )


def usage_of(
    process: Process,
    meter: Meter,
    started_ns: int,
    captured: Sequence[bytes | None],
) -> Usage:
    usage = Usage(
        (time.monotonic_ns() - started_ns) / 1e9,
        meter.fuel,
        meter.seen_bytes(),
        process.fds.peak,
        process.quota.peak_inodes,
        process.quota.peak_bytes,
    )
    for raw in captured:
        if raw is not None:
            usage.output_bytes += len(raw)
    usage.remote_requests = process.allowance.requests
    usage.remote_bytes = process.allowance.bytes
    return usage


def _unwrapped(backend: Backend) -> Backend:
    while isinstance(backend, ReadOnly | Checked | Recorded) or getattr(backend, "only_watches", False):
        backend = backend.inner  # type: ignore[attr-defined]
    return backend
