"""wasmtime's C functions as we call them: addresses as plain integers.

The bindings that ship with the package wrap every pointer in a ctypes object, which costs more than the calls
themselves. These are the same functions of the same library, declared with integer addresses.
Source: wasmtime.h, `wasmtime_func_new_unchecked` and neighbours.
"""

from __future__ import annotations

import ctypes
from ctypes import c_bool, c_char_p, c_size_t, c_uint8, c_uint64, c_void_p
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

# (env, caller, args_and_results, count) -> trap or 0
RawCallback = ctypes.CFUNCTYPE(c_size_t, c_size_t, c_size_t, c_size_t, c_size_t)
# (context, data, delta: u64*, kind: u8*) -> error or 0
EpochCallback = ctypes.CFUNCTYPE(c_size_t, c_size_t, c_size_t, c_size_t, c_size_t)


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = ffi.dll[name]  # indexing makes a new function object, so the package's own stays as it is
    function.restype = result
    function.argtypes = arguments
    return function


func_new_unchecked = _declare(
    "wasmtime_func_new_unchecked", None, c_void_p, c_void_p, RawCallback, c_void_p, c_void_p, c_void_p
)
func_call_unchecked = _declare(
    "wasmtime_func_call_unchecked", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p
)
instance_new = _declare("wasmtime_instance_new", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p)
instance_export_get = _declare("wasmtime_instance_export_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
caller_export_get = _declare("wasmtime_caller_export_get", c_bool, c_void_p, c_char_p, c_size_t, c_void_p)
caller_context = _declare("wasmtime_caller_context", c_size_t, c_void_p)
memory_new = _declare("wasmtime_memory_new", c_void_p, c_void_p, c_void_p, c_void_p)
memory_data = _declare("wasmtime_memory_data", c_size_t, c_void_p, c_void_p)
memory_data_size = _declare("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
memory_grow = _declare("wasmtime_memory_grow", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
global_get = _declare("wasmtime_global_get", None, c_void_p, c_void_p, c_void_p)
global_set = _declare("wasmtime_global_set", c_void_p, c_void_p, c_void_p, c_void_p)
table_size = _declare("wasmtime_table_size", c_uint64, c_void_p, c_void_p)
table_get = _declare("wasmtime_table_get", c_bool, c_void_p, c_void_p, c_uint64, c_void_p)
table_set = _declare("wasmtime_table_set", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
table_grow = _declare("wasmtime_table_grow", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p, c_void_p)
func_to_raw = _declare("wasmtime_func_to_raw", c_void_p, c_void_p, c_void_p)
trap_new = _declare("wasmtime_trap_new", c_size_t, c_char_p, c_size_t)
trap_code = _declare("wasmtime_trap_code", c_bool, c_void_p, c_void_p)
trap_delete = _declare("wasm_trap_delete", None, c_void_p)
error_new = _declare("wasmtime_error_new", c_size_t, c_char_p)
error_message = _declare("wasmtime_error_message", None, c_void_p, c_void_p)
error_wasm_trace = _declare("wasmtime_error_wasm_trace", None, c_void_p, c_void_p)
error_delete = _declare("wasmtime_error_delete", None, c_void_p)
store_context = _declare("wasmtime_store_context", c_size_t, c_void_p)
store_epoch_deadline_callback = _declare(
    "wasmtime_store_epoch_deadline_callback", None, c_void_p, EpochCallback, c_void_p, c_void_p
)
context_set_epoch_deadline = _declare("wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)

wasi_config_new = _declare("wasi_config_new", c_size_t)
context_set_wasi = _declare("wasmtime_context_set_wasi", c_size_t, c_void_p, c_void_p)
linker_get = _declare(
    "wasmtime_linker_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p
)

_config_async_stack = _declare("wasmtime_config_async_stack_size_set", None, c_void_p, c_size_t)

_memory_view = ctypes.pythonapi.PyMemoryView_FromMemory
_memory_view.restype = ctypes.py_object
_memory_view.argtypes = (c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_PYBUF_WRITE = 0x200

_ASYNC_STACK_BYTES = 2 << 20  # wasmtime's own choice
EXTERN_FUNC: int = ffi.WASMTIME_EXTERN_FUNC.value
EXTERN_MEMORY: int = ffi.WASMTIME_EXTERN_MEMORY.value
EXTERN_TABLE: int = ffi.WASMTIME_EXTERN_TABLE.value
EXTERN_GLOBAL: int = ffi.WASMTIME_EXTERN_GLOBAL.value
VAL_RAW_BYTES = 16


def kind_of(extern: ffi.wasmtime_extern_t) -> int:
    """Which member of the extern is set: EXTERN_FUNC, EXTERN_MEMORY, ..."""
    return int(extern.kind)


def address_of(pointer: Any) -> int:
    """The address in a ctypes pointer. Not through `ctypes.cast`, which puts the pointer into a reference cycle."""
    return ctypes.addressof(pointer.contents)


def view_of(address: int, size: int) -> memoryview:
    """A writable view of `size` bytes at `address`; valid as long as that memory is."""
    if not size:
        return memoryview(b"")
    view: memoryview = _memory_view(address, size, _PYBUF_WRITE)
    return view


def take_error_message(error: int) -> str:
    """The text of a wasmtime error, which is freed."""
    vec = ffi.wasm_byte_vec_t()
    error_message(error, ctypes.addressof(vec))
    try:
        return ctypes.string_at(vec.data, vec.size).decode("utf-8", "replace")
    finally:
        ffi.wasm_byte_vec_delete(ctypes.byref(vec))
        error_delete(error)


def set_stack_bytes(config: wasmtime.Config, size: int) -> None:
    """How much stack guests may use. An engine refuses a size above that of the stacks for asynchronous calls, of which
    we make none."""
    config.max_wasm_stack = size
    _config_async_stack(address_of(config.ptr()), max(size, _ASYNC_STACK_BYTES))


def set_continue(delta_address: int, kind_address: int) -> None:
    """Answer of an epoch callback: go on, ask again after one more tick."""
    c_uint64.from_address(delta_address).value = 1
    c_uint8.from_address(kind_address).value = 0
