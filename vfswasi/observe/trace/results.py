"""What a guest got of a call, read where the host has written it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import error as StructError
from struct import unpack_from
from typing import Any, Final

from ...abi.layouts import DIRENT, EVENT, FDSTAT, Abi
from ...errors import Errno, FsError
from ...kernel.paths.places import TEXT_BYTES, cut, decoded_text
from ...kernel.process import Process
from ...syscalls.memory import GuestMemory
from . import names
from .decoding import DATA_BYTES, start_of

_FEW: Final = 16  # names, arguments, events that are shown
_LISTED_BYTES: Final = 4096  # of a listing that are looked at

# Name of a function -> how many bytes each of its results has, by the index of the pointer among the numbers passed.
_NUMBERS: Final[dict[str, tuple[tuple[str, int, int], ...]]] = {
    "args_sizes_get": (("argc", 0, 4), ("argv_buf_size", 1, 4)),
    "environ_sizes_get": (("environc", 0, 4), ("environ_buf_size", 1, 4)),
    "clock_res_get": (("resolution", 1, 8),),
    "clock_time_get": (("time", 2, 8),),
    "fd_pread": (("nread", 4, 4),),
    "fd_pwrite": (("nwritten", 4, 4),),
    "fd_read": (("nread", 3, 4),),
    "fd_readdir": (("bufused", 4, 4),),
    "fd_seek": (("newoffset", 3, 8),),
    "fd_tell": (("offset", 1, 8),),
    "fd_write": (("nwritten", 3, 4),),
    "path_open": (("fd", 8, 4),),
    "path_readlink": (("bufused", 5, 4),),
    "poll_oneoff": (("nevents", 3, 4),),
    "sock_accept": (("fd", 2, 4),),
    "sock_recv": (("nread", 4, 4), ("ro_flags", 5, 2)),
    "sock_send": (("nwritten", 4, 4),),
}
MOVED: Final = ("nread", "nwritten")


def results(
    process: Process,
    memory: GuestMemory,
    abi: Abi,
    name: str,
    raw: tuple[int, ...],
    buffers: tuple[tuple[int, int], ...],
) -> Mapping[str, Any]:
    """Of a call that was made with success. `buffers`: see `Decoded`."""
    try:
        found: dict[str, Any] = {
            result: int.from_bytes(memory.read(raw[index], size), "little")
            for result, index, size in _NUMBERS.get(name, ())
        }
        more = _MORE.get(name)
        if more is not None:
            found |= more(process, memory, abi, raw, found)
        if "nread" in found:
            found["data"] = start_of(memory, buffers, min(found["nread"], DATA_BYTES))
        return found
    except (FsError, StructError):  # two results in one place, or one where the memory of the call was
        return {}


def _filestat(_: Process, memory: GuestMemory, abi: Abi, raw: tuple[int, ...], __: Mapping[str, Any]) -> dict[str, Any]:
    fields = abi.filestat.unpack(memory.read(raw[-1], abi.filestat.size))
    found = dict(zip(("dev", "ino", "filetype", "nlink", "size", "atim", "mtim", "ctim"), fields, strict=True))
    found["filetype"] = names.one("filetype", found["filetype"])
    return found


def _fdstat(_: Process, memory: GuestMemory, __: Abi, raw: tuple[int, ...], ___: Mapping[str, Any]) -> dict[str, Any]:
    filetype, flags, base, inheriting = FDSTAT.unpack(memory.read(raw[1], FDSTAT.size))
    return {
        "filetype": names.one("filetype", filetype),
        "flags": names.flags("fdflags", flags),
        "fs_rights_base": names.flags("rights", base),
        "fs_rights_inheriting": names.flags("rights", inheriting),
    }


def _prestat(_: Process, memory: GuestMemory, __: Abi, raw: tuple[int, ...], ___: Mapping[str, Any]) -> dict[str, Any]:
    return {"pr_name_len": unpack_from("<4xI", memory.read(raw[1], 8))[0]}


def _dir_name(_: Process, memory: GuestMemory, __: Abi, raw: tuple[int, ...], ___: Mapping[str, Any]) -> dict[str, Any]:
    return {"path": _text(memory, raw[1], raw[2])}


def _link(_: Process, memory: GuestMemory, __: Abi, raw: tuple[int, ...], got: Mapping[str, Any]) -> dict[str, Any]:
    return {"target": _text(memory, raw[3], got["bufused"])}


def _args(process: Process, *_: object) -> dict[str, Any]:
    return {"argv": tuple(_shown(each) for each in process.argv[:_FEW])}


def _environ(process: Process, *_: object) -> dict[str, Any]:
    """Names alone: values are where secrets are."""
    return {"names": tuple(_shown(each.partition(b"=")[0]) for each in process.environ[:_FEW])}


def _entries(_: Process, memory: GuestMemory, __: Abi, raw: tuple[int, ...], got: Mapping[str, Any]) -> dict[str, Any]:
    listed = memory.read(raw[1], min(got["bufused"], _LISTED_BYTES))
    found: list[str] = []
    at = 0
    while at + DIRENT.size <= len(listed) and len(found) < _FEW:
        length = DIRENT.unpack_from(listed, at)[2]
        at += DIRENT.size
        if at + length > len(listed):  # cut where the buffer ends
            break
        found.append(_shown(listed[at : at + length]))
        at += length
    return {"names": tuple(found)}


def _events(_: Process, memory: GuestMemory, __: Abi, raw: tuple[int, ...], got: Mapping[str, Any]) -> dict[str, Any]:
    found = []
    for number in range(min(got["nevents"], _FEW)):
        _userdata, errno, kind, _nbytes, _flags = EVENT.unpack(memory.read(raw[1] + number * EVENT.size, EVENT.size))
        word = str(names.one("eventtype", kind))
        found.append(f"{word} {_name_of(errno)}" if errno else word)
    return {"events": tuple(found)}


def _name_of(errno: int) -> str:
    return Errno(errno).name if errno in Errno._value2member_map_ else str(errno)


def _text(memory: GuestMemory, ptr: int, length: int) -> str:
    return _shown(memory.read(ptr, min(length, TEXT_BYTES)))


def _shown(raw: bytes) -> str:
    return cut(decoded_text(raw[:TEXT_BYTES]))


_MORE: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "args_get": _args,
    "environ_get": _environ,
    "fd_fdstat_get": _fdstat,
    "fd_filestat_get": _filestat,
    "fd_prestat_get": _prestat,
    "fd_prestat_dir_name": _dir_name,
    "fd_readdir": _entries,
    "path_filestat_get": _filestat,
    "path_readlink": _link,
    "poll_oneoff": _events,
}
