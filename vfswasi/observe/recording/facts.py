"""What a store has said: questions, and the answers in the order in which they came.

An answer is plain data as JSON has it, one field: {"stat": [...]}, {"errno": "NOENT"}, {"walk": [count, [...]]}, ...
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...errors import Errno, FsError, errno_of
from ...fs_backends.base import FileType, Key, Stat
from .spool import Pages, Ref, Room

# (what was asked, of which key, of which names below it)
Question = tuple[str, Key, Key]
Answer = dict[str, Any]

QUESTIONS: Final = ("stat", "walk", "list", "listing_version", "readlink", "device", "fstat", "size", "ident")
_FACT_COST_BYTES: Final = 700

ENTRY_SEPARATOR: Final = b"\n"


def of_stat(found: Stat | None) -> list[int | None] | None:
    return None if found is None else [int(found[0]), *found[1:]]


def stat_of(told: list[Any]) -> Stat:
    return Stat(FileType(told[0]), *told[1:])


def of_error(error: FsError) -> Answer:
    return {"errno": errno_of(error).name}


def raised(answer: Answer, what: str) -> None:
    """Raises FsError, if that is the answer."""
    name = answer.get("errno")
    if name is not None:
        raise FsError(Errno[name], what)


class Content:
    """What is known of the bytes of one file, as it was for a while. last: the number of its last page, if known.

    pages: number of a page -> where its bytes are; one with less than a page's bytes is the last. exact: (offset,
    length) of a read that was made so because whole pages could not be had -> where its bytes are, or the errno's name.
    settled: whatever else it has comes from the guest.
    """

    __slots__ = ("exact", "last", "number", "pages", "settled")

    def __init__(self, number: int) -> None:
        self.number = number
        self.pages: dict[int, Ref] = {}
        self.exact: dict[tuple[int, int], str | list[Ref]] = {}
        self.settled = False
        self.last: int | None = None


class Facts:
    """Of one mount. inexact: files that were changed by others while they were read."""

    def __init__(self, room: Room, pages: Pages) -> None:
        self.said: dict[Question, list[tuple[int, Answer]]] = {}
        self.contents: list[Content] = []
        self.opens: dict[Key, list[int | str]] = {}  # of each open: number of the content, or the errno's name
        self.inexact: dict[Key, None] = {}
        self.room = room
        self.pages = pages

    def note(self, question: Question, answer: Answer) -> None:
        said = self.said.get(question)
        if said is None:
            if self.room.take_memory(_FACT_COST_BYTES):
                self.said[question] = [(1, answer)]
            return
        count, last = said[-1]
        if last == answer:
            said[-1] = (count + 1, last)
        elif self.room.take_memory(_FACT_COST_BYTES):
            said.append((1, answer))

    def note_first(self, question: Question, answer: Answer) -> None:
        """What was there before the guest has changed anything."""
        if question not in self.said:
            self.note(question, answer)

    def new_content(self) -> Content:
        made = Content(len(self.contents))
        self.contents.append(made)
        return made

    def opened(self, key: Key) -> tuple[int, Content]:
        """(which open of this file it is, what is known of its bytes)."""
        opens = self.opens.setdefault(key, [])
        numbers = [value for value in opens[-1:] if isinstance(value, int)]
        content = self.contents[numbers[0]] if numbers else self.new_content()
        if self.room.take_memory(_FACT_COST_BYTES if len(opens) < 2 else 8):
            opens.append(content.number)
        return len(opens) - 1, content

    def open_failed(self, key: Key, error: FsError) -> None:
        if self.room.take_memory(_FACT_COST_BYTES):
            self.opens.setdefault(key, []).append(errno_of(error).name)

    def changed(self, key: Key, number: int, read: bool) -> Content:
        """Its bytes are others than they were. read: by this open, before."""
        if read:
            self.inexact[key] = None
        made = self.new_content()
        opens = self.opens.get(key, [])
        if number < len(opens):
            opens[number] = made.number
        return made

    def note_page(self, content: Content, number: int, data: bytes | bytearray | memoryview) -> bool:
        """False: it was there, and had something else."""
        ref = self.pages.keep(data)
        if ref is None:
            return True
        before = content.pages.get(number)
        if before is None:
            if self.room.take_memory(100):
                content.pages[number] = ref
            return True
        return before == ref

    def note_exactly(self, content: Content, offset: int, found: memoryview | FsError, length: int) -> None:
        if not self.room.take_memory(_FACT_COST_BYTES):
            return
        refs = errno_of(found).name if isinstance(found, FsError) else self.pages.keep_all(bytes(found))
        if refs is not None:
            content.exact[offset, length] = refs

    def note_list(self, question: Question, names: Iterable[bytes], whole: bool, first: bool = False) -> None:
        """names: JSON of each entry."""
        refs = self.pages.keep_all(ENTRY_SEPARATOR.join(names))
        if refs is not None:
            (self.note_first if first else self.note)(question, {"list": refs, "whole": whole})
