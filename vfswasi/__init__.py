"""Run any WASI program on files that live anywhere Python can reach, safely.

>>> import vfswasi
>>> vfswasi.run("grep.wasm", ["-r", "needle", "/data"], preopens={"/data": "corpus.zip"})  # doctest: +SKIP

(For pytest: PYTEST_DONT_REWRITE.)
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from .errors import (
    ApplyError,
    CompileError,
    CompileLimitError,
    CompileTimeoutError,
    ConflictError,
    Errno,
    FsError,
    GuestCrashError,
    GuestError,
    GuestExitError,
    GuestFuelError,
    GuestInterruptedError,
    GuestLimitError,
    GuestTimeoutError,
    GuestTrapError,
    HostCallError,
    InvalidModuleError,
    MissingExportError,
    MissingImportError,
    ModuleError,
    MountError,
    SandboxError,
    SessionError,
    Uncommitted,
    UncommittedError,
    WasiStateError,
)

if _TYPE_CHECKING:
    from .clock import Clock
    from .fs_backends.archive.tar.backend import TarBackend
    from .fs_backends.archive.writable import WritableZipBackend
    from .fs_backends.archive.zip.backend import ZipBackend
    from .fs_backends.base import Backend, Caps, Traffic
    from .fs_backends.devices import DeviceBackend
    from .fs_backends.layers.overlay.backend import OverlayBackend
    from .fs_backends.local.backend import LocalBackend
    from .fs_backends.memory.backend import MemoryBackend
    from .fs_backends.memory.literal import Directory, File, Symlink
    from .fs_backends.pyfilesystem.backend import PyFilesystemBackend
    from .fs_backends.remote.cache import ReadCache
    from .fs_backends.remote.fsspec.backend import FsspecBackend
    from .host.replaying import Replayed, replay
    from .host.results.result import Result
    from .host.running import run, run_async
    from .host.runs.asynchronous import AsyncRun
    from .host.runs.run import Run
    from .host.sandbox import Sandbox
    from .host.sessions.memory import SessionMemory
    from .host.sessions.session import Session, Snapshot
    from .host.stdio import DEVNULL, PIPE, STDOUT
    from .host.types import Args, HostFunction, HostFunctions, Module, Stdin, Stdout
    from .host.wasi import WASI
    from .limits import Limits, Usage
    from .mounts.finding.source_types import Preopens, Source
    from .mounts.options import Mount
    from .observe.accesses.accesses import Access, Accesses
    from .observe.change import Change
    from .observe.changes import Changes
    from .observe.recording.difference import Difference
    from .observe.recording.record import Record
    from .observe.recording.recording import Recording
    from .observe.refusals import Refusal
    from .observe.report.report import Report
    from .observe.trace.call import Call
    from .observe.trace.trace import Trace
    from .syscalls.memory import GuestMemory

__version__ = "0.1.0"

# Imported when they are used: most programs use none of them.
_LATE = {
    "Access": "observe.accesses.accesses",
    "Accesses": "observe.accesses.accesses",
    "AsyncRun": "host.runs.asynchronous",
    "Backend": "fs_backends.base",
    "Call": "observe.trace.call",
    "Caps": "fs_backends.base",
    "Change": "observe.change",
    "Changes": "observe.changes",
    "Clock": "clock",
    "DeviceBackend": "fs_backends.devices",
    "Difference": "observe.recording.difference",
    "DEVNULL": "host.stdio",
    "Directory": "fs_backends.memory.literal",
    "File": "fs_backends.memory.literal",
    "FsspecBackend": "fs_backends.remote.fsspec.backend",
    "Limits": "limits",
    "LocalBackend": "fs_backends.local.backend",
    "MemoryBackend": "fs_backends.memory.backend",
    "Mount": "mounts.options",
    "OverlayBackend": "fs_backends.layers.overlay.backend",
    "PIPE": "host.stdio",
    "PyFilesystemBackend": "fs_backends.pyfilesystem.backend",
    "ReadCache": "fs_backends.remote.cache",
    "Report": "observe.report.report",
    "Record": "observe.recording.record",
    "Recording": "observe.recording.recording",
    "Replayed": "host.replaying",
    "Result": "host.results.result",
    "run": "host.running",
    "Run": "host.runs.run",
    "run_async": "host.running",
    "Sandbox": "host.sandbox",
    "Refusal": "observe.refusals",
    "Session": "host.sessions.session",
    "SessionMemory": "host.sessions.memory",
    "Snapshot": "host.sessions.session",
    "STDOUT": "host.stdio",
    "Symlink": "fs_backends.memory.literal",
    "TarBackend": "fs_backends.archive.tar.backend",
    "Trace": "observe.trace.trace",
    "Traffic": "fs_backends.base",
    "Usage": "limits",
    "WASI": "host.wasi",
    "WritableZipBackend": "fs_backends.archive.writable",
    "ZipBackend": "fs_backends.archive.zip.backend",
    # For annotations of those who wrap us.
    **dict.fromkeys(["Args", "HostFunction", "HostFunctions", "Module", "Stdin", "Stdout"], "host.types"),
    **dict.fromkeys(["Preopens", "Source"], "mounts.finding.source_types"),
    "GuestMemory": "syscalls.memory",
    "replay": "host.replaying",
}


def __getattr__(name: str) -> _Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "WASI",
    "Access",
    "Accesses",
    "ApplyError",
    "Args",
    "AsyncRun",
    "Backend",
    "Call",
    "Caps",
    "Change",
    "Changes",
    "Clock",
    "CompileError",
    "CompileLimitError",
    "CompileTimeoutError",
    "ConflictError",
    "DeviceBackend",
    "Difference",
    "Directory",
    "Errno",
    "File",
    "FsError",
    "FsspecBackend",
    "GuestCrashError",
    "GuestError",
    "GuestExitError",
    "GuestFuelError",
    "GuestInterruptedError",
    "GuestLimitError",
    "GuestMemory",
    "GuestTimeoutError",
    "GuestTrapError",
    "HostCallError",
    "HostFunction",
    "HostFunctions",
    "InvalidModuleError",
    "Limits",
    "LocalBackend",
    "MemoryBackend",
    "MissingExportError",
    "MissingImportError",
    "Module",
    "ModuleError",
    "Mount",
    "MountError",
    "OverlayBackend",
    "Preopens",
    "PyFilesystemBackend",
    "ReadCache",
    "Record",
    "Recording",
    "Refusal",
    "Replayed",
    "Report",
    "Result",
    "Run",
    "Sandbox",
    "SandboxError",
    "Session",
    "SessionError",
    "SessionMemory",
    "Snapshot",
    "Source",
    "Stdin",
    "Stdout",
    "Symlink",
    "TarBackend",
    "Trace",
    "Traffic",
    "Uncommitted",
    "UncommittedError",
    "Usage",
    "WasiStateError",
    "WritableZipBackend",
    "ZipBackend",
    "replay",
    "run",
    "run_async",
]
