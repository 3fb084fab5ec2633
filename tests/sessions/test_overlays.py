"""Sessions on overlays: what has changed can be looked at between calls, and copies change their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import vfswasi
from vfswasi import Mount

from .conftest import CREAT, GUEST, TRUNC, open_file, read, rename, unlink, write

BIG = bytes(range(256)) * 8192  # 2 MiB, more than is copied up as a whole


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "given").write_text("0123456789")
    (directory / "other").write_text("other")
    (directory / "big").write_bytes(BIG)
    return directory


@pytest.fixture
def sandbox(way: str, base: Path) -> Iterator[vfswasi.Sandbox]:
    with vfswasi.Sandbox(GUEST, preopens={"/d": Mount(base, overlay=True)}) as made:
        yield made


def listed(session: vfswasi.Session) -> list[str]:
    return str(session.changes["/d"]).splitlines()


def test_changes_are_those_of_this_moment_and_stay_so(session: vfswasi.Session, base: Path) -> None:
    assert listed(session) == []
    fd = open_file(session, "given")
    write(session, fd, b"one")
    first = session.changes["/d"]
    write(session, fd, b"two")
    unlink(session, "other")
    second = session.changes["/d"]
    assert (str(first), str(second)) == ("M given", "M given\nD other")
    assert first.read_bytes("given") == b"one3456789"
    assert second.read_bytes("given") == b"onetwo6789"
    session.close()
    assert session.changes["/d"] == second
    assert first.read_bytes("given") == b"one3456789"
    assert {each.name: each.stat().st_size for each in base.iterdir()} == {"given": 10, "other": 5, "big": len(BIG)}


def test_what_was_written_without_a_host_call_is_among_them(session: vfswasi.Session) -> None:
    fd = open_file(session, "new", CREAT)
    for number in range(50):
        write(session, fd, b"line %02d\n" % number)
    assert session.changes["/d"].read_bytes("new") == b"".join(b"line %02d\n" % number for number in range(50))


def test_a_copy_goes_on_with_what_is_changed_and_changes_its_own(session: vfswasi.Session) -> None:
    given, big = open_file(session, "given"), open_file(session, "big")
    write(session, given, b"both")
    write(session, big, b"both")
    rename(session, "other", "moved")
    with session.fork() as fork:
        write(session, given, b"main")
        write(fork, given, b"fork")
        write(fork, big, b"fork")
        unlink(fork, "moved")
        new = open_file(fork, "fork-only", CREAT)
        write(fork, new, b"new")
        assert listed(session) == ["M big", "M given", "R other -> moved"]
        assert listed(fork) == ["M big", "A fork-only", "M given", "D other"]
        mine, forks = session.changes["/d"], fork.changes["/d"]
        assert (mine.read_bytes("given"), forks.read_bytes("given")) == (b"bothmain89", b"bothfork89")
        assert mine.read_bytes("big") == b"both" + BIG[4:]
        assert forks.read_bytes("big") == b"bothfork" + BIG[8:]


def test_files_that_are_open_across_a_copy_are_open_in_both(session: vfswasi.Session) -> None:
    untouched, gone = open_file(session, "big"), open_file(session, "given")
    assert read(session, untouched, 4) == BIG[:4]
    write(session, gone, b"ABC")
    unlink(session, "given")
    with session.fork() as fork:
        for each in (session, fork):
            assert read(each, untouched, 4) == BIG[4:8]
            assert each.call("seek", gone, 0, 0) == 0
            assert read(each, gone, 16) == b"ABC3456789"
        write(fork, gone, b"fork")
        assert session.call("seek", gone, 10, 0) == 0
        assert read(session, gone, 16) == b""
        assert listed(fork) == listed(session) == ["D given"]


def test_sessions_of_a_snapshot_begin_where_it_was_taken(session: vfswasi.Session) -> None:
    fd = open_file(session, "new", CREAT)
    write(session, fd, b"base ")
    with session.snapshot() as snapshot:
        write(session, fd, b"afterwards")
        with snapshot.session() as first, snapshot.session() as second:
            write(first, fd, b"first")
            assert first.changes["/d"].read_bytes("new") == b"base first"
            assert second.changes["/d"].read_bytes("new") == b"base "


@pytest.mark.parametrize("how", ["trap", "exit", "spin", "kill"])
def test_what_was_changed_is_known_however_a_session_ends(session: vfswasi.Session, how: str) -> None:
    fd = open_file(session, "given")
    write(session, fd, b"one")
    if how == "kill":
        session.kill()
    else:
        arguments = {"exit": (7,)}.get(how, ())
        with pytest.raises(vfswasi.GuestError) as raised:
            session.call(how, *arguments, timeout=0.3 if how == "spin" else None)
        assert raised.value.result.changes == session.changes
    assert listed(session) == ["M given"]
    assert session.changes["/d"].read_bytes("given") == b"one3456789"


def test_changes_are_not_told_while_the_session_is_busy(base: Path) -> None:
    text = b"""(module (import "env" "ask" (func $ask)) (memory (export "memory") 1) (func (export "f") (call $ask)))"""
    told = []

    def ask(_: object) -> None:
        with pytest.raises(vfswasi.SessionError, match="is busy with a call of f"):
            session.changes  # noqa: B018 - it raises
        told.append(True)

    preopens = {"/d": Mount(base, overlay=True)}
    imports = {"env": {"ask": ask}}
    with vfswasi.Sandbox(text, preopens=preopens, imports=imports) as sandbox, sandbox.session() as session:
        session.call("f")
    assert told == [True]


@pytest.fixture
def applying(way: str, base: Path) -> Iterator[vfswasi.Sandbox]:
    with vfswasi.Sandbox(GUEST, preopens={"/d": Mount(base, overlay=True, apply="success")}) as made:
        yield made


def test_changes_are_applied_when_a_session_is_closed_and_not_before(applying: vfswasi.Sandbox, base: Path) -> None:
    with applying.session() as session:
        fd = open_file(session, "given", TRUNC)
        write(session, fd, b"new")
        assert (base / "given").read_text() == "0123456789"
    assert (base / "given").read_text() == "new"
    with applying.session() as later:
        assert read(later, open_file(later, "given")) == b"new"
        assert listed(later) == []


@pytest.mark.parametrize("how", ["trap", "exit", "kill", "raise"])
def test_changes_of_a_session_that_failed_are_not_applied(applying: vfswasi.Sandbox, base: Path, how: str) -> None:
    session = applying.session()
    write(session, open_file(session, "given"), b"new")
    if how == "kill":
        session.kill()
    elif how == "raise":
        session.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    else:
        with pytest.raises(vfswasi.GuestError):
            session.call(how, *({"exit": (7,)}.get(how, ())))
    session.close()
    assert (base / "given").read_text() == "0123456789"
    assert listed(session) == ["M given"]


def test_of_two_copies_that_change_the_same_file_the_second_is_told_and_loses_nothing(
    applying: vfswasi.Sandbox, base: Path
) -> None:
    session = applying.session()
    fd = open_file(session, "given")
    fork = session.fork()
    write(session, fd, b"main")
    write(fork, fd, b"fork")
    session.close()
    with pytest.raises(vfswasi.UncommittedError, match="could not be stored: /d") as raised:
        fork.close()
    cause = raised.value.files[0].error.__cause__
    assert isinstance(cause, vfswasi.ConflictError)
    assert list(cause.conflicts) == ["given"]
    assert (base / "given").read_text() == "main456789"
    assert fork.changes["/d"].read_bytes("given") == b"fork456789"
