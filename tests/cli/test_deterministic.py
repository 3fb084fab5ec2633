"""`--deterministic`, and what `vfswasi compile` makes for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfswasi import cli
from vfswasi.engine.compiling import modules

from ..guest_programs import compile_guest
from ..wat_programs import program
from .running import vfswasi


def test_two_runs_print_the_same_and_so_does_a_directory_whose_files_are_younger(tmp_path: Path) -> None:
    everything = compile_guest("everything")
    said = []
    for day in (1, 2):
        data = tmp_path / str(day)
        data.mkdir()
        for name in ("b", "a", "c")[:: -1 if day == 2 else 1]:
            (data / name).write_text(name)
            os.utime(data / name, (day * 10**8, day * 10**8))
        mounts = ("--mount", f"/d={data}", "--mount", f"/o={data},overlay,overlap", "--tmp")
        done = vfswasi("run", "--deterministic", *mounts, everything, "-w", "/o", cwd=tmp_path)
        said.append(done.stdout)
        kept = vfswasi("run", "--deterministic", "--mount", f"/d={data},times=keep", everything, cwd=tmp_path)
        assert f"mtim {day * 10**17} " in kept.stdout
        assert vfswasi("run", *mounts, everything, cwd=tmp_path).stdout != done.stdout
    assert said[0] == said[1]
    assert "/d/b: dev" in said[0]


def test_compile_makes_what_deterministic_runs_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for variable in ("VFSWASI_CACHE_DIR", "VFSWASI_KEY_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    path = tmp_path / "small.wat"
    path.write_bytes(program("(drop (i32.const 81))"))
    assert cli.main(["compile", "--deterministic", str(path)]) == 0
    assert cli.main(["compile", str(path)]) == 0
    assert cli.main(["compile", "--deterministic", str(path)]) == 0
    told = [line.split(": ")[1].split()[0] for line in capfd.readouterr().out.splitlines()]
    assert told == ["compiled", "compiled", "was"]
    monkeypatch.setattr(modules, "_made", lambda *_: pytest.fail("it was compiled again"))
    assert cli.main(["run", "--deterministic", str(path)]) == 0
    assert cli.main(["run", str(path)]) == 0
