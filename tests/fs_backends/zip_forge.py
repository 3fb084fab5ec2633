"""Zip archives written byte by byte, so that every field can lie, and ways to read what was mounted."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import FileType, Handle, Key

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
UTF8_FLAG = 0x800
DATE = (2020 - 1980) << 9 | 2 << 5 | 3  # 3 February 2020
TIME = 4 << 11 | 5 << 5 | 3  # 04:05:06
DATE_NS = 1_580_702_706 * 10**9


def deflate(data: bytes) -> bytes:
    """`data` as a raw deflate stream."""
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


@dataclass
class Entry:
    """One member; what is None is computed honestly from `data`. `payload`: the bytes after the header."""

    name: str | bytes
    data: bytes = b""
    method: int = STORED
    flags: int = UTF8_FLAG
    payload: bytes | None = None
    file_size: int | None = None
    compress_size: int | None = None
    crc: int | None = None
    extra: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_extra: bytes = b""
    date: int = DATE
    mode: int = 0
    system: int = 3
    header_offset: int | None = None
    after: bytes = b""  # between this member's data and the next header


def forge(*entries: Entry, comment: bytes = b"", prefix: bytes = b"") -> bytes:
    """An archive with these entries, in this order."""
    body = bytearray(prefix)
    directory = bytearray()
    for entry in entries:
        name = entry.name.encode() if isinstance(entry.name, str) else entry.name
        payload = entry.payload
        if payload is None:
            payload = deflate(entry.data) if entry.method == DEFLATED else entry.data
        sizes = (
            zlib.crc32(entry.data) if entry.crc is None else entry.crc,
            len(payload) if entry.compress_size is None else entry.compress_size,
            len(entry.data) if entry.file_size is None else entry.file_size,
        )
        offset = len(body) if entry.header_offset is None else entry.header_offset
        local_name = name if entry.local_name is None else entry.local_name
        local_method = entry.method if entry.local_method is None else entry.local_method
        fields = (entry.flags, local_method, TIME, entry.date, *sizes)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, *fields, len(local_name), len(entry.local_extra))
        body += local_name + entry.local_extra + payload + entry.after
        fields = (entry.flags, entry.method, TIME, entry.date, *sizes)
        lengths = (len(name), len(entry.extra))
        directory += struct.pack("<4sBB5H3L2H", b"PK\1\2", 20, entry.system, 20, *fields, *lengths)
        directory += struct.pack("<3H2L", 0, 0, 0, entry.mode << 16, offset) + name + entry.extra
    count = len(entries)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment)


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that compress to about half."""
    rng = random.Random(seed)
    words = [rng.randbytes(8) for _ in range(2000)]
    return b"".join(rng.choices(words, k=size // 8 + 1))[:size]


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return file.getvalue()


def mount(data: bytes, **options: object) -> ZipBackend:
    return ZipBackend(io.BytesIO(data), **options)  # type: ignore[arg-type]


def read(handle: Handle, offset: int, count: int) -> bytes:
    buffer = bytearray(count)
    return bytes(buffer[: handle.read_into(offset, buffer)])


def read_all(backend: ZipBackend, *key: str, step: int = 1 << 16) -> bytes:
    handle = backend.open(key, False)
    data = bytearray()
    while piece := read(handle, len(data), step):
        data += piece
    handle.close()
    return bytes(data)


def tree(backend: ZipBackend, key: Key = ()) -> dict[str, object]:
    """Nested dicts; files as bytes, links as `-> target`, other objects as their type."""
    found: dict[str, object] = {}
    for entry in backend.list(key):
        below = (*key, entry.name)
        status = backend.stat(below)
        assert (status.filetype, status.ident) == (entry.filetype, entry.ident)
        match entry.filetype:
            case FileType.DIRECTORY:
                found[entry.name] = tree(backend, below)
            case FileType.REGULAR_FILE:
                found[entry.name] = read_all(backend, *below)
            case FileType.SYMBOLIC_LINK:
                found[entry.name] = "-> " + backend.readlink(below)
            case _:
                found[entry.name] = entry.filetype
    return found


def errno_of(call: Callable[..., object], *args: object) -> Errno:
    with pytest.raises(FsError) as caught:
        call(*args)
    return caught.value.errno
