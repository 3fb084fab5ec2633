"""Run any WASI program on files that live anywhere Python can reach, safely.

>>> import vfswasi
>>> vfswasi.run("grep.wasm", ["-r", "needle", "/data"], preopens={"/data": "corpus.zip"})  # doctest: +SKIP
"""

from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any

from .errors import (
    Errno,
    FsError,
    GuestError,
    GuestExitError,
    GuestFuelError,
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
from .fs_backends.archive.zip.backend import ZipBackend
from .fs_backends.base import Backend, Caps, Traffic
from .fs_backends.local.backend import LocalBackend
from .fs_backends.memory.backend import MemoryBackend, Symlink
from .host.result import Result
from .host.sandbox import Sandbox, run
from .host.wasi import WASI
from .limits import Limits, Usage
from .mounts.options import Mount

if TYPE_CHECKING:
    from .fs_backends.archive.tar.backend import TarBackend
    from .fs_backends.archive.zip.writer import WritableZipBackend
    from .fs_backends.devices import DeviceBackend
    from .fs_backends.pyfilesystem.backend import PyFilesystemBackend
    from .fs_backends.remote.cache import ReadCache
    from .fs_backends.remote.fsspec.backend import FsspecBackend

__version__ = "0.1.0"

# Imported when they are used: most programs use none of them.
_LATE = {
    "DeviceBackend": "devices",
    "FsspecBackend": "remote.fsspec.backend",
    "PyFilesystemBackend": "pyfilesystem.backend",
    "ReadCache": "remote.cache",
    "TarBackend": "archive.tar.backend",
    "WritableZipBackend": "archive.zip.writer",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.fs_backends.{_LATE[name]}"), name)


__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "WASI",
    "Backend",
    "Caps",
    "DeviceBackend",
    "Errno",
    "FsError",
    "FsspecBackend",
    "GuestError",
    "GuestExitError",
    "GuestFuelError",
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
]
