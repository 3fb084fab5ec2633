"""One instance that stays between calls: each call has a deadline and fuel of its own.

Every method is called by one thread at a time, whichever that is; those that run the guest on threads of ours (see
`threads.workers`). Once a call has ended the guest, or `close` was called, there is no instance any more.
"""

from __future__ import annotations

import ctypes
from typing import Any

import wasmtime

from ...errors import Errno, FsError, HostCallError, MissingExportError
from ...fs_backends.waiting import bounded_by
from ...kernel.clocks import ProcessExit
from ...kernel.process import Process
from .. import capi, guests
from ..compiling.exposing import Inside
from ..memory import WasmMemory
from ..runner import Ending, Program, ending_of, stop_watching, watch
from . import values
from .state import CannotCopyError, Place, State, capture, restore


class Instance:
    """An instance of `program`, whose module was compiled to be kept, for `process`. `fuel`: used by all calls so far,
    or None if it is not counted. `memory_bytes`: of the memory that is exported."""

    def __init__(self, program: Program, process: Process, fast: bool) -> None:
        """`fast`: with the fast path inside wasm, where that is possible."""
        inside = program.compiled.inside
        assert inside is not None
        self.inside: Inside = inside
        self.fuel: int | None = None if process.limits.fuel is None else 0
        self.memory_bytes = 0
        self._program = program
        self._process = process
        self._fast = fast
        self._cpu_ns = 0
        self._guest = guests.Guest(process)
        self._store: wasmtime.Store | None = wasmtime.Store(program.compiled.engine)
        try:
            self._context = program.prepare(self._store, self._guest)
        except BaseException:
            self.close()
            raise
        self._place: Place | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an instance to call."""
        return self._place is not None

    def open(self, timeout_s: float | None, state: State | None) -> Ending | None:
        """Make the instance, and call what the module wants to have called first: its start function and `_initialize`.
        With `state` it is put into that instead. How it ended meanwhile, or None. The guest is gone then.

        Raises InvalidModuleError, HostCallError (the state cannot be put in), and what a host function raised.
        """
        with self._begun(timeout_s), bounded_by(self._process.deadline, self._process.allowance):
            made = self._program.instantiate(self._context, self._guest, self._fast)
            try:
                if isinstance(made, Ending):
                    return self._ended(made)
                self._place = Place(self._context, made)
            finally:
                del made
            if state is not None:
                try:
                    restore(self._place, self.inside, state)
                except (CannotCopyError, OSError) as error:
                    raise HostCallError(f"{self._program.name}: an instance cannot be copied: {error}") from error
                return None
            first = [] if self.inside.start is None else [self.inside.start]
            if "_initialize" in self.inside.functions:
                signature = values.signature_of(self.inside.functions, "_initialize", self._program.name)
                if signature.params or signature.results:
                    raise MissingExportError(
                        f"{self._program.name}: its export _initialize is not a function without parameters and results"
                    )
                first.append("_initialize")
            for name in first:
                ending = self._called(name, bytearray(capi.VAL_RAW_BYTES))
                try:
                    if ending is not None:
                        return ending
                finally:
                    del ending
        return None

    def call(self, name: str, raw: bytearray, timeout_s: float | None) -> Ending | None:
        """Call a function of the module's with arguments from `values.packed`, where its results are afterwards. How
        that ended the guest, or None."""
        assert self._place is not None
        with self._begun(timeout_s), bounded_by(self._process.deadline, self._process.allowance):
            windows = self._process.windows
            if windows is not None:  # the host may have changed anything since the last call
                windows.refresh(everything=True)
            ending = self._called(name, raw)
            try:
                if ending is None and self._guest.fast is not None:
                    self._guest.fast.rest()
                return ending
            finally:
                del ending

    def _begun(self, timeout_s: float | None) -> _Call:
        if self._store is None:
            raise ValueError("the instance is closed")
        limits, page = self._process.limits, self._guest.page
        if limits.fuel is not None:
            self._store.set_fuel(limits.fuel)
        if page is None:
            self._process.deadline.begin(timeout_s)
            if self._program.compiled.page is None:
                capi.context_set_epoch_deadline(self._context, 1)
        else:
            page.begin(timeout_s)
        self._process.clocks.go_on(self._cpu_ns)
        return _Call(self)

    def _over(self) -> None:
        """The call is over, however it ended."""
        deadline = self._process.deadline
        stop_watching(deadline)
        self._cpu_ns = self._process.clocks.used_ns()
        limits = self._process.limits
        if self._store is not None:
            self.memory_bytes = self._guest.memory_bytes(self._context)
            if limits.fuel is not None and self.fuel is not None:
                self.fuel += limits.fuel - self._store.get_fuel()

    def _called(self, name: str, raw: bytearray) -> Ending | None:
        place, deadline = self._place, self._process.deadline
        assert place is not None
        trap = ctypes.c_size_t(0)
        buffer = (ctypes.c_uint8 * len(raw)).from_buffer(raw)
        over = deadline.over()
        if over is not None:
            self._guest.outcome = over
            return self._ended(ending_of(self._guest, 0, 0, self._program.name))
        error = capi.func_call_unchecked(
            self._context,
            place.at(name),
            ctypes.addressof(buffer),
            len(raw) // capi.VAL_RAW_BYTES,
            ctypes.addressof(trap),
        )
        if not error and not trap.value:
            over = deadline.over()
            if over is None:
                return None
            self._guest.outcome = over  # it had to end, and has not noticed
        end = self._guest.outcome
        if name == "_start" and isinstance(end, ProcessExit) and end.code == 0:
            # How many a command says that it is done, and what it has set up is as good as after a return.
            self._guest.outcome = None
            if error:
                capi.error_delete(error)
            if trap.value:
                capi.trap_delete(trap.value)
            return None
        return self._ended(ending_of(self._guest, error or 0, trap.value, self._program.name))

    def _ended(self, ending: Ending) -> Ending:
        try:
            return ending
        finally:
            del ending
            self._over()
            self.close()

    def memory(self) -> WasmMemory:
        """The memory that the module exports, until the next call. Raises MissingExportError."""
        assert self._place is not None
        try:
            extern = self._place.extern("memory")
        except KeyError:
            extern = None
        if extern is None or capi.kind_of(extern) != capi.EXTERN_MEMORY:
            raise MissingExportError(f'{self._program.name}: it exports no memory named "memory"')
        return WasmMemory(self._context, extern.of.memory, self._process.limits)

    def capture(self, timeout_s: float | None) -> State:
        """What the instance is now, and the process is the kernel's alone, until the next call. Raises
        CannotCopyError, OSError, FsError."""
        assert self._place is not None
        deadline = self._process.deadline
        with self._begun(timeout_s), bounded_by(deadline, self._process.allowance):
            if self._guest.fast is not None:
                self._guest.fast.give_back()
            state = capture(self._place, self.inside)
            if deadline.over() is not None:  # what was asked of the guest meanwhile may have been ended instead
                state.close()
                raise FsError(Errno.CANCELED, "the time is over")
            return state

    def close(self) -> None:
        """Let the instance go; what it wrote is where it belongs. May be called again."""
        store, self._store = self._store, None
        if store is None:
            return
        if self._guest.page is not None:
            self._guest.page.forget()
        self._place = None
        with self._process.teardown:  # somebody may be looking at what it has written so far
            try:
                self._guest.forget()
            finally:
                store.close()


class _Call:
    """Watched until it is over."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def __enter__(self) -> None:
        watch(self._instance._process.deadline)

    def __exit__(self, *_: Any) -> None:
        instance = self._instance
        instance._over()
        if instance._store is not None:  # else what still has to be done for it must be done in time
            instance._process.deadline.rest()
