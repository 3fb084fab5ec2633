"""Mounting is part of a run: what opens the preopens keeps to a deadline, to limits and to Ctrl-C, as a guest does.

An archive has to be read before it can be shown, and a store far away is asked whether there is anything to mount. Both
are somebody else's bytes, in any number, at any speed. So this happens where guests run, on a thread that can be left
behind, and what it asks for is counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ...engine.runner import end_what_is_over
from ...engine.threads import stacks, workers
from ...errors import FsError, GuestInterruptedError, GuestTimeoutError, MountError
from ...fs_backends.base import Backend
from ...fs_backends.waiting import Allowance, bounded_by
from ...kernel.clocks import Deadline, DeadlinePassed
from ...kernel.process import allowance_of
from ...limits import Limits, Usage
from ...mounts.options import Mount
from ...mounts.table import MountTable
from ...printing import counted
from ..results.result import Result

if TYPE_CHECKING:
    from ...mounts.finding.source_types import Source


class Bounds(NamedTuple):
    """What one piece of work for a caller must keep to: its time, and what it may ask of stores. stack_bytes: of the
    thread that does it, as `stacks.rounded` gives it."""

    deadline: Deadline
    allowance: Allowance
    stack_bytes: int

    @classmethod
    def of(cls, limits: Limits, timeout_s: float | None) -> Bounds:
        """The bounds of something that begins now. timeout_s: seconds, None: for ever."""
        return cls(Deadline(timeout_s), allowance_of(limits), stacks.rounded(limits.stack_bytes))


def open_mounts(
    preopens: Mapping[str, Source] | None,
    trusted: Iterable[str | os.PathLike[str]],
    bounds: Bounds,
    base: MountTable | None = None,
) -> MountTable:
    """A `MountTable` of them; `trusted` and `base` are its arguments.

    Raises GuestTimeoutError (the deadline came first), and what `MountTable` raises.
    """
    opened: list[MountTable] = []

    def work() -> None:
        opened.append(MountTable(preopens, trusted, base))

    def close() -> None:
        while opened:
            opened.pop().close()

    within(bounds, work, close, "mounting", _is_instant(preopens))
    if opened[0].has_overlays:
        from .. import publishing  # noqa: F401 - here, since at the end of a run its time may be over
    return opened.pop()


def within(bounds: Bounds, work: Callable[[], None], close: Callable[[], None], what: str, instant: bool) -> None:
    """Do something that asks stores and files of others. what: for messages. instant: it waits for nobody. close: gives
    up what `work` has made, if it was not needed any more when it was done.

    Raises GuestTimeoutError, HostCallError (interrupted), and what `work` raises.
    """
    started_ns = time.monotonic_ns()
    deadline, allowance = bounds.deadline, bounds.allowance

    def bounded() -> None:
        with bounded_by(deadline, allowance):
            work()

    here = deadline.at_ns is None and threading.current_thread() is not threading.main_thread()
    end: BaseException | None
    try:
        if here or instant:
            bounded()
        else:
            workers.call(bounded, deadline, end_what_is_over, close, bounds.stack_bytes)
        return
    except workers.LeftBehindError as left:
        end = left.end
    except (MountError, FsError):
        end = deadline.over()  # the error may be how it made itself felt
        if end is None:
            raise
    except BaseException:
        close()
        raise
    if not isinstance(end, DeadlinePassed):
        raise GuestInterruptedError(f"{what} was interrupted")
    usage = Usage((time.monotonic_ns() - started_ns) / 1e9)
    usage.remote_requests, usage.remote_bytes = allowance.requests, allowance.bytes
    result: Result[bytes] = Result([], -9, usage=usage)  # of a run that did not come to its guest
    raise GuestTimeoutError(f"{what} was not done after {counted(deadline.timeout_s or 0, 'second')}", result=result)


def _is_instant(preopens: object) -> bool:
    """Whether there is nothing to open but trees in memory and stores that are open already."""
    if not isinstance(preopens, Mapping):
        return True
    for source in preopens.values():
        given = source.source if isinstance(source, Mount) else source
        if not isinstance(given, Mapping | Backend) and given not in ("mem:", "dev:"):
            return False
    return True
