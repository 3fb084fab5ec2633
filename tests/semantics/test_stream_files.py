"""Which file the guest reads and writes when the caller passes a file object, and that it stays that file."""

# ruff: noqa: SIM115
from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import http.server
import io
import lzma
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

from ..rawguest import FREE, RawGuest, pack_subscriptions, unpack_events

# An object whose descriptor is not what it reads and writes is used through its own methods.

_OPENERS: dict[str, Callable[[Path, str], Any]] = {
    "gzip": lambda path, mode: gzip.open(path, mode),
    "bz2": lambda path, mode: bz2.open(path, mode),
    "lzma": lambda path, mode: lzma.open(path, mode),
    "gzip, text": lambda path, mode: gzip.open(path, mode[0] + "t", encoding="utf-8", newline=""),
    "gzip, buffered": lambda path, mode: (
        io.BufferedReader(gzip.open(path, "rb")) if mode == "rb" else io.BufferedWriter(gzip.open(path, "wb"))  # type: ignore[arg-type, type-var]
    ),
    "codecs": lambda path, mode: codecs.open(str(path), mode[0], "utf-16"),
    "a subclass": lambda path, mode: _Swapped(path, mode),
    "a subclass of a buffer": lambda path, mode: (
        _SwappedBuffered(io.FileIO(path)) if mode == "rb" else _Swapped(path, mode)
    ),
    "a subclass of text": lambda path, mode: _SwappedText(open(path, mode)),
    "a method of its own": lambda path, mode: _patched(path, mode),
    "a temporary file's wrapper around another": lambda path, mode: tempfile._TemporaryFileWrapper(  # type: ignore[type-var]
        gzip.open(path, mode), "name", delete=False
    ),
}


class _Swapped(io.FileIO):
    """Lower case outside, upper case inside."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data).lower())

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        return (super().read(size) or b"").upper()


class _SwappedBuffered(io.BufferedReader):
    """`read` does something, and `read1` is inherited."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size).upper()


class _SwappedText(io.TextIOWrapper):
    def write(self, text: str) -> int:
        return super().write(text.lower())

    def read(self, size: int | None = -1) -> str:
        return super().read(size).upper()


def _patched(path: Path, mode: str) -> Any:
    """An object of a plain type whose `read` and `write` somebody has replaced."""
    file = open(path, mode, buffering=0)
    read, write = file.read, file.write
    file.read = lambda size=-1: read(size).upper()  # type: ignore[method-assign, misc]
    file.write = lambda data: write(bytes(data).lower())  # type: ignore[method-assign, misc, assignment]
    return file


@pytest.mark.parametrize("kind", _OPENERS)
def test_objects_that_change_what_passes_through_are_read_and_written_themselves(kind: str, tmp_path: Path) -> None:
    path, text = tmp_path / "f", "SOME TEXT € ÜBER ALLES"
    with _OPENERS[kind](path, "wb") as file, RawGuest(stdout=file) as guest:
        raw = text.encode()
        for start in range(0, len(raw), 3):  # characters come in pieces
            guest.write(1, raw[start : start + 3])
    assert path.read_bytes() != text.encode()
    with _OPENERS[kind](path, "rb") as file, RawGuest(stdin=file) as guest:
        got = b""
        while piece := guest.read(0, 7):
            got += piece
    assert got.decode().upper() == text.upper()


def test_a_member_of_a_zip_is_read_unpacked_and_written_packed(tmp_path: Path) -> None:
    packed = zipfile.ZipFile(tmp_path / "z", "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("m", "w") as member, RawGuest(stdout=member) as guest:
        guest.write(1, b"member" * 10)
    with zipfile.ZipFile(tmp_path / "z") as archive, archive.open("m") as member, RawGuest(stdin=member) as guest:
        assert guest.read(0, 100) == b"member" * 10


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("size", [4, 1 << 20])
def test_a_spooled_temporary_file(text: bool, size: int) -> None:
    mode = "w+" if text else "w+b"
    with tempfile.SpooledTemporaryFile(size, mode) as file, RawGuest(stdout=file, stderr=file) as guest:
        guest.write(1, b"ten")
        guest.write(2, b"thousand")
        file.seek(0)
        assert file.read() in ("tenthousand", b"tenthousand")


def test_a_text_file_in_memory_gets_whole_characters() -> None:
    file = io.StringIO()
    with RawGuest(stdout=file) as guest:
        for byte in "€uro".encode():
            guest.write(1, bytes([byte]))
        guest.write(1, b"\xe2\x82")
        assert file.getvalue() == "€uro"
    assert file.getvalue() == "€uro\ufffd", "half a character at the end"


@pytest.mark.parametrize("kind", ["file", "buffered", "text", "temporary", "pipe", "socket", "socket's file"])
def test_plain_files_are_used_through_their_descriptors(kind: str, tmp_path: Path) -> None:
    """Reading what is not there yet ends at the deadline, which a Python object's `read` would not."""
    with contextlib.ExitStack() as stack:
        file: Any
        if kind in ("file", "buffered", "text"):
            reading, writing = os.pipe()
            stack.callback(os.close, writing)
            options: dict[str, Any] = {"file": {"buffering": 0}, "buffered": {}, "text": {}}[kind]
            file = stack.enter_context(open(reading, "r" if kind == "text" else "rb", **options))
        elif kind == "temporary":
            file = stack.enter_context(tempfile.NamedTemporaryFile("w+b"))
            file.write(b"content")
            file.seek(0)
        elif kind == "pipe":
            process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.communicate, b"\n")
            file = process.stdout
        else:
            one, other = socket.socketpair()
            stack.callback(one.close)
            stack.callback(other.close)
            file = one if kind == "socket" else stack.enter_context(one.makefile("rb"))
        guest = stack.enter_context(RawGuest(stdin=file))
        guest.must("fd_fdstat_set_flags", 0, c.FDFLAG_NONBLOCK)  # which Python objects refuse
        errno = guest.call("fd_read", 0, *guest.iovs((FREE, 5)), FREE + 64)
        assert errno is (Errno.SUCCESS if kind == "temporary" else Errno.AGAIN)


def test_a_socket_takes_output() -> None:
    one, other = socket.socketpair()
    with one, other, RawGuest(stdout=one, stderr=one) as guest:
        guest.write(1, b"hello ")
        guest.write(2, b"there")
        assert other.recv(100) == b"hello there"


@pytest.fixture(scope="module")
def web_server() -> Iterator[str]:
    """Answers in chunks, so that what the socket carries is not what the response reads."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_response_of_a_web_server_is_its_contents(web_server: str) -> None:
    with urllib.request.urlopen(web_server) as response, RawGuest(stdin=response) as guest:
        got = b""
        while piece := guest.read(0, 100):
            got += piece
    assert got == b"hello there"


def test_a_tls_socket_carries_no_plain_text(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    pytest.importorskip("cryptography")
    _write_certificate(key, certificate)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cafile=str(certificate))
    one, other = socket.socketpair()
    got: list[bytes] = []

    def serve() -> None:
        with server_context.wrap_socket(other, server_side=True) as server:
            server.sendall(b"from the server")
            got.append(server.recv(100))

    thread = threading.Thread(target=serve)
    thread.start()
    with client_context.wrap_socket(one, server_hostname="localhost") as client:
        with RawGuest(stdin=client, stdout=client) as guest:
            assert guest.read(0, 100) == b"from the server"
            guest.write(1, b"from the guest")
        thread.join()
    assert got == [b"from the guest"]


def _write_certificate(key: Path, certificate: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    form = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, form))
    certificate.write_bytes(made.public_bytes(pem))


class _Slow(io.RawIOBase):
    """Takes three bytes at a time, and in the end none."""

    def __init__(self) -> None:
        self.got = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        piece = bytes(data)[:3]
        self.got += piece
        return len(piece) if len(self.got) < 8 else None


def test_a_file_that_takes_a_part_tells_the_guest_how_much() -> None:
    slow = _Slow()
    with RawGuest(stdout=slow) as guest:
        assert guest.write(1, b"0123456789") == 3
        assert guest.write(1, b"3456789") == 3
        guest.poke(FREE, b"6789")
        assert guest.call("fd_write", 1, *guest.iovs((FREE, 4)), FREE + 64) is Errno.IO
    assert slow.got[:6] == b"012345"


# NONBLOCK.


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_reading_an_idle_pipe_without_blocking_is_again(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with RawGuest(stdin=reading) as guest:
        guest.must("fd_fdstat_set_flags", 0, c.FDFLAG_NONBLOCK)
        assert guest.fdstat(0).flags == c.FDFLAG_NONBLOCK
        read = ("fd_read", 0, *guest.iovs((FREE, 5)), FREE + 64)
        assert guest.call(*read) is Errno.AGAIN
        os.write(writing, b"data")
        assert guest.read(0, 5) == b"data"
        assert guest.call(*read) is Errno.AGAIN
        os.close(writing)
        assert guest.read(0, 5) == b"", "the end is no reason to wait"
    assert os.get_blocking(reading), "the flag is the guest's alone"


def test_poll_waits_for_what_would_not_block(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with RawGuest(stdin=reading) as guest:
        guest.must("fd_fdstat_set_flags", 0, c.FDFLAG_NONBLOCK)
        timer = threading.Timer(0.1, os.write, (writing, b"late"))
        timer.start()
        guest.poke(FREE, pack_subscriptions(guest.abi, [(7, "read", 0)]))
        guest.must("poll_oneoff", FREE, FREE + 0x1000, 1, FREE + 0x2000)
        (event,) = unpack_events(guest.peek(FREE + 0x1000, 32))
        assert (event.userdata, event.errno, event.nbytes) == (7, 0, 4)
        assert guest.read(0, 10) == b"late"
        timer.join()


def test_writing_to_a_full_pipe_without_blocking_is_again_or_a_part(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with RawGuest(stdout=writing) as guest:
        guest.must("fd_fdstat_set_flags", 1, c.FDFLAG_NONBLOCK)
        total = 0
        size = 40_000
        guest.poke(FREE, bytes(size))
        write = ("fd_write", 1, *guest.iovs((FREE, size)), FREE - 8)
        while (errno := guest.call(*write)) is Errno.SUCCESS:
            total += guest.u32(FREE - 8)
            assert total < 1 << 22
        assert errno is Errno.AGAIN
        got = 0
        while got < total:
            got += len(os.read(reading, total - got))
        assert got == total, "what was counted has arrived"
        assert guest.call(*write) is Errno.SUCCESS


@pytest.mark.parametrize("stdin", [b"bytes", None, vfswasi.DEVNULL, "file"])
def test_what_never_waits_takes_the_flag(stdin: Any, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        if stdin == "file":
            stdin = stack.enter_context(open(tmp_path / "f", "w+b"))
        guest = stack.enter_context(RawGuest(stdin=stdin, stdout=vfswasi.PIPE, stderr=vfswasi.DEVNULL))
        for fd in (0, 1, 2):
            guest.must("fd_fdstat_set_flags", fd, c.FDFLAG_NONBLOCK)
            assert guest.fdstat(fd).flags == c.FDFLAG_NONBLOCK
        guest.read(0, 5)
        guest.write(1, b"x")
        guest.write(2, b"x")


def test_what_may_wait_without_anybody_knowing_refuses_the_flag() -> None:
    out: list[bytes] = []
    streams: dict[str, Any] = {"stdin": io.BytesIO(b"data"), "stdout": out.append, "stderr": io.StringIO()}
    with RawGuest({"/dev": "dev:"}, **streams) as guest:
        for fd in (0, 1, 2):
            assert guest.call("fd_fdstat_set_flags", fd, c.FDFLAG_NONBLOCK) is Errno.NOTSUP
            assert guest.fdstat(fd).flags == 0
            guest.must("fd_fdstat_set_flags", fd, c.FDFLAG_APPEND)
        for name in ("stdin", "stdout", "stderr"):
            assert guest.try_open(name, fdflags=c.FDFLAG_NONBLOCK)[0] is Errno.NOTSUP
        assert guest.read(0, 4) == b"data"


def test_the_flag_of_a_device_that_is_a_stream_is_its_own(pipe: tuple[int, int]) -> None:
    with RawGuest({"/dev": "dev:"}, stdin=pipe[0]) as guest:
        again = guest.open("stdin", fdflags=c.FDFLAG_NONBLOCK)
        assert guest.call("fd_read", again, *guest.iovs((FREE, 5)), FREE + 64) is Errno.AGAIN
        assert guest.fdstat(0).flags == 0
        timer = threading.Timer(0.1, os.write, (pipe[1], b"late"))
        timer.start()
        assert guest.read(0, 5) == b"late", "descriptor 0 waits"
        timer.join()


def test_a_run_whose_input_stays_idle_still_ends_in_time(pipe: tuple[int, int]) -> None:
    module = b"""(module (import "wasi_snapshot_preview1" "fd_read" (func $r (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (func (export "_start") (i32.store (i32.const 4) (i32.const 9))
      (drop (call $r (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))))"""
    begun = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(module, stdin=pipe[0], timeout=0.1)
    assert time.monotonic() - begun < 20
