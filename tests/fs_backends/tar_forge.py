"""Tar archives written block by block, so that every field can lie, and ways to read what was mounted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from typing import Any

from vfswasi.errors import FsError
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.base import Backend, FileType, Key
from vfswasi.fs_backends.memory.backend import Symlink
from vfswasi.testing.ground import contents, errno_of

__all__ = ["PACKERS", "block", "errno_of", "forge", "member", "mount", "pax", "pax_record", "tar_of", "tree"]

END = bytes(1024)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def block(
    name: bytes = b"f",
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    link: bytes = b"",
    mtime: int | bytes = 1000,
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    checksum: bytes | None = None,
    tail: bytes = b"",
) -> bytes:
    """One header. `tail`: what stands from the place of the prefix on."""
    header = bytearray(512)
    header[0:100] = name[:100].ljust(100, b"\0")
    header[100:124] = octal(0o644, 8) + octal(0, 8) + octal(0, 8)
    header[124:136] = octal(size, 12) if isinstance(size, int) else size
    header[136:148] = octal(mtime, 12) if isinstance(mtime, int) else mtime
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[157:257] = link[:100].ljust(100, b"\0")
    header[257:265] = magic
    header[345:500] = prefix.ljust(155, b"\0")
    if tail:
        header[345 : 345 + len(tail)] = tail
    header[148:156] = octal(sum(header), 7) + b" " if checksum is None else checksum
    return bytes(header)


def member(name: str | bytes, data: bytes = b"", kind: bytes = b"0", **fields: Any) -> bytes:
    """A header and its data."""
    raw = name.encode() if isinstance(name, str) else name
    return block(raw, fields.pop("size", len(data)), kind, **fields) + padded(data)


def pax_record(keyword: str, value: bytes) -> bytes:
    body = b" " + keyword.encode() + b"=" + value + b"\n"
    length = len(body)
    while length != len(str(length)) + len(body):
        length = len(str(length)) + len(body)
    return b"%d" % length + body


def pax(*records: tuple[str, bytes], kind: bytes = b"x") -> bytes:
    return member("pax", b"".join(pax_record(*record) for record in records), kind)


def forge(*parts: bytes) -> bytes:
    return b"".join(parts) + END


def tar_of(literal: dict[str, Any], form: int = tarfile.PAX_FORMAT) -> bytes:
    """The archive that the standard library makes of a tree literal."""
    file = io.BytesIO()

    def put(below: dict[str, Any], where: str) -> None:
        for name, value in below.items():
            info = tarfile.TarInfo(where + name)
            info.mtime = 1_600_000_000
            if isinstance(value, dict):
                info.type = tarfile.DIRTYPE
                writer.addfile(info)
                put(value, f"{where}{name}/")
            elif isinstance(value, Symlink):
                info.type, info.linkname = tarfile.SYMTYPE, value.target
                writer.addfile(info)
            else:
                info.size = len(value)
                writer.addfile(info, io.BytesIO(value))

    with tarfile.open(fileobj=file, mode="w", format=form) as writer:
        put(literal, "")
    return file.getvalue()


def mount(data: bytes, **options: Any) -> TarBackend:
    return TarBackend(io.BytesIO(data), **options)


def tree(backend: Backend, key: Key = ()) -> dict[str, object]:
    """Nested dicts; files as bytes, links as `-> target`, what cannot be read as its errno."""
    found: dict[str, object] = {}
    for entry in backend.list(key):
        below = (*key, entry.name)
        status = backend.stat(below)
        assert (status.filetype, status.ident) == (entry.filetype, entry.ident)
        if entry.filetype is FileType.DIRECTORY:
            found[entry.name] = tree(backend, below)
        elif entry.filetype is FileType.SYMBOLIC_LINK:
            found[entry.name] = "-> " + backend.readlink(below)
        else:
            try:
                found[entry.name] = contents(backend, below)
            except FsError as error:
                found[entry.name] = error.errno
    return found
