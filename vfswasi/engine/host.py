"""Binds system calls as raw callbacks, and keeps what happens in them apart from what wasmtime reports.

A raw callback is a C function pointer: (env, caller, args and results, count) -> trap or 0. It must never
raise and always return an integer, or the process is corrupted; `_bind` is the one place that sees to it. `env`
is the number of a `Guest` in `_live`: no callback refers to a sandbox, so nothing is kept alive by one, and one
C function serves every sandbox of the process.

How a guest ends inside a host call (exit, signal, deadline, an exception of the host's) is latched on its own
`Guest`. What wasmtime raises afterwards is only the signal to look there: its package keeps callback
exceptions in one global, which mixes up sandboxes that run on several threads.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import threading
from collections.abc import Callable
from struct import Struct
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import _func as wasmtime_func

from ..abi.layouts import ABIS, Abi
from ..errors import Errno, FsError, GuestExitError, GuestTrapError, HostCallError, WasiStateError, errno_of
from ..fs_backends.turns import TURN_S, hand_on
from ..fs_backends.waiting import bounded_by
from ..kernel.clocks import GuestEnd, ProcessExit, ProcessSignal
from ..kernel.descriptor import OpenFile
from ..kernel.process import Process
from ..syscalls.preview1 import table
from . import capi, user_functions
from .compiling.outline import Signature
from .fast_path.publishing import FastPath
from .fast_path.vdso import FUNCTIONS as FAST_FUNCTIONS
from .fast_path.windows import NO_SPACE
from .interruption.page import Page
from .memory import HostMemory, WasmMemory, memory_size
from .reentrance import Turn

_log = logging.getLogger("vfswasi")

_ENDED: Final = b"the guest ended in a host call"
_VIEWS_MAX: Final = 4096
_SLOT = {"i": "I12x", "I": "Q8x"}
_NO_ARGUMENTS: Final = Struct("")

_numbers = itertools.count(1)
_live: dict[int, Guest] = {}
_live_lock = threading.RLock()  # a signal handler may end guests


def _renew_lock() -> None:
    global _live_lock
    _live_lock = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


def _for_the_user(end: BaseException) -> BaseException:
    if isinstance(end, ProcessExit):
        return GuestExitError(f"the guest ended with exit status {end.code}", returncode=end.code)
    if isinstance(end, ProcessSignal):
        return GuestTrapError(f"the guest was ended by signal {end.number}", returncode=-end.number)
    if isinstance(end, GuestEnd):
        return HostCallError("the guest was interrupted")
    return end


def guest(number: int) -> Guest | None:
    """The running guest of that number, if it still runs."""
    return _live.get(number)


def end_what_is_over() -> None:
    """The next host call of a guest whose time is over ends it: the epoch is looked at in loops and at the start of
    functions, and there may be a million host calls between two of those. Any thread may call this."""
    with _live_lock:
        for found in _live.values():
            found.turn_ends = 0.0


class HostFault(GuestEnd):
    """A host function was given a pointer outside the guest's memory."""


class Guest:
    """One instance from the engine's side. `outcome`: what ended it inside a host call, or None. `fast`: its fast path,
    or None."""

    __slots__ = (
        "calling",
        "fast",
        "instance",
        "memory",
        "number",
        "outcome",
        "page",
        "process",
        "ready",
        "turn",
        "turn_ends",
        "user_memory_moves",
    )

    def __init__(self, process: Process, *, user_memory_moves: bool = False) -> None:
        """`user_memory_moves`: the store is the user's, so its memory may move."""
        self.process = process
        self.memory: WasmMemory | None = None  # None: `_memory_of` must be asked at each call
        self.turn = Turn()
        self.instance: ffi.wasmtime_instance_t | None = None  # where the memory is, if nobody has asked for it yet
        self.outcome: BaseException | None = None
        self.fast: FastPath | None = None
        self.page: Page | None = None  # what ends it while it computes, unless epochs do
        self.user_memory_moves = user_memory_moves
        self.turn_ends = monotonic() + TURN_S  # a call that begins later begins with `look`; 0: every one does
        self.ready = not user_memory_moves  # a WASI object's calls are refused before start()
        self.calling = not user_memory_moves  # whether we made the call that runs the guest, or the user did
        self.number = next(_numbers)
        with _live_lock:
            _live[self.number] = self

    def look(self) -> None:
        """The guest has had its turn: other threads of the host run, and if its time is over it ends. Raises
        DeadlinePassed, Interrupted."""
        deadline = self.process.deadline
        deadline.check()
        turn_ends = hand_on()
        at_ns = deadline.at_ns
        self.turn_ends = turn_ends if at_ns is None else min(turn_ends, at_ns / 1e9)
        deadline.check()  # once more: `end_what_is_over` may have set what was just set

    def memory_bytes(self, context: int) -> int:
        """How large its memory is; 0 if it was not even instantiated."""
        if self.memory is not None:
            self.memory.refresh()
            return self.memory.size
        return 0 if self.instance is None else memory_size(context, self.instance)

    def forget(self) -> None:
        """No host call of this guest will come any more."""
        with _live_lock:
            _live.pop(self.number, None)
        if self.fast is not None:
            self.fast.finish()
            self.fast = None
        self.outcome = None  # its traceback refers to the frame of the host call, and that to this guest
        for memory in (self.memory, self.turn.memory):
            if memory is not None:
                memory.drop()

    def abandon(self) -> None:
        """`close`, when the store is going and its memories must not be touched."""
        if self.fast is not None:
            self.fast.abandon()
            self.fast = None
        self.close(keep=False)

    def close(self, keep: bool = True) -> None:
        """`forget`, and close every descriptor of the process."""
        self.forget()
        for error in self.process.close(keep):
            _log.warning("closing a file after the run failed: %s", error)

    def latch(self, end: BaseException) -> int:
        """Keep the first reason for ending; a new trap that unwinds the guest."""
        if not self.calling:
            # The user called an export through wasmtime's package, whose only way for an exception is its global.
            wasmtime_func.LAST_EXCEPTION = _for_the_user(end)  # type: ignore[assignment]
        elif self.outcome is None:
            self.outcome = end
        return int(capi.trap_new(_ENDED, len(_ENDED)))


def _memory_of(guest: Guest, caller: int) -> WasmMemory:
    """The caller's memory in a store of ours, looked up once."""
    if guest.memory is None:
        guest.memory = WasmMemory.of_caller(caller, guest.process.limits)
    return guest.memory


def _call_with_new_memory(guest: Guest, caller: int, function: Callable[..., None], arguments: tuple[int, ...]) -> None:
    """Make a system call of a guest whose memory has to be looked at first."""
    if guest.user_memory_moves:
        _call_in_users_store(guest, caller, function, arguments)
    else:
        function(guest.process, _memory_of(guest, caller), *arguments)


def _call_in_users_store(guest: Guest, caller: int, function: Callable[..., None], arguments: tuple[int, ...]) -> None:
    """Make a system call in a store of the user's, where host code that we call may call the guest."""
    if not guest.ready:
        raise WasiStateError("a WASI function was called before start(), initialize() or finalize_bindings()")
    fast, turn = guest.fast, guest.turn
    turn.begin(fast, caller)
    try:
        guest.process.deadline.check()  # there is no epoch of ours in a store of the user's
        memory = turn.memory_of(caller, guest.process.limits)
        if guest.calling:
            function(guest.process, memory, *arguments)
        else:  # nobody has said what bounds a call that the user made
            with bounded_by(guest.process.deadline, guest.process.allowance):
                function(guest.process, memory, *arguments)
    finally:
        turn.end(fast)


def _bind(
    function: Callable[..., None],
    types: str,
    after: Callable[[FastPath, int], None] | None = None,
    repeats: bool = False,
    writes: bool = False,
    brief: bool = False,
) -> Any:
    """A C function pointer that decodes the arguments, makes the call and stores the errno. `after` a call that
    succeeded, the guest's fast path is told the first argument. `repeats`: one that failed for lack of space has had no
    effect, so that it can be made again. `writes`: but for a write that was made, and could not be synced. `brief`: see
    `_BRIEF`."""
    layout = Struct("<" + "".join(_SLOT[letter] for letter in types))
    unpack = layout.unpack_from if types else _NO_ARGUMENTS.unpack_from
    size = max(len(types), 1) * capi.VAL_RAW_BYTES
    # The arguments lie on the stack of the thread that runs the guest, so the same few addresses come again.
    views: dict[int, memoryview] = {}

    def call(env: int, caller: int, args: int, _count: int) -> int:
        try:
            try:
                view = views[args]
            except KeyError:
                if len(views) > _VIEWS_MAX:
                    views.clear()
                view = views[args] = capi.view_of(args, size).cast("I")
            guest = _live[env]
            if not brief:
                if monotonic() >= guest.turn_ends:
                    guest.look()
            elif not guest.turn_ends:
                guest.look()
            fast = guest.fast
            if fast is not None and fast.revoked:
                fast.take_back_all()
            arguments = unpack(view)
            memory = guest.memory
            if memory is None:
                _call_with_new_memory(guest, caller, function, arguments)
            else:
                # Cheaper than `(guest.process, memory, *arguments)`, which is made through a list.
                function(*(guest.process, memory) + arguments)  # noqa: RUF005
            view[0] = 0
            if after is not None and guest.fast is not None:
                after(guest.fast, arguments[0])
            return 0
        except FsError as error:
            errno = errno_of(error)
        except MemoryError:
            errno = Errno.NOMEM
        except BaseException as end:
            return _latch(env, end)
        if errno is Errno.CANCELED:  # by the deadline, perhaps, and then the guest must not go on from there
            over = _why_over(env)
            if over is not None:
                return _latch(env, over)
        if errno in NO_SPACE and repeats:  # outside of the handler, so that the first error is not the second's context
            try:
                errno = again(env, caller, view, errno)
            except BaseException as end:
                return _latch(env, end)
        view[0] = errno
        return 0

    def again(env: int, caller: int, view: memoryview, errno: Errno) -> Errno:
        """The space may only be reserved, for writes that the fast path expects."""
        guest = _live[env]
        arguments = unpack(view)
        if writes:
            descriptor = guest.process.fds.look(arguments[0])
            if not isinstance(descriptor, OpenFile):
                return errno
            if descriptor.unsynced:  # what was written must not be written twice
                descriptor.unsynced = False
                return errno
        if guest.fast is None or not guest.fast.release_space():
            return errno
        try:
            _call_with_new_memory(guest, caller, function, arguments)
        except FsError as second:
            return errno_of(second)
        return Errno.SUCCESS

    return capi.RawCallback(call)


def _why_over(env: int) -> BaseException | None:
    ending = guest(env)
    return None if ending is None else ending.process.deadline.over()


def _latch(env: int, end: BaseException) -> int:
    ending = guest(env)
    if ending is None:  # a function that outlived its guest: trap, and there is nobody to tell why
        return int(capi.trap_new(_ENDED, len(_ENDED)))
    return ending.latch(end)


# Calls that either do the whole thing or nothing.
_REPEATED: Final = frozenset(
    "path_open path_create_directory path_symlink path_link path_rename fd_allocate fd_filestat_set_size "
    "fd_write fd_pwrite".split()
)
_WRITES: Final = frozenset({"fd_write", "fd_pwrite"})
# Calls that take a microsecond or two whatever they are given. To read the clock would be a good part of that, and
# between two of them there is time enough to take the lock.
_BRIEF: Final = frozenset(
    "clock_res_get clock_time_get fd_advise fd_fdstat_get fd_fdstat_set_rights fd_prestat_get fd_seek fd_tell "
    "args_sizes_get environ_sizes_get".split()
)
_AFTER: Final = dict.fromkeys(FAST_FUNCTIONS, FastPath.used) | {
    "random_get": FastPath.used_random,
    **dict.fromkeys(("args_get", "args_sizes_get", "environ_get", "environ_sizes_get"), FastPath.used_strings),
    **dict.fromkeys(("clock_time_get", "clock_res_get"), FastPath.used_clock),
}


class Binding:
    """The functions of one snapshot as C function pointers, made once per process."""

    def __init__(self, abi: Abi) -> None:
        self.abi = abi
        self.callbacks = {
            name: _bind(
                function,
                abi.functions[name],
                _AFTER.get(name),
                repeats=name in _REPEATED,
                writes=name in _WRITES,
                brief=name in _BRIEF,
            )
            for name, function in table(abi).items()
        }
        self.signatures = {name: _signature(name, letters) for name, letters in abi.functions.items()}
        # A function type belongs to the first engine it is used with; another engine aborts the process.
        self._types: WeakKeyDictionary[wasmtime.Engine, dict[str, wasmtime.FuncType]] = WeakKeyDictionary()

    def types(self, engine: wasmtime.Engine) -> dict[str, wasmtime.FuncType]:
        """The functions' types for stores of `engine`."""
        types = self._types.get(engine)
        if types is None:
            types = {name: _function_type(name, letters) for name, letters in self.abi.functions.items()}
            self._types[engine] = types
        return types


def _signature(name: str, letters: str) -> Signature:
    results = () if name == "proc_exit" else ("i32",)
    return Signature(tuple({"i": "i32", "I": "i64"}[letter] for letter in letters), results)


def _function_type(name: str, letters: str) -> wasmtime.FuncType:
    value = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
    results = [] if name == "proc_exit" else [wasmtime.ValType.i32()]
    return wasmtime.FuncType([value[letter]() for letter in letters], results)


def new_function(
    context: int, guest: Guest, type_: wasmtime.FuncType, callback: Any, finalizer: Any = None
) -> ffi.wasmtime_func_t:
    """A raw host function in a store. `finalizer`: C function called with the guest's number when the store goes."""
    func = ffi.wasmtime_func_t()
    type_address = capi.address_of(type_.ptr())
    at_end = None if finalizer is None else ctypes.cast(finalizer, ctypes.c_void_p)
    capi.func_new_unchecked(context, type_address, callback, guest.number, at_end, ctypes.addressof(func))
    return func


_bindings: dict[str, Binding] = {}


def binding(version: str) -> Binding:
    """The binding of "preview1" or "unstable"."""
    found = _bindings.get(version)
    if found is None:
        found = _bindings.setdefault(version, Binding(ABIS[version]))
    return found


_RAW_VALUE: dict[str, Any] = {
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}


def bind_user_function(function: Callable[..., Any], signature: Signature, name: str) -> Any:
    """A C function pointer around a Python callable `function(memory, *args)` of the user.

    Arguments and results are numbers, integers signed. The caller keeps the pointer alive. What the callable
    raises ends the guest and reaches the caller of `run` unchanged. Raises TypeError for a callable that takes
    another number of arguments.
    """
    params, results = signature.params, signature.results
    told = user_functions.check(function, params, results, name)

    def call(env: int, caller: int, args: int, _count: int) -> int:
        try:
            guest = _live[env]
            if monotonic() >= guest.turn_ends:
                guest.look()
            memory = _memory_of(guest, caller)
            windows = guest.process.windows
            if windows is not None:
                windows.settle()
            values = [
                _RAW_VALUE[kind].from_address(args + index * capi.VAL_RAW_BYTES).value
                for index, kind in enumerate(params)
            ]
            lent = HostMemory(memory)
            try:
                returned = function(lent, *values)
            except TypeError as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # raised by the call itself
                    raise TypeError(f"host function {name}, called as {told}: {error}") from error
                raise
            finally:
                lent.close()
                if windows is not None:
                    windows.refresh(everything=True)
            for index, value in enumerate(user_functions.fitting(returned, results, name)):
                kind = results[index]
                _RAW_VALUE[kind].from_address(args + index * capi.VAL_RAW_BYTES).value = value
            return 0
        except FsError as error:
            return _latch(env, HostFault(f"{name}: {error}"))
        except BaseException as end:
            return _latch(env, end)

    return capi.RawCallback(call)
