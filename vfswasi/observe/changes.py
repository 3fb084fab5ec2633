"""`Changes`: what differs between a mount and what it was mounted from, after a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NoReturn, Self

from ..fs_backends.layers.overlay.entries import KINDS, Entry
from .bases import Base as Base
from .change import Change as Change
from .change import change_of

# Of one path: what was there goes before something else comes.
_ORDER = {kind: at for at, kind in enumerate(("removed", "renamed", "added", "modified", "attributes"))}
assert set(_ORDER) == set(KINDS)


class Changes:
    """An immutable set of differences; iterating gives each `Change`, in the order of the paths.

    `len`, truth, and `in` (a path, or a `Change`) are those of the set. Two are equal when they make the same of the
    same: paths, kinds, sizes, times and contents are equal; where they were made does not count; contents are read for
    that where all else is equal, which raises FsError if they are gone. `str()` is the list that people know, a line
    for each. New contents stay where they are until somebody asks for them.

    entries: the differences with their contents; base: what they were made on, None: unknown.
    """

    entries: tuple[Entry, ...]
    base: Base | None

    def __init__(self, entries: Iterable[Entry], base: Base | None = None) -> None:
        ordered = sorted(entries, key=lambda entry: (entry.path.split("/"), _ORDER[entry.kind]))
        self.__dict__.update(entries=tuple(ordered), base=base)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"changes are immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"changes are immutable: cannot delete {name!r}")

    def __iter__(self) -> Iterator[Change]:
        return map(change_of, self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, item: object) -> bool:
        """Whether a path (`str` or `PurePath`) has changed, or this very `Change` is there."""
        if isinstance(item, Change):
            return any(change == item for change in self)
        if isinstance(item, str | os.PathLike):
            from .contents import plain_path

            path = plain_path(item)
            return any(entry.path == path for entry in self.entries)
        return False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Changes):
            return NotImplemented
        from .contents import same

        return self is other or same(self.entries, other.entries)

    def __hash__(self) -> int:
        return hash(tuple((entry.kind, entry.path, entry.old_path, entry.size) for entry in self.entries))

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def __repr__(self) -> str:
        from .views import changes_text

        return changes_text(self, self.base)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from .views import changes_html

        return changes_html(self, self.base)

    def as_dict(self) -> dict[str, Any]:
        """Plain data: `{"base": text or None, "changes": [{"kind", "path", "file_type", "old_path", "size",
        "old_size"}, ...]}`, as in `Change`."""
        return {
            "base": None if self.base is None else self.base.text,
            "changes": [change.as_dict() for change in self],
        }

    def to_json(self, indent: int | None = None) -> str:
        """`as_dict()` as JSON text."""
        import json

        return json.dumps(self.as_dict(), indent=indent)

    def read_bytes(self, path: str | os.PathLike[str]) -> bytes:
        """What is in a file that is new or has other contents.

        Raises FileNotFoundError (no such change, or the contents are those of the base), IsADirectoryError, FsError
        (IO, STALE: the contents are gone), ValueError ("..").
        """
        from .contents import read_new

        return read_new(self.entries, path)

    def diff(self, base: Any = None) -> str:
        """A unified diff, as git writes it. base: what the changes were made on, or a copy of it: whatever can be
        mounted; None: `self.base`.

        Files of text have their lines; of others, and of those with more than 1 MiB, one line says that they differ,
        and so it does where the old contents are not at hand or are not what they were. When the text has 64 MiB, all
        that is left has one line each. The text is for programs, and holds what the files hold: escape it for a
        terminal. Raises MountError (a base that was given cannot be opened), TypeError, FsError (contents are gone).
        """
        return "".join(self.iter_diff(base))

    def iter_diff(self, base: Any = None) -> Iterator[str]:
        """`diff` in pieces."""
        from .diff.files import pieces_of

        return pieces_of(self.entries, self.base, base)

    def save(self, file: str | os.PathLike[str] | IO[bytes]) -> None:
        """Write all of it, contents too, to a file (see docs/changes.md for the format).

        A path is written beside and renamed then, so that no half of it is ever there; what was there is replaced. The
        old contents of files are read from the base, where that is still what it was, for their digests, so that the
        changes can be applied to copies of it. Equal changes of the same base give the same bytes.
        Raises OSError, TypeError, FsError (contents are gone).
        """
        from .saved.writing import save

        save(self.entries, self.base, file)

    @classmethod
    def load(cls, file: str | os.PathLike[str] | IO[bytes]) -> Self:
        """What `save` has written, by a path or as a seekable binary file, which stays open and alone as long as the
        changes are used. Contents stay in the file, and are looked at when they are opened.

        Raises OSError, TypeError, MountError (it is no such file, corrupt, or not to be believed: the message says
        what).
        """
        from .saved.reading import load

        return cls(*load(file))

    def apply(self, target: Any = None, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Make the same changes in `target`, as a whole as far as it can be done (docs/apply.md says how far, for each
        kind of target). Nothing is done if they are all there already.

        target: whatever can be mounted and written to; None: what the changes were made on. progress: called with what
        is done, and what is to be done in all.

        Raises ConflictError (the target is not what the changes were made on; its `conflicts` say where; nothing was
        written), ApplyError (it failed; its `done` and `left` say how far it came), MountError, TypeError.
        """
        from .applying.apply import apply

        apply(self, target, progress)

    def __reduce__(self) -> tuple[Any, ...]:
        """It travels with its contents, which are in memory then, and as the text of its base."""
        from .saved.writing import saved_bytes

        return _arrived, (type(self), saved_bytes(self.entries, self.base))


def _arrived(kind: type[Changes], data: bytes) -> Changes:
    from io import BytesIO

    return kind.load(BytesIO(data))
