"""Run any WASI program on files that live anywhere Python can reach, safely.

>>> import vfswasi
>>> vfswasi.run("grep.wasm", ["-r", "needle", "/data"], preopens={"/data": "corpus.zip"})  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from .errors import (
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
    Uncommitted,
    UncommittedError,
    WasiStateError,
)
from .fs_backends.base import Backend, Caps, Traffic
from .fs_backends.memory.backend import MemoryBackend, Symlink
from .host.result import Result
from .host.run import Run
from .host.sandbox import Sandbox, run
from .host.stdio import DEVNULL, PIPE, STDOUT
from .limits import Limits, Usage
from .mounts.options import Mount

if TYPE_CHECKING:
    from .fs_backends.archive.tar.backend import TarBackend
    from .fs_backends.archive.zip.backend import ZipBackend
    from .fs_backends.archive.zip.writer import WritableZipBackend
    from .fs_backends.devices import DeviceBackend
    from .fs_backends.local.backend import LocalBackend
    from .fs_backends.pyfilesystem.backend import PyFilesystemBackend
    from .fs_backends.remote.cache import ReadCache
    from .fs_backends.remote.fsspec.backend import FsspecBackend
    from .host.asynchronous import AsyncRun, run_async
    from .host.wasi import WASI

__version__ = "0.1.0"

# Imported when they are used: most programs use none of them.
_LATE = {
    "AsyncRun": "host.asynchronous",
    "DeviceBackend": "fs_backends.devices",
    "FsspecBackend": "fs_backends.remote.fsspec.backend",
    "LocalBackend": "fs_backends.local.backend",
    "PyFilesystemBackend": "fs_backends.pyfilesystem.backend",
    "ReadCache": "fs_backends.remote.cache",
    "TarBackend": "fs_backends.archive.tar.backend",
    "WASI": "host.wasi",
    "WritableZipBackend": "fs_backends.archive.zip.writer",
    "run_async": "host.asynchronous",
    "ZipBackend": "fs_backends.archive.zip.backend",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "WASI",
    "AsyncRun",
    "Backend",
    "Caps",
    "DeviceBackend",
    "Errno",
    "FsError",
    "FsspecBackend",
    "GuestCrashError",
    "GuestError",
    "GuestExitError",
    "GuestFuelError",
    "GuestInterruptedError",
    "GuestLimitError",
    "GuestTimeoutError",
    "GuestTrapError",
    "HostCallError",
    "InvalidModuleError",
    "Limits",
    "LocalBackend",
    "MemoryBackend",
    "MissingExportError",
    "MissingImportError",
    "ModuleError",
    "Mount",
    "MountError",
    "PyFilesystemBackend",
    "ReadCache",
    "Result",
    "Run",
    "Sandbox",
    "SandboxError",
    "Symlink",
    "TarBackend",
    "Traffic",
    "Uncommitted",
    "UncommittedError",
    "Usage",
    "WasiStateError",
    "WritableZipBackend",
    "ZipBackend",
    "run",
    "run_async",
]
