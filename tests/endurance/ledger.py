"""What a store must hold after a guest's steps: a model that follows the results that the guest saw.

A step is a line: a letter, a descriptor's slot or paths, numbers.

    o SLOT PATH FLAGS    open; r read, w read and write, c create, t truncate, x exclusive, a append
    w SLOT LENGTH SEED   write a pattern;  v: in two buffers;  W ... OFFSET: pwrite
    r SLOT LENGTH        read;  R SLOT LENGTH OFFSET: pread
    l SLOT OFFSET WHENCE    t SLOT SIZE    y SLOT (fsync)    c SLOT (close)
    n OLD NEW    u PATH    m PATH    d PATH    s PATH (size)    k TARGET PATH    K PATH (readlink)    L PATH (names)
    e STATUS (exit)    x (trap)
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vfswasi.fs_backends.memory.backend import Symlink

BIG = bytes((at * 13 + at // 251) % 256 for at in range(100_000))
TREE: dict[str, Any] = {
    "in": {"big": BIG, "old": b"old contents " * 20, "aside": b"nobody touches this" * 50},
    "out": {},
    "untouched": {"f": bytes(range(256)) * 30, "d": {}},
}

# Small and large writes, overwriting, holes, several descriptors of a file, names that change under open files.
BODY = """
m /d/out/x
o 0 /d/out/a cw
w 0 40 1
w 0 40 2
v 0 61 3
l 0 10 0
w 0 20 4
r 0 15
W 0 30 5 200
R 0 60 180
y 0
w 0 25 6
o 1 /d/out/a r
r 1 100
r 1 500
c 1
c 0
s /d/out/a
o 2 /d/in/big r
r 2 100
r 2 100
r 2 40000
R 2 64 99000
o 3 /d/out/copy cwt
w 3 40000 7
w 3 40000 8
t 3 50000
R 3 100 49950
c 3
n /d/out/a /d/out/b
o 4 /d/out/b a
w 4 30 9
w 4 30 10
l 4 0 0
r 4 50
L /d/out
k b /d/out/link
K /d/out/link
o 5 /d/out/link r
R 5 10 0
c 5
u /d/out/link
o 6 /d/out/tmp cwx
w 6 100 11
u /d/out/tmp
w 6 50 12
R 6 150 0
o 7 /d/out/tmp cwx
w 7 33 13
n /d/out/copy /d/out/tmp
w 7 10 14
R 7 43 0
c 7
c 6
d /d/out/x
o 8 /d/in/old wt
w 8 64 15
y 8
w 8 64 16
w 8 64 17
""".strip()
ENDINGS = {"exit": "e 0", "status": "e 3", "trap": "x"}


@functools.lru_cache(1000)
def pattern(length: int, seed: int) -> bytes:
    """What the guest writes."""
    return bytes((seed * 31 + at * 7) % 256 for at in range(length))


@functools.lru_cache(1000)
def checksum(data: bytes) -> int:
    """What the guest says of bytes that it read."""
    total = 2166136261
    for byte in data:
        total = (total ^ byte) * 16777619 % 2**32
    return total


@dataclass
class File:
    """Contents that are possible. `seen`: for who reads the file now; `stored`: in the store, if what was kept back is
    lost; both hold one element as long as nothing failed and everything is synced. `kept`: it was synced or closed."""

    seen: list[bytes]
    stored: list[bytes] = field(default_factory=list)
    kept: bool = False

    def change(self, offset: int | None, data: bytes) -> None:
        """A write at `offset`, or at the end."""
        self.become([_written(old, len(old) if offset is None else offset, data) for old in self.seen])

    def become(self, seen: list[bytes]) -> None:
        self.seen = seen
        self.stored = [*self.stored, *seen]

    def committed(self) -> None:
        self.stored, self.kept = list(self.seen), True

    def lost(self) -> None:
        """An error was told for writes that were kept back."""
        self.seen = list(dict.fromkeys([*self.seen, *self.stored]))


def _written(old: bytes, offset: int, data: bytes) -> bytes:
    padded = old.ljust(offset, b"\0")
    return padded[:offset] + data + padded[offset + len(data) :]


@dataclass
class Opened:
    file: File
    append: bool
    cursor: int = 0


class Impossible(AssertionError):
    """The guest saw, or the store holds, what cannot be."""


class Ledger:
    """The model. `nodes`: path -> File, None for a directory, str for a link's target."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.nodes: dict[str, File | str | None] = {}
        self.slots: dict[int, Opened] = {}
        self._add("/d", tree)

    def _add(self, where: str, tree: Mapping[str, Any]) -> None:
        for name, value in tree.items():
            self.nodes[f"{where}/{name}"] = None if isinstance(value, dict) else File([value], [value], True)
            if isinstance(value, dict):
                self._add(f"{where}/{name}", value)

    def follow(self, script: str, log: bytes, lines: int | None = None) -> list[Ledger]:
        """Do what the log says was done; the states that are possible then. If the guest ended in the middle of a
        step, that was done or not. Raises Impossible."""
        steps = script.splitlines()
        results = [tuple(map(int, line.split())) for line in log.decode().splitlines()]
        for step, (result, errno, sum_) in zip(steps, results, strict=False):
            try:
                self.step(step, result, errno, sum_)
            except Impossible as error:
                raise Impossible(f"{step!r} gave {result}, errno {errno}: {error}") from None
        if len(results) >= len(steps) or steps[len(results)][0] in "ex":
            return [self]
        after = copy.deepcopy(self)
        try:
            after.step(steps[len(results)], None, 0, None)
        except Impossible:  # a step that nothing is known of, or on what is not there
            return [self]
        return [self, after]

    def step(self, line: str, result: int | None, errno: int, sum_: int | None) -> None:
        """One step and its result; None if it is not known, and the step was done."""
        what, *words = line.split()
        if result == -1:
            if what == "c" and (opened := self.slots.pop(int(words[0]), None)) is not None and errno:
                opened.file.lost()
            elif what == "o":
                self.slots.pop(int(words[0]), None)
            return
        if what in "nku" or what in "mdsLK":
            self._names(what, words, result, sum_)
        elif what == "o":
            self._open(int(words[0]), words[1], words[2])
        else:
            opened = self.slots.get(int(words[0]))
            if opened is None:
                raise Impossible("it worked on a closed descriptor")
            self._descriptor(what, opened, [int(word) for word in words], result, sum_)

    def _open(self, slot: int, path: str, flags: str) -> None:
        node = self.nodes.get(path)
        if isinstance(node, str):
            node = self.nodes.get(f"{path.rpartition('/')[0]}/{node}")
        if node is None and "c" in flags and path not in self.nodes:
            node = self.nodes[path] = File([b""], [b""])
        if not isinstance(node, File):
            raise Impossible("there is no such file")
        if "t" in flags:
            node.become([b""])
        self.slots[slot] = Opened(node, "a" in flags)

    def _descriptor(self, what: str, opened: Opened, words: list[int], result: int | None, sum_: int | None) -> None:
        file = opened.file
        if what in "wWv":
            data = pattern(words[1], words[2])
            if result is not None and result != len(data):
                raise Impossible("a part was written")
            offset = words[3] if what == "W" else None if opened.append else opened.cursor
            file.change(offset, data)
            if what != "W":
                opened.cursor = (len(file.seen[0]) if offset is None else offset + len(data)) if opened else 0
        elif what in "rR":
            offset = words[2] if what == "R" else opened.cursor
            possible = [old[offset : offset + words[1]] for old in file.seen]
            if result is not None and (result, sum_) not in [(len(data), checksum(data)) for data in possible]:
                raise Impossible(f"bytes that are not there; {[len(data) for data in possible]} were")
            opened.cursor += (result or 0) if what == "r" else 0
        elif what == "l":
            opened.cursor = words[1]
        elif what == "t":
            file.become([old[: words[1]].ljust(words[1], b"\0") for old in file.seen])
        elif what == "y":
            file.committed()
        elif what == "c":
            self.slots = {slot: other for slot, other in self.slots.items() if other is not opened}
            if all(other.file is not file for other in self.slots.values()):
                file.committed()

    def _names(self, what: str, words: list[str], result: int | None, sum_: int | None) -> None:
        nodes, path = self.nodes, words[0]
        if what == "n":
            if path not in nodes:
                raise Impossible("there is no such name")
            nodes[words[1]] = nodes.pop(path)
        elif what in "ud":
            if nodes.pop(path, "missing") == "missing":
                raise Impossible("there is no such name")
        elif what == "m":
            nodes[path] = None
        elif what == "k":
            nodes[words[1]] = path
        elif what == "s" and result is not None:
            node = nodes.get(path)
            if not isinstance(node, File) or result not in [len(data) for data in node.seen]:
                raise Impossible("the size is another one")
        elif what == "K" and result is not None:
            target = nodes.get(path)
            if not isinstance(target, str) or (result, sum_) != (len(target), checksum(target.encode())):
                raise Impossible("the link leads elsewhere")
        elif what == "L" and result is not None:
            names = [".", ".."] + [name[len(path) + 1 :] for name in nodes if name.rpartition("/")[0] == path]
            total = 0
            for name in names:
                total ^= checksum(name.encode())
            if (result, sum_) != (len(names), total):
                raise Impossible(f"other names than {names}")

    def check(self, tree: Mapping[str, Any], late: bool, given_up: bool) -> None:
        """The store holds what it must. `late`: an error of closing was logged after the guest's end. `given_up`: of
        files that were open then, the store need have only what was synced. Raises Impossible."""
        found: dict[str, Any] = {}
        _flatten("/d", tree, found)
        still_open = {id(opened.file) for opened in self.slots.values()}
        for path, node in self.nodes.items():
            uncertain = id(node) in still_open and (late or given_up)
            if path not in found:
                if not (isinstance(node, File) and uncertain and given_up and not node.kept):
                    raise Impossible(f"{path} is missing")
            elif not isinstance(node, File):
                if found[path] != (None if node is None else Symlink(node)):
                    raise Impossible(f"{path} is {found[path]!r}")
            elif found[path] not in (possible := [*node.seen, *node.stored] if uncertain else node.seen):
                lengths = [len(data) for data in possible]
                raise Impossible(f"{path} holds {len(found[path])} bytes; possible are {lengths}, or others")
        if found.keys() - self.nodes.keys():
            raise Impossible(f"nobody made {sorted(found.keys() - self.nodes.keys())}")


def _flatten(where: str, tree: Mapping[str, Any], found: dict[str, Any]) -> None:
    for name, value in tree.items():
        found[f"{where}/{name}"] = None if isinstance(value, dict) else value
        if isinstance(value, dict):
            _flatten(f"{where}/{name}", value, found)
