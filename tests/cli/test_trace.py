"""`--trace` and `--stats`: where the calls are printed, in which form, and what happens when they cannot be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..guest_programs import compile_guest
from ..wat_programs import SAY, program
from .running import environment, refused, vfswasi

LINE = re.compile(r"[a-z_]+\(.*\) = .* <\d+\.\d{6}>")
ENDLESS = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00") (data (i32.const 16) "x")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop br 0)))"""
YIELDS = """(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1) (func (export "f") (result i32) (call $yield)) (func (export "trap") unreachable))"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "says.wat").write_bytes(program(SAY))
    (tmp_path / "traps.wat").write_bytes(program(SAY + "unreachable"))
    (tmp_path / "exits.wat").write_bytes(program(SAY + "(call $exit (i32.const 7))"))
    (tmp_path / "endless.wat").write_text(ENDLESS)
    (tmp_path / "yields.wat").write_text(YIELDS)
    return tmp_path


def test_calls_are_printed_on_standard_error_as_they_happen(place: Path) -> None:
    done = vfswasi("--trace", "says.wat", cwd=place)
    assert done.stdout == "so fa"
    # What the program writes to standard error stands between the calls.
    lines = done.stderr.replace("so fafd", "so fa\nfd").splitlines()
    assert [line.partition(",")[0] for line in lines] == ["fd_write(1<stdout>", "so fa", "fd_write(2<stderr>"]
    assert all(LINE.fullmatch(line) for line in (lines[0], lines[2]))


@pytest.mark.parametrize("words", [["--trace"], ["run", "--trace"], ["--stats", "--trace"], ["--trace", "--stats"]])
def test_without_a_value_it_takes_no_word(words: list[str], place: Path) -> None:
    done = vfswasi(*words, "says.wat", "an argument", cwd=place)
    assert done.stdout == "so fa"
    assert "fd_write(1<stdout>" in done.stderr
    assert not (place / "says.wat").read_bytes().startswith(b"fd_write")


@pytest.mark.parametrize("where", ["calls.txt", "json", "json:calls"])
def test_a_value_that_does_not_stand_behind_its_sign_is_told_of(where: str, place: Path) -> None:
    told = f"--trace {where!r}: where the trace goes stands behind a =, --trace={where}"
    assert told in refused("--trace", where, "says.wat", cwd=place)
    assert "No such file" in refused("--trace", "calls.txt", "says", cwd=place)


def test_the_last_one_given_counts(place: Path) -> None:
    assert "fd_write" not in vfswasi("--trace", "--trace=calls", "says.wat", cwd=place).stderr
    assert "fd_write" in (place / "calls").read_text()
    assert "fd_write" in vfswasi("--trace=calls", "--trace", "says.wat", cwd=place).stderr


def test_a_file_gets_them_and_is_emptied_first(place: Path) -> None:
    (place / "calls").write_text("old\n" * 1000)
    done = vfswasi("--trace=calls", "says.wat", cwd=place)
    assert (done.stdout, done.stderr) == ("so fa", "so fa")
    lines = (place / "calls").read_text().splitlines()
    assert len(lines) == 2
    assert all(LINE.fullmatch(line) for line in lines)


def test_objects_of_json_on_standard_error_or_in_a_file(place: Path) -> None:
    done = vfswasi("--trace=json", "--stderr", "elsewhere", "says.wat", cwd=place)
    vfswasi("--trace=json:calls", "says.wat", cwd=place)
    for text in (done.stderr, (place / "calls").read_text()):
        calls = [json.loads(line) for line in text.splitlines()]
        assert [(call["name"], call["errno"], call["results"]) for call in calls] == [
            ("fd_write", "SUCCESS", {"nwritten": 5})
        ] * 2
    vfswasi("--trace=./json", "says.wat", cwd=place)
    assert LINE.match((place / "json").read_text())


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("--trace=", "--trace= needs the name of a file"),
        ("--trace=-", "--trace= needs the name of a file"),
        ("--trace=json:", "--trace= needs the name of a file"),
        ("--trace=xml:calls", "there is no form 'xml'"),
        ("--trace=nowhere/calls", "--trace 'nowhere/calls': there is no such directory"),
        ("--trace=.", "--trace '.': that is a directory"),
        ("--stats=yes", "--stats takes no value"),
        ("--traces", "did you mean --trace?"),
    ],
)
def test_what_it_cannot_be_is_said_in_one_line_and_nothing_runs(word: str, told: str, place: Path) -> None:
    assert told in refused(word, "says.wat", cwd=place)


@pytest.mark.parametrize("word", ["--trace", "--trace=json", "--trace=calls", "--stats"])
def test_a_program_in_a_process_of_its_own_cannot_be_traced(word: str, place: Path) -> None:
    assert "cannot be with --isolation=process" in refused(word, "--isolation=process", "says.wat", cwd=place)


def test_stats_are_a_table_and_what_was_used(place: Path) -> None:
    done = vfswasi("--stats", "says.wat", cwd=place)
    first, *rows, used = done.stderr.removeprefix("so fa").splitlines()
    assert first.split()[-4:] == ["calls", "errors", "bytes", "call"]
    assert [row.split()[-3:] for row in rows] == [["2", "10", "fd_write"], ["2", "10", "total"]]
    assert re.fullmatch(r"used: \d+\.\d{3} seconds, 65,536 bytes of memory, 3 descriptors", used)


def test_stats_come_behind_the_calls_and_with_what_was_moved(place: Path) -> None:
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Not here."""

    (place / "served").mkdir()
    (place / "served" / "given").write_text("content")
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(place / "served"))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = f"http://127.0.0.1:{server.server_address[1]}/"
        done = vfswasi(
            "--stats", "--trace", f"--mount=/w={source}", compile_guest("seqread"), "/w/given", "64",
            cwd=place, status=None,
        )  # fmt: skip
        server.shutdown()
    lines = done.stderr.splitlines()
    table = next(index for index, line in enumerate(lines) if line.startswith("% time"))
    assert any("path_open" in line for line in lines[:table])
    assert re.search(r"^/w: \d+ requests?, [\d,]+ bytes? received", done.stderr, re.MULTILINE)
    assert lines[-1].startswith("used: ") or lines[-2].startswith("used: ")


@pytest.mark.parametrize(("name", "status"), [("exits.wat", 7), ("traps.wat", 134)])
def test_failing_programs_are_told_of_too(name: str, status: int, place: Path) -> None:
    done = vfswasi("--trace=calls", "--stats", name, cwd=place, status=status)
    assert "fd_write(2<stderr>" in (place / "calls").read_text()
    assert " total\n" in done.stderr
    if status == 7:
        assert "proc_exit(7) = ? <" in (place / "calls").read_text()


def test_a_program_whose_time_is_over_too(place: Path) -> None:
    done = vfswasi("--trace", "--stats", "--timeout=0.5", "endless.wat", cwd=place, status=124)
    assert done.stderr.startswith("fd_write(1<stdout>")
    assert " total\n" in done.stderr
    assert "still running" in done.stderr.splitlines()[-1]


def test_and_one_that_is_interrupted(place: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "vfswasi", "--trace=calls", "--stats", "endless.wat"],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b" total\n" in err
    assert (place / "calls").read_text().startswith("fd_write(1<stdout>")


def test_a_function_that_is_invoked(place: Path) -> None:
    done = vfswasi("--trace", "--stats", "--invoke=f", "yields.wat", cwd=place)
    assert done.stdout == "0\n"
    assert done.stderr.startswith("sched_yield() = 0 <")
    assert " total\n" in done.stderr
    done = vfswasi("--stats", "--invoke=trap", "yields.wat", cwd=place, status=134)
    assert "vfswasi: GuestTrapError" in done.stderr


def test_a_disk_that_is_full_is_said_at_the_end_and_the_program_goes_on(place: Path) -> None:
    done = vfswasi("--trace=/dev/full", "--stats", "says.wat", cwd=place, status=125)
    assert done.stdout == "so fa"
    assert done.stderr.splitlines()[-1] == "vfswasi: /dev/full: No space left on device"
    assert " total\n" in done.stderr


@pytest.mark.parametrize("word", ["--trace", "--trace=json", "--stats"])
def test_a_reader_of_standard_error_that_goes_away_ends_nothing(word: str, place: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", word, "--stderr=elsewhere", "says.wat"],
            cwd=place,
            env=environment(place),
            stdout=subprocess.PIPE,
            stderr=write,
            timeout=60,
        )
    finally:
        os.close(write)
    assert done.stdout == b"so fa"
    assert done.returncode in (0, 141)
    assert (place / "elsewhere").read_bytes() == b"so fa"


def test_a_pipe_whose_reader_goes_away_is_said_at_the_end(place: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", f"--trace=/dev/fd/{write}", "says.wat"],
            cwd=place,
            env=environment(place),
            capture_output=True,
            pass_fds=[write],
            timeout=60,
        )
    finally:
        os.close(write)
    assert done.stdout == b"so fa"
    assert b"Traceback" not in done.stderr
    assert done.returncode in (125, 141)


def test_the_help_says_that_the_value_may_be_left_out() -> None:
    from vfswasi.cli.command import _command, _parser_of

    text = _parser_of("run", _command("run")).format_help()
    assert "[--trace[=FILE]]" in text
    assert "--trace[=FILE]" in text.partition("options:")[2]
