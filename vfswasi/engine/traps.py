"""What a trap says, with the guest's backtrace, in time and memory that do not depend on the guest's names.

wasmtime's own text of a backtrace has the names of the guest's functions demangled, once for every frame: a C++ name of
250 bytes that refers back to parts of itself comes out as hundreds of megabytes, and a long one comes out twenty
times. So the frames are written here, with names as they are in the module (c++filt(1) and rustfilt read them) up to a
length; wasmtime is asked for nothing but the cause.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any, Final

import wasmtime
from wasmtime import _ffi as ffi

from ..printing import printable
from . import capi

_NAME_MAX_BYTES: Final = 300
_NO_OFFSET: Final = ctypes.c_size_t(-1).value
# The beginnings of names that wasmtime would demangle: C++'s and both of Rust's.
_MANGLED: Final = re.compile(r"_*([ZR]|GLOBAL_)")


class Backtrace:
    """The frames of a trap or of an error, innermost first, as wasmtime has captured them."""

    def __init__(self, frames: ffi.wasm_frame_vec_t) -> None:
        """`frames` is freed."""
        self.lines: list[str] = []
        self.plain = True  # to have wasmtime write them is harmless
        self._long: dict[int, str] = {}
        try:
            for index in range(frames.size):
                frame = frames.data[index]
                offset = ffi.wasm_frame_module_offset(frame)
                at = "" if offset == _NO_OFFSET else f"{offset:#8x} - "
                self.lines.append(f"{index:5}: {at}{self._function(frame)}")
        finally:
            ffi.wasm_frame_vec_delete(ctypes.byref(frames))

    def _function(self, frame: Any) -> str:
        number = ffi.wasm_frame_func_index(frame)
        known = self._long.get(number)
        if known is not None:
            return known
        module = self._name(ffi.wasmtime_frame_module_name(frame)) or "<unknown>"
        text = f"{module}!{self._name(ffi.wasmtime_frame_func_name(frame)) or f'<wasm function {number}>'}"
        if len(text) > _NAME_MAX_BYTES:  # wasmtime makes a copy of a name each time that it is asked for
            self._long[number] = text
        return text

    def _name(self, pointer: Any) -> str:
        if not pointer:
            return ""
        vec = pointer.contents
        name = ctypes.string_at(vec.data, min(vec.size, _NAME_MAX_BYTES)).decode("utf-8", "replace")
        if vec.size > _NAME_MAX_BYTES or _MANGLED.match(name):
            self.plain = False
        return printable(name) + ("..." if vec.size > _NAME_MAX_BYTES else "")

    def told(self, cause: str) -> str:
        """The layout of wasmtime's own messages."""
        if not self.lines:
            return cause
        return "\n".join(["error while executing at wasm backtrace:", *self.lines, "", "Caused by:", f"    {cause}"])


def take_trap(address: int) -> tuple[str, wasmtime.TrapCode | None]:
    """The message and the code of a trap, which is freed. No code: what ended the guest is no trap of WebAssembly's."""
    trap = wasmtime.Trap._from_ptr(ctypes.cast(address, ctypes.POINTER(ffi.wasm_trap_t)))
    frames = ffi.wasm_frame_vec_t()
    ffi.wasm_trap_trace(trap.ptr(), ctypes.byref(frames))
    backtrace = Backtrace(frames)
    code = trap.trap_code
    if code is not None:
        cause = wasmtime.Trap._from_ptr(ffi.wasmtime_trap_new_code(code.value)).message
    else:
        cause = _cause(trap.message) if backtrace.plain else "what happened is not known"
    return backtrace.told(cause), code


def take_error(address: int) -> tuple[str, bool]:
    """The message of an error, which is freed, and whether it happened in WebAssembly."""
    frames = ffi.wasm_frame_vec_t()
    capi.error_wasm_trace(address, ctypes.addressof(frames))
    backtrace = Backtrace(frames)
    if backtrace.plain:
        message = capi.take_error_message(address)
        cause = _cause(message)
        return backtrace.told(cause), bool(backtrace.lines) or cause.startswith("wasm trap")
    capi.error_delete(address)
    return backtrace.told("what happened is not known"), True


def _cause(message: str) -> str:
    """Without the backtrace that stands in front of it."""
    return " ".join(printable(line.strip()) for line in message.rpartition("\nCaused by:\n")[2].splitlines()).strip()
