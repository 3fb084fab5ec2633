"""Conformance: links, and everything that changes a store. What a store cannot do is asserted as its errno."""

from __future__ import annotations

from typing import Any

import pytest

from ..errors import Errno
from ..fs_backends.base import Backend, Caps, FileType, Key
from ..fs_backends.memory.backend import Symlink
from .ground import TREE, Ground, contents, errno_of, read


class ChangingConformance(Ground):
    """Links, creation, writing, removal, renaming, times."""

    def test_symbolic_links_are_looked_at_and_not_followed(self) -> None:
        if self.symlinks_in_tree:
            backend = self.make({"file": b"data", "dir": {"f": b""}, "l": Symlink("file"), "d": Symlink("dir")})
        else:
            backend = self.make(TREE)
        try:
            if not self.symlinks_in_tree:
                assert errno_of(backend.readlink, ("file",)) is Errno.INVAL
                expected = Errno.NOTSUP if Caps.WRITE in backend.caps else Errno.ROFS
                made = errno_of(backend.symlink, "t", ("l",))
                assert made is (Errno.SUCCESS if Caps.SYMLINKS in backend.caps else expected)
                return
            stat = backend.stat(("l",))
            assert (stat.filetype, stat.size) == (FileType.SYMBOLIC_LINK, 4)
            assert backend.readlink(("l",)) == "file"
            assert errno_of(backend.readlink, ("file",)) is Errno.INVAL
            assert errno_of(backend.readlink, ("dir",)) is Errno.INVAL
            assert errno_of(backend.open, ("l",), False) is Errno.LOOP
            assert backend.walk((), ("d", "f"))[0] == 1
            assert errno_of(backend.stat, ("d", "f")) in (Errno.NOTDIR, Errno.LOOP)
            assert errno_of(backend.open, ("d", "f"), False) in (Errno.NOTDIR, Errno.LOOP)
            assert errno_of(lambda: list(backend.list(("d",)))) in (Errno.NOTDIR, Errno.LOOP)
            assert {entry.name: entry.filetype for entry in backend.list(())}["l"] is FileType.SYMBOLIC_LINK
        finally:
            backend.close()

    def test_making_symbolic_links(self, backend: Backend, writable: bool) -> None:
        if Caps.SYMLINKS not in backend.caps or not writable:
            assert errno_of(backend.symlink, "t", ("l",)) is (Errno.NOTSUP if writable else Errno.ROFS)
            assert errno_of(backend.stat, ("l",)) is Errno.NOENT
            return
        for target in ("file", "../out", "ünï", "a//b/"):
            backend.symlink(target, ("l",))
            assert backend.readlink(("l",)) == target
            assert errno_of(backend.symlink, "t", ("l",)) is Errno.EXIST
            backend.remove(("l",))
        assert errno_of(backend.symlink, "t", ("file",)) is Errno.EXIST
        assert errno_of(backend.symlink, "t", ("missing", "l")) is Errno.NOENT
        assert contents(backend, ("file",)) == TREE["file"]

    def test_hard_links(self, backend: Backend, writable: bool) -> None:
        if Caps.HARDLINKS not in backend.caps or not writable:
            assert errno_of(backend.link, ("file",), ("second",)) is (Errno.NOTSUP if writable else Errno.ROFS)
            assert errno_of(backend.stat, ("second",)) is Errno.NOENT
            return
        backend.link(("file",), ("dir", "second"))
        assert backend.stat(("file",)).nlink == 2
        ident = backend.stat(("file",)).ident
        assert backend.stat(("dir", "second")).ident == ident
        assert {entry.name: entry.ident for entry in backend.list(("dir",))}["second"] == ident
        assert errno_of(backend.link, ("file",), ("empty",)) is Errno.EXIST
        assert errno_of(backend.link, ("dir",), ("dir2",)) is Errno.PERM
        assert errno_of(backend.link, ("missing",), ("new",)) is Errno.NOENT
        backend.remove(("file",))
        assert contents(backend, ("dir", "second")) == TREE["file"]
        assert backend.stat(("dir", "second")).nlink == 1

    def test_a_store_that_cannot_write_refuses_with_rofs(self, backend: Backend, writable: bool) -> None:
        if writable:
            backend.mkdir(("made",))
            assert backend.stat(("made",)).filetype is FileType.DIRECTORY
            return
        before = [(entry.name, entry.filetype) for entry in backend.list(())]
        for call, args in (
            (backend.open, (("file",), True)),
            (backend.create, (("new",),)),
            (backend.mkdir, (("new",),)),
            (backend.rmdir, (("dir",),)),
            (backend.remove, (("file",),)),
            (backend.rename, (("file",), ("new",))),
            (backend.symlink, ("t", ("new",))),
            (backend.link, (("file",), ("new",))),
            (backend.set_times, (("file",), 1, 1)),
        ):
            assert errno_of(call, *args) is Errno.ROFS, call
        assert [(entry.name, entry.filetype) for entry in backend.list(())] == before

    def test_create_is_exclusive(self, backend: Backend, writable: bool) -> None:
        if not writable:
            assert errno_of(backend.create, ("new",)) is Errno.ROFS
            return
        handle = backend.create(("new",))
        handle.write_from(0, b"abc")
        assert read(handle, 0, 9) == b"abc"
        handle.close()
        assert contents(backend, ("new",)) == b"abc"
        for key in (("new",), ("file",), ("dir",)):
            assert errno_of(backend.create, key) is Errno.EXIST
        assert errno_of(backend.create, ("missing", "new")) is Errno.NOENT
        assert errno_of(backend.create, ("file", "new")) is Errno.NOTDIR
        assert errno_of(backend.create, ()) is Errno.EXIST
        assert contents(backend, ("file",)) == TREE["file"]

    def test_writing(self, backend: Backend, writable: bool) -> None:
        if not writable:
            assert errno_of(backend.open, ("file",), True) is Errno.ROFS
            return
        handle = backend.open(("file",), True)
        if Caps.RANDOM_WRITE not in backend.caps:
            assert errno_of(handle.write_from, 3, b"x") is Errno.NOTSUP
            handle.close()
            return
        handle.write_from(0, b"HE")
        handle.write_from(20, b"end")
        handle.write_from(100, b"")
        assert handle.size() == 23
        assert read(handle, 0, 99) == b"HEllo world\n" + b"\0" * 8 + b"end"
        assert handle.append(b"!") == 24
        handle.truncate(3)
        handle.truncate(5)
        assert read(handle, 0, 99) == b"HEl\0\0"
        handle.allocate(0, 8)
        assert handle.size() == 8
        handle.allocate(0, 2)
        assert handle.size() == 8
        handle.sync(False)
        handle.sync(True)
        handle.close()
        assert contents(backend, ("file",)) == b"HEl\0\0\0\0\0"
        assert backend.stat(("file",)).size == 8

    def test_two_handles_see_each_other(self, backend: Backend, writable: bool) -> None:
        if not writable or Caps.RANDOM_WRITE not in backend.caps:
            assert contents(backend, ("file",)) == TREE["file"]
            return
        reader, writer = backend.open(("file",), False), backend.open(("file",), True)
        writer.write_from(0, b"J")
        assert read(reader, 0, 5) == b"Jello"
        writer.truncate(1)
        assert reader.size() == 1
        reader.close()
        writer.close()

    def test_the_version_of_a_listing_changes_with_it(self, backend: Backend, writable: bool) -> None:
        version = backend.listing_version(("dir",))
        assert backend.listing_version(("dir",)) == version
        if not writable or version is None:
            return
        seen = {version}

        def changed() -> None:
            now = backend.listing_version(("dir",))
            assert now is not None
            assert now not in seen
            seen.add(now)

        backend.create(("dir", "new")).close()
        changed()
        backend.rename(("dir", "new"), ("dir", "newer"))
        changed()
        backend.rename(("dir", "newer"), ("moved",))
        changed()
        backend.rename(("moved",), ("dir", "back"))
        changed()
        backend.remove(("dir", "back"))
        changed()
        backend.mkdir(("dir", "sub"))
        changed()
        backend.rmdir(("dir", "sub"))
        changed()

    def test_reserved_space_changes_nothing_that_is_seen(self, backend: Backend, writable: bool) -> None:
        handle = backend.open(("file",), writable)
        try:
            before = handle.stat()
            assert handle.ident() == before.ident
            promised = handle.reserve(12, 100_000)
            assert not promised or writable
            assert handle.size() == 12
            assert read(handle, 0, 99) == b"hello world\n"
            if promised:
                handle.write_from(12, b"!" * 100_000)
                assert handle.size() == 100_012
                handle.reserve(0, 1 << 20)
                handle.reserve(0, 0)
                assert handle.size() == 100_012
        finally:
            handle.close()
        assert backend.stat(("file",)).size == (100_012 if promised else 12)

    def test_directories(self, backend: Backend, writable: bool) -> None:
        if not writable:
            assert errno_of(backend.mkdir, ("new",)) is Errno.ROFS
            return
        backend.mkdir(("new",))
        backend.mkdir(("new", "below"))
        assert errno_of(backend.mkdir, ("new",)) is Errno.EXIST
        assert errno_of(backend.mkdir, ("file",)) is Errno.EXIST
        assert errno_of(backend.mkdir, ()) is Errno.EXIST
        assert errno_of(backend.mkdir, ("missing", "new")) is Errno.NOENT
        assert errno_of(backend.mkdir, ("file", "new")) is Errno.NOTDIR
        assert errno_of(backend.rmdir, ("new",)) is Errno.NOTEMPTY
        assert errno_of(backend.rmdir, ("file",)) is Errno.NOTDIR
        assert errno_of(backend.rmdir, ("missing",)) is Errno.NOENT
        assert errno_of(backend.remove, ("new",)) is Errno.ISDIR
        backend.rmdir(("new", "below"))
        backend.rmdir(("new",))
        assert errno_of(backend.stat, ("new",)) is Errno.NOENT

    def test_removing_files(self, backend: Backend, writable: bool) -> None:
        if not writable:
            assert errno_of(backend.remove, ("file",)) is Errno.ROFS
            return
        handle = backend.open(("file",), False)
        backend.remove(("file",))
        assert errno_of(backend.stat, ("file",)) is Errno.NOENT
        assert errno_of(backend.remove, ("file",)) is Errno.NOENT
        assert "file" not in {entry.name for entry in backend.list(())}
        if Caps.HANDLE_SURVIVES_UNLINK in backend.caps:
            assert read(handle, 0, 5) == b"hello"
            assert handle.stat().nlink == 0
        handle.close()

    def test_an_open_file_outlives_its_names(self, backend: Backend, writable: bool) -> None:
        if not writable or not {Caps.HANDLE_SURVIVES_UNLINK, Caps.RANDOM_WRITE} <= set(backend.caps):
            assert contents(backend, ("file",)) == TREE["file"]
            return
        removed, replaced = backend.open(("file",), True), backend.open(("empty",), True)
        backend.remove(("file",))
        backend.rename(("dir", "inner"), ("empty",))
        for handle in (removed, replaced):
            handle.write_from(0, b"still")
            assert read(handle, 0, 5) == b"still"
            assert handle.stat().nlink == 0
        backend.create(("file",)).close()
        assert contents(backend, ("file",)) == b""
        assert contents(backend, ("empty",)) == b"inner"
        removed.close()
        replaced.close()

    @pytest.mark.parametrize(
        ("old", "new", "errno"),
        [
            (("file",), ("new",), Errno.SUCCESS),
            (("file",), ("empty",), Errno.SUCCESS),
            (("file",), ("dir", "deep", "moved"), Errno.SUCCESS),
            (("dir",), ("new",), Errno.SUCCESS),
            (("dir",), ("target",), Errno.SUCCESS),
            (("target",), ("dir",), Errno.NOTEMPTY),
            (("dir",), ("file",), Errno.NOTDIR),
            (("file",), ("target",), Errno.ISDIR),
            (("missing",), ("new",), Errno.NOENT),
            (("file",), ("missing", "new"), Errno.NOENT),
        ],
    )
    def test_rename(self, backend: Backend, writable: bool, old: Key, new: Key, errno: Errno) -> None:
        if not writable:
            assert errno_of(backend.rename, ("file",), ("new",)) is Errno.ROFS
            return
        backend.mkdir(("target",))
        before = backend.stat(old) if old != ("missing",) else None
        tree = _snapshot(backend, ())
        got = errno_of(backend.rename, old, new)
        if got is Errno.NOTSUP and before is not None and before.filetype is FileType.DIRECTORY:
            assert Caps.ATOMIC_RENAME not in backend.caps
            assert _snapshot(backend, ()) == tree
            return
        assert got is errno
        if errno is Errno.SUCCESS:
            assert errno_of(backend.stat, old) is Errno.NOENT
            assert before is not None
            assert (backend.stat(new).filetype, backend.stat(new).ident) == (before.filetype, before.ident)
            if before.filetype is FileType.DIRECTORY:
                assert contents(backend, (*new, "deep", "deeper", "file")) == b"deep"
            else:
                assert contents(backend, new) == TREE["file"]
        else:
            assert _snapshot(backend, ()) == tree

    def test_sizes_that_no_store_has_change_nothing(self, backend: Backend, writable: bool) -> None:
        if not writable or Caps.RANDOM_WRITE not in backend.caps:
            handle = backend.open(("file",), False)
            assert errno_of(handle.truncate, 2**63) is Errno.ROFS
            handle.close()
            return
        handle = backend.open(("file",), True)
        for call, args in (
            (handle.truncate, (2**63,)),
            (handle.truncate, (2**64,)),
            (handle.write_from, (2**63 - 1, b"ab")),
            (handle.write_from, (2**63, b"a")),
            (handle.allocate, (2**63 - 1, 2)),
        ):
            assert errno_of(call, *args) in (Errno.FBIG, Errno.NOSPC), (call, args)
        handle.close()
        assert contents(backend, ("file",)) == TREE["file"]

    def test_a_call_that_fails_changes_nothing(self, backend: Backend) -> None:
        before = _snapshot(backend, ())
        for call, args in (
            (backend.create, (("file",),)),
            (backend.create, (("missing", "new"),)),
            (backend.mkdir, (("dir",),)),
            (backend.mkdir, (("missing", "new"),)),
            (backend.rmdir, (("dir",),)),
            (backend.rmdir, (("file",),)),
            (backend.rmdir, ((),)),
            (backend.remove, (("dir",),)),
            (backend.remove, ((),)),
            (backend.rename, (("dir",), ("file",))),
            (backend.rename, (("file",), ("dir",))),
            (backend.rename, (("dir", "deep"), ("missing", "new"))),
            (backend.symlink, ("t", ("file",))),
            (backend.symlink, ("t", ("missing", "new"))),
            (backend.link, (("file",), ("empty",))),
            (backend.link, (("file",), ("missing", "new"))),
            (backend.link, (("dir",), ("new",))),
            (backend.set_times, (("missing",), 1, 1)),
        ):
            assert errno_of(call, *args) is not Errno.SUCCESS, (call, args)
            assert _snapshot(backend, ()) == before, (call, args)

    def test_times(self, backend: Backend, writable: bool) -> None:
        if not writable or Caps.SET_TIMES not in backend.caps:
            expected = Errno.NOTSUP if writable else Errno.ROFS
            assert errno_of(backend.set_times, ("file",), 1, 1) is expected
            return
        base = 1_700_000_000_123_456_789
        backend.set_times(("file",), base, base + 1)
        unit = self.times_granularity_ns
        stat = backend.stat(("file",))
        assert stat.atim_ns is not None
        assert stat.mtim_ns is not None
        assert (stat.atim_ns // unit, stat.mtim_ns // unit) == (base // unit, (base + 1) // unit)
        backend.set_times(("file",), None, base + 10**10)
        assert backend.stat(("file",)).atim_ns == stat.atim_ns
        handle = backend.open(("file",), True)
        handle.set_times(base + 10**11, None)
        assert (handle.stat().atim_ns or 0) // unit == (base + 10**11) // unit
        assert (handle.stat().mtim_ns or 0) // unit == (base + 10**10) // unit
        handle.close()
        assert errno_of(backend.set_times, ("missing",), 1, 1) is Errno.NOENT

    @pytest.mark.parametrize("time_ns", [-1, -(2**63), 2**63, 2**64, 2**70])
    def test_times_that_a_store_may_not_know(self, backend: Backend, writable: bool, time_ns: int) -> None:
        got = errno_of(backend.set_times, ("file",), time_ns, time_ns)
        if not writable or Caps.SET_TIMES not in backend.caps:
            assert got is (Errno.NOTSUP if writable else Errno.ROFS)
        else:
            assert got in (Errno.SUCCESS, Errno.INVAL, Errno.OVERFLOW)
        assert isinstance(backend.stat(("file",)).mtim_ns, int | None)

    def test_awkward_names_can_be_made_and_touch_one_file(self, backend: Backend, writable: bool) -> None:
        if not writable:
            assert errno_of(backend.create, (self.names[0],)) is Errno.ROFS
            return
        backend.mkdir(("made",))
        for name in self.names:
            backend.create(("made", name)).close()
        assert {entry.name for entry in backend.list(("made",))} == set(self.names)
        for number, name in enumerate(self.names, 1):
            backend.remove(("made", name))
            assert len(list(backend.list(("made",)))) == len(self.names) - number


def _snapshot(backend: Backend, key: Key) -> dict[str, Any]:
    """Everything below a directory: names, types, link counts, contents."""
    found: dict[str, Any] = {}
    for entry in backend.list(key):
        below = (*key, entry.name)
        stat = backend.stat(below)
        inside: Any = None
        if entry.filetype is FileType.DIRECTORY:
            inside = _snapshot(backend, below)
        elif entry.filetype is FileType.REGULAR_FILE:
            inside = contents(backend, below)
        found[entry.name] = (stat.filetype, stat.nlink, stat.ident, inside)
    return found
