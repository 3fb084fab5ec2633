"""The working directory of a guest, which WASI does not have: what C libraries make of one."""

from __future__ import annotations

import posixpath

from ...abi import constants as c
from ...errors import Errno, FsError
from .. import rights
from ..descriptor import OpenDirectory
from ..process import Process
from .open import open_at

_FIRST = 3  # preopens begin behind the standard streams


def enter(process: Process, path: str) -> None:
    """Let relative paths begin at the directory `path`, an absolute one: a further preopen "." that leads there.

    A C library (wasi-libc, which Rust uses too) completes a relative path with the preopen of the longest name that
    fits, and "." and "/" fit all; so where one of these is mounted already nothing is added, since absolute paths would
    begin at "." as well. The guest cannot leave "." by ".."; where it cannot write or read, it cannot here.

    Raises FsError: NOENT (no mount has it, or it is not there), NOTDIR, and what the store raises.
    """
    path = posixpath.normpath("/" + path.lstrip("/"))
    found: tuple[int, OpenDirectory, str] | None = None
    names = []
    for fd in range(_FIRST, process.fds.peak):
        directory = process.fds.look(fd)
        if not isinstance(directory, OpenDirectory) or directory.preopen is None:
            break
        name = posixpath.normpath("/" + directory.preopen.decode()).replace("//", "/")
        names.append(name)
        inside = path == name or path.startswith(name.rstrip("/") + "/")
        if inside and (found is None or len(name) > len(found[2])):
            found = fd, directory, name
    if found is None:
        raise FsError(Errno.NOENT, "it is in no mount")
    fd, directory, name = found
    base = directory.inheriting & rights.DIRECTORY
    below = path[len(name) :].strip("/") or "."
    opened = open_at(process, fd, True, below, c.OFLAG_DIRECTORY, base, directory.inheriting, 0)
    if "/" in names:
        process.fds.close(opened)
        return
    entered = process.fds.look(opened)
    assert isinstance(entered, OpenDirectory)
    entered.preopen = b"."
