"""Small modules that take wasmtime's compiler very long, or very much memory; and who is there to compile them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

CORE = b"\0asm\x01\0\0\0"


def leb(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def section(kind: int, *items: bytes) -> bytes:
    content = leb(len(items)) + b"".join(items)
    return bytes([kind]) + leb(len(content)) + content


def function_type(params: int, results: int) -> bytes:
    return b"\x60" + leb(params) + b"\x7f" * params + leb(results) + b"\x7f" * results


def of_code(code: bytes, *, types: tuple[bytes, ...] = (), local_count: int = 0, count: int = 1) -> bytes:
    """A program whose `count` functions are all `code`, with so many locals of type i32."""
    declared = b"\x01" + leb(local_count) + b"\x7f" if local_count else b"\0"
    body = declared + code + b"\x0b"
    return (
        CORE
        + section(1, b"\x60\0\0", *types)
        + section(3, *[b"\0"] * count)
        + section(4, b"\x70\0\1")
        + section(5, b"\0\1")
        + section(7, b"\x06_start\0\0", b"\x06memory\2\0")
        + section(10, *[leb(len(body)) + body] * count)
    )


def of_indirect_calls(size: int) -> bytes:
    """Half a minute for 200,000 bytes."""
    return of_code(b"\x41\0\x11\0\0" * (size // 5))


def of_functions(size: int) -> bytes:
    """Functions of a thousand bytes."""
    return of_code(b"\x41\0" + b"\x41\1\x6a" * 330 + b"\x1a", count=size // 1000)


def of_empty_functions(size: int) -> bytes:
    return of_code(b"", count=size // 3)


def of_values_through_loops(size: int) -> bytes:
    """Half a minute and 9 GiB for 16 KiB: each of the loops hands on thirty values."""
    loops = b"\x03\1\x0b" * ((size - 90) // 3)
    return of_code(b"\x20\0" * 30 + loops + b"\x1a" * 30, types=(function_type(30, 30),), local_count=1)


def of_values_through_blocks(size: int) -> bytes:
    blocks = b"\x02\1\x0b" * ((size - 90) // 3)
    return of_code(b"\x20\0" * 30 + blocks + b"\x1a" * 30, types=(function_type(30, 30),), local_count=1)


def of_locals_in_nested_loops(size: int, local_count: int = 250) -> bytes:
    depth = size // 13
    into = b"".join(
        b"\x03\x40\x20" + leb(index % local_count) + b"\x41\1\x6a\x21" + leb(index % local_count)
        for index in range(depth)
    )
    return of_code(into + b"\x20\0\x0d\0\x0b" * depth, local_count=local_count)


def of_many_locals(size: int) -> bytes:
    """8 s for 20 KiB: 50,000 locals in each of its functions."""
    return of_code(b"", local_count=50_000, count=size // 8)


def of_copies_of_tables(size: int) -> bytes:
    return of_code(b"\x41\0\x41\0\x41\0\xfc\x0e\0\0" * (size // 10))


SHAPES: dict[str, Callable[[int], bytes]] = {
    "indirect calls": of_indirect_calls,
    "functions": of_functions,
    "empty functions": of_empty_functions,
    "values through loops": of_values_through_loops,
    "values through blocks": of_values_through_blocks,
    "locals in nested loops": of_locals_in_nested_loops,
    "many locals": of_many_locals,
    "copies of tables": of_copies_of_tables,
}


def children(of: int | None = None) -> list[int]:
    """The processes that a process has started, by default this one, and that are not gone; zombies too."""
    parent = os.getpid() if of is None else of
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent:
            found.append(int(path.parent.name))
    return found


def is_gone(pid: int, seconds: float = 10) -> bool:
    """Whether it is within that time; a zombie that nobody here can reap is."""
    until = time.monotonic() + seconds
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.02)


def first_child(of: int, seconds: float = 30) -> int:
    """Wait until a process has started one."""
    until = time.monotonic() + seconds
    while not (found := children(of)):
        assert time.monotonic() < until, "no child"
        time.sleep(0.02)
    return found[0]
