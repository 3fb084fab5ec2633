"""Binds system calls as raw callbacks, and keeps what happens in them apart from what wasmtime reports.

A raw callback is a C function pointer: (env, caller, args and results, count) -> trap or 0. It must never
raise and always return an integer, or the process is corrupted; `_bind` is the one place that sees to it. `env`
is the number of a `Guest` in `live`: no callback refers to a sandbox, so nothing is kept alive by one, and one
C function serves every sandbox of the process.

How a guest ends inside a host call (exit, signal, deadline, an exception of our own code) is latched on its own
`Guest`. What wasmtime raises afterwards is only the signal to look there: its package keeps callback
exceptions in one global, which mixes up sandboxes that run on several threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from struct import Struct
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

import wasmtime
from wasmtime import _ffi as ffi

from ..abi.layouts import ABIS, Abi
from ..errors import Errno, FsError, WasiStateError, errno_of
from ..fs_backends.waiting import bounded_by
from ..kernel.clocks import GuestEnd
from ..kernel.descriptor import OpenFile
from ..kernel.refused import TELLING, detail_of, refused
from ..logs import logger
from ..syscalls.preview1 import table
from . import capi, user_functions
from .compiling.outline import Signature
from .fast_path.publishing import FastPath
from .fast_path.vdso import FUNCTIONS as FAST_FUNCTIONS
from .fast_path.windows import NO_SPACE
from .guests import Guest, latch, live, why_over
from .memory import HostMemory, WasmMemory

_log = logger("vfswasi")

_CANCELED: Final = Errno.CANCELED  # found in 0.01 us instead of 0.14 (Python 3.11)
_NOENT: Final = Errno.NOENT
_VIEWS_MAX: Final = 4096
SLOT = {"i": "I12x", "I": "Q8x"}
_NO_ARGUMENTS: Final = Struct("")


class HostFault(GuestEnd):
    """A host function was given a pointer outside the guest's memory."""


def _memory_of(guest: Guest, caller: int) -> WasmMemory:
    """The caller's memory in a store of ours, looked up once."""
    if guest.memory is None:
        guest.memory = WasmMemory.of_caller(caller, guest.process.limits)
    return guest.memory


def call_with_new_memory(guest: Guest, caller: int, function: Callable[..., None], arguments: tuple[int, ...]) -> None:
    """Make a system call of a guest whose memory has to be looked at first."""
    if guest.user_memory_moves:
        _call_in_users_store(guest, caller, function, arguments)
    else:
        function(guest.process, _memory_of(guest, caller), *arguments)


def _call_in_users_store(guest: Guest, caller: int, function: Callable[..., None], arguments: tuple[int, ...]) -> None:
    """Make a system call in a store that the user made, where host code that we call may call the guest."""
    if not guest.ready:
        raise WasiStateError("a WASI function was called before start(), initialize() or finalize_bindings()")
    fast, turn = guest.fast, guest.turn
    turn.begin(fast, caller)
    try:
        guest.process.deadline.check()  # there is no epoch of ours in a store that the user made
        memory = turn.memory_of(caller, guest.process.limits)
        if guest.calling:
            function(guest.process, memory, *arguments)
        else:  # nobody has said what bounds a call that the user made
            with bounded_by(guest.process.deadline, guest.process.allowance):
                function(guest.process, memory, *arguments)
    finally:
        turn.end(fast)


def note(guest: Guest, name: str, arguments: tuple[int, ...], errno: Errno, detail: str) -> None:
    """Keep for whoever asks why the guest failed what it was refused."""
    process = guest.process
    memory = guest.memory or guest.turn.memory
    if memory is not None:
        process.note(refused(process, memory, name, arguments, errno, detail))


def _bind(
    name: str,
    function: Callable[..., None],
    types: str,
    after: Callable[[FastPath, int], None] | None = None,
    repeats: bool = False,
    writes: bool = False,
    brief: bool = False,
) -> Any:
    """A C function pointer that decodes the arguments, makes the call `name` and stores the errno. `after` a call that
    succeeded, the guest's fast path is told the first argument. `repeats`: one that failed for lack of space has had no
    effect, so that it can be made again. `writes`: but for a write that was made, and could not be synced. `brief`: see
    `_BRIEF`."""
    layout = Struct("<" + "".join(SLOT[letter] for letter in types))
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
            guest = live[env]
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
                call_with_new_memory(guest, caller, function, arguments)
            else:
                # Cheaper than `(guest.process, memory, *arguments)`, which is made through a list.
                function(*(guest.process, memory) + arguments)  # noqa: RUF005
            view[0] = 0
            if after is not None and guest.fast is not None:
                after(guest.fast, arguments[0])
            return 0
        except FsError as error:
            errno = errno_of(error)
            if errno is _NOENT:  # what most failures are, and nothing else is to be done about it
                view[0] = errno
                return 0
            detail = detail_of(error) if TELLING[errno] else None
        except MemoryError:
            errno, detail = Errno.NOMEM, None
        except BaseException as end:
            return latch(env, end)
        if errno is _CANCELED:  # by the deadline, perhaps, and then the guest must not go on from there
            over = why_over(env)
            if over is not None:
                return latch(env, over)
        if repeats and errno in NO_SPACE:  # outside of the handler, so that the first error is not the second's context
            try:
                errno = again(env, caller, view, errno)
            except BaseException as end:
                return latch(env, end)
        if detail is not None and errno:
            try:
                note(live[env], name, unpack(view), errno, detail)
            except BaseException as end:
                return latch(env, end)
        view[0] = errno
        return 0

    def again(env: int, caller: int, view: memoryview, errno: Errno) -> Errno:
        """The space may only be reserved, for writes that the fast path expects."""
        guest = live[env]
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
            call_with_new_memory(guest, caller, function, arguments)
        except FsError as second:
            return errno_of(second)
        return Errno.SUCCESS

    return capi.RawCallback(call)


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
                name,
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
            guest = live[env]
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
            return latch(env, HostFault(f"{name}: {error}"))
        except BaseException as end:
            return latch(env, end)

    return capi.RawCallback(call)
