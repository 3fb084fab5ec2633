"""The programs that are compared: each takes a fresh directory and gives back the guest's table.

A peer is a callable `(directory) -> {row: microseconds}`, or None where its program is not installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import wasmtime

import vfswasi

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "benchmarks"
SOURCE = HERE / "guest" / "bench.c"

Table = dict[str, float]
Peer = Callable[[], Table]


def scratch() -> Path:
    """Where files lie: memory-backed, so that no disk is measured."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """An empty directory that goes away."""
    path = Path(tempfile.mkdtemp(dir=scratch(), prefix="vfswasi-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _build(target: str, command: list[str]) -> Path:
    output = CACHE / target
    if not output.exists() or output.stat().st_mtime < SOURCE.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([*command, "-o", str(output), str(SOURCE)], check=True)
    return output


def guest() -> Path:
    """The benchmark program compiled for WASI."""
    return _build("bench.wasm", [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-Os", "-s"])


def _parse(output: str) -> Table:
    return {name: float(value) for name, value in (line.split("\t") for line in output.splitlines())}


def _vfswasi(preopens: dict[str, object], *arguments: str) -> Table:
    result = vfswasi.run(
        guest(), ["/d", *arguments], preopens=preopens, capture_output=True, text=True, check=True  # type: ignore[arg-type]
    )
    return _parse(result.stdout)


def vfswasi_memory() -> Table:
    """This project, files in memory."""
    return _vfswasi({"/d": {}})


def vfswasi_local() -> Table:
    """This project, a local directory."""
    with directory() as path:
        return _vfswasi({"/d": vfswasi.Mount(path, rw=True)})


def vfswasi_zip() -> Table:
    """This project, stored members of a zip archive; only the rows that need no writing."""
    with directory() as path:
        archive = path / "bench.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as writer:
            writer.writestr("small", b"x" * (1 << 20))
            writer.writestr("large", b"x" * (16 << 20))
            for number in range(1000):
                writer.writestr(f"many/file-{number:04}", b"")
        return _vfswasi({"/d": archive}, "readonly")


def wasmtime_py() -> Table:
    """wasmtime's own WASI, through the same Python package."""
    with directory() as path, directory() as out:
        engine = wasmtime.Engine()
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        store = wasmtime.Store(engine)
        config = wasmtime.WasiConfig()
        config.argv = ["bench", "/d"]
        config.preopen_dir(str(path), "/d")
        config.stdout_file = str(out / "table")
        store.set_wasi(config)
        instance = linker.instantiate(store, wasmtime.Module.from_file(engine, str(guest())))
        try:
            instance.exports(store)["_start"](store)
        except wasmtime.ExitTrap as end:
            if end.code:
                raise
        return _parse((out / "table").read_text())


def _command(command: list[str]) -> Table:
    return _parse(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def node() -> Table:
    """Node's node:wasi."""
    with directory() as path:
        return _command(["node", "--no-warnings", str(HERE / "node_peer.mjs"), str(guest()), str(path)])


def wasmtime_cli() -> Table:
    """The wasmtime command."""
    with directory() as path:
        return _command(["wasmtime", "run", "--dir", f"{path}::/d", str(guest()), "/d"])


def native() -> Table:
    """The same C program, compiled for this machine."""
    program = _build("bench", ["cc", "-O2"])
    with directory() as path:
        return _command([str(program), str(path)])


def available() -> dict[str, Peer]:
    """Name -> peer, for everything that is installed; the first is what ratios refer to."""
    peers: dict[str, Peer] = {
        "vfswasi memory": vfswasi_memory,
        "vfswasi local": vfswasi_local,
        "vfswasi zip": vfswasi_zip,
        "wasmtime-py": wasmtime_py,
    }
    if shutil.which("wasmtime"):
        peers["wasmtime"] = wasmtime_cli
    if shutil.which("node"):
        peers["node:wasi"] = node
    if shutil.which("cc"):
        peers["native C"] = native
    return peers


def machine() -> str:
    """One line that names everything the figures depend on."""
    cpu = "unknown CPU"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    parts = [
        f"{cpu}, {os.cpu_count()} cores",
        f"{os.uname().sysname} {os.uname().release}",
        f"Python {sys.version.split()[0]}",
        f"wasmtime-py {version('wasmtime')}",
    ]
    for program, flag in (("wasmtime", "--version"), ("node", "--version"), ("cc", "--version")):
        if shutil.which(program):
            first = subprocess.run([program, flag], capture_output=True, text=True, check=True).stdout.splitlines()[0]
            parts.append(first if program in first else f"{program} {first}")
    parts.append(f"files in {scratch()}")
    return "; ".join(parts)
