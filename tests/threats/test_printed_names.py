"""W4: what a guest names, printed on somebody's terminal."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi import cli

from ..wat_programs import program

EVIL = "\\1b[31m\\07\\c2\\9b\\e2\\80\\aegreen"


def _is_plain(text: str) -> bool:
    return all(ch.isprintable() or ch == "\n" for ch in text)


def _named(kind: str) -> bytes:
    """A module with an evil name of this kind."""
    exits = '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
    memory, start = '(memory (export "memory") 1)', '(func (export "_start")))'
    return {
        "function": f'(module {memory} (func $f (@name "{EVIL}") unreachable) (func (export "_start") (call $f)))',
        "module": f'(module (@name "{EVIL}") {exits} {memory} (func (export "_start") unreachable))',
        "export": f'(module {exits} {memory} (func (export "{EVIL}")) (func (export "_start") unreachable))',
        "import": f'(module (import "{EVIL}" "{EVIL}" (func)) {memory} (func (export "_start")))',
        "wasi import": f'(module (import "wasi_snapshot_preview1" "{EVIL}" (func)) {memory} (func (export "_start")))',
        "memory import": f'(module (import "env" "{EVIL}" (memory 1)) (func (export "_start")))',
        "start section": f'(module {memory} (func $f (@name "{EVIL}") unreachable) (start $f) {start}',
        "memory export": f'(module (memory (export "memory") (export "{EVIL}") 1) (func (export "_start")))',
    }[kind].encode()


KINDS = ["function", "module", "export", "import", "wasi import", "memory import", "start section", "memory export"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["run", "inspect", "inspect --json"])
def test_w4_names_in_a_guests_sections_are_printed_escaped(
    kind: str, command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wasm = bytes(wasmtime.wat2wasm(_named(kind).decode()))
    assert b"\x1b[31m" in wasm
    (tmp_path / "evil.wasm").write_bytes(wasm)
    cli.main([*command.split(), str(tmp_path / "evil.wasm")])
    out, err = capfd.readouterr()
    assert _is_plain(out)
    assert _is_plain(err)
    if command == "run" and kind not in ("export", "memory export"):
        assert r"\x1b[31m" in err, "the name is told"


@pytest.mark.parametrize("kind", KINDS)
def test_w4_messages_in_python_are_escaped_too(kind: str) -> None:
    told = []
    try:
        result = vfswasi.run(_named(kind))
        told.append(result.trap or "")
        result.check_returncode()
    except vfswasi.SandboxError as error:
        told.append(str(error))
    assert told or kind in ("export", "memory export")
    assert all(map(_is_plain, told))


@pytest.mark.parametrize(("what", "command"), [("export", "inspect"), ("import", "inspect"), ("function", "run")])
def test_w4_a_name_with_a_newline_makes_no_line_of_its_own(
    what: str, command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Or a guest could write lines of ours."""
    name = "f\\nvfswasi: all is well"
    memory, start = '(memory (export "memory") 1)', '(func (export "_start")))'
    wat = {
        "export": f'(module {memory} (func (export "{name}")) {start}',
        "import": f'(module (import "env" "{name}" (func)) {memory} {start}',
        "function": f'(module {memory} (func $f (@name "{name}") unreachable) (func (export "_start") (call $f)))',
    }[what]
    (tmp_path / "evil.wat").write_text(wat)
    cli.main([command, str(tmp_path / "evil.wat")])
    out, err = capfd.readouterr()
    assert "all is well" in out + err
    assert not [line for line in (out + err).splitlines() if line.startswith("vfswasi: all is well")]


def test_w4_an_error_is_one_line_whatever_names_are_in_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wat = '(module (import "env" "f\\nvfswasi: all is well" (func)) (func (export "_start")))'
    (tmp_path / "evil.wat").write_text(wat)
    assert cli.main(["run", str(tmp_path / "evil.wat")]) == 125
    assert len(capfd.readouterr().err.splitlines()) == 1


class _Losing(vfswasi.MemoryBackend):
    """Nothing that is written can be stored."""

    def take_uncommitted(self) -> list[Any]:
        error = vfswasi.FsError(vfswasi.Errno.IO, "detail")
        return [vfswasi.Uncommitted("\x1b[31mred\nline", error, 0, lambda offset, count: b"", lambda: None)]


@pytest.mark.parametrize("end", ["0", "trap"])
def test_w4_names_of_files_in_messages_and_logs_are_escaped(end: str, caplog: pytest.LogCaptureFixture) -> None:
    body = "unreachable" if end == "trap" else ""
    with caplog.at_level(logging.DEBUG, "vfswasi"):
        try:
            vfswasi.run(program(body), preopens={"/d": vfswasi.Mount(_Losing(), rw=True)}, stdout=vfswasi.DEVNULL)
        except vfswasi.UncommittedError as error:
            told = [str(error)]
        else:
            told = [record.getMessage() for record in caplog.records]
    assert told
    for text in told:
        assert text.isprintable(), text
