"""Ending a guest that computes, by a page of memory that its code looks at again and again.

`rewriting` gives a module one more memory, of one page, and makes each loop and each function that calls others read
from it. To end a guest, any thread makes the page inaccessible: the next read is a fault inside a linear memory, which
wasmtime turns into its ordinary trap for accesses out of bounds. Who asked for the end is known on our side.

A page may be touched only while its store is there. So all pages stand in one table, and one lock is held by whoever
makes one inaccessible and by whoever takes one out of the table, which happens before the store is closed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, Final

import wasmtime
from wasmtime import _ffi as ffi

from ...errors import InvalidModuleError
from ...kernel.clocks import Deadline, GuestEnd
from ...logs import logger
from .. import capi

_log = logger("vfswasi")

SIZE: Final = 1 << 16  # one page of WebAssembly
_PROT_NONE: Final = 0
_PROT_READ_WRITE: Final = 3
_OUT_OF_BOUNDS: Final = wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS.value


def _find_mprotect() -> Any:
    """mprotect(2), called with Python's lock in hand: it takes a microsecond, and to get the lock back from threads
    that are busy may take milliseconds. None where there is none."""
    if os.name != "posix":
        return None
    try:
        function = ctypes.PyDLL(None, use_errno=True).mprotect
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    function.restype = ctypes.c_int
    return function


_mprotect: Final = _find_mprotect()
AVAILABLE: Final = _mprotect is not None

_registered: set[Page] = set()
_lock = threading.RLock()  # a signal handler may end guests


def _renew_lock() -> None:
    """The table stays: stores that were there when the process was forked are there in the child, and no thread of it
    will close them but the one that forked, if that was a guest's."""
    global _lock
    _lock = threading.RLock()  # another thread may have held it


os.register_at_fork(after_in_child=_renew_lock)


class Page:
    """The page of one guest, from its registration until `forget`."""

    __slots__ = ("_address", "_deadline", "_ended", "_tried")

    def __init__(self, context: int, instance: ffi.wasmtime_instance_t, export: bytes, deadline: Deadline) -> None:
        """`instance`: exports the page under the name `export`. Raises InvalidModuleError: it does not.

        The deadline may be over by now without that anybody saw the page: look at it afterwards.
        """
        extern = ffi.wasmtime_extern_t()
        at = ctypes.addressof(extern)
        found = capi.instance_export_get(context, ctypes.addressof(instance), export, len(export), at)
        if not found or capi.kind_of(extern) != capi.EXTERN_MEMORY:
            raise InvalidModuleError("the page that ends the guest is not among the instance's exports")
        memory = ctypes.addressof(extern.of.memory)
        if capi.memory_data_size(context, memory) != SIZE:
            raise InvalidModuleError("the page that ends the guest is not one page")
        self._address = int(capi.memory_data(context, memory))
        self._deadline = deadline
        self._tried = False  # set before the page changes, so that the guest's thread can rely on it
        self._ended = False  # set afterwards, so that a signal handler that raises in between leaves it to the next
        with _lock:
            _registered.add(self)

    def begin(self, timeout_s: float | None) -> None:
        """The guest's deadline counts from now, for its next call. Raises OSError: what the last one, which has ended
        by itself, was about to be ended with cannot be undone."""
        with _lock:
            if self._tried and _mprotect(self._address, SIZE, _PROT_READ_WRITE):
                raise OSError(ctypes.get_errno(), "the page that ends a guest cannot be made accessible again")
            self._tried = self._ended = False
            self._deadline.begin(timeout_s)

    def forget(self) -> None:
        """The store is about to go; nobody touches the page from now on. May be called again."""
        with _lock:
            _registered.discard(self)

    def end_if_over(self) -> None:
        """Make the page inaccessible if the guest's time is over. Only with the lock in hand."""
        if self._ended or self._deadline.over() is None:
            return
        self._tried = True
        if _mprotect(self._address, SIZE, _PROT_NONE):
            _log.error("a guest whose time is over cannot be ended: %s", os.strerror(ctypes.get_errno()))
        else:
            self._ended = True

    def why(self, trap: int) -> GuestEnd | None:
        """Why the guest had to end, if this trap is how it ended. None: it is a trap of the guest's own."""
        if not self._tried:
            return None
        code = ctypes.c_uint8()
        if not capi.trap_code(trap, ctypes.addressof(code)) or code.value != _OUT_OF_BOUNDS:
            return None
        return self._deadline.over()


def end_what_is_over() -> None:
    """End the guests whose time is over, and touch no other. Any thread may call this, and a signal handler."""
    with _lock:
        for page in tuple(_registered):
            page.end_if_over()
