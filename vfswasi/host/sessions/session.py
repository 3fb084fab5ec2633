"""`Session`: one instance of a module that stays between calls. `Snapshot`: what sessions can be copied from."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...engine.memory import WasmMemory
from ...engine.runner import end_what_is_over
from ...engine.sessions import values
from ...engine.sessions.state import CannotCopyError
from ...errors import (
    FsError,
    SessionError,
)
from ...fs_backends.base import Traffic
from ...kernel.clocks import Deadline
from ...kernel.streams.stream import Stream
from ..closing import traffic_since
from ..results.files import Files, files_of
from ..stdio import input_stream, output_stream
from .memory import SessionMemory
from .origin import Copied, Origin, copy_of, trees_of
from .running import UNSET, Running, Timeout, Unset

if TYPE_CHECKING:
    from ...observe.changes import Changes
    from ...observe.trace.trace import Trace


class Session(Running):
    """An instance of a sandbox's module with its memory, files and descriptors, for one call after the other.

    Any thread may call, one at a time. A trap, a deadline, `proc_exit` and an exception of a host function end the
    session: the call raises what happened, and every later one a SessionError that says so. `files`, `usage` and
    `traffic` are there afterwards, too.
    """

    def call(self, function: str, /, *args: Any, timeout: Timeout = UNSET) -> Any:
        """Call an exported function: its result, None, or a tuple if it has several.

        args: an int for i32 and i64, signed or unsigned, a float or an int for f32 and f64; results are int (signed)
        and float. timeout: seconds, in place of `Limits.wall_seconds`. `Limits.fuel` is there anew for each call.

        Raises MissingExportError (no such function, or one of other values than numbers), TypeError, OverflowError, and
        SessionError; these have no effect. What ends the session: GuestTrapError, GuestTimeoutError, GuestFuelError,
        GuestExitError (also for status 0), GuestInterruptedError (`kill`), and unchanged whatever a callable of the
        caller's raised.
        """
        inside = self._instance.inside
        signature = values.signature_of(inside.functions, function, self._origin.program.name)
        raw = values.packed(signature, args, function)
        seconds = self._seconds_of(timeout)
        with self._turn(f"a call of {function}"):
            self._copied = None
            self._run(lambda: self._instance.call(function, raw, seconds), seconds, function)
        return values.unpacked(signature, raw)

    @property
    def memory(self) -> SessionMemory:
        """The memory that the module exports, to be read and written between calls."""
        return SessionMemory(self._lent_memory)

    @property
    def functions(self) -> list[str]:
        """The names of the functions that the module exports."""
        return sorted(self._instance.inside.functions)

    @property
    def trace(self) -> Trace | None:
        """The system calls of all its calls so far, if it was opened with `trace=`; also when the session is over."""
        return self._observed.trace()

    @property
    def files(self) -> Files:
        """Guest directory -> tree, as `Result.files`; as they are now, also when the session is over."""
        return files_of(trees_of(self._parts.preopens))

    @property
    def changes(self) -> Mapping[str, Changes]:
        """Guest directory -> `Changes`, for every mount with an overlay: as of this moment, and they stay so whatever
        the session does next. Of a session that is over, what it has left. Raises SessionError: it is busy, or what it
        has written cannot be copied."""
        if self._why is not None:
            return dict(self._changes)
        from ..publishing import changes_now  # few sessions ask

        with self._turn("its changes"):
            try:
                return changes_now(self._parts.preopens)
            except FsError as error:
                raise SessionError(f"the changes of this session cannot be copied: {error}") from error

    def read_stdout(self) -> Any:
        """What was captured since the last time, bytes or str; None if it goes elsewhere."""
        return self._captured(1)

    def read_stderr(self) -> Any:
        """As `read_stdout`; with stderr=STDOUT everything is there."""
        return self._captured(2)

    @property
    def traffic(self) -> Mapping[str, Traffic]:
        """What mounts that are far away have cost so far, as `Result.traffic`."""
        return traffic_since(self._parts.preopens, self._parts.before)

    @property
    def ended(self) -> str | None:
        """How the session ended; None: it has not."""
        return self._why

    def kill(self) -> None:
        """End the call that is going on, if there is one, and the session. Any thread may call this. What the guest
        has written stays where it is; stores that change as a whole, such as an archive, stay as they were."""
        with self._lock:
            if self._why is not None:
                return
            self._killed = True
            self._deadline.interrupt()
            idle = self._doing is None
        end_what_is_over()
        if idle:
            self._give_up("was killed")

    def fork(self) -> Session:
        """Another session that is now as this one is, with memory, files and descriptors of its own; both go on from
        here. Mounts of dicts are copied; stores that were given as such are shared. Captured output begins empty.
        Raises SessionError: something of the instance cannot be copied."""
        copied = self._copy()
        return _session_of(self._origin, copied, {}, self._origin.limits.wall_seconds)

    def snapshot(self) -> Snapshot:
        """What the session is now, for any number of sessions. Raises as `fork` does."""
        copied = self._copy()
        frozen = copy_of(self._origin, copied.parts, Deadline(), {})
        frozen.process.leave_shares()
        return Snapshot(self._origin, Copied(copied.state, frozen))

    def close(self) -> None:
        """End the session as a run that succeeds: files are closed, stores get what they have not got yet. A call that
        is going on, on another thread, is ended as by `kill`. Harmless if the session is over.

        Raises UncommittedError, SessionError (from a host function that the guest is calling)."""
        with self._lock:
            if self._doing is not None and self._thread == threading.get_ident():
                raise SessionError("a host function cannot close the session that calls it; `kill` ends it")
            if self._doing is not None:
                self.kill()
                self._idle.wait_for(lambda: self._doing is None, 10)
            if self._why is not None:
                return
        self._end("was closed", True)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.kill()

    def __del__(self) -> None:
        # When the interpreter ends, there are no threads any more that could do it.
        if getattr(self, "_why", "") is None and hasattr(self, "_instance") and not sys.is_finalizing():
            with contextlib.suppress(Exception):
                self.kill()

    def __repr__(self) -> str:
        state = self._why or ("busy with " + self._doing if self._doing else "open")
        return f"<vfswasi.Session of {self._origin.program.name}: {state}>"

    def _copy(self) -> Copied:
        with self._turn("being copied"):
            copied = self._copied
            if copied is None:
                seconds = self._origin.limits.wall_seconds
                try:
                    state = self._on_thread(lambda: self._instance.capture(seconds), seconds)
                except (CannotCopyError, OSError, FsError) as error:
                    raise SessionError(f"this session cannot be copied: {error}") from error
                copied = self._copied = Copied(state, self._parts)
            return copied

    @contextmanager
    def _lent_memory(self, changes: bool) -> Iterator[WasmMemory]:
        with self._turn("its memory"):
            if changes:
                self._copied = None
            yield self._instance.memory()


class Snapshot:
    """An instance between two calls, with its files and descriptors, from which sessions are copied. A context manager
    that lets go of it; sessions that were made of it stay."""

    def __init__(self, origin: Origin, copied: Copied) -> None:
        """`Sandbox.snapshot` and `Session.snapshot` make one."""
        self._origin, self._copied = origin, copied
        self._lock = threading.Lock()  # what is copied from is not closed meanwhile
        self._closed = False

    def session(
        self, *, stdin: Any = UNSET, stdout: Any = UNSET, stderr: Any = UNSET, timeout: Timeout = UNSET
    ) -> Session:
        """Another session that begins where the snapshot was taken. stdin, stdout, stderr: in place of what the
        snapshot's session had. Raises SessionError, and what `Sandbox.session` raises."""
        limits, given = self._origin.limits, dict[int, Stream]()
        seconds = limits.wall_seconds if isinstance(timeout, Unset) else timeout
        with self._lock:
            if self._closed:
                raise SessionError("this snapshot is closed")
            try:
                if stdin is not UNSET:
                    given[0] = input_stream(stdin)
                for fd, target in ((1, stdout), (2, stderr)):
                    if target is not UNSET:
                        given[fd] = output_stream(fd, target, limits.output_bytes)
                return _session_of(self._origin, self._copied, given, seconds)
            except BaseException:
                for stream in given.values():
                    for end in stream.ends():
                        if end is not None:
                            end.close()
                raise

    def close(self) -> None:
        """Let go of it. Harmless to say twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._copied.parts.process.close(keep=False)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not sys.is_finalizing():
            with contextlib.suppress(Exception):
                self.close()


def _session_of(origin: Origin, copied: Copied, given: Mapping[int, Stream], seconds: float | None) -> Session:
    deadline = Deadline()
    origin.begun(deadline)
    try:
        parts = copy_of(origin, copied.parts, deadline, given)
    except (FsError, OSError) as error:
        origin.over(deadline)
        raise SessionError(f"a session cannot be copied: {error}") from error
    except BaseException:
        origin.over(deadline)
        raise
    return Session(origin, parts, deadline, seconds, copied.state)
