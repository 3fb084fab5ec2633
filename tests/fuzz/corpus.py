"""Valid archives of every kind, and damage: anywhere, or in the fields of headers, with right checksums."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from vfswasi import Symlink

from ..fs_backends.tar_forge import PACKERS, forge, member, octal, pax, tar_of
from ..fs_backends.zip_forge import noise

TREE: Final[dict[str, Any]] = {
    "file": b"hello world\n",
    "empty": b"",
    "noise": noise(9000),
    "zeros": bytes(40_000),
    "dir": {"inner": b"inner" * 50, "deep": {"deeper": {"file": b"deep"}}, "void": {}},
    "link": Symlink("file"),
    "away": Symlink("../../etc/passwd"),
    "\N{SNOWMAN}": b"snow",
    "x" * 200: {"y" * 200: b"long"},
}


# Too large to be kept whole where there is little room.
LARGE: Final[dict[str, Any]] = {"large": noise(300_000), "file": b"small", "zeros": bytes(200_000)}


def _zip(
    method: int,
    tree: dict[str, Any] = TREE,
    *,
    names: str = "utf8",
    zip64: bool = False,
    piped: bool = False,
    comment: bytes = b"",
) -> bytes:
    file = io.BytesIO()

    class Pipe(io.RawIOBase):
        """What cannot seek makes zipfile write data descriptors."""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            return file.write(data)

    with zipfile.ZipFile(Pipe() if piped else file, "w", method) as made:  # type: ignore[arg-type]

        def put(below: dict[str, Any], where: str) -> None:
            for name, value in below.items():
                if names == "cp437" and not name.isascii():
                    name = "cafe_"
                info = zipfile.ZipInfo(where + name + "/" * isinstance(value, dict), (2020, 2, 3, 4, 5, 6))
                info.compress_type = zipfile.ZIP_STORED if isinstance(value, dict) else method
                if isinstance(value, Symlink):
                    info.external_attr, value = 0o120777 << 16, value.target.encode()
                with made.open(info, "w", force_zip64=zip64) as target:
                    target.write(b"" if isinstance(value, dict) else value)
                if isinstance(value, dict):
                    put(value, info.filename)

        put(tree, "")
        made.comment = comment
    data = file.getvalue()
    return data.replace(b"cafe_", b"caf\x82_") if names == "cp437" else data


def _odd_tar() -> bytes:
    """Old and new sparse files, links of both kinds, devices, long names in the ways of GNU and of PAX."""
    sparse = b"".join(octal(number, 12) for number in (0, 512, 8192, 512, 20_000, 0)).ljust(96, b"\0")
    tail = bytes(41) + sparse + b"\0" + octal(20_000, 12)
    return forge(
        member("file", b"hello world\n"),
        member("sparse", b"a" * 512 + b"b" * 512, b"S", magic=b"ustar  \0", tail=tail),
        pax(("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"0,512,4096,512"), ("GNU.sparse.name", b"pax01")),
        member("other", b"c" * 1024),
        pax(("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9000"),
            ("GNU.sparse.name", b"pax10")),
        member("another", b"2\n0\n512\n4096\n512\n".ljust(512, b"\0") + b"d" * 1024),
        member("././@LongLink", b"n" * 150 + b"/" + b"m" * 90 + b"\0", b"L", magic=b"ustar  \0"),
        member("n" * 99, b"long"),
        member("././@LongLink", b"../" * 60 + b"t\0", b"K", magic=b"ustar  \0"),
        member("longlink", b"", b"2", link=b"../../"),
        pax(("path", "päx/name".encode()), ("size", b"4"), ("mtime", b"1600000000.123456789")),
        member("short", b"data"),
        pax(("comment", b"of all"), kind=b"g"),
        member("hard", b"", b"1", link=b"file"),
        member("hard2", b"", b"1", link=b"hard"),
        member("soft", b"", b"2", link=b"dir/../file"),
        member("dir/", b"", b"5"),
        member("dir/fifo", b"", b"6"),
        member("dir/null", b"", b"3"),
        member("dir/block", b"", b"4"),
        member("contiguous", b"seven", b"7"),
        member("unknown", b"what", b"Z"),
        member("volume", b"", b"V", magic=b"ustar  \0"),
    )  # fmt: skip


@cache
def corpus() -> dict[str, bytes]:
    """Name -> a valid archive; the name begins with its kind."""
    return {
        "zip stored": _zip(zipfile.ZIP_STORED),
        "zip deflated": _zip(zipfile.ZIP_DEFLATED, comment=b"a comment"),
        "zip bzip2": _zip(zipfile.ZIP_BZIP2),
        "zip lzma": _zip(zipfile.ZIP_LZMA),
        "zip zip64": _zip(zipfile.ZIP_DEFLATED, zip64=True),
        "zip cp437": _zip(zipfile.ZIP_STORED, names="cp437"),
        "zip descriptors": _zip(zipfile.ZIP_DEFLATED, piped=True),
        "zip large": _zip(zipfile.ZIP_DEFLATED, LARGE),
        "zip large bzip2": _zip(zipfile.ZIP_BZIP2, LARGE),
        "zip behind": b"#!/bin/sh\n" * 9 + _zip(zipfile.ZIP_DEFLATED),
        "tar ustar": tar_of({name: value for name, value in TREE.items() if len(name) < 90}, tarfile.USTAR_FORMAT),
        "tar pax": tar_of(TREE, tarfile.PAX_FORMAT),
        "tar gnu": tar_of(TREE, tarfile.GNU_FORMAT),
        "tar odd": _odd_tar(),
    }


# Damage. Each takes the bytes and a source of chance, and changes the bytes in place.

Damage = Callable[[bytearray, random.Random], None]
NAMES: Final = (
    b"..",
    b"../x",
    b"/abs",
    b".",
    b"a//b",
    b"a/../b",
    b"a\\b",
    b"a\0b",
    b"/",
    b"\xff",
    b"file",
    b"dir/",
    b"dir",
)
_EXTREMES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF,
                    2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip


def _at(data: bytearray, draw: random.Random) -> int:
    return draw.randrange(len(data)) if data else 0


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8)) if data else 0):
        data[_at(data, draw)] ^= 1 << draw.randrange(8)


def _extreme(data: bytearray, draw: random.Random) -> None:
    width, at = draw.choice((1, 2, 4, 8)), _at(data, draw)
    value = draw.choice(_EXTREMES) & (2 ** (8 * width) - 1)
    data[at : at + width] = value.to_bytes(width, draw.choice(("little", "big")))


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.choice((_at(data, draw), len(data) - 1, len(data) - 22, len(data) - 512)) :]


def _remove(data: bytearray, draw: random.Random) -> None:
    at = _at(data, draw)
    del data[at : at + draw.choice((1, 2, 4, 46, 512, draw.randint(1, 4000)))]


def _double(data: bytearray, draw: random.Random) -> None:
    at = _at(data, draw) & draw.choice((-1, -512))
    piece = bytes(data[at : at + draw.choice((1, 46, 512, 1024, draw.randint(1, 4000)))])
    to = _at(data, draw) & draw.choice((-1, -512))
    data[to:to] = piece * draw.choice((1, 1, 2, 30))


def _splice(data: bytearray, draw: random.Random) -> None:
    other = draw.choice(list(corpus().values()))
    at = draw.randrange(len(other)) & draw.choice((-1, -512))
    piece = other[at : at + draw.choice((46, 512, 2048))]
    to = _at(data, draw) & draw.choice((-1, -512))
    if draw.random() < 0.5:
        data[to : to + len(piece)] = piece
    else:
        data[to:to] = piece


def _append(data: bytearray, draw: random.Random) -> None:
    data += draw.choice((bytes(1000), draw.randbytes(700), b"PK\5\6" + bytes(18), bytes(data[-22:]), bytes(data)))


ANYWHERE: Final = (_flip, _flip, _extreme, _extreme, _cut, _remove, _double, _splice, _append)

# Offset and width of the fields of the local header, the central one, the end, its zip64 kin; names follow the headers.
_ZIP_FIELDS: Final = {
    b"PK\3\4": ((4, 2), (6, 2), (8, 2), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\1\2": (
        (4, 1), (5, 1), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2),
        (36, 2), (38, 4), (42, 4), (38, 4), (42, 4), (20, 4), (24, 4),
    ),
    b"PK\5\6": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    b"PK\6\6": ((4, 8), (12, 2), (14, 2), (16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)),
    b"PK\6\7": ((4, 4), (8, 8), (16, 4)),
    b"PK\7\x08": ((4, 4), (8, 4), (12, 4)),
}  # fmt: skip
_NAME_AT: Final = {b"PK\3\4": (30, 26), b"PK\1\2": (46, 28)}
_INTERESTING: Final = {
    2: (0, 1, 8, 12, 14, 0x800, 0x801, 0x840, 0xFFFF, 97, 5),
    4: (
        0,
        1,
        0x7FFFFFFF,
        0x80000000,
        0xFFFFFFFE,
        0xFFFFFFFF,
        0o120777 << 16,
        0o40755 << 16,
        0o10644 << 16,
        0o20644 << 16,
    ),
    8: (0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
    1: (0, 3, 10, 255),
}


def zip_field(data: bytearray, draw: random.Random) -> None:
    """One field of one header: a telling value, a little more or less, or that of another header."""
    signature = draw.choice(list(_ZIP_FIELDS))
    places = _places(data, signature) or _places(data, b"PK\1\2")
    if not places:
        _flip(data, draw)
        return
    at = draw.choice(places)
    signature = bytes(data[at : at + 4])
    if signature in _NAME_AT and draw.random() < 0.2:
        name_at, length_at = _NAME_AT[signature]
        length = int.from_bytes(data[at + length_at : at + length_at + 2], "little")
        name = draw.choice(NAMES)[:length].ljust(length, draw.choice((b"a", b"/", b".")))
        data[at + name_at : at + name_at + length] = name
        return
    offset, width = draw.choice(_ZIP_FIELDS[signature])
    field = slice(at + offset, at + offset + width)
    old = int.from_bytes(data[field], "little")
    other = draw.choice(places)
    choices = (
        draw.choice(_INTERESTING[width]),
        old + draw.choice((-1, 1, -4, 30, 46, len(data))),
        int.from_bytes(data[other + offset : other + offset + width], "little"),
        draw.getrandbits(8 * width),
    )
    data[field] = (draw.choice(choices) & (2 ** (8 * width) - 1)).to_bytes(width, "little")


def _places(data: bytearray, signature: bytes) -> list[int]:
    found, at = [], data.find(signature)
    while at >= 0:
        found.append(at)
        at = data.find(signature, at + 1)
    return found


_TAR_FIELDS: Final = (
    (0, 100), (100, 8), (124, 12), (124, 12), (124, 12), (136, 12), (148, 8), (156, 1), (156, 1), (157, 100), (257, 8),
    (345, 155), (386, 12), (398, 12), (410, 12), (422, 12), (482, 1), (483, 12), (500, 12),
)  # fmt: skip
_NUMBERS: Final = (
    b"00000000000\0", b"77777777777\0", b"77777777777 ", b"00000001000\0", b"            ", b"-0000000001\0",
    b"0000000000x\0",
    b"\x80" + bytes(11), b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\x80\0\0\0\x7f" + b"\xff" * 7,
    b"\x80\0\0\0\x80" + bytes(7),
    b"\xff" * 4 + b"\x80" + bytes(7), b"00000002000\0", b"9" * 12,
)  # fmt: skip
_TYPES: Final = b"0\x00123456 7gxXLKSDNVMZ\xff"
_WORDS: Final = (
    b"path", b"linkpath", b"size", b"mtime", b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.major", b"hdrcharset",
    b"GNU.sparse.realsize", b"GNU.sparse.minor", b"GNU.sparse.name", b"GNU.sparse.numblocks",
)  # fmt: skip


def tar_field(data: bytearray, draw: random.Random) -> None:
    """One field of one header, the checksum made right mostly; or a word or digit in the data of a PAX header."""
    blocks = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not blocks:
        _flip(data, draw)
        return
    at = draw.choice(blocks)
    kind = data[at + 156 : at + 157]
    if kind in (b"x", b"g", b"L", b"K", b"S") and draw.random() < 0.5:
        _tar_data(data, at + 512, draw)
        return
    offset, width = draw.choice(_TAR_FIELDS)
    if width == 12:
        value = draw.choice(_NUMBERS)
    elif width == 1:
        value = bytes([draw.choice(_TYPES)])
    elif width == 8:
        value = draw.choice((b"ustar\x0000", b"ustar  \0", b"\xff" * 8, draw.randbytes(8)))
    else:
        value = draw.choice((*NAMES, b"x" * width, draw.randbytes(width), b"d/" * 60))[:width].ljust(width, b"\0")
    data[at + offset : at + offset + width] = value
    if draw.random() < 0.9:
        right_checksum(data, at)


def _tar_data(data: bytearray, at: int, draw: random.Random) -> None:
    piece = data[at : at + 512]
    digits = [index for index, byte in enumerate(piece) if byte in b"0123456789"]
    if digits and draw.random() < 0.6:
        data[at + draw.choice(digits)] = draw.choice(b"0123456789-. \n,")
        return
    words = [word for word in _WORDS if word in piece]
    if words:
        word = draw.choice(words)
        other = draw.choice(_WORDS).ljust(len(word), b"_")[: len(word)]
        data[at : at + 512] = piece.replace(word, other, 1)
    elif piece:
        data[at + draw.randrange(len(piece))] = draw.randrange(256)


def right_checksum(data: bytearray, at: int) -> None:
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = octal(sum(data[at : at + 512]), 7) + b" "


def damaged(name: str, seed: int, kept: set[int] | None = None) -> tuple[bytes, int]:
    """(an archive of the corpus with the damage of a seed; how many times it was damaged). `kept`: which of them are
    done, all by default."""
    draw = random.Random(f"{name} {seed}")
    data = bytearray(corpus()[name])
    field = zip_field if name.startswith("zip") else tar_field
    packer = draw.choice((None, None, None, *PACKERS)) if name.startswith("tar") else None
    times = draw.choice((1, 1, 1, 2, 2, 3, 6))
    for number in range(times):
        own = random.Random(f"{name} {seed} {number}")
        damage: Damage = field if own.random() < 0.6 else own.choice(ANYWHERE)
        if kept is None or number in kept:
            damage(data, own)
    if packer is not None:
        data = bytearray(PACKERS[packer](bytes(data)))
        own = random.Random(f"{name} {seed} packed")
        if own.random() < 0.3 and (kept is None or times in kept):
            own.choice(ANYWHERE)(data, own)
        times += 1
    return bytes(data), times
