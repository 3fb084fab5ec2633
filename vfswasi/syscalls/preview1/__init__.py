"""The system calls of preview1 and of the snapshot before it (`wasi_unstable`).

One file for each group of the witx documents; `fd_*` has two, because it is large. Each function takes the
process, the guest's memory and the call's arguments as unsigned integers, returns nothing on success and
raises `FsError` otherwise. `table` gives all of them for one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from ...abi.layouts import Abi
from . import clock, environment, fd_data, fd_state, path, poll, proc, sock

Syscall = Callable[..., None]

_GROUPS: tuple[Any, ...] = (clock, environment, fd_data, fd_state, path, poll, proc, sock)
# The functions whose numbers or layouts differ between the snapshots take the snapshot as an argument.
_ABI_DEPENDENT = frozenset({"fd_seek", "fd_filestat_get", "path_filestat_get", "poll_oneoff"})


def table(abi: Abi) -> dict[str, Syscall]:
    """Name -> function for every function of the snapshot."""
    functions: dict[str, Syscall] = {}
    for name in abi.functions:
        function = next(getattr(group, name) for group in _GROUPS if hasattr(group, name))
        functions[name] = _for_abi(function, abi) if name in _ABI_DEPENDENT else function
    return functions


def _for_abi(function: FunctionType, abi: Abi) -> Syscall:
    """The same function with `abi` as the default of its keyword. `functools.partial` would build a dict per call."""
    bound = FunctionType(function.__code__, function.__globals__, function.__name__, None, function.__closure__)
    bound.__kwdefaults__ = {"abi": abi}
    return bound
