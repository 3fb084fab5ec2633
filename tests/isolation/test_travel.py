"""What cannot be sent to a worker is refused at once, with what to use instead."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

import vfswasi
from vfswasi import MemoryBackend, Mount
from vfswasi.host.isolation.pool import POOL

from ..wat_programs import SAY, program

NOTHING = program(SAY)


def _loop() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree["again"] = tree
    return tree


MOUNTS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a backend": (lambda: MemoryBackend({}), TypeError, "lives in this process .* give a tree as a dict"),
    "a backend in a mount": (lambda: Mount(MemoryBackend({})), TypeError, "lives in this process"),
    "a local backend": (lambda: vfswasi.LocalBackend("/tmp"), TypeError, "give a tree as a dict .* a path"),
    "a file system of fsspec": (lambda: fsspec.filesystem("memory"), TypeError, "give a path, a dict, or the URL"),
    "an object": (object, TypeError, "a object cannot be mounted with isolation='process'"),
    "a cache": (lambda: Mount("s3://b", cache=vfswasi.ReadCache()), TypeError, "give cache= as a number of bytes"),
    "a live option": (
        lambda: Mount("s3://b", storage_options={"session": object()}),
        TypeError,
        r"storage_options\['session'\]: a object cannot be sent to another process",
    ),
    "an option within": (
        lambda: Mount("s3://b", storage_options={"a": [{"b": print}]}),
        TypeError,
        "cannot be sent to another process",
    ),
    "a file in a tree": (lambda: {"a": {"b": io.BytesIO()}}, TypeError, "a file must be bytes or str"),
    "a name in a tree": (lambda: {1: b""}, TypeError, "a name must be a str"),
    "a tree in itself": (_loop, ValueError, "more than 300 directories deep"),
}


@pytest.mark.parametrize(("make", "kind", "match"), MOUNTS.values(), ids=MOUNTS.keys())
def test_mounts_that_live_in_this_process(make: Callable[[], Any], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        vfswasi.Sandbox(NOTHING, preopens={"/d": make()}, isolation="process")
    assert POOL.pids == []
    with vfswasi.Sandbox(NOTHING, isolation="process") as sandbox:
        with pytest.raises(kind, match=match):
            sandbox.run(preopens={"/d": make()})
        assert sandbox.run(capture_output=True).returncode == 0


STREAMS: dict[str, tuple[str, Callable[[], Any], str]] = {
    "a callable": ("stdout", lambda: print, "stdout with isolation='process' must be PIPE"),
    "a callable as stderr": ("stderr", lambda: print, r"use start\(\) with PIPE"),
    "an object to write to": ("stdout", io.BytesIO, "objects with write"),
    "an object to read": ("stdin", lambda: io.BytesIO(b"x"), "must be bytes, str, PIPE, a descriptor or a plain file"),
}


@pytest.mark.parametrize(("name", "make", "match"), STREAMS.values(), ids=STREAMS.keys())
def test_streams_that_are_objects_of_this_process(name: str, make: Callable[[], Any], match: str) -> None:
    with vfswasi.Sandbox(NOTHING, isolation="process") as sandbox:
        for ask in (sandbox.run, sandbox.start):
            with pytest.raises(TypeError, match=match):
                ask(**{name: make()})
    with pytest.raises(TypeError, match=match):
        vfswasi.run(NOTHING, isolation="process", **{name: make()})


def test_functions_of_this_process() -> None:
    imports = {"env": {"f": lambda memory: None}}
    with pytest.raises(TypeError, match="imports= are functions of this process"):
        vfswasi.Sandbox(NOTHING, imports=imports, isolation="process")
    with (
        vfswasi.Sandbox(NOTHING, isolation="process") as sandbox,
        pytest.raises(TypeError, match="imports= are functions of this process"),
    ):
        sandbox.run(imports=imports)


@pytest.mark.parametrize("isolation", ["thread", "", True, 1, b"process"])
def test_a_word_for_isolation_that_there_is_not(isolation: Any) -> None:
    with pytest.raises(ValueError, match="isolation must be 'none' or 'process'"):
        vfswasi.run(NOTHING, isolation=isolation)


def test_what_is_plain_travels(tmp_path: Path) -> None:
    class Text(str):
        pass

    (tmp_path / "f").write_bytes(b"x")
    tree = {Text("a"): bytearray(b"1"), "b": memoryview(b"2"), "c": Text("3"), "d": {"l": vfswasi.Symlink("../a")}}
    found = vfswasi.run(
        NOTHING,
        preopens={"/t": tree, "/m": "mem:", "/dev": "dev:", Text("/l"): Text(tmp_path), "/o": Mount(tmp_path, root="")},
        env={"A": Text("b")},
        isolation="process",
        capture_output=True,
    )
    assert found.files == {"/t": {"a": b"1", "b": b"2", "c": b"3", "d": {"l": vfswasi.Symlink("../a")}}, "/m": {}}
