"""`Change`: one difference, as people see it."""

from __future__ import annotations

from typing import Any, Final

from ..fs_backends.base import FileType
from ..fs_backends.layers.overlay.entries import Entry, Kind
from ..printing import printable
from ..records import record

FILE_TYPES: Final = {
    FileType.UNKNOWN: "unknown",
    FileType.BLOCK_DEVICE: "block device",
    FileType.CHARACTER_DEVICE: "character device",
    FileType.DIRECTORY: "directory",
    FileType.REGULAR_FILE: "file",
    FileType.SOCKET_DGRAM: "datagram socket",
    FileType.SOCKET_STREAM: "stream socket",
    FileType.SYMBOLIC_LINK: "link",
}
_LETTERS: Final = {"added": "A", "modified": "M", "removed": "D", "renamed": "R", "attributes": "T"}


@record(frozen=True)
class Change:
    """One difference.

    kind: "added", "modified" (other contents), "removed" (a directory with all that was in it), "renamed" (a directory
    with all that is in it; other contents are a change of their own), "attributes" (another time). path: below the
    mount, with `/` between names and none at its ends; of what was removed the old one. file_type: "file", "directory",
    "link"; of what was in the base also "unknown", "character device" and the like. old_path: the name in the base of
    what has another one now, else None. size, old_size: bytes now and in the base, of a file; None where it has no
    contents or was not there.

    `str()` of it is one line, such as `M a.txt`, in which no name can do harm on a terminal.
    """

    kind: Kind
    path: str
    file_type: str
    old_path: str | None = None
    size: int | None = None
    old_size: int | None = None

    def __str__(self) -> str:
        slash = "/" if self.file_type == "directory" else ""
        path = printable(self.path) + slash
        if self.kind == "renamed":
            return f"R {printable(self.old_path or '')}{slash} -> {path}"
        return f"{_LETTERS[self.kind]} {path}"

    def as_dict(self) -> dict[str, Any]:
        """The fields by name: plain data."""
        return {name: getattr(self, name) for name in ("kind", "path", "file_type", "old_path", "size", "old_size")}


def change_of(entry: Entry) -> Change:
    """What people see of an entry."""
    filetype, was = entry.filetype, entry.was
    size = old_size = None
    if filetype is FileType.REGULAR_FILE and entry.kind != "removed":
        size = entry.size
    if was is not None and was.filetype is FileType.REGULAR_FILE:
        old_size = was.size
    return Change(entry.kind, entry.path, FILE_TYPES[filetype], entry.old_path, size, old_size)
