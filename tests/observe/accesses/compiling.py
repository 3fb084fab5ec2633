"""A small program with headers in several places, its compiler, and edits that the compiler could notice."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import vfswasi
from vfswasi.fs_backends.base import Backend, Caps, DirEntry, Handle, Key, Stat

from ... import avr_build

# The order in which GCC looks for `#include <x.h>`; for "x.h" it looks beside the file that asks first.
PLACES = ("first", "second", "third", "sys", "sys-fixed")
ARGUMENTS = [
    *("-quiet", "-nostdinc", "-mmcu=avr5", "-Os", "-Wall"),
    *("-I", "/inc/first", "-I", "/inc/second", "-I", "/inc/third"),
    *("-isystem", "/inc/sys", "-isystem", "/inc/sys-fixed"),
    *("/src/main.c", "-o", "/out/main.s"),
]
SOURCES: dict[str, Any] = {
    "main.c": b'#include <board.h>\n#include "local.h"\n#include <deep/inner.h>\n'
    b"#if __has_include(<option.h>)\n#include <option.h>\n#else\n#define OPTION 7\n#endif\n"
    b"volatile unsigned char PORT;\n"
    b"int main(void) { PORT = PIN + LOCAL; PORT = INNER + OPTION; return SYSTEM + PINS; }\n",
    "local.h": b'#ifndef LOCAL_H\n#define LOCAL_H\n#include "more/limits.h"\n#define LOCAL (3 + LIMIT)\n#endif\n',
    "more": {"limits.h": b"/* of the program */\n#define LIMIT 2\n"},
    "unused.h": b"#define UNUSED 1\n",
}
HEADERS: dict[str, Any] = {
    "first": {},
    "second": {
        "board.h": b"#pragma once\n#include <pins.h>\n#include <types.h>\n#define PIN PINS\n",
        "other.h": b"#define OTHER 1\n",
    },
    "third": {
        "pins.h": b"/* the pins of the board */\n#define PINS 5\n",
        "board.h": b"#error it is found earlier\n",
        "deep": {"inner.h": b'#include "../deep/core.h"\n#define INNER CORE\n', "core.h": b"#define CORE 11\n"},
    },
    "sys": {"types.h": b"#include_next <types.h>\n#define SYSTEM (BASE + 1)\n", "unused": {"far.h": b"\n"}},
    "sys-fixed": {"types.h": b"#define BASE 20\n"},
}
NAMES = ("board.h", "pins.h", "types.h", "option.h", "local.h", "deep", "inner.h", "limits.h", "board.h.gch", "new.h")


class Plain(Backend):
    """A tree without times and numbers, as a store far away has it, which notes what it is asked for: the names whose
    existence or kind was asked for, and the files that were read."""

    caps = Caps.IMMUTABLE | Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = vfswasi.MemoryBackend(tree)
        self.names: set[Key] = set()
        self.listed: set[Key] = set()
        self.read: set[Key] = set()

    def stat(self, key: Key) -> Stat:
        self.names.add(key)
        filetype, size, *_ = self._tree.stat(key)
        return Stat(filetype, size)

    def list(self, key: Key) -> list[DirEntry]:
        self.listed.add(key)
        return [DirEntry(entry.name, entry.filetype) for entry in self._tree.list(key)]

    def open(self, key: Key, write: bool) -> Handle:
        self.read.add(key)
        return _PlainHandle(self._tree.open(key, False))


class _PlainHandle(Handle):
    def __init__(self, inner: Handle) -> None:
        self._inner = inner
        self.read_into = inner.read_into  # type: ignore[method-assign]

    def stat(self) -> Stat:
        filetype, size, *_ = self._inner.stat()
        return Stat(filetype, size)


class Built(NamedTuple):
    """What came of a compilation: all that can be told from outside."""

    status: int
    said: bytes
    made: dict[str, Any]


class Edit(NamedTuple):
    """key: in a tree of two directories, "inc" and "src". before, after: what is there, None: nothing."""

    key: Key
    before: Any
    after: Any

    def __str__(self) -> str:
        what = "add" if self.before is None else "remove" if self.after is None else "change"
        return f"{what} {'/'.join(self.key)}"


TREE = {"inc": HEADERS, "src": SOURCES}


class Compiler:
    """It is compiled once for all that are built."""

    def __init__(self) -> None:
        self._sandbox = vfswasi.Sandbox(avr_build.program("cc1"))

    def build(self, inc: Any, src: Any, **options: Any) -> tuple[Built, vfswasi.Result[bytes]]:
        result = self._sandbox.run(ARGUMENTS, preopens=preopens(inc, src), capture_output=True, timeout=120, **options)
        return Built(result.returncode, result.stderr, result.files["/out"]), result


def preopens(inc: Any, src: Any) -> dict[str, Any]:
    return {"/inc": inc, "/src": src, "/out": {}}


def files_of(tree: Mapping[str, Any], key: Key = ()) -> Iterator[tuple[Key, bytes]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from files_of(value, (*key, name))
        else:
            yield (*key, name), value


def directories_of(tree: Mapping[str, Any], key: Key = ()) -> Iterator[Key]:
    yield key
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from directories_of(value, (*key, name))


def at(tree: Mapping[str, Any], key: Key) -> Any:
    """What is there; None: nothing."""
    found: Any = tree
    for name in key:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def edited(tree: dict[str, Any], edit: Edit) -> dict[str, Any]:
    made = copy.deepcopy(tree)
    directory = at(made, edit.key[:-1])
    if edit.after is None:
        del directory[edit.key[-1]]
    else:
        directory[edit.key[-1]] = copy.deepcopy(edit.after)
    return made


def every_edit() -> list[Edit]:
    """Each file removed, each changed, and each name that could be looked for added wherever it is missing."""
    edits = []
    for key, data in files_of(TREE):
        edits += [Edit(key, data, None), Edit(key, data, data + b"#define MORE 1\n")]
    for directory in directories_of(TREE):
        for name in NAMES if directory else ():
            if at(TREE, (*directory, name)) is None:
                edits.append(Edit((*directory, name), None, b"#define PINS 9\n#define PIN 9\n#define BASE 9\n"))
    return edits


def random_edit(random: random.Random) -> Edit:
    """One that changes a byte, a number, a comment, removes or adds a file or a directory."""
    kind = random.choice(("number", "number", "byte", "comment", "remove", "add", "add", "add", "empty"))
    if kind == "add":
        directories = [directory for directory in directories_of(TREE) if directory]
        while True:
            key = (*random.choice(directories), random.choice(NAMES))
            if at(TREE, key) is None:
                break
        name = random.choice(("PINS", "PIN", "BASE", "LIMIT", "CORE", "OPTION", "NOTHING"))
        made: Any = f"#define {name} {random.randrange(100)}\n".encode()
        if random.random() < 0.2:
            made = {random.choice(NAMES): made}
        return Edit(key, None, made)
    key, data = random.choice(list(files_of(TREE)))
    if kind == "remove":
        return Edit(key, data, None)
    if kind == "empty":
        return Edit(key, data, b"")
    if kind == "comment":
        return Edit(key, data, b"/* as it was */\n" + data)
    if kind == "byte":
        where = random.randrange(len(data))
        changed = bytearray(data)
        changed[where] ^= 1 << random.randrange(7)
        return Edit(key, data, bytes(changed))
    digits = [index for index, byte in enumerate(data) if chr(byte).isdigit()]
    if not digits:
        return Edit(key, data, data + b"\n")
    where = random.choice(digits)
    return Edit(key, data, data[:where] + str(random.randrange(10)).encode() + data[where + 1 :])
