"""Bad input: one line that names the thing and says what to do, status 125, nothing created; in Python an exception."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import vfswasi
from vfswasi import cli

ROOT = Path(__file__).parents[2]
WORDCOUNT = ROOT / "examples" / "wordcount.wasm"
OK = b'(module (memory (export "memory") 1) (func (export "_start")))'
_FD_WRITE = '(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))'

BAD_MODULES: dict[str, tuple[bytes, type[Exception], str]] = {
    "text": (b"hello, I am no wasm\n", vfswasi.InvalidModuleError, "not a WebAssembly module"),
    "empty": (b"", vfswasi.InvalidModuleError, "not a WebAssembly module"),
    "truncated": (
        WORDCOUNT.read_bytes()[:5000],
        vfswasi.InvalidModuleError,
        "not a valid WebAssembly module",
    ),
    "component": (b"\0asm\x0d\0\x01\0", vfswasi.InvalidModuleError, "component"),
    "missing import": (
        b'(module (import "env" "frobnicate" (func)) (func (export "_start")))',
        vfswasi.MissingImportError,
        "env.frobnicate",
    ),
    "unknown wasi function": (
        b'(module (import "wasi_snapshot_preview1" "fd_dance" (func)) (memory (export "memory") 1)'
        b'(func (export "_start")))',
        vfswasi.MissingImportError,
        "fd_dance",
    ),
    "wrong wasi signature": (
        b'(module (import "wasi_snapshot_preview1" "fd_close" (func)) (memory (export "memory") 1)'
        b'(func (export "_start")))',
        vfswasi.InvalidModuleError,
        "fd_close",
    ),
    "escape sequence in a name": (
        b'(module (import "env" "\\1b[31mred" (func)) (func (export "_start")))',
        vfswasi.MissingImportError,
        r"\x1b[31mred",
    ),
    "no memory": (
        f'(module {_FD_WRITE} (func (export "_start")))'.encode(),
        vfswasi.MissingExportError,
        "exports no memory",
    ),
    "64-bit memory": (
        b'(module (memory (export "memory") i64 1) (func (export "_start")))',
        vfswasi.ModuleError,
        "64",
    ),
    "shared memory": (
        b'(module (memory (export "memory") 1 2 shared) (func (export "_start")))',
        vfswasi.ModuleError,
        "shared",
    ),
    "several memories": (
        b'(module (memory (export "memory") 1) (memory (export "other") 1) (func (export "_start")))',
        vfswasi.ModuleError,
        "memories",
    ),
    "no entry point": (b'(module (memory (export "memory") 1))', vfswasi.MissingExportError, "_start"),
    "reactor": (
        b'(module (memory (export "memory") 1) (func (export "_initialize")))',
        vfswasi.MissingExportError,
        "reactor",
    ),
    "entry point with parameters": (
        b'(module (memory (export "memory") 1) (func (export "_start") (param i32)))',
        vfswasi.MissingExportError,
        "_start",
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with one good module in it."""
    (tmp_path / "ok.wat").write_bytes(OK)
    (tmp_path / "corrupt.zip").write_bytes(b"PK\3\4" + b"\0" * 200)
    (tmp_path / "plain.txt").write_text("text")
    (tmp_path / "dir").mkdir()
    return tmp_path


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


CommandLine = Callable[..., Done]


@pytest.fixture(params=["process", "main"])
def vfswasi_command(
    request: pytest.FixtureRequest,
    place: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> CommandLine:
    """`python -m vfswasi ...` and `cli.main([...])` in `place`, which is the home directory too: neither may
    create anything there, not even a cache."""
    monkeypatch.setenv("HOME", str(place))
    for name in ("VFSWASI_CACHE_DIR", "XDG_CACHE_HOME", "VFSWASI_KEY_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(place)

    def process(*arguments: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def main(*arguments: str) -> Done:
        capfd.readouterr()
        try:
            status = cli.main(arguments)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else -1
        return Done(status, *capfd.readouterr())

    def run(*arguments: str) -> Done:
        before = sorted(place.rglob("*"))
        done = process(*arguments) if request.param == "process" else main(*arguments)
        assert sorted(place.rglob("*")) == before
        return done

    return run


def _fails_with_one_line(done: Done, *words: str) -> None:
    assert done.returncode == 125
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("vfswasi")
    assert done.stderr.strip().isprintable()
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("name", BAD_MODULES)
def test_bad_module_on_the_command_line(name: str, place: Path, vfswasi_command: CommandLine) -> None:
    content, _, words = BAD_MODULES[name]
    (place / "bad.wasm").write_bytes(content)
    _fails_with_one_line(vfswasi_command("run", "bad.wasm"), "bad.wasm", words)


@pytest.mark.parametrize("name", BAD_MODULES)
def test_bad_module_in_python(name: str) -> None:
    content, error, words = BAD_MODULES[name]
    with pytest.raises(error) as caught:
        vfswasi.run(content)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "missing.wasm"], ["missing.wasm", "No such file"]),
        (["run", "dir"], ["dir", "is a directory"]),
        (["run", "--mount", "/d=missing.zip", "ok.wat"], ["/d", "missing.zip", "does not exist"]),
        (["run", "--mount", "/d=zip://missing.zip", "ok.wat"], ["/d", "missing.zip"]),
        (["run", "--mount", "/d=zip://corrupt.zip", "ok.wat"], ["/d", "corrupt.zip"]),
        (["run", "--mount", "/d=corrupt.zip", "ok.wat"], ["/d", "corrupt.zip"]),
        (["run", "--mount", "/d=plain.txt", "ok.wat"], ["/d", "plain.txt", "neither a directory nor a zip"]),
        (["run", "--mount", "/d=nowhere", "ok.wat"], ["/d", "nowhere", "create the directory"]),
        (["run", "--mount", "/d=dir", "--mount", "/d=dir", "ok.wat"], ["/d", "twice"]),
        (["run", "--mount", "/d=dir", "--mount", "/d/=dir", "ok.wat"], ["/d", "twice"]),
        (["run", "--mount", "/d=dir,fast", "ok.wat"], ["/d", "'fast'", "rw"]),
        (["run", "--mount", "/d=dir,rw", "--mount", "/e=dir", "ok.wat"], ["/d", "/e", "overlap"]),
        (["run", "--mount", "dir", "ok.wat"], ["'dir'", "GUEST=SOURCE"]),
        (["run", "--mount", "=dir", "ok.wat"], ["GUEST=SOURCE"]),
        (["run", "--mount", "/d=", "ok.wat"], ["GUEST=SOURCE"]),
        (["run", "--mount", "/d=gopher://host/x", "ok.wat"], ["/d", "gopher"]),
        (["run", "--mount", "/d=zip://", "ok.wat"], ["/d", "archive"]),
        (["run", "--env", "NOVALUE", "ok.wat"], ["NOVALUE", "NAME=VALUE"]),
        (["run", "--timeout", "soon", "ok.wat"], ["timeout", "soon"]),
        (["run", "--timeout", "-1", "ok.wat"], ["timeout"]),
        (["run", "--stdin", "missing.txt", "ok.wat"], ["missing.txt", "No such file"]),
        (["run", "--fast", "ok.wat"], ["--fast"]),
        (["run"], ["MODULE"]),
        (["dance"], ["dance"]),
        ([], ["COMMAND"]),
        (["inspect", "missing.wasm"], ["missing.wasm"]),
        (["inspect", "plain.txt"], ["plain.txt", "not a WebAssembly module"]),
        (["mounts", "nowhere"], ["nowhere", "does not exist"]),
        (["mounts", "corrupt.zip"], ["corrupt.zip"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_bad_arguments_on_the_command_line(
    arguments: list[str], words: list[str], vfswasi_command: CommandLine
) -> None:
    _fails_with_one_line(vfswasi_command(*arguments), *words)


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        ("missing.wasm", FileNotFoundError, ["missing.wasm"]),
        ("dir", vfswasi.InvalidModuleError, ["dir", "is a directory"]),
        ("plain.txt", vfswasi.InvalidModuleError, ["plain.txt", "not a WebAssembly module"]),
    ],
)
def test_a_path_that_is_no_module_in_python(module: str, error: type[Exception], words: list[str], place: Path) -> None:
    for path in (place / module, str(place / module)):
        with pytest.raises(error) as caught:
            vfswasi.run(path)
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "missing.zip",
        "corrupt.zip",
        "plain.txt",
        "nowhere",
        "zip://missing.zip",
        "zip://corrupt.zip",
        "zip://plain.txt",
        "zip://",
        "gopher://host/x",
        "file://elsewhere/x",
        "",
        "a\0b",
    ],
)
def test_a_source_that_cannot_be_mounted_in_python(source: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    with pytest.raises(vfswasi.MountError) as caught:
        vfswasi.run(OK, preopens={"/d": source})
    assert "/d" in str(caught.value)
    assert source.removeprefix("zip://") in str(caught.value) or "\0" in source
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"preopens": {"/d": "nowhere"}}, vfswasi.MountError, "does not exist"),
        ({"preopens": {"/d": 7}}, TypeError, "int"),
        ({"preopens": {7: {}}}, TypeError, "str"),
        ({"preopens": {"": {}}}, ValueError, "non-empty"),
        ({"preopens": {"/d": {}, "/d/": {}}}, vfswasi.MountError, "twice"),
        ({"preopens": {"/d": {"a/b": b""}}}, ValueError, "a/b"),
        ({"preopens": {"/d": {"a": 7}}}, TypeError, "/a"),
        ({"preopens": ["/d"]}, TypeError, "map"),
        ({"args": "one string"}, TypeError, "sequence"),
        ({"args": [7]}, TypeError, "7"),
        ({"args": ["a\0b"]}, ValueError, "NUL"),
        ({"env": {"A": 7}}, TypeError, "'A'"),
        ({"env": {"A=B": "c"}}, ValueError, "A=B"),
        ({"env": {"": "c"}}, ValueError, "''"),
        ({"env": {"A": "b\0"}}, ValueError, "NUL"),
        ({"stdin": 3.5}, TypeError, "float"),
        ({"stdin": 12345}, ValueError, "12345"),
        ({"stdout": NotImplemented}, TypeError, "NotImplementedType"),
        ({"stdout": vfswasi.PIPE, "capture_output": True}, ValueError, "capture_output"),
        ({"timeout": "soon"}, TypeError, "soon"),
        ({"timeout": float("nan")}, ValueError, "NaN"),
        ({"limits": {"descriptors": 3}}, TypeError, "Limits"),
        ({"text": True, "encoding": "klingon"}, LookupError, "klingon"),
        ({"text": True, "errors": "shrug"}, LookupError, "shrug"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_bad_arguments_in_python(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        vfswasi.run(OK, **options)  # type: ignore[arg-type]
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [{}, 7, None])
def test_a_module_must_be_a_path_or_bytes_or_a_file(value: object) -> None:
    with pytest.raises(TypeError, match="a path, a URL, bytes, a binary file or a Mount"):
        vfswasi.run(value)  # type: ignore[arg-type]


def test_a_mount_that_cannot_be_written_is_not_mounted_rw(tmp_path: Path) -> None:
    (tmp_path / "program.exe.zip").write_bytes(b"MZ" * 1000)
    for source, message in ((tmp_path / "program.exe.zip", "it is no archive; only"), ("dev:", "can only be read")):
        with pytest.raises(vfswasi.MountError, match=message):
            vfswasi.run(OK, preopens={"/d": vfswasi.Mount(source, rw=True)})


def test_a_module_without_memory_that_only_exits_runs() -> None:
    wat = b"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (func (export "_start") (call $exit (i32.const 9))))"""
    assert vfswasi.run(wat).returncode == 9
