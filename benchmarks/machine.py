"""What the numbers were measured on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe(directory: Path) -> dict[str, str]:
    """Name -> value, in the order to print them; `directory` is where the files of the benchmark lie."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "files on": _file_system(directory),
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "vfswasi": _package("vfswasi"),
        "wasmtime-py": _package("wasmtime"),
        "wasmtime CLI": _first_line("wasmtime", "--version"),
        "node": _first_line("node", "--version"),
        "cc": _first_line("cc", "--version"),
        "guest compiler": f"zig {_package('ziglang')}, wasm32-wasi -Os",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`: the longest mount point above it decides."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    above = {str(directory), *map(str, directory.parents)}
    found = [(len(mount[1]), mount[2]) for mount in mounts if mount[1] in above]
    return max(found)[1] if found else "unknown"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        if name != "vfswasi":
            return "not installed"
        import vfswasi  # run from a clone without being installed

        return vfswasi.__version__


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]
