"""What a worker says is looked at before it is believed: its guest may have broken it."""

from __future__ import annotations

import json
import pickle
import socket
import struct
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

import vfswasi
from vfswasi import Limits, Symlink
from vfswasi.host.isolation import answers, process, trees
from vfswasi.host.isolation.process import Answer
from vfswasi.host.isolation.wire import NoAnswerError, content_of, lengths

from ..wat_programs import SAY, program

# A worker that does as it should until it is to run a guest; then it does BODY, with `sock` and `result`, the JSON of a
# right answer.
LIAR = """
import sys; sys.path[:] = sys.argv[3:]
import json, os, pickle, socket, struct, threading
from vfswasi.host.isolation import worker, wire
threading.Thread(target=worker._end_with, args=(int(sys.argv[2]),)).start()
sock = socket.socket(fileno=int(sys.argv[1]))
def answer(content, blobs=b"", sizes=None):
    text = content if isinstance(content, bytes) else json.dumps(
        {**content, "blobs": [len(blobs)] if sizes is None else sizes}).encode()
    sock.sendall(wire.ANSWER_HEAD.pack(b"vfw1", len(text), len(blobs)) + text + blobs)
from vfswasi.limits import Usage
usage = dict.fromkeys(Usage.__annotations__, 0)
result = {"returncode": 0, "captured": [True, False], "trap": None, "limit": None, "usage": usage, "fast_calls": {},
          "traffic": {}, "interruption": "page", "truncated": False, "interrupted": False, "trees": [],
          "refusals": []}
while True:
    asked, _ = wire.receive_request(sock)
    if asked["do"] == "hello": answer({}, sizes=[])
    elif asked["do"] == "compile": answer({}, sizes=[])
    elif asked["do"] == "mount": answer({"traffic": {}}, sizes=[])
    else:
        BODY
"""


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def become(body: str) -> None:
        code = LIAR.replace("        BODY", textwrap.indent(body, "        "))
        monkeypatch.setattr(process, "_PROGRAM", code)

    return become


def ask(**options: Any) -> vfswasi.Result[Any]:
    options = {"stdout": vfswasi.PIPE, "timeout": 5, **options}
    return vfswasi.run(program(SAY), isolation="process", **options)


def test_the_liar_can_tell_the_truth(liar: Callable[[str], None]) -> None:
    liar("answer({'result': result}, b'output')")
    assert ask().stdout == b"output"


PICKLE = pickle.dumps(print)
LIES = {
    "nothing": "sock.close(); os._exit(0)",
    "garbage": "sock.sendall(os.urandom(100_000))",
    "a pickle": f"sock.sendall({PICKLE!r} * 10)",
    "a pickle as JSON": f"answer({PICKLE!r})",
    "an endless answer": "sock.sendall(wire.ANSWER_HEAD.pack(b'vfw1', 10, 1 << 62))",
    "JSON without end": "sock.sendall(wire.ANSWER_HEAD.pack(b'vfw1', (1 << 32) - 1, 0))",
    "half an answer": "sock.sendall(wire.ANSWER_HEAD.pack(b'vfw1', 100, 0)); os._exit(0)",
    "JSON that nests": "answer(b'[' * 200_000)",
    "a list": "answer(b'[]')",
    "no sizes": "answer(b'{}')",
    "wrong sizes": "answer({'result': result}, b'output', [1])",
    "negative sizes": "answer({'result': result}, b'output', [7, -1])",
    "an empty object": "answer({})",
    "no result": "answer({'result': {}})",
    "a text as result": "answer({'result': 'x'}, b'output')",
    "a return code as text": "answer({'result': {**result, 'returncode': '0'}}, b'output')",
    "a return code that is true": "answer({'result': {**result, 'returncode': True}}, b'output')",
    "a huge return code": "answer({'result': {**result, 'returncode': 1 << 40}}, b'output')",
    "output that nobody asked for": "answer({'result': {**result, 'captured': [True, True]}}, b'oo', [1, 1])",
    "trees that are not mounted": "answer({'result': {**result, 'trees': ['/d']}}, b'output', [6, 0])",
    "traffic of others": "answer({'result': {**result, 'traffic': {'/d': [1, 1, 1]}}}, b'output')",
    "NaN seconds": "answer({'result': {**result, 'usage': {**usage, 'wall_seconds': float('nan')}}}, b'output')",
    "usage of other things": "answer({'result': {**result, 'usage': {**usage, 'x': 1}}}, b'output')",
    "a trap as a number": "answer({'result': {**result, 'trap': 1}}, b'output')",
    "a huge trap": "answer({'result': {**result, 'trap': 'x' * 200_000}}, b'output')",
    "a limit that is none": "answer({'result': {**result, 'limit': 'memory'}}, b'output')",
    "an unknown way": "answer({'result': {**result, 'interruption': 'magic'}}, b'output')",
    "a flag as a number": "answer({'result': {**result, 'interrupted': 1}}, b'output')",
    "calls as a list": "answer({'result': {**result, 'fast_calls': [1]}}, b'output')",
    "refusals as a text": "answer({'result': {**result, 'refusals': 'x'}}, b'output')",
    "a refusal of other things": "answer({'result': {**result, 'refusals': [['path_open']]}}, b'output')",
    "a refusal without errno": "answer({'result': {**result, 'refusals': ["
    "['path_open', '/d', 4711, '/d', True, False, '', '', []]]}}, b'output')",
    "too many refusals": "answer({'result': {**result, 'refusals': ["
    "['path_open', '/d', 69, '/d', True, False, '', '', []]] * 1000}}, b'output')",
    "an error as a text": "answer({'error': 'MountError'}, sizes=[])",
    "an error without type": "answer({'error': {'message': 'x'}}, sizes=[])",
    "files that are not there": "answer({'result': result, 'files': [['/d/x', 29, '', 0, 1 << 40]]}, b'output')",
    "an errno that is none": "answer({'result': result, 'files': [['/d/x', 4711, '', 0, 0]]}, b'output')",
}


@pytest.mark.parametrize("body", LIES.values(), ids=LIES.keys())
def test_what_is_no_answer_is_a_crash_of_that_run(liar: Callable[[str], None], body: str) -> None:
    liar(body)
    with pytest.raises(vfswasi.GuestCrashError, match="its worker process"):
        ask()


def test_an_answer_that_never_comes_is_a_timeout(liar: Callable[[str], None]) -> None:
    liar("threading.Event().wait()")
    with pytest.raises(vfswasi.GuestTimeoutError):
        ask(timeout=0.2)


def test_an_answer_that_does_not_come_to_its_end_is_a_crash(
    liar: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_TRANSFER_S", 0.2)
    liar("sock.sendall(wire.ANSWER_HEAD.pack(b'vfw1', 100, 0)); threading.Event().wait()")
    with pytest.raises(vfswasi.GuestCrashError, match="did not send all of its answer"):
        ask(timeout=60)


def test_a_worker_that_does_not_take_its_request_is_killed_in_time(liar: Callable[[str], None]) -> None:
    liar("threading.Event().wait()")
    code = process._PROGRAM.replace("asked, _ = wire.receive_request(sock)", "asked, _ = wire.receive_request(sock)\n"
        "    if asked['do'] == 'mount': answer({'traffic': {}}, sizes=[]); threading.Event().wait()")  # fmt: skip
    process._PROGRAM = code  # type: ignore[misc] # undone by `liar`
    with pytest.raises(vfswasi.GuestTimeoutError):
        ask(input=bytes(8 << 20), timeout=0.3)


def test_more_output_than_may_be_captured_is_refused(liar: Callable[[str], None]) -> None:
    liar("answer({'result': {**result}}, bytes(150))")
    assert ask(limits=Limits(output_bytes=200)).stdout == bytes(150)
    with pytest.raises(vfswasi.GuestCrashError, match="cannot be"):
        ask(limits=Limits(output_bytes=100))
    with pytest.raises(vfswasi.GuestCrashError, match="too large"):
        ask(limits=Limits(output_bytes=70))


def test_no_error_is_made_but_those_that_are_known(liar: Callable[[str], None]) -> None:
    for name in ("KeyboardInterrupt", "SystemExit", "BaseException", "Exception", "UncommittedError", "os.system"):
        liar(f"answer({{'error': {{'type': {name!r}, 'message': 'x'}}}}, sizes=[])")
        with pytest.raises(vfswasi.HostCallError, match="a worker failed"):
            ask()
    liar(r"answer({'error': {'type': 'MountError', 'message': '\x1b[2J\ud800'}}, sizes=[])")
    with pytest.raises(vfswasi.MountError) as caught:
        ask()
    assert str(caught.value) == r"\x1b[2J\ud800"


TREE = {"a": b"1", "d": {"e": {}, "l": Symlink("../a"), "f": b""}, "z": {"y": {"x": b"2"}}, "ü": b"3"}


def test_trees_come_back_as_they_were() -> None:
    packed = trees.packed(TREE)
    assert trees.unpacked(memoryview(packed), trees.count_of(TREE)) == TREE
    assert trees.count_of(TREE) == 9
    assert trees.bytes_of(TREE) == 7
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"d": deep}
    found = trees.unpacked(memoryview(trees.packed(deep)), 5000)
    for _ in range(5000):
        found = found["d"]
    assert found == {}


@pytest.mark.parametrize("position", range(len(trees.packed(TREE))))
def test_a_damaged_tree_is_a_tree_or_an_error(position: int) -> None:
    packed = trees.packed(TREE)
    for raw in (packed[:position], packed[:position] + bytes([packed[position] ^ 0x83]) + packed[position + 1 :]):
        try:
            found = trees.unpacked(memoryview(raw), 9)
        except NoAnswerError:
            continue
        vfswasi.MemoryBackend(found)


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<HBBQ", 1, 0, 2, 0) + b"..",
        struct.pack("<HBBQ", 1, 0, 3, 0) + b"a/b",
        struct.pack("<HBBQ", 1, 0, 0, 0),
        struct.pack("<HBBQ", 0, 0, 1, 0) + b"a",
        struct.pack("<HBBQ", 2, 0, 1, 0) + b"a",
        struct.pack("<HBBQ", 1, 3, 1, 0) + b"a",
        struct.pack("<HBBQ", 1, 1, 1, 1 << 63) + b"a",
        struct.pack("<HBBQ", 1, 2, 1, 1) + b"a\0",
        struct.pack("<HBBQ", 1, 0, 1, 1) + b"ab",
        (struct.pack("<HBBQ", 1, 1, 1, 0) + b"a") * 2,
    ],
)
def test_a_tree_that_cannot_be_is_refused(raw: bytes) -> None:
    with pytest.raises(NoAnswerError):
        trees.unpacked(memoryview(raw), 100)


def test_a_tree_of_more_objects_than_there_may_be_is_refused() -> None:
    with pytest.raises(NoAnswerError):
        trees.unpacked(memoryview(trees.packed(TREE)), 8)


def test_nothing_in_the_callers_process_unpickles_what_a_worker_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("unpickled")

    for name in ("loads", "load", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert ask(preopens={"/d": {"f": b"x"}}, stderr=vfswasi.PIPE).files == {"/d": {"f": b"x"}}


def test_descriptors_that_a_worker_sends_do_not_arrive() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        text = json.dumps({"blobs": []}).encode()
        socket.send_fds(theirs, [struct.pack("<4sIQ", b"vfw1", len(text), 0) + text], [sys.stderr.fileno()])
        head = ours.recv(16)
        assert lengths(head, 0) == (len(text), 0)
        assert content_of(bytearray(ours.recv(1000)), bytearray()) == ({"blobs": []}, [])
    assert answers.error_of(Answer({}, [])) is None
