"""What a guest's descriptors and paths stand for, as its own whole paths."""

from __future__ import annotations

from posixpath import normpath
from typing import Any, Final, NamedTuple

from ..descriptor import OpenDirectory, OpenFile
from ..streams.devices import OpenDevice
from ..streams.stream import Stream

TEXT_MAX: Final = 512  # characters of a text that is kept
TEXT_BYTES: Final = 4 * TEXT_MAX + 1  # that have so many characters, and show whether there are more


class Place(NamedTuple):
    """shown: what a descriptor is called. path: the guest's whole path of it, or None: it has no name. mount: the guest
    directory that it lies in, or None."""

    shown: str
    path: str | None = None
    mount: str | None = None


def cut(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "..."


def decoded_text(raw: bytes) -> str:
    """What a guest calls something, also if it is no UTF-8."""
    return raw.decode("utf-8", "backslashreplace")


def place_of(descriptor: Any) -> Place | None:
    """Of what stands behind a number; None: nothing does."""
    if isinstance(descriptor, OpenDirectory | OpenFile):
        mount, key = descriptor.mount.name, descriptor.inode.key
        if key is None:
            return Place("(removed)", None, mount)
        path = cut("/".join((mount.rstrip("/"), *key)) or "/")
        return Place(path, path, mount)
    if isinstance(descriptor, Stream):
        serial = descriptor.serial
        return Place(("stdin", "stdout", "stderr")[serial] if serial < 3 else "stream")
    if isinstance(descriptor, OpenDevice):
        return Place(descriptor.device.name.lower())
    return None


def below(base: str, text: str) -> str:
    """Where a path leads that is looked up in the directory `base`, as far as its text says."""
    whole = text if text.startswith("/") else f"{base}/{text}"
    return "/" + normpath(whole).lstrip("/") if whole.startswith("/") else normpath(whole)
