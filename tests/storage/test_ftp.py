"""A real FTP server: what it can do itself it is asked to do."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfswasi import Errno, Mount, MountError
from vfswasi.mounts.table import MountTable

from ..rawguest import RawGuest
from .ftp_server import served

PASSWORD = "hush-hush"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """(its directory, its URL)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is built on asyncore
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.handlers import FTPHandler
        from pyftpdlib.servers import ThreadedFTPServer

    logging.getLogger("pyftpdlib").setLevel(logging.ERROR)
    root = tmp_path / "ftp"
    root.mkdir()
    authorizer = DummyAuthorizer()
    authorizer.add_user("user", PASSWORD, str(root), perm="elradfmwMT")
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
    made = ThreadedFTPServer(("127.0.0.1", 0), handler)
    with served(made):
        yield root, f"ftp://user:{PASSWORD}@127.0.0.1:{made.address[1]}/"


def test_a_file_is_renamed_by_the_server(server: tuple[Path, str]) -> None:
    root, url = server
    (root / "old").write_bytes(b"contents")
    (root / "d").mkdir()
    (root / "there").write_bytes(b"replaced")
    number = (root / "old").stat().st_ino
    with RawGuest({"/d": Mount(url, rw=True)}) as guest:
        assert guest.rename("old", "new") is Errno.SUCCESS
        assert sorted(guest.names()) == [b"d", b"new", b"there"]
        assert guest.rename("new", "d/new") is Errno.SUCCESS
        assert guest.rename("d/new", "there") is Errno.SUCCESS
        assert guest.contents("there") == b"contents"
        assert guest.rename("missing", "x") is Errno.NOENT
        assert guest.rename("there", "d") is Errno.ISDIR
        assert guest.try_open("old")[0] is Errno.NOENT
    assert {path.name for path in root.iterdir()} == {"d", "there"}
    assert (root / "there").stat().st_ino == number  # it was neither copied nor written again


def test_what_was_written_and_not_closed_yet_goes_along(server: tuple[Path, str]) -> None:
    root, url = server
    with RawGuest({"/d": Mount(url, rw=True)}) as guest:
        fd = guest.create("draft", b"first")
        assert guest.rename("draft", "final") is Errno.SUCCESS
        guest.write(fd, b" and more")
        guest.close_fd(fd)
        assert guest.contents("final") == b"first and more"
    assert [(path.name, path.read_bytes()) for path in root.iterdir()] == [("final", b"first and more")]


def test_many_files_are_read_over_its_one_connection(server: tuple[Path, str]) -> None:
    root, url = server
    contents = {f"f{number}": bytes([number]) * 300_000 for number in range(6)}
    for name, data in contents.items():
        (root / name).write_bytes(data)
    with RawGuest({"/d": Mount(url, cache=0)}) as guest:
        for name, data in contents.items():
            assert guest.contents(name) == data


def test_the_password_is_in_no_message(server: tuple[Path, str]) -> None:
    _, url = server
    with pytest.raises(MountError) as caught:
        MountTable({"/d": Mount(url + "missing", trust=True)})
    assert PASSWORD not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
