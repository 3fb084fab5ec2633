"""`proc_*`, `sched_yield`, `random_get`."""

from __future__ import annotations

import time

from ...kernel.clocks import ProcessExit
from ...kernel.process import Process
from ..memory import GuestMemory


def proc_exit(process: Process, memory: GuestMemory, code: int) -> None:
    """End the guest with `code` (u32). Does not return. Spec: preview1 proc_exit."""
    raise ProcessExit(code)


def proc_raise(process: Process, memory: GuestMemory, signal: int) -> None:
    """Send a signal to the guest itself: it ends the guest, or is one of those that are ignored.

    Errors: INVAL (no such signal), NOTSUP (STOP, TSTP, TTIN, TTOU: nobody could continue it). Spec: preview1
    proc_raise.
    """
    process.raise_signal(signal)


def sched_yield(process: Process, memory: GuestMemory) -> None:
    """Let other threads of the host run; ends the guest if its time is over. Spec: preview1 sched_yield."""
    process.deadline.check()
    if process.windows is not None:
        process.windows.settle()
    time.sleep(0)
    if process.windows is not None:
        process.windows.refresh(everything=False)


def random_get(process: Process, memory: GuestMemory, buf_ptr: int, buf_len: int) -> None:
    """buf_ptr: `buf_len` bytes from the operating system's generator.

    Errors: FAULT. Spec: preview1 random_get.
    """
    process.random(memory.slice(buf_ptr, buf_len))
