"""Every error of the package: what the guest sees, and what the host's user sees.

Below the boundary of a system call there is one exception, `FsError`, which carries one `Errno`; the
engine turns it into the number that the guest reads. Above it there is one tree:

    SandboxError
    ├── ModuleError            the program cannot be run here
    │   ├── InvalidModuleError     not a core WebAssembly module, or one that does not validate
    │   ├── MissingImportError     it imports what nobody provides
    │   ├── MissingExportError     no memory, no entry point, an unsuitable memory
    │   └── CompileError           compiling did not end; below it CompileLimitError and CompileTimeoutError
    ├── MountError             a preopen's source is missing, corrupt, or asked for twice
    ├── ConflictError          changes cannot be applied to what is not what they were made on
    ├── ApplyError             applying changes failed; says what was done and what was not
    ├── WasiStateError         calls of the `WASI` class in the wrong order
    ├── GuestError             the program ran and did not end well; carries its output
    │   ├── GuestExitError         non-zero exit status, with `check=True`
    │   ├── GuestTrapError         trap or signal, with `check=True`
    │   ├── GuestLimitError        a limit ended it
    │   │   ├── GuestTimeoutError      of time
    │   │   └── GuestFuelError         of instructions
    │   ├── GuestCrashError        with isolation="process": its worker process crashed or was killed
    │   └── GuestInterruptedError  it was ended from outside; a HostCallError too
    ├── UncommittedError       files that the guest wrote could not be stored; carries their contents
    ├── SessionError           a session is over, or busy, or cannot be copied
    └── HostCallError          the engine failed in a way the guest cannot explain

Argument mistakes of the caller are `TypeError` and `ValueError`, as everywhere in Python.

Longer than other files: all errors stand together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, Final

from .printing import counted


class Errno(IntEnum):
    """preview1 `errno`: the member's value is the number that the guest reads (both snapshots)."""

    SUCCESS = 0
    TOOBIG = 1
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


class FsError(Exception):
    """The one exception that the kernel and the backends raise: a system call failed with `errno`.

    `detail` is for the host's log only; a guest never sees more than the number.
    """

    __slots__ = ("detail", "errno")

    def __init__(self, errno: Errno, detail: str = "") -> None:
        # Nothing of Exception's: half of what programs look for is not there, and this takes half the time to say so.
        self.errno = errno
        self.detail = detail

    def __init_subclass__(cls) -> None:
        # A subclass of somebody else's may not call our `__init__`. Here, so that our own errors are not slower for it.
        if "__getattr__" not in vars(cls):
            cls.__getattr__ = _left_out  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by `__init__`: a subclass may have another one.
        return _same_error, (type(self), self.errno, self.detail), self.__dict__

    def __str__(self) -> str:
        name, detail = errno_of(self).name, self.detail
        return f"{name}: {detail}" if detail else name


def _same_error(kind: type[FsError], errno: Errno, detail: str) -> FsError:
    made = kind.__new__(kind)
    made.errno, made.detail = errno, detail
    return made


def _left_out(error: FsError, name: str) -> Errno | str:
    """What an error has that was never told: without it, every comparison of ours would fail."""
    if name in FsError.__slots__:
        return Errno.IO if name == "errno" else ""
    raise AttributeError(f"{type(error).__name__!r} object has no attribute {name!r}")


def errno_of(error: FsError) -> Errno:
    """The number for the guest. What a foreign store put there, and no failure can have, is IO."""
    try:
        errno = error.errno
    except Exception:
        return Errno.IO
    return errno if type(errno) is Errno and errno else Errno.IO


class SandboxError(Exception):
    """Base class of what `vfswasi` raises for the host's user."""


class ModuleError(SandboxError):
    """The program cannot be run here."""


class InvalidModuleError(ModuleError):
    """The bytes are not a core WebAssembly module that this engine accepts."""


class CompileError(ModuleError):
    """Compiling ended before there was anything to run: the process that compiled crashed or was killed, what it made
    is not what it signed, or what was asked to be kept cannot be."""


class CompileLimitError(CompileError):
    """Compiling took more than it may. `limit`: its name in `Limits`."""

    def __init__(self, message: str, limit: str = "compile_memory_bytes") -> None:
        super().__init__(message)
        self.limit = limit

    def __reduce__(self) -> tuple[type[CompileLimitError], tuple[str, str]]:
        return type(self), (str(self), self.limit)


class CompileTimeoutError(CompileLimitError, TimeoutError):
    """Compiling took longer than `Limits.compile_seconds`."""

    def __init__(self, message: str, limit: str = "compile_seconds") -> None:
        super().__init__(message, limit)


class MissingImportError(ModuleError):
    """The module imports something that is neither WASI nor given by the caller."""


class MissingExportError(ModuleError):
    """The module lacks a memory or an entry point, or its memory is of a kind WASI cannot use."""


class MountError(SandboxError):
    """A preopen cannot be made of its source."""


class ConflictError(SandboxError):
    """Changes cannot be applied: the target is not what they were made on. Nothing has been written.

    conflicts: path in the target -> what is wrong there, in a few words.
    """

    def __init__(self, message: str, conflicts: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.conflicts = dict(conflicts or {})

    def __reduce__(self) -> tuple[type[ConflictError], tuple[str, dict[str, str]]]:
        return type(self), (str(self), self.conflicts)


class ApplyError(SandboxError):
    """Applying changes failed. The cause is an `FsError`.

    done, left: paths of changes that were made, and that were not. Nothing was changed where `done` is empty.
    """

    def __init__(self, message: str, done: Iterable[str] = (), left: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.done = tuple(done)
        self.left = tuple(left)

    def __reduce__(self) -> tuple[type[ApplyError], tuple[str, tuple[str, ...], tuple[str, ...]]]:
        return type(self), (str(self), self.done, self.left)


_COPY_BYTES = 1 << 20


class Uncommitted:
    """A file that could not be stored, with what should have been in it.

    path: its name in the mount. error: why, and its `__cause__`, without tracebacks: a guest can make thousands of them
    before anybody looks. size: bytes. The contents are kept until `close`, or until the object goes.
    """

    def __init__(
        self,
        path: str,
        error: FsError,
        size: int,
        read: Callable[[int, int], bytes],
        close: Callable[[], None],
    ) -> None:
        """`read`: (offset, count) -> bytes."""
        self.path = path
        self.error = FsError(errno_of(error), error.detail)
        self.error.__cause__ = cause = error.__cause__
        while cause is not None and cause.__traceback__ is not None:
            cause.__traceback__ = None
            cause = cause.__cause__ or cause.__context__
        self.size = size
        self._read = read
        self._close = close

    def read(self, offset: int = 0, count: int | None = None) -> bytes:
        """`count` bytes (all) at `offset`."""
        return self._read(offset, self.size - offset if count is None else count)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the contents to a new file. Raises OSError; FileExistsError if there is one."""
        with open(path, "xb") as file:
            for offset in range(0, self.size, _COPY_BYTES):
                file.write(self._read(offset, _COPY_BYTES))

    def close(self) -> None:
        """Let go of the contents."""
        self._close()

    def __reduce__(self) -> tuple[Callable[[str, FsError, bytes], Uncommitted], tuple[str, FsError, bytes]]:
        """It travels with its contents, which are in memory then."""
        return _arrived, (self.path, self.error, self.read())

    def __repr__(self) -> str:
        return f"<Uncommitted {self.path!r}, {counted(self.size, 'byte')}: {self.error.errno.name}>"


def _arrived(path: str, error: FsError, contents: bytes) -> Uncommitted:
    return Uncommitted(path, error, len(contents), lambda offset, count: contents[offset : offset + count], _nothing)


def _nothing() -> None:
    """There is nothing to close."""


class UncommittedError(SandboxError):
    """The guest wrote files that could not be stored when it closed them or when it ended.

    files: what they are, with their contents. result: the finished run's `Result`.
    """

    def __init__(self, message: str, files: list[Uncommitted], result: Any = None) -> None:
        super().__init__(message)
        self.files = files
        self.result = result

    def __reduce__(self) -> tuple[type[UncommittedError], tuple[str, list[Uncommitted], Any]]:
        return type(self), (str(self), self.files, self.result)


class WasiStateError(SandboxError):
    """A method of `WASI` was called in the wrong order or on the wrong kind of instance, or a guest in a store of the
    caller's made a call in the middle of another one, or with too little of the thread's stack left."""


class SessionError(SandboxError):
    """A session was asked for something that it cannot do: it is over (the message says how it ended), or a call is
    going on in it, or it cannot be copied (the message says because of what)."""


class HostCallError(SandboxError):
    """The engine failed in a way that no behaviour of the guest explains."""


class GuestError(SandboxError):
    """The program ran and did not end well.

    `result`: the `Result` of the run, with its output, files, usage and traffic; None where there is none, such as for
    a guest in a store of the caller's. The others are attributes of it. `argv`: the guest's argv. `returncode`: the
    guest's exit status, `-N` for signal N, or None: it did not come to one. `stdout`, `stderr`: what was
    captured (bytes or str as asked for), or None. `usage`: a `Usage`, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        argv: list[str] | None = None,
        returncode: int | None = None,
        stdout: Any = None,
        stderr: Any = None,
        usage: Any = None,
        result: Any = None,
    ) -> None:
        if result is not None:
            argv, usage = result.args, result.usage
            returncode = None if result.ended_from_outside else result.returncode
            stdout, stderr = result.stdout, result.stderr
        super().__init__(message)
        self.result = result
        self.usage = usage
        self.argv = argv or []
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        message = super().__str__()
        last = _last_lines(self.stderr)
        return f"{message}; its stderr ends with:\n{last}" if last else message


_LINES: Final = 5
_LINES_CHARACTERS: Final = 1000


def _last_lines(output: Any) -> str:
    """The end of what a guest wrote, without what a terminal would obey."""
    if isinstance(output, bytes):
        output = output[-4 * _LINES_CHARACTERS :].decode("utf-8", "replace")
    if not isinstance(output, str):
        return ""
    lines = output[-_LINES_CHARACTERS:].rstrip().split("\n")[-_LINES:]
    return "\n".join(f"  {_on_one_line(line)}" for line in lines if line)


def _on_one_line(text: str) -> str:
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)


def _as_it_was(kind: type[GuestError], args: tuple[Any, ...], attributes: dict[str, Any]) -> GuestError:
    error = kind(*args)
    error.__dict__.update(attributes)
    return error


class GuestExitError(GuestError):
    """`check=True`, and the guest's exit status was not zero."""


class GuestTrapError(GuestError):
    """`check=True`, and the guest ended in a trap or a signal."""


class GuestLimitError(GuestError):
    """A limit ended the guest (raised with or without `check`). `limit`: its name in `Limits`."""

    limit = ""


class GuestTimeoutError(GuestLimitError, TimeoutError):
    """The guest was still running at its deadline."""

    limit = "wall_seconds"


class GuestFuelError(GuestLimitError):
    """The guest had executed as many instructions as it may."""

    limit = "fuel"


class GuestCrashError(GuestError):
    """With `isolation="process"`: the worker process of the run crashed, was killed, or did not answer as it has to.
    `result` has what is known, and -N as its return code if signal N ended the worker, else -9."""


class GuestInterruptedError(GuestError, HostCallError):
    """The guest was ended from outside: by `Run.kill`, `Sandbox.interrupt`, or a task that was cancelled."""
