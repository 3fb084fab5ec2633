"""Conformance: looking at a store and reading files."""

from __future__ import annotations

import pytest

from ..errors import Errno
from ..fs_backends.base import Backend, Caps, FileType, Key
from .ground import TREE, Ground, contents, errno_of, read


class ReadingConformance(Ground):
    """`stat`, `walk`, `list`, and handles opened for reading."""

    @pytest.mark.parametrize(
        ("key", "filetype", "size"),
        [
            ((), FileType.DIRECTORY, None),
            (("file",), FileType.REGULAR_FILE, 12),
            (("empty",), FileType.REGULAR_FILE, 0),
            (("dir",), FileType.DIRECTORY, None),
            (("dir", "deep", "deeper", "file"), FileType.REGULAR_FILE, 4),
        ],
    )
    def test_stat(self, backend: Backend, key: Key, filetype: FileType, size: int | None) -> None:
        stat = backend.stat(key)
        assert stat.filetype is filetype
        assert size is None or stat.size == size
        for time_ns in (stat.atim_ns, stat.mtim_ns, stat.ctim_ns):
            assert time_ns is None or isinstance(time_ns, int)
        assert stat.ident is None or 0 < stat.ident < 2**64

    @pytest.mark.parametrize(
        ("key", "errnos"),
        [
            (("missing",), {Errno.NOENT}),
            (("missing", "below"), {Errno.NOENT}),
            (("dir", "missing"), {Errno.NOENT}),
            (("file", "below"), {Errno.NOTDIR}),
            (("file", "below", "more"), {Errno.NOTDIR}),
        ],
    )
    def test_what_is_not_there(self, backend: Backend, key: Key, errnos: set[Errno]) -> None:
        assert errno_of(backend.stat, key) in errnos
        assert errno_of(backend.open, key, False) in errnos
        assert errno_of(backend.readlink, key) in errnos | {Errno.INVAL}  # a store without links need not look
        assert errno_of(lambda: list(backend.list(key))) in errnos

    def test_walk(self, backend: Backend) -> None:
        for key, names, count in (
            ((), ("dir", "deep", "deeper", "file"), 4),
            (("dir",), ("deep", "deeper"), 2),
            ((), ("dir", "missing", "below"), 1),
            ((), ("missing",), 0),
            ((), ("file", "below", "more"), 1),
            ((), ("file",), 1),
        ):
            found, stat = backend.walk(key, names)
            assert found == count
            if count:
                assert stat is not None
                expected = backend.stat(key + names[:count])
                assert (stat.filetype, stat.size, stat.ident) == (expected.filetype, expected.size, expected.ident)
            else:
                assert stat is None
        assert backend.walk(("dir",), ()) == (0, None)
        assert errno_of(backend.walk, ("file",), ("below",)) is Errno.NOTDIR
        assert errno_of(backend.walk, ("file", "below"), ("more",)) is Errno.NOTDIR

    def test_list(self, backend: Backend) -> None:
        entries = {entry.name: entry for entry in backend.list(())}
        assert set(entries) == {"empty", "file", "large", "dir"}
        for name, entry in entries.items():
            stat = backend.stat((name,))
            assert (entry.filetype, entry.ident) == (stat.filetype, stat.ident)
        assert [entry.name for entry in backend.list(("dir", "deep"))] == ["deeper"]
        assert errno_of(lambda: list(backend.list(("file",)))) is Errno.NOTDIR

    def test_idents_are_unique(self, backend: Backend) -> None:
        keys: list[Key] = [(), ("file",), ("empty",), ("dir",), ("dir", "inner"), ("dir", "deep")]
        idents = [ident for ident in (backend.stat(key).ident for key in keys) if ident is not None]
        assert len(set(idents)) == len(idents)

    def test_empty_directories(self) -> None:
        backend = self.make({"empty": {}, "file": b""} if self.empty_dirs_in_tree else {"file": b""})
        try:
            if self.empty_dirs_in_tree:
                assert list(backend.list(("empty",))) == []
                assert backend.stat(("empty",)).filetype is FileType.DIRECTORY
            elif Caps.EMPTY_DIRS in backend.caps and Caps.WRITE in backend.caps:
                backend.mkdir(("made",))
                assert list(backend.list(("made",))) == []
        finally:
            backend.close()

    def test_an_empty_tree(self) -> None:
        backend = self.make({})
        try:
            assert list(backend.list(())) == []
            assert backend.stat(()).filetype is FileType.DIRECTORY
        finally:
            backend.close()

    def test_awkward_names(self) -> None:
        tree = {name: name.encode() for name in self.names}
        backend = self.make({"dir": tree})
        try:
            assert {entry.name for entry in backend.list(("dir",))} == set(tree)
            for name, data in tree.items():
                assert contents(backend, ("dir", name)) == data
        finally:
            backend.close()

    def test_a_thousand_entries(self) -> None:
        backend = self.make({"many": {f"{number:04}": b"x" for number in range(1000)}})
        try:
            names = [entry.name for entry in backend.list(("many",))]
            assert len(names) == 1000
            assert set(names) == {f"{number:04}" for number in range(1000)}
        finally:
            backend.close()

    def test_reading(self, backend: Backend) -> None:
        handle = backend.open(("large",), False)
        data = TREE["large"]
        for offset, size in ((0, 10), (5, 1000), (0, len(data)), (len(data) - 3, 10), (65535, 2), (1, 0)):
            assert read(handle, offset, size) == data[offset : offset + size]
        for offset in (len(data), len(data) + 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1):
            for size in (0, 10, 100_000):
                assert read(handle, offset, size) == b""
        assert read(handle, 0, 0) == read(handle, 5, 0) == b""
        for offset in range(0, len(data), 37_000):
            assert read(handle, len(data) - offset, 100) == data[len(data) - offset :][:100]
        assert handle.size() == handle.stat().size == len(data)
        assert handle.stat().ident == backend.stat(("large",)).ident
        handle.close()
        assert contents(backend, ("empty",)) == b""

    def test_reading_leaves_the_rest_of_the_buffer_alone(self, backend: Backend) -> None:
        handle = backend.open(("file",), False)
        buffer = bytearray(b"\xaa" * 32)
        assert handle.read_into(6, memoryview(buffer)[4:24]) == 6
        assert bytes(buffer) == b"\xaa" * 4 + b"world\n" + b"\xaa" * 22
        handle.close()

    def test_handles_are_independent(self, backend: Backend) -> None:
        one, other = backend.open(("file",), False), backend.open(("file",), False)
        assert read(one, 0, 5) == b"hello"
        assert read(other, 6, 5) == b"world"
        one.close()
        assert read(other, 0, 5) == b"hello"
        other.close()

    def test_open_wants_a_file(self, backend: Backend) -> None:
        assert errno_of(backend.open, ("dir",), False) is Errno.ISDIR
        assert errno_of(backend.open, (), False) is Errno.ISDIR

    def test_a_handle_for_reading_does_not_write(self, backend: Backend) -> None:
        handle = backend.open(("file",), False)
        for call, args in (
            (handle.write_from, (0, b"x")),
            (handle.write_from, (100, b"x")),
            (handle.append, (b"x",)),
            (handle.truncate, (0,)),
            (handle.truncate, (100,)),
            (handle.allocate, (0, 100)),
        ):
            assert errno_of(call, *args) is Errno.ROFS, (call, args)
        handle.close()
        assert contents(backend, ("file",)) == TREE["file"]
