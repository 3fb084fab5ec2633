"""Calls that were refused, and what would allow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...errors import Errno
from ..refusals import Refusal
from ..trace.call import Call
from .given import Given
from .words import Cell, Column, Table, foreign, left_out, number

ROWS_MAX: Final = 60
_TOLD_MAX: Final = 400  # characters of a sentence

# What the guest cannot help, beside what a program asks to find out, such as whether a file is there.
REFUSED: Final = frozenset(
    {
        *(Errno.ROFS, Errno.NOTCAPABLE, Errno.PERM, Errno.ACCES, Errno.DQUOT, Errno.NOSPC, Errno.FBIG, Errno.MFILE),
        *(Errno.NOMEM, Errno.NAMETOOLONG, Errno.NOTSUP, Errno.IO, Errno.STALE, Errno.XDEV),
    }
)
_LIMITS: Final = {
    Errno.FBIG: ("file_bytes",),
    Errno.MFILE: ("descriptors",),
    Errno.NAMETOOLONG: ("path_bytes", "name_bytes", "depth"),
    Errno.NOMEM: ("buffer_bytes", "directory_entries"),
    Errno.DQUOT: ("inodes", "mount_bytes", "stored_bytes", "remote_requests", "remote_bytes"),
}
_READ_ONLY: Final = "{} is read-only: with rw the program may change it, with overlay it may write and the source stays"
_OTHERS: Final = {
    Errno.PERM: "not allowed on this kind of file",
    Errno.ACCES: "the store does not let this process do that, or it is a device, a socket or a FIFO",
    Errno.NOTSUP: "{} cannot do that; with overlay most of it can be done in front of it",
    Errno.IO: "the store of {} has failed",
    Errno.STALE: "somebody else has changed it in the store of {} meanwhile",
    Errno.XDEV: "it lies in two mounts",
}


def is_refused(call: Call) -> bool:
    return call.errno in REFUSED or call.injected


def refusals(calls: Sequence[Call], given: Given | None, result: Any) -> Table | None:
    """The refused calls, equal ones together, and what the result knows of others."""
    known = {(each.call, each.path, each.errno): each for each in result.refusals}
    found: dict[tuple[str, Errno | None, str | None, bool], list[Call]] = {}
    for call in calls:
        if is_refused(call):
            found.setdefault((call.name, call.errno, call.path, call.injected), []).append(call)
    if not found and not known:
        return None
    groups = list(found.values())
    rows = []
    for group in groups[:ROWS_MAX]:
        call = group[0]
        errno = call.errno.name if call.errno is not None else ""
        told = known.pop((call.name, call.path, call.errno), None)
        rows.append(
            [
                Cell(foreign(call.name)),
                Cell("" if call.path is None else foreign(call.path)),
                Cell(errno, tone="bad"),
                number(len(group)),
                Cell(advice(call, given, result.usage) if told is None else _words(call, told, given)),
            ]
        )
    for told in list(known.values())[:ROWS_MAX]:
        path = "" if told.path is None else foreign(told.path)
        call = Call(told.call, path=told.path, mount=told.mount, errno=told.errno)
        why = Cell(_words(call, told, given))
        rows.append([Cell(foreign(told.call)), Cell(path), Cell(told.errno.name, tone="bad"), Cell(""), why])
    columns = [
        *(Column("Call", "code"), Column("Path", "code"), Column("Error", "code"), Column("Times", "number")),
        Column("What it takes"),
    ]
    note = left_out(min(len(groups), ROWS_MAX), len(groups), "kinds of refusals")
    return Table("refusals", "Calls that were refused", columns, rows, note)


def advice(call: Call, given: Given | None, usage: Any = None) -> str:
    """What would allow it, in plain words."""
    errno, mount = call.errno, foreign(call.mount or "", 60)
    if call.injected:
        return "the run was told to fail here"
    if errno is None:
        return ""
    if errno is Errno.ROFS:
        return _READ_ONLY.format(mount or "the mount")
    if errno is Errno.NOTCAPABLE:
        return _not_capable(call, mount, _way(call, given))
    if errno is Errno.NOSPC:
        return _no_space(call)
    if errno in _LIMITS:
        return _limit(_LIMITS[errno], given, usage)
    return _OTHERS.get(errno, "").format(mount or "the store")


def _words(call: Call, told: Refusal, given: Given | None) -> str:
    """Of a refusal of which more is known. What is to be done about a mount is said for Python and the command line
    alike."""
    if call.injected or (told.readonly and told.errno is Errno.ROFS):
        return advice(call, given)
    return foreign(str(told), _TOLD_MAX)


def _way(call: Call, given: Given | None) -> str:
    mounts = () if given is None or given.mounts is None else given.mounts
    return next((way for name, way, _ in mounts if name == call.mount), "")


def _not_capable(call: Call, mount: str, way: str) -> str:
    path = call.path or ""
    inside = call.mount is not None and (path == call.mount or path.startswith(call.mount.rstrip("/") + "/"))
    if call.path is not None and (not inside or ".." in path.split("/")):
        return "it leads out of what is mounted; a program gets only what a mount shows: mount what it needs"
    if way == "ro":
        return _READ_ONLY.format(mount)
    if call.path is not None and "rights_base" not in call.name and call.name.startswith("path_"):
        return (
            "it leads out of the directory that it starts in, by a link or ..; or it asks for more rights than that has"
        )
    return "the file was not opened for that"


def _no_space(call: Call) -> str:
    if call.arguments.get("fd") in (1, 2):
        return "a limit: Limits.output_bytes, for captured output"
    return "a limit: Limits.memory_files_bytes, for files of a mount in memory; or the store is full"


def _limit(names: Sequence[str], given: Given | None, usage: Any) -> str:
    """Which limit it is: the one that was reached, if that can be seen, else all that it may be."""
    limits = None if given is None else given.limits
    reached = [name for name in names if limits is not None and _is_reached(name, limits, usage)]
    which = reached or [*names]
    told = [f"Limits.{name} ({getattr(limits, name):,})" if limits is not None else f"Limits.{name}" for name in which]
    return "a limit: " + " or ".join(told)


def _is_reached(name: str, limits: Any, usage: Any) -> bool:
    used = getattr(usage, name, None)
    return used is not None and used >= getattr(limits, name)
