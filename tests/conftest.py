"""Fixtures that many tests share: a writable mount of every writable kind, and compiled C guests."""

from __future__ import annotations

import io
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.engine.interruption import ways
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend

from .guest_programs import compile_guest
from .rawguest import RawGuest

pytest_plugins = ["pytester"]


def pytest_configure() -> None:
    """A shell ignores signals for what it runs in the background, and what is ignored is inherited: the programs that
    the tests start would be deaf to Ctrl-C. What a handler stands for is not inherited."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, lambda *_: None),
        (signal.SIGQUIT, lambda *_: None),
    ):
        if signal.getsignal(number) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def _own_module_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled modules are cached below the project, so that the second run of the tests is quick."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, name in (("VFSWASI_CACHE_DIR", "modules"), ("VFSWASI_KEY_DIR", "key")):
            directory = Path(__file__).parents[1] / ".cache" / name
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
            patch.setenv(variable, str(directory))
        yield


@pytest.fixture(autouse=True, scope="session")
def _eager_fast_path() -> Iterator[None]:
    """Descriptors are published at their first use: tests are short, and each call is to meet the fast path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastpath, "HEAT", 1)
        patch.setattr(fastpath, "WARMTH", 1)
        yield


@pytest.fixture(params=["page", "epoch"])
def interruption(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ways.Way:
    """Guests that compute are interrupted in this way, in the test and in the processes that it starts."""
    monkeypatch.setenv("VFSWASI_INTERRUPT", request.param)
    way: ways.Way = request.param
    return way


@pytest.fixture(params=["memory", "local", "overlay over memory", "overlay over zip"])
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> vfswasi.Mount:
    """An empty writable place of each kind that can do everything."""
    return empty_mount(request.param, tmp_path / "root")


def empty_mount(kind: str, root: Path) -> vfswasi.Mount:
    """`root`: a directory that is made for kinds with "local"."""
    if "local" in kind:
        root.mkdir()
    if kind == "memory":
        return vfswasi.Mount({}, rw=True)
    if kind == "local":
        return vfswasi.Mount(root, rw=True)
    bases: dict[str, Callable[[], Backend]] = {
        "overlay over memory": vfswasi.MemoryBackend,
        "overlay over local": lambda: vfswasi.LocalBackend(root),
        "overlay over zip": _empty_zip,
    }
    return vfswasi.Mount(OverlayBackend(bases[kind](), close_base=True), rw=True)


def _empty_zip() -> Backend:
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    return ZipBackend(file)


@pytest.fixture
def guest(mount: vfswasi.Mount) -> Iterator[RawGuest]:
    """A raw guest with `mount` as descriptor 3, named "/d"."""
    with RawGuest({"/d": mount}) as raw:
        yield raw


@pytest.fixture
def program() -> Callable[[str], Path]:
    """`program("hello")`: the compiled tests/guests/hello.c."""
    return compile_guest


@pytest.fixture
def run_program() -> Callable[..., vfswasi.Result]:
    """`run_program("hello", ["a"], preopens=...)`: output captured as text, 60 seconds at most."""

    def run(name: str, args: list[str] | None = None, **options: Any) -> vfswasi.Result:
        options = {"capture_output": True, "text": True, "timeout": 60, **options}
        return vfswasi.run(compile_guest(name), args or [], **options)

    return run
