"""The command that runs a wasi-testsuite, and the adapter for its own runner, on programs of ours in its format."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vfswasi

from ..guest_programs import compile_c
from . import __main__ as command
from .suite import read_case, run_case

HERE = Path(__file__).parent
ADAPTER = HERE / "adapter" / "vfswasi.py"


@pytest.fixture(scope="module")
def program() -> Path:
    return compile_c(HERE / "program.c")


class Checkout:
    """A suite in the making, laid out as the real one is."""

    def __init__(self, top: Path, program: Path) -> None:
        self.top = top
        self.program = program
        self.place = top / "tests" / "c" / "testsuite" / "wasm32-wasip1"
        self.place.mkdir(parents=True)
        (self.place / "manifest.json").write_text('{"name": "WASI C tests"}')
        directory = self.place / "fs-tests.dir"
        directory.mkdir()
        (directory / "file").write_text("contents")
        (directory / "link").symlink_to("file")
        (directory / "left.cleanup").write_text("by an earlier run")

    def add(self, name: str, config: Any = None) -> Path:
        wasm = self.place / f"{name}.wasm"
        shutil.copy(self.program, wasm)
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            wasm.with_suffix(".json").write_text(text)
        return wasm


@pytest.fixture
def checkout(tmp_path: Path, program: Path) -> Checkout:
    return Checkout(tmp_path / "checkout", program)


PASSING: dict[str, Any] = {
    "nothing": None,
    "empty": {},
    "status": {"args": ["33"], "exit_code": 33},
    "output": {"args": ["say", "ünï", "complain", "oh"], "stdout": "ünï\n", "stderr": "oh\n"},
    "environment": {"args": ["getenv", "A", "getenv", "HOME"], "env": {"A": "1 2"}, "stdout": "1 2\nunset\n"},
    "no input": {"args": ["echo"], "stdout": ""},
    "reads": {"args": ["cat", "fs-tests.dir/link"], "dirs": ["fs-tests.dir"], "stdout": "contents"},
    "writes": {"args": ["make", "fs-tests.dir/new.cleanup"], "dirs": ["fs-tests.dir"]},
    "writes the same": {"args": ["make", "fs-tests.dir/new.cleanup"], "dirs": ["fs-tests.dir"]},
    "is cleaned up": {"args": ["make", "fs-tests.dir/left.cleanup"], "dirs": ["fs-tests.dir"]},
    "root": {"args": ["cat", "/file"], "root": "fs-tests.dir", "stdout": "contents"},
    "remarks": {"wasi_functions": ["fd_write"], "description": "about nothing"},
    "traps": {"args": ["abort"], "exit_code": 134},
    "operations": {
        "operations": [
            {"type": "run", "args": ["echo", "complain", "x"], "env": {"A": "1"}, "dirs": ["fs-tests.dir"]},
            {"type": "write", "id": "stdin", "payload": "one\n"},
            {"type": "write", "id": "stdin", "payload": "two\n"},
            {"type": "read", "payload": "one\n"},
            {"type": "read", "id": "stdout", "payload": "two\n"},
            {"type": "read", "id": "stderr", "payload": "x\n"},
            {"type": "wait", "exit_code": 0},
        ],
        "proposals": [],
        "world": "wasi:cli/command",
    },
}
FAILING: dict[str, tuple[Any, str]] = {
    "status": ({"args": ["1"]}, "exit status 1, not 0"),
    "other status": ({"args": ["1"], "exit_code": 2}, "exit status 1, not 2"),
    "output": ({"args": ["say", "a"], "stdout": "b\n"}, "stdout: b'a\\n', not b'b\\n'"),
    "no output": ({"stdout": "b"}, "stdout: b'', not b'b'"),
    "errors": ({"args": ["complain", "a"], "stderr": ""}, "stderr: b'a\\n', not b''"),
    "no directory": ({"dirs": ["missing.dir"]}, "no such directory"),
    "outside": ({"args": ["cat", "fs-tests.dir/file"]}, "exit status 10"),
    "trap": ({"args": ["abort"]}, "exit status 134, not 0"),
    "unknown key": ({"stdin": "x"}, "not understood: key 'stdin'"),
    "wrong type": ({"args": "x"}, "not understood: args='x'"),
    "no object": ([], "not understood: no object.json is not an object"),
    "no json": ("{", "not understood: no json.json"),
    "proposal": ({"proposals": ["sockets"]}, "not understood: proposals ['sockets']"),
    "world": ({"world": "wasi:http/service"}, "not understood: world 'wasi:http/service'"),
    "operation": ({"operations": [{"type": "run"}, {"type": "connect"}]}, "not understood: operation 'connect'"),
    "key of an operation": (
        {"operations": [{"type": "run", "user": "x"}, {"type": "wait"}]},
        "not understood: key 'user' of 'run'",
    ),
    "two runs": ({"operations": [{"type": "run"}, {"type": "run"}]}, "not understood: operations in the order"),
    "another stream": ({"operations": [{"type": "run"}, {"type": "read", "id": "server"}]}, "id 'server' of 'read'"),
    "mixed": ({"operations": [{"type": "run"}], "args": ["1"]}, "not understood: key 'args'"),
}


@pytest.mark.parametrize("vdso", [True, False])
@pytest.mark.parametrize("store", ["memory", "local"])
@pytest.mark.parametrize("name", PASSING)
def test_what_passes(checkout: Checkout, name: str, store: str, vdso: bool) -> None:
    wasm = checkout.add(name, PASSING[name])
    before = sorted(checkout.place.rglob("*"))
    for _ in range(2):
        assert run_case(read_case(wasm), store, vdso) == []
    assert sorted(checkout.place.rglob("*")) == before, "directories are copied"


@pytest.mark.parametrize("store", ["memory", "local"])
@pytest.mark.parametrize("name", FAILING)
def test_what_fails_and_why(checkout: Checkout, name: str, store: str) -> None:
    config, message = FAILING[name]
    wrong = run_case(read_case(checkout.add(name, config)), store, True)
    assert any(message in what for what in wrong), wrong


def test_what_is_no_program_or_does_not_end_fails(checkout: Checkout) -> None:
    (checkout.place / "cut.wasm").write_bytes(checkout.program.read_bytes()[:100])
    (wrong,) = run_case(read_case(checkout.place / "cut.wasm"), "memory", True)
    assert wrong.startswith("InvalidModuleError")
    (checkout.place / "loops.wat").write_text(
        '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
    )
    (wrong,) = run_case(read_case(checkout.place / "loops.wat"), "memory", True, timeout_s=0.1)
    assert wrong.startswith("GuestTimeoutError")


def test_the_command_tells_the_score(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("status", "writes", "writes the same"):
        checkout.add(name, PASSING[name])
    other = checkout.top / "tests" / "rust" / "testsuite" / "wasm32-wasip3"
    other.mkdir(parents=True)
    (other / "component.wasm").write_bytes(b"\0asm\x0d\0\1\0")
    assert command.main([str(checkout.top)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for store in ("memory", "local"):
        for vdso in ("on", "off"):
            assert f"WASI C tests: {store}, fast path {vdso}: 3 of 3" in lines
    assert any(line.endswith("1 programs for another version of WASI") for line in lines)
    checkout.add("wrong", {"stdout": "x"})
    assert command.main([str(checkout.place), "--store", "memory", "--vdso", "off"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "WASI C tests: wrong (memory, fast path off): stdout: b'', not b'x'",
        "WASI C tests: memory, fast path off: 3 of 4",
    ]


@pytest.mark.parametrize("form", ["json", "toml"])
def test_a_skip_list(checkout: Checkout, capsys: pytest.CaptureFixture[str], form: str, tmp_path: Path) -> None:
    checkout.add("status", PASSING["status"])
    checkout.add("wrong", {"stdout": "x"})
    skips = tmp_path / f"skip.{form}"
    skips.write_text(
        '{"WASI C tests": {"wrong": "known"}}' if form == "json" else '["WASI C tests"]\nwrong = "known"\n'
    )
    options = [str(checkout.top), "--store", "memory", "--vdso", "on", "--skip", str(skips)]
    assert command.main(options) == 0
    assert capsys.readouterr().out.splitlines() == [
        "WASI C tests: wrong: left out: known",
        "WASI C tests: memory, fast path on: 1 of 1",
    ]
    checkout.place.joinpath("wrong.wasm").unlink()
    assert command.main(options) == 1, "a list that names what is not there is out of date"


def test_nothing_to_run_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path)]) == 2
    assert "no programs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([str(tmp_path), "--store", "disk"])
    assert "none of memory, local" in capsys.readouterr().err


# The adapter.


def adapter() -> Any:
    """Loaded as the runner loads it: by path, under the name of the file."""
    spec = importlib.util.spec_from_file_location("vfswasi_adapter", ADAPTER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_adapter(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"capture_output": True, "input": b"", "timeout": 60, **options}
    return subprocess.run([sys.executable, ADAPTER, *arguments], check=False, **options)


def test_the_adapter_says_what_it_is() -> None:
    module = adapter()
    assert module.get_name() == "vfswasi"
    assert module.get_version() == vfswasi.__version__
    assert module.get_wasi_versions() == ["wasm32-wasip1"]
    assert module.get_wasi_worlds() == ["wasi:cli/command"]
    assert run_adapter("--version").stdout.decode() == f"vfswasi {vfswasi.__version__}\n"
    for name in ("get_name", "get_version"):
        code = f"import sys; sys.path.insert(0, {str(ADAPTER.parent)!r}); import vfswasi; print(vfswasi.{name}())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == getattr(module, name)(), "imported under its own name, before the library"


ARGS, ENV = ["say", "-x y", "getenv", "A", "cat"], {"A": "b=c"}


@pytest.mark.parametrize("store", ["local", "memory"])
@pytest.mark.parametrize(
    "form",
    [
        lambda directory: (ARGS, ENV, [(directory, "fs-tests.dir")]),
        lambda directory: (ARGS, ENV, [(directory, "fs-tests.dir")], "wasm32-wasip1"),
        lambda directory: ((ARGS, ENV, [(directory, "fs-tests.dir")]), [], "wasm32-wasip1"),
        lambda directory: ((ARGS, ENV, [(directory, "fs-tests.dir")]), [], "wasi:cli/command", "wasm32-wasip1"),
        lambda directory: ((ARGS, ENV, str(directory)), [], "wasi:cli/command", "wasm32-wasip1"),
        lambda directory: ((ARGS, ENV, None), [], "wasi:cli/command", "wasm32-wasip1"),
    ],
    ids=["dirs", "dirs, version", "tuple", "tuple, world", "root", "no root"],
)
def test_the_adapters_commands_for_every_runner_there_was(checkout: Checkout, form: Any, store: str) -> None:
    wasm = checkout.add("t")
    wanted = form(checkout.place / "fs-tests.dir")
    dirs = wanted[0][2] if isinstance(wanted[0], tuple) else wanted[2]
    name = "/file" if isinstance(dirs, str) else "fs-tests.dir/file"
    argv = adapter().compute_argv(str(wasm), *wanted)
    environment = {**os.environ, "VFSWASI_TESTSUITE_STORE": store}
    done = subprocess.run([*argv, f"--arg={name}"], capture_output=True, env=environment, timeout=60, check=False)
    assert done.stdout == b"-x y\nb=c\n" + (b"" if dirs is None else b"contents"), done.stderr
    assert done.returncode == (10 if dirs is None else 0)


def test_the_adapter_as_older_runners_call_it(checkout: Checkout) -> None:
    wasm = checkout.add("t")
    words = ["getenv", "A", "echo", "make", "fs-tests.dir/new.cleanup", "complain", "x", "7"]
    arguments = ["--test-file", str(wasm), "--dir", "fs-tests.dir", "--env", "A=b"]
    arguments += [word for text in words for word in ("--arg", text)]
    done = run_adapter(*arguments, cwd=checkout.place, input=b"typed\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"b\ntyped\n", b"x\n")
    made = checkout.place / "fs-tests.dir" / "new.cleanup"
    assert made.read_bytes() == b"made", "the runner cleans up"
    environment = {**os.environ, "VFSWASI_TESTSUITE_STORE": "memory"}
    again = run_adapter(*arguments, cwd=checkout.place, env=environment)
    assert again.returncode == 11, "it is in the copy too"
    made.unlink()
    assert run_adapter(*arguments, cwd=checkout.place, env=environment).returncode == 7
    assert not made.exists()


def test_the_adapter_tells_of_traps_and_of_what_is_no_program(checkout: Checkout) -> None:
    done = run_adapter("--test-file", str(checkout.add("t")), "--arg", "abort")
    assert done.returncode == 134
    assert b"unreachable" in done.stderr
    assert run_adapter("--test-file", str(checkout.top / "missing.wasm")).returncode == 125
    environment = {**os.environ, "VFSWASI_TESTSUITE_STORE": "disk"}
    assert run_adapter("--test-file", str(checkout.add("t")), env=environment).returncode == 2


def test_the_adapter_works_from_the_suites_own_directory(checkout: Checkout) -> None:
    copied = checkout.top / "adapters" / "vfswasi.py"
    copied.parent.mkdir()
    shutil.copy(ADAPTER, copied)
    wasm = checkout.add("t")
    command_line = [sys.executable, str(copied), "--test-file", str(wasm), "--arg", "5"]
    assert subprocess.run(command_line, cwd=copied.parent, timeout=60, check=False).returncode == 5
