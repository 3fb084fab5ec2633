"""Changes in a file: what is saved is loaded again, and a file that somebody made up is refused."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import os
import pickle
import random
import stat
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfswasi import Changes, FsError, MountError
from vfswasi.errors import Errno
from vfswasi.fs_backends.waiting import bounded_by
from vfswasi.observe.saved import reading

from .made import (
    DIRECTORY,
    FILE,
    LINK,
    Bytes,
    Entry,
    Gone,
    MadeBase,
    Was,
    added,
    made_directory,
    made_link,
    modified,
    plain,
    removed,
    renamed,
    some,
    touched,
)


def saved(changes: Changes) -> bytes:
    out = io.BytesIO()
    changes.save(out)
    return out.getvalue()


def manifest_of(data: bytes) -> list[dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]


# What is saved is loaded again


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    changes, _ = some()
    changes.save(tmp_path / "c.zip")
    loaded = Changes.load(tmp_path / "c.zip")
    assert loaded == changes
    assert list(loaded) == list(changes)
    assert hash(loaded) == hash(changes)
    assert loaded.read_bytes("new") == b"new\n"
    assert loaded.base is not None
    assert (loaded.base.text, loaded.base.source) == ("'base.zip'", None)
    with pytest.raises(MountError, match="name it"), loaded.base.open():
        pass
    assert Changes.load(io.BytesIO(saved(Changes([])))) == Changes([])


NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0"), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
TIMES = st.none() | st.integers(-(2**62), 2**62)
SIZES = st.integers(0, 2**40)


@st.composite
def was_of_a_file(draw: st.DrawFn) -> Was:
    digest = draw(st.none() | st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest()))
    return Was(FILE, draw(SIZES), draw(TIMES), draw(st.none() | st.integers(1, 2**63)), digest)


@st.composite
def was_of_a_directory(draw: st.DrawFn) -> Was:
    below: dict[str, Was] = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=3)):
        below[name] = Was(DIRECTORY, 0, draw(TIMES))
        for other in draw(st.lists(NAMES, unique=True, max_size=2)):
            below[f"{name}/{other}"] = draw(was_of_a_file())
    return Was(DIRECTORY, 0, draw(TIMES), below=below)


TARGETS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=40)
WHATS = ("file", "directory", "link", "modified", "removed", "renamed", "moved", "times", "replaced")


@st.composite
def entries_of_a_run(draw: st.DrawFn) -> list[Entry]:
    """Of names at the top, each with something else; some directories have entries of their own below them."""
    names = iter(draw(st.lists(NAMES, unique=True, min_size=2, max_size=16)))
    found: list[Entry] = []
    for name in names:
        what = draw(st.sampled_from(WHATS))
        content = Bytes(draw(st.binary(max_size=200)))
        atim, mtim = draw(TIMES), draw(TIMES)
        was = draw(was_of_a_file())
        if what == "file":
            found.append(Entry("added", name, FILE, None, None, content.size, atim, mtim, content))
            other = next(names, None)
            if other is not None:
                found.append(Entry("added", other, FILE, size=content.size, link_to=name))
        elif what == "directory":
            found.append(Entry("added", name, DIRECTORY, atim_ns=atim, mtim_ns=mtim))
            for below in draw(st.lists(NAMES, unique=True, max_size=3)):
                found.append(Entry("added", f"{name}/{below}", FILE, size=content.size, content=content))
        elif what == "link":
            target = draw(TARGETS)
            found.append(Entry("added", name, LINK, size=len(target.encode()), mtim_ns=mtim, target=target))
        elif what == "modified":
            found.append(Entry("modified", name, FILE, None, was, content.size, atim, mtim, content))
        elif what == "removed":
            gone = draw(st.one_of(was_of_a_directory(), st.just(was)))
            found.append(Entry("removed", name, gone.filetype, was=gone))
        elif what == "times":
            found.append(Entry("attributes", name, FILE, None, was, was.size, atim, mtim))
        elif what == "replaced":
            found.append(Entry("removed", name, FILE, was=was))
            found.append(Entry("added", name, DIRECTORY))
        elif (other := next(names, None)) is not None:
            filetype = FILE if what == "renamed" else DIRECTORY
            found.append(Entry("renamed", name, filetype, other, Was(filetype, 0, mtim)))
            if what == "moved":
                found.append(Entry("modified", f"{name}/x", FILE, f"{other}/x", was, content.size, content=content))
            else:
                found.append(Entry("modified", name, FILE, other, was, content.size, content=content))
    return found


@settings(max_examples=300, deadline=None)
@given(entries_of_a_run())
def test_whatever_a_run_did_comes_back_as_it_was(entries: list[Entry]) -> None:
    changes = Changes(entries)
    data = saved(changes)
    loaded = Changes.load(io.BytesIO(data))
    assert loaded == changes
    assert [(entry.was, entry.target, entry.link_to) for entry in loaded.entries] == [
        (entry.was, entry.target, entry.link_to) for entry in changes.entries
    ]
    assert [entry.content and b"".join(all_of(entry)) for entry in loaded.entries] == [
        entry.content.data if isinstance(entry.content, Bytes) else None for entry in changes.entries
    ]
    assert saved(loaded) == data
    assert pickle.loads(pickle.dumps(changes)) == changes


def all_of(entry: Entry) -> list[bytes]:
    assert entry.content is not None
    handle = entry.content.open()
    data = bytearray(entry.content.size)
    assert handle.read_into(0, data) == len(data) == handle.size() == handle.stat().size
    handle.close()
    return [bytes(data)]


def test_equal_changes_give_the_same_bytes_wherever_and_whenever_they_are_saved(tmp_path: Path) -> None:
    def of(order: int) -> Changes:
        entries = [added(f"f{number}", f"{number % 3}" * 100) for number in range(20)]
        random.Random(order).shuffle(entries)
        return Changes(entries)

    of(1).save(tmp_path / "a.zip")
    of(2).save(str(tmp_path / "b.zip"))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes() == saved(of(3))


def test_equal_contents_are_stored_once_and_contents_are_compressed() -> None:
    data = saved(Changes([added(f"f{number}", b"x" * 1_000_000) for number in range(5)]))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        digest = hashlib.sha256(b"x" * 1_000_000).hexdigest()
        assert archive.namelist() == ["manifest.jsonl", f"contents/{digest}"]
        assert archive.testzip() is None
    assert len(data) < 5000


def test_the_manifest_says_what_the_base_was(tmp_path: Path) -> None:
    changes, base = some()
    changes.save(tmp_path / "c.zip")
    head, *told = manifest_of((tmp_path / "c.zip").read_bytes())
    assert head == {"format": "vfswasi changes", "version": 1, "base": "'base.zip'", "entries": 6}
    was = base.was("d")
    assert told[1] == {
        "kind": "removed",
        "path": "d",
        "type": "directory",
        "size": 0,
        "was": {"type": "directory", "size": 0, "mtim_ns": was.mtim_ns, "ident": was.ident, "below": 3},
    }
    assert [line["below"] for line in told[2:5]] == ["e", "e/y", "x"]
    assert told[4]["digest"] == hashlib.sha256(b"1\n").hexdigest()
    digests = {line["path"]: line["was"].get("digest") for line in told if "was" in line}
    assert digests == {
        "b": hashlib.sha256(b"moved").hexdigest(),
        "d": None,
        "gone": hashlib.sha256(b"").hexdigest(),
        "old.txt": hashlib.sha256(b"one\ntwo\nthree\n").hexdigest(),
        "t": hashlib.sha256(b"t").hexdigest(),
    }


def test_links_of_the_base_are_known_by_their_targets() -> None:
    base = MadeBase({})
    base.backend.symlink("there", ("l",))
    line = manifest_of(saved(Changes([removed(base, "l")], base)))[1]
    assert line["was"]["digest"] == hashlib.sha256(b"there").hexdigest()


@pytest.mark.parametrize("what", ["unreachable", "changed", "gone", "unknown"])
def test_a_base_that_cannot_be_had_is_no_error_and_nothing_is_said_of_it(what: str) -> None:
    base = MadeBase({"x": b"1"})
    entry = modified(base, "x", b"2")
    if what == "changed":
        base.backend.write_bytes("x", b"3")
    if what == "gone":
        del base.backend["x"]
    base.reachable = what != "unreachable"
    data = saved(Changes([entry], None if what == "unknown" else base))
    assert "digest" not in manifest_of(data)[1]["was"]
    assert Changes.load(io.BytesIO(data)).read_bytes("x") == b"2"


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "c.zip"
    changes, _ = some()
    changes.save(path)
    before = path.read_bytes()
    path.chmod(0o640)
    with pytest.raises(FsError, match="STALE"):
        Changes([added("a", b"1"), Entry("added", "b", FILE, size=1, content=Gone(b"2"))]).save(path)
    assert path.read_bytes() == before
    loaded = Changes.load(path)
    Changes([added("other", b"1")]).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "other" in Changes.load(path)
    assert loaded.read_bytes("new") == b"new\n", "what was loaded before stays"
    loaded.save(path)
    assert Changes.load(path) == changes
    assert os.listdir(tmp_path) == ["c.zip"]


def test_a_link_at_the_path_stays_one_and_a_place_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real.zip")
    some()[0].save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(Changes.load(tmp_path / "real.zip")) == 6
    with pytest.raises(FileNotFoundError, match="no such directory"):
        some()[0].save(tmp_path / "none" / "c.zip")
    with pytest.raises(IsADirectoryError):
        some()[0].save(tmp_path)
    for wrong in (io.StringIO(), 7, None):
        with pytest.raises(TypeError):
            some()[0].save(wrong)  # type: ignore[arg-type]


class OneWay(io.RawIOBase):
    """A pipe, as far as whoever writes can tell."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)


def test_what_cannot_seek_is_written_too(tmp_path: Path) -> None:
    changes, _ = some()
    pipe = OneWay()
    changes.save(pipe)  # type: ignore[arg-type]
    assert Changes.load(io.BytesIO(pipe.data)) == changes
    os.mkfifo(tmp_path / "fifo")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    changes.save(tmp_path / "fifo")
    reader.join()
    assert Changes.load(io.BytesIO(found[0])) == changes
    changes.save(os.devnull)


def test_new_files_have_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    some()[0].save(tmp_path / "c.zip")
    assert (tmp_path / "c.zip").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path: Path) -> None:
    for entry in [added("../x", b""), added("\ud800", b""), Entry("added", "x", FILE)]:
        with pytest.raises(ValueError, match="cannot be saved"):
            Changes([entry]).save(tmp_path / "c.zip")
    assert os.listdir(tmp_path) == []


def test_contents_that_change_while_they_are_saved_are_an_error() -> None:
    class Other(Bytes):
        def open(self) -> Any:
            self.data = bytes([self.data[0] + 1])
            return super().open()

    with pytest.raises(FsError, match="changed while"):
        saved(Changes([Entry("added", "x", FILE, size=1, content=Other(b"1"))]))


class Many(Bytes):
    """Many equal bytes, of which only those that are asked for are made."""

    def __init__(self, size: int) -> None:
        super().__init__(b"")
        self.size = size

    def open(self) -> Any:
        return _Zeros(self.size)


class _Zeros(reading.Handle):
    def __init__(self, count: int) -> None:
        self._count = count

    def read_into(self, offset: int, buf: Any) -> int:
        count = max(0, min(len(buf), self._count - offset))
        buf[:count] = bytes(count)
        return count


def test_contents_are_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    size = 96 << 20
    changes = Changes([Entry("added", "x", FILE, size=size, content=Many(size))])
    tracemalloc.start()
    try:
        changes.save(tmp_path / "c.zip")
        loaded = Changes.load(tmp_path / "c.zip")
        assert loaded == changes
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size // 3


def test_the_file_is_closed_when_nothing_needs_it(tmp_path: Path) -> None:
    some()[0].save(tmp_path / "c.zip")
    before = len(os.listdir("/proc/self/fd"))
    loaded = Changes.load(tmp_path / "c.zip")
    content = next(entry.content for entry in loaded.entries if entry.content)
    del loaded
    gc.collect()
    handle = content.open()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del content
    gc.collect()
    assert handle.read_into(0, bytearray(1)) == 1, "an open file needs it"
    handle.close()
    del handle
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_several_threads_may_read() -> None:
    loaded = Changes.load(io.BytesIO(saved(Changes([added(f"f{n}", f"{n}" * 50_000) for n in range(8)]))))
    wrong: list[int] = []

    def read(number: int) -> None:
        for turn in range(8):
            wanted = (number + turn) % 8
            if loaded.read_bytes(f"f{wanted}") != f"{wanted}".encode() * 50_000:
                wrong.append(wanted)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_names_as_odd_as_a_guest_makes_them_come_back(tmp_path: Path) -> None:
    names = [
        "\x1b[31m",
        "\n",
        "a\\b",
        "C:",
        "con",
        "\u202e",
        "é",
        "e\u0301",
        " ",
        "-",
        "*",
        "x" * 255,
        "a/" * 1000 + "a",
    ]
    entries = []
    for name in names:
        if "/" in name:
            entries += [made_directory("/".join(["a"] * depth)) for depth in range(1, 1001)]
        entries.append(added(name, name))
    Changes(entries).save(tmp_path / "c.zip")
    loaded = Changes.load(tmp_path / "c.zip")
    assert [loaded.read_bytes(name) for name in names] == [name.encode() for name in names]


# Files that somebody made up

DIGEST = hashlib.sha256(b"1").hexdigest()
HEAD = {"format": "vfswasi changes", "version": 1, "base": None}
NEW = {"kind": "added", "path": "x", "type": "file", "size": 1, "content": DIGEST}
DIR = {"kind": "added", "path": "d", "type": "directory", "size": 0}
WAS = {"type": "file", "size": 1}
GONE = {"kind": "removed", "path": "g", "type": "file", "size": 0, "was": WAS}
GONE_DIR = {**GONE, "type": "directory", "was": {"type": "directory", "size": 0, "below": 1}}
GONE_TWO = {**GONE_DIR, "was": {"type": "directory", "size": 0, "below": 2}}
MOVED = {"kind": "renamed", "path": "n", "old_path": "o", "type": "file", "size": 1, "was": WAS}
MOVED_DIR = {**MOVED, "type": "directory", "was": {"type": "directory", "size": 0}}
MOVED_LINK = {**MOVED, "type": "link", "was": {**WAS, "type": "link"}}
TIMES_OF = {"kind": "attributes", "path": "t", "type": "file", "size": 1, "was": WAS}
EDITED = {**NEW, "kind": "modified", "was": WAS}
SYMLINK = {"kind": "added", "path": "l", "type": "link", "size": 1, "target": "x"}
SECOND = {"kind": "added", "path": "s", "type": "file", "size": 1, "link_to": "x"}


def forged(*lines: dict[str, Any] | bytes, head: dict[str, Any] | bytes | None = None, **members: bytes) -> io.BytesIO:
    """A file with these lines. members: contents beside or in place of those that have the bytes "1"."""
    if head is None:
        count = sum(1 for line in lines if isinstance(line, bytes) or "below" not in line)
        head = {**HEAD, "entries": count}
    text = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in (head, *lines))
    found: dict[str, bytes] = {"manifest.jsonl": text}
    if DIGEST.encode() in text:
        found[f"contents/{DIGEST}"] = b"1"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**found, **members}.items():
            archive.writestr(name, data)
    return io.BytesIO(out.getvalue())


def test_what_is_right_is_loaded() -> None:
    lines = [NEW, DIR, {**NEW, "path": "d/x"}, GONE, MOVED, TIMES_OF, {**EDITED, "path": "e"}, SYMLINK, SECOND]
    lines += [{**MOVED_DIR, "path": "d/m", "old_path": "p"}, {**EDITED, "path": "d/m/f", "old_path": "p/f"}]
    lines += [{**GONE_DIR, "path": "r"}, {"below": "z", **WAS}, {**GONE, "path": "p/away"}]
    lines += [
        {"kind": "attributes", "path": "", "type": "directory", "size": 0, "was": {"type": "directory", "size": 0}}
    ]
    assert len(Changes.load(forged(*lines))) == 14


PATHS = [
    "",
    "..",
    ".",
    "/x",
    "x/",
    "a//b",
    "a/../b",
    "a/./b",
    "a\0b",
    "\ud800",
    "x" * 256,
    "é" * 128,
    "a/" * 40_000 + "a",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path)[:20])
@pytest.mark.parametrize(
    "where",
    [
        lambda path: [{**NEW, "path": path}],
        lambda path: [{**GONE, "path": path}],
        lambda path: [{**MOVED, "old_path": path}],
        lambda path: [NEW, {**SECOND, "link_to": path}],
        lambda path: [GONE_DIR, {"below": path, **WAS}],
        lambda path: [{**EDITED, "old_path": path}],
    ],
    ids=["new", "removed", "old", "link", "below", "changed"],
)
def test_a_path_that_is_none_is_refused(path: str, where: Callable[[str], list[dict[str, Any]]]) -> None:
    with pytest.raises(MountError, match="the path ") as caught:
        Changes.load(forged(*where(path)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([NEW, NEW], "twice among what is new"),
        ([NEW, {**MOVED, "path": "x"}], "twice among what is new"),
        ([GONE, GONE], "twice among what was removed"),
        ([{**TIMES_OF, "path": "x"}, EDITED], "twice among what has changed"),
        ([MOVED, {**MOVED, "path": "m"}], "removed or renamed already"),
        ([GONE, {**MOVED, "old_path": "g"}], "removed or renamed already"),
        ([GONE_DIR, {"below": "z", **WAS}, {"below": "z", **WAS}], "goes on behind the last entry"),
        ([GONE_TWO, {"below": "z", **WAS}, {"below": "z", **WAS}], "twice in one directory"),
        ([GONE_TWO, {"below": "z", **WAS}, {"below": "z/y", **WAS}], "in what is no directory"),
        ([GONE_DIR, {"below": "z/y", **WAS}], "in what is no directory"),
        ([GONE_DIR, {"below": "z", **WAS}, {**GONE, "path": "g/z"}], "with 'g' already"),
        ([NEW, {**NEW, "path": "x/y"}], "is no directory, and something below it has changed"),
        ([SYMLINK, {**NEW, "path": "l/y"}], "is no directory, and something below it has changed"),
        ([MOVED, {**NEW, "path": "n/y"}], "is no directory, and something below it has changed"),
        ([EDITED, {**NEW, "path": "x/y"}], "is no directory, and something below it has changed"),
        ([TIMES_OF, {**NEW, "path": "t/y/z"}], "is no directory, and something below it has changed"),
        ([GONE, {**GONE, "path": "g/y"}], "was no directory, and something below it has changed"),
        ([MOVED, {**GONE, "path": "o/y"}], "was no directory, and something below it has changed"),
        ([GONE, {**NEW, "path": "g/y"}], "was removed or renamed"),
        ([MOVED_DIR, {**NEW, "path": "o/y"}], "was removed or renamed"),
        ([GONE, {**TIMES_OF, "path": "g"}], "was removed or renamed"),
        ([MOVED_DIR, {**GONE, "path": "o/f"}, {**EDITED, "path": "n/f", "old_path": "o/f"}], "was removed or renamed"),
        ([{**MOVED_DIR, "path": "o/in/itself"}], "was removed or renamed"),
        ([DIR, {**EDITED, "path": "d/x"}], "is new, and it is not"),
        ([NEW, EDITED], "is new and has changed"),
        ([{**EDITED, "old_path": "y"}], "another name than it says"),
        ([MOVED_DIR, {**EDITED, "path": "n/f"}], "another name than it says"),
        ([MOVED_DIR, {**EDITED, "path": "n/f", "old_path": "o/g"}], "another name than it says"),
        ([MOVED_LINK, {**EDITED, "path": "n", "old_path": "o"}], "of two types"),
        ([{**SECOND, "link_to": "s"}], "cannot be another name"),
        ([NEW, SECOND, {**SECOND, "path": "third", "link_to": "s"}], "cannot be another name"),
        ([SYMLINK, {**SECOND, "link_to": "l"}], "cannot be another name"),
        ([DIR, {**SECOND, "link_to": "d"}], "cannot be another name"),
        ([DIR, {**SECOND, "link_to": "d/none"}], "which is not there"),
        ([GONE, {**SECOND, "link_to": "g"}], "which is not there"),
        ([MOVED, {**SECOND, "link_to": "o"}], "which is not there"),
        ([MOVED, {**SECOND, "link_to": "n/below"}], "no directory"),
        ([{**SECOND, "type": "directory"}], "cannot be another name"),
        ([{**TIMES_OF, "link_to": "x"}], "cannot be another name"),
        ([{**NEW, "link_to": "y"}], "contents that it cannot have"),
        ([{**NEW, "size": 2}], "has 1 bytes of contents and says 2"),
        ([{name: NEW[name] for name in ("kind", "path", "type", "size")}], "has no contents"),
        ([{**GONE, "content": DIGEST}], "contents that it cannot have"),
        ([{**MOVED, "content": DIGEST}], "contents that it cannot have"),
        ([{**DIR, "content": DIGEST}], "contents that it cannot have"),
        ([{name: SYMLINK[name] for name in ("kind", "path", "type", "size")}], "leads nowhere"),
        ([{**NEW, "target": "x"}], "no new link"),
        ([{**SYMLINK, "target": ""}], "the target of the link"),
        ([{**SYMLINK, "target": "a\0"}], "the target of the link"),
        ([{**SYMLINK, "target": "\udfff"}], "the target of the link"),
        ([{**SYMLINK, "target": "x" * 4097}], "the target of the link"),
        ([{**NEW, "was": WAS}], "was there before"),
        ([{**NEW, "old_path": "y"}], "was there before"),
        ([{**DIR, "type": "character device"}], "neither a file, a directory nor a link"),
        ([{name: EDITED[name] for name in EDITED if name != "was"}], "does not say what was there"),
        ([{**EDITED, "was": {**WAS, "type": "directory"}}], "of another type"),
        ([{**TIMES_OF, "kind": "modified", "type": "link", "was": {**WAS, "type": "link"}}], "is no file"),
        ([{**GONE, "old_path": "y"}], "was removed and has an old name"),
        ([{**MOVED, "old_path": "n"}], "has no other old name"),
        ([{name: MOVED[name] for name in MOVED if name != "old_path"}], "has no other old name"),
        ([{**GONE_DIR, "kind": "attributes"}, {"below": "z", **WAS}], "something below it that was removed"),
        ([{**TIMES_OF, "path": ""}], "mount itself is no directory"),
        ([{**NEW, "kind": "copied"}], "'copied' is no kind"),
        ([{**NEW, "kind": ["added"]}], "is no kind"),
        ([{**NEW, "type": "fifo"}], "'fifo' is no type"),
        ([{**NEW, "type": {}}], "is no type"),
        ([{**NEW, "mode": 0o4755}], "a field 'mode', which is not known"),
        ([{**EDITED, "was": {**WAS, "etag": "x"}}], "a field 'etag', which is not known"),
        ([{**EDITED, "was": 7}], "'was' is no object"),
        ([{**EDITED, "was": {**WAS, "digest": "A" * 64}}], "no SHA-256"),
        ([{**EDITED, "was": {**WAS, "ident": 0}}], "'ident' is 0"),
        ([{**EDITED, "was": {**WAS, "below": 10**9}}], "ends too early"),
        ([{**NEW, "path": 7}], "'path' is 7, no text"),
        ([{name: NEW[name] for name in NEW if name != "path"}], "no 'path'"),
        *(([{**NEW, "size": value}], "'size' is") for value in (-1, 1.0, True, "1", None, 1 << 63, [1])),
        *(([{**NEW, "mtim_ns": value}], "'mtim_ns' is") for value in (1.5, True, "1", 1 << 64, -(1 << 63) - 1)),
        ([{**NEW, "content": "0" * 64}], "it has no contents"),
        ([{**NEW, "content": "../../etc/passwd"}], "it has no contents"),
        ([b'{"kind":"added","kind":"removed"}\n'], "a field twice"),
        ([b"[]\n"], "no object"),
        ([b"\xff\n"], "no JSON"),
        ([b"{\n"], "no JSON"),
        ([b"\n"], "no JSON"),
        ([b"[" * 100_000 + b"\n"], "no JSON"),
        ([b'{"size":' + b"9" * 10_000 + b"}\n"], "no JSON"),
        ([b'{"size":NaN}\n'], "NaN is no number"),
        ([b" " * (3 << 20) + b"\n"], "a line of its manifest has more than"),
        ([b"{}"], "cut short"),
    ],
)  # fmt: skip
def test_entries_that_do_not_fit_are_refused_in_one_line(lines: list[Any], reason: str) -> None:
    with pytest.raises(MountError, match=reason) as caught:
        Changes.load(forged(*lines))
    text = str(caught.value)
    assert text.startswith("cannot read the saved changes <BytesIO object>: ")
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ({**HEAD, "entries": 1, "version": 2}, "version 2 of the format, and 1 is known here"),
        ({**HEAD, "entries": 1, "version": True}, "version True"),
        ({**HEAD, "entries": 1, "version": "1"}, "version '1'"),
        ({**HEAD, "entries": 1, "format": "other"}, "not one of changes"),
        ({**HEAD, "entries": 1, "more": 1}, "a field 'more', which is not known"),
        ({**HEAD, "entries": 1, "base": 7}, "no short text"),
        ({**HEAD, "entries": 1, "base": "x" * 5000}, "no short text"),
        ({**HEAD, "entries": 2}, "ends too early"),
        ({**HEAD, "entries": 0}, "goes on behind the last entry"),
        (HEAD, "'entries' is None"),
        (b"", "not one of changes"),
    ],
)
def test_a_manifest_that_begins_otherwise_is_refused(head: Any, reason: str) -> None:
    with pytest.raises(MountError, match=reason):
        Changes.load(forged(NEW, head=head))


def test_a_manifest_that_is_empty_is_refused() -> None:
    with pytest.raises(MountError, match="its manifest is empty"):
        Changes.load(forged(head=b""))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"other": b""}, "other members"),
        ({"contents/" + "0" * 64: b""}, "contents that its manifest does not name"),
        ({f"contents/{DIGEST}/x": b""}, "it has no contents"),
        ({"manifest.jsonl/x": b""}, "has no manifest.jsonl"),
        ({"../x": b""}, "twice, or that are not shown"),
        ({"/etc/x": b""}, "twice, or that are not shown"),
        ({"contents/": b""}, "twice, or that are not shown"),
    ],
)
def test_members_that_no_file_of_changes_has_are_refused(members: dict[str, bytes], reason: str) -> None:
    with pytest.raises(MountError, match=reason):
        Changes.load(forged(NEW, **members))


@pytest.mark.parametrize("name", ["manifest.jsonl", f"contents/{DIGEST}"])
def test_a_member_that_is_there_twice_is_refused(name: str) -> None:
    data = forged(NEW)
    with zipfile.ZipFile(data) as archive:
        same = archive.read(name)
    with zipfile.ZipFile(data, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(name, same)
    with pytest.raises(MountError, match="twice, or that are not shown"):
        Changes.load(data)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    for data, reason in [
        (b"", "not a zip archive"),
        (b"hello", "not a zip archive"),
        (held.getvalue(), "begins like a tar archive$"),
        (saved(some()[0])[:-30], "not a zip archive"),
        (forged(NEW).getvalue().replace(b"manifest.jsonl", b"manifest.jsonx"), "manifest.jsonl|other members"),
    ]:
        path = tmp_path / "evil\x1b[31m.zip"
        path.write_bytes(data)
        with pytest.raises(MountError, match=reason) as caught:
            Changes.load(path)
        assert str(caught.value).startswith("cannot read the saved changes ")
        assert str(caught.value).isprintable()
    with pytest.raises(FileNotFoundError):
        Changes.load(tmp_path / "none.zip")
    with pytest.raises(IsADirectoryError):
        Changes.load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(MountError, match="no regular file"):
        Changes.load(tmp_path / "fifo")
    for wrong in (io.StringIO("x"), 7, None):
        with pytest.raises(TypeError):
            Changes.load(wrong)  # type: ignore[arg-type]


def test_contents_are_believed_only_with_their_digest() -> None:
    loaded = Changes.load(forged(NEW, **{f"contents/{DIGEST}": b"2"}))
    for _ in range(2):
        with pytest.raises(FsError, match="not what their digest says") as caught:
            loaded.read_bytes("x")
        assert caught.value.errno is Errno.IO
    with pytest.raises(FsError, match="not what their digest says"):
        assert loaded == Changes([added("x", b"2")])
    with pytest.raises(FsError, match="not what their digest says"):
        loaded.diff()
    with pytest.raises(FsError, match="not what their digest says"):
        saved(loaded)


def test_a_file_that_somebody_writes_to_afterwards_is_an_error_and_never_a_mixture(tmp_path: Path) -> None:
    path = tmp_path / "c.zip"
    path.write_bytes(saved(Changes([added("a", random.Random(1).randbytes(300_000)), added("b", b"1")])))
    loaded = Changes.load(path)
    handle = next(entry.content for entry in loaded.entries if entry.content).open()
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data[:-1] + b"x")
    os.utime(path, ns=(1, 1))
    for read in (lambda: loaded.read_bytes("b"), lambda: handle.read_into(0, bytearray(10))):
        with pytest.raises(FsError, match="was changed since") as caught:
            read()
        assert caught.value.errno is Errno.STALE
    handle.close()


def test_a_rename_of_the_file_is_no_change_of_it(tmp_path: Path) -> None:
    some()[0].save(tmp_path / "c.zip")
    loaded = Changes.load(tmp_path / "c.zip")
    (tmp_path / "c.zip").rename(tmp_path / "d.zip")
    (tmp_path / "d.zip").unlink()
    assert loaded.read_bytes("new") == b"new\n"


def test_what_a_file_may_take_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ENTRIES_MAX", 100)
    many = [{**DIR, "path": f"d{number}"} for number in range(100)]
    assert len(Changes.load(forged(*many))) == 100
    with pytest.raises(MountError, match="more than 100 entries"):
        Changes.load(forged(*many, {**DIR, "path": "one more"}))
    below = [{"below": f"z{number}", **WAS} for number in range(100)]
    with pytest.raises(MountError, match="more than 100 entries"):
        Changes.load(forged({**GONE_DIR, "was": {**GONE_DIR["was"], "below": 100}}, *below))
    monkeypatch.setattr(reading, "MEMORY_MAX_BYTES", 100_000)
    with pytest.raises(MountError, match="the memory that saved changes may take"):
        Changes.load(forged(*({**DIR, "path": "a/" * 3000 + f"{number}"} for number in range(90))))


def test_a_manifest_that_inflates_to_more_than_any_is_refused_unread() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("manifest.jsonl", "w") as member:
        for _ in range(600):
            member.write(bytes(1 << 20))
    with pytest.raises(MountError, match="more than 536,870,912"):
        Changes.load(out)


def test_memory_that_refused_files_took_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "c.zip"
    path.write_bytes(
        forged(*({**DIR, "path": f"d{number}"} for number in range(2000)), {**DIR, "path": ".."}).getvalue()
    )
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with contextlib.suppress(MountError):
            Changes.load(path)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_time_of_a_run_ends_it() -> None:
    class Over:
        def __getattr__(self, name: str) -> Any:
            raise FsError(Errno.CANCELED)

    data = forged(NEW)
    with bounded_by(Over()), pytest.raises(FsError, match="CANCELED"):  # type: ignore[arg-type]
        Changes.load(data)


def test_a_directory_with_all_that_was_in_it_comes_back() -> None:
    base = MadeBase({"d": {"x": b"1", "e": {"y": b"2"}}, "t": b""})
    entries = [removed(base, "d"), touched(base, "t", 7), made_link("d", "t")]
    loaded = Changes.load(io.BytesIO(saved(Changes(entries, base))))
    assert loaded == Changes(entries)
    was = loaded.entries[0].was
    assert was is not None
    assert sorted(was.below) == ["e", "e/y", "x"]
    assert plain(was.below["x"]) == Was(
        FILE, 1, base.was("d/x").mtim_ns, base.was("d/x").ident, hashlib.sha256(b"1").hexdigest()
    )
    assert renamed(base, "t", "u").old_path == "t"
