"""`poll_oneoff`: wait for clocks and descriptors, many at once.

Descriptors are looked at before clocks, so that a zero timeout is a way to ask "is anything ready". Regular
files and directories are always ready, as in poll(2). A wait never outlives the run's deadline. In a run with a clock
of its own a wait for a time takes none: descriptors are looked at once, and if none is ready the time has come.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import termios
from collections.abc import Sequence
from typing import NamedTuple

from ...abi import constants as c
from ...errors import Errno, FsError
from ..descriptor import OpenFile
from ..process import Process
from .host_descriptor import HostDescriptor
from .stream import Stream


class Subscription(NamedTuple):
    """One event to wait for. `timeout_ns` and `absolute` matter to clocks, `fd` to the rest."""

    userdata: int
    eventtype: int
    fd: int = 0
    clock: int = 0
    timeout_ns: int = 0
    absolute: bool = False


class Event(NamedTuple):
    """One event that occurred; `nbytes` and `flags` for descriptors."""

    userdata: int
    errno: Errno
    eventtype: int
    nbytes: int = 0
    flags: int = 0


def poll(process: Process, subscriptions: Sequence[Subscription]) -> list[Event]:
    """Wait until at least one event occurred; all that have, in the order of the subscriptions.

    Raises INVAL (none, an unknown clock), BADF (any bad descriptor fails the whole call). What concerns one
    subscription alone (NOTCAPABLE, NOTSUP for a CPU clock) is an event with that error.
    """
    if not subscriptions:
        raise FsError(Errno.INVAL)
    if process.windows is not None:
        process.windows.settle()
    clocks = process.clocks
    wakes: dict[int, int] = {}  # subscription -> time, as `clocks` counts it
    waits: dict[int, tuple[HostDescriptor, int]] = {}  # subscription -> host descriptor, poll(2) mask
    events: dict[int, Event] = {}
    for index, sub in enumerate(subscriptions):
        if sub.eventtype == c.EVENTTYPE_CLOCK:
            if sub.clock > c.CLOCK_THREAD_CPUTIME:
                raise FsError(Errno.INVAL)
            if sub.clock > c.CLOCK_MONOTONIC:
                events[index] = Event(sub.userdata, Errno.NOTSUP, sub.eventtype)
            else:
                wakes[index] = clocks.wake_ns(sub.clock, sub.timeout_ns, sub.absolute)
        else:
            _look_at_descriptor(process, index, sub, events, waits)
    if waits:
        _wait_for_descriptors(process, subscriptions, events, waits, wakes)
    elif not events:
        until = clocks.waits_until_ns(min(wakes.values()))
        assert until is not None
        process.deadline.sleep_until(until)
    if process.windows is not None:
        process.windows.refresh(everything=False)
    now = clocks.waited_ns(None if events else min(wakes.values(), default=None))
    for index, wake in wakes.items():
        if wake <= now:
            sub = subscriptions[index]
            events[index] = Event(sub.userdata, Errno.SUCCESS, sub.eventtype)
    return [events[index] for index in sorted(events)]


def _look_at_descriptor(
    process: Process,
    index: int,
    sub: Subscription,
    events: dict[int, Event],
    waits: dict[int, tuple[HostDescriptor, int]],
) -> None:
    """Either an event at once, or a host descriptor to wait for."""
    descriptor = process.fds.get(sub.fd, 0)
    reads = sub.eventtype == c.EVENTTYPE_FD_READ
    need = c.RIGHT_POLL_FD_READWRITE | (c.RIGHT_FD_READ if reads else c.RIGHT_FD_WRITE)
    missing = need & ~descriptor.rights
    if missing:
        events[index] = Event(sub.userdata, descriptor.refuse(missing).errno, sub.eventtype)
        return
    nbytes = 0
    if isinstance(descriptor, Stream):
        end = descriptor.source if reads else descriptor.sink
        assert end is not None
        host = end.waited_for()
        if host is not None:
            waits[index] = (host, select.POLLIN if reads else select.POLLOUT)
            return
        nbytes = descriptor.source.available() if reads and descriptor.source is not None else 0
    elif reads and isinstance(descriptor, OpenFile):
        nbytes = max(0, descriptor.inode.handle.size() - descriptor.tell())
    events[index] = Event(sub.userdata, Errno.SUCCESS, sub.eventtype, nbytes)


def _wait_for_descriptors(
    process: Process,
    subscriptions: Sequence[Subscription],
    events: dict[int, Event],
    waits: dict[int, tuple[HostDescriptor, int]],
    wakes: dict[int, int],
) -> None:
    interest: dict[int, int] = {}
    with contextlib.ExitStack() as held:
        numbers = {host: held.enter_context(host) for host, _ in waits.values()}
        for host, mask in waits.values():
            interest[numbers[host]] = interest.get(numbers[host], 0) | mask
        # With an event at hand this is a glance, not a wait.
        limit = 0 if events else process.clocks.waits_until_ns(min(wakes.values(), default=None))
        ready = process.deadline.wait_ready(interest, limit)
        for index, (host, mask) in waits.items():
            number = numbers[host]
            happened = ready.get(number, 0)
            over = happened & (select.POLLHUP | select.POLLERR | select.POLLNVAL)
            if happened & mask or over:
                sub = subscriptions[index]
                nbytes = _readable_bytes(number) if mask == select.POLLIN else 0
                flags = c.EVENTRWFLAG_HANGUP if over else 0
                events[index] = Event(sub.userdata, Errno.SUCCESS, sub.eventtype, nbytes, flags)


def _readable_bytes(fileno: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(fileno, termios.FIONREAD, b"\0\0\0\0"), "little")
    except OSError:
        return 0
