"""Overlays of guests in worker processes: what has changed comes back, is looked at, and is applied here."""

from __future__ import annotations

import io
import json
import os
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Changes, Mount
from vfswasi.host.isolation import process, run

from ..wat_programs import ENDLESS, OPEN, SLEEP, program
from .test_hostile_workers import LIAR

WRITE = f"{OPEN} (call $say (i32.load (i32.const 64)))"
WRITES = program(WRITE)  # "so fa" into the file "s"
FAILS = program(f"{WRITE} (call $exit (i32.const 7))")
READ_STDIN = """(i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 16))
  (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 8)))"""
TRAPS = program(f"{WRITE} unreachable")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "a").write_text("untouched")
    (directory / "s").write_text("so good")
    return directory


def names(directory: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in directory.iterdir()}


@pytest.mark.parametrize("isolation", ["none", "process"])
@pytest.mark.parametrize("wasm", [WRITES, FAILS, TRAPS], ids=["succeeds", "fails", "traps"])
def test_changes_come_back_whatever_becomes_of_the_guest(base: Path, wasm: bytes, isolation: Any) -> None:
    result = vfswasi.run(wasm, preopens={"/d": Mount(base, overlay=True)}, isolation=isolation)
    changes = result.changes["/d"]
    assert str(changes) == "M s"
    assert changes.read_bytes("s") == b"so faod"
    assert "-so good" in changes.diff()
    assert names(base) == {"a": "untouched", "s": "so good"}
    changes.apply()
    assert names(base) == {"a": "untouched", "s": "so faod"}


def test_changes_of_a_guest_whose_time_is_over_come_back_too(base: Path) -> None:
    endless = program(WRITE + ENDLESS)
    with vfswasi.Sandbox(endless, preopens={"/d": Mount(base, overlay=True)}, isolation="process") as sandbox:
        with pytest.raises(vfswasi.GuestTimeoutError) as raised:
            sandbox.run(timeout=2)
        assert raised.value.result.changes["/d"].read_bytes("s") == b"so faod"


def test_changes_of_a_guest_that_is_killed_come_back_too(base: Path) -> None:
    sleeping = program("(call $say (i32.const 1))" + WRITE + SLEEP)
    with vfswasi.Sandbox(sleeping, preopens={"/d": Mount(base, overlay=True)}, isolation="process") as sandbox:
        held = sandbox.start(stdout=vfswasi.PIPE)
        assert held.stdout is not None
        assert held.stdout.read(5) == b"so fa"
        time.sleep(0.3)  # it writes to its file after that
        held.kill()
        with pytest.raises(vfswasi.GuestInterruptedError) as raised:
            held.result()
        assert str(raised.value.result.changes["/d"]) == "M s"


def test_runs_go_on_from_changes_and_each_begins_anew(base: Path) -> None:
    first = vfswasi.run(WRITES, preopens={"/d": Mount(base, overlay=True)}, isolation="process").changes["/d"]
    (base / "a").write_text("changed since")
    read = program(OPEN)
    for mount in (Mount(base, overlay=first), Mount(str(base), overlay=first)):
        again = vfswasi.run(read, preopens={"/d": mount}, isolation="process").changes["/d"]
        assert again.read_bytes("s") == b"so faod"
    with vfswasi.Sandbox(read, preopens={"/d": Mount(base, overlay=True)}, isolation="process") as sandbox:
        assert not sandbox.run().changes["/d"]
        assert sandbox.run(preopens={"/d": Mount(base, overlay=first)}).changes["/d"]
        assert not sandbox.run(preopens={"/e": Mount(base / "..", overlay=True, overlap=True)}).changes["/e"]


def test_changes_that_do_not_fit_are_refused_here(base: Path, tmp_path: Path) -> None:
    first = vfswasi.run(WRITES, preopens={"/d": Mount(base, overlay=True)}, isolation="process").changes["/d"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(vfswasi.MountError, match="mount '/d': the changes cannot be made on"):
        vfswasi.run(WRITES, preopens={"/d": Mount(tmp_path / "empty", overlay=first)}, isolation="process")


def test_a_tree_in_memory_has_an_overlay_too(base: Path) -> None:
    mount = Mount({"s": "so good"}, overlay=True)
    result = vfswasi.run(WRITES, preopens={"/d": mount}, isolation="process")
    assert result.changes["/d"].read_bytes("s") == b"so faod"
    with pytest.raises(vfswasi.MountError, match="is made anew for each run"):
        result.changes["/d"].apply({})


# Applying


def test_the_caller_applies_what_succeeded_and_nothing_else(base: Path) -> None:
    preopens = {"/d": Mount(base, overlay=True, apply="success")}
    for wasm in (FAILS, TRAPS):
        vfswasi.run(wasm, preopens=preopens, isolation="process")
        assert names(base)["s"] == "so good"
    vfswasi.run(WRITES, preopens=preopens, isolation="process", check=True)
    assert names(base) == {"a": "untouched", "s": "so faod"}


def test_later_runs_see_what_was_applied(base: Path) -> None:
    preopens = {"/d": Mount(base, overlay=True, apply="success")}
    with vfswasi.Sandbox(WRITES, preopens=preopens, isolation="process") as sandbox:
        for _ in range(3):
            assert sandbox.run().changes["/d"].read_bytes("s") == b"so faod"
    assert names(base) == {"a": "untouched", "s": "so faod"}


def test_a_conflict_is_told_here_and_nothing_is_lost(base: Path) -> None:
    preopens = {"/d": Mount(base, overlay=True, apply="success")}
    waiting = program("(call $say (i32.const 1))" + WRITE + READ_STDIN)
    with vfswasi.Sandbox(waiting, preopens=preopens, isolation="process") as sandbox:
        held = sandbox.start(stdout=vfswasi.PIPE, stdin=vfswasi.PIPE)
        assert held.stdout is not None
        assert held.stdout.read(5) == b"so fa"
        time.sleep(0.3)
        (base / "s").write_text("somebody else's")
        with pytest.raises(vfswasi.UncommittedError, match="could not be stored: /d") as raised:
            held.result()
    cause = raised.value.files[0].error.__cause__
    assert isinstance(cause, vfswasi.ConflictError)
    assert list(cause.conflicts) == ["s"]
    assert raised.value.result.changes["/d"].read_bytes("s") == b"so faod"
    assert names(base)["s"] == "somebody else's"


def test_changes_are_not_applied_to_where_compiled_modules_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(tmp_path / "cache"))
    for isolated in ("none", "process"):
        with pytest.raises(vfswasi.MountError, match="could change what vfswasi runs or trusts"):
            vfswasi.run(
                WRITES,
                preopens={"/d": Mount(tmp_path, overlay=True, apply="success")},
                isolation=isolated,  # type: ignore[arg-type]
            )
        looked = vfswasi.run(WRITES, preopens={"/d": Mount(tmp_path, overlay=True)}, isolation=isolated)  # type: ignore[arg-type]
        assert str(looked.changes["/d"]) == "A s"


def test_changes_of_a_tree_cannot_be_applied_by_themselves() -> None:
    for isolated in ("none", "process"):
        with pytest.raises(vfswasi.MountError, match="mount '/d': a tree in memory is made anew"):
            vfswasi.run(WRITES, preopens={"/d": Mount({}, overlay=True, apply="success")}, isolation=isolated)  # type: ignore[arg-type]


def test_a_sandbox_tells_what_is_mounted_in_its_workers(base: Path) -> None:
    preopens = {"/d": Mount(base, overlay=True), "/r": base, "/m": {}}
    with vfswasi.Sandbox(WRITES, preopens={**preopens, "/r": base}, isolation="process") as sandbox:
        assert repr(sandbox) == "<Sandbox of 'module.wasm': '/d' (overlay), '/r', '/m'>"
        page = sandbox._repr_html_()
        assert "<td>overlay</td>" in page
        assert "<td>ro</td>" in page
        assert "<td>rw</td>" in page


# Workers that lie


def saved(entries: list[dict[str, Any]], **more: bytes) -> bytes:
    """A file of changes that nobody has looked at."""
    lines = [{"format": "vfswasi changes", "version": 1, "base": None, "entries": len(entries)}, *entries]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("manifest.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        for name, data in more.items():
            file.writestr(name, data)
    return out.getvalue()


def directory(path: str) -> dict[str, Any]:
    return {"kind": "added", "path": path, "type": "directory", "size": 0}


def link(path: str, target: str) -> dict[str, Any]:
    return {"kind": "added", "path": path, "type": "link", "size": len(target), "target": target}


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def become(body: str, changed: str = "{'/d': True}") -> None:
        both = (
            f"if asked['do'] == 'changes':\n{textwrap.indent(body, '    ')}\n"
            f"else: answer({{'result': {{**result, 'changed': {changed}}}}}, b'output')"
        )
        code = LIAR.replace("        BODY", textwrap.indent(both, "        "))
        monkeypatch.setattr(process, "_PROGRAM", code)

    return become


def ask(base: Path, **options: Any) -> vfswasi.Result[Any]:
    return vfswasi.run(
        WRITES,
        preopens={"/d": Mount(base, overlay=True, apply="success")},
        isolation="process",
        stdout=vfswasi.PIPE,
        **{"timeout": 10, **options},
    )


def wrote(data: bytes) -> str:
    return f"os.pwrite(_[0], {data!r}, 0); answer({{}}, sizes=[])"


def test_the_liar_can_tell_the_truth(liar: Callable[..., None], base: Path) -> None:
    liar(wrote(saved([directory("new")])))
    assert str(ask(base).changes["/d"]) == "A new/"
    assert (base / "new").is_dir()


LIES = {
    "nothing": "answer({}, sizes=[])",
    "garbage": wrote(b"garbage" * 1000),
    "a pickle": wrote(b"\x80\x04\x95\x15\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x04exec\x94\x93\x94."),
    "no manifest": wrote(b"PK\x05\x06" + bytes(18)),
    "a huge file": "os.ftruncate(_[0], 1 << 50); answer({}, sizes=[])",
    "a name that leads up": wrote(saved([directory("../up")])),
    "a name that is absolute": wrote(saved([directory("/tmp/x")])),
    "a name with NUL": wrote(saved([directory("a\0b")])),
    "a name within a link": wrote(saved([link("out", "/tmp"), directory("out/new")])),
    "the root removed": wrote(saved([{"kind": "removed", "path": "", "type": "directory", "size": 0}])),
    "contents that are not there": wrote(
        saved([{"kind": "added", "path": "x", "type": "file", "size": 1, "content": "0" * 64}])
    ),
    "a sum of other contents": wrote(
        saved(
            [{"kind": "added", "path": "x", "type": "file", "size": 1, "content": "0" * 64}],
            **{"contents/" + "0" * 64: b"x"},
        )
    ),
    "an error": "answer({'error': {'type': 'ValueError', 'message': 'x'}}, sizes=[])",
    "its end": "os._exit(3)",
    "silence": "threading.Event().wait()",
    "a huge answer": "answer({'x': 'y' * 400_000}, sizes=[])",
}


@pytest.mark.parametrize("body", LIES.values(), ids=LIES.keys())
def test_changes_that_cannot_be_are_a_crash_of_that_run_and_touch_nothing(
    liar: Callable[..., None], base: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_CHANGES_S", 0.3)
    liar(body)
    before = names(base)
    error: type[Exception] = vfswasi.GuestCrashError
    if "0" * 64 in body and "contents/" in body:
        error = vfswasi.UncommittedError  # shows when they are read, which is before anything is written
    with pytest.raises(error):
        ask(base, timeout=2)
    assert names(base) == before
    assert sorted(os.listdir(base.parent)) == ["base"]


@pytest.mark.parametrize(
    "changed", ["{'/etc': True}", "'/d'", "['/d']", "{'/d': 1}", "{'/d': True, '/e': False}", "None"]
)
def test_changes_of_what_is_no_overlay_are_a_crash_of_that_run(
    liar: Callable[..., None], base: Path, changed: str
) -> None:
    liar("answer({}, sizes=[])", changed)
    with pytest.raises(vfswasi.GuestCrashError, match="it sent changes of something else"):
        ask(base)


def test_what_a_worker_writes_later_is_not_looked_at(liar: Callable[..., None], base: Path) -> None:
    right = saved([directory("new")])
    liar(
        f"fd = os.dup(_[0]); os.pwrite(fd, {right!r}, 0); answer({{}}, sizes=[])\n"
        "while True: os.ftruncate(fd, 0); os.pwrite(fd, os.urandom(4096), 0)"
    )
    for _ in range(3):
        try:
            result = ask(base)
        except vfswasi.GuestCrashError:
            continue  # it was quicker
        assert str(result.changes["/d"]) == "A new/"


def test_a_conflict_cannot_be_talked_away(liar: Callable[..., None], base: Path) -> None:
    """What the worker says was there is not what is there."""
    was = {"type": "file", "size": 9, "mtim_ns": 1}
    liar(wrote(saved([{"kind": "removed", "path": "a", "type": "file", "size": 0, "was": was}])))
    with pytest.raises(vfswasi.UncommittedError, match="/d"):
        ask(base)
    assert names(base)["a"] == "untouched"


def test_changes_have_no_code_in_them(base: Path) -> None:
    """What travels is the format of saved changes, in both directions."""
    result = vfswasi.run(WRITES, preopens={"/d": Mount(base, overlay=True)}, isolation="process")
    assert type(result.changes["/d"]) is Changes
    assert result.changes["/d"].base is not None
    assert result.changes["/d"].base.source.source == str(base)
