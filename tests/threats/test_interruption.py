"""A guest that computes is ended from outside, however it computes; nothing else is, and no module can be in the way.

By page (its code reads a page of memory that is made inaccessible), and by epoch, for what cannot be rewritten.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi import cli
from vfswasi.engine import guests, runner
from vfswasi.engine.compiling import cache as module_cache
from vfswasi.engine.compiling import engines, modules
from vfswasi.engine.interruption import page, rewriting, ways
from vfswasi.engine.interruption.ways import Way
from vfswasi.limits import Limits

from ..wat_programs import ENDLESS, POLL_STDIN, SLEEP, program

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 0.15
VERY_LATE_S = 2.0
PAGE_BYTES = 1 << 16


def compiled_of(sandbox: vfswasi.Sandbox) -> modules.CompiledModule:
    return sandbox._programs.program.compiled


# Guests that earlier tests have left behind, each in a host call that hangs, and their pages.
_others: set[int] = set()
_pages_of_others: set[page.Page] = set()


def live() -> set[int]:
    """The guests of the test."""
    return set(guests.live) - _others


def registered() -> set[page.Page]:
    """The pages of the test's guests."""
    return page._registered - _pages_of_others


def idle() -> bool:
    """No guest is left, nor anything that belongs to one."""
    until = time.monotonic() + VERY_LATE_S
    while (live() or registered()) and time.monotonic() < until:
        time.sleep(0.005)
    return not live() and not registered()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    gc.collect()
    _others.clear()
    _others.update(guests.live)
    _pages_of_others.clear()
    _pages_of_others.update(page._registered)
    yield
    assert idle()


# Every way to compute for ever.

_TWICE = "(call ${0} (i32.sub (local.get 0) (i32.const 1))) (call ${0} (i32.sub (local.get 0) (i32.const 1)))"
_DEEP = "(func ${0} (param i32) (if (i32.eqz (local.get 0)) (then (return))) " + _TWICE.replace("{0}", "{1}") + ")"
_DIVIDES = "(i64.store (i32.const 64) (i64.div_u (i64.load (i32.const 64)) (i64.load (i32.const 72))))"
_DIVISOR = '(data (i32.const 64) "\\ff\\ff\\ff\\ff\\ff\\ff\\ff\\ff\\01")'

# What it does -> (the body of its `_start`, its functions, the features that it needs).
COMPUTING: dict[str, tuple[str, str, list[str]]] = {
    "a loop": (ENDLESS, "", []),
    "loops within each other": ("(loop $a (loop $b (br_if $b (i32.const 0))) (br $a))", "", []),
    "a branch table": ("(loop $a (block $b (br_table $b $a $a (i32.const 1))))", "", []),
    "a loop with a result": ("(drop (loop $a (result i32) (br $a)))", "", []),
    "a loop in a function that calls nothing": ("(call $f)", f"(func $f {ENDLESS})", []),
    "a loop reached through a table": (
        "(call_indirect (i32.const 0))",
        f"(table 1 funcref) (elem (i32.const 0) $f) (func $f {ENDLESS})",
        [],
    ),
    "recursion": ("(call $f (i32.const 60))", _DEEP.format("f", "f"), []),
    "mutual recursion": ("(call $f (i32.const 60))", _DEEP.format("f", "g") + _DEEP.format("g", "f"), []),
    "mutual tail calls": (
        "(call $f)",
        "(func $f (return_call $g)) (func $g (return_call $f))",
        ["tail-call"],
    ),
    "tail calls through a table": (
        "(call $f)",
        "(table 1 funcref) (elem (i32.const 0) $f) (func $f (return_call_indirect (i32.const 0)))",
        ["tail-call"],
    ),
    "a loop with everything caught around it": (
        f"(loop $a (block $b (try_table (catch_all $b) {ENDLESS})) (br $a))",
        "",
        [],
    ),
    "calls with everything caught around them": (
        "(loop $a (block $b (try_table (catch_all $b) (call $f))) (br $a))",
        f"(tag $t) (func $f (loop $n (try_table (catch_all $n) (throw $t)) (br $n)) {ENDLESS})",
        [],
    ),
    "an exception that is caught at the head of a loop": (
        "(loop $a (try_table (catch_all $a) (throw $t)))",
        "(tag $t)",
        [],
    ),
    "calls that are answered inside wasm": (
        "(loop $a (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $a))",
        "",
        [],
    ),
    "a loop that grows memory": ("(loop $a (drop (memory.grow (i32.const 0))) (br $a))", "", []),
    "atomic loads that look like the checks": (
        "(loop $a (drop (i32.atomic.load (i32.const 0))) (br $a))",
        "",
        [],
    ),
    # Neither of these has a loop or recursion. Together they take minutes.
    "many calls of a long function": ("(call $f)" * 5_000, _DIVISOR + f"(func $f {_DIVIDES * 50_000})", []),
    "many calls of many short functions": (
        "(call $f)" * 3_000,
        _DIVISOR + f"(func $f {'(call $g)' * 100_000}) (func $g {_DIVIDES * 8})",
        [],
    ),
    "many calls of a function that fills memory": (
        "(drop (memory.grow (i32.const 1000)))" + "(call $f)" * 3_000,
        "(func $f (memory.fill (i32.const 0) (i32.const 0) (i32.const 60000000)))",
        [],
    ),
}


@pytest.mark.parametrize("name", COMPUTING)
def test_it_is_ended_however_it_computes(name: str, interruption: Way) -> None:
    body, functions, features = COMPUTING[name]
    with vfswasi.Sandbox(program(body, functions=functions), features=features) as sandbox:
        assert compiled_of(sandbox).interruption == interruption
        started = time.monotonic()
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=TIMEOUT_S, stdout=vfswasi.DEVNULL)
        assert idle(), "the guest itself is over too, and not only the wait for it"
        assert time.monotonic() - started < TIMEOUT_S + VERY_LATE_S


def test_it_is_ended_while_it_computes_in_its_start_section(interruption: Way) -> None:
    """Which runs before anybody can know where its page is: such modules are interrupted by epoch."""
    module = program("", functions=f"(start $f) (func $f {ENDLESS})")
    with vfswasi.Sandbox(module) as sandbox:
        assert compiled_of(sandbox).interruption == "epoch"
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=TIMEOUT_S)
        assert idle()


def test_what_cannot_be_rewritten_is_ended_too() -> None:
    module = program(f"(drop (ref.i31 (i32.const 1))) {ENDLESS}")
    with vfswasi.Sandbox(module, features=["gc"]) as sandbox:
        assert compiled_of(sandbox).interruption == "epoch"
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=TIMEOUT_S)
        assert idle()


# The result says which way it was, and who chose it.


def test_the_result_says_how_the_guest_was_interrupted(interruption: Way) -> None:
    assert vfswasi.run(program("")).interruption == interruption
    assert vfswasi.run(program("unreachable")).interruption == interruption
    assert vfswasi.run(program("", functions="(start $f) (func $f)")).interruption == "epoch"


def test_by_page_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("VFSWASI_INTERRUPT", raising=False)
        else:
            monkeypatch.setenv("VFSWASI_INTERRUPT", value)
        assert vfswasi.run(program("")).interruption == "page"


@pytest.mark.parametrize("value", ["Page", "epochs", "0", " page"])
def test_another_word_in_the_environment_is_told(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VFSWASI_INTERRUPT", value)
    with pytest.raises(ValueError, match='VFSWASI_INTERRUPT must be "page" or "epoch", not'):
        vfswasi.run(program(""))
    (tmp_path / "m.wat").write_bytes(program(""))
    assert cli.main(["run", str(tmp_path / "m.wat")]) == 125
    assert capfd.readouterr().err.startswith("vfswasi: VFSWASI_INTERRUPT must be")


def test_where_memory_cannot_be_made_inaccessible_it_is_done_by_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "AVAILABLE", False)
    assert vfswasi.run(program("")).interruption == "epoch"


def test_fuel_is_what_the_guest_itself_uses(interruption: Way) -> None:
    """Checks in the module would be counted with its own instructions; so it has none."""
    loop = """(local $n i32) (loop $a (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $a (i32.lt_u (local.get $n) (i32.const 1000))))"""
    result = vfswasi.run(program(loop), limits=Limits(fuel=1_000_000))
    assert result.interruption == "epoch"
    assert result.usage.fuel == FUEL_OF_THE_LOOP


FUEL_OF_THE_LOOP = 8001


# What is told of a module, and its limits, are its own.


@pytest.mark.usefixtures("interruption")
def test_memory_is_counted_and_limited_without_ours() -> None:
    result = vfswasi.run(program(""), limits=Limits(memories=1, memory_bytes=PAGE_BYTES))
    assert (result.returncode, result.usage.memory_bytes) == (0, PAGE_BYTES)
    without = b'(module (func (export "_start")))'
    result = vfswasi.run(without, limits=Limits(memories=0, memory_bytes=0))
    assert (result.returncode, result.usage.memory_bytes) == (0, 0)
    three = program(
        "(memory.fill $b (i32.const 0) (i32.const 1) (i32.const 8))", functions="(memory $b 1) (memory $c 1)"
    )
    assert vfswasi.run(three, limits=Limits(memories=3)).returncode == 0
    with pytest.raises(vfswasi.InvalidModuleError, match=r"it has 3 memories, and Limits.memories is 2"):
        vfswasi.run(three, limits=Limits(memories=2))


def test_a_limit_below_a_page_leaves_no_room_for_ours() -> None:
    limits = Limits(memory_bytes=PAGE_BYTES - 1)
    with pytest.raises(vfswasi.InvalidModuleError, match="memory"):
        vfswasi.run(program(""), limits=limits)
    assert vfswasi.run(b'(module (func (export "_start")))', limits=limits).interruption == "epoch"


def test_our_memory_is_told_to_nobody(interruption: Way, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with vfswasi.Sandbox(program("")) as sandbox:
        compiled = compiled_of(sandbox)
        assert set(compiled.exports) == {"memory", "_start"}
        assert compiled.memories == 1
        assert (compiled.page is None) == (interruption == "epoch")
    (tmp_path / "m.wat").write_bytes(program(""))
    assert cli.main(["inspect", "--json", str(tmp_path / "m.wat")]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["exports"] == ["_start", "memory"]


def test_a_host_function_sees_the_guests_memory_and_no_other(interruption: Way) -> None:
    seen: list[tuple[int, bytes]] = []

    def look(memory: Any) -> None:
        seen.append((len(memory), memory.read(16, 5)))

    vfswasi.run(program("(call $f)", '(import "env" "f" (func $f))'), imports={"env": {"f": look}})
    assert seen == [(PAGE_BYTES, b"so fa")]


# No module can be in the way.

NAMES_A_MEMORY_TOO_MANY = {
    "its size": ("(drop (memory.size 1))", ""),
    "growing it": ("(drop (memory.grow 1 (i32.const 1)))", ""),
    "a load": ("(drop (i32.load 1 (i32.const 0)))", ""),
    "a store": ("(i32.store 1 (i32.const 0) (i32.const 1))", ""),
    "an atomic load": ("(drop (i32.atomic.load 1 (i32.const 0)))", ""),
    "copying": ("(memory.copy 0 1 (i32.const 0) (i32.const 0) (i32.const 8))", ""),
    "filling": ("(memory.fill 1 (i32.const 0) (i32.const 0) (i32.const 8))", ""),
    "a segment of data": ("", '(data (memory 1) (i32.const 0) "x")'),
    "an export": ("", '(export "x" (memory 1))'),
}


@pytest.mark.parametrize("name", NAMES_A_MEMORY_TOO_MANY)
def test_a_module_that_names_a_memory_which_it_does_not_have_is_invalid(name: str, interruption: Way) -> None:
    body, functions = NAMES_A_MEMORY_TOO_MANY[name]
    with pytest.raises(vfswasi.InvalidModuleError, match="unknown memory 1"):
        vfswasi.run(program(body, functions=functions))


def test_the_name_of_our_export_is_free_for_modules(interruption: Way) -> None:
    names = [rewriting.EXPORT, *(f"{rewriting.EXPORT}{number}" for number in range(4)), rewriting.EXPORT + ":", ""]
    functions = " ".join(f'(func (export "{name}"))' for name in names)
    with vfswasi.Sandbox(program(ENDLESS, functions=functions)) as sandbox:
        assert set(compiled_of(sandbox).exports) == {"memory", "_start", *names}
        assert sandbox._programs.program.compiled.interruption == interruption
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=TIMEOUT_S)
        assert idle()


@pytest.mark.usefixtures("interruption")
def test_a_memory_of_that_name_is_a_memory_like_any_other() -> None:
    for body in (
        f'(memory (export "{rewriting.EXPORT}") 1 1)',
        f'(memory (export "memory") (export "{rewriting.EXPORT}") 1)',
    ):
        module = f'(module {body} (func (export "_start") {ENDLESS}))'.encode()
        if '"memory"' in body:
            with pytest.raises(vfswasi.ModuleError, match="exports several memories"):
                vfswasi.run(module)
            continue
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(module, timeout=TIMEOUT_S)


@pytest.mark.usefixtures("interruption")
def test_an_import_of_that_name_is_an_import_like_any_other() -> None:
    name = rewriting.EXPORT
    module = program("", f'(import "{name}" "{name}" (memory 1))').replace(b'(memory (export "memory") 1)', b"")
    with pytest.raises(vfswasi.ModuleError):
        vfswasi.run(module)
    called: list[int] = []
    module = program("(call $f)", f'(import "{name}" "{name}" (func $f))')
    assert vfswasi.run(module, imports={name: {name: lambda _: called.append(1)}}).returncode == 0
    assert called == [1]


# Who is not over is not touched, and traps of the guest's own remain what they are.

TRAPS = {
    "out of bounds memory access": "(drop (i32.load (i32.const 70000)))",
    "out of bounds memory access, beyond the guard": "(drop (i32.load offset=4294967295 (i32.const -1)))",
    "unreachable": "unreachable",
    "integer divide by zero": "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
    "undefined element: out of bounds table access": "(call_indirect (i32.const 9))",
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_of_the_guests_own_is_one(name: str, interruption: Way) -> None:
    result = vfswasi.run(program(TRAPS[name], functions="(table 1 funcref)"), timeout=60)
    assert result.returncode == -6
    assert name.partition(",")[0] in (result.trap or "")
    assert result.interruption == interruption


def test_ending_one_guest_touches_no_other(interruption: Way) -> None:
    """They run in one engine, while others are ended all the time."""
    loop = """(local $n i32) (loop $a (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $a (i32.lt_u (local.get $n) (i32.const 100000000)))) (call $exit (i32.const 7))"""
    statuses: list[int] = []
    with vfswasi.Sandbox(program(loop)) as lasting, vfswasi.Sandbox(program(ENDLESS)) as brief:
        threads = [
            threading.Thread(target=lambda: statuses.append(lasting.run(timeout=60).returncode)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        ended = 0
        while any(thread.is_alive() for thread in threads):
            with pytest.raises(vfswasi.GuestTimeoutError):
                brief.run(timeout=0.002)
            ended += 1
        for thread in threads:
            thread.join()
    assert statuses == [7, 7, 7]
    assert ended > 5


def computing_on_threads(
    sandbox: vfswasi.Sandbox, count: int, **options: Any
) -> tuple[list[threading.Thread], list[str]]:
    """So many runs of a guest that never ends, each on a thread; the names of what they raise."""
    raised: list[str] = []

    def run() -> None:
        try:
            sandbox.run(**options)
        except Exception as error:
            raised.append(type(error).__name__)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, raised


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_two_hundred_guests_at_once_are_ended_together(interruption: Way) -> None:
    """They begin to compute together: one that begins while others compute waits long for its turn."""
    begin = threading.Event()

    def wait(_: Any) -> None:
        begin.wait(60)

    module = program("(call $f)" + ENDLESS, '(import "env" "f" (func $f))')
    with vfswasi.Sandbox(module, imports={"env": {"f": wait}}) as sandbox:
        threads, raised = computing_on_threads(sandbox, 200)
        try:
            wait_until(lambda: len(live()) == 200)
            if interruption == "page":
                wait_until(lambda: len(registered()) == 200)
        finally:
            begin.set()
            time.sleep(0.1)
            sandbox.interrupt()
        for thread in threads:
            thread.join(30)
    assert raised == ["GuestInterruptedError"] * 200


def test_two_hundred_guests_end_each_at_its_deadline(interruption: Way) -> None:
    with vfswasi.Sandbox(program(ENDLESS)) as sandbox:
        threads, raised = computing_on_threads(sandbox, 200, timeout=TIMEOUT_S)
        for thread in threads:
            thread.join()
    assert raised == ["GuestTimeoutError"] * 200


# Between the end and the store.


def test_a_page_is_out_of_the_table_before_its_store_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    close = wasmtime.Store.close
    at_close: list[int] = []

    def noting(store: wasmtime.Store) -> None:
        at_close.append(len(registered()))
        close(store)

    monkeypatch.setattr(wasmtime.Store, "close", noting)
    monkeypatch.setenv("VFSWASI_INTERRUPT", "page")

    during: list[int] = []

    def refuse(_: Any) -> None:
        during.append(len(registered()))
        raise ZeroDivisionError

    function = '(import "env" "f" (func $f))'
    assert vfswasi.run(program("")).returncode == 0
    assert vfswasi.run(program("unreachable")).returncode == -6
    assert vfswasi.run(program("(call $exit (i32.const 3))")).returncode == 3
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(program(ENDLESS), timeout=TIMEOUT_S)
    with pytest.raises(ZeroDivisionError):
        vfswasi.run(program("(call $f)", function), imports={"env": {"f": refuse}})
    too_far = program("", functions='(data (i32.const 65530) "too far out")')
    assert vfswasi.run(too_far).returncode == -6
    with monkeypatch.context() as patch:
        patch.setattr(runner, "FastPath", refuse)
        with pytest.raises(TypeError):
            vfswasi.run(program(""), vdso=True)
    assert len(at_close) >= 7
    assert not any(at_close)
    assert during == [1]


@pytest.mark.usefixtures("interruption")
def test_an_interruption_before_the_guest_has_begun_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page is not known yet, so nobody has ended it."""
    sandbox = vfswasi.Sandbox(program(ENDLESS))
    new = runner.capi.instance_new

    def interrupted(*args: Any) -> Any:
        sandbox.interrupt()
        return new(*args)

    monkeypatch.setattr(runner.capi, "instance_new", interrupted)
    with pytest.raises(vfswasi.GuestInterruptedError, match="interrupted"):
        sandbox.run(timeout=60)
    sandbox.close()


@pytest.mark.usefixtures("interruption")
def test_a_signal_handler_may_end_guests_while_others_are_being_ended() -> None:
    sandbox = vfswasi.Sandbox(program(ENDLESS))
    before = signal.signal(signal.SIGUSR1, lambda *_: sandbox.interrupt())
    try:
        threads, raised = computing_on_threads(sandbox, 3)
        wait_until(lambda: len(live()) == 3)
        time.sleep(0.05)
        with page._lock, guests._lock:  # as they are for a moment when something is ended
            signal.raise_signal(signal.SIGUSR1)
        for thread in threads:
            thread.join(10)
        assert raised == ["GuestInterruptedError"] * 3
    finally:
        signal.signal(signal.SIGUSR1, before)
        sandbox.close()


def test_a_signal_handler_that_raises_in_the_middle_leaves_the_end_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_INTERRUPT", "page")
    sandbox = vfswasi.Sandbox(program(ENDLESS))
    threads, raised = computing_on_threads(sandbox, 1)
    wait_until(lambda: len(registered()) == 1)

    def interrupted(*_: int) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(page, "_mprotect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sandbox.interrupt()
    sandbox.interrupt()
    threads[0].join(10)
    assert raised == ["GuestInterruptedError"]
    sandbox.close()


def test_a_page_that_cannot_be_made_inaccessible_is_told_and_the_next_host_call_ends_the_guest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VFSWASI_INTERRUPT", "page")
    monkeypatch.setattr(page, "_mprotect", lambda *_: -1)
    endless = program("(loop $a (call $f) (br $a))", '(import "env" "f" (func $f))')
    sandbox = vfswasi.Sandbox(endless, imports={"env": {"f": lambda _: sandbox.interrupt()}})
    with sandbox, pytest.raises(vfswasi.GuestInterruptedError):
        sandbox.run()
    assert "a guest whose time is over cannot be ended" in caplog.text


@pytest.mark.usefixtures("interruption")
def test_a_process_that_forks_while_guests_run_can_run_guests_on_both_sides() -> None:
    """Also when the lock was held at that moment by a thread that the child does not have."""
    code = f"""
import os, sys, threading, time, vfswasi
from vfswasi.engine.interruption import page
sandbox = vfswasi.Sandbox({program(ENDLESS)!r})
def ends():
    try: sandbox.run(timeout=0.1)
    except vfswasi.GuestTimeoutError: return True
def hold():
    with page._lock:
        held.set()
        release.wait(5)
for _ in range(3):
    before = [threading.Thread(target=ends) for _ in range(4)]
    for thread in before: thread.start()
    time.sleep(0.03)
    held, release = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if not child:
        started = time.monotonic()
        assert ends() and time.monotonic() - started < 5
        os._exit(7)
    release.set()
    for thread in (*before, holder): thread.join()
    assert ends()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert not page._registered
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "alive\n", done.stderr[-2000:]


@pytest.mark.usefixtures("interruption")
def test_a_guest_whose_host_function_forks_goes_on_on_both_sides() -> None:
    code = f"""
import os, threading, vfswasi
children = []
def fork(memory):
    children.append(os.fork())
    if not children[0]:
        threading.Timer(0.1, sandbox.interrupt).start()
module = {program("(call $f) " + ENDLESS, '(import "env" "f" (func $f))')!r}
sandbox = vfswasi.Sandbox(module, imports={{"env": {{"f": fork}}}})
try: sandbox.run(timeout=0.3)
except vfswasi.GuestTimeoutError: print("over", flush=True)
os.kill(children[0], 9)
os.waitpid(children[0], 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "over\n", done.stderr[-2000:]


# Waiting is ended as ever.


@pytest.mark.parametrize("body", [SLEEP, POLL_STDIN], ids=["sleeping", "polling"])
def test_a_guest_that_waits_is_ended(body: str, interruption: Way) -> None:
    reads, writes = os.pipe()
    try:
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(program(body + ENDLESS), stdin=reads, timeout=TIMEOUT_S)
    finally:
        os.close(reads)
        os.close(writes)


# As deep as wasmtime itself.


def test_recursion_goes_as_deep_as_in_wasmtime_without_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 95 %: frames are no larger for the checks."""
    monkeypatch.setenv("VFSWASI_INTERRUPT", "page")
    stack_bytes = 1 << 20
    text = """(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
      (func $f (param i32) (result i32) (global.set $n (local.get 0))
        (i32.add (call $f (i32.add (local.get 0) (i32.const 1))) (i32.load (local.get 0))))
      (func (export "_start") (drop (call $f (i32.const 0))))
      (func (export "deepest") (result i32) (global.get $n)))"""
    config = wasmtime.Config()
    config.max_wasm_stack = stack_bytes

    def depth(engine: wasmtime.Engine, wasm: bytes) -> int:
        store = wasmtime.Store(engine)
        exports = wasmtime.Instance(store, wasmtime.Module(engine, wasm), []).exports(store)
        with pytest.raises(wasmtime.Trap, match="stack"):
            exports["_start"](store)  # type: ignore[operator]
        return int(exports["deepest"](store))  # type: ignore[operator]

    wasm = bytes(wasmtime.wat2wasm(text))
    plain = depth(wasmtime.Engine(config), wasm)
    paged = depth(modules.engine(stack_bytes=stack_bytes, way=ways.PAGE), rewriting.rewrite(wasm).wasm)
    assert paged >= 0.95 * plain


# From the cache nothing is done again.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that takes everything."""
    for variable, name in (("VFSWASI_CACHE_DIR", "modules"), ("VFSWASI_KEY_DIR", "key")):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("VFSWASI_INTERRUPT", "page")
    monkeypatch.setattr(modules, "_CACHE_WORTH_S", -1.0)
    monkeypatch.setattr(modules, "_CACHE_WORTH_BYTES", 0)
    monkeypatch.setattr(modules, "_remembered", type(modules._remembered)())
    monkeypatch.setattr(module_cache, "_told", set())
    return tmp_path / "modules"


@pytest.mark.parametrize("way", ["page", "epoch"])
def test_from_the_cache_nothing_is_validated_rewritten_or_compiled(
    cache: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what was rewritten nor what could not be."""
    more = "" if way == "page" else "(start $f) (func $f)"
    module = program("(call $exit (i32.const 9))", functions=more)
    first = vfswasi.run(module, vdso=False)

    def refuse(*_: Any) -> Any:
        raise AssertionError("this was done before")

    monkeypatch.setattr(rewriting, "rewrite", refuse)
    monkeypatch.setattr(wasmtime.Module, "validate", refuse)
    monkeypatch.setattr(wasmtime.Module, "__init__", refuse)
    for _ in range(2):
        modules._remembered.clear()
        again = vfswasi.run(module, vdso=False)
        assert (again.returncode, again.interruption) == (9, way) == (first.returncode, first.interruption)
    assert len(list(cache.glob("*.cwasm"))) == 1


def test_code_of_one_way_is_never_taken_for_the_other(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = program("")
    for _ in range(2):
        for way in ("page", "epoch"):
            modules._remembered.clear()
            monkeypatch.setenv("VFSWASI_INTERRUPT", way)
            assert vfswasi.run(module, vdso=False).interruption == way
    assert len(list(cache.glob("*.cwasm"))) == 2


def test_another_version_of_the_rewriter_compiles_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vfswasi.run(program(""), vdso=False).returncode == 0
    modules._remembered.clear()
    engines._engine_identity.cache_clear()
    monkeypatch.setattr(engines, "REWRITER", -1)
    assert vfswasi.run(program(""), vdso=False).returncode == 0
    engines._engine_identity.cache_clear()
    assert len(list(cache.glob("*.cwasm"))) == 2


def test_the_version_of_the_rewriter_is_another_when_it_makes_something_else() -> None:
    """Otherwise what was compiled of the old would be taken from the cache. If this fails, count REWRITER up."""
    made = rewriting.rewrite((ROOT / "examples" / "wordcount.wasm").read_bytes()).wasm
    assert (ways.REWRITER, hashlib.sha256(made).hexdigest()) == (
        3,
        "b6e2532b840e0a84a19d532fc4ced07dd8de3899f943a3a04d34fdfd8416f174",
    )
