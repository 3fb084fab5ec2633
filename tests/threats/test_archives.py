"""Z1 to Z4, seen by a guest: archives that were made to break out, to lie, to blow up, or to be unreadable.

What each byte of a forged archive does is in tests/fs_backends/test_zip_hostile.py and test_tar_hostile.py; here stands
what is left of it at the guest's side of the boundary, for each kind of archive and the same for all.
"""

from __future__ import annotations

import os
import stat
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import vfswasi
from vfswasi.errors import Errno, FsError, MountError

from ..fs_backends import tar_forge, zip_forge
from ..fs_backends.zip_forge import DEFLATED, LZMA, Entry
from ..open_files import open_files, opened_since
from ..rawguest import GuestErrno, RawGuest
from .jail import PATH_CALLS, PathCall

SECRET = b"the secret beside the archive"
KINDS = ["zip", "zip with rw", "tar", "tar.gz"]
each_kind = pytest.mark.parametrize("kind", KINDS)


class Item(NamedTuple):
    """One entry. `kind`: "f" file, "l" link (data is the target), "p" FIFO, "c" and "b" device, "s" socket (zip)."""

    name: str
    data: bytes = b""
    kind: str = "f"


_ZIP_MODES = {
    "f": 0,
    "l": stat.S_IFLNK | 0o777,
    "p": stat.S_IFIFO,
    "c": stat.S_IFCHR,
    "b": stat.S_IFBLK,
    "s": stat.S_IFSOCK,
}
_TAR_KINDS = {"f": b"0", "l": b"2", "p": b"6", "c": b"3", "b": b"4", "s": b"6"}


def pack(kind: str, *items: Item) -> bytes:
    """The archive, entries in this order, names as they stand."""
    if kind.startswith("zip"):
        return zip_forge.forge(*[Entry(item.name, item.data, mode=_ZIP_MODES[item.kind]) for item in items])
    parts = []
    for item in items:
        parts.append(tar_forge.member("././@LongLink", item.name.encode() + b"\0", b"L"))
        type_ = b"5" if item.kind == "f" and item.name.endswith("/") else _TAR_KINDS[item.kind]
        link = item.data if item.kind == "l" else b""
        parts.append(tar_forge.member("", b"" if link else item.data, type_, link=link))
    data = tar_forge.forge(*parts)
    return tar_forge.PACKERS["gz"](data) if kind.endswith("gz") else data


Mounted = Callable[..., RawGuest]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str, bytes], RawGuest]]:
    """`mounted(kind, data)`: a guest with the archive as descriptor 3. Beside it lies what no entry may reach; the
    directory holds the same afterwards, so nothing was ever unpacked next to it."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "secret").write_bytes(SECRET)
    guests: list[RawGuest] = []

    def mount(kind: str, data: bytes) -> RawGuest:
        (place / "archive").write_bytes(data)
        guests.append(RawGuest({"/d": vfswasi.Mount(place / "archive", rw=kind.endswith("rw"))}))
        return guests[-1]

    yield mount
    for guest in guests:
        guest.close()
    assert sorted(path.name for path in place.iterdir()) == ["archive", "secret"]
    assert (place / "secret").read_bytes() == SECRET
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place"]


def tree(guest: RawGuest, path: str = ".") -> dict[str, Any]:
    """What a guest finds; files that cannot be opened or read as their errno, links as `-> target`."""
    found: dict[str, Any] = {}
    for raw in guest.names(path):
        name = raw.decode()
        below = f"{path}/{name}"
        assert name not in found, "listed twice"
        filetype = guest.stat(below, follow=False).filetype
        try:
            if filetype == 3:
                found[name] = tree(guest, below)
            elif filetype == 7:
                found[name] = f"-> {guest.readlink(below).decode()}"
            else:
                found[name] = guest.contents(below)
        except GuestErrno as error:
            found[name] = error.errno
    return found


# Z1: names.

HOSTILE_NAMES = [
    "../x",
    "../secret",
    "../../../../../../../../../../etc/x",
    "d/../../x",
    "d/../good",
    "..",
    "../",
    "d/..",
    "/abs",
    "//abs",
    "/",
    "/etc/passwd",
    "",
    ".",
    "d//",
    "nul\0name",
    "n" * 300,
    "d/" + "n" * 300 + "/f",
    "deep/" * 2000 + "f",
]


@each_kind
@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name[:30]))
def test_z1_a_hostile_name_is_invisible_and_poisons_no_sibling(mounted: Mounted, kind: str, name: str) -> None:
    data = b"" if name.endswith("/") else b"hostile"
    guest = mounted(kind, pack(kind, Item("good", b"1"), Item(name, data), Item("d/good", b"2"), Item("z", b"3")))
    seen = tree(guest)
    if name == "nul\0name" and kind.startswith("tar"):
        assert seen.pop("nul") == b"hostile"  # a field of tar ends there, so that is the name
    assert seen == {"good": b"1", "d": {"good": b"2"}, "z": b"3"}
    for path in ("../x", "../secret", "/abs", "/etc/passwd", "x", "abs", "d/x", "d/../../secret"):
        assert guest.try_open(path)[0] in (Errno.NOENT, Errno.NOTCAPABLE)


@pytest.mark.parametrize("name", ["d/./x", "d//x", "./d/x", "././d/x", "d/.//./x"])
def test_z1_slashes_and_dots_that_say_nothing(mounted: Mounted, name: str) -> None:
    items = Item("good", b"1"), Item(name, b"x"), Item("d/good", b"2")
    assert tree(mounted("tar", pack("tar", *items))) == {"good": b"1", "d": {"x": b"x", "good": b"2"}}
    assert tree(mounted("zip", pack("zip", *items))) == {"good": b"1", "d": {"good": b"2"}}


@each_kind
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["f", "f"], {"f": b"1"}),
        (["f", "f", "f"], {"f": b"2"}),
        (["f", "f/"], {"f": {}}),
        (["f/", "f"], {"f": {}}),
        (["f", "f/g"], {"f": {"g": b"1"}}),
        (["f/g", "f"], {"f": {"g": b"0"}}),
        (["d/", "d/", "d/f"], {"d": {"f": b"2"}}),
        (["..\\x", "a\\b", "\\", "C:\\x"], {"..\\x": b"0", "a\\b": b"1", "\\": b"2", "C:\\x": b"3"}),
        (["F", "f"], {"F": b"0", "f": b"1"}),
        (["é", "e\u0301"], {"é": b"0", "e\u0301": b"1"}),
        (["\uff0e\uff0e\uff0fx", "~", "$HOME", "*", "::"], None),
        (["\x1b[31m", "a\nb", "\u202e"], None),
    ],
)
def test_z1_names_have_one_mapping(
    mounted: Mounted, kind: str, names: list[str], expected: dict[str, Any] | None
) -> None:
    """None: each name stands for itself."""
    items = [Item(name, b"" if name.endswith("/") else b"%d" % number) for number, name in enumerate(names)]
    guest = mounted(kind, pack(kind, Item("before", b"x"), *items, Item("zz", b"y")))
    if expected is None:
        expected = {item.name: item.data for item in items}
    assert tree(guest) == {"before": b"x", **expected, "zz": b"y"}
    for name, content in expected.items():
        if isinstance(content, bytes):
            assert guest.contents(name) == content


# Z2: links, and what is no file.

LINKS = {
    "abs": b"/etc/passwd",
    "out": b"../secret",
    "far": b"../../../../../../../../etc/passwd",
    "up": b"..",
    "via": b"up/secret",
    "d/up2": b"../..",
    "loop": b"loop",
    "loop1": b"loop2",
    "loop2": b"loop1",
    "into": b"d",
    "file": b"d/good",
    "slashed": b"d/good/",
}


@each_kind
def test_z2_links_are_walked_like_all_links(mounted: Mounted, kind: str) -> None:
    guest = mounted(kind, pack(kind, Item("d/good", b"2"), *[Item(name, to, "l") for name, to in LINKS.items()]))
    for name, target in LINKS.items():
        assert guest.readlink(name) == target
        assert guest.try_open(name, follow=False)[0] in (Errno.LOOP, Errno.NOTDIR)
    for path in ("abs", "out", "far", "up", "up/", "up/secret", "via", "d/up2", "d/up2/secret", "into/up2/secret"):
        assert guest.try_open(path)[0] is Errno.NOTCAPABLE
    for path in ("loop", "loop/x", "loop1", "loop2/"):
        assert guest.try_open(path)[0] is Errno.LOOP
    assert guest.contents("file") == guest.contents("into/good") == b"2"
    assert guest.try_open("slashed")[0] is Errno.NOTDIR


@each_kind
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("target", [b"..", b"../../etc", b"/tmp", b"d"])
def test_z2_an_entry_below_a_link_is_not_written_through_it(
    mounted: Mounted, kind: str, target: bytes, order: int
) -> None:
    """The way in which unpacking programs were broken: first a link, then a file "below" it."""
    items = [Item("link", target, "l"), Item("link/secret", b"hostile")][::order]
    guest = mounted(kind, pack(kind, Item("d/good", b"2"), *items, Item("z", b"3")))
    seen = tree(guest)
    # What is also a directory is a directory, as it is for files.
    assert seen == {"d": {"good": b"2"}, "link": {"secret": b"hostile"}, "z": b"3"}


@each_kind
def test_z2_chains_of_links_that_double_end_at_once(mounted: Mounted, kind: str) -> None:
    chain = [Item("l0", b".", "l")] + [Item(f"l{n}", b"l%d/l%d" % (n - 1, n - 1), "l") for n in range(1, 60)]
    guest = mounted(kind, pack(kind, *chain))
    assert guest.try_open("l59/x")[0] is Errno.LOOP


@each_kind
@pytest.mark.parametrize("call", PATH_CALLS, ids=lambda call: call.name)
def test_z2_fifos_and_devices_are_not_files(mounted: Mounted, kind: str, call: PathCall) -> None:
    special = {"p": "FIFO", "c": "character device", "b": "block device", "s": "socket"}
    guest = mounted(kind, pack(kind, *[Item(name, b"", what) for what, name in special.items()], Item("z", b"3")))
    before = open_files()
    for name in special.values():
        errno = call.call(guest, 3, name)
        if "open" in call.name:
            assert errno in (Errno.ACCES, Errno.EXIST, Errno.NOTDIR, Errno.ROFS)
        elif "stat" not in call.name and not kind.endswith("rw"):
            assert errno in (Errno.ROFS, Errno.INVAL)
    assert opened_since(before) == []
    assert guest.contents("z") == b"3"


# Z3: bombs.


def _zeros(size: int) -> bytes:
    encoder = zlib.compressobj(9, wbits=-15)
    return b"".join([*(encoder.compress(bytes(1 << 20)) for _ in range(size >> 20)), encoder.flush()])


ZEROS = _zeros(128 << 20)
LYING: dict[str, Entry] = {
    "says less than there is": Entry("bad", method=DEFLATED, payload=ZEROS, file_size=1000, crc=0),
    "says nothing": Entry("bad", method=DEFLATED, payload=ZEROS, file_size=0, crc=0),
    "says 4 GiB": Entry("bad", b"x", DEFLATED, file_size=0xFFFFFFFE),
    "stored, says 2 GiB": Entry("bad", b"x", file_size=1 << 31, compress_size=1 << 31),
    "compressed size of 2 GiB": Entry("bad", b"x" * 100, DEFLATED, compress_size=1 << 31),
    "compressed size of nothing": Entry("bad", b"x" * 100, DEFLATED, compress_size=0),
    "compressed size of one": Entry("bad", b"x" * 100, DEFLATED, compress_size=1),
    "overlaps": Entry("bad", b"good", DEFLATED, header_offset=0),
    "a dictionary of 4 GiB": Entry(
        "bad", b"x", LZMA, payload=b"\x09\x04\x05\0\x5d\xff\xff\xff\xff\0rubbish", file_size=0xFFFFFFFE
    ),
}


# Writing such an archive anew would lose them.
WITH_BYTES_OF_NOBODY = ("compressed size of nothing", "compressed size of one", "overlaps")


@pytest.mark.parametrize("kind", ["zip", "zip with rw"])
@pytest.mark.parametrize("name", LYING)
def test_z3_a_member_that_lies_is_io_at_the_guest_and_takes_little_memory(
    mounted: Mounted, kind: str, name: str
) -> None:
    data = zip_forge.forge(Entry("good", b"good", DEFLATED), LYING[name], Entry("z", b"3"))
    if kind.endswith("rw") and name in WITH_BYTES_OF_NOBODY:
        with pytest.raises(vfswasi.MountError, match="the file holds more than the archive"):
            mounted(kind, data)
        return
    guest = mounted(kind, data)
    tracemalloc.start()
    try:
        assert tree(guest)["bad"] is Errno.IO
        # Of what is not empty by its own word, a deflated member is inflated as a whole up to 8 MiB.
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    if "2 GiB" not in name and name != "overlaps":  # those claim the bytes of others
        assert tree(guest) == {"good": b"good", "bad": Errno.IO, "z": b"3"}
        if kind.endswith("rw"):
            assert guest.unlink("bad") is Errno.SUCCESS


def test_z3_an_honest_bomb_is_read_piece_by_piece(mounted: Mounted) -> None:
    crc = 0
    for _ in range(128):
        crc = zlib.crc32(bytes(1 << 20), crc)
    guest = mounted("zip", zip_forge.forge(Entry("big", method=DEFLATED, payload=ZEROS, file_size=128 << 20, crc=crc)))
    tracemalloc.start()
    fd = guest.open("big")
    assert guest.stat("big").size == 128 << 20
    for offset in (0, 100 << 20, 1 << 20, (128 << 20) - 100):
        assert guest.pread(fd, 100, offset) == bytes(100)
    assert tracemalloc.get_traced_memory()[1] < 80 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_z3_entries_are_counted(kind: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(pack(kind, *[Item(f"f{number}", b"") for number in range(60)]))
    make: Any = vfswasi.ZipBackend if kind == "zip" else vfswasi.TarBackend
    with pytest.raises(MountError, match="more than 50 entries"):
        make(tmp_path / "archive", max_entries=50)
    make(tmp_path / "archive", max_entries=60).close()


# Z4: what cannot be read.

UNREADABLE = {
    "encrypted": (Entry("bad", b"data", flags=0x801), "encrypted"),
    "strongly encrypted": (Entry("bad", b"data", flags=0x841), "encrypt"),
    "unknown method": (Entry("bad", b"data", 97, payload=b"data"), "method"),
    "an old method": (Entry("bad", b"data", 6, payload=b"data"), "method"),
    "a wrong checksum": (Entry("bad", b"data" * 100, DEFLATED, crc=1), "checksum"),
    "cut": (Entry("bad", b"data" * 100, DEFLATED, payload=zip_forge.deflate(b"data" * 100)[:-3]), "cut|end|truncated"),
}


@pytest.mark.parametrize("kind", ["zip", "zip with rw"])
@pytest.mark.parametrize("name", UNREADABLE)
def test_z4_what_cannot_be_read_is_io_and_the_host_is_told_why(
    mounted: Mounted, kind: str, name: str, tmp_path: Path
) -> None:
    entry, why = UNREADABLE[name]
    guest = mounted(kind, zip_forge.forge(Entry("good", b"1"), entry, Entry("z", b"3")))
    assert tree(guest) == {"good": b"1", "bad": Errno.IO, "z": b"3"}
    backend = vfswasi.ZipBackend(tmp_path / "place" / "archive")
    with pytest.raises(FsError, match=f"(?i){why}") as caught:
        zip_forge.read_all(backend, "bad")
    assert "bad" in caught.value.detail
    backend.close()


@each_kind
@pytest.mark.parametrize("keep", [0, 1, 100, -1, -30])
def test_z4_a_truncated_archive_is_refused_in_one_line(kind: str, keep: int, tmp_path: Path) -> None:
    data = pack(kind, Item("f", bytes(range(256)) * 20))
    if kind == "tar" and keep < 0:
        keep = -1500  # one of the two empty blocks at the end may be missing
    (tmp_path / "archive.zip").write_bytes(data[:keep])
    with pytest.raises(MountError) as caught:
        RawGuest({"/d": vfswasi.Mount(tmp_path / "archive.zip", rw=kind.endswith("rw"))}).close()
    assert "archive.zip" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["archive.zip"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_z4_an_archive_that_is_cut_while_it_is_read_is_io(mounted: Mounted, kind: str, tmp_path: Path) -> None:
    guest = mounted(kind, pack(kind, Item("f", os.urandom(200_000)), Item("g", b"1")))
    fd = guest.open("f")
    assert len(guest.pread(fd, 100, 0)) == 100
    os.truncate(tmp_path / "place" / "archive", 1000)
    assert guest.call("fd_pread", fd, *guest.iovs((0x10000, 1000)), 150_000, 0x3000) is Errno.IO
