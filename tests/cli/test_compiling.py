"""`vfswasi compile`, `vfswasi cache`, and what a terminal is told while something is compiled."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

import vfswasi
from vfswasi import cli
from vfswasi.cli import inspect as inspection
from vfswasi.engine.compiling import modules
from vfswasi.engine.compiling.features import checked

from .. import slow_modules
from ..wat_programs import program

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(directory))
    monkeypatch.setenv("VFSWASI_KEY_DIR", str(tmp_path / "key"))
    monkeypatch.setattr(modules, "_remembered", type(modules._remembered)())
    return directory


@pytest.fixture
def programs(tmp_path: Path) -> tuple[str, str]:
    """A small one, which no run would keep, and another one."""
    small, medium = tmp_path / "small.wat", tmp_path / "medium\x1b.wasm"
    small.write_bytes(program("(drop (i32.const 8))"))
    medium.write_bytes(slow_modules.of_functions(100_000))
    return str(small), str(medium)


def test_compile_puts_modules_into_the_cache_and_says_so(
    programs: tuple[str, str], cache: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, medium = programs
    assert cli.main(["compile", small, medium]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    first, second = said.out.splitlines()
    assert re.fullmatch(re.escape(small) + r": compiled in \d+\.\d s, \d+\.\d KiB", first)
    assert re.fullmatch(re.escape(medium).replace("\x1b", r"\\x1b") + r": compiled in \d+\.\d s, \d+\.\d KiB", second)
    assert len(list(cache.glob("*.cwasm"))) == 2
    monkeypatch.setattr(modules, "_made", lambda *_: pytest.fail("it was compiled again"))
    for module in programs:
        assert cli.main(["run", module]) == 0
    assert cli.main(["compile", small, medium]) == 0
    assert [line.split(": ")[1].split(",")[0] for line in capfd.readouterr().out.splitlines()] == [
        "was in the cache"
    ] * 2


@pytest.mark.parametrize("options", [["--limit", "fuel=1000000"], ["--feature", "tail-call"]])
def test_compile_makes_what_run_with_the_same_options_looks_for(
    options: list[str], programs: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["compile", *options, *programs]) == 0
    monkeypatch.setattr(modules, "_made", lambda *_: pytest.fail("it was compiled again"))
    assert cli.main(["run", *options, programs[0]]) == 0


def test_compile_tells_of_each_module_that_it_cannot_compile_and_goes_on(
    programs: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.wasm"
    broken.write_bytes(b"no module")
    slow = tmp_path / "slow.wasm"
    slow.write_bytes(slow_modules.of_indirect_calls(200_000))
    lost = str(tmp_path / "lost.wasm")
    given = [str(broken), lost, str(slow), str(tmp_path), programs[0]]
    assert cli.main(["compile", "--limit", "compile_seconds=0.5", *given]) == 125
    said = capfd.readouterr()
    assert said.out.startswith(programs[0])
    assert said.err.splitlines() == [
        "vfswasi: broken.wasm: not a WebAssembly module (it does not start with \\0asm)",
        f"vfswasi: {lost}: No such file or directory",
        "vfswasi: compiling slow.wasm took longer than compile_seconds (0.5 s); if you trust it, raise "
        "Limits.compile_seconds (--limit compile_seconds=...)",
        f"vfswasi: {tmp_path}: is a directory, not a WebAssembly module",
    ]


def test_compile_says_why_nothing_can_be_kept(
    programs: tuple[str, str], cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir(mode=0o755)
    assert cli.main(["compile", programs[0]]) == 125
    said = capfd.readouterr()
    assert re.search(
        r"small\.wat: it took \d\.\d s, and cannot be kept: \S+ must be owned by you with mode 0700\n", said.err
    )
    assert cli.main(["cache", "list"]) == 125
    said = capfd.readouterr()
    assert said.err == (
        f"vfswasi: the cache of compiled modules is not used: {cache} must be owned by you with mode 0700\n"
    )


def test_the_cache_is_listed_measured_and_cleared(
    programs: tuple[str, str], cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for action, said in (
        ("list", f"0 modules, 0 B in {cache}\n"),
        ("size", f"0 modules, 0 B in {cache}\n"),
        ("clear", f"removed 0 modules, 0 B from {cache}\n"),
    ):
        assert cli.main(["cache", action]) == 0
        assert capfd.readouterr().out == said
    assert not cache.exists()
    assert cli.main(["compile", *programs]) == 0
    for number, file in enumerate(sorted(cache.glob("*.cwasm"))):
        os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
    capfd.readouterr()
    assert cli.main(["cache", "list"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert {line.split()[-1] for line in lines[:2]} == {"small.wat", "medium\\x1b.wasm"}
    assert re.fullmatch(r"2 modules, \d+\.\d KiB in " + re.escape(str(cache)), lines[2])
    assert cli.main(["cache", "list", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["directory"] == str(cache)
    assert [module["used"] for module in told["modules"]] == [1_700_000_001, 1_700_000_000]
    assert {module["name"] for module in told["modules"]} == {"small.wat", "medium\x1b.wasm"}
    assert told["bytes"] == sum(module["bytes"] for module in told["modules"])
    assert told["bytes"] == sum(file.stat().st_size for file in cache.glob("*.cwasm"))
    assert cli.main(["cache", "clear", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {**told, "modules": 2, "left": 0}
    assert list(cache.iterdir()) == []


def test_clear_leaves_what_is_not_of_the_cache(
    programs: tuple[str, str], cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compile", programs[0]]) == 0
    victim = tmp_path / "victim"
    victim.write_text("kept")
    foreign = ["notes.txt", "x.cwasm", "F" * 64 + ".cwasm", "a" * 63 + ".cwasm", "d.cwasm", ".new-young"]
    for name in foreign:
        (cache / name).write_text("")
    (cache / ("a" * 64 + ".cwasm")).symlink_to(victim)
    (cache / ("b" * 64 + ".cwasm")).mkdir()
    (cache / ("c" * 64 + ".label")).write_text("left behind")
    (cache / ".new-old").write_text("")
    os.utime(cache / ".new-old", (0, 0))
    capfd.readouterr()
    assert cli.main(["cache", "clear"]) == 0
    said = capfd.readouterr().out
    assert re.match(r"removed 1 module, \d+\.\d KiB from ", said)
    assert said.endswith("left 7 names that are not of this cache\n")
    assert {path.name for path in cache.iterdir()} == {*foreign, "a" * 64 + ".cwasm", "b" * 64 + ".cwasm"}
    assert victim.read_text() == "kept"


def test_a_label_is_shown_and_nothing_more(
    programs: tuple[str, str], cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compile", programs[0]]) == 0
    (label,) = cache.glob("*.label")
    assert label.stat().st_mode & 0o777 == 0o600
    secret = tmp_path / "secret"
    secret.write_text("secret")
    label.unlink()
    label.symlink_to(secret)
    capfd.readouterr()
    assert cli.main(["cache", "list"]) == 0
    assert "(no name)" in capfd.readouterr().out
    label.unlink()
    os.mkfifo(label)
    assert cli.main(["cache", "list"]) == 0
    assert cli.main(["cache", "clear"]) == 0
    assert list(cache.iterdir()) == []


def test_what_was_used_least_recently_goes_when_there_is_too_much(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vfswasi.engine.compiling import cache as module_cache

    for number in range(3):
        path = tmp_path / f"{number}.wat"
        path.write_bytes(program(f"(drop (i32.const {number}))"))
        assert cli.main(["compile", str(path)]) == 0
        for file in cache.glob("*.cwasm"):
            os.utime(file, (file.stat().st_mtime - 100,) * 2)
    one = next(cache.glob("*.cwasm")).stat().st_size
    monkeypatch.setattr(module_cache, "_MAX_BYTES", 2 * one + 1000)
    path.write_bytes(program("(drop (i32.const 4))"))
    assert cli.main(["compile", str(path)]) == 0
    assert sorted(label.read_text() for label in cache.glob("*.label")) == ["2.wat", "2.wat"]


@pytest.mark.parametrize("action", [[], ["lost"], ["list", "more"]])
def test_a_cache_command_that_is_not_there_is_a_usage_error(
    action: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["cache", *action])
    assert caught.value.code == 125
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "compile"])
def test_a_terminal_is_told_what_is_compiled_and_the_line_goes(command: str, tmp_path: Path) -> None:
    path = tmp_path / "slow.wasm"
    path.write_bytes(slow_modules.of_indirect_calls(200_000))
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "vfswasi", command, "--limit", "compile_seconds=2.5", str(path)]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    assert (done.returncode, done.stdout) == (125, b"")
    lines = said.decode().split("\r\x1b[K")
    assert lines[0] == ""
    assert lines[1] == "compiling slow.wasm ... 1 s"
    assert lines[-1].startswith("vfswasi: compiling slow.wasm took longer than compile_seconds (2.5 s)")


def test_what_is_no_terminal_is_told_nothing(tmp_path: Path) -> None:
    path = tmp_path / "slow.wasm"
    path.write_bytes(slow_modules.of_indirect_calls(200_000))
    argv = [sys.executable, "-m", "vfswasi", "run", "--limit", "compile_seconds=2", str(path)]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.stderr.startswith("vfswasi: compiling slow.wasm took longer")
    assert done.stderr.count("\n") == 1


def test_inspect_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasmtime.Module, "__init__", lambda *_: pytest.fail("it was compiled"))
    with pytest.raises(pytest.fail.Exception):
        vfswasi.run(program("(drop (i32.const 9))"))
    slow = slow_modules.of_values_through_loops(16_384)
    assert inspection.describe(slow, "slow.wasm", checked(()))["problems"] == []
    invalid = slow_modules.of_code(b"\x6a")
    (problem,) = inspection.describe(invalid, "invalid.wasm", checked(()))["problems"]
    assert problem.startswith("not a valid WebAssembly module: ")
