"""WASI functions in a store that the user made: what the `WASI` class needs of the engine.

Nothing is known of that store's settings, so guest memory is looked up again at each call, no epoch is set,
and the functions live as long as the store does: a finalizer tells when that is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import _func as wasmtime_func

from ..errors import HostCallError, MissingExportError, WasiStateError
from ..kernel.clocks import Interrupted, ProcessExit, ProcessSignal
from ..kernel.process import Process
from ..logs import logger
from . import capi, guests, host
from .fast_path import vdso
from .fast_path.publishing import FastPath
from .memory import MovingMemory
from .threads import stacks

_log = logger("vfswasi.vdso")

_ROOM_BYTES: Final = stacks.WASMTIME_BYTES + stacks.CALL_BYTES

_finalizers: dict[int, Callable[[], object]] = {}


def _finalize(number: int | None) -> None:
    finalizer = _finalizers.pop(number or 0, None)
    if finalizer is not None:
        try:
            finalizer()
        except BaseException:
            pass  # a C callback must not raise; closing reports nothing here


_finalizer_callback = ctypes.CFUNCTYPE(None, ctypes.c_size_t)(_finalize)


class Embedding:
    """One process bound into one store of the user."""

    def __init__(
        self,
        store: wasmtime.Store,
        process: Process,
        version: str,
        release: Callable[[], object],
        window_bytes: int = 0,
    ) -> None:
        """`release` is called when the store goes, or by `close`. `window_bytes`: 0 for no fast path."""
        self.store = store
        self.guest = guests.Guest(process, user_memory_moves=True)
        store_address = capi.address_of(store.ptr())
        self._context = capi.store_context(store_address)
        number = self.guest.number
        guest = self.guest
        self._release = release

        def finalize() -> None:
            guest.abandon()
            release()

        _finalizers[number] = finalize
        binding = host.binding(version)
        types = binding.types(store.engine)
        callbacks = binding.callbacks
        if process.tracer is not None:
            from . import traced  # few are

            callbacks, window_bytes = traced.callbacks(version), 0
        raw: dict[str, ffi.wasmtime_func_t] = {}
        for index, (name, callback) in enumerate(callbacks.items()):
            finalizer = _finalizer_callback if index == 0 else None
            raw[name] = host.new_function(self._context, guest, types[name], callback, finalizer)
        self._abi = binding.abi
        self._window_bytes = window_bytes
        self._shim = self._make_shim(store.engine, raw) if window_bytes else None
        if self._shim is not None:
            raw |= {name: self._shim.function(name) for name in vdso.FUNCTIONS}
        self.functions = {name: wasmtime.Func._from_raw(func) for name, func in raw.items()}

    def _make_shim(self, engine: wasmtime.Engine, raw: dict[str, ffi.wasmtime_func_t]) -> vdso.Shim | None:
        try:
            return vdso.Shim(self._context, engine, raw)
        except (vdso.Unavailable, wasmtime.WasmtimeError) as error:
            _log.debug("no fast path in this store: %s", error)
            return None

    def attach(self, instance: wasmtime.Instance) -> None:
        """Take the instance's memory; from now on calls are answered. Raises MissingExportError, ValueError."""
        raw = instance._instance
        if raw.store_id != next(iter(self.functions.values()))._func.store_id:
            raise ValueError("the instance belongs to another store than the one given to get_import_object()")
        exports = instance.exports(self.store).by_index
        memories = [export for export in exports if isinstance(export, wasmtime.Memory | wasmtime.SharedMemory)]
        if len(memories) > 1:
            raise MissingExportError("the instance exports several memories; WASI uses exactly one, named memory")
        if memories and isinstance(memories[0], wasmtime.Memory) and memories[0].type(self.store).is_64:
            raise MissingExportError("the instance's memory is 64-bit; WASI preview1 has 32-bit pointers")
        memory = self.guest.turn.memory = MovingMemory.of_instance(
            self._context, ctypes.addressof(raw), self.guest.process.limits
        )
        if self._shim is not None:
            self.guest.fast = FastPath(
                self.guest.process,
                self._abi,
                self._shim,
                self._context,
                memory.raw_memory(),
                self._window_bytes,
                held=False,
            )
        self.guest.ready = True

    def exports(self, instance: wasmtime.Instance, name: str) -> bool:
        """Whether the instance exports a function of that name."""
        return isinstance(instance.exports(self.store).get(name), wasmtime.Func)

    def call(self, instance: wasmtime.Instance, name: str) -> int:
        """Call an export without parameters; the exit status (0 if it returned).

        Raises wasmtime.Trap and WasmtimeError as wasmtime would, unchanged what a host function raised, and
        WasiStateError where the thread's stack is too small.
        """
        left = stacks.room()
        if left is not None and left < _ROOM_BYTES:
            raise WasiStateError(
                f"this thread has {left >> 10} KiB of stack left, and a guest needs {_ROOM_BYTES >> 10}: use a thread "
                "with a larger stack (threading.stack_size, ulimit -s)"
            )
        extern = ffi.wasmtime_extern_t()
        raw = name.encode()
        address = ctypes.addressof(instance._instance)
        if not capi.instance_export_get(self._context, address, raw, len(raw), ctypes.addressof(extern)):
            raise MissingExportError(f"the instance does not export {name}")
        trap = ctypes.c_size_t(0)
        self.guest.calling = True
        fast = self.guest.fast
        if fast is not None:
            fast.hold(True)
        try:
            with _deferred_interrupt(self.guest.process):
                error = capi.func_call_unchecked(
                    self._context, ctypes.addressof(extern.of.func), None, 0, ctypes.addressof(trap)
                )
        finally:
            if fast is not None:
                fast.hold(False)
        self.settle()
        return self._ended(error or 0, trap.value)

    def _ended(self, error: int, trap: int) -> int:
        raised: BaseException | None = None
        if error:
            raised = wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
        elif trap:
            raised = wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t)))
        outcome, self.guest.outcome = self.guest.outcome, None
        self.guest.calling = False
        if isinstance(outcome, ProcessExit):
            return outcome.code
        if isinstance(outcome, ProcessSignal):
            return 128 + outcome.number
        if isinstance(outcome, Interrupted):
            raise HostCallError("the guest was interrupted")
        if outcome is not None:
            raise outcome
        if raised is None:
            return 0
        if not isinstance(raised, wasmtime.Trap) or raised.trap_code is None:
            # Perhaps a host function that the user made with wasmtime.Func: the package parks its exception in a
            # global. Its own text would say so, and take gigabytes for what a guest may call its functions.
            wasmtime_func.maybe_raise_last_exn()
        raise raised

    def settle(self) -> None:
        """The stores get what the guest wrote, and what it read is looked at again: between its calls anybody may look
        at the files, or change them."""
        windows, fast = self.guest.process.windows, self.guest.fast
        if windows is not None and fast is not None:
            fast.begin()
            try:
                windows.settle()
                windows.refresh(everything=True)
            finally:
                fast.end()

    def close(self) -> None:
        """The guest is over: its files are closed, and its functions trap from now on. The mounts stay open."""
        _finalizers.pop(self.guest.number, None)
        self.guest.close()


@contextlib.contextmanager
def _deferred_interrupt(process: Process) -> Iterator[None]:
    """On the main thread, let Ctrl-C end the guest at its next host call instead of raising inside a callback.

    A callback that raises before its first line corrupts the process, and a signal handler may raise anywhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: Any = signal.getsignal(signal.SIGINT)
    if not callable(previous):
        yield
        return
    pending = False

    def note(_number: int, _frame: Any) -> None:
        nonlocal pending
        pending = True
        process.deadline.interrupt()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if pending:
            previous(signal.SIGINT, None)
