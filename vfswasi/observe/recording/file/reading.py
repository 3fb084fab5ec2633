"""Reads a recording that may have been made by anybody.

The archive is read by our own reader, with all its limits, and the manifest line by line; what it makes is counted
while it is made. Each part is compared with its digest before a byte of it is used. No name in the file is a name of
this machine: nothing is opened, fetched or written because of what it says.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import IO, Any, Final

from ....errors import Errno
from ....fs_backends.archive.tree import Directory
from ....fs_backends.archive.zip.archive import ZipArchive
from ....fs_backends.archive.zip.tree import Member
from ....fs_backends.base import FileType, Key
from ....fs_backends.budget import Budget
from ....fs_backends.charge import Charge
from ....fs_backends.layers.checked import fits_a_key
from ....fs_backends.staging.pages import PAGE_BYTES
from ....fs_backends.waiting import check_time
from ....mounts.options import guest_name
from ...saved.archived import lines, opened
from ...saved.fields import Wrong, brief, is_digest, number_of, object_of, only, required_text
from ..calls import CALL, TEXT_MAX_BYTES
from ..facts import QUESTIONS, Content
from ..spool import place_of
from ..stores.answering import Known
from ..told import MountTold
from .manifest import (
    CALLS,
    FORMAT,
    MANIFEST,
    MODULE,
    PAGES,
    SEGMENT_BYTES,
    SIZE,
    STREAMS,
    VERSION,
    check_answer,
    flag,
    is_errno,
    is_size,
    items,
    read_mount,
    read_run,
    runs,
    texts,
)
from .opened import File, Part

LINES_MAX: Final = 10_000_000
MEMORY_MAX_BYTES: Final = 1 << 30
MODULE_MAX_BYTES: Final = 512 << 20
_MEMBERS_MAX: Final = 1_000_000
_CACHE_BYTES: Final = 32 << 20
_SEGMENTS_KEPT: Final = 4
_PIECE_BYTES: Final = 1 << 20
_PAGE_COST_BYTES: Final = 120
_ERRNOS: Final = {int(errno) for errno in Errno if errno is not Errno.SUCCESS}


def load(file: str | os.PathLike[str] | IO[bytes]) -> dict[str, Any]:
    """What `Recording` is made with; see `Recording.load`."""
    budget = Budget("the memory that a recording may take", MEMORY_MAX_BYTES)
    return opened(
        file, "recording", _MEMBERS_MAX, budget, lambda archive: _Loading(archive, Charge(budget)).all(), _CACHE_BYTES
    )


class _Loading:
    def __init__(self, archive: ZipArchive, charge: Charge) -> None:
        self.file = File(archive, charge)
        self.charge = charge
        self.mounts: list[tuple[MountTold, Known]] = []
        self.inexact: list[str] = []
        self._members = self._all_members(archive)

    @staticmethod
    def _all_members(archive: ZipArchive) -> dict[str, Member]:
        index = archive.index
        found: dict[str, Member] = {}
        for name, child in index.root.children.items():
            if isinstance(child, Directory) and name == PAGES:
                below = [(f"{PAGES}/{each}", number) for each, number in child.children.items()]
            else:
                below = [(name, child)]
            for path, number in below:
                if not isinstance(number, int) or index.kind(number) is not FileType.REGULAR_FILE:
                    raise Wrong(f"it has {path[:80]!r}, which no recording has")
                found[path] = Member(index, number)
        if index.seen != len(found):
            raise Wrong("it has members twice, or that are not shown")
        return found

    def all(self) -> dict[str, Any]:
        member = self._members.pop(MANIFEST, None)
        if member is None:
            raise Wrong(f"it has no {MANIFEST}")
        told = map(object_of, lines(self.file.archive, member, self.charge, LINES_MAX, "lines"))
        head = next(told, {})
        if head.get("format") != FORMAT:
            raise Wrong("it is no recording")
        if head.get("version") != VERSION or isinstance(head["version"], bool):
            raise Wrong(f"it has version {brief(head.get('version'))} of the format, and {VERSION} is known here")
        run = read_run(next(told, {}))
        ended = False
        for number, fields in enumerate(told):
            if not number & 255:
                check_time("reading a recording")
            if ended:
                raise Wrong("its manifest goes on behind its end")
            ended = fields == {"end": True}
            if not ended:
                self._line(fields)
        if not ended:
            raise Wrong("its manifest ends too early")
        return self._whole(run)

    def _line(self, fields: dict[str, Any]) -> None:
        for name, read in _LINES.items():
            if name in fields:
                read(self, fields)
                return
        raise Wrong(f"its manifest has a line {brief(fields)}, which is not known")

    def _member(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"member", "size", "sha256"}))
        name, digest = required_text(fields, "member"), required_text(fields, "sha256")
        member = self._members.pop(name, None)
        if member is None or not is_digest(digest):
            raise Wrong(f"it has no part {name[:80]!r}, or no digest of it")
        part = self.file.parts[name] = Part(member, number_of(fields, "size", SIZE), digest)
        if name.startswith(f"{PAGES}/"):
            if name != f"{PAGES}/{self.file.pages_bytes // SEGMENT_BYTES:06}" or not 0 < part.size <= SEGMENT_BYTES:
                raise Wrong(f"the part {name[:80]!r} is not in its place, or too large")
            if self.file.pages_bytes % SEGMENT_BYTES:
                raise Wrong(f"there are parts behind {name[:80]!r} that have less than they should")
            self.file.pages_bytes += part.size
        elif name == MODULE and part.size > MODULE_MAX_BYTES:
            raise Wrong(f"its module has {part.size:,} bytes, more than {MODULE_MAX_BYTES:,}")
        elif name not in (MODULE, CALLS, *STREAMS):
            raise Wrong(f"it has a part {name[:80]!r}, which no recording has")

    def _stream(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"stream", "tty", "may_wait"}))
        name = required_text(fields, "stream")
        if name not in STREAMS or name in self.file.streams:
            raise Wrong(f"{brief(name)} is no standard stream, or stands twice")
        self.file.streams[name] = {"tty": flag(fields, "tty"), "may_wait": flag(fields, "may_wait")}

    def _of_stream(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"of", "counts", "available", "partial"}))
        stream = self.file.streams.get(required_text(fields, "of"))
        if stream is None:
            raise Wrong(f"{brief(fields['of'])} is no standard stream")
        for name in fields.keys() - {"of"}:
            more = runs(fields, name)
            if not all(value >= 0 or -value in _ERRNOS for _, value in more):
                raise Wrong(f"{name!r} has what is no errno")
            self.charge.take(len(more) * _PAGE_COST_BYTES)
            stream.setdefault(name, []).extend(more)

    def _text(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"text"}))
        try:
            text = required_text(fields, "text").encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise Wrong("a text of a call cannot be one") from None
        if len(text) > TEXT_MAX_BYTES:
            raise Wrong(f"a text of a call has more than {TEXT_MAX_BYTES:,} bytes")
        self.file.texts.append(text)

    def _mount(self, fields: dict[str, Any]) -> None:
        told = read_mount(fields)
        try:
            fits = guest_name(told.name) == told.name
        except (TypeError, ValueError):
            fits = False
        if not fits or any(told.name == other.name for other, _ in self.mounts):
            raise Wrong(f"{brief(told.name)} is no directory of a guest, or stands twice")
        known = Known(self.file.read)
        self.mounts.append((told, known))
        self.file.known = {**self.file.known, told.name: known}

    @property
    def _known(self) -> Known:
        if not self.mounts:
            raise Wrong("it says something of a mount before there is one")
        return self.mounts[-1][1]

    def _asked(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"asked", "key", "names", "said"}))
        what = required_text(fields, "asked")
        if what not in QUESTIONS:
            raise Wrong(f"{brief(what)} is no question")
        key = _key(fields, "key")
        names = _key(fields, "names") if "names" in fields else ()
        if bool(names) and what != "walk":
            raise Wrong(f"{brief(what)} is asked of no names")
        said = self._known.said.setdefault((what, key, names), [])
        for pair in items(fields, "said"):
            if not isinstance(pair, list) or len(pair) != 2 or not is_size(pair[0]) or not pair[0]:
                raise Wrong(f"{brief(pair)} is no answer")
            answer = check_answer(what, pair[1])
            if "walk" in answer and answer["walk"][0] > len(names):
                raise Wrong("a walk found more names than were looked up")
            if "list" in answer:
                for ref in answer["list"]:
                    self._check_ref(ref)
                self.charge.take(len(answer["list"]) * _PAGE_COST_BYTES)
            said.append((pair[0], answer))
        if not said:
            raise Wrong("a question has no answer")

    def _check_ref(self, ref: Any) -> None:
        position, length = place_of(ref)
        if length > PAGE_BYTES or position + length > self.file.pages_bytes:
            raise Wrong("contents lie outside of the file")

    def _content(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"content", "pages", "at", "length", "gave"}))
        contents = self._known.contents
        number = number_of(fields, "content", range(len(contents) + 1))
        if number == len(contents):
            contents.append(Content(number))
        content = contents[number]
        if "pages" in fields:
            for page, ref in runs(fields, "pages"):
                if page in content.pages or not is_size(ref) or page > SIZE.stop // PAGE_BYTES:
                    raise Wrong("a page of contents stands twice, or nowhere")
                self._check_ref(ref)
                self.charge.take(_PAGE_COST_BYTES)
                content.pages[page] = ref
                if place_of(ref)[1] < PAGE_BYTES and (content.last is None or page < content.last):
                    content.last = page
        if "at" in fields:
            gave = fields.get("gave")
            if isinstance(gave, list) and all(map(is_size, gave)):
                for ref in gave:
                    self._check_ref(ref)
            elif not is_errno(gave):
                raise Wrong(f"{brief(gave)} is nothing that a read gives")
            at = number_of(fields, "at", SIZE), number_of(fields, "length", SIZE)
            content.exact[at] = gave  # type: ignore[assignment]

    def _opened(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"opened", "gave"}))
        found = self._known.opens.setdefault(_key(fields, "opened"), [])
        for pair in items(fields, "gave"):
            if not isinstance(pair, list) or len(pair) != 2 or not is_size(pair[0]) or not pair[0]:
                raise Wrong(f"{brief(pair)} is nothing that an open gives")
            value = pair[1]
            if not is_errno(value) and not (type(value) is int and 0 <= value < len(self._known.contents)):
                raise Wrong(f"{brief(value)} is nothing that an open gives")
            self.charge.take(_PAGE_COST_BYTES)
            found.append((pair[0], value))
        if not found:
            raise Wrong("an open has no answer")

    def _inexact(self, fields: dict[str, Any]) -> None:
        only(fields, frozenset({"inexact"}))
        mount = self.mounts[-1][0].name if self.mounts else ""
        self.inexact.append(f"{mount.rstrip('/')}/{'/'.join(_key(fields, 'inexact'))}")

    def _whole(self, run: dict[str, Any]) -> dict[str, Any]:
        file = self.file
        if self._members:
            raise Wrong("it has parts that its manifest does not name")
        wanted = {CALLS, *STREAMS} - ({"stderr"} if run["joined"] else set())
        if not wanted <= file.parts.keys() or set(file.streams) != set(STREAMS):
            raise Wrong("its calls, or a standard stream, are missing")
        if run["has_module"] != (MODULE in file.parts):
            raise Wrong("its module is missing, or it says that there is none")
        if run["has_module"] and file.parts[MODULE].digest != run["module_sha256"]:
            raise Wrong("its module is not the one that it names")
        if file.parts[CALLS].size != run["calls"] * CALL.size:
            raise Wrong("it has not as many calls as it says")
        run |= {name: file.parts[name].size if name in file.parts else 0 for name in STREAMS}
        run["mounts"] = tuple(
            replace(told, files=len(known.opens), names=len(known.said)) for told, known in self.mounts
        )
        return run | {"inexact": tuple(self.inexact), "size": file.pages_bytes, "_opened": file}


def _key(fields: dict[str, Any], name: str) -> Key:
    """Raises Wrong."""
    key = texts(fields, name)
    if not all(map(fits_a_key, key)):
        raise Wrong(f"{brief(list(key))} is no place in a mount")
    return key


_LINES: Final = {
    "member": _Loading._member,
    "stream": _Loading._stream,
    "of": _Loading._of_stream,
    "text": _Loading._text,
    "mount": _Loading._mount,
    "asked": _Loading._asked,
    "content": _Loading._content,
    "opened": _Loading._opened,
    "inexact": _Loading._inexact,
}
