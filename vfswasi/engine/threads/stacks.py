"""The stacks of threads that run guests: how large they are, and how much of one is left.

wasmtime ends a guest whose calls nest deeper than its engine's `max_wasm_stack`, counted from where the guest was
entered. It does not look how much the thread has: where that is less, the process dies of a segmentation fault. So
our own guests run on threads whose stack we have chosen, which holds what the guest may use and as much again as the
host's code may need below it; and in stores that the user made, on the user's threads, we look how much is left.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Final

# Below the guest's part, for Python and what it calls: what a thread has on Linux if nobody chose anything.
HOST_BYTES: Final = 8 << 20
# What an engine gives guests if nobody chose anything; that of a user's store cannot be asked.
WASMTIME_BYTES: Final = 512 << 10
# With less than this a system call is not begun. Those on stores here were seen to take 12 to 32 KiB in Python 3.11;
# what the user's streams and backends do may take more.
CALL_BYTES: Final = 192 << 10
SMALLEST_BYTES: Final = 64 << 10

# What a worker may keep between two runs, below the frame that waits for the next.
_KEPT_BYTES: Final = 1 << 20
_MADV_DONTNEED: Final = 4

_starting = threading.RLock()  # reentrant, since a signal handler may start a run


def _renew_lock() -> None:
    global _starting
    _starting = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


def rounded(stack_bytes: int) -> int:
    """The next power of two, at least 64 KiB: each size needs an engine, and there shall not be many."""
    return max(SMALLEST_BYTES, 1 << max(0, stack_bytes - 1).bit_length())


def start_thread(function: Callable[[], None], name: str, stack_bytes: int) -> None:
    """Start a daemon thread with room for `stack_bytes` of a guest's and HOST_BYTES of the host's. Raises OSError.

    Python's setting is one for the process: a thread that somebody else starts in this moment gets as much.
    """
    thread = threading.Thread(target=function, name=name, daemon=True)
    with _starting:
        before = threading.stack_size()
        try:
            threading.stack_size(stack_bytes + HOST_BYTES)
            thread.start()
        except (RuntimeError, ValueError) as error:
            size = (stack_bytes + HOST_BYTES) >> 20
            raise OSError(f"no thread with a stack of {size} MiB could be started; lower Limits.stack_bytes") from error
        finally:
            threading.stack_size(before)


class _Own(threading.local):
    """Of each thread: (lowest address of its stack, address behind it), None if that cannot be found out."""

    @functools.cached_property
    def bounds(self) -> tuple[int, int] | None:
        return _bounds()


_own = _Own()


def _function(name: str, result: Any, *arguments: Any, library: type[ctypes.CDLL] = ctypes.CDLL) -> Any:
    try:
        function = library(None)[name]
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no such thing as the program itself
        return None
    function.restype = result
    function.argtypes = arguments
    return function


_self = _function("pthread_self", ctypes.c_void_p)
_getattr = _function("pthread_getattr_np", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_getstack = _function("pthread_attr_getstack", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_destroy = _function("pthread_attr_destroy", ctypes.c_int, ctypes.c_void_p)
# macOS says where a stack ends at the top, and its size.
_mac_top = _function("pthread_get_stackaddr_np", ctypes.c_size_t, ctypes.c_void_p)
_mac_size = _function("pthread_get_stacksize_np", ctypes.c_size_t, ctypes.c_void_p)
# Called with Python's lock held: to let it go and take it again costs more than the call, which is over soon.
_madvise = _function("madvise", ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, library=ctypes.PyDLL)

_ATTRIBUTES_BYTES: Final = 512  # of a pthread_attr_t: 56 on x86-64, never more than 64 so far


def _bounds() -> tuple[int, int] | None:
    if _getattr is not None and _getstack is not None and _destroy is not None:
        attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
        if _getattr(_self(), attributes):
            return None
        low, size = ctypes.c_size_t(), ctypes.c_size_t()
        failed = _getstack(attributes, ctypes.addressof(low), ctypes.addressof(size))
        _destroy(attributes)
        return None if failed else (low.value, low.value + size.value)
    if _mac_top is not None and _mac_size is not None:
        top = _mac_top(_self())
        return top - _mac_size(_self()), top
    return None


def _pointer(bounds: tuple[int, int]) -> int:
    """About where this thread's stack pointer is."""
    try:
        with open("/proc/thread-self/syscall", "rb") as file:
            pointer = int(file.read().split()[-2], 16)
        if bounds[0] <= pointer <= bounds[1]:
            return pointer
    except (OSError, ValueError, IndexError):
        pass
    return bounds[1] - (64 << 10)  # a guess: few calls of C lie above a call of Python's


def room() -> int | None:
    """Bytes of this thread's stack that are left; None if that cannot be found out. Takes some 20 us."""
    bounds = _own.bounds
    return None if bounds is None else _pointer(bounds) - bounds[0]


def room_below(address: int) -> int | None:
    """Bytes of this thread's stack below `address`; None if it does not lie there, or that cannot be found out."""
    bounds = _own.bounds
    return address - bounds[0] if bounds is not None and bounds[0] <= address <= bounds[1] else None


class Deep:
    """The part of a thread's stack that only deep recursion reaches. To be made on that thread."""

    def __init__(self) -> None:
        bounds = _own.bounds
        self._start = self._length = 0
        if bounds is not None and _madvise is not None and os.path.exists("/proc/thread-self/syscall"):
            page = os.sysconf("SC_PAGE_SIZE")
            self._start = -(-bounds[0] // page) * page
            self._length = max(0, (_pointer(bounds) - _KEPT_BYTES - self._start) // page * page)

    def give_back(self) -> None:
        """Let the system have what a guest has touched there; nothing that lives may lie there now."""
        if self._length:
            _madvise(self._start, self._length, _MADV_DONTNEED)
