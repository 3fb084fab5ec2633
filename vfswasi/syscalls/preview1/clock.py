"""`clock_*`."""

from __future__ import annotations

from ...kernel.process import Process
from ..memory import GuestMemory


def clock_res_get(process: Process, memory: GuestMemory, clock_id: int, resolution_ptr: int) -> None:
    """resolution_ptr: u64 nanoseconds, never 0.

    Errors, in order: FAULT, INVAL (unknown clock). Spec: preview1 clock_res_get.
    """
    memory.check(resolution_ptr, 8)
    memory.write_u64(resolution_ptr, process.clocks.resolution(clock_id))


def clock_time_get(process: Process, memory: GuestMemory, clock_id: int, precision: int, time_ptr: int) -> None:
    """time_ptr: u64 nanoseconds. `precision` (the lag that is allowed) is not needed: the time is exact.

    Errors, in order: FAULT, INVAL (unknown clock). Spec: preview1 clock_time_get.
    """
    memory.check(time_ptr, 8)
    memory.write_u64(time_ptr, process.clocks.now(clock_id))
