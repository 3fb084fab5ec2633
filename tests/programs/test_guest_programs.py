"""C programs that show one behaviour each; every one of them is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import vfswasi
from vfswasi.fs_backends.devices import DeviceBackend

from ..guest_programs import GUESTS, compile_c

Run = Callable[..., vfswasi.Result]


def test_hello(run_program: Run) -> None:
    result = run_program("hello", ["a", "b c", "", "ünï"], env={"A": "1", "B": ""}, stdin="typed\n")
    assert result.stdout.splitlines() == [
        "arg 0: [" + result.args[0] + "]",
        "arg 1: [a]",
        "arg 2: [b c]",
        "arg 3: []",
        "arg 4: [ünï]",
        "env: [A=1]",
        "env: [B=]",
        "typed",
    ]
    assert result.stderr == "done\n"
    assert result.returncode == 5


def test_stdio(run_program: Run, mount: vfswasi.Mount) -> None:
    result = run_program("stdio", ["/d"], preopens={"/d": mount})
    assert result.stdout == "first 0 size 98890 after 98899 isatty 0\n"
    assert result.returncode == 0


def test_tree(run_program: Run, mount: vfswasi.Mount) -> None:
    result = run_program("tree", ["/d"], preopens={"/d": mount})
    assert result.stdout.splitlines() == [
        "files 100 directories 21 links 20",
        "left -1 No such file or directory",
    ]
    assert (result.returncode, result.stderr) == (0, "")


def test_wait_with_nothing_on_standard_input(run_program: Run) -> None:
    read, write = os.pipe()
    try:
        assert run_program("wait", stdin=read).stdout.splitlines() == ["slept enough", "nothing"]
    finally:
        os.close(read)
        os.close(write)


def test_wait_with_input_and_its_end(run_program: Run) -> None:
    read, write = os.pipe()
    os.write(write, b"hello")
    os.close(write)
    try:
        assert run_program("wait", stdin=read).stdout.splitlines() == ["slept enough", "read 5", "end"]
    finally:
        os.close(read)


def test_the_programs_of_the_examples_are_built_from_their_sources(tmp_path: Any) -> None:
    example = GUESTS.parents[1] / "examples"
    options: dict[str, Any] = {
        "preopens": {"/data": example / "corpus.zip", "/out": {}},
        "capture_output": True,
        "argv0": "wordcount",
    }
    built = vfswasi.run(compile_c(example / "wordcount.c"), ["/out/r", "/data"], **options)
    shipped = vfswasi.run(example / "wordcount.wasm", ["/out/r", "/data"], **options)
    assert (built.returncode, built.stdout, built.files["/out"]) == (
        shipped.returncode,
        shipped.stdout,
        shipped.files["/out"],
    )


@pytest.mark.parametrize("fast", ["0", "1"])
def test_devices(run_program: Run, fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_VDSO", fast)
    result = run_program("devices", preopens={"/dev": DeviceBackend()}, stdin="typed\n")
    assert result.stdout.splitlines() == [
        "/dev/null: device 1 same 1 tty 0 read 0 zeros 0 written 9 (ok) seek 0",
        "/dev/zero: device 1 same 1 tty 0 read 16 zeros 1 written 9 (ok) seek 0",
        "/dev/full: device 1 same 1 tty 0 read 16 zeros 1 written -1 (No space left on device) seek 0",
        "/dev/urandom: device 1 same 1 tty 0 read 16 zeros 0 written 9 (ok) seek 0",
        "out: typed",
        "still here",
    ]
    assert (result.stderr, result.returncode) == ("err: typed\n", 0)
