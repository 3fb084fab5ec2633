"""`WASI`: the class of Node's `node:wasi` in Python's spelling, for stores and instances that the user makes.

Its rules are those of Node's page: a command is started once, a reactor is initialised once, never both; the
instance must export its memory. Beyond it, preopens may be any source and standard streams any file.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from ..abi.layouts import ABIS
from ..engine.compiling import modules
from ..engine.embedding import Embedding
from ..engine.fast_path import publishing as fastpath
from ..engine.fast_path.vdso import room_for_windows
from ..errors import MissingExportError, WasiStateError
from ..fs_backends.waiting import bounded_by
from ..kernel.process import Process
from ..limits import Limits
from .arguments import check_args_bytes, encode_argv, encode_environ
from .closing import finish, uncommitted
from .preparing.mounting import Bounds, open_mounts
from .runs.asked import check_trace
from .runs.observed import observed_by, recorder_of
from .stdio import standard_streams

if TYPE_CHECKING:
    import wasmtime

    from ..mounts.finding.source_types import Source
    from ..observe.changes import Changes
    from ..observe.trace.trace import Trace as Calls
    from .types import Args, Stdin, Stdout, Trace


class WASI:
    """The WASI system calls for one instance.

    version: "preview1" or "unstable"; there is no default.
    args: the guest's argv, the program's name first. env: its environment; nothing is passed on by itself.
    preopens: guest directory -> source (a path, a URL, a dict, a `Backend`, a `Mount`), opened here.
    return_on_exit: whether `start` returns the exit status, or raises SystemExit with it.
    stdin, stdout, stderr: a descriptor, a file, or what `vfswasi.run` takes.
    vdso: whether calls on open files may be answered inside wasm. Not by default, unlike in `vfswasi.run`: a host that
        calls the guest's functions itself must call `settle` before it looks at files that the guest has open, or
        changes them. `interrupt` and VFSWASI_VDSO=0 work as ever.
    trace: as in `vfswasi.run`; the property `trace` has the calls.

    Raises TypeError and ValueError that name the option, MountError for a preopen that cannot be opened,
    GuestTimeoutError if that takes longer than `limits.wall_seconds`.
    """

    def __init__(
        self,
        *,
        version: str,
        args: Args = (),
        env: Mapping[str, str] | None = None,
        preopens: Mapping[str, Source] | None = None,
        return_on_exit: bool = True,
        stdin: Stdin = 0,
        stdout: Stdout = 1,
        stderr: Stdout = 2,
        limits: Limits | None = None,
        vdso: bool = False,
        trace: Trace = None,
    ) -> None:
        if not isinstance(version, str):
            raise TypeError(f"version must be a str, not {type(version).__name__}")
        if version not in ABIS:
            raise ValueError(f"version must be one of {', '.join(map(repr, ABIS))}, not {version!r}")
        if isinstance(args, str | bytes) or not isinstance(args, Iterable):
            raise TypeError(f"args must be a sequence of str, not {type(args).__name__}")
        if not isinstance(return_on_exit, bool):
            raise TypeError(f"return_on_exit must be a bool, not {type(return_on_exit).__name__}")
        limits = Limits() if limits is None else limits
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be a vfswasi.Limits, not {type(limits).__name__}")
        check_trace(trace)
        self._abi = ABIS[version]
        self._return_on_exit = return_on_exit
        self._window_bytes = max(0, room_for_windows(limits)) if vdso and fastpath.wanted(None) else 0
        argv, environ = encode_argv(args), encode_environ(env)
        check_args_bytes(argv, environ, limits)
        streams = standard_streams(stdin, stdout, stderr, limits.output_bytes)
        opening = Bounds.of(limits, limits.wall_seconds)
        self._mounts = open_mounts(preopens, modules.trusted_directories(), opening)
        self._preopens = self._mounts.instantiate(limits)
        self._process = Process(
            argv=argv,
            environ=environ,
            preopens=self._preopens,
            streams=streams,
            limits=limits,
            allowance=opening.allowance,
            rights_all=self._abi.rights_all,
            tracer=recorder_of(trace),
        )
        self._unbound = weakref.finalize(self, self._mounts.close)
        self._embedding: Embedding | None = None
        self._state = "new"
        self._changes: Mapping[str, Changes] = {}
        self._guest_thread = _Running(self._close)

    @property
    def trace(self) -> Calls | None:
        """The instance's system calls so far, if `trace=` asked for them."""
        return observed_by(self._process.tracer).trace()

    @property
    def version(self) -> str:
        """ "preview1" or "unstable"."""
        return self._abi.version

    def get_import_object(self, store: wasmtime.Store) -> dict[str, dict[str, wasmtime.Func]]:
        """{module name: {function name: wasmtime.Func}} in `store`, for a linker or the imports of an instance.

        Raises WasiStateError if it was called with another store before.
        """
        if self._embedding is None:
            self._check_open()
            self._embedding = Embedding(store, self._process, self._abi.version, self._mounts.close, self._window_bytes)
            self._unbound.detach()  # from now on the mounts live as long as the store
        elif self._embedding.store is not store:
            raise WasiStateError("this WASI is bound to another store; make one WASI for each store")
        return {self._abi.module: self._embedding.functions}

    def define_in(self, linker: wasmtime.Linker, store: wasmtime.Store | None = None) -> None:
        """Define all functions in a linker, of which `linker.instantiate(store, module)` makes the instance.

        store: the one that the instance will be in; not needed after `get_import_object(store)`. wasmtime's functions
        belong to a store, so another instance in another store needs another WASI and another linker.

        Raises WasiStateError (no store, or another one than before), TypeError, wasmtime.WasmtimeError (something is
        defined there under the same name).
        """
        if not callable(getattr(linker, "define", None)):
            raise TypeError(f"linker must be a wasmtime.Linker, not {type(linker).__name__}")
        if store is None:
            store = self._bound("give define_in the store too: define_in(linker, store)").store
        for module, functions in self.get_import_object(store).items():
            for name, function in functions.items():
                linker.define(store, module, name, function)

    @property
    def wasi_import(self) -> dict[str, wasmtime.Func]:
        """The functions alone, by name. Raises WasiStateError before `get_import_object(store)`."""
        return self._bound().functions

    def start(self, instance: wasmtime.Instance) -> int:
        """Run `_start` of a command; its exit status. Afterwards all its files are closed.

        Raises WasiStateError (started before; `_start` missing, `_initialize` present), MissingExportError (no memory),
        SystemExit (with `return_on_exit=False`), wasmtime.Trap, and unchanged what a host function raised.
        """
        embedding = self._begin(instance, "start")
        if not embedding.exports(instance, "_start"):
            raise MissingExportError("start() needs an instance that exports a function _start")
        if embedding.exports(instance, "_initialize"):
            raise WasiStateError("start() is for commands, and this instance exports _initialize: it is a reactor")
        embedding.attach(instance)
        self._state = "started"
        with self._guest_thread:
            ended = False
            try:
                with bounded_by(self._process.deadline, self._process.allowance):
                    status = embedding.call(instance, "_start")
                ended = True
            finally:
                self._end(ended, ended and status == 0)
        if not self._return_on_exit:
            raise SystemExit(status)
        return status

    def initialize(self, instance: wasmtime.Instance) -> None:
        """Make a reactor ready: run `_initialize` if it is there. Its other exports may be called afterwards.

        Raises WasiStateError (initialised before; `_start` present), MissingExportError (no memory), wasmtime.Trap.
        """
        embedding = self._begin(instance, "initialize")
        if embedding.exports(instance, "_start"):
            raise WasiStateError("initialize() is for reactors, and this instance exports _start: it is a command")
        embedding.attach(instance)
        self._state = "initialized"
        if embedding.exports(instance, "_initialize"):
            with self._guest_thread:
                status = embedding.call(instance, "_initialize")
            if status and not self._return_on_exit:
                raise SystemExit(status)

    def finalize_bindings(self, instance: wasmtime.Instance) -> None:
        """Answer the instance's calls from now on without calling anything: for programs whose entry point the
        host calls itself. Raises WasiStateError, MissingExportError (no memory).

        `proc_exit` in a call that the host makes is a GuestExitError out of that call.
        """
        embedding = self._begin(instance, "finalize_bindings")
        embedding.attach(instance)
        self._state = "bound"

    @property
    def changes(self) -> Mapping[str, Changes]:
        """Guest directory -> `Changes`, for every mount with an overlay: what the guest has left, when `start` has
        returned or raised, or after `close`; until then empty. With `apply="success"` they are made in the source then,
        by `start` if the status is 0, by `close` for an instance that was not started."""
        return self._changes

    def settle(self) -> None:
        """With `vdso`: bring the files up to date, so that the host can look at them or change them. Not while the
        guest runs; `start` and `initialize` have done it when they return."""
        if self._embedding is not None:
            self._embedding.settle()

    def interrupt(self) -> None:
        """End the guest at its next host call, or in the wait it is in; any thread may call this.

        A guest that computes without host calls needs the store's own epoch or fuel, which are the user's.
        """
        self._process.deadline.interrupt()

    def close(self) -> None:
        """Close all files and preopens; later calls of the guest trap.

        Any thread may call this. While `start` or `initialize` is running on another one, the guest is interrupted, and
        that thread closes everything when the guest has ended: files are not closed under a call that uses them.
        """
        self._state = "closed"
        if self._guest_thread.hand_over():
            self.interrupt()
            return
        self._close()

    def _close(self) -> None:
        if self._embedding is not None:
            self._embedding.close()
        self._end(True, True)  # and the mounts

    def _end(self, keep: bool, publish: bool) -> None:
        """Close all files and preopens. Raises UncommittedError."""
        try:
            finished = finish(self._process, self._preopens, keep, publish)
            self._changes = {**self._changes, **finished.changes}
        finally:
            self._mounts.close()
        if finished.lost and keep:
            raise uncommitted(finished.lost)

    def __enter__(self) -> WASI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bound(
        self, what_to_do: str = "call get_import_object(store) first, and instantiate the module with what it gives"
    ) -> Embedding:
        if self._embedding is None:
            raise WasiStateError(what_to_do)
        return self._embedding

    def _check_open(self) -> None:
        if self._state == "closed":
            raise WasiStateError("this WASI is closed")

    def _begin(self, instance: wasmtime.Instance, method: str) -> Embedding:
        self._check_open()
        if self._state != "new":
            raise WasiStateError(f"{method}() after this WASI was {self._state} already; make a new WASI")
        embedding = self._bound()
        if not hasattr(instance, "exports"):
            raise TypeError(f"instance must be a wasmtime.Instance, not {type(instance).__name__}")
        return embedding


class _Running:
    """Held while the guest runs: a second thread gets an error instead of a race."""

    def __init__(self, close: Callable[[], None]) -> None:
        """`close`: called by the thread that was running the guest, if another one wanted to."""
        self._close = weakref.WeakMethod(close)
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._to_close = False

    def __enter__(self) -> None:
        with self._lock:
            if self._owner is not None:
                raise WasiStateError("the guest is running already, on another thread or further up the stack")
            self._owner = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._owner = None
            to_close, self._to_close = self._to_close, False
        close = self._close()
        if to_close and close is not None:
            close()

    def hand_over(self) -> bool:
        """Whether the guest runs on another thread, which closes everything then when it is done."""
        with self._lock:
            self._to_close = self._owner not in (None, threading.get_ident())
            return self._to_close
