"""A recording that a stranger made is refused in words, or replayed within its bounds; it never opens anything."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Limits, MountError, Recording

from ...guest_programs import compile_guest
from .made import check_same, recorded, replayed
from .tampered import Lines, changed

TEXT = "ls /d\nstat /d/none\ncat /d/a\ncat /d/l\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "r"
    recorded(
        TEXT,
        made,
        {"/d": vfswasi.Mount({"a": b"contents" * 10_000, "l": vfswasi.Symlink("a")}, rw=False)},
        env={"A": "b"},
    )
    return made


def refused(path: Path) -> str:
    with pytest.raises(MountError) as caught:
        Recording.load(path)
    text = str(caught.value)
    assert text.startswith("cannot read the recording "), text
    assert "\n" not in text
    return text


def test_the_tampering_itself_changes_nothing(path: Path) -> None:
    changed(path)
    assert replayed(path).same


def test_every_truncated_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path)


def test_flipped_bytes_are_noticed_or_change_nothing(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    expected = replayed(path).result
    assert expected is not None
    for at in range(5, len(whole), 331):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            again = replayed(path)
        except vfswasi.SandboxError:
            continue
        if again.same:
            check_same(expected, again)


def set_run(**fields: Any) -> Callable[[Lines], Any]:
    return lambda lines: lines[1].update(fields)


def edit(name: str, **fields: Any) -> Callable[[Lines], Any]:
    """The first line that has a field of this name."""
    return lambda lines: next(line for line in lines if name in line).update(fields)


def answer(question: str, *said: Any) -> Callable[[Lines], Any]:
    return lambda lines: next(line for line in lines if line.get("asked") == question).update(said=list(said))


def drop(name: str, value: object = None) -> Callable[[Lines], Any]:
    """The lines that have a field of this name, and this value."""

    def dropped(lines: Lines) -> None:
        lines[:] = [line for line in lines if name not in line or value not in (None, line[name])]

    return dropped


STAT = [4, 5, 0, 0, 0, 1, None]
EDITS: dict[str, tuple[Callable[[Lines], Any], str]] = {
    "another format": (lambda lines: lines[0].update(format="x"), "it is no recording"),
    "another version": (lambda lines: lines[0].update(version=2), "version 2 of the format"),
    "a version that is true": (lambda lines: lines[0].update(version=True), "version True"),
    "no end": (lambda lines: lines.pop(), "ends too early"),
    "behind the end": (lambda lines: lines.append({"text": "x"}), "goes on behind its end"),
    "an unknown line": (lambda lines: lines.insert(3, {"x": 1}), "which is not known"),
    "an unknown field": (set_run(x=1), "which is not known"),
    "no arguments": (set_run(args=[]), "no arguments"),
    "arguments of numbers": (set_run(args=[1]), "no text"),
    "a NUL": (set_run(args=["a\0b"]), "NUL"),
    "a variable of three": (set_run(env=[["a", "b", "c"]]), "no environment variable"),
    "a clock of another kind": (set_run(clock=["x", 1, 1]), "no clock"),
    "a clock before time": (set_run(clock=["fixed", -1, 0]), "no clock"),
    "a seed of letters": (set_run(seed="x"), "no seed"),
    "a limit that is none": (set_run(limits={"x": 1}), "no limits"),
    "a negative limit": (set_run(limits={"inodes": -1}), "the limit inodes"),
    "a limit beyond all": (set_run(limits={"stack_bytes": 1 << 62}), "a limit is none"),
    "a module that is none": (set_run(sha256="x"), "no SHA-256"),
    "another module": (set_run(sha256="0" * 64), "not the one that it names"),
    "no module": (set_run(has_module=False), "its module is missing, or it says that there is none"),
    "more calls": (set_run(calls=7), "not as many calls"),
    "an ending of a text": (set_run(ending="x"), "no ending"),
    "an ending beyond": (set_run(ending=[1 << 40, None, None, False, None]), "no ending"),
    "a part beyond": (edit("member", size=1), "its manifest says 1"),
    "a part outside": (edit("member", member="../../etc/passwd"), "it has no part"),
    "no calls": (drop("member", "calls"), "parts that its manifest does not name"),
    "a stream twice": (lambda lines: lines.insert(4, next(line for line in lines if "stream" in line)), "stands twice"),
    "a mount above": (edit("mount", mount="/d/../etc"), "no directory of a guest"),
    "a mount without /": (edit("mount", mount=""), "no directory of a guest"),
    "a manner that is none": (edit("mount", manner="x"), "no manner"),
    "capabilities that are none": (edit("mount", caps=1 << 40), "no such number"),
    "facts before a mount": (drop("mount"), "of a mount before there is one"),
    "a question that is none": (edit("asked", asked="write"), "no question"),
    "a key above": (edit("asked", key=["..", "etc"]), "no place in a mount"),
    "a key with a slash": (edit("asked", key=["a/b"]), "no place in a mount"),
    "an absolute key": (edit("asked", key=["/etc/passwd"]), "no place in a mount"),
    "an empty name": (edit("asked", key=[""]), "no place in a mount"),
    "an answer to something else": (answer("readlink", [1, {"stat": STAT}]), "no answer"),
    "an answer of nothing": (answer("readlink"), "has no answer"),
    "a stat of six": (answer("walk", [1, {"walk": [1, STAT[:6]]}]), "no answer"),
    "a negative size": (answer("walk", [1, {"walk": [1, [4, -5, 0, 0, 0, 1, None]]}]), "no answer"),
    "a type that is none": (answer("walk", [1, {"walk": [1, [99, 5, 0, 0, 0, 1, None]]}]), "no answer"),
    "a walk beyond": (answer("walk", [1, {"walk": [9, STAT]}]), "more names than were looked up"),
    "an errno that is none": (answer("walk", [1, {"errno": "X"}]), "no answer"),
    "success as an errno": (answer("walk", [1, {"errno": "SUCCESS"}]), "no answer"),
    "an answer that was never given": (answer("walk", [0, {"errno": "NOENT"}]), "no answer"),
    "contents outside": (edit("pages", pages=[[0, (1 << 40) << 16 | 5]]), "outside of the file"),
    "contents of 64 KiB": (edit("pages", pages=[[0, 65_535]]), "outside of the file"),
    "a page twice": (edit("pages", pages=[[0, 5], [0, 5]]), "stands twice"),
    "a content out of order": (edit("content", content=99), "no such number"),
    "an open of no content": (edit("opened", gave=[[1, 99]]), "nothing that an open gives"),
    "a count of a million bits": (edit("opened", gave=[[1 << 100, 0]]), "nothing that an open gives"),
    "input that is no count": (edit("counts", counts=[[1, -9999]]), "no errno"),
    "a text that is none": (edit("text", text="\ud800"), "cannot be one"),
    "a long text": (edit("text", text="x" * 5000), "more than 4,096 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_a_manifest_that_cannot_be_is_refused(what: str, path: Path) -> None:
    how, error = EDITS[what]
    changed(path, how)
    with pytest.raises(MountError, match=error):
        Recording.load(path)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"[" * 100_000, "no JSON"),
        (b'{"a":' * 50_000, "no JSON"),
        (b"1", "no object"),
        (b'{"format":"vfswasi recording","format":"x","version":1}', "names a field twice"),
        (b'{"format":"vfswasi recording","version":NaN}', "NaN is no number"),
        (b'{"x":"' + b"a" * (3 << 20) + b'"}', "a line of its manifest has more"),
        (b"\xff\xfe", "no JSON"),
    ],
    ids=["depth", "depth of objects", "number", "twice", "NaN", "long", "no UTF-8"],
)
def test_lines_that_are_no_objects_are_refused(line: bytes, error: str, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.jsonl", line + b"\n")
    with pytest.raises(MountError, match=error):
        Recording.load(path)


def test_a_bomb_is_refused_before_it_is_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfswasi.observe.saved.archived._MANIFEST_MAX_BYTES", 10 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.jsonl", b"\n" * (11 << 20))
    assert "more than 10,485,760" in refused(path)


def test_lines_without_end_are_refused_within_their_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfswasi.observe.recording.file.reading.MEMORY_MAX_BYTES", 8 << 20)

    def many(lines: Lines) -> None:
        lines[-1:] = [{"text": ""}] * 20_000

    changed(path, many)
    assert "memory" in refused(path)


def test_large_pages_are_refused(path: Path) -> None:
    changed(path, pages__000000=bytes(5 << 20))
    assert "not in its place, or too large" in refused(path)


def test_swapped_contents_are_noticed(path: Path) -> None:
    """With a digest that was not changed along: when they are read."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["pages/000000"] = bytes(len(members["pages/000000"]))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(MountError, match="the recording is damaged: "):
        replayed(path)
    members["calls"] = bytes(len(members["calls"]))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(MountError, match="a part is not what its digest says"):
        replayed(path)


def test_swapped_contents_with_their_digest_are_a_difference(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        pages = archive.read("pages/000000")
    changed(path, pages__000000=pages.replace(b"contents", b"CONTENTS"))
    again = replayed(path)
    assert not again.same
    assert again.difference is not None
    assert (again.difference.kind, again.difference.name, again.difference.path) == ("call", "fd_read", "/d/a")


def test_a_listing_of_impossible_names_is_an_error(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        pages = archive.read("pages/000000")
    assert b'["a",4,' in pages
    for name in (b'["/",4,', b"[7,   4,"[:7], b'["\\u0000",4,'[:7]):
        changed(path, pages__000000=pages.replace(b'["a",4,', name))
        with pytest.raises(MountError, match="damaged: it has a listing with names that none can have"):
            replayed(path)


@pytest.mark.parametrize("name", ["memory_bytes", "stack_bytes", "output_bytes", "compile_memory_bytes"])
def test_a_recording_may_not_ask_for_more_than_is_usual(name: str, path: Path) -> None:
    most = getattr(Limits(), name)
    changed(path, lambda lines: lines[1]["limits"].update({name: most + 1}))
    with pytest.raises(MountError, match=f"was given {name}="):
        replayed(path)
    assert replayed(path, limits=Limits(**{name: most + 1})).same


def test_its_time_is_bounded_whatever_it_says(path: Path) -> None:
    recorded("env A\nexit 0\n", path)
    changed(path, set_run(timeout=None, limits={"wall_seconds": None}), module_wasm=None)
    wat = b'(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
    changed(path, set_run(has_module=False))
    import hashlib

    changed(path, set_run(sha256=hashlib.sha256(wat).hexdigest()))
    again = replayed(path, module=wat, timeout=0.5)
    assert not again.same


def test_members_that_no_recording_has_are_refused(path: Path) -> None:
    for name in ("x", "pages/x", "pages/000007", "pages/a/b", "/etc/passwd", "../x", "stdin2"):
        whole = path.read_bytes()
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        refused(path)
        path.write_bytes(whole)


def test_a_member_that_stands_twice_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("calls", b"")
    refused(path)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), b"x" * 1000, b"\x1f\x8b" + bytes(100)])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    refused(tmp_path / "x")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Recording.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Recording.load(tmp_path / "none")
    with pytest.raises(TypeError):
        Recording.load(5)  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(MountError, match="no regular file"):
        Recording.load(tmp_path / "fifo")


def test_saved_changes_and_recordings_are_not_taken_for_each_other(path: Path, tmp_path: Path) -> None:
    from vfswasi.observe.changes import Changes

    with pytest.raises(MountError):
        Changes.load(path)
    result = vfswasi.run(compile_guest("edit"), ["new", "/d/x", "x"], preopens={"/d": {}})
    result.changes["/d"].save(tmp_path / "changes")
    refused(tmp_path / "changes")


def test_a_recording_in_memory(path: Path) -> None:
    with Recording.load(io.BytesIO(path.read_bytes())) as recording:
        assert vfswasi.replay(recording, capture_output=True).same
    with pytest.raises(ValueError, match="closed"):
        recording.module_file()


OPENED = """
import sys
seen = []
def hook(event, args):
    if event in ("open", "os.listdir", "os.scandir", "socket.connect", "socket.bind", "subprocess.Popen", "os.system"):
        seen.append((event, str(args[0])))
import vfswasi
vfswasi.replay(sys.argv[1], capture_output=True)
sys.addaudithook(hook)
done = vfswasi.replay(sys.argv[1], capture_output=True)
assert done.same, done.difference
own = sys.argv[1], sys.prefix, sys.base_prefix
print([each for each in seen if not each[1].startswith(own)])
"""


def test_a_replay_opens_nothing_but_the_file(path: Path, tmp_path: Path) -> None:
    """Whatever its mounts are said to be of."""
    (tmp_path / "secret").write_text("secret")
    changed(path, edit("mount", what=f"'{tmp_path}'"))
    done = subprocess.run(
        [sys.executable, "-c", OPENED, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path(__file__).parents[3]))},
    )
    assert done.returncode == 0, done.stderr
    opened = [name for event, name in eval(done.stdout)]
    assert not [name for name in opened if str(tmp_path) in name], opened
    assert not [name for name in opened if "vfswasi" not in name and not name.isdigit() and name != "3"], opened


def test_secrets_of_sources_are_not_in_the_file(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/a", b"contents")
    source = vfswasi.Mount("memory://user:hunter2@bucket?token=hunter3")
    try:
        recorded("ls /d\n", tmp_path / "r", {"/d": source})
    except MountError:
        source = vfswasi.Mount("memory://bucket", storage_options={"token": "hunter3"})
        recorded("ls /d\n", tmp_path / "r", {"/d": source})
    with zipfile.ZipFile(tmp_path / "r") as archive:
        text = archive.read("manifest.jsonl")
    assert b"hunter" not in text
    assert json.loads(text.split(b"\n")[0])["format"] == "vfswasi recording"


def test_calls_that_are_none_are_a_difference(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        calls = archive.read("calls")
    for changed_calls in (b"\xff" * len(calls), struct.pack("<BBIII", 200, 99, 10**9, 1, 1) * (len(calls) // 14)):
        changed(path, calls=changed_calls)
        assert not replayed(path).same
