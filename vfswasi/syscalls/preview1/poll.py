"""`poll_oneoff`."""

from __future__ import annotations

from struct import unpack_from

from ...abi import constants as c
from ...abi.layouts import EVENT, Abi
from ...errors import Errno, FsError
from ...kernel.process import Process
from ...kernel.streams.poll import Subscription, poll
from ..memory import GuestMemory


def poll_oneoff(
    process: Process, memory: GuestMemory, in_ptr: int, out_ptr: int, count: int, nevents_ptr: int, *, abi: Abi
) -> None:
    """Wait for at least one of `count` subscriptions.

    in_ptr: count x `abi.subscription_*`. out_ptr: room for count x {u64 userdata, u16 errno, u8 type at 10,
    u64 bytes at 16, u16 flags at 24}, 32 bytes each. nevents_ptr: u32, events written.
    Errors, in order: FAULT, INVAL (no subscription, more than `Limits.subscriptions`, unknown kind, clock or flag),
    BADF. Spec: preview1 poll_oneoff.
    """
    size = abi.subscription_size
    memory.check(in_ptr, count * size)
    memory.check(out_ptr, count * EVENT.size)
    memory.check(nevents_ptr, 4)
    if count > process.limits.subscriptions:
        raise FsError(Errno.INVAL)
    raw = memory.read(in_ptr, count * size)
    events = poll(process, [_subscription(abi, raw, index * size) for index in range(count)])
    for index, (userdata, errno, eventtype, nbytes, flags) in enumerate(events):
        memory.write(out_ptr + index * EVENT.size, EVENT.pack(userdata, errno, eventtype, nbytes, flags))
    memory.write_u32(nevents_ptr, len(events))


def _subscription(abi: Abi, raw: bytes, start: int) -> Subscription:
    userdata, eventtype = unpack_from("<QB", raw, start)
    if eventtype == c.EVENTTYPE_CLOCK:
        clock, timeout_ns, flags = abi.subscription_clock.unpack_from(raw, start + 16)
        if flags & ~c.SUBCLOCKFLAG_ABSTIME:
            raise FsError(Errno.INVAL)
        return Subscription(userdata, eventtype, 0, clock, timeout_ns, bool(flags))
    if eventtype not in (c.EVENTTYPE_FD_READ, c.EVENTTYPE_FD_WRITE):
        raise FsError(Errno.INVAL)
    (fd,) = unpack_from("<I", raw, start + 16)
    return Subscription(userdata, eventtype, fd)
