"""Files that `vfswasi run` writes about a run: one that cannot be written costs nothing else, and none is another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..guest_programs import compile_guest
from ..wat_programs import SAY, program
from .running import refused, vfswasi

FULL = "/dev/full"
OPTIONS = {"--trace=": "calls", "--accesses=": "looked.json", "--report=": "page.html", "--record=": "recording"}
ENDLESS = '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'
ADD = """(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32)
    (drop (call $yield)) (i32.add (local.get 0) (local.get 1))))"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "says.wat").write_bytes(program(SAY))
    (tmp_path / "exits.wat").write_bytes(program(SAY + "(call $exit (i32.const 7))"))
    (tmp_path / "traps.wat").write_bytes(program(SAY + "unreachable"))
    (tmp_path / "endless.wat").write_text(ENDLESS)
    (tmp_path / "add.wat").write_text(ADD)
    return tmp_path


@pytest.mark.parametrize(
    ("broken", "module"),
    [
        ("--trace=", "exits.wat"),
        ("--accesses=", "says.wat"),
        ("--report=", "traps.wat"),
        ("--record=", "traps.wat"),
        ("--record=", "exits.wat"),
    ],
)
def test_one_that_cannot_be_written_is_named_and_the_others_are_there(broken: str, module: str, place: Path) -> None:
    places = {**OPTIONS, broken: FULL}
    done = vfswasi("run", *map("".join, places.items()), module, cwd=place, status=125)
    assert done.stdout == "so fa"
    assert f"vfswasi: {FULL}: No space left on device\n" in done.stderr
    assert [each for each in OPTIONS.values() if (place / each).exists()] == [
        each for option, each in OPTIONS.items() if option != broken
    ]
    assert ("GuestTrapError" in done.stderr) == (module == "traps.wat")
    assert ("recorded in" in done.stderr) == (broken != "--record=")


@pytest.mark.parametrize("broken", ["--accesses=", "--record="])
def test_why_a_run_was_ended_is_told_too(broken: str, place: Path) -> None:
    done = vfswasi("run", "--timeout", "500ms", broken + FULL, "endless.wat", cwd=place, status=125)
    assert done.stderr.splitlines() == [
        f"vfswasi: {FULL}: No space left on device",
        "vfswasi: endless.wat was still running after 0.5 seconds",
    ]


def test_what_was_refused_is_told_too(place: Path) -> None:
    (place / "data").mkdir()
    words = ("--mount", "/data=data", "--record", FULL, compile_guest("refused"), "write", "/data/new")
    done = vfswasi("run", *words, cwd=place, status=125)
    assert "/data is mounted read-only" in done.stderr.splitlines()[-1]


def test_what_a_function_returns_is_printed_though_its_calls_cannot_be(place: Path) -> None:
    done = vfswasi("run", "--invoke", "add", f"--trace={FULL}", "add.wat", "1", "2", cwd=place, status=125)
    assert (done.stdout, done.stderr) == ("3\n", f"vfswasi: {FULL}: No space left on device\n")


@pytest.mark.parametrize("option", OPTIONS)
def test_a_place_that_is_none_is_told_before_anything_is_emptied(option: str, place: Path) -> None:
    (place / "out").write_text("old")
    for where, told in (
        (".", "that is a directory"),
        ("no/file", "there is no such directory"),
        ("", "name of a file"),
    ):
        line = refused("run", "--stdout", "out", option + where, "says.wat", cwd=place)
        assert line.startswith(f"vfswasi: {option[:-1]}")
        assert told in line
    assert (place / "out").read_text() == "old"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("--stdout=", "--trace="),
        ("--stderr=", "--accesses="),
        ("--trace=", "--report="),
        ("--accesses=", "--record="),
        ("--accesses=", "--report="),
    ],
)
def test_two_options_do_not_write_to_one_file(first: str, second: str, place: Path) -> None:
    (place / "link").symlink_to("one")
    line = refused("run", f"{first}one", f"{second}link", "says.wat", cwd=place)
    assert first[:-1] in line
    assert second[:-1] in line
    assert not (place / "one").exists()


def test_a_device_may_be_given_to_several(place: Path) -> None:
    vfswasi("run", "--stdout=/dev/null", "--trace=/dev/null", "--accesses=/dev/null", "says.wat", cwd=place)
