"""From what a caller names as a module to its bytes.

A str is a path or a URL, as for a mount (see `mounts/finding/source_text.py`); what is path-like is a path; bytes are
the module itself; anything with `read` is a binary file, read from where it is to its end. A `Mount` brings options
for a URL, and with `root` names a file in an archive or a store (see `mounts/finding/one_file.py`).
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import InvalidModuleError, ModuleError, MountError
from ..limits import Limits
from ..mounts.options import Mount
from ..printing import counted, shown
from .preparing.mounting import Bounds, within

_UNNAMED = "module.wasm"
_STEP_BYTES = 1 << 20
_BEGINNING = "cannot read the module"


def read_module(module: Any, bounds: Bounds | None = None, most: int | None = None) -> tuple[bytes, str]:
    """(the module's bytes, a name for messages and argv[0]). most: bytes, `Limits.module_bytes`.

    Raises FileNotFoundError and other OSErrors, TypeError, ModuleError (too large; its store cannot be read),
    GuestTimeoutError.
    """
    if isinstance(module, bytes | bytearray | memoryview):
        return bytes(module), _UNNAMED
    most = Limits().module_bytes if most is None else most
    if isinstance(module, str) and "::" not in module and "://" not in module:  # whatever else a source may be
        return _of_path(module, most, bounds)
    if isinstance(module, os.PathLike) and not hasattr(module, "fs"):
        wasm, last = _of_path(os.fsdecode(os.fspath(module)), most, bounds)
        return wasm, getattr(module, "module_name", last)
    if isinstance(module, str | os.PathLike | Mount):
        return _of_source(module if isinstance(module, Mount) else Mount(module), most, bounds)
    if hasattr(module, "fs") and isinstance(getattr(module, "path", None), str) and not isinstance(module, type):
        # A path of universal_pathlib, or what fsspec.open() gives.
        return _of_source(
            Mount(module) if hasattr(module, "protocol") else Mount(module.fs, root=module.path), most, bounds
        )
    if callable(getattr(module, "read", None)) and not isinstance(module, type):
        name = getattr(module, "name", None)
        name = os.path.basename(name) if isinstance(name, str) else ""
        found = _within(lambda: _all_of(module, most, name or _UNNAMED), bounds, False)
        return found, name or _UNNAMED
    raise TypeError(f"module must be a path, a URL, bytes, a binary file or a Mount, not {type(module).__name__}")


class Again:
    """A module that may have to be read once more. A file is not kept in memory: some have 100 MB."""

    def __init__(self, module: Any, wasm: bytes) -> None:
        """`wasm`: what `read_module` has read from `module`."""
        self._wasm = wasm
        self._path: str | None = None
        if isinstance(module, str | os.PathLike) and os.path.isfile(module):
            self._path, self._wasm = os.path.abspath(os.fsdecode(module)), b""
            self._seen = _seen(self._path)

    def read(self) -> bytes:
        """Raises OSError, InvalidModuleError: it has changed since."""
        if self._path is None:
            return self._wasm
        with open(self._path, "rb") as file:
            wasm = file.read()
        if _seen(self._path) != self._seen:
            raise InvalidModuleError(f"{self._path}: has changed since its Sandbox was made; make another one")
        return wasm


def _seen(path: str) -> tuple[int, ...]:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _of_source(mount: Mount, most: int, bounds: Bounds | None) -> tuple[bytes, str]:
    from ..mounts.finding.one_file import local_file, name_of, read_file

    try:
        path = local_file(mount)
        if path is not None:
            return _of_path(path, most, bounds)
        return _within(lambda: read_file(mount, most), bounds, False), name_of(mount) or _UNNAMED
    except MountError as error:
        text = str(error)
        raise ModuleError(text if text.startswith(_BEGINNING) else f"{_BEGINNING}: {text}") from error


def _of_path(path: str, most: int, bounds: Bounds | None) -> tuple[bytes, str]:
    if os.path.isdir(path):
        raise InvalidModuleError(f"{path}: is a directory, not a WebAssembly module")
    name = os.path.basename(path)

    def read() -> bytes:
        with open(path, "rb") as file:
            return _all_of(file, most, shown(path))

    return _within(read, bounds, os.path.isfile(path) or not os.path.exists(path)), name or _UNNAMED


def _within(read: Any, bounds: Bounds | None, instant: bool) -> bytes:
    if bounds is None:
        limits = Limits()
        bounds = Bounds.of(limits, limits.wall_seconds)
    found: list[bytes] = []
    within(bounds, lambda: found.append(read()), found.clear, "reading the module", instant)
    return found.pop()


def _all_of(file: Any, most: int, what: str) -> bytes:
    pieces: list[bytes] = []
    count = 0
    while True:
        piece = file.read(_STEP_BYTES)
        if not piece:
            if isinstance(piece, str) and not pieces:
                break  # an empty file in text mode is told as such below
            return b"".join(pieces)
        if not isinstance(piece, bytes | bytearray | memoryview):
            break
        pieces.append(bytes(piece))
        count += len(piece)
        if count > most:
            raise ModuleError(f"module {what} has more than the {counted(most, 'byte')} of Limits.module_bytes")
    raise TypeError(f"{what}: a module must be a binary file, one whose read() gives bytes, not {type(piece).__name__}")
