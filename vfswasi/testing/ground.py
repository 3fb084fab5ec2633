"""The ground of the conformance kit: the tree that a backend under test holds, and how the tests look at it.

`Ground` is what a subclass of the kit fills in; the tests are in `reading` and `changing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..errors import Errno, FsError
from ..fs_backends.base import Backend, Caps, Handle, Key

AWKWARD_NAMES = (
    "a b",
    " leading and trailing ",
    "back\\slash",
    "~",
    "$HOME",
    "*",
    "?",
    "[a-z]",
    "file:",
    "a::b",
    "C:",
    "name?versionId=1",
    "name#fragment",
    "per%2fcent",
    "-rf",
    "...",
    "..a",
    "new\nline",
    "\N{FULLWIDTH SOLIDUS}",
    "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "UPPER",
    "upper",
    "\N{SNOWMAN}",
    "x" * 255,
)

TREE: dict[str, Any] = {
    "empty": b"",
    "file": b"hello world\n",
    "large": bytes(range(256)) * 1024,
    "dir": {"inner": b"inner", "deep": {"deeper": {"file": b"deep"}}},
}


def errno_of(call: Any, *args: Any) -> Errno:
    """The errno that a call fails with; SUCCESS if it does not fail."""
    try:
        call(*args)
    except FsError as error:
        return error.errno
    return Errno.SUCCESS


def contents(backend: Backend, key: Key) -> bytes:
    """A whole file."""
    handle = backend.open(key, False)
    try:
        return read(handle, 0, handle.size())
    finally:
        handle.close()


def read(handle: Handle, offset: int, size: int) -> bytes:
    """Up to `size` bytes at `offset`."""
    buffer = bytearray(size)
    count = handle.read_into(offset, memoryview(buffer))
    return bytes(buffer[:count])


class Ground:
    """What the store under test is made of; `make` builds a backend that holds a tree literal."""

    symlinks_in_tree = True  # whether `make` can put symbolic links into the store
    empty_dirs_in_tree = True  # whether `make` can put empty directories into the store
    names: tuple[str, ...] = AWKWARD_NAMES  # what the store can hold as a name
    times_granularity_ns = 1  # what set_times keeps

    def make(self, tree: dict[str, Any]) -> Backend:
        """A backend holding `tree`. Called once or more in a test; closed by the fixture."""
        raise NotImplementedError

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        """A backend holding `TREE`."""
        made = self.make(TREE)
        yield made
        made.close()

    @pytest.fixture
    def writable(self, backend: Backend) -> bool:
        return Caps.WRITE in backend.caps
