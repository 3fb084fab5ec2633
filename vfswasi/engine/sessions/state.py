"""What has to be the same in a copy of an instance between two calls: memories, globals, tables, dropped segments.

No frame is on the stack then. What an instance consists of is known from `compiling.exposing`.
"""

from __future__ import annotations

import ctypes
from typing import Final, NamedTuple

from wasmtime import _ffi as ffi

from ...fs_backends.waiting import check_time
from .. import capi, traps
from ..compiling.exposing import Inside
from .image import MemoryImage

_FUNCREF: Final = ffi.WASMTIME_FUNCREF.value
_NUMBERS: Final = range(ffi.WASMTIME_V128.value + 1)  # i32, i64, f32, f64, v128
_PAGE: Final = 1 << 16
_CHECKED_AT_ONCE: Final = 1 << 12


class CannotCopyError(Exception):
    """The text says of what."""


class _Number(NamedTuple):
    """`raw`: as it lies in a value of wasmtime's; zeros for a reference to nothing."""

    kind: int
    raw: bytes


# A number, or a reference to nothing; or the name of the export that is the function.
Value = _Number | str


class State(NamedTuple):
    """By names of exports: contents of memories, values of globals, entries of tables; the segments that are gone."""

    memories: dict[str, MemoryImage]
    globals: dict[str, Value]
    tables: dict[str, list[Value]]
    dropped: list[str]

    def close(self) -> None:
        """Give the memories up; those of instances that were made of it stay."""
        for image in self.memories.values():
            image.close()


class Place:
    """The exports of one instance."""

    def __init__(self, context: int, instance: ffi.wasmtime_instance_t) -> None:
        self.context = context
        self._instance = instance
        self._known: dict[str, ffi.wasmtime_extern_t] = {}

    def extern(self, name: str) -> ffi.wasmtime_extern_t:
        """Raises KeyError."""
        known = self._known.get(name)
        if known is None:
            known, raw = ffi.wasmtime_extern_t(), name.encode()
            at = ctypes.addressof(self._instance)
            if not capi.instance_export_get(self.context, at, raw, len(raw), ctypes.addressof(known)):
                raise KeyError(name)
            self._known[name] = known
        return known

    def at(self, name: str) -> int:
        """The address of the memory, global, table or function itself."""
        return ctypes.addressof(self.extern(name).of)

    def call_plain(self, name: str) -> bool:
        """Call a function without parameters and results; False: it trapped."""
        trap = ctypes.c_size_t(0)
        error = capi.func_call_unchecked(self.context, self.at(name), None, 0, ctypes.addressof(trap))
        if error:
            capi.error_delete(error)
        if trap.value:
            capi.trap_delete(trap.value)
        return not error and not trap.value

    def bytes_of(self, memory: str) -> tuple[int, memoryview]:
        """(address, contents) of a memory."""
        at = self.at(memory)
        size = int(capi.memory_data_size(self.context, at))
        address = int(capi.memory_data(self.context, at) or 0)
        return address, capi.view_of(address, size)


def capture(place: Place, inside: Inside) -> State:
    """What the instance is now. Raises CannotCopyError, OSError, FsError (CANCELED)."""
    if inside.cannot is not None:
        raise CannotCopyError(inside.cannot)
    functions = {capi.func_to_raw(place.context, place.at(name)): name for name in inside.identities}
    state = State({}, {}, {}, [])
    try:
        for name in inside.globals:
            value = ffi.wasmtime_val_t()
            capi.global_get(place.context, place.at(name), ctypes.addressof(value))
            state.globals[name] = _kept(place, value, functions, name)
        for name in inside.tables:
            state.tables[name] = _entries(place, name, functions)
        state.dropped.extend(each.drop for each in inside.segments if not place.call_plain(each.probe))
        for name in inside.memories:
            state.memories[name] = MemoryImage(*place.bytes_of(name))
    except BaseException:
        state.close()
        raise
    return state


def _entries(place: Place, name: str, functions: dict[int | None, str]) -> list[Value]:
    at, value = place.at(name), ffi.wasmtime_val_t()
    entries: list[Value] = []
    for index in range(int(capi.table_size(place.context, at))):
        if not index % _CHECKED_AT_ONCE:
            check_time("a table is copied")
        capi.table_get(place.context, at, index, ctypes.addressof(value))
        entries.append(_kept(place, value, functions, name))
    return entries


def _kept(place: Place, value: ffi.wasmtime_val_t, functions: dict[int | None, str], name: str) -> Value:
    kind = int(value.kind)
    if kind in _NUMBERS:
        return _Number(kind, bytes(value.of.v128))
    if not value.of.funcref.store_id:  # whatever kind of reference it is
        return _Number(kind, bytes(16))
    what = name.partition(":")[2]
    if kind != _FUNCREF:
        raise CannotCopyError(f"its {what} holds a reference to something that is no function")
    known = functions.get(capi.func_to_raw(place.context, ctypes.addressof(value.of.funcref)))
    if known is None:
        raise CannotCopyError(f"its {what} holds a function that is not known by any number")
    return known


def restore(place: Place, inside: Inside, state: State) -> None:
    """Let a new instance of the same module be as the other one was. Raises CannotCopyError, OSError."""
    for name, image in state.memories.items():
        _, view = place.bytes_of(name)
        missing = image.size - len(view)
        before = ctypes.c_uint64()
        if missing > 0:
            error = capi.memory_grow(place.context, place.at(name), missing // _PAGE, ctypes.addressof(before))
            _raise(error, "the memory is too large for the limits")
        address, view = place.bytes_of(name)
        if image.size:
            image.put(address, view)
    for name, value in state.globals.items():
        given = _given(place, value)
        error = capi.global_set(place.context, place.at(name), ctypes.addressof(given))
        _raise(error, "a global cannot be set")
    for name, entries in state.tables.items():
        _restore_table(place, name, entries)
    for name in state.dropped:
        if not place.call_plain(name):
            raise CannotCopyError("a segment cannot be dropped")


def _restore_table(place: Place, name: str, entries: list[Value]) -> None:
    at, before = place.at(name), ctypes.c_uint64()
    size = int(capi.table_size(place.context, at))
    for index, entry in enumerate(entries):
        if not index % _CHECKED_AT_ONCE:
            check_time("a table is copied")
        value = _given(place, entry)
        given = ctypes.addressof(value)
        if index == size:  # grown, by all at once
            _raise(
                capi.table_grow(place.context, at, len(entries) - size, given, ctypes.addressof(before)),
                "a table is too large for the limits",
            )
        else:
            _raise(capi.table_set(place.context, at, index, given), "an entry of a table cannot be set")


def _given(place: Place, value: Value) -> ffi.wasmtime_val_t:
    given = ffi.wasmtime_val_t()
    if isinstance(value, _Number):
        given.kind = value.kind  # type: ignore[assignment]
        ctypes.memmove(ctypes.addressof(given.of), value.raw, len(value.raw))
    else:
        given.kind = _FUNCREF  # type: ignore[assignment]
        given.of.funcref = place.extern(value).of.func
    return given


def _raise(error: int | None, what: str) -> None:
    if error:
        message, _ = traps.take_error(error)
        raise CannotCopyError(f"{what}: {message}")
