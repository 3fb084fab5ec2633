"""A store that answers from a recording: what was asked then is answered as it was, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

from ....errors import Errno, FsError, errno_of
from ....fs_backends.base import Backend, Buffer, Caps, Device, DirEntry, FileType, Handle, Key, Stat
from ....fs_backends.layers.checked import fits_a_key
from ....fs_backends.staging.pages import PAGE_BYTES
from ....fs_backends.waiting import check_time
from ..facts import ENTRY_SEPARATOR, Answer, Content, Question, raised, stat_of
from ..spool import Ref

_MISSING: Final = ("NOENT", "NOTDIR", "LOOP")
_DIRECTORY: Final = Stat(FileType.DIRECTORY, 0)


class Known:
    """What a recording knows of one mount. damage: why something of it could not be read.

    read: the bytes at a place in the file.
    """

    def __init__(self, read: Callable[[Ref], bytes]) -> None:
        self._read = read
        self.damage: FsError | None = None
        self.said: dict[Question, list[tuple[int, Answer]]] = {}
        self.contents: list[Content] = []
        self.opens: dict[Key, list[tuple[int, int | str]]] = {}

    def read(self, ref: Ref) -> bytes:
        """The bytes at a place in the file. Raises IO, CANCELED."""
        try:
            return self._read(ref)
        except FsError as error:
            self._note(error)
            raise

    def _note(self, error: FsError) -> None:
        if errno_of(error) is Errno.IO and self.damage is None:
            self.damage = error.with_traceback(None)

    def entries(self, refs: list[Ref]) -> list[DirEntry]:
        """Of a listing. Raises IO: it is none."""
        text = b"".join(map(self.read, refs))
        found: dict[str, DirEntry] = {}
        for count, line in enumerate(text.split(ENTRY_SEPARATOR) if text else ()):
            if not count & 255:
                check_time("listing")
            entry = _entry(line)
            if entry is None or entry.name in found:
                wrong = FsError(Errno.IO, "it has a listing with names that none can have, or twice")
                self._note(wrong)
                raise wrong
            found[entry.name] = entry
        return list(found.values())


def _entry(line: bytes) -> DirEntry | None:
    try:
        name, filetype, ident = json.loads(line)
        whole = type(filetype) is int and (ident is None or (type(ident) is int and 0 < ident < 1 << 64))
        return DirEntry(name, FileType(filetype), ident) if whole and fits_a_key(name) else None
    except (ValueError, TypeError, RecursionError):
        return None


class Answering(Backend):
    """differs: called with what was never asked, and ends the run. below: an overlay stands before it where a store was
    changed in place: that a directory was there is enough to answer for it."""

    only_watches = False

    def __init__(
        self, name: str, known: Known, caps: Caps, identity: object, below: bool, differs: Callable[[str], NoReturn]
    ) -> None:
        self.caps = caps
        self._name = name.rstrip("/")
        self._known = known
        self._identity = identity
        self._below = below
        self._differs = differs
        self._told: dict[Question, list[int]] = {}  # (which answer, how often it was given)
        self._opened: dict[Key, list[int]] = {}
        self._derived: Derived | None = None

    @property
    def identity(self) -> object:
        return self._identity

    def path(self, key: Key) -> str:
        return f"{self._name}/{'/'.join(key)}"

    def never(self, what: str, key: Key) -> NoReturn:
        self._differs(f"the program {what} {self.path(key)}")

    def answer(self, what: str, key: Key, names: Key = ()) -> Answer | None:
        """The next one. None: this was not asked. Raises FsError."""
        question = what, key, names
        said = self._known.said.get(question)
        if said is None:
            return None
        found: Answer = _next(said, self._told.setdefault(question, [0, 0]))
        raised(found, self.path(key + names))
        return found

    @property
    def derived(self) -> Derived:
        if self._derived is None:
            self._derived = Derived(self._known)
        return self._derived

    def _looked_up(self, key: Key) -> Stat:
        """Raises NOENT."""
        found = self.derived.look(key, self._below)
        if found is None:
            self.never("looked up", key)
        if isinstance(found, Errno):
            raise FsError(found, self.path(key))
        assert isinstance(found, Stat)
        return found

    def stat(self, key: Key) -> Stat:
        told = self.answer("stat", key)
        return self._looked_up(key) if told is None else stat_of(told["stat"])

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        told = self.answer("walk", key, names)
        if told is None:
            return super().walk(key, names)
        count, found = told["walk"]
        return count, None if found is None else stat_of(found)

    def list(self, key: Key) -> Iterable[DirEntry]:
        told = self.answer("list", key)
        if told is None:
            self.never("listed", key)
        return self._entries(key, told)

    def _entries(self, key: Key, told: Answer) -> Iterator[DirEntry]:
        yield from self._known.entries(told["list"])
        if not told["whole"]:
            self.never("looked further in the listing of", key)

    def listing_version(self, key: Key) -> int | None:
        told = self.answer("listing_version", key)
        version: int | None = None if told is None else told["version"]
        return version

    def version(self, key: Key) -> str | None:
        return None

    def readlink(self, key: Key) -> str:
        told = self.answer("readlink", key)
        if told is None:
            found = self.derived.look(key, self._below)
            if isinstance(found, Errno):
                raise FsError(found, self.path(key))
            if found is not None and found.filetype is not FileType.SYMBOLIC_LINK:
                raise FsError(Errno.INVAL, self.path(key))
            self.never("read the link", key)
        target: str = told["target"]
        return target

    def device(self, key: Key) -> Device | None:
        told = self.answer("device", key)
        if told is None:
            self.never("opened", key)
        return None if told["device"] is None else Device[told["device"]]

    def open(self, key: Key, write: bool) -> Handle:
        opens = self._known.opens.get(key)
        if not opens:
            self.never("opened", key)
        value = _next(opens, self._opened.setdefault(key, [0, 0]))
        if isinstance(value, str):
            raise FsError(Errno[value], self.path(key))
        return _AnsweringHandle(self, key, self._known.contents[value], self._known.read)


def _next(said: list[tuple[int, Any]], at: list[int]) -> Any:
    """The next answer; when all were given, the last is what the store says from then on."""
    number, times = at
    count, value = said[number]
    if times + 1 < count or number + 1 == len(said):
        at[1] = times + 1
    else:
        at[0], at[1] = number + 1, 0
    return value


class _AnsweringHandle(Handle):
    def __init__(self, owner: Answering, key: Key, content: Content, read: Callable[[Ref], bytes]) -> None:
        self._owner, self._key, self._content, self._read = owner, key, content, read

    def read_into(self, offset: int, buf: Buffer) -> int:
        exact = self._content.exact.get((offset, len(buf)))
        if isinstance(exact, str):
            raise FsError(Errno[exact], self._owner.path(self._key))
        if exact is not None:
            data = b"".join(map(self._read, exact))[: len(buf)]
            buf[: len(data)] = data
            return len(data)
        pages, done = self._content.pages, 0
        with memoryview(buf) as view:
            while done < len(view):
                number, skip = divmod(offset + done, PAGE_BYTES)
                ref = pages.get(number)
                if ref is None:
                    if number > self._last():
                        break
                    self._owner.never(f"read from byte {offset + done:,} on the file", self._key)
                page = self._read(ref)
                piece = page[skip : skip + len(view) - done]
                view[done : done + len(piece)] = piece
                done += len(piece)
                if len(page) < PAGE_BYTES:
                    break
        return done

    def _last(self) -> int:
        """The number of the last page, if that is known."""
        last = self._content.last
        return (1 << 63) if last is None else last

    def stat(self) -> Stat:
        owner, key = self._owner, self._key
        told = owner.answer("fstat", key)
        if told is not None:
            return stat_of(told["stat"])
        found = owner.derived.look(key, False)
        if not isinstance(found, Stat):
            owner.never("asked for the attributes of", key)
        return found

    def size(self) -> int:
        told = self._owner.answer("size", self._key)
        if told is None:
            return self.stat().size
        size: int = told["size"]
        return size

    def ident(self) -> int | None:
        told = self._owner.answer("ident", self._key)
        if told is None:
            return self.stat().ident
        ident: int | None = told["ident"]
        return ident

    def close(self) -> None:
        pass


class Derived:
    """What follows from what was said first: that a name is there, that it is not, what it is."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._found: dict[Key, Stat | Errno] = {}
        self._above: set[Key] = {()}
        self._listed: dict[Key, dict[str, FileType] | None] = {}
        for (what, key, names), said in known.said.items():
            answer = said[0][1]
            if what in ("stat", "fstat"):
                told = answer.get("stat")
                if told is not None:
                    self._add(key, stat_of(told))
                elif answer.get("errno") in _MISSING:
                    self._found.setdefault(key, Errno[answer["errno"]])
            elif what == "walk" and "walk" in answer:
                count, told = answer["walk"]
                found = None if told is None else stat_of(told)
                if found is not None:
                    self._add(key + names[:count], found)
                if count < len(names) and (found is None or found.filetype is FileType.DIRECTORY):
                    self._found.setdefault(key + names[: count + 1], Errno.NOENT)
            elif what == "list":
                self._above.add(key)

    def _add(self, key: Key, found: Stat) -> None:
        self._found.setdefault(key, found)
        while key and key[:-1] not in self._above:
            key = key[:-1]
            self._above.add(key)

    def _names(self, key: Key) -> dict[str, FileType] | None:
        """In the directory `key`, if it was listed as a whole."""
        if key not in self._listed:
            said = self._known.said.get(("list", key, ()))
            answer = said[0][1] if said else {}
            refs = answer.get("list") if answer.get("whole") else None
            entries = None if refs is None else self._known.entries(refs)
            self._listed[key] = None if entries is None else {entry.name: entry.filetype for entry in entries}
        return self._listed[key]

    def look(self, key: Key, below: bool) -> Stat | Errno | None:
        """Attributes, why there are none, or None: not known. below: of a directory that it is one is enough."""
        found = self._found.get(key)
        if found is not None:
            return found
        if key in self._above:
            return _DIRECTORY if below else None
        if not key:
            return None
        names = self._names(key[:-1])
        if names is not None:
            kind = names.get(key[-1])
            if kind is None:
                return Errno.NOENT
            return _DIRECTORY if below and kind is FileType.DIRECTORY else None
        return Errno.NOENT if self.look(key[:-1], below) is Errno.NOENT else None
