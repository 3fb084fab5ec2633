"""What a call of a session takes, gives and keeps."""

from __future__ import annotations

import math
import re
import threading
from typing import Any

import pytest

import vfswasi
from vfswasi.engine.threads import workers

from .conftest import CREAT, GUEST, open_file, read, write


def test_memory_and_globals_stay_between_calls_and_initialize_was_called_once(session: vfswasi.Session) -> None:
    assert [session.call("next") for _ in range(3)] == [101, 102, 103]
    session.memory.write(5000, b"kept")
    session.call("nothing")
    assert session.memory.read(4999, 6) == b"\0kept\0"


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        ("add", (1, 2), 3),
        ("add", (-1, 0), -1),
        ("add", (2**32 - 1, 0), -1),
        ("add", (2**31, 0), -(2**31)),
        ("add", (True, 1), 2),
        ("same_i64", (2**64 - 1,), -1),
        ("same_i64", (-(2**63),), -(2**63)),
        ("same_f32", (1.5,), 1.5),
        ("same_f32", (math.inf,), math.inf),
        ("same_f64", (0.1,), 0.1),
        ("same_f64", (3,), 3.0),
        ("three", (1, 2, 0.5), (0.5, 2, 1)),
        ("nothing", (), None),
    ],
)
def test_numbers_go_in_and_come_out(session: vfswasi.Session, function: str, args: Any, result: Any) -> None:
    got = session.call(function, *args)
    assert (got, type(got)) == (result, type(result))


@pytest.mark.parametrize(
    ("function", "args", "error", "told"),
    [
        ("add", (1,), TypeError, "add takes 2 arguments (i32, i32), not 1"),
        ("nothing", (1,), TypeError, "nothing takes no arguments, not 1"),
        ("add", (1, "2"), TypeError, "argument 2 of add must be an integer, for i32, not '2'"),
        ("add", (1.0, 2), TypeError, "argument 1 of add must be an integer, for i32, not 1.0"),
        ("same_f64", ("1",), TypeError, "argument 1 of same_f64 must be a number, for f64, not '1'"),
        ("same_f64", (None,), TypeError, "argument 1 of same_f64 must be a number, for f64, not None"),
        ("add", (2**32, 0), OverflowError, "argument 1 of add does not fit i32: 4294967296"),
        ("add", (0, -(2**31) - 1), OverflowError, "argument 2 of add does not fit i32: -2147483649"),
        ("same_i64", (2**64,), OverflowError, "does not fit i64"),
        ("same_f32", (1e300,), OverflowError, "does not fit f32"),
        ("same_f64", (10**400,), OverflowError, "does not fit f64"),
        ("wide", (1,), vfswasi.MissingExportError, "wide takes or gives values other than i32, i64, f32 and f64"),
        ("reference", (None,), vfswasi.MissingExportError, "reference takes or gives values other than"),
        (
            "missing",
            (),
            vfswasi.MissingExportError,
            "it exports no function 'missing'; its functions: _initialize, add",
        ),
        ("memory", (), vfswasi.MissingExportError, "it exports no function 'memory'"),
        ("vfswasi:global0", (), vfswasi.MissingExportError, "it exports no function"),
        (3, (), TypeError, "the name of a function must be str, not int"),
    ],
)
def test_what_cannot_be_called_is_told_and_has_no_effect(
    session: vfswasi.Session, function: Any, args: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=re.escape(told)):
        session.call(function, *args)
    assert session.call("next") == 101


def test_memory_is_read_and_written_within_its_bounds(session: vfswasi.Session) -> None:
    memory = session.memory
    assert len(memory) == 65536
    memory.write(65530, bytearray(b"654321"))
    assert memory.read(65530, 6) == b"654321"
    assert session.call("load", 65535) == ord("1")
    for offset, size in ((65530, 7), (-1, 1), (0, -1), (65537, 0), (2**40, 1)):
        with pytest.raises(IndexError, match="65,536 bytes"):
            memory.read(offset, size)
    with pytest.raises(IndexError, match="3 bytes at 65,534"):
        memory.write(65534, b"abc")
    assert memory.read(65534, 2) == b"21"
    for given in ("text", 5, None):
        with pytest.raises(TypeError, match="data must be bytes-like"):
            memory.write(0, given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="offset must be an int"):
        memory.read(1.0, 1)  # type: ignore[arg-type]
    assert session.call("grow", 2) == 1
    assert len(memory) == 3 * 65536
    assert memory.read(3 * 65536 - 4, 4) == bytes(4)


def test_files_and_descriptors_stay_between_calls(session: vfswasi.Session) -> None:
    fd = open_file(session, "new", CREAT)
    write(session, fd, b"one ")
    write(session, fd, b"two")
    assert session.files == {"/d": {"given": b"0123456789", "new": b"one two"}}
    other = open_file(session, "given")
    assert (read(session, other, 4), read(session, other, 4)) == (b"0123", b"4567")


def test_what_many_writes_put_into_a_file_is_there_after_each_call(session: vfswasi.Session) -> None:
    fd = open_file(session, "new", CREAT)
    for count in range(1, 200):
        write(session, fd, b"x" * 10)
        assert len(session.files["/d"]["new"]) == 10 * count


def test_what_the_host_changes_between_calls_the_guest_sees(way: str) -> None:
    store = vfswasi.MemoryBackend({"f": "before" * 100})
    with (
        vfswasi.Sandbox(GUEST, preopens={"/d": vfswasi.Mount(store, rw=True)}) as sandbox,
        sandbox.session() as session,
    ):
        fd = open_file(session, "f")
        for _ in range(100):
            assert session.call("seek", fd, 0, 0) == 0
            assert read(session, fd, 6) == b"before"
        handle = store.open(("f",), True)
        handle.write_from(0, b"after!")
        handle.close()
        session.call("seek", fd, 0, 0)
        assert read(session, fd, 6) == b"after!"


def test_captured_output_is_given_once(session: vfswasi.Session) -> None:
    write(session, 1, b"out")
    write(session, 2, b"err")
    assert (session.read_stdout(), session.read_stdout(), session.read_stderr()) == (b"out", b"", b"err")
    for count in range(100):
        write(session, 1, b"%d," % count)
    assert session.read_stdout() == b"".join(b"%d," % count for count in range(100))
    assert session.usage.output_bytes == 3 + 3 + 290


def test_output_as_text_is_not_torn_between_two_looks(sandbox: vfswasi.Sandbox) -> None:
    with sandbox.session(capture_output=True, text=True) as session:
        write(session, 1, "é".encode()[:1])
        assert session.read_stdout() == ""
        write(session, 1, "é".encode()[1:])
        assert session.read_stdout() == "é"


def test_output_that_was_read_makes_room(way: str) -> None:
    with (
        vfswasi.Sandbox(GUEST, limits=vfswasi.Limits(output_bytes=100)) as sandbox,
        sandbox.session(stdout=vfswasi.PIPE) as session,
    ):
        for _ in range(10):
            write(session, 1, b"x" * 100)
            assert session.read_stdout() == b"x" * 100
        write(session, 1, b"x" * 90)
        session.memory.write(1024, b"y" * 20)
        session.call("write", 1, 20)
        assert session.read_stdout() == b"x" * 90 + b"y" * 10


def test_output_that_goes_elsewhere_is_not_captured(sandbox: vfswasi.Sandbox) -> None:
    lines: list[bytes] = []
    with sandbox.session(stdout=lines.append, stdin=b"typed") as session:
        write(session, 1, b"out")
        assert (lines, session.read_stdout()) == ([b"out"], None)
        assert read(session, 0) == b"typed"


def test_a_call_may_come_from_any_thread(session: vfswasi.Session) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(session.call("next"))) for _ in range(5)]
    for thread in threads:
        thread.start()
        thread.join()
    assert seen == [101, 102, 103, 104, 105]


def test_fuel_is_there_anew_for_each_call(way: str) -> None:
    with (
        vfswasi.Sandbox(GUEST, limits=vfswasi.Limits(fuel=20_000)) as sandbox,
        sandbox.session() as session,
    ):
        for _ in range(5):
            session.call("work", 2000)
        used = session.usage.fuel
        assert used is not None
        assert 50_000 < used < 100_000
        with pytest.raises(vfswasi.GuestFuelError, match="work had used up its fuel of 20,000"):
            session.call("work", 100_000)
        assert session.ended == "used up its fuel in work"


def test_quotas_hold_for_the_session(way: str) -> None:
    limits = vfswasi.Limits(mount_bytes=1000, descriptors=8, memory_bytes=3 * 65536)
    with vfswasi.Sandbox(GUEST, preopens={"/d": {}}, limits=limits) as sandbox, sandbox.session() as session:
        fd = open_file(session, "f", CREAT)
        write(session, fd, b"x" * 900)
        session.memory.write(1024, b"y" * 200)
        assert session.call("write", fd, 200) == vfswasi.Errno.DQUOT
        assert [session.call("grow", 2), session.call("grow", 1)] == [1, -1]
        for _ in range(3):
            open_file(session, "f")
        session.memory.write(1024, b"f")
        assert session.call("open", 1, 0) == -1
        assert (session.usage.stored_bytes, session.usage.descriptors) == (900, 8)
        assert session.usage.memory_bytes == 3 * 65536


def test_cpu_time_goes_on_from_call_to_call(session: vfswasi.Session) -> None:
    before = 0
    for _ in range(20):
        session.call("work", 100_000)
        now = session.call("cpu")
        assert now > before
        before = now


def test_a_thousand_calls_leave_nothing_behind(session: vfswasi.Session) -> None:
    def rss() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for _ in range(200):
        session.call("next")
    before, threads = rss(), threading.active_count()
    for _ in range(1000):
        session.call("next")
        session.memory.read(0, 100)
    assert rss() - before < 8 << 20
    assert threading.active_count() <= threads
    assert session.call("next") == 100 + 200 + 1000 + 1


def test_sessions_of_one_sandbox_know_nothing_of_each_other(sandbox: vfswasi.Sandbox) -> None:
    with sandbox.session() as one, sandbox.session() as other:
        fd = open_file(one, "mine", CREAT)
        write(one, fd, b"secret")
        one.call("next")
        assert other.call("next") == 101
        assert other.memory.read(0, 65536) == bytes(65536)
        assert "mine" not in other.files["/d"]


def test_sessions_of_one_sandbox_run_at_once(sandbox: vfswasi.Sandbox) -> None:
    sessions = [sandbox.session() for _ in range(4)]
    threads = [
        threading.Thread(target=lambda session=session: [session.call("next") for _ in range(100)])
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [session.call("next") for session in sessions] == [201] * 4
    for session in sessions:
        session.close()


def test_a_library_without_memory_or_wasi_has_sessions_too(way: str) -> None:
    text = b'(module (func (export "twice") (param i32) (result i32) (i32.shl (local.get 0) (i32.const 1))))'
    with vfswasi.Sandbox(text) as sandbox, sandbox.session() as session:
        assert session.call("twice", 21) == 42
        assert session.functions == ["twice"]
        with pytest.raises(vfswasi.MissingExportError, match="it exports no memory named"):
            session.memory.read(0, 1)
        with session.fork() as fork:
            assert fork.call("twice", 4) == 8


def test_a_start_section_runs_when_a_session_is_opened_and_not_in_its_copies(way: str) -> None:
    text = b"""(module (import "env" "seen" (func $seen)) (memory (export "memory") 1)
      (global $n (mut i32) (i32.const 0)) (func $go (global.set $n (i32.const 7)) (call $seen)) (start $go)
      (func (export "n") (result i32) (global.get $n)))"""
    seen: list[int] = []
    imports = {"env": {"seen": lambda memory: seen.append(len(memory))}}
    with vfswasi.Sandbox(text, imports=imports) as sandbox, sandbox.session() as session:
        assert (session.call("n"), seen) == (7, [65536])
        with session.fork() as fork:
            assert (fork.call("n"), seen) == (7, [65536])


def test_what_was_given_wrong_is_told_before_there_is_a_session(sandbox: vfswasi.Sandbox) -> None:
    for options, error in (
        ({"stdout": 3.5}, TypeError),
        ({"timeout": "1"}, TypeError),
        ({"check": True}, TypeError),
        ({"nonsense": 1}, TypeError),
        ({"args": "text"}, TypeError),
        ({"timeout": -1}, ValueError),
    ):
        with pytest.raises(error):
            sandbox.session(**options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout must be seconds"), sandbox.session() as session:
        session.call("next", timeout="1")  # type: ignore[arg-type]
    assert not workers._idle or all(len(idle) <= 8 for idle in workers._idle.values())


COMMAND = b"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (global $n (mut i32) (i32.const 0)) (global $status (mut i32) (i32.const 0))
  (func (export "_start") (global.set $n (i32.const 5)) (call $exit (global.get $status)))
  (func (export "fail_next") (global.set $status (i32.const 9)))
  (func (export "n") (result i32) (global.get $n)))"""


def test_a_command_has_sessions_if_the_caller_knows_that_it_is_one(way: str) -> None:
    with vfswasi.Sandbox(COMMAND) as sandbox:
        with pytest.raises(vfswasi.MissingExportError, match=r"this is a command.*command=True"):
            sandbox.session()
        with sandbox.session(command=True) as session:
            assert session.call("n") == 0
            assert session.call("_start") is None
            assert session.call("n") == 5
            session.call("fail_next")
            with pytest.raises(vfswasi.GuestExitError, match="_start ended with exit status 9"):
                session.call("_start")
        assert sandbox.run().returncode == 0


def test_a_reactor_is_refused_by_run_and_told_where_to_go(sandbox: vfswasi.Sandbox) -> None:
    with pytest.raises(vfswasi.MissingExportError, match=r"this is a reactor.*Sandbox\.session"):
        sandbox.run()
