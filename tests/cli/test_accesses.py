"""`vfswasi run --accesses FILE`."""

from __future__ import annotations

from pathlib import Path

from vfswasi import Accesses

from ..guest_programs import compile_guest
from .running import refused, vfswasi


def test_a_file_that_says_what_the_program_looked_at(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"hello")
    guest = compile_guest("looks")
    vfswasi("run", "--accesses=x.json", "--mount=/d=./d", guest, "read", "/d/a", "there", "/d/no", cwd=tmp_path)
    accesses = Accesses.load(tmp_path / "x.json")
    assert [access.path for access in accesses["/d"]] == ["", "a", "no"]
    assert accesses["/d"][1].digest is not None
    assert accesses.hold({"/d": tmp_path / "d"})
    (tmp_path / "d" / "no").touch()
    assert accesses.hold({"/d": tmp_path / "d"}).difference == "'/d/no' was not there, and is a file now"


def test_it_is_written_when_the_program_fails_too(tmp_path: Path) -> None:
    guest = compile_guest("looks")
    vfswasi("--accesses", "x.json", "--mount=/d=mem:", guest, "there", "/d/no", "what", "", cwd=tmp_path, status=2)
    assert [access.path for access in Accesses.load(tmp_path / "x.json")["/d"]] == ["", "no"]
    endless = tmp_path / "endless.wat"
    endless.write_text('(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))')
    vfswasi("--accesses=y.json", "--timeout=1", "--mount=/d=mem:", endless, cwd=tmp_path, status=124)
    assert Accesses.load(tmp_path / "y.json")["/d"] == ()


def test_what_cannot_be_done_is_said_before_the_program_runs(tmp_path: Path) -> None:
    guest = compile_guest("looks")
    told = refused("--accesses=none/x.json", "--mount=/d=mem:", guest, "create", "/d/a", "x", cwd=tmp_path)
    assert told == "vfswasi: --accesses 'none/x.json': there is no such directory to write a file in"
    assert "leave one of them out" in refused("--accesses=x.json", "--invoke=f", guest, cwd=tmp_path)
