"""Clocks without Python: wasmtime has the host's, and tells them to vdso.wat; a clock of the run's own is a number
there.

Of wasmtime's own WASI one function is used, `clock_time_get`, and only vdso.wat can call it: it is no import of any
guest. A store of ours is given a configuration for it that grants nothing. A store that the user made may have one
already, and two do not fit, so there the clocks stay with Python.

Both read the same clocks of the system. Realtime is the same number; wasmtime counts monotonic time from the moment at
which the store got its configuration, so a difference is added (`publish`).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Final

import wasmtime
from wasmtime import _ffi as ffi

from ...abi import constants as c
from ...kernel.clocks import Clocks
from .. import capi
from . import vdso

_MODULE: Final = b"wasi_snapshot_preview1"
_FUNCTION: Final = b"clock_time_get"
# The difference is as good as the shortest of so many looks at both clocks, which take a microsecond or two each; if
# the thread lost the processor in all of them, the next call tries again.
_LOOKS: Final = 4
LOOK_MAX_NS: Final = 50_000

_lock = threading.Lock()
_linkers: dict[wasmtime.Engine, wasmtime.Linker] = {}  # of engines of ours, which stay


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


def of_store(context: int, engine: wasmtime.Engine) -> ffi.wasmtime_func_t:
    """wasmtime's `clock_time_get` for a store of ours. Raises Unavailable, WasmtimeError."""
    with _lock:
        linker = _linkers.get(engine)
        if linker is None:
            linker = wasmtime.Linker(engine)
            linker.define_wasi()
            _linkers[engine] = linker
    error = capi.context_set_wasi(context, capi.wasi_config_new())
    if error:
        raise vdso.Unavailable(capi.take_error_message(error))
    extern = ffi.wasmtime_extern_t()
    address = capi.address_of(linker.ptr())
    found = capi.linker_get(
        address, context, _MODULE, len(_MODULE), _FUNCTION, len(_FUNCTION), ctypes.addressof(extern)
    )
    if not found or capi.kind_of(extern) != capi.EXTERN_FUNC:
        raise vdso.Unavailable("wasmtime has no clock_time_get")
    return extern.of.func


def publish(memory: vdso.Vdso, clocks: Clocks) -> bool:
    """Have `clock_time_get` and `clock_res_get` answered there; False: not now.

    The monotonic clock there is ahead of Python's by at most the time that one look takes. So who sleeps in Python
    finds no less time gone by than it asked for; and Python, if it is asked in between, goes on from what was told.
    """
    if clocks.clock is not None:
        _publish_own(memory, clocks)
        return True
    looks = []
    for _ in range(_LOOKS):
        before = time.monotonic_ns()
        told = memory.monotonic_ns()
        after = time.monotonic_ns()
        if told is None:
            return False
        looks.append((after - before, after - told))
    took_ns, difference_ns = min(looks)
    if took_ns > LOOK_MAX_NS:
        return False
    for clock, offset_ns in ((c.CLOCK_REALTIME, 0), (c.CLOCK_MONOTONIC, difference_ns)):
        at = vdso.CLOCKS_AT + clock * vdso.CLOCK.size
        vdso.CLOCK.pack_into(memory.view, at, vdso.TIME_FROM_WASMTIME, offset_ns, 0, clocks.resolution(clock))
    longs, told_at = memory.longs, (vdso.CLOCKS_AT + c.CLOCK_MONOTONIC * vdso.CLOCK.size + vdso.TOLD_AT) >> 3
    clocks.told_elsewhere_ns = lambda: longs[told_at]
    return True


def _publish_own(memory: vdso.Vdso, clocks: Clocks) -> None:
    """What the clock says lies there from now on, whoever moves it."""
    from ...kernel.own_clocks import MONOTONIC_LEAST, OwnClocks  # few runs have them

    assert isinstance(clocks, OwnClocks)
    clocks.move_to(memory.longs, vdso.NOW_AT >> 3)
    memory.longs[vdso.STEP_AT >> 3] = clocks.step_ns
    for clock, least in ((c.CLOCK_REALTIME, 0), (c.CLOCK_MONOTONIC, MONOTONIC_LEAST)):
        at = vdso.CLOCKS_AT + clock * vdso.CLOCK.size
        vdso.CLOCK.pack_into(memory.view, at, vdso.TIME_KEPT_HERE, least, 0, clocks.resolution(clock))
