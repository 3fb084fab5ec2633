"""Each change as git writes it in a diff: headers with names, then hunks, or one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from ...errors import FsError, MountError, errno_of
from ...fs_backends.base import FileType
from ...fs_backends.layers.overlay.entries import Content, Entry, Was
from ...fs_backends.waiting import check_time
from ...printing import printable, without_secrets
from ..bases import Base, base_of
from ..contents import pieces
from ..old import NotThere, OldContents
from .lines import Effort, hunks

FILE_MAX_BYTES: Final = 1 << 20
TEXT_MAX_BYTES: Final = 64 << 20
_FILE, _LINK = "100644", "120000"
_NOTHING = "/dev/null"

T = TypeVar("T")


def pieces_of(entries: Sequence[Entry], base: Base | None, given: Any) -> Iterator[str]:
    """See `Changes.diff`. Raises MountError, TypeError, FsError."""
    with ExitStack() as stack:
        old, why = OldContents(None), ""
        if given is not None:
            old = OldContents(stack.enter_context(base_of(given).open()))
        elif base is not None and any(entry.was is not None for entry in entries):
            try:
                old = OldContents(stack.enter_context(base.open()))
            except (MountError, FsError, OSError, TypeError, ValueError) as error:
                why = printable(without_secrets(str(error)))
        yield from _Diff(entries, old, why).all()


class _Unshown(Exception):
    """Why one side has no lines."""


class _Diff:
    def __init__(self, entries: Sequence[Entry], old: OldContents, why: str) -> None:
        self._entries = entries
        self._old = old
        self._why = why
        self._written = 0
        self._effort = Effort()
        self._others = {entry.path: entry for entry in entries if entry.kind == "added" and entry.content is not None}
        self._modified = {entry.path for entry in entries if entry.kind == "modified"}

    def all(self) -> Iterator[str]:
        for entry in self._entries:
            check_time("comparing files")
            text = "".join(self._one(entry))
            self._written += len(text)
            yield text

    def _one(self, entry: Entry) -> Iterator[str]:
        kind, filetype = entry.kind, entry.filetype
        if kind == "attributes":
            return
        if kind == "renamed" and filetype is FileType.DIRECTORY:
            yield f"Renamed directory: {_quoted('a/' + (entry.old_path or ''))} -> {_quoted('b/' + entry.path)}\n"
        elif kind == "renamed":
            if entry.path not in self._modified:
                yield from self._header(entry)
        elif kind == "removed" and filetype is FileType.DIRECTORY:
            yield from self._removed_below(entry)
        elif filetype is FileType.REGULAR_FILE or filetype is FileType.SYMBOLIC_LINK:
            yield from self._compared(entry)
        elif filetype is not FileType.DIRECTORY:
            yield f"Removed: {_quoted('a/' + entry.path)}, which is neither a file nor a link\n"

    def _removed_below(self, entry: Entry) -> Iterator[str]:
        assert entry.was is not None
        for path, was in sorted(entry.was.below.items()):
            if was.filetype is not FileType.DIRECTORY:
                whole = f"{entry.path}/{path}"
                for text in self._one(Entry("removed", whole, was.filetype, was=was)):
                    self._written += len(text)
                    yield text

    def _compared(self, entry: Entry) -> Iterator[str]:
        old_name = _NOTHING if entry.was is None else _quoted("a/" + (entry.old_path or entry.path))
        new_name = _NOTHING if entry.kind == "removed" else _quoted("b/" + entry.path)
        try:
            if self._written > TEXT_MAX_BYTES:
                raise _Unshown("not shown, the text is too long")
            before = "" if entry.was is None else self._before(entry.old_path or entry.path, entry.was)
            after = "" if entry.kind == "removed" else self._after(entry)
        except _Unshown as unshown:
            yield f"{_differ(old_name, new_name)}: {unshown}\n"
            return
        if before is None or after is None:
            # Without the lines of a header, which `git apply` would take for that of the next file.
            yield f"Binary files {old_name} and {new_name} differ\n"
            return
        yield from self._header(entry)
        if before != after:
            yield f"--- {_ended(old_name)}\n+++ {_ended(new_name)}\n"
            yield from hunks(_split(before), _split(after), self._effort)

    def _header(self, entry: Entry) -> Iterator[str]:
        old_path, path = entry.old_path or entry.path, entry.path
        yield f"diff --git {_quoted('a/' + old_path)} {_quoted('b/' + path)}\n"
        mode = _LINK if entry.filetype is FileType.SYMBOLIC_LINK else _FILE
        if entry.kind == "added":
            yield f"new file mode {mode}\n"
        elif entry.kind == "removed":
            yield f"deleted file mode {mode}\n"
        elif old_path != path:
            if entry.kind == "renamed":
                yield "similarity index 100%\n"
            yield f"rename from {_quoted(old_path)}\nrename to {_quoted(path)}\n"

    def _before(self, path: str, was: Was) -> str | None:
        """The text; None, if it is none. Raises _Unshown, FsError (CANCELED)."""
        if was.filetype is FileType.SYMBOLIC_LINK:
            return self._asked(lambda: self._old.target(path, was))
        if was.size > FILE_MAX_BYTES:
            raise _Unshown(f"not shown, there were {was.size:,} bytes")
        return _text(self._asked(lambda: self._old.read(path, was)))

    def _asked(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except NotThere as error:
            raise _Unshown(f"the old contents are not at hand: {self._why or error}") from error

    def _after(self, entry: Entry) -> str | None:
        """As `_before`. Raises FsError too."""
        if entry.target is not None:
            return entry.target
        content: Content | None = entry.content
        if entry.link_to is not None:
            other = self._others.get(entry.link_to)
            if other is None or other.content is None:
                raise _Unshown(f"another name of {_quoted(entry.link_to)}")
            content = other.content
        assert content is not None
        if content.size > FILE_MAX_BYTES:
            raise _Unshown(f"not shown, there are {content.size:,} bytes")
        try:
            return _text(b"".join(pieces(content)))
        except FsError as error:
            error.detail = error.detail or f"the contents of {entry.path!r} cannot be read: {errno_of(error).name}"
            raise


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _split(text: str) -> list[str]:
    """At newlines alone: `splitlines` knows a dozen others, which no `patch` does."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _differ(old_name: str, new_name: str) -> str:
    return f"Files {old_name} and {new_name} differ"


def _ended(name: str) -> str:
    """`patch` takes what stands behind a blank for a time, unless a tab comes first."""
    return name + "\t" if " " in name and not name.startswith('"') else name


_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b"}


def _quoted(name: str) -> str:
    """As git does, where a name has other characters than those that can be seen."""
    if name.isprintable() and '"' not in name and "\\" not in name:
        return name
    parts = []
    for ch in name:
        if ch in _ESCAPES:
            parts.append(_ESCAPES[ch])
        elif ch.isprintable():
            parts.append(ch)
        else:
            parts.extend(f"\\{byte:03o}" for byte in ch.encode("utf-8", "surrogatepass"))
    return '"' + "".join(parts) + '"'
