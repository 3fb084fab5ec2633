"""A recorded run gives the same bytes when it is replayed, whatever has become of what it read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Clock, GuestInterruptedError, GuestTimeoutError, GuestTrapError, Limits, Mount, Record, Recording

from ...guest_programs import compile_guest
from .made import check_same, fill, program, recorded, replayed, told, tree

LOOKING = (
    "ls /d\nstat /d/a\nstat /d/l\nstat /d/none\ncat /d/big 70000 100\ncat /d/sub/x\nls /d/sub/deep\ncat /d/ld/x 3\n"
)


def _zip(directory: Path) -> str:
    path = directory.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(directory.rglob("*")):
            if file.is_file() and not file.is_symlink():
                archive.write(file, file.relative_to(directory))
    return str(path)


def _tar(directory: Path) -> str:
    path = directory.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(directory, ".")
    return str(path)


STORES: dict[str, Callable[[Path], Any]] = {
    "local": lambda directory: directory,
    "local-rw": lambda directory: Mount(directory, rw=True),
    "local-overlay": lambda directory: Mount(directory, overlay=True),
    "zip": _zip,
    "zip-overlay": lambda directory: Mount(_zip(directory), overlay=True),
    "zip-rw": lambda directory: Mount(_zip(directory), rw=True),
    "tar": _tar,
    "tar-overlay": lambda directory: Mount(_tar(directory), overlay=True),
    "memory": lambda _: tree(),
    "memory-ro": lambda _: Mount(tree(), rw=False),
    "memory-overlay": lambda _: Mount(tree(), overlay=True),
    "memory-backend": lambda _: vfswasi.MemoryBackend(tree()),
}


@pytest.mark.parametrize("store", STORES)
def test_it_is_the_same_when_the_store_has_gone(store: str, tmp_path: Path) -> None:
    directory = fill(tmp_path / "d")
    result = recorded(LOOKING, tmp_path / "r", {"/d": STORES[store](directory)})
    assert result.stdout is not None
    assert b"cat /d/sub/x: 50000 bytes" in result.stdout
    assert b"/d/none: No such file" in result.stdout
    shutil.rmtree(directory)
    for made in tmp_path.glob("d.*"):
        made.unlink()
    check_same(result, replayed(tmp_path / "r"))


@pytest.mark.parametrize("store", ["local", "local-rw", "local-overlay", "zip-overlay", "zip-rw", "tar", "memory"])
def test_random_programs_are_the_same(store: str, tmp_path: Path) -> None:
    for seed in range(12):
        directory = fill(tmp_path / f"{seed}")
        if store == "local-rw":  # of a file with several names an overlay tells more than a store that is changed
            (directory / "hard").unlink()
        result = recorded(program(seed), tmp_path / "r", {"/d": STORES[store](directory)})
        changes = told(result)
        shutil.rmtree(directory)
        check_same(result, replayed(tmp_path / "r"), changes)


def test_nothing_is_changed_by_a_replay(tmp_path: Path) -> None:
    directory = fill(tmp_path / "d")
    result = recorded("write /d/a new\nrm /d/sub/x\nnew /d/n n\n", tmp_path / "r", {"/d": Mount(directory, rw=True)})
    changes = told(result)
    assert changes == ["M a", "A n", "D sub/x"]
    shutil.rmtree(directory)
    fill(directory)
    before = sorted(directory.rglob("*"))
    check_same(result, replayed(tmp_path / "r"), changes)
    assert sorted(directory.rglob("*")) == before
    assert (directory / "a").stat().st_size == 100


def test_what_a_store_refused_is_refused_again(tmp_path: Path) -> None:
    """An overlay, which stands in for a store that is changed in place, would have done it."""
    directory = fill(tmp_path / "d")
    archive = Mount(_zip(directory), rw=True)
    result = recorded("ln /d/a /d/b\nsymlink a /d/c\nwrite /d/a x\nls /d\n", tmp_path / "r", {"/d": archive})
    check_same(result, replayed(tmp_path / "r"))


def test_a_single_file_that_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("contents")
    result = recorded(
        "ls /d\ncat /d/f\nappend /d/f more\ncat /d/f\n",
        tmp_path / "r",
        {"/d/f": Mount(tmp_path / "f", rw=True, file=True)},
    )
    (tmp_path / "f").unlink()
    check_same(result, replayed(tmp_path / "r"))
    assert not (tmp_path / "f").exists()


def test_devices(tmp_path: Path) -> None:
    text = "cat /dev/urandom 0 100\ncat /dev/zero 0 10\ncat /dev/null\nwrite /dev/stdout shown\nls /dev\n"
    result = recorded(text, tmp_path / "r", {"/dev": "dev:"})
    check_same(result, replayed(tmp_path / "r"))


def test_clock_seed_environment_and_arguments_are_in_the_file(tmp_path: Path) -> None:
    text = "random\nclock 3\nsleep 1000\nclock 1\nenv NAME\nnew /t/f x\nstat /t/f\n"
    for number in range(2):
        result = recorded(text, tmp_path / f"{number}", {"/t": {}}, env={"NAME": "värde=1"})
        check_same(result, replayed(tmp_path / f"{number}"))
    with Recording.load(tmp_path / "0") as first, Recording.load(tmp_path / "1") as second:
        assert first.seed != second.seed
        assert first.env == {"NAME": "värde=1"}
        assert first.clock is not None
        assert first.clock.kind == "virtual"
        assert first.deterministic
    result = recorded(text, tmp_path / "r", {"/t": {}}, seed=5, clock=Clock.stepped("2001-02-03", 1))
    check_same(result, replayed(tmp_path / "r"))
    with Recording.load(tmp_path / "r") as own:
        assert (own.seed, own.clock) == (5, Clock.stepped("2001-02-03", 1))


def test_deterministic_says_otherwise(tmp_path: Path) -> None:
    recorded("random\n", tmp_path / "r", deterministic=True)
    with Recording.load(tmp_path / "r") as made:
        assert (made.seed, made.clock) == (0, Clock.virtual("2000-01-01T12:00:00Z"))


def test_standard_input_in_the_pieces_in_which_it_came(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with vfswasi.Sandbox(compile_guest("explore")) as sandbox:
        run = sandbox.start(stdin=reading, stdout=vfswasi.PIPE, record=tmp_path / "r")
        assert run.stdout is not None
        os.write(writing, b"env A\nenv")
        first = run.stdout.readline()
        os.write(writing, b" B\n")
        os.close(writing)
        result = run.result()
    os.close(reading)
    assert result.stdout is not None
    again = replayed(tmp_path / "r")
    assert again.same, again.difference
    assert again.result is not None
    assert again.result.stdout == first + result.stdout


def test_errors_joined_to_the_output(tmp_path: Path) -> None:
    result = recorded("trap\n", tmp_path / "r", capture_output=False, stdout=vfswasi.PIPE, stderr=vfswasi.STDOUT)
    assert result.trap is not None
    again = vfswasi.replay(tmp_path / "r", stdout=vfswasi.PIPE, stderr=vfswasi.STDOUT)
    check_same(result, again)


def test_an_output_that_nobody_reads_any_more(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = recorded("env A\nenv B\n", tmp_path / "r", capture_output=False, stdout=writing)
    os.close(writing)
    again = replayed(tmp_path / "r")
    assert again.same, again.difference
    assert again.result is not None
    assert again.result.returncode == result.returncode


def test_output_beyond_what_is_captured(tmp_path: Path) -> None:
    result = recorded("env A\n" * 50, tmp_path / "r", limits=Limits(output_bytes=100))
    assert result.truncated
    check_same(result, replayed(tmp_path / "r"))


@pytest.mark.parametrize(("text", "status"), [("exit 7\n", 7), ("trap\n", -6)])
def test_runs_that_fail(text: str, status: int, tmp_path: Path) -> None:
    result = recorded("env A\n" + text, tmp_path / "r")
    assert result.returncode == status
    check_same(result, replayed(tmp_path / "r"))
    with pytest.raises((GuestTrapError, vfswasi.GuestExitError)):
        recorded(text, tmp_path / "checked", check=True)
    check_same(recorded(text, tmp_path / "checked"), replayed(tmp_path / "checked"))


@pytest.mark.parametrize("text", ["env A\nspin\n", "env A\nclock 3\nspin\n"])
def test_runs_whose_time_was_over(text: str, tmp_path: Path) -> None:
    with pytest.raises(GuestTimeoutError) as caught:
        recorded(text, tmp_path / "r", timeout=0.5)
    again = replayed(tmp_path / "r")
    assert again.same, again.difference
    assert again.result is not None
    assert again.result.stdout == caught.value.result.stdout
    with Recording.load(tmp_path / "r") as made:
        assert made.ending.limit == "wall_seconds"


def test_runs_that_were_killed(tmp_path: Path) -> None:
    with vfswasi.Sandbox(compile_guest("explore")) as sandbox:
        run = sandbox.start(stdin=vfswasi.PIPE, stdout=vfswasi.PIPE, record=tmp_path / "r")
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(b"env A\n")
        run.stdin.flush()
        first = run.stdout.readline()
        timer = threading.Timer(0.2, run.kill)
        timer.start()
        run.wait(30)
        with pytest.raises(GuestInterruptedError):
            run.result()
        timer.join()
    again = replayed(tmp_path / "r")
    assert again.same, again.difference
    assert again.result is not None
    assert again.result.stdout == first


def test_fuel_that_was_used_up(tmp_path: Path) -> None:
    with pytest.raises(vfswasi.GuestFuelError):
        recorded("env A\nspin\n", tmp_path / "r", limits=Limits(fuel=3_000_000))
    assert replayed(tmp_path / "r").same


def test_the_module_may_be_left_out(tmp_path: Path) -> None:
    result = recorded("env A\n", tmp_path / "r", record=Record(tmp_path / "r", module=False))
    assert (tmp_path / "r").stat().st_size < 4000
    with pytest.raises(ValueError, match="without its module"):
        replayed(tmp_path / "r")
    check_same(result, replayed(tmp_path / "r", module=compile_guest("explore")))
    with pytest.raises(vfswasi.InvalidModuleError, match="is not the module of the recorded run"):
        replayed(tmp_path / "r", module=compile_guest("hello"))


def test_more_than_may_be_kept_harms_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = fill(tmp_path / "d")
    result = recorded(
        "stat /d/a\ncat /d/big\n", tmp_path / "r", {"/d": directory}, record=Record(tmp_path / "r", max_bytes=500_000)
    )
    assert result.stdout is not None
    assert b"cat /d/big: 1200000 bytes" in result.stdout
    assert "the recording is not whole: more than 500,000 bytes were to be kept" in caplog.text
    again = replayed(tmp_path / "r")
    assert not again.same
    assert "not all of it, more than 500,000 bytes were to be kept" in str(again.difference)
    assert "which the recorded run did not" not in str(again.difference)


def test_a_store_that_is_mounted_twice_and_changed_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = vfswasi.MemoryBackend(tree())
    for mounts, warned in (
        ({"/d": store, "/e": store}, True),
        ({"/d": Mount(store, overlap=True), "/e": Mount(store, rw=False, overlap=True)}, True),
        ({"/d": Mount(store, rw=False), "/e": Mount(store, rw=False)}, False),
        ({"/d": Mount(store, overlay=True), "/e": Mount(store, overlay=True)}, False),
        ({"/d": store, "/e": vfswasi.MemoryBackend(tree())}, False),
    ):
        caplog.clear()
        recorded("cat /e/sub/x\n", tmp_path / "r", preopens=mounts)
        told = "/d and /e show one store, which is replayed as two; a replay may differ"
        assert (told in caplog.messages) is warned


def test_a_file_that_others_change_between_two_opens(tmp_path: Path) -> None:
    """Each open has what it had."""
    directory = fill(tmp_path / "d")
    with vfswasi.Sandbox(compile_guest("explore"), preopens={"/d": directory}) as sandbox:
        run = sandbox.start(stdin=vfswasi.PIPE, stdout=vfswasi.PIPE, record=tmp_path / "r")
        assert run.stdin is not None
        assert run.stdout is not None
        lines = []
        for change in (lambda: None, lambda: (directory / "a").write_text("other"), (directory / "a").unlink):
            change()
            run.stdin.write(b"cat /d/a\nls /d/sub\nstat /d/a\n")
            run.stdin.flush()
            lines += [run.stdout.readline() for _ in range(6)]
        run.stdin.close()
        rest = run.result().stdout
    assert rest is not None
    again = replayed(tmp_path / "r")
    assert again.same, again.difference
    assert again.result is not None
    assert again.result.stdout == b"".join(lines) + rest
    assert len(set(lines[::6])) == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"isolation": "process"}, "cannot be recorded"),
        ({"imports": {"env": {"f": lambda memory: None}}}, "imports= cannot be recorded"),
        ({"clock": Clock.system()}, "cannot have the system's clock"),
        ({"clock": Clock.system(), "deterministic": True}, "cannot have the system's clock"),
    ],
    ids=["isolation", "imports", "clock", "deterministic-clock"],
)
def test_what_cannot_be_recorded_is_refused(options: dict[str, Any], error: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=error):
        recorded("", tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "error"),
    [(5, TypeError), (Path("/nowhere/r"), FileNotFoundError), (Path("/"), IsADirectoryError)],
    ids=["number", "no directory", "a directory"],
)
def test_where_nothing_can_be_written_nothing_is_run(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        recorded("", Path("r"), record=given)


def test_a_session_is_not_recorded(tmp_path: Path) -> None:
    with vfswasi.Sandbox(compile_guest("explore")) as sandbox, pytest.raises(ValueError, match="only runs"):
        sandbox.session(command=True, record=tmp_path / "r")


def test_errnos_that_a_caller_put_in_are_there_again(tmp_path: Path) -> None:
    def trace(call: vfswasi.Call) -> str | None:
        return "NOSPC" if call.name == "path_create_directory" else None

    result = recorded("mkdir /t/d\n", tmp_path / "r", {"/t": {}}, trace=trace)
    assert result.stdout == b"mkdir /t/d: No space left on device\n"
    check_same(result, replayed(tmp_path / "r"))


def test_a_replay_can_be_traced(tmp_path: Path) -> None:
    recorded("cat /d/a\n", tmp_path / "r", {"/d": {"a": b"contents"}})
    again = replayed(tmp_path / "r", trace=True)
    assert again.same
    assert again.result is not None
    assert again.result.trace is not None
    assert any(call.path == "/d/a" for call in again.result.trace)


def test_the_older_snapshot_of_wasi(tmp_path: Path) -> None:
    wat = b"""(module
      (import "wasi_unstable" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_unstable" "random_get" (func $random (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\10\\00\\00\\00")
      (func (export "_start")
        (drop (call $random (i32.const 16) (i32.const 16)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
    result = vfswasi.run(wat, capture_output=True, record=tmp_path / "r")
    assert result.stdout is not None
    assert len(result.stdout) == 16
    check_same(result, replayed(tmp_path / "r"))


def test_it_says_where_it_differs(tmp_path: Path) -> None:
    """Recorded with a module that is swapped for another one whose digest the manifest has been given."""
    from .tampered import with_module

    recorded("cat /d/a\nexit 3\n", tmp_path / "r", {"/d": {"a": b"contents"}})
    with_module(tmp_path / "r", compile_guest("hello").read_bytes())
    again = replayed(tmp_path / "r")
    assert not again.same
    assert again.difference is not None
    assert again.difference.kind == "call"
    assert again.difference.call is not None


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import vfswasi, sys; print([name for name in sys.modules if 'recording' in name or 'replaying' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
