"""`Backend.version`: another text once a file has other contents, whatever size and time say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vfswasi import Backend, MemoryBackend
from vfswasi.fs_backends.base import Stat
from vfswasi.fs_backends.layers.checked import Checked, checked
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.fs_backends.layers.readonly import ReadOnly
from vfswasi.fs_backends.local.backend import LocalBackend

BEHIND: dict[str, Callable[[Backend], Backend]] = {
    "itself": lambda backend: backend,
    "read-only": ReadOnly,
    "faulty": Faulty,
    "checked": Checked,
}


@pytest.mark.parametrize("layer", BEHIND)
def test_an_edit_that_keeps_size_and_time_makes_another_version(layer: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "other").write_bytes(b"old")
    inner = LocalBackend(tmp_path)
    backend = BEHIND[layer](inner)
    before = backend.version(("file",))
    assert before is not None
    assert before == backend.version(("file",)) == inner.version(("file",)) != backend.version(("other",))
    times = os.stat(tmp_path / "file")
    while os.stat(tmp_path / "file").st_ctime_ns == times.st_ctime_ns:  # the system's clock goes in steps
        (tmp_path / "file").write_bytes(b"new")
        os.utime(tmp_path / "file", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (
        inner.stat(("file",))[:4] == Stat(inner.stat(("file",)).filetype, 3, times.st_atime_ns, times.st_mtime_ns)[:4]
    )
    assert backend.version(("file",)) != before
    inner.close()


def test_in_memory_too() -> None:
    store = MemoryBackend({"file": b"old"})
    before, found = store.version(("file",)), store.stat(("file",))
    handle = store.open(("file",), True)
    handle.write_from(0, b"new")
    handle.close()
    store.set_times(("file",), found.atim_ns, found.mtim_ns)
    assert store.version(("file",)) != before


def test_a_store_without_numbers_and_times_does_not_know() -> None:
    class Without(MemoryBackend):
        def stat(self, key: Any) -> Stat:
            return super().stat(key)._replace(ident=None)

    assert Without({"file": b""}).version(("file",)) is None


def test_what_a_foreign_store_says_is_a_text_or_nothing() -> None:
    class Odd(MemoryBackend):
        def version(self, key: Any) -> Any:
            return key[0] if key[0] == "file" else 7

    backend = checked(Odd({"file": b"", "other": b""}))
    assert (backend.version(("file",)), backend.version(("other",))) == ("file", None)
