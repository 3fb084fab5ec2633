"""Calls for type checkers, never run. They refuse each statement that is marked wrong, and no other."""

# ruff: noqa: SIM115, F841, F842
from __future__ import annotations

import collections
import gzip
import io
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import fsspec
import fsspec.core
from upath import UPath

import vfswasi
import vfswasi.testing


def args(strings: Iterator[str], paths: list[pathlib.Path], environment: Mapping[str, str]) -> None:
    vfswasi.run("p.wasm", ["a", "b"])
    vfswasi.run("p.wasm", ("a",))
    vfswasi.run("p.wasm", [])
    vfswasi.run("p.wasm", {"a"})
    vfswasi.run("p.wasm", environment)
    vfswasi.run("p.wasm", environment.values())
    vfswasi.run("p.wasm", collections.deque(["a"]))
    vfswasi.run("p.wasm", strings)
    vfswasi.run("p.wasm", (str(path) for path in paths))
    vfswasi.run("p.wasm", map(str, paths))
    vfswasi.run("p.wasm", "x")  # wrong
    vfswasi.run("p.wasm", args="x y")  # wrong
    vfswasi.run("p.wasm", b"x")  # wrong
    vfswasi.run("p.wasm", [b"x"])  # wrong
    vfswasi.run("p.wasm", paths)  # wrong
    vfswasi.run("p.wasm", [1])  # wrong
    vfswasi.run("p.wasm", 5)  # wrong
    vfswasi.WASI(version="preview1", args=["a"])
    vfswasi.WASI(version="preview1", args="x")  # wrong
    vfswasi.Sandbox("p.wasm").run(["a"])
    vfswasi.Sandbox("p.wasm").run("x")  # wrong


def modules(path: os.PathLike[str], member: zipfile.ZipFile, opened: fsspec.core.OpenFile) -> None:
    vfswasi.run("p.wasm")
    vfswasi.run("zip://p.wasm::tools.zip")
    vfswasi.run(path)
    vfswasi.run(pathlib.Path("p.wasm"))
    vfswasi.run(b"\0asm")
    vfswasi.run(bytearray(b"\0asm"))
    vfswasi.run(memoryview(b"\0asm"))
    vfswasi.run(opened)
    vfswasi.run(open("p.wasm", "rb"))
    vfswasi.run(io.BytesIO(b"\0asm"))
    vfswasi.run(member.open("p.wasm"))
    vfswasi.run(gzip.open("p.wasm.gz"))
    vfswasi.run(vfswasi.Mount("s3://bucket/p.wasm", anon=True))
    vfswasi.run(UPath("memory://lake/p.wasm"))
    vfswasi.run(5)  # wrong
    vfswasi.run(None)  # wrong
    vfswasi.run(["p.wasm"])  # wrong
    vfswasi.run(open("p.wasm"))  # wrong
    vfswasi.run(io.StringIO(""))  # wrong
    vfswasi.Sandbox(3.5)  # wrong


def stdin(process: subprocess.Popen[bytes], connection: socket.socket, member: zipfile.ZipExtFile) -> None:
    vfswasi.run("p.wasm", stdin=None)
    vfswasi.run("p.wasm", stdin=b"bytes")
    vfswasi.run("p.wasm", stdin="text")
    vfswasi.run("p.wasm", stdin=bytearray(b"bytes"))
    vfswasi.run("p.wasm", stdin=memoryview(b"bytes"))
    vfswasi.run("p.wasm", stdin=0)
    vfswasi.run("p.wasm", stdin=vfswasi.DEVNULL)
    vfswasi.run("p.wasm", stdin=sys.stdin)
    vfswasi.run("p.wasm", stdin=sys.stdin.buffer)
    vfswasi.run("p.wasm", stdin=open("in"))
    vfswasi.run("p.wasm", stdin=open("in", "rb"))
    vfswasi.run("p.wasm", stdin=open("in", "rb", buffering=0))
    vfswasi.run("p.wasm", stdin=io.StringIO("text"))
    vfswasi.run("p.wasm", stdin=io.BytesIO(b"bytes"))
    vfswasi.run("p.wasm", stdin=gzip.open("in.gz"))
    vfswasi.run("p.wasm", stdin=member)
    vfswasi.run("p.wasm", stdin=tempfile.TemporaryFile())
    vfswasi.run("p.wasm", stdin=tempfile.NamedTemporaryFile("w+"))
    vfswasi.run("p.wasm", stdin=process.stdout)
    vfswasi.run("p.wasm", stdin=connection)
    vfswasi.run("p.wasm", stdin=connection.makefile("rb"))
    vfswasi.run("p.wasm", stdin=3.5)  # wrong
    vfswasi.run("p.wasm", stdin=["line"])  # wrong
    vfswasi.run("p.wasm", stdin=object())  # wrong
    vfswasi.run("p.wasm", stdin=pathlib.Path("in"))  # wrong
    vfswasi.Sandbox("p.wasm").run(stdin=3.5)  # wrong
    vfswasi.WASI(version="preview1", stdin=3.5)  # wrong


def take_bytes(data: bytes) -> None:
    """An output that is called."""


def take_int(data: int) -> None:
    """None that is."""


def stdout(process: subprocess.Popen[bytes], connection: socket.socket, lines: list[bytes]) -> None:
    vfswasi.run("p.wasm", stdout=None, stderr=None)
    vfswasi.run("p.wasm", stdout=vfswasi.PIPE, stderr=vfswasi.STDOUT)
    vfswasi.run("p.wasm", stdout=subprocess.DEVNULL, stderr=2)
    vfswasi.run("p.wasm", stdout=sys.stdout, stderr=sys.stderr.buffer)
    vfswasi.run("p.wasm", stdout=open("out", "w"), stderr=open("err", "wb"))
    vfswasi.run("p.wasm", stdout=io.StringIO(), stderr=io.BytesIO())
    vfswasi.run("p.wasm", stdout=gzip.open("out.gz", "wb"))
    vfswasi.run("p.wasm", stdout=tempfile.TemporaryFile())
    vfswasi.run("p.wasm", stdout=process.stdin)
    vfswasi.run("p.wasm", stdout=connection)
    vfswasi.run("p.wasm", stdout=take_bytes)
    vfswasi.run("p.wasm", stdout=lines.append)
    vfswasi.run("p.wasm", stdout=lambda data: None)
    vfswasi.run("p.wasm", stdout=3.5)  # wrong
    vfswasi.run("p.wasm", stdout="out.txt")  # wrong
    vfswasi.run("p.wasm", stdout=b"out")  # wrong
    vfswasi.run("p.wasm", stderr=take_int)  # wrong
    vfswasi.run("p.wasm", stderr=lines)  # wrong
    vfswasi.run("p.wasm", stderr=pathlib.Path("err"))  # wrong
    vfswasi.Sandbox("p.wasm").run(stdout="out.txt")  # wrong
    vfswasi.WASI(version="preview1", stderr=3.5)  # wrong


def preopens(backend: vfswasi.Backend, given: vfswasi.Preopens, sources: dict[str, vfswasi.Source]) -> None:
    vfswasi.run("p.wasm", preopens={"/d": {}})
    vfswasi.run("p.wasm", preopens={"/d": {"a": b"1", "b": "text", "sub": {"c": vfswasi.Symlink("../a")}}})
    vfswasi.run("p.wasm", preopens={"/d": {"a": vfswasi.File(b"1", mtime=0), "l": vfswasi.Symlink("a", mtime=0.5)}})
    vfswasi.run("p.wasm", preopens={"/d": "x.zip", "/e": pathlib.Path("e"), "/f": {"a": b""}})
    vfswasi.run("p.wasm", preopens={"/d": vfswasi.MemoryBackend({"a": b""}), "/e": backend})
    vfswasi.run("p.wasm", preopens={"/d": vfswasi.Mount("s3://bucket", rw=True)})
    vfswasi.run("p.wasm", preopens={"/d": fsspec.filesystem("memory"), "/e": UPath("memory://lake")})
    vfswasi.run("p.wasm", preopens=given)
    vfswasi.run("p.wasm", preopens=sources)
    vfswasi.run("p.wasm", preopens=None)
    tree = {"a": b"1", "sub": {"b": b"2"}}
    vfswasi.run("p.wasm", preopens={"/d": tree})
    vfswasi.MemoryBackend(tree)
    vfswasi.run("p.wasm", preopens={"/d": 5})  # wrong
    vfswasi.run("p.wasm", preopens={"/d": 3.5, "/e": {}})  # wrong
    vfswasi.run("p.wasm", preopens={"/d": b"x.zip"})  # wrong
    vfswasi.run("p.wasm", preopens={"/d": None})  # wrong
    vfswasi.run("p.wasm", preopens={"/d": ["x.zip"]})  # wrong
    vfswasi.run("p.wasm", preopens={5: {}})  # wrong
    vfswasi.run("p.wasm", preopens=["/d"])  # wrong
    vfswasi.run("p.wasm", preopens="/d")  # wrong
    vfswasi.Sandbox("p.wasm", preopens={"/d": 5})  # wrong
    vfswasi.WASI(version="preview1", preopens={"/d": 5})  # wrong
    vfswasi.MemoryBackend(5)  # wrong
    vfswasi.File(5)  # wrong
    vfswasi.File(b"", mtime="now")  # wrong
    vfswasi.File(b"", mtime=datetime.now())
    vfswasi.Symlink(b"a")  # wrong


def add(memory: vfswasi.GuestMemory, a: int, b: int) -> int:
    return a + b


def others(functions: vfswasi.HostFunctions, function: vfswasi.HostFunction) -> None:
    vfswasi.run("p.wasm", env={"A": "1"}, timeout=3, seed=5, check=True, imports={"env": {"add": add}})
    vfswasi.run("p.wasm", imports=functions)
    vfswasi.run("p.wasm", imports={"env": {"f": function, "g": lambda memory: None}})
    vfswasi.run("p.wasm", env={"A": 1})  # wrong
    vfswasi.run("p.wasm", env=["A=1"])  # wrong
    vfswasi.run("p.wasm", timeout="5s")  # wrong
    vfswasi.run("p.wasm", seed="x")  # wrong
    vfswasi.run("p.wasm", clock=vfswasi.Clock.fixed("2026-01-31"))
    vfswasi.run("p.wasm", clock=vfswasi.Clock.fixed(datetime(2026, 1, 31)))
    vfswasi.run("p.wasm", clock=vfswasi.Clock.stepped(0, 0.5), check=True)
    vfswasi.run("p.wasm", clock=None)
    vfswasi.Sandbox("p.wasm").start(clock=vfswasi.Clock.system())
    vfswasi.WASI(version="preview1", clock=vfswasi.Clock.virtual(5))
    vfswasi.run("p.wasm", clock="2026-01-31")  # wrong
    vfswasi.run("p.wasm", clock=vfswasi.Clock)  # wrong
    vfswasi.Clock.fixed(None)  # wrong
    vfswasi.Clock.stepped(0)  # wrong
    vfswasi.Clock.stepped(0, "1s")  # wrong
    vfswasi.Clock("lunar")  # wrong
    vfswasi.WASI(version="preview1", clock=5)  # wrong
    vfswasi.run("p.wasm", deterministic=True)
    vfswasi.run("p.wasm", deterministic="yes")  # wrong
    with vfswasi.Sandbox("p.wasm", deterministic=True) as sandbox:
        sandbox.run(deterministic=False)
        sandbox.start(deterministic=0)  # wrong
    vfswasi.run("p.wasm", record="file")
    vfswasi.run("p.wasm", record=vfswasi.Record(pathlib.Path("file"), module=False, max_bytes=1 << 20))
    vfswasi.run("p.wasm", record=5)  # wrong
    vfswasi.Sandbox("p.wasm").start(record=pathlib.Path("file"))
    vfswasi.replay("file", capture_output=True, module="p.wasm", limits=vfswasi.Limits())
    difference: vfswasi.Difference | None = vfswasi.replay(io.BytesIO(b"")).difference
    vfswasi.replay(5)  # wrong
    name: str = vfswasi.Recording.load("file").mounts[0].name
    vfswasi.run("p.wasm", limits={"fuel": 1})  # wrong
    vfswasi.run("p.wasm", limits=vfswasi.Limits(fuel=1))
    vfswasi.run("p.wasm", limits=vfswasi.Limits(fule=1))  # wrong
    vfswasi.run("p.wasm", imports={"env": {"add": 5}})  # wrong
    vfswasi.run("p.wasm", imports={"env": add})  # wrong
    vfswasi.run("p.wasm", capture=True)  # wrong
    vfswasi.run()  # wrong


def trees(tree: vfswasi.MemoryBackend) -> None:
    data: bytes = tree.read_bytes("a")
    tree.write_bytes(pathlib.PurePosixPath("a"), memoryview(data))
    tree["a"] = {"b": data}
    paths: list[str] = list(tree)
    del tree[paths[0]]
    tree.write_bytes("a", "text")  # wrong
    tree.read_bytes(5)  # wrong
    tree[5]  # wrong


def results(text: vfswasi.Result[str], binary: vfswasi.Result[bytes], either: vfswasi.Result[Any]) -> str:
    if text.stdout is None or binary.stderr is None:
        return ""
    text.stdout.decode()  # wrong
    binary.stderr.encode()  # wrong
    number: int = text.stdout  # wrong
    text.stdout = "frozen"  # wrong
    binary.stderr.decode()
    unknown: vfswasi.Result[int]  # wrong
    bare: vfswasi.Result = either
    both: vfswasi.Result[str | bytes] = either
    other: vfswasi.Result[str] = binary  # wrong
    return text.stdout


def wrapper(
    module: vfswasi.Module,
    args: vfswasi.Args,
    source: vfswasi.Source,
    stdin: vfswasi.Stdin = None,
    stdout: vfswasi.Stdout = None,
) -> vfswasi.Result[Any]:
    return vfswasi.run(module, args, preopens={"/in": source}, stdin=stdin, stdout=stdout, stderr=stdout)


def overloads(text: bool) -> None:
    a: vfswasi.Result[str] = vfswasi.run("p.wasm", text=True, capture_output=True)
    b: vfswasi.Result[bytes] = vfswasi.run("p.wasm", capture_output=True)
    c: vfswasi.Result[bytes] = vfswasi.run("p.wasm")
    d: vfswasi.Result[Any] = vfswasi.run("p.wasm", text=text)
    e: vfswasi.Result[str] = vfswasi.run("p.wasm", capture_output=True)  # wrong
    f: vfswasi.Result[bytes] = vfswasi.run("p.wasm", text=True)  # wrong
    sandbox = vfswasi.Sandbox("p.wasm", isolation="process")
    g: vfswasi.Result[str] = sandbox.run(text=True, env={"A": "1"}, preopens={"/d": {}}, cwd="/d")
    h: vfswasi.Result[str] = sandbox.run(["a"])  # wrong
    sandbox.run(cwd=5)  # wrong
    noted: vfswasi.Accesses | None = sandbox.run(accesses="digest", text=True).accesses
    if noted is not None and noted.hold({"/d": {}}):
        paths: list[str] = [access.path for access in noted["/d"]]
        noted.hold("/d")  # wrong
    sandbox.run(accesses="digests")  # wrong
    sandbox.run(env={"A": 1})  # wrong
    sandbox.run(preopens={"/d": 5})  # wrong
    sandbox.run(input=3.5)  # wrong
    vfswasi.Sandbox("p.wasm", isolation="thread")  # wrong


def held(text: bool) -> None:
    sandbox = vfswasi.Sandbox("p.wasm")
    run = sandbox.start(["a"], stdin=vfswasi.PIPE, stdout=vfswasi.PIPE, text=True)
    if run.stdin is not None and run.stdout is not None:
        run.stdin.write("x")
        line: str = run.stdout.readline()
        run.stdin.write(b"x")  # wrong
        raw: bytes = run.stdout.readline()  # wrong
    binary: vfswasi.Run[bytes] = sandbox.start()
    code: int = binary.wait(1)
    maybe: str = binary.poll()  # wrong
    result: vfswasi.Result[bytes] = binary.result()
    binary.wait("1")  # wrong
    either: vfswasi.Run[Any] = sandbox.start(text=text)
    sandbox.start("x")  # wrong
    sandbox.start(capture_output=True)  # wrong
    sandbox.start(stdin=3.5)  # wrong


async def awaited() -> None:
    sandbox = vfswasi.Sandbox("p.wasm")
    a: vfswasi.Result[str] = await vfswasi.run_async("p.wasm", ["a"], text=True)
    b: vfswasi.Result[bytes] = await sandbox.run_async(capture_output=True)
    c: vfswasi.Result[str] = await sandbox.run_async()  # wrong
    await sandbox.run_async("x")  # wrong
    await vfswasi.run_async("p.wasm", stdin=3.5)  # wrong
    await sandbox.run_async(timeout="5s")  # wrong
    async with sandbox.start_async(stdin=vfswasi.PIPE, stdout=vfswasi.PIPE, text=True) as run:
        if run.stdin is not None and run.stdout is not None:
            await run.stdin.write("x")
            await run.stdin.write(b"x")  # wrong
            line: str = await run.stdout.readline()
            raw: bytes = await run.stdout.read()  # wrong


def overlays(path: pathlib.Path, store: fsspec.AbstractFileSystem, result: vfswasi.Result[bytes]) -> None:
    changes = result.changes["/d"]
    vfswasi.run("p.wasm", preopens={"/d": vfswasi.Mount(path, overlay=True)})
    vfswasi.run("p.wasm", preopens={"/d": vfswasi.Mount(store, root="/x", overlay=True, apply="success")})
    vfswasi.run("p.wasm", preopens={"/d": vfswasi.Mount({"a": b""}, overlay=changes), "/e": path})
    vfswasi.Mount(path, overlay=vfswasi.Changes.load("x.changes"))
    vfswasi.Mount(path, overlay=changes, apply=None)
    vfswasi.Mount(path, overlay="yes")  # wrong
    vfswasi.Mount(path, overlay=result)  # wrong
    vfswasi.Mount(path, overlay=result.changes)  # wrong
    vfswasi.Mount(path, overlay=True, apply="always")  # wrong
    vfswasi.Mount(path, overlay=True, apply=True)  # wrong
    text: str = changes.diff(path)
    changes.apply()
    changes.apply(vfswasi.Mount("s3://bucket", anon=True))
    kinds = [change.kind for change in changes]
    with vfswasi.Sandbox("p.wasm").session() as session:
        now: Mapping[str, vfswasi.Changes] = session.changes


def reports(result: vfswasi.Result[str], error: vfswasi.GuestError) -> None:
    report: vfswasi.Report = result.report()
    report.save(pathlib.Path("r.html"))
    report.save("r.html")
    text: str = report.html
    if error.result is not None:
        error.result.report().save("r.html")
    report.save(io.BytesIO())  # wrong
    result.report("r.html")  # wrong


def fixtures(
    wasm: vfswasi.testing.Wasm, wasm_snapshot: vfswasi.testing.WasmSnapshot, wasm_fail: vfswasi.testing.WasmFail
) -> None:
    result = wasm("p.wasm", "a", "b", files={"a": "x", "d": {}}, memory="1MiB", timeout=1)
    text: str | None = result.stdout
    raw: bytes | None = wasm("p.wasm", text=False).stdout
    wasm(pathlib.Path("p.wasm"), ["a"], files=pathlib.Path("d"))
    wasm(b"", args=["a"], preopens={"/d": "x.zip"})
    wasm("p.wasm", 5)  # wrong
    wasm("p.wasm", fils={})  # wrong
    wasm("p.wasm", files="x")  # wrong
    wasm("p.wasm", timeout="5s")  # wrong
    number: int | None = wasm("p.wasm").stdout  # wrong
    assert result.files == wasm_snapshot("x")
    wasm_snapshot(5)  # wrong
    with wasm_fail("write", errno="NOSPC", nth=3, path="x", times=None) as failure:
        struck: int = failure.struck
    wasm_fail("write", errno=vfswasi.Errno.IO)
    wasm_fail("write")  # wrong
    wasm_fail("write", errno="IO", nth="1")  # wrong


def trace(calls: list[vfswasi.Call], told: io.StringIO) -> None:
    def full(call: vfswasi.Call) -> str | None:
        return "NOSPC" if call.name == "fd_write" else None

    def number(call: vfswasi.Call) -> int | None:
        return 51

    def nothing() -> None:
        return None

    def text(call: str) -> None:
        return None

    vfswasi.run("p.wasm", trace=True)
    vfswasi.run("p.wasm", trace=None)
    vfswasi.run("p.wasm", trace=calls.append)
    vfswasi.run("p.wasm", trace=full)
    vfswasi.run("p.wasm", trace=number)
    vfswasi.run("p.wasm", trace=lambda call: vfswasi.Errno.IO)
    vfswasi.WASI(version="preview1", trace=full)
    vfswasi.Sandbox("p.wasm").start(trace=full)
    vfswasi.Sandbox("p.wasm").session(trace=full)
    vfswasi.run("p.wasm", trace="calls")  # wrong
    vfswasi.run("p.wasm", trace=1)  # wrong
    vfswasi.run("p.wasm", trace=nothing)  # wrong
    vfswasi.run("p.wasm", trace=text)  # wrong
    vfswasi.run("p.wasm", trace=lambda call: 1.5)  # wrong
    vfswasi.WASI(version="preview1", trace="x")  # wrong
    found: vfswasi.Trace | None = vfswasi.run("p.wasm").trace
    if found is not None:
        errno: vfswasi.Errno | None = found[0].errno
        calls_of: int = found.stats["fd_read"].calls
        path: str = found[0].path  # wrong
    refused: tuple[vfswasi.Refusal, ...] = vfswasi.run("p.wasm").refusals
