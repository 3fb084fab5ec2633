"""Struct layouts: those that both snapshots share, and `Abi`, which holds those that differ.

Sizes and offsets in bytes, little-endian, as the witx documents lay them out:

    iovec      @0 buf u32, @4 buf_len u32                                              8
    fdstat     @0 filetype u8, @2 flags u16, @8 rights_base u64, @16 inheriting u64    24
    prestat    @0 tag u8, @4 name_len u32                                              8
    dirent     @0 next u64, @8 ino u64, @16 namlen u32, @20 type u8                    24
    event      @0 userdata u64, @8 errno u16, @10 type u8, @16 nbytes u64, @24 flags   32

    filestat      preview1: dev@0 ino@8 type@16 nlink u64@24 size@32 atim@40 mtim@48 ctim@56   64
                  unstable: dev@0 ino@8 type@16 nlink u32@20 size@24 atim@32 mtim@40 ctim@48   56
    subscription  preview1: userdata@0 tag@8 | fd@16 | clock: id@16 timeout@24 precision@32 flags@40   48
                  unstable: userdata@0 tag@8 | fd@16 | clock: identifier@16 id@24 timeout@32
                            precision@40 flags@48                                                      56
    whence        preview1: set 0, cur 1, end 2        unstable: cur 0, end 1, set 2
    rights        preview1: 30 bits                    unstable: 29 bits (no sock_accept)
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from .constants import WHENCE_CUR, WHENCE_END, WHENCE_SET

IOVEC_SIZE = 8
FDSTAT = Struct("<BxH4xQQ")
PRESTAT = Struct("<B3xI")
DIRENT = Struct("<QQIB3x")
EVENT = Struct("<QHB5xQH6x")
FILESTAT_MAX_BYTES = 64  # of either snapshot


class Abi(NamedTuple):
    """One snapshot: the name of its import module and what its numbers and layouts are."""

    version: str
    module: str
    rights_all: int
    whence: tuple[int, int, int]  # guest's number -> the kernel's
    filestat: Struct  # dev, ino, filetype, nlink, size, atim, mtim, ctim
    nlink_max: int
    subscription_size: int
    subscription_clock: Struct  # id, timeout, flags; unpacked at +16
    functions: dict[str, str]  # name -> parameter types, "i" for 32 bits and "I" for 64


_FUNCTIONS = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_get": "ii",
    "fd_prestat_dir_name": "iii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii",
    "path_open": "iiiiiIIii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "proc_exit": "i",
    "proc_raise": "i",
    "sched_yield": "",
    "random_get": "ii",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}

PREVIEW1 = Abi(
    version="preview1",
    module="wasi_snapshot_preview1",
    rights_all=(1 << 30) - 1,
    whence=(WHENCE_SET, WHENCE_CUR, WHENCE_END),
    filestat=Struct("<QQB7xQQQQQ"),
    nlink_max=2**64 - 1,
    subscription_size=48,
    subscription_clock=Struct("<I4xQ8xH"),
    functions=_FUNCTIONS,
)

UNSTABLE = Abi(
    version="unstable",
    module="wasi_unstable",
    rights_all=(1 << 29) - 1,
    whence=(WHENCE_CUR, WHENCE_END, WHENCE_SET),
    filestat=Struct("<QQB3xIQQQQ"),
    nlink_max=2**32 - 1,
    subscription_size=56,
    subscription_clock=Struct("<8xI4xQ8xH"),
    functions={name: types for name, types in _FUNCTIONS.items() if name != "sock_accept"},
)

ABIS = {abi.version: abi for abi in (PREVIEW1, UNSTABLE)}
ABI_BY_MODULE = {abi.module: abi for abi in (PREVIEW1, UNSTABLE)}
