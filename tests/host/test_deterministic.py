"""`deterministic=True`, on every way to run: what a guest sees is the same each time, wherever its streams lead."""

from __future__ import annotations

import asyncio
import os
import pty
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import PIPE, Clock, MemoryBackend, Mount, Sandbox

from ..sessions.conftest import CREAT, GUEST, open_file, rename, write

TREE = {"b": "two", "a": "one", "given": "given", "d": {"e": "deep"}}
ARGUMENTS = ["-w", "/d", "-s"]


@pytest.fixture(scope="module")
def everything() -> Path:
    from ..guest_programs import compile_guest

    return compile_guest("everything")


def lines(text: str, *starts: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(starts)]


def outputs(wasm: Path, isolation: Any) -> dict[str, str]:
    """Of each way to run the same."""
    found = {}
    options: dict[str, Any] = {"text": True, "input": "said", "capture_output": True}
    preopens = {"/d": TREE}
    first = vfswasi.run(wasm, ARGUMENTS, preopens=preopens, deterministic=True, isolation=isolation, **options)
    found["run"] = first.stdout
    with Sandbox(wasm, preopens=preopens, deterministic=True, isolation=isolation) as sandbox:
        found["a sandbox"] = sandbox.run(ARGUMENTS, **options).stdout
        found["its second run"] = sandbox.run(ARGUMENTS, **options).stdout
        with sandbox.start(ARGUMENTS, text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE) as run:
            found["started"] = run.communicate("said")[0] or ""
        found["awaited"] = asyncio.run(sandbox.run_async(ARGUMENTS, **options)).stdout
        assert sandbox.run(ARGUMENTS, deterministic=False, **options).stdout != found["run"]
    with Sandbox(wasm, preopens=preopens, isolation=isolation) as sandbox:
        found["one run of an ordinary sandbox"] = sandbox.run(ARGUMENTS, deterministic=True, **options).stdout
        assert sandbox.run(ARGUMENTS, **options).stdout != found["run"]
        own = sandbox.run(ARGUMENTS, deterministic=True, preopens=dict(preopens), **options)
        found["with preopens of its own"] = own.stdout
    return found


def test_every_way_to_run_gives_the_same(everything: Path) -> None:
    here, there = outputs(everything, None), outputs(everything, "process")
    assert "rename: done" in here["run"]
    for name, text in [*here.items(), *there.items()]:
        assert text == here["run"], name


def test_a_clock_and_a_seed_may_be_given_as_well(everything: Path) -> None:
    options: dict[str, Any] = {"capture_output": True, "text": True, "deterministic": True, "preopens": {"/d": TREE}}
    plain = vfswasi.run(everything, **options).stdout
    seeded = vfswasi.run(everything, seed=1, **options).stdout
    assert lines(seeded, "random") != lines(plain, "random")
    assert lines(seeded, "clock", "/d") == lines(plain, "clock", "/d")
    early = vfswasi.run(everything, clock=Clock.fixed(5), **options).stdout
    assert lines(early, "random") == lines(plain, "random")
    assert "clock 0 at first: 0 5000000000" in early
    assert "/d/a: dev 1" in early
    assert "mtim 5000000000 ctim 5000000000" in lines(early, "/d/a: dev")[0]
    assert "mtim 315532800000000000 ctim" in lines(plain, "/d/a: dev")[0]


def test_a_mount_shows_its_own_times_if_it_is_told_to(everything: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    os.utime(tmp_path / "f", ns=(1_000, 2_000))
    mounts = {"/d": Mount(tmp_path, times="keep"), "/e": tmp_path}
    out = vfswasi.run(everything, preopens=mounts, deterministic=True, capture_output=True, text=True).stdout
    assert "mtim 2000 " in lines(out, "/d/f: dev")[0]
    assert "mtim 315532800000000000 " in lines(out, "/e/f: dev")[0]


@pytest.mark.parametrize("isolation", [None, "process"])
def test_it_does_not_show_whether_streams_are_terminals_files_or_pipes(
    everything: Path, tmp_path: Path, isolation: Any
) -> None:
    told = {}
    with Sandbox(everything, deterministic=True, isolation=isolation) as sandbox:
        told["captured"] = sandbox.run(input=b"", capture_output=True).stdout.decode()
        with (tmp_path / "out").open("wb+") as out, (tmp_path / "in").open("wb+") as empty:
            sandbox.run(stdin=empty, stdout=out, stderr=out)
            out.seek(0)
            told["files"] = out.read().decode()
        ours, theirs = pty.openpty()
        read: list[bytes] = []
        reader = threading.Thread(target=_drain, args=(ours, read))
        reader.start()
        sandbox.run(stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        reader.join()
        os.close(ours)
        told["a terminal"] = b"".join(read).decode().replace("\r\n", "\n")
        told["a callable"] = ""
        gathered: list[bytes] = []
        if isolation is None:
            sandbox.run(stdout=gathered.append, stderr=gathered.append)
            told["a callable"] = b"".join(gathered).decode()
    assert "fd 0: type 0" in told["captured"]
    assert {text for text in told.values() if text} == {told["captured"]}


def _drain(fd: int, into: list[bytes]) -> None:
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # the other end is closed
            return
        if not piece:
            return
        into.append(piece)


def test_without_it_a_program_finds_its_terminal(everything: Path) -> None:
    ours, theirs = pty.openpty()
    read: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(ours, read))
    reader.start()
    vfswasi.run(everything, stdout=theirs)
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert b"fd 1: type 2" in b"".join(read)


def test_two_mounts_of_one_store_are_one_device_whose_files_have_the_same_numbers(everything: Path) -> None:
    store = MemoryBackend(TREE)
    mounts = {"/d": Mount(store, rw=True), "/e": Mount(store, rw=False, overlap=True)}
    out = vfswasi.run(everything, ["-w", "/d"], preopens=mounts, deterministic=True, capture_output=True, text=True)
    seen: dict[str, dict[str, str]] = {"/d": {}, "/e": {}}
    for line in out.stdout.splitlines():
        name, _, rest = line.partition(": dev ")
        if name[:2] in seen and rest:
            seen[name[:2]][name[2:]] = rest.split(" type")[0]
    assert seen["/d"] == seen["/e"]
    assert len(seen["/d"]) > 8


def test_the_stores_themselves_are_changed_as_ever(everything: Path, tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).mkdir() if name == "d" else (tmp_path / name).write_text("x")
    out = vfswasi.run(
        everything,
        ["-w", "/d"],
        preopens={"/d": Mount(tmp_path, rw=True)},
        deterministic=True,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0
    assert (tmp_path / "second").read_text() == "deep"
    assert os.readlink(tmp_path / "to") == "second"
    assert {"second", "to"} <= {change.path.rpartition("/")[2] for change in out.changes["/d"]}


LOOKING = (
    GUEST.replace(
        b"(memory (export",
        b"""(import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export""",
        1,
    ).rstrip()[:-1]
    + b"""(func (export "stat") (param i32) (result i32)
        (call $stat (i32.const 3) (i32.const 0) (i32.const 1024) (local.get 0) (i32.const 4096)))
    (func (export "nan") (result i64) (i64.store (i32.const 16) (i64.const 0x7ff4000000000123))
        (i64.reinterpret_f64 (f64.add (f64.load (i32.const 16)) (f64.const 1)))))"""
)


def look(session: vfswasi.Session) -> list[Any]:
    """What a guest sees that changes a few things first: numbers and times of files, random bytes, a NaN."""
    rename(session, "moved", "d/again")
    open_file(session, "moved", CREAT)
    open_file(session, "a", CREAT)
    seen: list[Any] = [
        session.call("nan"),
        session.call("random", 16),
        session.memory.read(1024, 16),
        session.call("cpu"),
    ]
    for name in ("moved", "a", "b", "d", "d/again", "open", "."):
        session.memory.write(1024, name.encode())
        seen.append((name, session.call("stat", len(name)), session.memory.read(4096, 64)))
    return seen


def test_sessions_forks_and_snapshots_are_deterministic_too() -> None:
    seen = []
    for own in (True, False):
        with (
            Sandbox(LOOKING, preopens={"/w": TREE}, deterministic=own) as sandbox,
            sandbox.session(deterministic=True) as session,
        ):
            rename(session, "a", "moved")
            write(session, open_file(session, "open", CREAT), b"written")
            with session.fork() as fork, session.snapshot() as snapshot, fork.fork() as second:
                seen += [look(fork), look(second), look(session)]
                with snapshot.session() as other:
                    seen.append(look(other))
    assert all(each == seen[0] for each in seen)
    assert seen[0][0] == 0x7FF8_0000_0000_0000
    assert len({each[2][8:16] for each in seen[0][4:]}) == 7
    with Sandbox(LOOKING, preopens={"/w": TREE}) as sandbox, sandbox.session() as session:
        assert session.call("nan") != 0x7FF8_0000_0000_0000


def test_a_terminal_is_not_seen_by_sessions_either(everything: Path) -> None:
    ours, theirs = pty.openpty()
    reader = threading.Thread(target=_drain, args=(ours, read := []))
    reader.start()
    with (
        Sandbox(everything, deterministic=True) as sandbox,
        sandbox.session(command=True, stdout=theirs, stdin=theirs) as session,
        session.fork() as fork,
        session.snapshot() as snapshot,
        snapshot.session(stdout=theirs) as other,
    ):
        for each in (session, fork, other):
            each.call("_start")
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert b"".join(read).count(b"fd 1: type 0") == 3


@pytest.mark.parametrize("value", [1, "yes", None.__class__])
def test_it_is_true_or_false(everything: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="deterministic must be True or False"):
        vfswasi.run(everything, deterministic=value)
    with Sandbox(everything) as sandbox:
        calls: list[Callable[[], Any]] = [
            lambda: sandbox.run(deterministic=value),
            lambda: sandbox.start(deterministic=value),
            lambda: asyncio.run(sandbox.run_async(deterministic=value)),
            lambda: sandbox.session(deterministic=value),
        ]
        for call in calls:
            with pytest.raises(TypeError, match="deterministic must be True or False"):
                call()
