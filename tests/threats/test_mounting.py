"""Mounting keeps to the time, the limits and the interruptions of the run that it is for."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

import vfswasi
from vfswasi import Limits
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..wat_programs import program

pytestmark = pytest.mark.alone

NOTHING = program("")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers: its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.parametrize("source", ["{}", "zip://*::{}x.zip", "tar://*::{}x.tar"])
def test_a_server_that_never_answers_is_a_timeout(silent: str, source: str) -> None:
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"mounting was not done after 0\.3 seconds") as caught:
        vfswasi.run(NOTHING, preopens={"/d": source.format(silent)}, timeout=0.3)
    assert time.monotonic() - started < 2
    assert caught.value.limit == "wall_seconds"
    assert 0.3 <= caught.value.usage.wall_seconds < 2


def test_a_sandbox_opens_its_mounts_within_its_own_timeout_and_that_of_its_limits(silent: str) -> None:
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"after 0\.2 seconds"):
        vfswasi.Sandbox(NOTHING, preopens={"/d": silent}, timeout=0.2)
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"after 0\.2 seconds"):
        vfswasi.Sandbox(NOTHING, preopens={"/d": silent}, limits=Limits(wall_seconds=0.2))
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"after 0\.2 seconds"):
        vfswasi.WASI(version="preview1", preopens={"/d": silent}, limits=Limits(wall_seconds=0.2))


def test_a_source_that_hangs_in_foreign_code_is_left_behind_and_closed_when_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()
    closed = threading.Event()

    class Late(MemoryBackend):
        def close(self) -> None:
            closed.set()

    def hangs(_mount: object) -> Late:
        release.wait(30)
        return Late()

    monkeypatch.setattr("vfswasi.mounts.finding.sources.open_mount", hangs)
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(NOTHING, preopens={"/d": "somewhere"}, timeout=0.2)
    assert time.monotonic() - started < 2
    assert not closed.is_set()
    release.set()
    assert closed.wait(10)


def test_time_that_mounting_took_is_gone_for_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_mount: object) -> MemoryBackend:
        time.sleep(0.3)
        return MemoryBackend()

    monkeypatch.setattr("vfswasi.mounts.finding.sources.open_mount", slow)
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"still running after 0\.5 seconds"):
        vfswasi.run(program("(loop $l (br $l))"), preopens={"/d": "somewhere"}, timeout=0.5)
    assert 0.45 < time.monotonic() - started < 2


def test_limits_of_the_run_hold_while_mounting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int | None, int]] = []

    def greedy(_mount: object) -> MemoryBackend:
        asked.append((waiting.most_entries(), waiting.indexes().most))
        waiting.indexes().take(1001)
        return MemoryBackend()

    monkeypatch.setattr("vfswasi.mounts.finding.sources.open_mount", greedy)
    limits = Limits(index_bytes=1000, directory_entries=5)
    with pytest.raises(vfswasi.MountError, match=r"mount '/d': 'somewhere': Limits\.index_bytes \(1,000 bytes\)"):
        vfswasi.run(NOTHING, preopens={"/d": "somewhere"}, limits=limits)
    assert asked == [(5, 1000)]
    assert vfswasi.run(NOTHING, preopens={"/d": "somewhere"}, limits=Limits(index_bytes=1001)).returncode == 0


def test_an_error_of_a_store_that_is_none_of_the_bounds_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_mount: object) -> MemoryBackend:
        raise FsError(Errno.IO, "the disk is broken")

    monkeypatch.setattr("vfswasi.mounts.finding.sources.open_mount", failing)
    with pytest.raises(vfswasi.MountError, match="the disk is broken"):
        vfswasi.run(NOTHING, preopens={"/d": "somewhere"}, timeout=60)


def test_ctrl_c_while_mounting(silent: str) -> None:
    code = f"""
        import signal, vfswasi
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("ready", flush=True)
        try:
            vfswasi.run({NOTHING!r}, preopens={{"/d": {silent!r}}})
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert process.communicate(timeout=20)[0] == "interrupted\n"
        assert time.monotonic() - started < 5
