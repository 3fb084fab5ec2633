"""sock_*: nothing that a guest can hold is a socket."""

from __future__ import annotations

import pytest

from vfswasi.errors import Errno

from ..rawguest import FREE, RawGuest

CALLS = ["sock_accept", "sock_recv", "sock_send", "sock_shutdown"]


def call(guest: RawGuest, name: str, fd: int, flags: int = 0) -> Errno:
    iovs = guest.iovs((FREE + 64, 8))
    args = {
        "sock_accept": (flags, FREE),
        "sock_recv": (*iovs, flags, FREE, FREE + 8),
        "sock_send": (*iovs, flags, FREE),
        "sock_shutdown": (flags,),
    }
    return guest.call(name, fd, *args[name])


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("fd", [4, 99, 0xFFFFFFFF])
def test_a_bad_descriptor_is_badf(guest: RawGuest, name: str, fd: int) -> None:
    assert call(guest, name, fd) is Errno.BADF
    assert call(guest, name, fd, 0xFFFF_FFFF) is Errno.BADF, "before the flags"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["stdin", "stdout", "stderr", "preopen", "directory", "file"])
def test_what_is_not_a_socket_is_notsock(guest: RawGuest, name: str, kind: str) -> None:
    guest.mkdir("sub")
    opened = {
        "stdin": 0,
        "stdout": 1,
        "stderr": 2,
        "preopen": 3,
        "directory": guest.opendir("sub"),
        "file": guest.create("f", b"content"),
    }
    assert call(guest, name, opened[kind]) is Errno.NOTSOCK
    assert guest.contents("f") == b"content"


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("sock_accept", 1 << 2),  # NONBLOCK for the new connection
        ("sock_recv", 1),  # PEEK
        ("sock_recv", 3),  # PEEK and WAITALL
        ("sock_shutdown", 1),  # receiving
        ("sock_shutdown", 2),  # sending
        ("sock_shutdown", 3),
    ],
)
def test_known_flags_change_nothing(guest: RawGuest, name: str, flags: int) -> None:
    assert call(guest, name, guest.create("f"), flags) is Errno.NOTSOCK
