"""Writes a whole zip archive: members as they stand in another one, and new ones.

`zipfile` compresses the new members. A member that is copied keeps every byte that need not change: its name as it is
encoded, flags, extra fields, comment, compressed data and what follows them. Only a new name, or a new time, is written
anew, and the place in the new file. The format is APPNOTE.TXT 4.3 to 4.5.
"""

from __future__ import annotations

import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO, Self

from ....errors import FsError
from ...base import FileType
from ...layers.overlay.entries import Entry as Change
from ...waiting import check_time
from ..plan import Plan, find, pieces
from ..source import ArchiveSource
from ..tree import Directory
from .archive import ZipArchive
from .directory import ENTRY, EXTRA_UNICODE_PATH, EXTRA_ZIP64, UTF8_FLAG, Entry, extra_fields
from .member import find_data
from .tree import HEADER_BYTES, Member

_COPY_BYTES = 1 << 20
_STORED_MAX_BYTES = 63  # deflate makes what is shorter longer, as a rule
_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_VERSION = 45
_DESCRIPTOR_SIGNATURE = b"PK\7\x08"
_DESCRIPTORS = tuple(struct.Struct(form) for form in ("<4s3L", "<4sL2Q", "<3L", "<L2Q"))
_UNKNOWN_16, _UNKNOWN_32 = 0xFFFF, 0xFFFFFFFF
_EXTRA_NTFS = 0x000A
_EXTRA_UNIX_TIME = 0x5455
_EXTRA_UNICODE_COMMENT = 0x6375
_EXTRA_OWNER = 0x7875
_FLAG_DESCRIPTOR = 0x08
_UNIX = 3
_MSDOS_DIRECTORY = 0x10
_FILE_MODE = stat.S_IFREG | 0o600
_DIRECTORY_MODE = stat.S_IFDIR | 0o700
_LINK_MODE = stat.S_IFLNK | 0o777
# What the date of MS-DOS can say, in seconds since 1970.
_DOS_MIN_S = 315_532_800
_DOS_MAX_S = 4_354_819_198


def write(file: IO[bytes], archive: ZipArchive | None, plan: Plan, moved: Callable[[int], None]) -> None:
    """What `plan` makes of an archive, None if there was none: its members in their order, then what is new. `moved` is
    told of bytes that went. Raises OSError, ValueError, FsError."""
    with ZipOutput(file, b"" if archive is None else archive.index.ending.comment) as output:
        if archive is not None:
            for number in range(1, archive.index.count + 1):
                _write_old(output, archive, Member(archive.index, number), plan, moved)
        for path in plan.needed:
            output.add_directory(path, _time(plan.changed.get(path)), None)
        links = []
        for path, change in plan.added:
            if change.link_to is not None:
                links.append((path, change))
            else:
                _write_new(output, path, change, None, moved)
        for path, change in links:
            _write_copy(output, archive, path, change, plan, moved)


def _write_old(
    output: ZipOutput, archive: ZipArchive, member: Member, plan: Plan, moved: Callable[[int], None]
) -> None:
    info = member.info
    old = info.name.removesuffix("/")
    node = find(plan.top, old)
    directory = isinstance(node, Directory)
    if (node.number if isinstance(node, Directory) else node) != member.number:
        return  # it is hidden, or another one of the same name counts
    path = plan.after(old)
    if path is None:
        return
    change = plan.changed.get(path)
    mtime_ns = None if change is None else change.mtim_ns
    if change is not None and change.content is not None:
        _write_new(output, path, change, member, moved)
    elif directory and (mtime_ns is not None or not _is_whole(archive.source, member)):
        output.add_directory(path, _time(change), member)
    else:
        output.copy(path, archive.source, member, mtime_ns)
        moved(info.compress_size)


def _is_whole(source: ArchiveSource, member: Member) -> bool:
    try:
        find_data(source, member)
    except FsError:
        return False
    return True


def _write_new(output: ZipOutput, path: str, change: Change, old: Member | None, moved: Callable[[int], None]) -> None:
    if change.filetype is FileType.DIRECTORY:
        output.add_directory(path, _time(change), old)
    elif change.target is not None:
        output.add_link(path, change.target, _time(change))
    else:
        output.add_file(path, change.size, pieces(change, moved), _time(change), old)


def _write_copy(
    output: ZipOutput, archive: ZipArchive | None, path: str, change: Change, plan: Plan, moved: Callable[[int], None]
) -> None:
    """One more name of a file, which the format does not have: the contents once more."""
    target = plan.link_target(change)
    there = plan.new.get(target) or plan.changed.get(target)
    old = plan.before(target)
    node = None if old is None else find(plan.top, old)
    if there is not None and (there.content is not None or there.target is not None):
        _write_new(output, path, there, None, moved)
    elif isinstance(node, int) and archive is not None:
        output.copy(path, archive.source, Member(archive.index, node), None if there is None else there.mtim_ns)


def _time(change: Change | None) -> int:
    return time.time_ns() if change is None or change.mtim_ns is None else change.mtim_ns


class ZipOutput:
    """An archive that is being written to `file`, which is empty and stays open. `comment`: of the archive, as it
    stands. Raises OSError, ValueError.

    The end of the `with` block writes the directory, unless an exception ends it.
    """

    def __init__(self, file: IO[bytes], comment: bytes = b"") -> None:
        self._file = file
        self._comment = comment
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self._directory = bytearray()
        self._count = 0

    def add_file(self, path: str, size: int, pieces: Iterator[bytes], mtime_ns: int, old: Member | None) -> None:
        """A regular file of `size` bytes, with the mode, owner and comment of the member `old`."""
        info = _new_info(path, mtime_ns, _FILE_MODE, old)
        info.compress_type = zipfile.ZIP_STORED if size <= _STORED_MAX_BYTES else zipfile.ZIP_DEFLATED
        info.file_size = size  # decides whether it is zip64
        with self._zip.open(info, "w") as target:
            for piece in pieces:
                target.write(piece)
        self._added(_entry_of(info))

    def add_link(self, path: str, target: str, mtime_ns: int) -> None:
        """A symbolic link."""
        info = _new_info(path, mtime_ns, _LINK_MODE, None)
        self._zip.writestr(info, target.encode())
        self._added(_entry_of(info))

    def add_directory(self, path: str, mtime_ns: int, old: Member | None) -> None:
        """A directory, with the mode, owner and comment of the member `old`."""
        info = _new_info(path + "/", mtime_ns, _DIRECTORY_MODE, old)
        info.external_attr |= _MSDOS_DIRECTORY
        self._zip.writestr(info, b"")
        self._added(_entry_of(info))

    def _added(self, entry: bytes) -> None:
        self._directory += entry
        self._count += 1
        self._zip.start_dir = self._file.tell()

    def copy(self, path: str, source: ArchiveSource, member: Member, mtime_ns: int | None) -> None:
        """A member of another archive as it is, under the name `path`. `mtime_ns`: its new time, if that changed.

        Raises FsError (IO: the member's header is broken, or its data overlap another's).
        """
        old = member.info
        start, _ = find_data(source, member)
        new_name = None if old.name in (path, path + "/") else path + "/" * (old.name[-1:] == "/")
        header = source.read(old.header_offset, start - old.header_offset)
        at = self._file.tell()
        self._file.write(_local_header(header, old, new_name, mtime_ns))
        end = start + old.compress_size
        for place in range(start, end, _COPY_BYTES):
            check_time("copying a member")
            self._file.write(source.read(place, min(_COPY_BYTES, end - place)))
        if _LOCAL.unpack_from(header)[2] & _FLAG_DESCRIPTOR:
            following = source.read(end, min(_DESCRIPTORS[1].size, max(member.limit - end, 0)))
            zip64 = any(tag == EXTRA_ZIP64 for tag, _ in _local_extra(header))
            self._file.write(_descriptor(following, old, zip64))
        self._added(_directory_entry(member.raw, old, new_name, mtime_ns, at))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._write_end()
        finally:
            self._zip.fp = None  # or zipfile would write a directory of its own when it is collected

    def _write_end(self) -> None:
        start, size, count = self._file.tell(), len(self._directory), self._count
        self._file.write(self._directory)
        if count >= _UNKNOWN_16 or max(start, size) > zipfile.ZIP64_LIMIT:
            version = _ZIP64_VERSION
            self._file.write(
                _END64.pack(b"PK\6\6", _END64.size - 12, version, version, 0, 0, count, count, size, start)
            )
            self._file.write(_LOCATOR.pack(b"PK\6\7", 0, start + size, 1))
        few = min(count, _UNKNOWN_16)
        ends = min(size, _UNKNOWN_32), min(start, _UNKNOWN_32), len(self._comment)
        self._file.write(_END.pack(b"PK\5\6", 0, 0, few, few, *ends) + self._comment)


# Members that are copied


def _local_header(header: bytes, old: Entry, new_name: str | None, mtime_ns: int | None) -> bytes:
    if new_name is None and mtime_ns is None:
        return header
    fixed = list(_LOCAL.unpack_from(header))
    name_end = HEADER_BYTES + fixed[9]
    name, flags = _encoded(new_name, header[HEADER_BYTES:name_end], fixed[2])
    extra = _kept_extra(header[name_end:], new_name is not None, False, mtime_ns)
    fixed[2] = flags
    if mtime_ns is not None:
        fixed[4], fixed[5] = _dos_words(mtime_ns)
    fixed[9:11] = len(name), len(extra)
    return _LOCAL.pack(*fixed) + name + extra


def _local_extra(header: bytes) -> Iterator[tuple[int, bytes]]:
    return extra_fields(header[HEADER_BYTES + int.from_bytes(header[26:28], "little") :])


def _descriptor(following: bytes, old: Entry, zip64: bool) -> bytes:
    """What stands behind the data of a member whose local header has no sizes: as it is, or made anew."""
    wanted = old.crc, old.compress_size, old.file_size
    for form in _DESCRIPTORS:
        if len(following) >= form.size:
            values = form.unpack_from(following)
            if values == wanted or values == (_DESCRIPTOR_SIGNATURE, *wanted):
                return following[: form.size]
    return _DESCRIPTORS[zip64].pack(_DESCRIPTOR_SIGNATURE, *wanted)


def _directory_entry(raw: bytes, old: Entry, new_name: str | None, mtime_ns: int | None, offset: int) -> bytes:
    """The entry of a copied member, whose local header stands at `offset` now. `raw`: its old one."""
    fixed = list(ENTRY.unpack_from(raw))
    name_end = ENTRY.size + fixed[12]
    extra_end = name_end + fixed[13]
    extra, comment = raw[name_end:extra_end], raw[extra_end:]
    name, flags = _encoded(new_name, raw[ENTRY.size : name_end], fixed[5])
    if flags != fixed[5] and not comment.isascii():
        # The flag speaks of both.
        comment = _as_text(comment, old).encode()
    changed_comment = comment != raw[extra_end:]
    if new_name is not None or mtime_ns is not None or changed_comment:
        extra = _kept_extra(extra, new_name is not None, changed_comment, mtime_ns)
    fixed[5] = flags
    if mtime_ns is not None:
        fixed[7], fixed[8] = _dos_words(mtime_ns)
    # Values that stood in the zip64 field stay there.
    wide = [value for value, narrow in ((old.file_size, fixed[11]), (old.compress_size, fixed[10]))
            if narrow == _UNKNOWN_32]  # fmt: skip
    if offset > zipfile.ZIP64_LIMIT or fixed[18] == _UNKNOWN_32:
        wide.append(offset)
        offset = _UNKNOWN_32
        fixed[3] = max(fixed[3], _ZIP64_VERSION)
    if wide:
        extra = _zip64_field(wide) + _without(extra, {EXTRA_ZIP64})
    fixed[12:16] = len(name), len(extra), len(comment), 0
    fixed[18] = offset
    return ENTRY.pack(*fixed) + name + extra + comment


def _encoded(new_name: str | None, raw: bytes, flags: int) -> tuple[bytes, int]:
    """(name as it stands in a header, flags)."""
    if new_name is None:
        return raw, flags
    return new_name.encode(), flags if new_name.isascii() else flags | UTF8_FLAG


def _as_text(comment: bytes, old: Entry) -> str:
    try:
        return comment.decode("utf-8" if old.system == _UNIX else "cp437")
    except UnicodeDecodeError:
        return comment.decode("cp437")


def _kept_extra(extra: bytes, new_name: bool, new_comment: bool, mtime_ns: int | None) -> bytes:
    """Extra fields without those that no longer hold. Raises nothing: what is broken in them is left out."""
    dropped: set[int] = set()
    if new_name:
        dropped.add(EXTRA_UNICODE_PATH)
    if new_comment:
        dropped.add(_EXTRA_UNICODE_COMMENT)
    if mtime_ns is not None:
        dropped |= {_EXTRA_NTFS, _EXTRA_UNIX_TIME}
    return _without(extra, dropped) + (b"" if mtime_ns is None else _time_extra(mtime_ns))


def _without(extra: bytes, tags: set[int]) -> bytes:
    return b"".join(struct.pack("<HH", tag, len(data)) + data for tag, data in extra_fields(extra) if tag not in tags)


def _zip64_field(values: list[int]) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", EXTRA_ZIP64, 8 * len(values), *values)


# Members that are new


def _entry_of(info: zipfile.ZipInfo) -> bytes:
    """The entry in the directory of a member that `zipfile` has written."""
    name = info.filename.encode()
    plain = info.filename.isascii() and info.comment.isascii()
    flags = info.flag_bits if plain else info.flag_bits | UTF8_FLAG
    extra = _without(info.extra, {EXTRA_ZIP64})
    values = [info.compress_size, info.file_size]
    wide = []
    for index in (1, 0):
        if values[index] > zipfile.ZIP64_LIMIT:
            wide.append(values[index])
            values[index] = _UNKNOWN_32
    offset = info.header_offset
    if offset > zipfile.ZIP64_LIMIT:
        wide.append(offset)
        offset = _UNKNOWN_32
    if wide:
        extra = _zip64_field(wide) + extra
    needed = max(info.extract_version, _ZIP64_VERSION if wide else 0)
    date = _dos_date_words(info.date_time)
    sizes = len(name), len(extra), len(info.comment), 0, 0
    made = max(info.create_version, needed)
    fixed = (
        b"PK\1\2", made, info.create_system, needed, 0, flags, info.compress_type, *date, info.CRC, *values, *sizes,
        info.external_attr, offset,
    )  # fmt: skip
    return ENTRY.pack(*fixed) + name + extra + info.comment


def _new_info(path: str, mtime_ns: int, mode: int, member: Member | None) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _dos_date(mtime_ns))
    info.create_system = _UNIX
    info.extra = _time_extra(mtime_ns)
    if member is not None:
        old, raw = member.info, member.raw
        if old.system == _UNIX and stat.S_IFMT(old.attributes >> 16) == stat.S_IFMT(mode):
            # As with any file that is written to: what others put into it does not run as its owner.
            mode = old.attributes >> 16 & ~(0 if stat.S_ISDIR(mode) else stat.S_ISUID | stat.S_ISGID)
        info.extra += _without(old.extra, {tag for tag, _ in extra_fields(old.extra)} - {_EXTRA_OWNER})
        comment = raw[len(raw) - int.from_bytes(raw[32:34], "little") :]
        if not comment.isascii() and not old.flags & UTF8_FLAG:
            comment = _as_text(comment, old).encode()
        info.comment = comment
    info.external_attr = mode << 16
    return info


def _dos_date(time_ns: int) -> tuple[int, int, int, int, int, int]:
    """UTC, to the second (the archive keeps every other), within what an archive can say."""
    seconds = min(max(time_ns // 10**9, _DOS_MIN_S), _DOS_MAX_S)
    when = datetime.fromtimestamp(seconds, UTC)
    return when.year, when.month, when.day, when.hour, when.minute, when.second


def _dos_words(time_ns: int) -> tuple[int, int]:
    """(time, date) of MS-DOS."""
    return _dos_date_words(_dos_date(time_ns))


def _dos_date_words(when: tuple[int, ...]) -> tuple[int, int]:
    year, month, day, hour, minute, second = when
    return hour << 11 | minute << 5 | second // 2, year - 1980 << 9 | month << 5 | day


def _time_extra(time_ns: int) -> bytes:
    """The extended timestamp: modification time in signed 32-bit seconds; nothing where that is too little."""
    seconds = time_ns // 10**9
    return struct.pack("<HHBi", _EXTRA_UNIX_TIME, 5, 1, seconds) if -(1 << 31) <= seconds < 1 << 31 else b""
