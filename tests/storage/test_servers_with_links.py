"""Servers that follow links, on loopback: FTP (pyftpdlib) and SFTP (paramiko), where these packages are installed."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfswasi import Mount, MountError
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import FileType
from vfswasi.mounts.finding import sources
from vfswasi.testing.ground import contents, errno_of

from ..rawguest import RawGuest
from . import ftp_server


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """What the server shows, with a directory in it that has links out of itself."""
    root = tmp_path / "served"
    (root / "jail" / "sub").mkdir(parents=True)
    (root / "jail" / "f").write_bytes(b"content")
    (root / "jail" / "sub" / "g").write_bytes(b"below")
    (root / "outside").mkdir()
    (root / "outside" / "secret").write_bytes(b"secret")
    (root / "jail" / "out").symlink_to("../outside")
    (root / "jail" / "file").symlink_to("../outside/secret")
    return root


@pytest.fixture
def ftp(served: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports asyncore
        pytest.importorskip("pyftpdlib")
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.handlers import FTPHandler
        from pyftpdlib.servers import FTPServer

    authorizer = DummyAuthorizer()
    authorizer.add_user("me", "word", str(served), perm="elradfmwMT")
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
    server = FTPServer(("127.0.0.1", 0), handler)
    with ftp_server.served(server):
        yield f"ftp://me:word@127.0.0.1:{server.socket.getsockname()[1]}"


@pytest.fixture
def sftp(served: Path) -> Iterator[str]:
    paramiko = pytest.importorskip("paramiko")

    class Login(paramiko.ServerInterface):  # type: ignore[misc, name-defined]
        def check_channel_request(self, kind: str, chanid: int) -> int:
            return int(paramiko.OPEN_SUCCEEDED)

        def check_auth_password(self, username: str, password: str) -> int:
            return int(paramiko.AUTH_SUCCESSFUL)

    class Files(paramiko.SFTPServerInterface):  # type: ignore[misc, name-defined]
        """As an SFTP server is: it follows links, and its listings show them."""

        def _real(self, path: str) -> str:
            return str(served) + self.canonicalize(path)

        def list_folder(self, path: str) -> Any:
            try:
                return [
                    paramiko.SFTPAttributes.from_stat(os.lstat(os.path.join(self._real(path), name)), name)
                    for name in os.listdir(self._real(path))
                ]
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)

        def _stat(self, look: Any, path: str) -> Any:
            try:
                return paramiko.SFTPAttributes.from_stat(look(self._real(path)))
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)

        def stat(self, path: str) -> Any:
            return self._stat(os.stat, path)

        def lstat(self, path: str) -> Any:
            return self._stat(os.lstat, path)

        def open(self, path: str, flags: int, attr: Any) -> Any:
            try:
                fd = os.open(self._real(path), flags, 0o600)
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)
            handle = paramiko.SFTPHandle(flags)
            handle.readfile = os.fdopen(fd, "r+b" if flags & (os.O_WRONLY | os.O_RDWR) else "rb", buffering=0)
            handle.writefile = handle.readfile
            return handle

    key = paramiko.RSAKey.generate(1024)
    listening = socket.create_server(("127.0.0.1", 0))
    transports: list[Any] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                transport = paramiko.Transport(connection)
                transports.append(transport)
                transport.add_server_key(key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
                transport.start_server(server=Login())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"sftp://me:word@127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for transport in transports:
        transport.close()
    thread.join(5)


@pytest.fixture(params=["ftp", "sftp"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_a_part_of_the_server_is_refused(server: str) -> None:
    for source in (f"{server}/jail", f"simplecache::{server}/jail", f"dir://jail::{server}/", f"{server}/jail/sub"):
        with pytest.raises(MountError, match="the server follows links") as caught:
            sources.open_source(source)
        assert "word" not in str(caught.value)
    with pytest.raises(MountError, match="the server follows links"):
        sources.open_source(Mount(f"{server}/", root="jail"))


def test_the_whole_server_is_mounted(server: str) -> None:
    backend = sources.open_source(f"{server}/")
    assert {entry.name for entry in backend.list(())} == {"jail", "outside"}
    assert contents(backend, ("jail", "f")) == b"content"
    backend.close()


@pytest.mark.parametrize("listing", [0, 30])
def test_a_trusted_part_shows_links_as_links(sftp: str, listing: float) -> None:
    """Asked for a name by itself, the server would tell of what the link leads to."""
    mount = Mount(f"{sftp}/jail", trust=True, rw=True, listing=listing)
    backend = sources.open_source(mount)
    for name in ("out", "file"):
        assert backend.stat((name,)).filetype is FileType.SYMBOLIC_LINK
        assert errno_of(backend.open, (name,), False) is Errno.LOOP
        assert errno_of(backend.rename, (name,), ("copy",)) is Errno.NOTSUP
    assert errno_of(backend.stat, ("out", "secret")) is Errno.NOTDIR
    assert backend.walk((), ("out", "secret"))[0] == 1
    assert contents(backend, ("sub", "g")) == b"below"
    backend.close()
    with RawGuest({"/d": mount}) as guest:
        for path in ("out/secret", "file", "sub/../out/secret"):
            assert guest.try_open(path)[0] is not Errno.SUCCESS
        assert guest.contents("f") == b"content"


def test_an_archive_on_the_server_is_one_file_that_was_named(server: str, served: Path) -> None:
    import zipfile

    with zipfile.ZipFile(served / "jail" / "a.zip", "w") as made:
        made.writestr("x", b"zipped")
    backend = sources.open_source(f"zip://*::{server}/jail/a.zip")
    assert contents(backend, ("x",)) == b"zipped"
    backend.close()
