"""E6: however a run ends, every handle of every store is closed, once; and so are the stores opened for it."""

from __future__ import annotations

import os
import signal
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine import guests
from vfswasi.errors import Errno
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.fs_backends.local import backend as local
from vfswasi.limits import Limits

from ..open_files import open_files, opened_since
from ..rawguest import ALL_FILE_RIGHTS, RawGuest
from ..wat_programs import ENDLESS, SLEEP, program


def _open(fd: int, at: int, oflags: int, rights: int) -> str:
    """Open "s" (or "sf", "so"...: the first `at` letters of it) below descriptor `fd`."""
    return f"""(drop (call $open (i32.const {fd}) (i32.const 0) (i32.const 16) (i32.const {at}) (i32.const {oflags})
      (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 64)))"""


# In both mounts: a new file that is written to, one that is open twice, and one whose name is gone.
OPENED = "".join(
    _open(fd, 1, 1, 66)
    + "(drop (call $write (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 8)))"
    + _open(fd, 1, 0, 2) * 2
    + _open(fd, 2, 1, 66)
    + f"(drop (call $unlink (i32.const {fd}) (i32.const 16) (i32.const 2)))"
    for fd in (3, 4)
)
UNLINK = '(import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))'
HOST = UNLINK + '(import "env" "f" (func $f))'


class Mine(BaseException):
    """Nobody expects it."""


def _raising(error: BaseException) -> dict[str, Any]:
    def fail(_memory: Any) -> None:
        raise error

    return {"imports": {"env": {"f": fail}}}


def _printing(_data: bytes) -> None:
    raise LookupError("no room")


ENDINGS: dict[str, tuple[str, dict[str, Any], type[BaseException] | None]] = {
    "return": ("", {}, None),
    "exit 0": ("(call $exit (i32.const 0))", {}, None),
    "exit 1": ("(call $exit (i32.const 1))", {}, None),
    "exit 1, checked": ("(call $exit (i32.const 1))", {"check": True}, vfswasi.GuestExitError),
    "trap": ("unreachable", {}, None),
    "trap, checked": ("unreachable", {"check": True}, vfswasi.GuestTrapError),
    "signal": ("(drop (call $raise (i32.const 9)))", {}, None),
    "stack": ("(call $deep)", {}, None),
    "fuel": (ENDLESS, {"limits": Limits(fuel=100_000)}, vfswasi.GuestFuelError),
    "timeout, computing": (ENDLESS, {"timeout": 0.1}, vfswasi.GuestTimeoutError),
    "timeout, waiting": (SLEEP, {"timeout": 0.1}, vfswasi.GuestTimeoutError),
    "host error": ("(call $f)", _raising(ZeroDivisionError()), ZeroDivisionError),
    "host base exception": ("(call $f)", _raising(Mine()), Mine),
    "Ctrl-C in a host function": ("(call $f)", _raising(KeyboardInterrupt()), KeyboardInterrupt),
    "exit of the host": ("(call $f)", _raising(SystemExit(3)), SystemExit),
    "output that fails": ("(call $say (i32.const 1))", {"stdout": _printing}, LookupError),
    "bad pointer in a host function": (
        "(call $f)",
        {"imports": {"env": {"f": lambda memory: (memory.read(70000, 1), None)[1]}}},
        None,
    ),
}


def module(body: str) -> bytes:
    deep = "(func $deep (call $deep) (call $deep))"
    return program(OPENED + body, HOST).replace(b"(func $say", deep.encode() + b"(func $say", 1)


def run(name: str, preopens: dict[str, Any], **more: Any) -> None:
    body, options, error = ENDINGS[name]
    options = {"stdout": vfswasi.DEVNULL, "imports": {"env": {"f": lambda _memory: None}}, **options, **more}
    if error is None:
        vfswasi.run(module(body), preopens=preopens, **options)
    else:
        with pytest.raises(error):
            vfswasi.run(module(body), preopens=preopens, **options)


def assert_closed(*stores: Faulty) -> None:
    for store in stores:
        opened = store.counts["open"] + store.counts["create"]
        assert opened >= 2, "descriptors of one file share a handle"
        assert store.open_handles == 0
        assert store.counts["handle.close"] + store.counts["handle.discard"] == opened, "each once"


@pytest.mark.parametrize("vdso", [False, True])
@pytest.mark.parametrize("name", ENDINGS)
def test_e6_every_handle_is_closed_once(name: str, vdso: bool) -> None:
    stores = Faulty(vfswasi.MemoryBackend()), Faulty(vfswasi.MemoryBackend())
    vfswasi.run(program(""), timeout=30)  # the threads that stay for the next run are there
    live, threads = len(guests.live), threading.active_count()
    run(name, {"/a": vfswasi.Mount(stores[0], rw=True), "/b": vfswasi.Mount(stores[1], rw=True)}, vdso=vdso)
    assert_closed(*stores)
    assert len(guests.live) == live
    assert threading.active_count() <= threads
    for store in stores:
        assert store.counts["close"] == 0, "a store that is given stays the host's"
        assert store.counts["finish"] == 1


@pytest.mark.parametrize("name", ENDINGS)
def test_e6_stores_that_are_opened_for_a_run_are_closed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local directory, an archive that is written and one that is read."""
    for directory in ("one", "two"):
        (tmp_path / directory).mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("f", b"x")
    closed: list[object] = []
    close = local.LocalBackend.close
    monkeypatch.setattr(local.LocalBackend, "close", lambda self: (closed.append(self), close(self))[1])
    before = open_files()
    run(
        name,
        {
            "/a": vfswasi.Mount(tmp_path / "one", rw=True),
            "/b": vfswasi.Mount(tmp_path / "new.zip", rw=True),
            "/c": tmp_path / "a.zip",
            "/d": tmp_path / "two",
        },
    )
    assert opened_since(before) == []
    assert len(closed) == 2
    left = {"a.zip", "one", "two"} | ({"new.zip"} if name in ("return", "exit 0") else set())
    assert set(os.listdir(tmp_path)) == left, "and no temporary file is left"


@pytest.mark.parametrize("fault", [Errno.IO, RuntimeError("of the store"), Mine(), MemoryError()], ids=repr)
@pytest.mark.parametrize(
    "call", ["handle.write_from", "handle.close", "open", "handle.stat", "remove", "finish", "walk"]
)
def test_e6_a_store_that_fails_keeps_no_handle_open(call: str, fault: Any) -> None:
    """The first store fails; what the guest has open of both is closed."""
    stores = Faulty(vfswasi.MemoryBackend(), {call: fault}), Faulty(vfswasi.MemoryBackend())
    preopens = {"/a": vfswasi.Mount(stores[0], rw=True), "/b": vfswasi.Mount(stores[1], rw=True)}
    imports = {"env": {"f": lambda _memory: None}}
    live = len(guests.live)
    try:
        vfswasi.run(module(""), preopens=preopens, stdout=vfswasi.DEVNULL, imports=imports, vdso=False)
    except (vfswasi.SandboxError, RuntimeError, Mine, MemoryError):
        pass
    for store in stores:
        assert store.open_handles == 0
        assert store.counts["handle.close"] + store.counts["handle.discard"] <= (
            store.counts["open"] + store.counts["create"]
        )
    assert len(guests.live) == live


def _ctrl_c_after(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


@pytest.mark.parametrize("body", [ENDLESS, SLEEP], ids=["computing", "waiting"])
def test_e6_ctrl_c_closes_every_handle(body: str) -> None:
    store = Faulty(vfswasi.MemoryBackend())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    preopens = {"/a": vfswasi.Mount(store, rw=True), "/b": {}}
    imports = {"env": {"f": lambda _memory: _ctrl_c_after(0.1)}}
    try:
        with pytest.raises(KeyboardInterrupt):
            vfswasi.run(module("(call $f)" + body), preopens=preopens, imports=imports, timeout=30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert_closed(store)


def test_e6_an_interrupted_run_closes_every_handle() -> None:
    store = Faulty(vfswasi.MemoryBackend())
    ready = threading.Event()
    imports = {"env": {"f": lambda _memory: ready.set()}}
    ended: list[BaseException] = []
    preopens = {"/a": vfswasi.Mount(store, rw=True), "/b": {}}
    with vfswasi.Sandbox(module("(call $f)" + ENDLESS), preopens=preopens, imports=imports) as sandbox:

        def work() -> None:
            try:
                sandbox.run()
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert ready.wait(30)
        sandbox.interrupt()
        thread.join(30)
        assert [type(error) for error in ended] == [vfswasi.GuestInterruptedError]
        assert_closed(store)


def test_e6_a_run_that_hangs_in_a_store_closes_every_handle_when_it_comes_back() -> None:
    release = threading.Event()

    class Hanging(vfswasi.MemoryBackend):
        def remove(self, key: tuple[str, ...]) -> None:
            release.wait(30)
            super().remove(key)

    stores = Faulty(Hanging()), Faulty(vfswasi.MemoryBackend())
    preopens = {"/a": vfswasi.Mount(stores[1], rw=True), "/b": vfswasi.Mount(stores[0], rw=True)}
    imports = {"env": {"f": lambda _memory: None}}
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(module(""), preopens=preopens, imports=imports, timeout=0.2)
    assert stores[0].open_handles
    release.set()
    until = time.monotonic() + 10
    while time.monotonic() < until and any(store.open_handles for store in stores):
        time.sleep(0.01)
    assert_closed(*stores)


@pytest.mark.parametrize(
    "what", ["a missing import", "no entry point", "a start section that traps", "too much memory"]
)
def test_e6_a_module_that_does_not_start_leaves_nothing_open(what: str, tmp_path: Path) -> None:
    memory = '(memory (export "memory") 1)'
    wasm = {
        "a missing import": f'(module (import "env" "x" (func)) {memory} (func (export "_start")))',
        "no entry point": f"(module {memory})",
        "a start section that traps": f'(module {memory} (func $f unreachable) (start $f) (func (export "_start")))',
        "too much memory": '(module (memory (export "memory") 20000) (func (export "_start")))',
    }[what]
    before = open_files()
    for _ in range(3):
        try:
            result = vfswasi.run(wasm.encode(), preopens={"/d": vfswasi.Mount(tmp_path, rw=True)})
            assert result.returncode == -6
        except vfswasi.ModuleError:
            pass
    assert opened_since(before) == []


def test_e6_a_mount_that_fails_closes_those_before_it(tmp_path: Path) -> None:
    before = open_files()
    for _ in range(3):
        with pytest.raises(vfswasi.MountError):
            vfswasi.run(program(""), preopens={"/a": tmp_path, "/b": tmp_path / "missing"})
    assert opened_since(before) == []


ENDS_OF_A_CLASS: dict[str, Callable[[RawGuest], object]] = {
    "close": lambda guest: guest.wasi.close(),
    "close twice": lambda guest: [guest.wasi.close() for _ in range(2)],
    "the store first": lambda guest: [guest.store.close(), guest.wasi.close()],
    "exit": lambda guest: _ending_call(guest, "proc_exit", 3),
    "signal": lambda guest: _ending_call(guest, "proc_raise", 9),
}


def _ending_call(guest: RawGuest, name: str, number: int) -> None:
    with pytest.raises((vfswasi.GuestExitError, vfswasi.GuestTrapError)):
        guest.call(name, number)
    guest.wasi.close()


@pytest.mark.parametrize("end", ENDS_OF_A_CLASS)
@pytest.mark.parametrize("vdso", [False, True])
def test_e6_the_class_closes_every_handle_too(end: str, vdso: bool) -> None:
    store = Faulty(vfswasi.MemoryBackend({"f": b"content"}))
    guest = RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=vdso)
    for _ in range(3):
        guest.read(guest.open("f"), 3)
    guest.create("new", b"x")
    guest.open("f", base=ALL_FILE_RIGHTS)
    ENDS_OF_A_CLASS[end](guest)
    assert_closed(store)
    guest.close()
    assert_closed(store)
