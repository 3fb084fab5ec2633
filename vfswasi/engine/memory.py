"""The view of a guest's linear memory.

In our own stores memory never moves (`memory_may_move = False`), so a view taken once only becomes too short
when the guest grows, and is re-taken when an access falls outside it. In a store that the user made it may
move whenever our own code runs, which may call the guest: `MovingMemory`. A view must not outlive its store:
`drop` it first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, Self

from wasmtime import _ffi as ffi

from ..abi.layouts import IOVEC_SIZE
from ..errors import MissingExportError
from ..limits import Limits
from ..syscalls.memory import IOVEC, PIECE_BYTES, GuestMemory
from . import capi

_U32: Final = Struct("<I")


def memory_size(context: int, instance: ffi.wasmtime_instance_t) -> int:
    """Bytes of the memory that an instance exports; 0 if it exports none."""
    extern = ffi.wasmtime_extern_t()
    at = ctypes.addressof(extern)
    found = capi.instance_export_get(context, ctypes.addressof(instance), b"memory", 6, at)
    if not found or capi.kind_of(extern) != capi.EXTERN_MEMORY:
        return 0
    return int(capi.memory_data_size(context, ctypes.addressof(extern.of.memory)))


class WasmMemory(GuestMemory):
    """The memory exported as "memory"; without one, every access is FAULT."""

    __slots__ = ("_address", "_context", "_memory")

    def __init__(self, context: int, memory: ffi.wasmtime_memory_t | None, limits: Limits) -> None:
        """`context`: address of the store's context. `memory`: None if the module has no memory."""
        super().__init__(None, limits)
        self._context = context
        self._memory = memory
        self._address = 0
        self.refresh()

    @classmethod
    def of_caller(cls, caller: int, limits: Limits) -> Self:
        """The memory of the instance that makes a host call, also while its start section runs."""
        extern = ffi.wasmtime_extern_t()
        found = capi.caller_export_get(caller, b"memory", 6, ctypes.addressof(extern))
        memory = extern.of.memory if found and capi.kind_of(extern) == capi.EXTERN_MEMORY else None
        return cls(capi.caller_context(caller), memory, limits)

    @classmethod
    def of_instance(cls, context: int, instance_address: int, limits: Limits) -> Self:
        """The memory that an instance exports. Raises MissingExportError."""
        extern = ffi.wasmtime_extern_t()
        found = capi.instance_export_get(context, instance_address, b"memory", 6, ctypes.addressof(extern))
        if not found or capi.kind_of(extern) != capi.EXTERN_MEMORY:
            raise MissingExportError('the instance has no export "memory" that is an unshared WebAssembly memory')
        return cls(context, extern.of.memory, limits)

    def raw_memory(self) -> ffi.wasmtime_memory_t:
        """The memory itself. Raises MissingExportError."""
        if self._memory is None:
            raise MissingExportError('the instance has no export "memory"')
        return self._memory

    def refresh(self) -> None:
        if self._memory is None:
            return
        memory = ctypes.addressof(self._memory)
        size = capi.memory_data_size(self._context, memory)
        address = capi.memory_data(self._context, memory)
        if size != self.size or address != self._address:
            self.view = capi.view_of(address, size)
            self.size = size
            self._address = address

    def drop(self) -> None:
        """Forget the store: every later access is FAULT."""
        self._memory = None
        self.view = memoryview(b"")
        self.size = 0


class MovingMemory(WasmMemory):
    """The memory of a guest in a store that the user made, during one system call at a time.

    A stream or a backend that the user wrote may call an export that lets the memory grow, and so move, in the middle
    of a call. So what it is given to fill or to read is a copy, of 16 MiB at most in one call, and each access looks
    first where the memory is.
    """

    __slots__ = ("_at", "_buffers", "_places", "_view")

    def __init__(self, context: int, memory: ffi.wasmtime_memory_t | None, limits: Limits) -> None:
        self._view = memoryview(b"")
        self._memory = None
        self._at = 0 if memory is None else ctypes.addressof(memory)
        self.begin()
        super().__init__(context, memory, limits)
        self._call_bytes = self._buffer_bytes = min(self._call_bytes, PIECE_BYTES)

    @property
    def view(self) -> memoryview:
        if self._memory is not None and self._address != capi.memory_data(self._context, self._at):
            self.refresh()
        return self._view

    @view.setter
    def view(self, view: memoryview) -> None:
        self._view = view

    def begin(self) -> None:
        """Nothing of the last call is kept."""
        self._places: Sequence[tuple[int, int]] = ()
        self._buffers: Sequence[memoryview] = ()

    def iovecs(self, ptr: int, count: int) -> list[memoryview]:
        if count == 1:
            self.check(ptr, IOVEC_SIZE)
            start, length = IOVEC.unpack_from(self.view, ptr)
            self.check(start, length)
            length = min(length, self._call_bytes)
            self._places = ((start, length),)
            self._buffers = buffers = [memoryview(bytearray(length))]
            return buffers
        table, total = self._table(ptr, count)
        left = min(total, self._call_bytes)
        copy = memoryview(bytearray(left))
        places = []
        buffers = []
        for start, length in IOVEC.iter_unpack(table):
            length = min(length, left)
            at = len(copy) - left
            places.append((start, length))
            buffers.append(copy[at : at + length])
            left -= length
        self._places, self._buffers = places, buffers
        return buffers

    def contents(self, ptr: int, count: int) -> list[memoryview]:
        buffers = self.iovecs(ptr, count)
        view = self.view
        for buffer, (start, length) in zip(buffers, self._places, strict=True):
            buffer[:] = view[start : start + length]
        return buffers

    def filled(self, ptr: int, value: int) -> None:
        view = self.view
        left = value
        for buffer, (start, length) in zip(self._buffers, self._places, strict=True):
            length = min(length, left)
            view[start : start + length] = buffer[:length]
            left -= length
        try:
            _U32.pack_into(view, ptr, value)
        except StructError:
            self.write_u32(ptr, value)


class HostMemory:
    """Guest memory as a host function of the user sees it. Pointers may be given signed, as wasmtime gives them.

    An access outside the memory ends the guest as a trap would, since the pointer is the guest's. When the function
    has returned, every access is a ValueError: the memory may be gone then.
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: GuestMemory) -> None:
        self._memory: GuestMemory | None = memory

    def _open(self) -> GuestMemory:
        if self._memory is None:
            raise ValueError("the memory that a host function gets is its own until it returns, and not afterwards")
        return self._memory

    def read(self, ptr: int, length: int) -> bytes:
        """A copy of `length` bytes at `ptr`."""
        return self._open().read(ptr & 0xFFFFFFFF, length & 0xFFFFFFFF)

    def write(self, ptr: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `ptr`."""
        self._open().write(ptr & 0xFFFFFFFF, bytes(data))

    def __len__(self) -> int:
        memory = self._open()
        memory.refresh()
        return memory.size

    def close(self) -> None:
        """The function has returned."""
        self._memory = None
