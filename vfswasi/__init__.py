"""Run any WASI program on files that live anywhere Python can reach, safely.

>>> import vfswasi
>>> vfswasi.run("grep.wasm", ["-r", "needle", "/data"], preopens={"/data": "corpus.zip"})  # doctest: +SKIP
"""

from subprocess import DEVNULL, PIPE, STDOUT

from .errors import (
    Errno,
    FsError,
    GuestError,
    GuestExitError,
    GuestTimeoutError,
    GuestTrapError,
    HostCallError,
    InvalidModuleError,
    MissingExportError,
    MissingImportError,
    ModuleError,
    MountError,
    SandboxError,
    WasiStateError,
)
from .fs_backends.base import Backend, Caps
from .fs_backends.local import LocalBackend
from .fs_backends.memory import MemoryBackend, Symlink
from .fs_backends.zip import ZipBackend
from .limits import Limits
from .mounts import Mount
from .sandbox import Result, Sandbox, run
from .wasi import WASI

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "WASI",
    "Backend",
    "Caps",
    "Errno",
    "FsError",
    "GuestError",
    "GuestExitError",
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
    "Result",
    "Sandbox",
    "SandboxError",
    "Symlink",
    "WasiStateError",
    "ZipBackend",
    "run",
]
