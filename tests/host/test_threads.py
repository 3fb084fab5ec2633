"""Many guests at once: what ends one never reaches another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import vfswasi

_EXIT_WITH_ARGC_PLUS = b"""(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (call $exit (i32.load (i32.const 4)))))"""
_TRAP = b'(module (memory (export "memory") 1) (func (export "_start") unreachable))'
_RAISE = b"""(module (import "env" "raise" (func $raise))
  (memory (export "memory") 1) (func (export "_start") (call $raise)))"""

WORDCOUNT = Path(__file__).parents[2] / "examples" / "wordcount.wasm"
THREADS, RUNS = 8, 500


class _Marked(Exception):
    pass


def _together(work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_exit_codes_are_not_mixed_up() -> None:
    sandbox = vfswasi.Sandbox(_EXIT_WITH_ARGC_PLUS, argv0="x")

    def work(number: int) -> None:
        for turn in range(RUNS):
            length = (number * 31 + turn) % 200
            # argv is "x\\0" and one argument with its NUL
            assert sandbox.run(["a" * length]).returncode == length + 3

    _together(work)


def test_traps_host_exceptions_and_exits_are_not_mixed_up() -> None:
    def work(number: int) -> None:
        def complain(memory: object) -> None:
            raise _Marked(number, turn)

        trapping = vfswasi.Sandbox(_TRAP)
        raising = vfswasi.Sandbox(_RAISE, imports={"env": {"raise": complain}})
        exiting = vfswasi.Sandbox(_EXIT_WITH_ARGC_PLUS, argv0="x")
        for turn in range(RUNS):
            kind = (number + turn) % 3
            if kind == 0:
                assert exiting.run(["b" * number]).returncode == number + 3
            elif kind == 1:
                result = trapping.run()
                assert result.returncode == -6
                assert "unreachable" in (result.trap or "")
            else:
                with pytest.raises(_Marked) as caught:
                    raising.run()
                assert caught.value.args == (number, turn)

    _together(work)


def test_one_memory_backend_is_shared_by_guests_on_many_threads() -> None:
    store = vfswasi.MemoryBackend({"data": {f"f{n}": b"one two three\n" * n for n in range(20)}})

    def work(number: int) -> None:
        for _ in range(10):
            result = vfswasi.run(
                WORDCOUNT,
                [f"/d/report-{number}", "/d/data"],
                preopens={"/d": vfswasi.Mount(store, rw=True)},
                capture_output=True,
                text=True,
            )
            assert (result.returncode, result.stdout, result.stderr) == (0, "20 files\n", "")

    _together(work)
    reports = {data for name, data in store.export().items() if name.startswith("report-")}
    assert len(reports) == 1
