"""The main job on real input: a compiler, an assembler and a linker that other people compiled build a firmware.

Headers come from a zip archive and results go to memory; they are to the byte what wasmtime's own WASI makes of local
directories.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

import vfswasi
from vfswasi.engine.compiling import modules

from .. import avr_build

RESULTS = ("firmware.s", "firmware.o", "firmware.elf", "firmware.hex")


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All headers as files on the disk."""
    root = tmp_path_factory.mktemp("inc")
    for name, data in avr_build.headers().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, include: Path) -> dict[str, bytes]:
    """What the tools write under wasmtime's built-in WASI on local directories."""
    out = tmp_path_factory.mktemp("reference")
    engine = modules.engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    for name, arguments in avr_build.STEPS:
        path = avr_build.program(name)
        store = wasmtime.Store(engine)
        store.set_epoch_deadline(2**62)
        config = wasmtime.WasiConfig()
        config.argv = [path.name, *arguments]
        config.inherit_stderr()
        for host, guest in (
            (include, "/inc"),
            (avr_build.SOURCE, "/src"),
            (avr_build.libraries(), "/lib"),
            (out, "/out"),
        ):
            config.preopen_dir(str(host), guest)
        store.set_wasi(config)
        instance = linker.instantiate(store, modules.load(path.read_bytes(), name).module)
        status = 0
        try:
            instance.exports(store)["_start"](store)
        except wasmtime.ExitTrap as end:
            status = end.code
        assert status == 0, name
    return {name: (out / name).read_bytes() for name in RESULTS}


def _build(include: object, out: object) -> None:
    for name, arguments in avr_build.STEPS:
        result = vfswasi.run(
            avr_build.program(name),
            arguments,
            preopens={"/inc": include, "/src": avr_build.SOURCE, "/lib": avr_build.libraries(), "/out": out},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), name


def test_headers_from_a_zip_and_results_in_memory(tmp_path: Path, reference: dict[str, bytes]) -> None:
    archive = tmp_path / "headers.zip"
    archive.write_bytes(avr_build.headers_zip())
    out = vfswasi.MemoryBackend()
    _build(archive, out)
    built = out.export()
    assert built["firmware.elf"].startswith(b"\x7fELF")
    assert len(built["firmware.elf"]) > 10_000
    assert {name: built[name] for name in RESULTS} == reference


def test_local_directories(tmp_path: Path, include: Path, reference: dict[str, bytes]) -> None:
    _build(include, vfswasi.Mount(tmp_path, rw=True))
    assert {name: (tmp_path / name).read_bytes() for name in RESULTS} == reference


def test_a_compiler_error_is_the_programs_own(tmp_path: Path, include: Path) -> None:
    name, arguments = avr_build.STEPS[0]
    result = vfswasi.run(
        avr_build.program(name),
        arguments,
        preopens={"/inc": include, "/src": {"firmware.c": "int main(void) { return missing; }\n"}, "/out": {}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode != 0
    assert "missing" in result.stderr
