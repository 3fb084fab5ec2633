"""The layer that tells how long a store was asked."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import DirEntry, Key, Stat
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.layers.timed import Account, Timed
from vfswasi.fs_backends.memory.backend import MemoryBackend

PAUSE_S = 0.02
PAUSE_NS = int(PAUSE_S * 10**9)


class Slow(MemoryBackend):
    """Takes its time for what is looked up and for each name."""

    def stat(self, key: Key) -> Stat:
        time.sleep(PAUSE_S)
        return super().stat(key)

    def list(self, key: Key) -> Iterator[DirEntry]:
        for entry in super().list(key):
            time.sleep(PAUSE_S)
            yield entry


def test_a_call_is_counted_with_its_time_also_when_it_fails() -> None:
    account = Account()
    store = Timed(Slow({"a": b"12345"}), account)
    assert store.stat(("a",)).size == 5
    assert account.calls == 1
    assert account.ns >= PAUSE_NS
    with pytest.raises(FsError) as failed:
        store.stat(("missing",))
    assert failed.value.errno is Errno.NOENT
    assert account.calls == 2
    assert account.ns >= 2 * PAUSE_NS


def test_what_a_listing_takes_while_it_is_read_is_in_it_and_what_its_reader_does_is_not() -> None:
    account = Account()
    store = Timed(Slow({"a": b"", "b": b""}), account)
    names = []
    for entry in store.list(()):
        names.append(entry.name)
        time.sleep(0.2)
    assert names == ["a", "b"]
    assert account.calls == 1
    assert 2 * PAUSE_NS <= account.ns < 3 * 10**8


def test_open_files_are_on_the_account_of_their_store() -> None:
    account = Account()
    store = Timed(MemoryBackend({"a": b"12345"}), account)
    handle = store.open(("a",), True)
    buffer = bytearray(3)
    assert handle.read_into(1, memoryview(buffer)) == 3
    assert bytes(buffer) == b"234"
    handle.write_from(0, memoryview(b"x"))
    made = store.create(("b",))
    made.close()
    handle.close()
    assert account.calls == 6


def test_an_overlay_knows_which_version_of_a_file_its_changes_were_made_on() -> None:
    """It asks a store for versions only if its class has words of its own for that."""

    class Numbered(MemoryBackend):
        def version(self, key: Key) -> str | None:
            return "seven"

    overlay = OverlayBackend(Timed(Numbered({"a": b"old"}), Account()))
    handle = overlay.open(("a",), True)
    handle.write_from(0, memoryview(b"new"))
    handle.close()
    (entry,) = overlay.entries()
    assert entry.was is not None
    assert entry.was.version == "seven"
