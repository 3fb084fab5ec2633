"""What differs between a store and what was made of it: plain data, and where the new contents are.

Two sets of names meet here: those in the base, before, and those afterwards. `Entry.path` is a name afterwards, but of
what was removed, which has none: there it is the name in the base. Whoever makes the second tree of the first one
takes out what was removed and renamed first, deepest names first, and puts in what was renamed and added then, parents
first; contents and attributes come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

from ....records import field, record
from ...base import FileType, Handle

Kind = Literal["added", "modified", "removed", "renamed", "attributes"]
KINDS: Final[tuple[Kind, ...]] = ("added", "modified", "removed", "renamed", "attributes")


class Content(Protocol):
    """The bytes of a file, wherever they are. They stay the same."""

    size: int

    def open(self) -> Handle:
        """A handle for reading. Raises IO, and STALE: they were in a store that has changed since."""
        ...


@record(frozen=True)
class Was:
    """What the base had at a path when the path was changed: what a target has to have there too.

    size: bytes of a file, of the target of a link; 0 of a directory. mtim_ns: its time, None where the store has none.
    ident: its number in the base. digest: SHA-256 of the contents of a file (of the target of a link), None: nobody has
    asked yet. below: of a directory that was removed, everything that was removed with it, by path below it.
    version: of a file, `Backend.version` of it in the base then; None: unknown.
    """

    filetype: FileType
    size: int = 0
    mtim_ns: int | None = None
    ident: int | None = None
    digest: str | None = None
    below: Mapping[str, Was] = field(default_factory=dict)
    version: str | None = None


@record(frozen=True)
class Entry:
    """One difference. Paths have `/` between names and none at their ends.

    old_path: the name in the base where it is another one: of what was renamed, and of what was changed below or after
    that (a file that got another name and other contents is two entries: "renamed", "modified"). was: what was there in
    the base; None: nothing ("added"). size: bytes afterwards. atim_ns, mtim_ns: times afterwards, None: unknown.
    content: of a file that is "added" or "modified". target: of a link that is "added" (a link is never modified: it is
    removed and added). link_to: the path, afterwards, of another name of the same file, which has the contents; such an
    entry is "added" and has no `content`.
    """

    kind: Kind
    path: str
    filetype: FileType
    old_path: str | None = None
    was: Was | None = None
    size: int = 0
    atim_ns: int | None = None
    mtim_ns: int | None = None
    content: Content | None = None
    target: str | None = None
    link_to: str | None = None


class Layer(Protocol):
    """A set of entries from which an overlay may start. Their order is by path; of one path "removed" comes first."""

    entries: tuple[Entry, ...]
