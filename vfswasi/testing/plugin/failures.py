"""`WasmFail`: what the fixture `wasm_fail` is."""

from __future__ import annotations

from typing import Any, Final

from vfswasi import Errno

from ...abi.layouts import PREVIEW1
from ...printing import did_you_mean
from .failure import Failure
from .told import Told

# In the words of POSIX.
_CALLS: Final[dict[str, tuple[str, ...]]] = {
    "open": ("path_open",),
    "close": ("fd_close",),
    "read": ("fd_read", "fd_pread"),
    "write": ("fd_write", "fd_pwrite"),
    "seek": ("fd_seek",),
    "sync": ("fd_sync", "fd_datasync"),
    "truncate": ("fd_filestat_set_size",),
    "stat": ("path_filestat_get", "fd_filestat_get"),
    "utime": ("path_filestat_set_times", "fd_filestat_set_times"),
    "readdir": ("fd_readdir",),
    "mkdir": ("path_create_directory",),
    "rmdir": ("path_remove_directory",),
    "unlink": ("path_unlink_file",),
    "rename": ("path_rename",),
    "link": ("path_link",),
    "symlink": ("path_symlink",),
    "readlink": ("path_readlink",),
    "poll": ("poll_oneoff",),
    "random": ("random_get",),
}
_ENDING: Final = frozenset({"proc_exit", "proc_raise"})  # they do not come back, so they cannot fail


class WasmFail:
    """Makes calls of programs fail; one for each test."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def __repr__(self) -> str:
        return "<wasm_fail>"

    def __call__(
        self,
        call: str,
        *,
        errno: str | Errno,
        nth: int = 1,
        times: int | None = 1,
        path: str | None = None,
        strict: bool = True,
    ) -> Failure:
        """In each run of a program that follows in this test, the nth call of that name fails with an errno, and is not
        made.

        call: a word of POSIX ("write", "open", "rename", ...), or a function of WASI ("fd_write"). "write" and "read"
        are those of the standard streams too, unless there is a path. errno: its name, "NOSPC" or "ENOSPC", or an
        `Errno`. nth: from 1. times: that many calls from there on; None: all. path: only calls about such a file, by
        its path in the guest: a pattern in which `*` is any text; one that begins with no slash is the end of a path.
        strict: if it never struck, the test has an error.

        Raises TypeError, ValueError: there is no such call or errno.
        """
        failure = _checked(call, errno, nth, times, path, strict)
        self._told.failures.append(failure)
        return failure


def _checked(call: Any, errno: Any, nth: Any, times: Any, path: Any, strict: bool) -> Failure:
    """Raises TypeError, ValueError."""
    calls = _calls(call)
    number = _errno(errno)
    _check_count("nth", nth)
    if times is not None:
        _check_count("times", times)
    if path is not None and not isinstance(path, str):
        raise TypeError(f"path must be a pattern as str, not {type(path).__name__}")
    more = f", nth={nth}" * (nth != 1) + f", path={path!r}" * (path is not None)
    asked = f"wasm_fail({call!r}{more}, errno={number.name!r})"
    return Failure(asked, calls, number, nth, times, path, strict)


def _calls(call: Any) -> frozenset[str]:
    if not isinstance(call, str):
        raise TypeError(f'call must be a name such as "write", not {call!r}')
    if call in _CALLS:
        return frozenset(_CALLS[call])
    if call in _ENDING:
        raise ValueError(f"{call} does not come back, so it cannot fail")
    if call in PREVIEW1.functions:
        return frozenset({call})
    near = did_you_mean(call, [*_CALLS, *PREVIEW1.functions])
    raise ValueError(f"there is no call {call!r}{near}; there are {', '.join(_CALLS)}, and the functions of WASI")


def _errno(errno: Any) -> Errno:
    if isinstance(errno, Errno):
        found = errno
    elif isinstance(errno, str):
        name = errno.upper().removeprefix("E") if errno.upper() not in Errno.__members__ else errno.upper()
        if name not in Errno.__members__:
            raise ValueError(f"there is no errno {errno!r}{did_you_mean(name, Errno.__members__)}")
        found = Errno[name]
    else:
        raise TypeError(f'errno must be a name such as "NOSPC", or a vfswasi.Errno, not {errno!r}')
    if found is Errno.SUCCESS:
        raise ValueError("SUCCESS is no failure")
    return found


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} counts from 1, it cannot be {value}")
