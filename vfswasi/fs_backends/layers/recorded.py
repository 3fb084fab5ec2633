"""What one run changes in a store that is changed in place: a layer that keeps account and stands in nobody's way.

Only what changes the store comes by here; everything else is the store's own method. New files are the usual case, so
that they are only remembered by name; what else becomes of names is kept in a `Ledger`, made at the first such change.
What was open for writing is compared with what it was, once, when the run is over.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ...errors import FsError
from ..base import Backend, FileType, Handle, Key, Stat

if TYPE_CHECKING:
    from .ledger import Again, Ledger
    from .overlay.entries import Entry


class Book:
    """What is known of the changes of one run to one store; mounts that show the same store share it.

    store: it. private: nobody else has it, so that there is no hurry to look at it. again: how to come to it when it
    is closed; None: it is not. born: names of files that are new, unless the ledger knows them.
    """

    def __init__(self, store: Backend, private: bool = False, again: Again | None = None) -> None:
        self.store = store
        self.born: dict[Key, None] = {}
        self._private = private
        self._again = again
        self._ledger: Ledger | None = None
        self._settled = False
        self._unknown = False

    @property
    def unknown(self) -> bool:
        """Whether it could not be found out what was changed: the run's time was over, or the store failed."""
        return self._unknown

    @property
    def touched(self) -> bool:
        return bool(self.born) or self._ledger is not None

    @property
    def ledger(self) -> Ledger:
        ledger = self._ledger
        if ledger is None:
            from .ledger import Ledger  # most runs change nothing, or make files

            ledger = self._ledger = Ledger(self.store)
        return ledger

    def look(self, key: Key) -> Stat | None:
        """What is there before something is done to it; None: nothing, or the store will say why not."""
        try:
            return self.store.stat(key)
        except (FsError, MemoryError):
            return None

    def settle_names(self, *keys: Key) -> None:
        """The ledger hears of the new files at or below the keys."""
        born = self.born
        if not born:
            return
        for key in keys:
            if key in born:
                del born[key]
                self.ledger.add_file(key)
        for key in [name for name in born if any(name[: len(key)] == key for key in keys)]:
            del born[key]
            self.ledger.add_file(key)

    def over(self, kept: bool) -> None:
        """The run is over. kept: the store has what was changed."""
        if not kept:
            self.born.clear()
            self._ledger = None
        elif not self._private and self.touched:
            try:
                self._settle()
            except (FsError, MemoryError):
                self._unknown = True

    def _settle(self) -> None:
        if self._settled:
            return
        self.settle_names(())
        from .ledger import Here

        self.ledger.settle(Here(self.store) if self._again is None else self._again)
        self._settled = True

    def entries(self) -> tuple[Entry, ...]:
        """What is different, in the order of the paths. Asked for when the run is over."""
        if not self.touched:
            return ()
        from .overlay.difference import difference

        self._settle()
        return tuple(difference(self.ledger))


class Recorded(Backend):
    """`inner`, with an account of what is changed through this object.

    book: where the account is kept; None: a new one. base: what changes are said to be made on.
    """

    def __init__(self, inner: Backend, book: Book | None = None, base: Any = None) -> None:
        self.inner = inner
        self.caps = inner.caps
        self.book = Book(inner) if book is None else book
        self.base = base
        self._born = self.book.born
        self._forget: Callable[[Key, Key], Key | None] = self._born.pop
        self._create, self._remove, self._open = inner.create, inner.remove, inner.open
        self.__dict__.update(zip(_PASSED, _methods_of(inner), strict=True))

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def create(self, key: Key) -> Handle:
        handle = self._create(key)
        self._born[key] = None
        return handle

    def open(self, key: Key, write: bool) -> Handle:
        if not write or key in self._born:
            return self._open(key, write)
        ledger = self.book.ledger
        handle = self._open(key, True)
        try:
            ledger.open_file(key, handle.true_stat())
        except BaseException:
            handle.discard()
            raise
        return handle

    def remove(self, key: Key) -> None:
        # To look first and to delete then takes 0.04 us more.
        if self._forget(key, key) is None:
            try:
                self._remove(key)
            except BaseException:
                self._born[key] = None
                raise
            return
        ledger, found = self.book.ledger, self.book.look(key)
        self._remove(key)
        ledger.take_away(key, found)

    def mkdir(self, key: Key) -> None:
        ledger = self.book.ledger
        self.inner.mkdir(key)
        ledger.add_directory(key)

    def rmdir(self, key: Key) -> None:
        ledger, found = self.book.ledger, self.book.look(key)
        self.inner.rmdir(key)
        ledger.take_away(key, found)

    def rename(self, old: Key, new: Key) -> None:
        book = self.book
        ledger, found, over = book.ledger, book.look(old), book.look(new)
        if self._born and found is not None:
            if found.filetype is FileType.DIRECTORY:
                book.settle_names(old, new)
            else:
                for key in (old, new):
                    if key in self._born:
                        book.settle_names(key)
        self.inner.rename(old, new)
        if old == new or (found and over and over.ident is not None and over.ident == found.ident):
            return  # nothing has moved
        ledger.move(old, new, found, over)

    def symlink(self, target: str, key: Key) -> None:
        ledger = self.book.ledger
        self.inner.symlink(target, key)
        ledger.add_link(target, key)

    def link(self, old: Key, new: Key) -> None:
        book = self.book
        if old in self._born:
            book.settle_names(old)
        ledger, found = book.ledger, book.look(old)
        self.inner.link(old, new)
        ledger.add_name(old, new, found)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        if key in self._born:
            self.inner.set_times(key, atim_ns, mtim_ns)
            return
        ledger, found = self.book.ledger, self.book.look(key)
        self.inner.set_times(key, atim_ns, mtim_ns)
        ledger.date(key, found)

    def note_times(self, key: Key) -> None:
        if key not in self._born:
            self.book.ledger.date(key, self.book.look(key))

    def finish(self, keep: bool) -> None:
        if not self.book.touched:
            self.inner.finish(keep)
            return
        whole = publishes_as_a_whole(self.inner)
        kept = keep or not whole
        self.book.over(kept)
        try:
            self.inner.finish(keep)
        except BaseException:
            if whole:
                self.book.over(False)
            raise


def publishes_as_a_whole(backend: Backend) -> bool:
    """Whether a store has what was changed only when `finish` has said so."""
    from .picked import Picked

    while isinstance(inner := getattr(backend, "inner", None), Backend):
        backend = inner
    if isinstance(backend, Picked):
        return any(publishes_as_a_whole(file) for file in backend.stores())
    return type(backend).finish is not Backend.finish


# What a layer does not know of, it hands on.
_PASSED = [name for name in vars(Backend) if not name.startswith("_") and name not in {*vars(Recorded), "caps"}]
_methods_of: Callable[[Backend], tuple[Any, ...]] = attrgetter(*_PASSED)
