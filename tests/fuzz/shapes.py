"""Archives that are valid and made to cost much where they are mounted: deep names, long targets, floods of headers.

shape(seed)       name and bytes of one
examine(data)     what is wrong with how it is mounted; nothing, if all is well
"""

from __future__ import annotations

import bz2
import io
import lzma
import random
import time
import zlib
from collections.abc import Callable
from typing import Final

from vfswasi.errors import MountError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend

from ..fs_backends.tar_forge import block, member, octal, pax_record
from ..fs_backends.zip_forge import Entry
from ..fs_backends.zip_forge import forge as forge_zip
from .peak import forget_peak, peak_bytes

INDEX_BYTES: Final = 16 << 20
SECONDS_MAX: Final = 5.0  # of the processor's time, which counts more on a machine that does other things
MEMORY_MAX_BYTES: Final = 120 << 20
_SIZE_MAX_BYTES: Final = 24 << 20  # unpacked

Part = Callable[[random.Random, int], bytes]


def _deep(draw: random.Random, number: int) -> bytes:
    depth = draw.choice((3, 50, 255, 256, 257, 1000, 2040))
    name = b"%d/" % draw.choice((number, 0, number % 50)) + b"a/" * depth + draw.choice((b"f", b"%d" % number))
    return member("L", name + b"\0", b"L") + member("f")


def _target(draw: random.Random, number: int) -> bytes:
    size = draw.choice((10, 4000, 4096, 4097, 100_000))
    return member("x", pax_record("linkpath", b"t" * size), b"x") + member(f"l{number}", kind=draw.choice((b"2", b"1")))


def _pieces(draw: random.Random, number: int) -> bytes:
    count = draw.choice((1, 100, 20_000))
    if draw.random() < 0.5:
        numbers = b",".join([b"0,0"] * count)
        records = pax_record("GNU.sparse.size", b"9") + pax_record("GNU.sparse.map", numbers)
        return member("x", records, b"x") + member(f"s{number}")
    more = (b"%011o\0%011o\0" % (0, 0)) * 21
    blocks = b"".join([more + b"\1" + bytes(7)] * (count // 21) + [more + bytes(8)])
    return block(b"s%d" % number, 0, b"S", tail=bytes(41) + bytes(96) + b"\1" + octal(10, 12)) + blocks


def _records(draw: random.Random, number: int) -> bytes:
    keyword = draw.choice(("path", "comment", "mtime", "size", "GNU.sparse.name", "GNU.sparse.offset", "a" * 200))
    value = draw.choice((b"1", b"1" * 5000, b"9" * 30, b"-1.5"))
    records = pax_record(keyword, value) * draw.choice((1, 10, 3000))
    return member("x", records[: 1 << 20], draw.choice((b"x", b"x", b"g"))) + member(f"f{number}")


def _small(draw: random.Random, number: int) -> bytes:
    name = draw.choice((b"%d/" % number, b"%d/x/y/z" % number, b"../%d" % number, b"0", b"\xff%d" % number))
    return block(name, 0, draw.choice((b"0", b"5", b"1", b"2", b"V", b"6")), link=draw.choice((b"0", b"", b"t" * 99)))


PARTS: Final[dict[str, Part]] = {
    "deep": _deep, "targets": _target, "pieces": _pieces, "records": _records, "small": _small,
}  # fmt: skip


def shape(seed: int) -> tuple[str, bytes]:
    """One archive: many members of one kind, or of all."""
    draw = random.Random(seed)
    name = draw.choice([*PARTS, "zip", "mixed"])
    if name == "zip":
        count = draw.choice((10, 1000, 20_000))
        extra = draw.choice((b"", bytes(4) * 10, b"up\xff\xff" + bytes(9), bytes(400)))
        depth = draw.choice((0, 3, 100)) if count > 1000 else draw.choice((3, 2000))
        entries = [Entry(b"%d/" % n + b"a/" * depth + b"f", extra=extra) for n in range(count)]
        return name, forge_zip(*entries)
    data = bytearray()
    count = draw.choice((10, 1000, 30_000))
    for number in range(count):
        data += PARTS[draw.choice(list(PARTS)) if name == "mixed" else name](draw, number)
        if len(data) > _SIZE_MAX_BYTES:
            break
    data += bytes(1024)
    packer = draw.choice((bytes, zlib.compress, bz2.compress, lzma.compress))
    if packer is zlib.compress:
        encoder = zlib.compressobj(1, wbits=31)
        return name, encoder.compress(bytes(data)) + encoder.flush()
    return name, lzma.compress(bytes(data), preset=0) if packer is lzma.compress else packer(bytes(data))


def examine(data: bytes) -> list[str]:
    """Mount it with little memory for its index; what must not have happened."""
    problems: list[str] = []
    allowance = waiting.Allowance(0, 0, 0, index_bytes=INDEX_BYTES)
    forget_peak()
    before, started = peak_bytes(), time.process_time()
    backend: Backend | None = None
    try:
        with waiting.bounded_by(None, allowance):
            backend = (ZipBackend if data.startswith(b"PK") else TarBackend)(io.BytesIO(data))
    except MountError:
        pass
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}")
    taken, grown = time.process_time() - started, peak_bytes() - before
    if taken > SECONDS_MAX:
        problems.append(f"took {taken:.1f} s to mount")
    if grown > MEMORY_MAX_BYTES:
        problems.append(f"took {grown >> 20} MiB to mount")
    if backend is not None:
        backend.close()
    del backend
    if allowance.indexes.used:
        problems.append(f"{allowance.indexes.used} bytes of the index were not given back")
    return problems
