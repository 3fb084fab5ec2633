"""The fast path inside wasm: instantiating `shim.wat` and `vdso.wat`, and the words of their shared table.

What the words mean stands at the top of `vdso.wat`; here are the same numbers for Python. Nothing in this file decides
what is published: `fastpath` does that for descriptors, `windows` for the contents of files.
"""

from __future__ import annotations

import ctypes
import os
import threading
from bisect import insort
from pathlib import Path
from struct import Struct
from typing import Final
from weakref import WeakKeyDictionary

import wasmtime
from wasmtime import _ffi as ffi

from ...abi import constants as c
from ...abi.layouts import Abi
from ...kernel.descriptor import Descriptor
from ...limits import Limits
from .. import capi
from ..compiling.modules import load_own

# In the order of the table in shim.wat.
FUNCTIONS: Final = (
    "fd_read",
    "fd_write",
    "fd_pread",
    "fd_pwrite",
    "fd_seek",
    "fd_tell",
    "fd_fdstat_get",
    "fd_filestat_get",
    "random_get",
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "clock_time_get",
    "clock_res_get",
)

HEADER: Final = Struct("<II3IIII")
"""descriptors, filestat size, whence set/cur/end, iovecs, random next, random end; at 0."""
IOVECS_MAX: Final = 65536  # as many fit
RANDOM_AT: Final = 24
COUNTERS: Final = Struct("<17Q")
"""One for each of FUNCTIONS, bytes read, bytes written; at COUNTERS_AT."""
COUNTERS_AT: Final = 32
ARGS_AT: Final = 168
ENVIRON_AT: Final = 184
STRINGS: Final = Struct("<III")
"""address of their offsets and bytes, how many strings, how many bytes; at ARGS_AT and at ENVIRON_AT."""
CLOCKS_AT: Final = 0x100
CLOCK: Final = Struct("<I4xQQQ")
"""who knows the time, offset or least, told, resolution; at CLOCKS_AT for each clock whose number is below CLOCKS."""
CLOCKS: Final = 2
TOLD_AT: Final = 16
TIME_FROM_WASMTIME: Final = 1
TIME_KEPT_HERE: Final = 2
NOW_AT: Final = 0x148
STEP_AT: Final = 0x150
DESCRIPTORS_AT: Final = 0x1000
DESCRIPTORS_MAX: Final = 1024
DESCRIPTOR: Final = Struct("<IIQBxH4xQQII16x")
"""file, stream, cursor, filetype, flags, rights, inheriting rights, writing, fdstat is current."""
CURSOR_AT: Final = 8
FILES_AT: Final = 0x11000
FILES_MAX: Final = 256
FILE_BYTES: Final = 128
FILE: Final = Struct("<QQQQQQIIII")
"""size, start, valid, room, dirty from, dirty to, window, lease, flags, filestat is current."""
FILESTAT_AT: Final = 64
STREAMS_AT: Final = 0x19000
STREAMS_MAX: Final = 16
STREAM: Final = Struct("<II")
"""next, end."""
RANDOM_POOL_AT: Final = 0x1A000
RANDOM_POOL_BYTES: Final = 4096
WINDOWS_AT: Final = 0xA0000

WRITES_IN_PYTHON, WRITES_AT_CURSOR, WRITES_AT_END = 0, 1, 2
DIRTY_BYTES_TOUCH: Final = 1
PYTHON_KNOWS_THE_END: Final = 2

_PAGE: Final = 1 << 16
_WASM_PAGES_MAX: Final = 1 << 16
_GRAIN: Final = 4096
_RESULT: Final = ctypes.c_int64 * (capi.VAL_RAW_BYTES // 8)

_HERE: Final = Path(__file__).parent
_lock = threading.Lock()
_modules: WeakKeyDictionary[wasmtime.Engine, dict[str, wasmtime.Module]] = WeakKeyDictionary()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


def module_address(engine: wasmtime.Engine, name: str) -> int:
    """The compiled "shim" or "vdso" for an engine, compiled once. Raises WasmtimeError: the engine's settings lack
    something that it needs (several memories, bulk memory)."""
    with _lock:
        known = _modules.setdefault(engine, {})
        if name not in known:
            known[name] = load_own(engine, (_HERE / f"{name}.wat").read_text(), f"{name}.wat")
        return capi.address_of(known[name].ptr())


# The counters of a run whose memory was never made.
NO_CALLS: Final = dict.fromkeys((*FUNCTIONS, "bytes_read", "bytes_written"), 0)


class Unavailable(Exception):
    """There is no fast path in this store: its limits or its engine's settings do not allow it."""


Instance = ffi.wasmtime_instance_t


def _instantiate(context: int, module: int, externs: list[ffi.wasmtime_extern_t]) -> ffi.wasmtime_instance_t:
    array = (ffi.wasmtime_extern_t * len(externs))(*externs)
    instance = ffi.wasmtime_instance_t()
    trap = ctypes.c_size_t(0)
    error = capi.instance_new(context, module, array, len(externs), ctypes.addressof(instance), ctypes.addressof(trap))
    if error:
        raise Unavailable(capi.take_error_message(error))
    if trap.value:
        raise Unavailable(str(wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t)))))
    return instance


def _export(context: int, instance: ffi.wasmtime_instance_t, name: bytes) -> ffi.wasmtime_extern_t:
    extern = ffi.wasmtime_extern_t()
    if not capi.instance_export_get(context, ctypes.addressof(instance), name, len(name), ctypes.addressof(extern)):
        raise Unavailable(f"no export {name.decode()}")
    return extern


def _function(func: ffi.wasmtime_func_t) -> ffi.wasmtime_extern_t:
    extern = ffi.wasmtime_extern_t()
    extern.kind = capi.EXTERN_FUNC  # type: ignore[assignment]
    extern.of.func = func
    return extern


class Shim:
    """An instance of shim.wat in a store: the functions that a guest imports."""

    def __init__(self, context: int, engine: wasmtime.Engine, python: dict[str, ffi.wasmtime_func_t]) -> None:
        """`python`: for each of FUNCTIONS the raw host function. Raises Unavailable, WasmtimeError."""
        self._context = context
        self.engine = engine
        self.python = [_function(python[name]) for name in FUNCTIONS]
        self._instance = _instantiate(context, module_address(engine, "shim"), self.python)

    def function(self, name: str) -> ffi.wasmtime_func_t:
        """What the guest imports as `name`."""
        return _export(self._context, self._instance, name.encode()).of.func

    def table(self) -> ffi.wasmtime_extern_t:
        return _export(self._context, self._instance, b"functions")


def room_for_windows(limits: Limits) -> int:
    """How much memory windows and buffers may have; none if that is not positive. A call that is answered here moves no
    more than there is in one of them."""
    return min(limits.window_bytes, limits.memory_bytes - WINDOWS_AT, limits.call_bytes - _PAGE)


class Vdso:
    """An instance of vdso.wat, and its memory as Python sees it.

    `view`: the memory. `size`: its bytes. `regions`: the part of it that windows and buffers are made of.
    """

    def __init__(
        self,
        context: int,
        shim: Shim,
        guest_memory: ffi.wasmtime_memory_t,
        window_bytes: int,
        clock: ffi.wasmtime_func_t | None,
    ) -> None:
        """From here on the shim's functions lead to vdso.wat. `clock`: wasmtime's `clock_time_get`; None: clocks cannot
        be published. Raises Unavailable, WasmtimeError."""
        pages = min(-(-(WINDOWS_AT + window_bytes) // _PAGE), _WASM_PAGES_MAX)
        self.size = size = pages * _PAGE
        type_ = wasmtime.MemoryType(wasmtime.Limits(pages, pages))
        memory = ffi.wasmtime_memory_t()
        error = capi.memory_new(context, capi.address_of(type_.ptr()), ctypes.addressof(memory))
        if error:
            raise Unavailable(capi.take_error_message(error))
        externs = list(shim.python)
        for each in (memory, guest_memory):
            extern = ffi.wasmtime_extern_t()
            extern.kind = capi.EXTERN_MEMORY  # type: ignore[assignment]
            extern.of.memory = each
            externs.append(extern)
        externs.append(shim.table())
        # It calls this one for a published clock alone, so without one any function of that type will do.
        externs.append(shim.python[FUNCTIONS.index("clock_time_get")] if clock is None else _function(clock))
        instance = _instantiate(context, module_address(shim.engine, "vdso"), externs)
        self._context = context
        self._monotonic = None if clock is None else _export(context, instance, b"monotonic").of.func
        # It cannot grow, so it does not move, whatever the engine's settings are.
        self.view = capi.view_of(capi.memory_data(context, ctypes.addressof(memory)), size)
        self.words = self.view.cast("I")
        self.longs = self.view.cast("Q")
        self.regions = Regions(WINDOWS_AT, size)

    def begin(self, abi: Abi, iovecs: int) -> None:
        """From here on calls are answered here. `iovecs`: most of one call."""
        whence = [0, 0, 0]
        for number, meaning in enumerate(abi.whence):
            whence[(c.WHENCE_SET, c.WHENCE_CUR, c.WHENCE_END).index(meaning)] = number
        HEADER.pack_into(self.view, 0, DESCRIPTORS_MAX, abi.filestat.size, *whence, min(iovecs, IOVECS_MAX), 0, 0)

    def monotonic_ns(self) -> int | None:
        """The monotonic time as wasmtime counts it; None if nobody asks wasmtime here, or it does not say."""
        if self._monotonic is None:
            return None
        result, trap = _RESULT(-1), ctypes.c_size_t(0)
        error = capi.func_call_unchecked(
            self._context, ctypes.addressof(self._monotonic), result, 1, ctypes.addressof(trap)
        )
        if error:
            capi.error_delete(error)
        if trap.value:
            capi.trap_delete(trap.value)
        return result[0] if result[0] >= 0 else None

    def write_descriptor(
        self, fd: int, descriptor: Descriptor, file: int, stream: int, cursor: int, writing: int
    ) -> None:
        """Publish it. `file`, `stream`: the address of what is behind it, or 0. `writing`: one of WRITES_*."""
        at = DESCRIPTORS_AT + fd * DESCRIPTOR.size
        kind, flags, rights, inheriting = (
            descriptor.filetype,
            descriptor.flags,
            descriptor.rights,
            descriptor.inheriting,
        )
        DESCRIPTOR.pack_into(self.view, at, file, stream, cursor, kind, flags, rights, inheriting, writing, 1)

    def clear_descriptor(self, fd: int) -> None:
        """It is Python's alone."""
        DESCRIPTOR.pack_into(self.view, DESCRIPTORS_AT + fd * DESCRIPTOR.size, *bytes(9))

    def counters(self) -> dict[str, int]:
        """Function -> calls answered without Python; "bytes_read" and "bytes_written" by them."""
        return dict(zip(NO_CALLS, COUNTERS.unpack_from(self.view, COUNTERS_AT), strict=True))

    def switch(self, on: bool) -> None:
        """Whether any call is answered here. May be called from any thread."""
        self.words[0] = DESCRIPTORS_MAX if on else 0


class Regions:
    """Pieces of an address range; first fit, joined again when they are given back."""

    def __init__(self, start: int, end: int) -> None:
        self._free = [(start, end - start)]

    def take(self, size: int) -> tuple[int, int] | None:
        """(address, bytes) of a piece of at least `size` bytes, or None if there is none."""
        size = -(-size // _GRAIN) * _GRAIN
        for index, (address, length) in enumerate(self._free):
            if length >= size:
                if length == size:
                    del self._free[index]
                else:
                    self._free[index] = (address + size, length - size)
                return address, size
        return None

    def give(self, address: int, size: int) -> None:
        """Take back what `take` gave."""
        if not size:
            return
        insort(self._free, (address, size))
        joined: list[tuple[int, int]] = []
        for start, length in self._free:
            if joined and joined[-1][0] + joined[-1][1] == start:
                joined[-1] = (joined[-1][0], joined[-1][1] + length)
            else:
                joined.append((start, length))
        self._free = joined
