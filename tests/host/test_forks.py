"""A process that is forked while other threads hold locks of the package: the child runs guests all the same."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import vfswasi

ROOT = Path(__file__).parents[2]
LOCKS = (type(threading.Lock()), type(threading.RLock()))
# Those of objects that all of a process shares.
SHARED = (
    "engine.runner _watchdog._lock",
    "fs_backends.budget _indexes._lock",
    "fs_backends.budget _buffers._lock",
    "fs_backends.remote.cache _default._lock",
)


def locks() -> list[str]:
    """ "module name" of each lock of a module."""
    found = []
    for info in pkgutil.walk_packages(vfswasi.__path__, "vfswasi."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            names = [name for name, value in vars(module).items() if isinstance(value, LOCKS)]
            found += [f"{info.name.removeprefix('vfswasi.')} {name}" for name in names]
    return sorted(found)


# Its first argument names the lock.
PROGRAM = r"""
import importlib, io, multiprocessing, operator, sys, threading, zipfile
import vfswasi
from tests.fast_path import guests
from vfswasi.fs_backends.remote import asker, cache

archive = io.BytesIO()
with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
    writer.writestr("f", b"0123456789abcdef" * 1000)
path = sys.argv[2]
with open(path, "wb") as file:
    file.write(archive.getvalue())
wasm = guests.module(guests.opening() + guests.repeated(500, guests.READ + guests.REWIND))

def use_all() -> None:
    for source in (path, {"f": b"0123456789abcdef" * 1000}):
        vfswasi.run(wasm, preopens={"/d": source}, check=True, timeout=60)
    cache.default_cache().put(("", "", ""), 0, b"x")
    assert cache.default_cache().get(("", "", ""), 0) == b"x"
    assert asker.token_of(use_all)

use_all()
module, _, name = sys.argv[1].partition(" ")
lock = operator.attrgetter(name)(importlib.import_module("vfswasi." + module))
held, over = threading.Event(), threading.Event()

def hold() -> None:
    with lock:
        held.set()
        over.wait()

threading.Thread(target=hold).start()
held.wait()
child = multiprocessing.get_context("fork").Process(target=use_all)
child.start()
child.join(60)
hangs = child.exitcode is None
if hangs:
    child.kill()
over.set()
sys.exit("the child hangs" if hangs else child.exitcode)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("lock", [*locks(), *SHARED])
def test_a_child_runs_guests_whatever_lock_another_thread_held(lock: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, lock, str(tmp_path / "a.zip")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_locks_are_found() -> None:
    expected = ("engine.compiling.modules", "engine.fast_path.vdso", "kernel.files.sharing")
    assert {f"{module} _lock" for module in expected} <= set(locks())
