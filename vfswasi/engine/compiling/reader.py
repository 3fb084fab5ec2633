"""Reading the binary format of WebAssembly, with every number checked against the bytes that are there (core
specification 5.2)."""

from __future__ import annotations

from typing import Final

NAME_MAX_BYTES: Final = 1000


class Unreadable(Exception):
    """The bytes are not what they should be."""


class Reader:
    """A place in some bytes, up to an end."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def byte(self) -> int:
        if self.at >= self.end:
            raise Unreadable
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """LEB128, at most 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Unreadable

    def name(self) -> str:
        size = self.number()
        if size > self.end - self.at:
            raise Unreadable
        raw = self.data[self.at : self.at + min(size, NAME_MAX_BYTES)]
        self.at += size
        return raw.decode("utf-8", "replace") + ("..." if size > NAME_MAX_BYTES else "")

    def part(self, size: int) -> Reader:
        """A reader of the next bytes, which are passed over here."""
        if size > self.end - self.at:
            raise Unreadable
        self.at += size
        return Reader(self.data, self.at - size, self.at)
