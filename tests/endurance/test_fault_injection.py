"""A store that fails or lies at one call of a real program's run: the host lives, nothing leaks, no promise is broken.

All calls with one kind of fault of each class, and all kinds at some of the calls; `python -m tests.endurance faults
--all` does all kinds at all calls.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfswasi
from tests.guest_programs import compile_c
from tests.kernel.test_weak_stores import WeakStore
from tests.rawguest import ALL_FILE_RIGHTS, RawGuest
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.layers.faulty import Call, Faulty
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend

from . import ledger
from .faults import FIRST, KINDS, Bench, class_of, resources, taken_since
from .lies import lies_of
from .watched import Liar

ROOT = Path(__file__).parents[2]
ALL_KINDS = [kind for kinds in KINDS.values() for kind in kinds]
BOTH_WAYS = pytest.mark.parametrize("vdso", [True, False], ids=["fast", "plain"])


def struck(bench: Bench, kinds: list[str], step: int = 1, lasting: bool = False) -> Iterator[str]:
    """What goes wrong with each of these faults at every `step`-th call; another first call for each kind."""
    for number, kind in enumerate(kinds):
        for call in range(1 + number % step, bench.calls + 1, step):
            fault = KINDS[class_of(kind)][kind]()
            for text in bench.strike(call, fault, lasting=lasting):
                yield f"{kind} at call {call} ({bench.struck}): {text}"


@BOTH_WAYS
@pytest.mark.parametrize("store", ["memory", "weak"])
@pytest.mark.parametrize("name", ["steps-exit", "steps-trap", "as", "ld", "objcopy"])
def test_a_fault_at_every_call(name: str, store: str, vdso: bool, tmp_path: Path) -> None:
    assert not [*struck(Bench(name, store, vdso, tmp_path), list(FIRST.values()))]


@BOTH_WAYS
@pytest.mark.parametrize(("name", "step"), [("stdio", 2), ("tree", 61), ("steps-status", 3)])
def test_a_fault_at_some_calls_of_longer_programs(name: str, step: int, vdso: bool, tmp_path: Path) -> None:
    assert not [*struck(Bench(name, "memory", vdso, tmp_path), list(FIRST.values()), step)]


@BOTH_WAYS
@pytest.mark.parametrize("store", ["memory", "weak"])
def test_every_kind_of_fault(store: str, vdso: bool, tmp_path: Path) -> None:
    assert not [*struck(Bench("steps-exit", store, vdso, tmp_path), ALL_KINDS, 17)]


@BOTH_WAYS
@pytest.mark.parametrize("store", ["zip", "fsspec"])
@pytest.mark.parametrize("name", ["steps-exit", "steps-trap"])
def test_stores_that_publish_as_a_whole(name: str, store: str, vdso: bool, tmp_path: Path) -> None:
    assert not [*struck(Bench(name, store, vdso, tmp_path), list(FIRST.values()), 11)]


@BOTH_WAYS
@pytest.mark.parametrize(("store", "step"), [("memory", 3), ("weak", 3), ("zip", 13), ("fsspec", 13)])
@pytest.mark.parametrize("name", ["steps-exit", "steps-trap"])
def test_a_store_that_goes_away_for_good(name: str, store: str, step: int, vdso: bool, tmp_path: Path) -> None:
    assert not [*struck(Bench(name, store, vdso, tmp_path), list(FIRST.values()), step, lasting=True)]


@BOTH_WAYS
@pytest.mark.parametrize(("store", "step"), [("memory", 3), ("weak", 7)])
def test_a_store_that_lies(store: str, step: int, vdso: bool, tmp_path: Path) -> None:
    bench = Bench("steps-exit", store, vdso, tmp_path)
    wrong = []
    told: set[str] = set()
    for number, call in enumerate(bench.names, 1):
        for place, (label, lie) in enumerate(lies_of(call).items()):
            if call in told and (number + place) % step:
                continue
            wrong += [f"{label} at call {number} ({call}): {text}" for text in bench.strike(number, None, lie)]
        told.add(call)
    assert {"walk", "list", "stat", "open", "create", "handle.read_into"} <= told
    assert not wrong


def test_the_model_knows_a_wrong_count_and_a_lost_write(tmp_path: Path) -> None:
    """The checks of these tests, on runs that never were."""
    script = "o 0 /d/out/f cw\nw 0 9 1\nw 0 9 2\nr 0 1\nc 0\ns /d/out/f\nL /d/out"
    names = ledger.checksum(b".") ^ ledger.checksum(b"..") ^ ledger.checksum(b"f")
    log = ["0 0 0", "9 0 0", "9 0 0", f"0 0 {ledger.checksum(b'')}", "0 0 0", "18 0 0", f"3 0 {names}"]

    def follow(lines: list[str], made: bytes | None) -> None:
        (state,) = ledger.Ledger(ledger.TREE).follow(script, "\n".join(lines).encode())
        state.check(ledger.TREE | {"out": {} if made is None else {"f": made}}, False, False)

    good = ledger.pattern(9, 1) + ledger.pattern(9, 2)
    follow(log, good)
    for made in (None, good[:9], good[:17] + b"?", good + b"?"):
        with pytest.raises(ledger.Impossible):
            follow(log, made)
    for number, line in [(1, "8 0 0"), (3, "1 0 5"), (5, "9 0 0"), (6, "2 0 0"), (2, "-1 29 0")]:
        with pytest.raises(ledger.Impossible):
            follow([*log[:number], line, *log[number + 1 :]], good)


# Defects, each in its smallest form


def test_a_file_whose_number_cannot_be_told_is_closed() -> None:
    faulty = Faulty(MemoryBackend({}), {"handle.ident": Errno.IO})
    with RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}) as guest:
        assert guest.try_open("f", oflags=1)[0] is Errno.IO
        assert faulty.open_handles == 0


def test_a_file_whose_number_cannot_be_told_is_not_made() -> None:
    inner = MemoryBackend({})
    with RawGuest({"/d": vfswasi.Mount(Faulty(inner, {"handle.ident": Errno.IO}), rw=True)}) as guest:
        assert guest.try_open("f", oflags=1)[0] is Errno.IO
    assert inner.export() == {}


@pytest.mark.parametrize("call", ["rename", "remove"])
def test_what_is_written_after_a_removal_that_failed_is_stored(call: str) -> None:
    store = WeakStore({"a": b"a", "b": b"bb"})
    faulty = Faulty(store)
    with RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}) as guest:
        fd = guest.open("b", base=ALL_FILE_RIGHTS)
        faulty.fail = {(call, faulty.counts[call] + 1): Errno.IO}
        failed = guest.unlink("b") if call == "remove" else guest.rename("a", "b")
        assert failed is Errno.IO
        guest.write(fd, b"xx")
    assert store.export() == {"a": b"a", "b": b"xx"}


def test_an_oserror_of_the_store_is_not_told_as_a_full_disk() -> None:
    """What else a store raises that is no FsError ends the run unchanged."""
    faulty = Faulty(WeakStore({"a": b"a"}), {"handle.read_into": ConnectionResetError("gone")})
    with RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}) as guest:
        guest.open("a")
        with pytest.raises(ConnectionResetError):
            guest.unlink("a")


def test_a_copy_that_fails_is_closed() -> None:
    faulty = Faulty(WeakStore({"a": b"a"}), {"handle.read_into": MemoryError})
    with warnings.catch_warnings(record=True) as caught, RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}) as guest:
        warnings.simplefilter("always")
        guest.open("a")
        assert guest.unlink("a") is Errno.NOMEM
    assert not caught


@pytest.mark.parametrize("count", [17, 1 << 20])
def test_a_guest_is_never_told_of_more_than_it_asked_for(count: int) -> None:
    liar = Liar(MemoryBackend({"f": bytes(1000)}))
    with RawGuest({"/d": liar}, vdso=False) as guest:
        fd = guest.open("f")
        liar.at, liar.lie = liar.faulty.total + 1, lambda _: count
        assert guest.call("fd_read", fd, *guest.iovs((0x10000, 16)), 0x3000) is Errno.IO


def test_a_window_ends_where_its_memory_ends() -> None:
    liar = Liar(MemoryBackend({"f": b"f" * 100_000, "other": b"o" * 100_000}))
    with RawGuest({"/d": liar}) as guest:
        fd, other = guest.open("f"), guest.open("other")
        guest.read(fd, 16)
        liar.at, liar.lie = liar.faulty.total + 1, lambda count: count + 60_000
        guest.read(fd, 16)
        assert liar.struck == "handle.read_into"
        for _ in range(2):
            guest.read(other, 16)
        assert {guest.pread(fd, 16, at) for at in range(0, 64_000, 1000)} == {b"f" * 16}


def test_a_store_that_cannot_be_closed_keeps_no_other_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, closed = LocalBackend.close, list[LocalBackend]()

    def failing(self: LocalBackend) -> None:
        if self in closed:  # by what closes a sandbox that is let go
            return
        close(self)
        closed.append(self)
        if len(closed) == 1:
            raise FsError(Errno.IO, "planned")

    gc.collect()  # what other tests have left to it
    monkeypatch.setattr(LocalBackend, "close", failing)
    before = resources()
    module = b'(module (memory (export "memory") 1) (func (export "_start")))'
    sandbox = vfswasi.Sandbox(module, preopens={"/a": tmp_path, "/b": tmp_path})
    with pytest.raises(FsError, match="planned"):
        sandbox.close()
    assert (len(closed), taken_since(before)) == (2, {})


def test_a_call_that_is_made_again_knows_nothing_of_the_first_time() -> None:
    """`remote.translate` takes a file that is missing for a connection that is lost, if one was lost before."""
    handled: list[BaseException | None] = []

    def fail(call: Call) -> Errno | None:
        if call.name != "mkdir":
            return None
        handled.append(sys.exception())
        return Errno.NOSPC if call.nth == 1 else None

    with RawGuest({"/d": vfswasi.Mount(Faulty(MemoryBackend({}), fail), rw=True)}) as guest:
        fd = guest.create("f")
        for _ in range(4):
            guest.write(fd, b"x")
        assert guest.mkdir("d") is Errno.SUCCESS
    assert handled == [None, None]


def many_files(fault: type[BaseException], again: bool) -> None:
    """A run that leaves writes in several windows, on a store that takes none of them; and another run."""
    script = "".join(f"o {n} /d/f{n} cw\nw {n} 10 1\nw {n} 10 2\nw {n} 10 3\n" for n in range(4))
    wasm = compile_c(Path(__file__).parent / "steps.c")
    faulty = Faulty(MemoryBackend({}))
    preopens = {"/d": vfswasi.Mount(faulty, rw=True), "/j": {}}
    faulty.fail = lambda call: fault if faulty.counts["handle.write_from"] > 4 else None
    vfswasi.run(wasm, ["", "/j/log"], preopens=preopens, vdso=True)
    before = resources()
    try:
        vfswasi.run(wasm, [script, "/j/log"], preopens=preopens, vdso=True)
    except fault:
        pass
    faulty.fail = None
    gc.collect()
    if again:
        assert vfswasi.run(wasm, [script, "/j/log"], preopens=preopens, vdso=True).returncode == 0
    assert (faulty.open_handles, taken_since(before)) == (0, {})


@pytest.mark.parametrize("fault", [ValueError, MemoryError])
def test_a_store_that_takes_nothing_back_leaves_no_guest_behind(fault: type[BaseException]) -> None:
    many_files(fault, again=False)


@pytest.mark.parametrize("fault", ["KeyboardInterrupt", "__import__('asyncio').CancelledError"])
def test_a_base_exception_that_lasts_does_not_end_the_process(fault: str) -> None:
    code = f"""
from vfswasi.engine.fast_path import publishing
from tests.endurance.test_fault_injection import many_files
publishing.HEAT = publishing.WARMTH = 1
many_files({fault}, again=True)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
