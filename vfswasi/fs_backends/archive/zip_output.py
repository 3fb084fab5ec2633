"""Writes a whole zip archive: members as they stand in another one, and new ones.

`zipfile` writes the new members and the directory at the end. A member that is copied keeps its compressed bytes,
method, checksum, mode, encryption and extra fields; its name is written as UTF-8 if it is not ASCII, its comment is
lost.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Self

from ..waiting import check_time
from .source import ArchiveSource
from .zip_member import find_data
from .zip_tree import Node, extra_fields

_COPY_BYTES = 1 << 20
_STORED_MAX_BYTES = 63  # deflate makes what is shorter longer, as a rule
_EXTRA_ZIP64 = 0x0001
_EXTRA_NTFS = 0x000A
_EXTRA_UNIX_TIME = 0x5455
_EXTRA_UNICODE = (0x6375, 0x7075)  # comment and name, each with a checksum of what it stands beside
_FLAG_ENCRYPTED = 0x01
_FLAG_DESCRIPTOR = 0x08
_UNIX = 3
_MSDOS_DIRECTORY = 0x10
_FILE_MODE = stat.S_IFREG | 0o600
_DIRECTORY_MODE = stat.S_IFDIR | 0o700
_LINK_MODE = stat.S_IFLNK | 0o777
# What the date of MS-DOS can say, in seconds since 1970.
_DOS_MIN_S = 315_532_800
_DOS_MAX_S = 4_354_819_198


class ZipOutput:
    """An archive that is being written to `file`, which is empty and stays open. Raises OSError, ValueError.

    The end of the `with` block writes the directory, unless an exception ends it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)

    def add_file(
        self, path: str, size: int, pieces: Iterator[bytes], mtime_ns: int, old: zipfile.ZipInfo | None
    ) -> None:
        """A regular file of `size` bytes, with the mode of the entry `old`."""
        info = _new_info(path, mtime_ns, _FILE_MODE, old)
        info.compress_type = zipfile.ZIP_STORED if size <= _STORED_MAX_BYTES else zipfile.ZIP_DEFLATED
        info.file_size = size  # decides whether it is zip64
        with self._zip.open(info, "w") as target:
            for piece in pieces:
                target.write(piece)

    def add_link(self, path: str, target: str, mtime_ns: int) -> None:
        """A symbolic link."""
        self._zip.writestr(_new_info(path, mtime_ns, _LINK_MODE, None), target.encode())

    def add_directory(self, path: str, mtime_ns: int, old: zipfile.ZipInfo | None) -> None:
        """A directory, with the mode of the entry `old`."""
        info = _new_info(path + "/", mtime_ns, _DIRECTORY_MODE, old)
        info.external_attr |= _MSDOS_DIRECTORY
        self._zip.writestr(info, b"")

    def copy(self, path: str, source: ArchiveSource, member: Node, mtime_ns: int | None) -> None:
        """A member of another archive as it is, under the name `path`. `mtime_ns`: its new time, if that changed.

        Raises FsError (IO: the member's header is broken, or its data overlap another's).
        """
        old = member.info
        assert old is not None
        start, extra_bytes = find_data(source, member)
        info = zipfile.ZipInfo(path)
        info.date_time = old.date_time if mtime_ns is None else _dos_date(mtime_ns)
        for field in ("compress_type", "CRC", "compress_size", "file_size", "external_attr", "create_system"):
            setattr(info, field, getattr(old, field))
        # With encryption the descriptor decides what the first bytes are checked against.
        info.flag_bits = old.flag_bits if old.flag_bits & _FLAG_ENCRYPTED else old.flag_bits & ~_FLAG_DESCRIPTOR
        info.header_offset = self._file.tell()
        zip64 = max(old.file_size, old.compress_size) > zipfile.ZIP64_LIMIT
        info.extra = _kept_extra(source.read(start - extra_bytes, extra_bytes), mtime_ns)
        self._file.write(info.FileHeader(zip64))
        info.extra = _kept_extra(old.extra, mtime_ns)
        end = start + old.compress_size
        for at in range(start, end, _COPY_BYTES):
            check_time("copying a member")
            self._file.write(source.read(at, min(_COPY_BYTES, end - at)))
        if info.flag_bits & _FLAG_DESCRIPTOR:
            sizes = struct.pack("<QQ" if zip64 else "<LL", old.compress_size, old.file_size)
            self._file.write(b"PK\7\x08" + struct.pack("<L", old.CRC) + sizes)
        self._zip.filelist.append(info)
        self._zip.NameToInfo[path] = info
        self._zip.start_dir = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._zip.close()
        self._zip.fp = None  # or zipfile would write the directory when it is collected


def _new_info(path: str, mtime_ns: int, mode: int, old: zipfile.ZipInfo | None) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _dos_date(mtime_ns))
    info.create_system = _UNIX
    if old is not None and old.create_system == _UNIX and stat.S_IFMT(old.external_attr >> 16) == stat.S_IFMT(mode):
        mode = old.external_attr >> 16
    info.external_attr = mode << 16
    info.extra = _time_extra(mtime_ns)
    return info


def _dos_date(time_ns: int) -> tuple[int, int, int, int, int, int]:
    """UTC, to the second (the archive keeps every other), within what an archive can say."""
    seconds = min(max(time_ns // 10**9, _DOS_MIN_S), _DOS_MAX_S)
    when = datetime.fromtimestamp(seconds, UTC)
    return when.year, when.month, when.day, when.hour, when.minute, when.second


def _time_extra(time_ns: int) -> bytes:
    """The extended timestamp: modification time in signed 32-bit seconds; nothing where that is too little."""
    seconds = time_ns // 10**9
    return struct.pack("<HHBi", _EXTRA_UNIX_TIME, 5, 1, seconds) if -(1 << 31) <= seconds < 1 << 31 else b""


def _kept_extra(extra: bytes, mtime_ns: int | None) -> bytes:
    """Extra fields without those that are written anew. Raises nothing: what is broken in them is left out."""
    dropped = {_EXTRA_ZIP64, *_EXTRA_UNICODE}
    if mtime_ns is not None:
        dropped |= {_EXTRA_NTFS, _EXTRA_UNIX_TIME}
    kept = [struct.pack("<HH", tag, len(data)) + data for tag, data in extra_fields(extra) if tag not in dropped]
    return b"".join(kept) + (b"" if mtime_ns is None else _time_extra(mtime_ns))
