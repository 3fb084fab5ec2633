"""`args_*` and `environ_*`: the two lists of strings that a program starts with."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

from ...kernel.process import Process
from ..memory import GuestMemory


def args_get(process: Process, memory: GuestMemory, argv_ptr: int, buf_ptr: int) -> None:
    """Write the argument vector.

    argv_ptr: count x u32 address of an argument. buf_ptr: the arguments, each with its NUL, one after the other.
    Errors: FAULT. Spec: preview1 args_get.
    """
    _strings_get(memory, process.argv, argv_ptr, buf_ptr)


def args_sizes_get(process: Process, memory: GuestMemory, count_ptr: int, size_ptr: int) -> None:
    """count_ptr: u32, number of arguments. size_ptr: u32, bytes that `args_get` writes at buf_ptr.

    Errors: FAULT. Spec: preview1 args_sizes_get.
    """
    _strings_sizes_get(memory, process.argv, process.argv_bytes, count_ptr, size_ptr)


def environ_get(process: Process, memory: GuestMemory, environ_ptr: int, buf_ptr: int) -> None:
    """As `args_get`, for "NAME=value" strings. Errors: FAULT. Spec: preview1 environ_get."""
    _strings_get(memory, process.environ, environ_ptr, buf_ptr)


def environ_sizes_get(process: Process, memory: GuestMemory, count_ptr: int, size_ptr: int) -> None:
    """As `args_sizes_get`. Errors: FAULT. Spec: preview1 environ_sizes_get."""
    _strings_sizes_get(memory, process.environ, process.environ_bytes, count_ptr, size_ptr)


def _strings_get(memory: GuestMemory, strings: Sequence[bytes], table_ptr: int, buf_ptr: int) -> None:
    addresses = []
    address = buf_ptr
    for string in strings:
        addresses.append(address & 0xFFFFFFFF)
        address += len(string) + 1
    data = b"".join(string + b"\0" for string in strings)
    memory.check(table_ptr, 4 * len(strings))
    memory.check(buf_ptr, len(data))
    memory.write(table_ptr, pack(f"<{len(addresses)}I", *addresses))
    memory.write(buf_ptr, data)


def _strings_sizes_get(
    memory: GuestMemory, strings: Sequence[bytes], size_bytes: int, count_ptr: int, size_ptr: int
) -> None:
    memory.check(count_ptr, 4)
    memory.check(size_ptr, 4)
    memory.write_u32(count_ptr, len(strings))
    memory.write_u32(size_ptr, size_bytes)
