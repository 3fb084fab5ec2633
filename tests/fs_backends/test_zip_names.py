"""Names in zip archives: which encoding they are in, and that writing an archive anew changes none of their bytes."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import DEFLATED, Entry, forge, mount
from vfswasi.fs_backends.archive.writable import WritableZipBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import FileType

RAW = "été.txt".encode()
UNIX, DOS, OS_X, NTFS = 3, 0, 19, 10


def unicode_path(raw: bytes, text: bytes, version: int = 1) -> bytes:
    return struct.pack("<HHBL", 0x7075, 5 + len(text), version, zlib.crc32(raw)) + text


NAMES = {
    "Unix, UTF-8 without the flag": (Entry(RAW, flags=0, system=UNIX), "été.txt"),
    "OS X, UTF-8 without the flag": (Entry(RAW, flags=0, system=OS_X), "été.txt"),
    "Unix, no UTF-8": (Entry(b"\x81ber", flags=0, system=UNIX), "über"),
    "MS-DOS": (Entry(b"\x81ber", flags=0, system=DOS), "über"),
    "MS-DOS, bytes that are UTF-8 too": (Entry(RAW, flags=0, system=DOS), RAW.decode("cp437")),
    "NTFS, bytes that are UTF-8 too": (Entry(RAW, flags=0, system=NTFS), RAW.decode("cp437")),
    "the flag": (Entry(RAW, system=DOS), "été.txt"),
    "the Unicode field": (Entry(b"\x82t\x82", flags=0, system=DOS, extra=unicode_path(b"\x82t\x82", b"\xc3\xa9")), "é"),
    "the field beside ASCII": (Entry(b"?.txt", flags=0, extra=unicode_path(b"?.txt", RAW)), "été.txt"),
    "the field of another name": (Entry(b"\x82", flags=0, system=DOS, extra=unicode_path(b"x", b"y")), "é"),
    "the field of another version": (Entry(b"\x82", flags=0, system=DOS, extra=unicode_path(b"\x82", b"y", 2)), "é"),
    "the field that is no UTF-8": (Entry(b"\x82", flags=0, system=DOS, extra=unicode_path(b"\x82", b"\xff")), "é"),
    "the field and the flag": (Entry(RAW, extra=unicode_path(RAW, b"other")), "été.txt"),
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_is_in_the_encoding_that_it_says_or_that_its_system_writes(what: str) -> None:
    entry, name = NAMES[what]
    backend = mount(forge(entry))
    assert [found.name for found in backend.list(())] == [name]
    handle = backend.open((name,), False)
    handle.close()


def test_a_flag_that_lies_hides_the_entry_alone() -> None:
    assert tree(mount(forge(Entry(b"\xff", b"1"), Entry("good", b"2")))) == {"good": b"2"}


def test_a_field_cannot_lead_out() -> None:
    for name in (b"../x", b"/x", b"a/../b", b"a\0b"):
        backend = mount(forge(Entry(b"n", b"1", flags=0, extra=unicode_path(b"n", name)), Entry("good", b"2")))
        assert tree(backend) == {"good": b"2"}


def _headers(data: bytes) -> dict[bytes, tuple[tuple[object, ...], tuple[object, ...]]]:
    """Raw name -> (flags, extra fields) of the local header, (flags, extra fields, comment) of the directory."""
    found = {}
    at = data.index(b"PK\1\2")
    while data[at : at + 4] == b"PK\1\2":
        flags, name, extra, comment = (
            *struct.unpack_from("<H", data, at + 8),
            *struct.unpack_from("<3H", data, at + 28),
        )
        raw = data[at + 46 : at + 46 + name]
        rest = data[at + 46 + name : at + 46 + name + extra + comment]
        local = struct.unpack_from("<L", data, at + 42)[0]
        local_flags, local_name, local_extra = (
            *struct.unpack_from("<H", data, local + 6),
            *struct.unpack_from("<2H", data, local + 26),
        )
        local_at = local + 30 + local_name
        assert data[local + 30 : local_at] == raw
        found[raw] = (local_flags, data[local_at : local_at + local_extra]), (flags, rest[:extra], rest[extra:])
        at += 46 + name + extra + comment
    return found


def test_what_was_not_touched_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    odd = struct.pack("<HH", 0x9999, 3) + b"odd"
    entries = []
    for number, (entry, _) in enumerate(NAMES.values()):
        assert isinstance(entry.name, bytes)
        fields = {"flags": entry.flags, "system": entry.system, "extra": odd, "local_extra": odd}
        entries.append(Entry(b"%d-" % number + entry.name, b"x" * 100, DEFLATED, **fields))  # type: ignore[arg-type]
    field = unicode_path(b"\x82t\x82", b"\xc3\xa9")
    entries += [
        Entry(b"\x82t\x82", b"1", flags=0, system=DOS, extra=field, local_extra=field),
        Entry("répertoire/".encode(), flags=0),
        Entry("répertoire/f".encode(), b"1", flags=0),
        Entry(b"d\x82/", flags=0, system=DOS),
    ]
    path.write_bytes(forge(*entries, comment=b"\xff the comment"))
    before = _headers(path.read_bytes())
    for _ in range(2):
        backend = WritableZipBackend(path)
        backend.create((f"new {_} é",)).close()
        backend.commit()
        backend.close()
    data = path.read_bytes()
    after = _headers(data)
    assert {name: after[name] for name in before} == before
    assert {name for name in after if name not in before} == {f"new {n} é".encode() for n in range(2)}
    assert data.endswith(b"\xff the comment")
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None


def test_what_was_renamed_or_dated_changes_in_that_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(forge(
        Entry(b"old\x82", b"1", flags=0, system=DOS, extra=unicode_path(b"old\x82", "old\xe9".encode())),
        Entry(b"dated\x82", b"2", flags=0, system=DOS),
        Entry(b"d/inner\x82", b"3", flags=0, system=DOS),
    ))  # fmt: skip
    backend = WritableZipBackend(path)
    backend.rename(("oldé",), ("newü",))
    backend.rename(("d",), ("e",))
    backend.set_times(("datedé",), None, 1_700_000_000 * 10**9)
    backend.commit()
    assert tree(backend) == {"newü": b"1", "datedé": b"2", "e": {"innerü".replace("ü", "é"): b"3"}}
    backend.close()
    after = _headers(path.read_bytes())
    assert after["newü".encode()][1][:2] == (0x800, b"")
    assert after["e/inneré".encode()][1][0] == 0x800
    assert after[b"dated\x82"][1][0] == 0
    reader = ZipBackend(path)
    assert reader.stat(("datedé",)).mtim_ns == 1_700_000_000 * 10**9
    assert tree(reader) == {"newü": b"1", "datedé": b"2", "e": {"inneré": b"3"}}
    reader.close()


# What was read from a pipe


@pytest.mark.parametrize("mode", [0o010600, 0o140755, 0o020600, 0o060600, 0o040755, 0, 0o100000, 0o170000])
def test_what_has_contents_is_a_file_whatever_it_was_made_from(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(forge(Entry("-", b"from a pipe", DEFLATED, mode=mode), Entry("s", b"stored", mode=mode)))
    backend = ZipBackend(path)
    assert tree(backend) == {"-": b"from a pipe", "s": b"stored"}
    assert backend.stat(("-",)).filetype is FileType.REGULAR_FILE
    assert backend.stat(("-",)).size == 11
    backend.close()
    writable = WritableZipBackend(path)
    writable.mkdir(("d",))
    writable.commit()
    assert tree(writable) == {"-": b"from a pipe", "s": b"stored", "d": {}}
    writable.close()
    with zipfile.ZipFile(path) as file:
        assert file.getinfo("-").external_attr >> 16 == mode
