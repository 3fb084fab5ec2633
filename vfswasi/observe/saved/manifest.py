"""The manifest: a line of JSON for the whole, and one for each entry. docs/changes.md has the format field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ...fs_backends.base import FileType
from ...fs_backends.layers.overlay.entries import KINDS, Content, Entry, Was
from ..change import FILE_TYPES
from .fields import Wrong, brief, is_digest, line_of, number_of, object_of, only, required_text, text_of

FORMAT: Final = "vfswasi changes"
VERSION: Final = 1
MANIFEST: Final = "manifest.jsonl"
CONTENTS: Final = "contents"
BASE_TEXT_MAX: Final = 4096

_TYPES: Final = {name: filetype for filetype, name in FILE_TYPES.items()}
_SIZE_MAX = (1 << 63) - 1
_TIMES = range(-(1 << 63), 1 << 64)
_WAS_FIELDS = frozenset({"type", "size", "mtim_ns", "ident", "digest"})
_FIELDS = frozenset(
    {"kind", "path", "type", "old_path", "was", "size", "atim_ns", "mtim_ns", "content", "target", "link_to"}
)


# Written


def lines(entries: list[tuple[Entry, str | None]], base: str | None) -> Iterator[bytes]:
    """entries: each with the digest of its contents."""
    yield line_of({"format": FORMAT, "version": VERSION, "base": base, "entries": len(entries)})
    for entry, digest in entries:
        was = None
        if entry.was is not None:
            was = _was(entry.was)
            if entry.was.below:
                was["below"] = len(entry.was.below)
        yield line_of(
            {
                "kind": entry.kind,
                "path": entry.path,
                "type": FILE_TYPES[entry.filetype],
                "size": entry.size,
                **_present(
                    old_path=entry.old_path,
                    atim_ns=entry.atim_ns,
                    mtim_ns=entry.mtim_ns,
                    content=digest,
                    target=entry.target,
                    link_to=entry.link_to,
                    was=was,
                ),
            }
        )
        if entry.was is not None:
            for path, below in sorted(entry.was.below.items()):
                yield line_of({"below": path, **_was(below)})


def _was(was: Was) -> dict[str, Any]:
    return {
        "type": FILE_TYPES[was.filetype],
        "size": was.size,
        **_present(mtim_ns=was.mtim_ns, ident=was.ident, digest=was.digest),
    }


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# Read


def read(found: Iterator[bytes], content_of: Callable[[str], Content]) -> tuple[str | None, Iterator[Entry]]:
    """(text of the base, the entries). content_of: raises Wrong for a digest that has no contents.

    Raises Wrong, also while the entries come. Types and values are those that an entry can have; whether they fit each
    other is looked at by `checking`.
    """
    first = next(found, None)
    if first is None:
        raise Wrong("its manifest is empty")
    head = object_of(first)
    if head.get("format") != FORMAT:
        raise Wrong("its manifest is not one of changes")
    if head.get("version") != VERSION or isinstance(head["version"], bool):
        raise Wrong(f"it has version {brief(head.get('version'))} of the format, and {VERSION} is known here")
    only(head, frozenset({"format", "version", "base", "entries"}))
    base = head.get("base")
    if base is not None and not (isinstance(base, str) and len(base) <= BASE_TEXT_MAX):
        raise Wrong("what it says of its base is no short text")
    return base, _entries(found, number_of(head, "entries", range(_SIZE_MAX)), content_of)


def _entries(found: Iterator[bytes], count: int, content_of: Callable[[str], Content]) -> Iterator[Entry]:
    for _ in range(count):
        line = next(found, None)
        if line is None:
            raise Wrong("its manifest ends too early")
        yield _entry(object_of(line), found, content_of)
    if next(found, None) is not None:
        raise Wrong("its manifest goes on behind the last entry")


def _entry(fields: dict[str, Any], found: Iterator[bytes], content_of: Callable[[str], Content]) -> Entry:
    only(fields, _FIELDS)
    kind = fields.get("kind")
    if kind not in KINDS:
        raise Wrong(f"{brief(kind)} is no kind of change")
    digest = text_of(fields, "content")
    told = fields.get("was")
    if told is not None and not isinstance(told, dict):
        raise Wrong("'was' is no object")
    return Entry(
        kind,
        required_text(fields, "path"),
        _type(fields),
        text_of(fields, "old_path"),
        None if told is None else _read_was(told, found),
        number_of(fields, "size", range(_SIZE_MAX)),
        _time(fields, "atim_ns"),
        _time(fields, "mtim_ns"),
        None if digest is None else content_of(digest),
        text_of(fields, "target"),
        text_of(fields, "link_to"),
    )


def _read_was(told: dict[str, Any], found: Iterator[bytes]) -> Was:
    only(told, _WAS_FIELDS | {"below"})
    below: dict[str, Was] = {}
    count = number_of(told, "below", range(_SIZE_MAX)) if "below" in told else 0
    for _ in range(count):
        line = next(found, None)
        if line is None:
            raise Wrong("its manifest ends too early")
        fields = object_of(line)
        only(fields, _WAS_FIELDS | {"below"})
        path = required_text(fields, "below")
        if path in below:
            raise Wrong(f"{brief(path)} stands twice in one directory that was removed")
        below[path] = _one_was(fields)
    return _one_was(told, below)


def _one_was(fields: dict[str, Any], below: Mapping[str, Was] | None = None) -> Was:
    digest = text_of(fields, "digest")
    if digest is not None and not is_digest(digest):
        raise Wrong(f"{brief(digest)} is no SHA-256")
    ident = number_of(fields, "ident", range(1, 1 << 64)) if "ident" in fields else None
    size = number_of(fields, "size", range(_SIZE_MAX))
    return Was(_type(fields), size, _time(fields, "mtim_ns"), ident, digest, below or {})


def _time(fields: dict[str, Any], name: str) -> int | None:
    return number_of(fields, name, _TIMES) if fields.get(name) is not None else None


def _type(fields: dict[str, Any]) -> FileType:
    value = fields.get("type")
    found = _TYPES.get(value) if isinstance(value, str) else None
    if found is None:
        raise Wrong(f"{brief(value)} is no type of file")
    return found
