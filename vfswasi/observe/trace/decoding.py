"""From the numbers that a guest passed to what they mean.

All of its memory is read with the checks that system calls have, and little of it: a guest decides what stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import unpack_from
from typing import Any, Final, NamedTuple

from ...abi import constants as c
from ...abi.layouts import Abi
from ...errors import FsError
from ...kernel.paths.places import TEXT_BYTES, Place, below, cut, decoded_text, place_of
from ...kernel.process import Process
from ...syscalls.memory import IOVEC, GuestMemory
from . import names
from .parameters import PARAMETERS

DATA_BYTES: Final = 32  # of what is read or written
_BUFFERS: Final = 1024  # iovecs that are added up
_SUBSCRIPTIONS: Final = 16  # that are shown


class Decoded(NamedTuple):
    """path, target, mount, descriptors: see `Call`. buffers: of a call that reads, where the first bytes will be."""

    arguments: Mapping[str, Any]
    path: str | None
    target: str | None
    mount: str | None
    descriptors: Mapping[str, str]
    buffers: tuple[tuple[int, int], ...] = ()


def decoded(process: Process, memory: GuestMemory, abi: Abi, name: str, raw: tuple[int, ...]) -> Decoded:
    """Of a call that is about to be made."""
    return _Decoding(process, memory, abi, name, raw).all()


class _Decoding:
    def __init__(self, process: Process, memory: GuestMemory, abi: Abi, name: str, raw: tuple[int, ...]) -> None:
        self.process, self.memory, self.abi, self.name = process, memory, abi, name
        self.left = iter(raw)
        self.arguments: dict[str, Any] = {}
        self.descriptors: dict[str, str] = {}
        self.places: list[Place | None] = []
        self.paths: list[str | None] = []
        self.text: str | None = None
        self.buffers: tuple[tuple[int, int], ...] = ()

    def all(self) -> Decoded:
        arguments = self.arguments
        for name, kind in PARAMETERS[self.name]:
            number = next(self.left)
            if kind == "fd":
                arguments[name] = number
                self._descriptor(name, number)
            elif kind == "number":
                arguments[name] = number
            elif kind == "out":
                continue
            elif kind == "size":
                arguments[name] = next(self.left)
            elif kind in ("path", "text"):
                arguments[name] = self._text(number, next(self.left))
                if kind == "path":
                    self._path(arguments[name])
                else:
                    self.text = arguments[name] if isinstance(arguments[name], str) else None
            elif kind in ("reads", "writes"):
                self._data(kind == "writes", number, next(self.left))
            elif kind == "signed":
                arguments[name] = number - (1 << 64) if number >> 63 else number
            elif kind == "subscriptions":
                next(self.left)
                arguments[name] = self._subscriptions(number, next(self.left))
            elif kind == "whence":
                arguments[name] = names.one(kind, self.abi.whence[number] if number < 3 else number)
            elif names.is_flags(kind):
                arguments[name] = names.flags(kind, number)
            else:
                arguments[name] = names.one(kind, number)
        place = next((place for place in self.places if place is not None), None)
        mount = None if place is None else place.mount
        return Decoded(arguments, *self._about(place), mount, self.descriptors, self.buffers)

    def _about(self, place: Place | None) -> tuple[str | None, str | None]:
        """(path, target)."""
        paths = self.paths
        if self.text is not None and paths and paths[0] is not None:  # of a link: what it leads to
            return paths[0], cut(below(paths[0].rpartition("/")[0], self.text))
        if paths:
            return paths[0], paths[1] if len(paths) > 1 else None
        return None if place is None else place.path, None

    def _descriptor(self, name: str, fd: int) -> None:
        place = place_of(self.process.fds.look(fd))
        self.places.append(place)
        if place is not None:
            self.descriptors[name] = place.shown

    def _path(self, text: str | int) -> None:
        """Below the descriptor that was met last."""
        place = self.places[-1]
        whole = None
        if isinstance(text, str) and place is not None and place.path is not None:
            whole = cut(below(place.path, text))
        self.paths.append(whole)

    def _text(self, ptr: int, length: int) -> str | int:
        try:
            self.memory.check(ptr, length)
            return cut(decoded_text(self.memory.read(ptr, min(length, TEXT_BYTES))))
        except FsError:
            return ptr

    def _data(self, given: bool, ptr: int, count: int) -> None:
        """`given`: by the guest."""
        arguments = self.arguments
        try:
            raw = self.memory.read(ptr, min(count, _BUFFERS) * IOVEC.size)
        except FsError:
            arguments["iovs"] = ptr
            return
        table = list(IOVEC.iter_unpack(raw))
        self.buffers = tuple(table[:DATA_BYTES])
        if given:
            arguments["data"] = start_of(self.memory, self.buffers, DATA_BYTES)
        arguments["iovs"] = count
        arguments["nbytes"] = sum(length for _, length in table)

    def _subscriptions(self, ptr: int, count: int) -> tuple[str, ...] | int:
        """One word each."""
        abi = self.abi
        try:
            raw = self.memory.read(ptr, min(count, _SUBSCRIPTIONS) * abi.subscription_size)
        except FsError:
            return ptr
        found = []
        for start in range(0, len(raw), abi.subscription_size):
            kind = raw[start + 8]
            if kind == c.EVENTTYPE_CLOCK:
                clock, timeout_ns, flags = abi.subscription_clock.unpack_from(raw, start + 16)
                until = "until " if flags & c.SUBCLOCKFLAG_ABSTIME else ""
                found.append(f"CLOCK {names.one('clockid', clock)} {until}{timeout_ns}ns")
            else:
                (fd,) = unpack_from("<I", raw, start + 16)
                found.append(f"{names.one('eventtype', kind)} {fd}")
        if count > _SUBSCRIPTIONS:
            found.append(f"... {count - _SUBSCRIPTIONS} more")
        return tuple(found)


def start_of(memory: GuestMemory, buffers: tuple[tuple[int, int], ...], most: int) -> bytes | int:
    """The first `most` bytes of what lies in buffers; the first address that cannot be if one is wrong."""
    found = b""
    for address, length in buffers:
        try:
            found += memory.read(address, min(length, most - len(found)))
        except FsError:
            return address
        if len(found) >= most:
            break
    return found
