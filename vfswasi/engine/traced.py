"""System calls for guests whose calls somebody is told of: the same functions as in `host`, in callbacks of their own,
so that nobody else's pay for it. Such a guest has no fast path.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from time import monotonic
from typing import Any

from ..abi.layouts import ABIS, Abi
from ..errors import Errno, FsError, errno_of
from ..kernel.process import Process
from ..kernel.refused import TELLING, detail_of, refused
from ..syscalls.memory import GuestMemory
from ..syscalls.preview1 import table
from . import capi
from .guests import Guest, latch, live
from .host import SLOT, call_with_new_memory

_bindings: dict[str, dict[str, Any]] = {}


def callbacks(version: str) -> dict[str, Any]:
    """Name -> C function pointer, for the functions of "preview1" or "unstable"."""
    found = _bindings.get(version)
    if found is None:
        abi = ABIS[version]
        made = {name: _bind(function, abi, name) for name, function in table(abi).items()}
        found = _bindings.setdefault(version, made)
    return found


def _bind(function: Callable[..., None], abi: Abi, name: str) -> Any:
    types = abi.functions[name]
    unpack = Struct("<" + "".join(SLOT[letter] for letter in types)).unpack_from
    size = max(len(types), 1) * capi.VAL_RAW_BYTES

    def call(env: int, caller: int, args: int, _count: int) -> int:
        try:
            guest = live[env]
            view = capi.view_of(args, size).cast("I")
            view[0] = _made(guest, caller, function, abi, name, unpack(view) if types else ())
            return 0
        except BaseException as end:
            return latch(env, end)

    return capi.RawCallback(call)


def _made(
    guest: Guest, caller: int, function: Callable[..., None], abi: Abi, name: str, arguments: tuple[int, ...]
) -> Errno:
    """Make a call, or not; what the guest gets. Raises what ends the guest, whatever that is: what a tracer raises is
    no failure of the call, though it may be an FsError."""
    got = Errno.SUCCESS

    def told(process: Process, memory: GuestMemory, *arguments: int) -> None:
        nonlocal got
        tracer = process.tracer
        assert tracer is not None
        injected = tracer.before(process, memory, abi, name, arguments)
        if injected is not None:
            got = injected
            tracer.after(process, memory, got)
            return
        try:
            if monotonic() >= guest.turn_ends:
                guest.look()
            function(process, memory, *arguments)
        except FsError as error:
            got = errno_of(error)
            if TELLING[got]:
                process.note(refused(process, memory, name, arguments, got, detail_of(error)))
        except MemoryError:
            got = Errno.NOMEM
        except BaseException as end:
            tracer.ended(end)
            raise
        over = process.deadline.over() if got is Errno.CANCELED else None
        if over is not None:
            tracer.ended(over)
            raise over
        tracer.after(process, memory, got)

    memory = guest.memory
    if memory is None:
        call_with_new_memory(guest, caller, told, arguments)
    else:
        told(guest.process, memory, *arguments)
    return got
