"""What the functions of WASI take, by the names and in the order of the specification.

Each parameter has a kind, which says what its number means, or its numbers:

    fd                   a descriptor
    path text            (pointer, length): a path below the descriptor before it; what a new link leads to
    writes reads         (pointer, count) of iovecs: bytes that the guest gives, or room for those that it gets
    subscriptions        (pointer, pointer, count): what poll_oneoff waits for, and room for its answers
    number signed        itself
    size                 (pointer, length): room for an answer of so many bytes
    out                  where a result belongs; not shown
    any other            a set of flags, or one of an enumeration: see `names`

Source: wasi_snapshot_preview1.witx.
"""

from __future__ import annotations

from typing import Final


def _of(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, kind or name) for name, _, kind in (word.partition(":") for word in text.split()))


_STRINGS: Final = _of("argv:out argv_buf:out")
_SIZES: Final = _of("argc:out argv_buf_size:out")
_STAT: Final = _of("fd buf:out")
_READ: Final = _of("fd iovs:reads nread:out")
_WRITE: Final = _of("fd iovs:writes nwritten:out")
_NAME: Final = _of("fd path")

PARAMETERS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "args_get": _STRINGS,
    "args_sizes_get": _SIZES,
    "environ_get": _STRINGS,
    "environ_sizes_get": _SIZES,
    "clock_res_get": _of("id:clockid resolution:out"),
    "clock_time_get": _of("id:clockid precision:number time:out"),
    "fd_advise": _of("fd offset:number len:number advice"),
    "fd_allocate": _of("fd offset:number len:number"),
    "fd_close": _of("fd"),
    "fd_datasync": _of("fd"),
    "fd_fdstat_get": _STAT,
    "fd_fdstat_set_flags": _of("fd flags:fdflags"),
    "fd_fdstat_set_rights": _of("fd fs_rights_base:rights fs_rights_inheriting:rights"),
    "fd_filestat_get": _STAT,
    "fd_filestat_set_size": _of("fd size:number"),
    "fd_filestat_set_times": _of("fd atim:number mtim:number fst_flags:fstflags"),
    "fd_pread": _of("fd iovs:reads offset:number nread:out"),
    "fd_prestat_get": _STAT,
    "fd_prestat_dir_name": _of("fd path_len:size"),
    "fd_pwrite": _of("fd iovs:writes offset:number nwritten:out"),
    "fd_read": _READ,
    "fd_readdir": _of("fd buf_len:size cookie:number bufused:out"),
    "fd_renumber": _of("fd to:fd"),
    "fd_seek": _of("fd offset:signed whence newoffset:out"),
    "fd_sync": _of("fd"),
    "fd_tell": _of("fd offset:out"),
    "fd_write": _WRITE,
    "path_create_directory": _NAME,
    "path_filestat_get": _of("fd flags:lookupflags path buf:out"),
    "path_filestat_set_times": _of("fd flags:lookupflags path atim:number mtim:number fst_flags:fstflags"),
    "path_link": _of("old_fd:fd old_flags:lookupflags old_path:path new_fd:fd new_path:path"),
    "path_open": _of(
        "fd dirflags:lookupflags path oflags fs_rights_base:rights fs_rights_inheriting:rights fdflags opened:out"
    ),
    "path_readlink": _of("fd path buf_len:size bufused:out"),
    "path_remove_directory": _NAME,
    "path_rename": _of("fd old_path:path new_fd:fd new_path:path"),
    "path_symlink": _of("old_path:text fd new_path:path"),
    "path_unlink_file": _NAME,
    "poll_oneoff": _of("subscriptions nevents:out"),
    "proc_exit": _of("rval:number"),
    "proc_raise": _of("sig:signal"),
    "sched_yield": (),
    "random_get": _of("buf_len:size"),
    "sock_accept": _of("fd flags:fdflags connection:out"),
    "sock_recv": _of("fd ri_data:reads ri_flags:riflags nread:out ro_flags:out"),
    "sock_send": _of("fd si_data:writes si_flags:number nwritten:out"),
    "sock_shutdown": _of("fd how:sdflags"),
}
KINDS: Final[dict[str, dict[str, str]]] = {name: dict(parameters) for name, parameters in PARAMETERS.items()}
