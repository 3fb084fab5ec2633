"""Forks and snapshots: what is the same in a copy of an instance, and what is its own."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from pathlib import Path

import pytest

import vfswasi
from vfswasi.engine.sessions import image

from .conftest import CREAT, GUEST, open_file, read, rename, unlink, write


@pytest.fixture(params=["mapped", "copied"])
def memories(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a memory gets its contents."""
    monkeypatch.setattr(image, "_CAN_MAP", request.param == "mapped" and image._CAN_MAP)
    return str(request.param)


def test_a_fork_goes_on_from_where_the_session_is_and_each_has_its_own(session: vfswasi.Session, memories: str) -> None:
    session.call("next")
    session.memory.write(3000, b"both")
    with session.fork() as fork:
        assert (fork.call("next"), fork.call("next"), session.call("next")) == (102, 103, 102)
        fork.memory.write(3000, b"mine")
        assert (session.memory.read(3000, 4), fork.memory.read(3000, 4)) == (b"both", b"mine")


def test_a_memory_that_grew_and_has_holes_is_the_same_in_a_copy(session: vfswasi.Session, memories: str) -> None:
    session.call("grow", 99)
    for number in (0, 1, 7, 40, 41, 99):
        session.memory.write(number * 65536 + 5, b"page %02d" % number)
    session.memory.write(1024, b"data that the module does not bring")
    whole = session.memory.read(0, 100 * 65536)
    with session.fork() as fork, fork.fork() as second:
        for each in (fork, second):
            assert each.memory.read(0, 100 * 65536) == whole
        assert second.call("grow", 1) == 100
        second.memory.write(100 * 65536, b"new")
        second.memory.write(20 * 65536, b"in a hole")
        assert second.memory.read(100 * 65536, 3) == b"new"
        assert session.memory.read(0, 100 * 65536) == fork.memory.read(0, 100 * 65536) == whole


def test_what_the_session_has_cleared_is_clear_in_a_copy(way: str, memories: str) -> None:
    text = b"""(module (memory (export "memory") 10) (data (i32.const 200000) "from the module") (func (export "f")))"""
    with vfswasi.Sandbox(text) as sandbox, sandbox.session() as session:
        assert session.memory.read(200000, 4) == b"from"
        session.memory.write(200000, bytes(15))
        with session.fork() as fork:
            assert fork.memory.read(200000, 15) == bytes(15)


def test_a_copy_stays_when_the_session_that_it_is_of_is_closed(sandbox: vfswasi.Sandbox, memories: str) -> None:
    session = sandbox.session()
    session.memory.write(3000, b"kept")
    fork = session.fork()
    session.close()
    del session
    gc.collect()
    assert (fork.memory.read(3000, 4), fork.call("next")) == (b"kept", 101)
    fork.close()


def test_a_second_fork_sees_what_was_changed_since_the_first(session: vfswasi.Session) -> None:
    with session.fork() as first:
        session.memory.write(3000, b"later")
        session.call("next")
        with session.fork() as second:
            assert (first.memory.read(3000, 5), second.memory.read(3000, 5)) == (bytes(5), b"later")
            assert (first.call("next"), second.call("next")) == (101, 102)


def test_forks_of_forks_know_nothing_of_each_other(session: vfswasi.Session) -> None:
    chain = [session]
    for _ in range(5):
        chain[-1].call("next")
        chain.append(chain[-1].fork())
    assert [each.call("next") for each in chain] == [102, 103, 104, 105, 106, 106]
    for fork in chain[1:]:
        fork.close()


def test_open_files_are_at_the_same_places_and_go_on_apart(session: vfswasi.Session) -> None:
    fd = open_file(session, "given")
    assert read(session, fd, 4) == b"0123"
    with session.fork() as fork:
        assert (read(fork, fd, 3), read(session, fd, 2), read(fork, fd, 3)) == (b"456", b"45", b"789")
        write(fork, fd, b"fork")
        write(session, fd, b"session")
        assert fork.files == {"/d": {"given": b"0123456789fork"}}
        assert session.files == {"/d": {"given": b"012345session"}}


def test_a_fork_of_a_session_whose_files_are_published_is_the_same(session: vfswasi.Session) -> None:
    fd = open_file(session, "new", CREAT)
    for count in range(100):
        write(session, fd, b"%03d," % count)
        write(session, 1, b".")
    with session.fork() as fork:
        for each, data in ((session, b"one"), (fork, b"other")):
            for _ in range(100):
                write(each, fd, data)
            assert each.files["/d"]["new"] == b"".join(b"%03d," % count for count in range(100)) + data * 100
        write(fork, 1, b"fork")
        assert (session.read_stdout(), fork.read_stdout()) == (b"." * 100, b"fork")


def test_a_file_that_is_unlinked_and_open_is_in_the_copy_too(session: vfswasi.Session) -> None:
    fd = open_file(session, "gone", CREAT)
    write(session, fd, b"nameless")
    unlink(session, "gone")
    assert session.call("seek", fd, 4, 0) == 0
    session.call("next")
    with session.fork() as fork:
        other = open_file(fork, "gone", CREAT)
        write(fork, other, b"another file")
        assert (read(fork, fd), read(session, fd)) == (b"less", b"less")
        write(fork, fd, b"!")
        fork.call("seek", fd, 0, 0)
        session.call("seek", fd, 0, 0)
        assert (read(fork, fd), read(session, fd)) == (b"nameless!", b"nameless")
        assert (set(fork.files["/d"]), set(session.files["/d"])) == ({"given", "gone"}, {"given"})


def test_files_that_were_renamed_while_they_are_open_stay_the_same_file(session: vfswasi.Session) -> None:
    fd = open_file(session, "given")
    rename(session, "given", "renamed")
    with session.fork() as fork:
        rename(fork, "renamed", "again")
        fork.call("seek", fd, 0, 2)
        write(fork, fd, b"+")
        assert (fork.files, session.files) == (
            {"/d": {"again": b"0123456789+"}},
            {"/d": {"renamed": b"0123456789"}},
        )


def test_descriptors_have_the_same_numbers_and_the_next_one_too(session: vfswasi.Session) -> None:
    fds = [open_file(session, "given") for _ in range(4)]
    assert read(session, fds[3], 4) == b"0123"
    assert session.call("renumber", fds[3], fds[0]) == 0
    assert session.call("close", fds[1]) == 0
    with session.fork() as fork:
        for each in (session, fork):
            assert read(each, fds[0], 4) == b"4567"
            assert [open_file(each, "given") for _ in range(3)] == [fds[1], fds[3], fds[3] + 1]


def test_standard_streams_that_were_closed_or_moved_are_so_in_the_copy(sandbox: vfswasi.Sandbox) -> None:
    with sandbox.session(capture_output=True, stdin=b"typed in two parts") as session:
        assert read(session, 0, 9) == b"typed in "
        session.call("renumber", 1, 2)
        with session.fork() as fork:
            session.memory.write(1024, b"x")
            assert [each.call("write", 1, 1) for each in (session, fork)] == [vfswasi.Errno.BADF] * 2
            write(fork, 2, b"moved")
            assert (fork.read_stdout(), session.read_stdout()) == (b"moved", b"")
            assert (read(session, 0), read(fork, 0)) == (b"two parts", b"two parts")


def test_what_a_session_has_used_counts_in_its_copies(way: str) -> None:
    limits = vfswasi.Limits(mount_bytes=100)
    with vfswasi.Sandbox(GUEST, preopens={"/d": {}}, limits=limits) as sandbox, sandbox.session() as session:
        fd = open_file(session, "f", CREAT)
        write(session, fd, b"x" * 60)
        with session.fork() as fork:
            for each in (session, fork):
                write(each, fd, b"y" * 40)
                session.memory.write(1024, b"z")
                assert each.call("write", fd, 1) == vfswasi.Errno.DQUOT
                unlink(each, "f")
                assert each.call("close", fd) == 0
                write(each, open_file(each, "g", CREAT), b"x" * 100)


def test_random_bytes_of_two_copies_differ(session: vfswasi.Session) -> None:
    for _ in range(100):
        session.call("random", 16)
    with session.fork() as one, session.fork() as other:
        seen = set()
        for each in (session, one, other):
            each.call("random", 32)
            seen.add(each.memory.read(1024, 32))
        assert len(seen) == 3


def test_random_bytes_of_a_seed_go_on_alike_in_every_copy(way: str) -> None:
    def bytes_of(session: vfswasi.Session, count: int) -> bytes:
        found = b""
        for _ in range(count):
            session.call("random", 16)
            found += session.memory.read(1024, 16)
        return found

    with vfswasi.Sandbox(GUEST) as sandbox, sandbox.session(seed=7) as session, sandbox.session(seed=7) as alone:
        before = bytes_of(session, 100)
        with session.fork() as fork:
            after = bytes_of(session, 100)
            assert bytes_of(fork, 100) == after
        assert bytes_of(alone, 200) == before + after


def test_a_snapshot_makes_any_number_of_sessions(sandbox: vfswasi.Sandbox, memories: str) -> None:
    with sandbox.snapshot(after="next", capture_output=True, text=True) as snapshot:
        sessions = [snapshot.session() for _ in range(20)]
        for number, session in enumerate(sessions):
            write(session, open_file(session, f"f{number}", CREAT), b"x")
        assert [session.call("next") for session in sessions] == [102] * 20
        assert [set(session.files["/d"]) for session in sessions] == [{"given", f"f{n}"} for n in range(20)]
        write(sessions[0], 1, b"out")
        assert sessions[0].read_stdout() == "out"
    for session in sessions:
        assert session.call("next") == 103
        session.close()
    with pytest.raises(vfswasi.SessionError, match="this snapshot is closed"):
        snapshot.session()


def test_what_happens_before_a_snapshot_is_a_name_or_a_call_or_a_function(sandbox: vfswasi.Sandbox) -> None:
    def write_a_file(session: vfswasi.Session) -> None:
        write(session, open_file(session, "made", CREAT), b"before")

    for after, pages, names in (
        (None, 1, {"given"}),
        ("next", 1, {"given"}),
        (("grow", 4), 5, {"given"}),
        (write_a_file, 1, {"given", "made"}),
    ):
        with sandbox.snapshot(after=after) as snapshot, snapshot.session() as session:
            assert len(session.memory) == pages * 65536
            assert set(session.files["/d"]) == names
    for wrong, error in ((5, TypeError), ("missing", vfswasi.MissingExportError), ("trap", vfswasi.GuestTrapError)):
        with pytest.raises(error):
            sandbox.snapshot(after=wrong)  # type: ignore[arg-type]
    assert not sandbox._running


def test_a_session_of_a_snapshot_has_streams_of_its_own(sandbox: vfswasi.Sandbox) -> None:
    with sandbox.snapshot(stdin=b"as it was", capture_output=True) as snapshot:
        lines: list[bytes] = []
        with snapshot.session(stdin=b"new", stdout=lines.append) as one, snapshot.session() as other:
            assert (read(one, 0), read(other, 0)) == (b"new", b"as it was")
            write(one, 1, b"here")
            write(other, 1, b"there")
            assert (lines, one.read_stdout(), other.read_stdout()) == ([b"here"], None, b"there")
        with pytest.raises(TypeError):
            snapshot.session(stdout=3.5)


def test_a_store_that_was_given_is_shared_and_its_open_files_are_opened_again(way: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("0123456789")
    with (
        vfswasi.Sandbox(GUEST, preopens={"/d": vfswasi.Mount(tmp_path, rw=True)}) as sandbox,
        sandbox.session() as session,
    ):
        fd = open_file(session, "f")
        assert read(session, fd, 4) == b"0123"
        with session.fork() as fork:
            assert read(fork, fd, 3) == b"456"
            write(session, fd, b"XY")
            fork.call("seek", fd, 0, 0)
            assert read(fork, fd) == b"0123XY6789"
        os.rename(tmp_path / "f", tmp_path / "g")
        (tmp_path / "f").write_text("another")
        with pytest.raises(vfswasi.SessionError, match=r"/d/f is open, and there is another file in its place"):
            session.fork()
        os.remove(tmp_path / "f")
        with pytest.raises(vfswasi.SessionError, match="NOENT"):
            session.fork()
        assert session.call("next") == 101
        assert not fork._process.fds.descriptors()


def test_a_file_that_its_store_has_not_got_yet_is_named(way: str, tmp_path: Path) -> None:
    import zipfile

    archive = tmp_path / "a.zip"
    zipfile.ZipFile(archive, "w").close()
    with vfswasi.Sandbox(GUEST, preopens={"/d": vfswasi.Mount(archive, rw=True)}) as sandbox:
        session = sandbox.session()
        fd = open_file(session, "f", CREAT)
        write(session, fd, b"x")
        with pytest.raises(vfswasi.SessionError, match="/d/f is open for writing, and its store gets a file"):
            session.fork()
        session.call("close", fd)
        with session.fork() as fork:
            assert read(fork, open_file(fork, "f")) == b"x"
        session.close()


TABLES = b"""(module (memory (export "memory") 1) (type $f (func (result i32)))
  (table $t 2 10 funcref) (table $e 1 10 externref) (elem (table $t) (i32.const 0) func $one $two)
  (elem declare func $three) (elem $more func $four $four)
  (global $g (mut funcref) (ref.func $one)) (global $v (mut v128) (v128.const i64x2 1 2))
  (global $x (mut externref) (ref.null extern))
  (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
  (func $three (result i32) (i32.const 3)) (func $four (result i32) (i32.const 4))
  (func (export "call") (param i32) (result i32) (call_indirect $t (type $f) (local.get 0)))
  (func (export "size") (result i32 i32) (table.size $t) (table.size $e))
  (func (export "set") (param i32) (table.set $t (local.get 0) (ref.func $three)) (global.set $g (ref.func $two))
    (global.set $v (v128.const i64x2 3 4)))
  (func (export "clear") (param i32) (table.set $t (local.get 0) (ref.null func)))
  (func (export "grow") (result i32 i32) (table.grow $t (ref.func $three) (i32.const 3))
    (table.grow $e (ref.null extern) (i32.const 4)))
  (func (export "init") (param i32) (table.init $t $more (local.get 0) (i32.const 0) (i32.const 2)))
  (func (export "drop") (elem.drop $more))
  (func (export "globals") (result i32 i64) (table.set $t (i32.const 0) (global.get $g))
    (call_indirect $t (type $f) (i32.const 0)) (i64x2.extract_lane 1 (global.get $v))))"""


def test_tables_and_references_to_functions_are_the_same_in_a_copy(way: str) -> None:
    with vfswasi.Sandbox(TABLES, limits=vfswasi.Limits(tables=4)) as sandbox, sandbox.session() as session:
        session.call("set", 1)
        session.call("grow")
        session.call("init", 3)
        session.call("clear", 2)
        with session.fork() as fork:
            session.call("set", 0)
            for _ in range(2):
                assert fork.call("size") == (5, 5)
                assert [fork.call("call", index) for index in (0, 1, 3, 4)] == [1, 3, 4, 4]
            assert fork.call("globals") == (2, 4)
            with fork.fork() as second, pytest.raises(vfswasi.GuestTrapError):
                second.call("call", 2)


def test_segments_that_were_dropped_are_so_in_a_copy_and_others_are_not(way: str) -> None:
    text = b"""(module (memory (export "memory") 1) (data $a "aaaa") (data $b "bbbb") (data $empty "")
      (func (export "a") (memory.init $a (i32.const 10) (i32.const 0) (i32.const 4)))
      (func (export "b") (memory.init $b (i32.const 20) (i32.const 0) (i32.const 4)))
      (func (export "drop_a") (data.drop $a)) (func (export "drop_empty") (data.drop $empty)))"""
    with vfswasi.Sandbox(text) as sandbox, sandbox.session() as session:
        with session.fork() as before:
            session.call("drop_a")
            session.call("drop_empty")
            before.call("a")
            assert before.memory.read(10, 4) == b"aaaa"
        with session.fork() as fork:
            fork.call("b")
            assert fork.memory.read(20, 4) == b"bbbb"
            assert fork.memory.read(0, 20) == bytes(20)
            with pytest.raises(vfswasi.GuestTrapError, match="out of bounds memory access"):
                fork.call("a")
    with vfswasi.Sandbox(TABLES) as sandbox, sandbox.session() as session:
        session.call("drop")
        with session.fork() as fork, pytest.raises(vfswasi.GuestTrapError, match="out of bounds table access"):
            fork.call("init", 0)


def test_a_module_with_names_of_ours_is_copied_all_the_same(way: str) -> None:
    text = b"""(module (memory (export "vfswasi:memory0") 1) (global (export "vfswasi2:x") (mut i32) (i32.const 1))
      (func (export "vfswasi:global0") (result i32) (global.set 0 (i32.add (global.get 0) (i32.const 1)))
        (global.get 0)))"""
    with vfswasi.Sandbox(text) as sandbox, sandbox.session() as session:
        session.call("vfswasi:global0")
        with session.fork() as fork:
            assert (fork.call("vfswasi:global0"), session.functions) == (3, ["vfswasi:global0"])


@pytest.mark.parametrize(
    ("text", "features", "told"),
    [
        ("(global (mut exnref) (ref.null exn))", (), "its global 0 has a type that cannot be copied"),
        (
            "(global (mut anyref) (ref.null any))",
            ("gc",),
            "its global 0 has a type that cannot be copied",
        ),
        (
            "(table 1 anyref) (func (table.set (i32.const 0) (ref.null any)))",
            ("gc",),
            "cannot be copied",
        ),
        ('(func (export "f") (drop (ref.i31 (i32.const 1))))', ("gc",), "an instruction or a type that is not known"),
    ],
)
def test_what_cannot_be_copied_is_told(way: str, text: str, features: tuple[str, ...], told: str) -> None:
    module = f'(module {text} (func (export "one") (result i32) (i32.const 1)))'.encode()
    with vfswasi.Sandbox(module, features=features) as sandbox, sandbox.session() as session:
        with pytest.raises(vfswasi.SessionError, match=re.escape("this session cannot be copied: ")) as caught:
            session.fork()
        assert told in str(caught.value)
        assert session.call("one") == 1


def test_copies_leave_no_descriptor_memory_or_thread_behind(sandbox: vfswasi.Sandbox, memories: str) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as file:
            return sum("vfswasi-memory" in line for line in file)

    def copies(count: int) -> None:
        with sandbox.snapshot(after=("grow", 50), stdout=vfswasi.DEVNULL) as snapshot:
            for _ in range(count):
                with snapshot.session() as session, session.fork() as fork:
                    open_file(fork, "given")
                    fork.memory.write(40 * 65536, b"x" * 65536)

    copies(3)
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), mapped(), threading.active_count()
    with open("/proc/self/statm") as file:
        rss = int(file.read().split()[1])
    copies(100)
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), mapped(), threading.active_count()) <= before
    with open("/proc/self/statm") as file:
        assert int(file.read().split()[1]) - rss < 16 << 8


def test_many_forks_run_at_once(session: vfswasi.Session) -> None:
    forks = [session.fork() for _ in range(8)]
    seen: list[int] = []

    def use(fork: vfswasi.Session) -> None:
        for _ in range(50):
            fork.call("next")
        seen.append(fork.call("next"))

    threads = [threading.Thread(target=use, args=(fork,)) for fork in forks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [151] * 8
    for fork in forks:
        fork.close()


@pytest.mark.parametrize("end", ["spin", "killed"])
def test_a_copy_that_is_ended_leaves_the_others_alone(session: vfswasi.Session, end: str) -> None:
    with session.fork() as one, session.fork() as other:
        if end == "killed":
            threading.Timer(0.2, one.kill).start()
        with pytest.raises(vfswasi.SandboxError):
            one.call("spin", timeout=0.2 if end == "spin" else 20)
        assert (session.call("next"), other.call("next")) == (101, 101)
        with session.fork() as third:
            assert third.call("next") == 102


def test_copying_ends_in_time(way: str) -> None:
    limits = vfswasi.Limits(wall_seconds=20.0)
    with vfswasi.Sandbox(GUEST, limits=limits) as sandbox, sandbox.session() as session:
        session.call("grow", 2000)
        started = time.monotonic()
        with session.fork() as fork:
            assert len(fork.memory) == 2001 * 65536
        assert time.monotonic() - started < 10
