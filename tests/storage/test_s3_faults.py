"""When the network, the server or another writer gets in the way, the guest hears of it in time; nothing is lost."""

from __future__ import annotations

import dataclasses
import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Errno, Mount, ReadCache, cli
from vfswasi.fs_backends.remote.backend import RemoteBackend

from ..guest_programs import compile_guest
from .proxy import FAULTS, Proxy
from .servers import Server

MIB = 1 << 20
# The largest time that a guest may have to wait: the requests of these tests have 1.5 s.
PATIENCE_S = 10.0


@pytest.fixture
def bucket(s3_server: Server) -> str:
    name = s3_server.new_bucket()
    s3_server.file_system().pipe_file(f"{name}/in/file", bytes(range(256)) * 4096)
    s3_server.file_system().pipe_file(f"{name}/out/old", b"the old contents")
    return name


def mount(proxy: Proxy, where: str, **options: Any) -> Mount:
    return Mount(f"s3://{where}", endpoint=proxy.endpoint, cache=ReadCache(), timeout=20, **options)


def hurry(sandbox: vfswasi.Sandbox) -> None:
    """From here on requests have 1.5 s. The first one makes a session, which takes longer on a busy machine."""
    for prepared in sandbox._mounts._mounts:
        assert isinstance(prepared.backend, RemoteBackend)
        prepared.backend.client.timeout_s = 1.5
        prepared.backend.read_options = dataclasses.replace(prepared.backend.read_options, timeout_s=1.5)


def run_read(proxy: Proxy, bucket: str, before: Callable[[], None]) -> tuple[vfswasi.Result, float]:
    """The result of reading a file of 1 MiB, and seconds; `before` is called when it is mounted."""
    with vfswasi.Sandbox(compile_guest("seqread"), preopens={"/d": mount(proxy, f"{bucket}/in")}) as sandbox:
        hurry(sandbox)
        before()
        start = time.monotonic()
        result = sandbox.run(["/d/file", "65536"], capture_output=True, text=True)
        return result, time.monotonic() - start


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
@pytest.mark.parametrize("how", [*FAULTS, 500, 503])
@pytest.mark.parametrize("what", ["list", "read"])
def test_one_fault_while_reading_is_survived_or_told(proxy: Proxy, bucket: str, how: str | int, what: str) -> None:
    where = {"query": "list-type"} if what == "list" else {"path": "/in/file"}
    result, seconds = run_read(proxy, bucket, lambda: proxy.fail(how, method="GET", times=1, **where))
    assert seconds < PATIENCE_S
    if result.returncode:
        assert result.stderr.strip().endswith("I/O error"), result.stderr
        assert how in ("hang", "hang in body", 500, 503)
    else:
        assert result.stdout.startswith("1048576 ")


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
@pytest.mark.parametrize(("how", "says"), [*((fault, "I/O error") for fault in FAULTS), (500, "I/O error"),
                                           (503, "I/O error"), (403, "Permission denied")])  # fmt: skip
@pytest.mark.parametrize("what", ["list", "read"])
def test_lasting_faults_while_reading(proxy: Proxy, bucket: str, how: str | int, says: str, what: str) -> None:
    where = {"query": "list-type"} if what == "list" else {"path": "/in/file"}
    result, seconds = run_read(proxy, bucket, lambda: proxy.fail(how, method="GET", times=1000, **where))
    assert seconds < PATIENCE_S
    if (what, how) == ("list", 403):  # who may not list may read what it knows the name of
        assert result.stdout.startswith("1048576 ")
        return
    assert result.returncode in (1, 2)
    assert result.stderr.strip().endswith(says), result.stderr


@pytest.mark.alone
def test_a_hanging_store_ends_with_the_deadline(proxy: Proxy, bucket: str) -> None:
    preopens = {"/d": Mount(f"s3://{bucket}/in", endpoint=proxy.endpoint, cache=0, timeout=60)}
    with vfswasi.Sandbox(compile_guest("seqread"), preopens=preopens) as sandbox:
        proxy.fail("hang", method="GET", times=1000)
        start = time.monotonic()
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(["/d/file", "65536"], capture_output=True, timeout=0.5)
        assert time.monotonic() - start < 1.5


def test_an_object_that_is_replaced_while_it_is_open(s3_server: Server, proxy: Proxy, bucket: str) -> None:
    """The next read of it is an I/O error: never bytes of two versions."""
    backend = vfswasi.FsspecBackend(s3_server.file_system(), f"{bucket}/in")
    handle = backend.open(("file",), False)
    buffer = bytearray(1000)
    assert handle.read_into(0, buffer) == 1000
    s3_server.file_system().pipe_file(f"{bucket}/in/file", b"n" * MIB)
    errno = Errno.SUCCESS
    for offset in range(0, MIB - 1000, 1000):
        try:
            handle.read_into(offset, buffer)
        except vfswasi.FsError as error:
            errno = error.errno
            break
        assert bytes(buffer) != b"n" * 1000
    assert errno is Errno.IO
    handle.close()
    # And who opens it then has the new one, although a listing told of the old.
    handle = backend.open(("file",), False)
    assert handle.read_into(0, buffer) == 1000
    assert bytes(buffer) == b"n" * 1000
    handle.close()
    backend.close()


# Writing


def write(
    proxy: Proxy, bucket: str, size: int, before: Callable[[], None], end: str = ""
) -> tuple[vfswasi.Result, vfswasi.UncommittedError | None, float]:
    preopens = {"/d": mount(proxy, f"{bucket}/out", rw=True)}
    with vfswasi.Sandbox(compile_guest("seqwrite"), preopens=preopens) as sandbox:
        hurry(sandbox)
        before()
        start = time.monotonic()
        try:
            result = sandbox.run(["/d/old", str(size), end], capture_output=True, text=True)
        except vfswasi.UncommittedError as error:
            return error.result, error, time.monotonic() - start
        return result, None, time.monotonic() - start


@cache
def pattern(size: int) -> bytes:
    return b"".join((number * 2654435761 % 2**32).to_bytes(4, "little") for number in range(-(-size // 4)))[:size]


# The requests of a small write, and of one that goes in parts.
SMALL = 100_000
LARGE = 34 * MIB
WRITES = [(SMALL, "PUT", ""), (LARGE, "POST", "uploads"), (LARGE, "PUT", "partNumber=2"), (LARGE, "POST", "uploadId")]


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
@pytest.mark.parametrize(("size", "method", "query"), WRITES)
@pytest.mark.parametrize("how", ["refuse", "cut before answer", "hang", 500, 503, 403, 507])
def test_a_failed_write_leaves_the_old_object_and_is_told_twice(
    s3_server: Server, proxy: Proxy, bucket: str, size: int, method: str, query: str, how: str | int
) -> None:
    result, error, seconds = write(
        proxy, bucket, size, lambda: proxy.fail(how, method=method, query=query, path="/out/old", times=1000)
    )
    assert seconds < PATIENCE_S + 4
    s3 = s3_server.file_system()
    stored = s3.cat_file(f"{bucket}/out/old")
    assert result.returncode in (2, 3), "the guest was not told"
    assert result.stdout.startswith(("close: ", "write: "))
    if how == "cut before answer" and (method, query) in (("PUT", ""), ("POST", "uploadId")):
        assert stored in (b"the old contents", pattern(size))  # the server did it, and could not say so
    else:
        assert stored == b"the old contents"
    assert error is not None
    (lost,) = error.files
    assert lost.path == "/d/old"
    assert lost.error.errno is {403: Errno.ACCES, 507: Errno.NOSPC}.get(how, lost.error.errno)  # type: ignore[call-overload]
    if result.stdout.startswith("close: "):
        assert lost.read() == pattern(size)
    lost.close()
    assert not s3.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads") or how == "cut before answer"


def test_one_fault_while_writing_parts_is_survived(s3_server: Server, proxy: Proxy, bucket: str) -> None:
    for how in ("refuse", 503, "cut before answer"):

        def break_one(how: str | int = how) -> None:
            proxy.heal()
            proxy.fail(how, method="PUT", query="partNumber=2", times=1)

        result, error, _ = write(proxy, bucket, LARGE, break_one)
        assert (result.returncode, error) == (0, None), how
        assert s3_server.file_system().cat_file(f"{bucket}/out/old") == pattern(LARGE)


@pytest.mark.parametrize(("size", "end"), [(SMALL, "ignore"), (SMALL, "exit"), (LARGE, "exit")])
def test_a_guest_that_ignores_close_does_not_hide_it(proxy: Proxy, bucket: str, size: int, end: str) -> None:
    result, error, _ = write(proxy, bucket, size, lambda: proxy.fail(403, method="PUT", times=1000), end)
    assert result.returncode in (0, 2)
    assert error is not None
    assert [lost.path for lost in error.files] == ["/d/old"]
    assert "/d/old" in str(error)
    if result.returncode == 0:
        assert error.files[0].read() == pattern(size)
    for lost in error.files:
        lost.close()


def test_contents_that_were_not_stored_can_be_saved(proxy: Proxy, bucket: str, tmp_path: Path) -> None:
    _, error, _ = write(proxy, bucket, SMALL, lambda: proxy.fail(403, method="PUT", times=1000))
    assert error is not None
    error.files[0].save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == pattern(SMALL)
    with pytest.raises(FileExistsError):
        error.files[0].save(tmp_path / "saved")
    error.files[0].close()


def test_the_command_line_saves_what_was_not_stored(
    proxy: Proxy, bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    proxy.fail(403, method="PUT", times=1000)
    source = f"/d=s3://{bucket}/out,rw,timeout=20,endpoint={proxy.endpoint}"
    assert cli.main(["run", "--mount", source, str(compile_guest("seqwrite")), "/d/old", str(SMALL), "ignore"]) == 125
    (line,) = capfd.readouterr().err.splitlines()
    assert "could not be stored: /d/old" in line
    (saved,) = tmp_path.glob("vfswasi-not-stored-*/1-old")
    assert str(saved.parent) in line
    assert saved.read_bytes() == pattern(SMALL)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_trap_commits_nothing_that_was_not_closed(s3_server: Server, proxy: Proxy, bucket: str, size: int) -> None:
    result, error, _ = write(proxy, bucket, size, lambda: None, "trap")
    assert result.trap is not None
    assert error is None
    s3 = s3_server.file_system()
    assert s3.cat_file(f"{bucket}/out/old") == b"the old contents"
    assert not s3.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads")


@pytest.mark.parametrize("end", ["sync", "exit", ""])
def test_exit_and_sync_and_close_commit(s3_server: Server, proxy: Proxy, bucket: str, end: str) -> None:
    result, error, _ = write(proxy, bucket, SMALL, lambda: None, end)
    assert (result.returncode, error) == (0, None)
    assert s3_server.file_system().cat_file(f"{bucket}/out/old") == pattern(SMALL)
    puts = [request for request in proxy.requests() if request.method in ("PUT", "POST")]
    assert len(puts) == 1


def test_of_two_writers_one_wins_and_the_other_hears_of_it(s3_server: Server, bucket: str) -> None:
    one, other = (vfswasi.FsspecBackend(s3_server.file_system(), f"{bucket}/out") for _ in range(2))
    for key, errno in ((("new",), Errno.EXIST), (("old",), Errno.STALE)):
        handles = []
        for number, backend in enumerate((one, other)):
            handle = backend.create(key) if key == ("new",) else backend.open(key, True)
            handle.truncate(0)
            handle.write_from(0, b"writer %d" % number)
            handles.append(handle)
        handles[0].close()
        with pytest.raises(vfswasi.FsError) as caught:
            handles[1].close()
        assert caught.value.errno is errno
        assert s3_server.file_system().cat_file(f"{bucket}/out/{key[0]}") == b"writer 0"
        (lost,) = other.take_uncommitted()
        assert lost.read() == b"writer 1"
        lost.close()
    one.close()
    other.close()


def threads_and_connections(proxy: Proxy) -> tuple[int, int]:
    return threading.active_count(), proxy.connections()


def test_no_thread_and_no_connection_is_left_behind(proxy: Proxy, bucket: str) -> None:
    def a_few_runs() -> None:
        run_read(proxy, bucket, lambda: proxy.fail("cut in body", method="GET", path="/in/file", times=1))
        run_read(proxy, bucket, lambda: proxy.fail("hang in body", method="GET", path="/in/file", times=1000))
        proxy.heal()
        write(proxy, bucket, SMALL, lambda: None)

    a_few_runs()
    gc.collect()
    time.sleep(0.5)
    before = threads_and_connections(proxy)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        a_few_runs()
    gc.collect()
    give_up = time.monotonic() + 5
    while time.monotonic() < give_up and threads_and_connections(proxy) > before:
        time.sleep(0.1)
    assert threads_and_connections(proxy) <= before
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
