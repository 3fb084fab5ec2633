"""`--clock`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from vfswasi.cli.arguments.noted.clocks import clock

from ..guest_programs import compile_guest
from ..host.test_clocks import NOON, REACTOR, VIRTUAL, T
from .running import refused, vfswasi


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "reactor.wat").write_bytes(REACTOR)
    return tmp_path


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_program_runs_by_a_virtual_clock(place: Path, isolation: str) -> None:
    module = compile_guest("clocks")
    options = (f"--clock=virtual:{NOON}", f"--isolation={isolation}", "--mount=/d=mem:,rw", "--stdin=/dev/null")
    done = vfswasi("run", *options, module, cwd=place)
    lines = done.stdout.splitlines()
    assert lines[:4] == VIRTUAL.splitlines()[:4]
    # Nothing is to be waited for in an empty file: it is ready.
    assert lines[4:6] == ["ready 1", f"polled {T + 3600}.000000005 {T + 3600}.000000005"]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("fixed:0", 0),
        ("fixed:1769860800", T * 10**9),
        ("fixed:1769860800.000000001", T * 10**9 + 1),
        ("fixed:9223372036.854775807", 2**63 - 1),
        (f"fixed:{NOON}", T * 10**9),
        ("fixed:2026-01-31 13:00+01:00", T * 10**9),
        ("virtual:2026-01-31", (T - 43200) * 10**9),
        ("stepped:5,1ms", 5 * 10**9),
        ("stepped:2026-01-31T12:00:00,25Z,0.5", T * 10**9 + 250_000_000),
    ],
)
def test_a_time_is_iso_8601_or_seconds(text: str, ns: int) -> None:
    assert clock(text).start_ns == ns


def test_a_function_that_is_called_has_the_clock_too(place: Path) -> None:
    done = vfswasi("run", "--clock", f"stepped:{NOON},1ms", "--invoke", "now", "reactor.wat", "0", cwd=place)
    assert done.stdout == f"{T * 10**9}\n"


def test_a_step_is_a_time_as_others_are_written() -> None:
    assert clock("stepped:1,1ms").step_ns == 10**6
    assert clock("stepped:1,2m").step_ns == 120 * 10**9
    assert clock("stepped:1,0.000000001").step_ns == 1
    assert clock("system").kind == "system"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "write system, fixed:TIME, stepped:TIME,STEP or virtual:TIME, where TIME is"),
        ("now", "write system, fixed:TIME, stepped:TIME,STEP or virtual:TIME, where TIME is"),
        ("system:5", "write system, fixed:TIME"),
        ("fixed", "write fixed:TIME, where TIME is 2026-01-31T12:00:00Z, or seconds since 1970"),
        ("fixed:", "write fixed:TIME, where TIME is"),
        ("fixed:noon", "write fixed:TIME, where TIME is"),
        ("fixed:-1", "write fixed:TIME, where TIME is"),
        ("fixed:nan", "write fixed:TIME, where TIME is"),
        ("fixed:1e3", "write fixed:TIME, where TIME is"),
        ("fixed:\u0661", "write fixed:TIME, where TIME is"),
        ("virtual:9223372037", "lies before 2262"),
        ("virtual:9223372036.9", "lies before 2262"),
        ("virtual:" + "9" * 5000, "lies before 2262"),
        ("stepped:5", "write stepped:TIME,STEP, where TIME is"),
        ("stepped:5,", "STEP is seconds, or 1ms, 5s, 2m"),
        ("stepped:5,x", "STEP is seconds, or 1ms, 5s, 2m"),
        ("stepped:5,-1", "STEP is seconds, or 1ms, 5s, 2m"),
        ("stepped:5,inf", "STEP is seconds, or 1ms, 5s, 2m"),
        ("stepped:,1", "write stepped:TIME,STEP"),
    ],
    ids=lambda value: value[:30].encode("ascii", "backslashreplace").decode(),
)
def test_who_gives_no_clock_is_told_what_to_write(text: str, what: str) -> None:
    with pytest.raises(ArgumentTypeError) as raised:
        clock(text)
    said = str(raised.value)
    assert what in said
    assert "\n" not in said
    assert len(said) < 300


@pytest.mark.parametrize("text", ["noon", "fixed:noon", "stepped:5"])
def test_the_command_says_so_in_one_line(place: Path, text: str) -> None:
    said = refused("run", f"--clock={text}", "reactor.wat", cwd=place)
    assert f"argument --clock: {text!r} is no clock; write " in said
