"""What a caller gives to a program: its module, its arguments, its environment."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..errors import InvalidModuleError
from ..limits import Limits

Module = str | os.PathLike[str] | bytes
Isolation = Literal["none", "process"]


def read_module(module: Module) -> tuple[bytes, str]:
    """(the module's bytes, a name for messages and argv[0]). Raises OSError, TypeError, InvalidModuleError."""
    if isinstance(module, bytes | bytearray | memoryview):
        return bytes(module), "module.wasm"
    if not isinstance(module, str | os.PathLike):
        raise TypeError(f"module must be a path or bytes, not {type(module).__name__}")
    path = Path(module)
    if path.is_dir():
        raise InvalidModuleError(f"{os.fspath(module)}: is a directory, not a WebAssembly module")
    return path.read_bytes(), getattr(module, "module_name", path.name)


class Again:
    """A module that may have to be read once more. A file is not kept in memory: some have 100 MB."""

    def __init__(self, module: Module, wasm: bytes) -> None:
        """`wasm`: what `read_module` has read from `module`."""
        self._wasm = wasm
        self._path: str | None = None
        if isinstance(module, str | os.PathLike) and os.path.isfile(module):
            self._path, self._wasm = os.path.abspath(module), b""
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


def checked_args(args: Iterable[str]) -> Iterable[str]:
    """Raises TypeError: one string, which is an iterable of its characters too."""
    if isinstance(args, str | bytes):
        raise TypeError("args must be a sequence of str, not one string")
    return args


def encode_argv(args: Iterable[str]) -> list[bytes]:
    """Arguments as the guest gets them. Raises TypeError, ValueError (NUL)."""
    encoded = []
    for arg in args:
        if not isinstance(arg, str):
            raise TypeError(f"args must be str, not {type(arg).__name__}: {arg!r}")
        if "\0" in arg:
            raise ValueError(f"an argument contains a NUL character: {arg!r}")
        encoded.append(arg.encode("utf-8", "surrogateescape"))
    return encoded


def check_args_bytes(argv: Sequence[bytes], environ: Sequence[bytes], limits: Limits) -> None:
    """Raises ValueError for more than `Limits.args_bytes`."""
    count = len(argv) + sum(map(len, argv)) + len(environ) + sum(map(len, environ))
    if count > limits.args_bytes:
        raise ValueError(
            f"arguments and environment have {count:,} bytes, and Limits.args_bytes is {limits.args_bytes:,}"
        )


def encode_environ(env: Mapping[str, str] | None) -> list[bytes]:
    """ "NAME=value" strings. Raises TypeError, ValueError (NUL, an empty name, "=" in a name)."""
    if env is None:
        return []
    if not isinstance(env, Mapping):
        raise TypeError(f"env must map str to str, not {type(env).__name__}")
    encoded = []
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env must map str to str: {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(f"env: {name!r} is not a name, or it or its value contains a NUL character")
        encoded.append(f"{name}={value}".encode("utf-8", "surrogateescape"))
    return encoded


def checked_cwd(cwd: str) -> str:
    """An absolute path of the guest's. Raises TypeError, ValueError."""
    if not isinstance(cwd, str):
        raise TypeError(f"cwd must be a str, a directory of the guest's, not {type(cwd).__name__}")
    if not cwd.startswith("/") or "\0" in cwd:
        raise ValueError(f"cwd must be an absolute path of the guest's without NUL, not {cwd!r}")
    return cwd


def checked_isolation(isolation: object) -> bool:
    """Whether guests run in processes of their own. Raises ValueError."""
    if isolation not in (None, "none", "process"):
        raise ValueError(f"isolation must be 'none' or 'process', not {isolation!r}")
    return isolation == "process"


def checked_limits(limits: Limits | None) -> Limits:
    """By default those that there are by default. Raises TypeError."""
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a vfswasi.Limits, not {type(limits).__name__}")
    return limits


def checked_timeout(timeout: float | None) -> float | None:
    """Seconds; None: for ever. Raises TypeError, ValueError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be seconds as a number, not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds, not NaN")
    return None if timeout > 1e9 else max(float(timeout), 0.0)
