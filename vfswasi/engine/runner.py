"""Runs one guest: store, instance, entry point, and a plain answer to "how did it end?"."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import wasmtime
from wasmtime import _ffi as ffi

from ..abi.layouts import ABI_BY_MODULE, Abi
from ..errors import InvalidModuleError, MissingExportError, MissingImportError
from ..fs_backends.waiting import bounded_by
from ..kernel.clocks import Deadline, DeadlinePassed, GuestEnd, Interrupted, ProcessExit, ProcessSignal
from ..kernel.process import Process
from ..limits import Limits
from ..logs import logger
from ..printing import printable
from . import capi, guests, host, traps
from .compiling import refusals
from .compiling.modules import CompiledModule, Import, tick
from .fast_path import vdso
from .fast_path.publishing import FastPath
from .interruption import page
from .memory import WasmMemory
from .threads.deadlines import Watchdog
from .user_functions import UserImports, checked_imports

_log = logger("vfswasi.vdso")

_NO_CALLS: Final[Mapping[str, int]] = MappingProxyType({})

SIGABRT: Final = 6  # what a trap counts as in an exit status, as in wasmtime's command line
INTERRUPTED: Final = "interrupted"


class Ending(NamedTuple):
    """How a run ended. `returncode`: the exit status, or -N for signal N (a trap is SIGABRT).

    `trap`: the message of a trap, with the guest's backtrace. `error`: an exception of the host to re-raise.
    `limit`: the limit that ended it: "wall_seconds", "fuel" (without a return code), or "stack"; INTERRUPTED if
    somebody else did (without a return code). `fast_calls`: see `FastPath.counters`.
    """

    returncode: int | None
    trap: str | None = None
    error: BaseException | None = None
    limit: str | None = None
    fast_calls: Mapping[str, int] = _NO_CALLS


class Meter:
    """What a guest has used of its store. `memory_bytes`: linear memory. `fuel`: None if it was not counted."""

    def __init__(self) -> None:
        self.memory_bytes = 0
        self.fuel: int | None = None
        self.guest: guests.Guest | None = None  # while it runs

    def seen_bytes(self) -> int:
        """Its linear memory, while it runs as of its last call."""
        guest = self.guest
        memory = None if guest is None else guest.memory
        return self.memory_bytes if memory is None else memory.size


# What a store holds beside what the guest brings: the page, the shim and the vdso with its memory, the shim's table.
_OWN_INSTANCES: Final = 2
_OWN_MEMORIES: Final = 2
_OWN_TABLES: Final = 1


def end_what_is_over() -> None:
    """Make all guests look at their deadlines, whether they compute or make calls. Any thread may call this, and a
    signal handler."""
    guests.end_what_is_over()
    page.end_what_is_over()
    tick()


_watchdog = Watchdog(end_what_is_over)


def watch(deadline: Deadline) -> None:
    """End what keeps to it when it is due, until `stop_watching`. Raises OSError: there can be no more threads."""
    _watchdog.watch(deadline)


def stop_watching(deadline: Deadline) -> None:
    """Nothing that keeps to it runs now."""
    _watchdog.forget(deadline)


def _on_epoch(_context: int, number: int, delta: int, kind: int) -> int:
    try:
        guest = guests.find(number)
        end = guest.process.deadline.over() if guest is not None else None
        if guest is None or end is None:
            capi.set_continue(delta, kind)
            return 0
        if guest.outcome is None:
            guest.outcome = end
    except BaseException:
        pass  # the error below ends the guest all the same
    return int(capi.error_new(b"the run is over"))


_epoch_callback = capi.EpochCallback(_on_epoch)


_Maker = Callable[[int, guests.Guest], ffi.wasmtime_func_t]


def _traced(version: str, name: str) -> Any:
    from . import traced  # few runs are

    return traced.callbacks(version)[name]


class _FastImports(NamedTuple):
    """Which of a program's imports (their indexes) can have a fast path, and in which snapshot's numbers."""

    abi: Abi
    indexes: frozenset[int]


class Program:
    """A compiled module with the host functions of the user, checked once and run many times."""

    def __init__(self, compiled: CompiledModule, name: str, imports: UserImports | None = None) -> None:
        """Raises MissingImportError, MissingExportError, InvalidModuleError, and TypeError for host functions that are
        none, or cannot take what the module gives them. `name` is for messages."""
        self.compiled = compiled
        self.name = name
        self._is_command = False  # as far as somebody has asked
        # Per import: a function that makes it in a store.
        self._makers: list[_Maker] = []
        missing: list[tuple[str, str, str]] = []
        user = checked_imports(imports)
        for wanted in compiled.imports:
            maker = self._maker(wanted, user)
            if maker is None:
                missing.append((wanted.module, wanted.name, wanted.kind))
            else:
                self._makers.append(maker)
        if refusals.foreign([(module, import_) for module, import_, _ in missing]) is None:
            _check_memory(compiled, name)
        self._fast = self._fast_imports(user)
        if missing:
            raise MissingImportError(f"{name}: {refusals.missing_imports(missing)}")

    def _maker(self, wanted: Import, user: UserImports) -> _Maker | None:
        if wanted.kind != "func":
            return None
        function = user.get(wanted.module, {}).get(wanted.name)
        if function is not None:
            label = f"{wanted.module}.{wanted.name}"
            if wanted.signature is None:
                raise MissingExportError(f"host function {label}: other values than numbers cannot be passed to Python")
            callback = host.bind_user_function(function, wanted.signature, label)
            return lambda context, guest: host.new_function(context, guest, wanted.type, callback)
        abi = ABI_BY_MODULE.get(wanted.module)
        if abi is None or wanted.name not in abi.functions:
            return None
        bound = host.binding(abi.version)
        type_ = bound.types(self.compiled.engine)[wanted.name]
        if wanted.signature != bound.signatures[wanted.name]:
            raise InvalidModuleError(
                f"{self.name}: imports {wanted.module}.{wanted.name} with a type that WASI does not give it"
            )
        name, version, callback = wanted.name, abi.version, bound.callbacks[wanted.name]
        return lambda context, guest: host.new_function(
            context, guest, type_, callback if guest.process.tracer is None else _traced(version, name)
        )

    def _fast_imports(self, user: UserImports) -> _FastImports | None:
        """The imports that can have a fast path. A start section would call them before the guest's memory is known;
        and one table of descriptors has the layouts of one snapshot."""
        found: dict[str, set[int]] = {}
        for index, wanted in enumerate(self.compiled.imports):
            module = wanted.module
            if wanted.name in vdso.FUNCTIONS and module in ABI_BY_MODULE and wanted.name not in user.get(module, {}):
                found.setdefault(module, set()).add(index)
        if len(found) != 1 or self.compiled.has_start or "memory" not in self.compiled.exports:
            return None
        module, indexes = found.popitem()
        return _FastImports(ABI_BY_MODULE[module], frozenset(indexes))

    def check_command(self) -> None:
        """Raises MissingExportError unless the module is a command, with an entry point that can be run."""
        if self._is_command:  # wasmtime's types are slow to ask
            return
        exports = self.compiled.exports
        wrong = refusals.entry(exports)
        if wrong is not None:
            raise MissingExportError(f"{self.name}: {wrong}")
        start = exports["_start"]
        if not isinstance(start, wasmtime.FuncType) or start.params or start.results:
            raise MissingExportError(f"{self.name}: its export _start is not a function without parameters and results")
        self._is_command = True

    def check_counts(self, limits: Limits) -> None:
        """Raises InvalidModuleError for more memories or tables than there may be."""
        for what, count, most in (
            ("memories", self.compiled.memories, limits.memories),
            ("tables", self.compiled.tables, limits.tables),
        ):
            if count > most:
                raise InvalidModuleError(f"{self.name}: it has {count:,} {what}, and Limits.{what} is {most:,}")

    def run(self, process: Process, fast: bool, meter: Meter) -> Ending:
        """Instantiate and call `_start`. The process is left open, so that its files can be looked at. Not on the main
        thread: see `workers`.

        `fast`: with the fast path inside wasm, where it is possible. `meter` is filled in.
        """
        guest = meter.guest = guests.Guest(process)
        limits = process.limits
        store = wasmtime.Store(self.compiled.engine)
        try:
            context = self.prepare(store, guest)
            if limits.fuel is not None:
                store.set_fuel(limits.fuel)
            process.clocks.start()
            deadline = process.deadline
            _watchdog.watch(deadline)
            over = deadline.over()
            if over is not None:
                guest.outcome = over
                return ending_of(guest, 0, 0, self.name)
            # Returned at once: an ending in a local variable would refer to itself, through the frames of its error.
            with bounded_by(deadline, process.allowance):
                instance = self.instantiate(context, guest, fast)
                try:
                    if isinstance(instance, Ending):
                        return instance
                    return call_export(context, instance, guest, "_start", self.name)
                finally:
                    del instance
        finally:
            if guest.page is not None:
                guest.page.forget()
            _watchdog.forget(process.deadline)
            meter.memory_bytes, meter.guest = guest.memory_bytes(context), None
            if limits.fuel is not None:
                meter.fuel = limits.fuel - store.get_fuel()
            with process.teardown:  # somebody may be looking at what it has written so far
                try:
                    guest.forget()
                finally:
                    store.close()

    def prepare(self, store: wasmtime.Store, guest: guests.Guest) -> int:
        """Give a new store the limits of the guest's process, and what ends the guest; the address of its context."""
        limits = guest.process.limits
        store.set_limits(
            memory_size=limits.memory_bytes,
            table_elements=limits.table_elements,
            instances=1 + _OWN_INSTANCES,
            tables=limits.tables + _OWN_TABLES,
            memories=limits.memories + _OWN_MEMORIES,
        )
        store_address = capi.address_of(store.ptr())
        context = int(capi.store_context(store_address))
        if self.compiled.page is None:
            capi.store_epoch_deadline_callback(store_address, _epoch_callback, guest.number, None)
            capi.context_set_epoch_deadline(context, 1)
        return context

    def instantiate(self, context: int, guest: guests.Guest, fast: bool) -> ffi.wasmtime_instance_t | Ending:
        """An instance in a store that was prepared, or how it ended while it was made. `fast`: see `run`. Raises
        InvalidModuleError."""
        imports = None if not fast or guest.process.tracer is not None else self._fast
        shim = None if imports is None else self._shim(context, guest, imports)
        externs = (ffi.wasmtime_extern_t * len(self._makers))()
        for index, maker in enumerate(self._makers):
            externs[index].kind = capi.EXTERN_FUNC  # type: ignore[assignment]
            if shim is not None and self._fast is not None and index in self._fast.indexes:
                externs[index].of.func = shim.function(self.compiled.imports[index].name)
            else:
                externs[index].of.func = maker(context, guest)
        instance = ffi.wasmtime_instance_t()
        trap = ctypes.c_size_t(0)
        module = capi.address_of(self.compiled.module.ptr())
        error = capi.instance_new(
            context, module, externs, len(externs), ctypes.addressof(instance), ctypes.addressof(trap)
        )
        if error and guest.outcome is None and not trap.value:
            message, executing = traps.take_error(error)
            if executing:
                return Ending(-SIGABRT, message)
            raise InvalidModuleError(f"{self.name}: cannot be instantiated: {message}")
        if error or trap.value:
            return ending_of(guest, error or 0, trap.value, self.name)
        if self.compiled.page is not None:
            deadline = guest.process.deadline
            guest.page = page.Page(context, instance, self.compiled.page, deadline)
            guest.outcome = deadline.over()  # if it was so before the page was there, nobody has ended the guest
            if guest.outcome is not None:
                return ending_of(guest, 0, 0, self.name)
        if guest.memory is None:
            guest.instance = instance
        if shim is not None and self._fast is not None:
            limits = guest.process.limits
            guest.memory = WasmMemory.of_instance(context, ctypes.addressof(instance), limits)
            window_bytes = vdso.room_for_windows(limits)
            guest.fast = FastPath(
                guest.process, self._fast.abi, shim, context, guest.memory.raw_memory(), window_bytes, held=True
            )
        return instance

    def _shim(self, context: int, guest: guests.Guest, imports: _FastImports) -> vdso.Shim | None:
        bound = host.binding(imports.abi.version)
        types = bound.types(self.compiled.engine)
        functions = {
            name: host.new_function(context, guest, types[name], bound.callbacks[name]) for name in vdso.FUNCTIONS
        }
        try:
            return vdso.Shim(context, self.compiled.engine, functions)
        except (vdso.Unavailable, wasmtime.WasmtimeError) as error:
            _log.debug("%s: no fast path: %s", self.name, error)
            return None


def call_export(context: int, instance: ffi.wasmtime_instance_t, guest: guests.Guest, export: str, name: str) -> Ending:
    """Call an exported function without parameters and results."""
    extern = ffi.wasmtime_extern_t()
    raw = export.encode()
    if not capi.instance_export_get(context, ctypes.addressof(instance), raw, len(raw), ctypes.addressof(extern)):
        raise MissingExportError(f"{name}: the instance does not export {export}")
    trap = ctypes.c_size_t(0)
    error = capi.func_call_unchecked(context, ctypes.addressof(extern.of.func), None, 0, ctypes.addressof(trap))
    return ending_of(guest, error or 0, trap.value, name)


_TRAP_LIMITS: Final[dict[wasmtime.TrapCode | None, str]] = {
    wasmtime.TrapCode.OUT_OF_FUEL: "fuel",
    wasmtime.TrapCode.STACK_OVERFLOW: "stack",
}


def ending_of(guest: guests.Guest, error: int, trap: int, name: str) -> Ending:
    """What happened, from what the guest latched and, without that, from what wasmtime says; frees both."""
    calls = guest.fast.counters() if guest.fast is not None else {}
    if guest.outcome is None and trap and guest.page is not None:
        guest.outcome = guest.page.why(trap)
    outcome = guest.outcome
    if outcome is None:
        message = limit = None
        if error:
            message, _ = traps.take_error(error)
        if trap:
            message, code = traps.take_trap(trap)
            limit = _TRAP_LIMITS.get(code)
        if message is None:
            return Ending(0, fast_calls=calls)
        return Ending(None if limit == "fuel" else -SIGABRT, message, limit=limit, fast_calls=calls)
    if error:
        capi.error_delete(error)
    if trap:
        capi.trap_delete(trap)
    if isinstance(outcome, ProcessExit):
        return Ending(outcome.code, fast_calls=calls)
    if isinstance(outcome, ProcessSignal):
        return Ending(-outcome.number, fast_calls=calls)
    if isinstance(outcome, DeadlinePassed):
        return Ending(None, limit="wall_seconds")
    if isinstance(outcome, Interrupted):
        return Ending(None, limit=INTERRUPTED)
    if isinstance(outcome, GuestEnd):
        return Ending(-SIGABRT, printable(str(outcome)), fast_calls=calls)
    return Ending(None, error=outcome)


def left_behind(process: Process, end: BaseException) -> Ending:
    """The ending of a run that is still inside a host call after its time. Its output so far is fetched, if it can
    be."""
    if process.teardown.acquire(timeout=0.01):
        try:
            process.collect_output()
        finally:
            process.teardown.release()
    if isinstance(end, DeadlinePassed):
        return Ending(None, limit="wall_seconds")
    return Ending(None, limit=INTERRUPTED)


def _check_memory(compiled: CompiledModule, name: str) -> None:
    wrong = refusals.memory(
        {
            export: (type_.is_64, type_.is_shared)
            for export, type_ in compiled.exports.items()
            if isinstance(type_, wasmtime.MemoryType)
        },
        [(wanted.module, wanted.name) for wanted in compiled.imports],
    )
    if wrong is not None:
        raise MissingExportError(f"{name}: {wrong}")
