"""`WasmSnapshot`: what the fixture `wasm_snapshot` is; `Snapshot`: one of them, which is equal to what it holds."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import vfswasi

from ....printing import counted
from ..session import Session
from ..told import Told
from .calls import golden
from .differences import Difference, differences, lines_of
from .storing import store
from .trees import FromDisk, Table, table_of

FLAG: Final = "pytest --wasm-update"
# pytest shows so much of an explanation unless it is asked for more.
_SHORT_LINES, _SHORT_CHARACTERS = 7, 600
_LISTED: Final = 4
_LINES_MAX: Final = 200
_NAME: Final = re.compile(r"[^\W_][\w .,=+@()\[\]-]*")


class WasmSnapshot:
    """Gives snapshots by name; one for each test."""

    def __init__(self, session: Session, told: Told, path: Path, test: str) -> None:
        """path: of the test's file. test: its id."""
        self._session, self._told, self._test = session, told, test
        self._root = path.parent / "snapshots"
        self._directory = self._root / path.stem

    def __repr__(self) -> str:
        return "<wasm_snapshot>"

    def __call__(self, name: str) -> Snapshot:
        """What is kept under a name: snapshots/<name of the test's file>/<name>, beside the test.

        It is equal to a tree (`result.files`, `result.files["/out"]`) if it is a directory with the same files, to text
        or bytes (`result.stdout`) if it is a file with them, and to `result.trace` if it is a file with the lines of
        its calls. Raises TypeError, ValueError: such a name leads elsewhere.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a snapshot must be a str, not {type(name).__name__}")
        if not _NAME.fullmatch(name) or name.endswith((" ", ".")) or len(os.fsencode(name)) > 200:
            raise ValueError(
                f"{name!r} is no name of a snapshot: it is one name of a file, of at most 200 bytes, which begins with "
                "a letter or digit and has letters, digits and _ . , = + @ ( ) [ ] - or blanks"
            )
        return Snapshot(self._session, self._told, self._root, self._directory / name, self._test)


class Snapshot:
    """`==` compares; with --wasm-update it writes what it is compared with instead."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, session: Session, told: Told, root: Path, place: Path, test: str) -> None:
        self._session, self._told, self._root, self._place, self._test = session, told, root, place, test

    def __repr__(self) -> str:
        return f"wasm_snapshot({self._place.name!r})"

    def __eq__(self, other: object) -> bool:
        try:
            value = _value(other)
        except TypeError:
            return False
        same = self._is(value)
        if self._session.updating:
            self._update(value, same)
            return True
        return same

    def __ne__(self, other: object) -> bool:
        try:
            return not self._is(_value(other))
        except TypeError:
            return True

    def _is(self, value: bytes | Table) -> bool:
        kept = self._kept()
        return type(kept) is type(value) and kept == value

    def _kept(self) -> bytes | Table | str | None:
        """None: there is no snapshot. A text: what there is instead. Raises OSError."""
        try:
            mode = os.lstat(self._place).st_mode
        except FileNotFoundError:
            return None
        if stat.S_ISREG(mode):
            return self._place.read_bytes()
        if not stat.S_ISDIR(mode):
            return "a link, which is not followed" if stat.S_ISLNK(mode) else "neither a file nor a directory"
        try:
            return FromDisk(self._place, escaped=True).table()
        except ValueError as error:
            return f"no tree: {error}"

    @property
    def _shown(self) -> str:
        return self._session.shown(self._place)

    def _update(self, value: bytes | Table, same: bool) -> None:
        """Raises ValueError: it has been written in this run of pytest, with something else."""
        digest = hashlib.sha256(repr(sorted(value.items()) if isinstance(value, dict) else value).encode()).hexdigest()
        before = self._session.compared.setdefault(self._place, (digest, self._test))
        if before[0] != digest:
            raise ValueError(
                f"{self!r} is compared with different things, here and in {before[1]}; give each its own name"
            )
        if not same:
            store(self._root, self._place, value)
            self._session.written[self._shown] = self._test

    def explained(self, other: object) -> list[str]:
        """Why it differs, for pytest: few lines, and what is left goes into the report of the test."""
        try:
            value = _value(other)
        except TypeError as error:
            return [str(error)]
        kept = self._kept()
        what = "a tree" if isinstance(value, dict) else "a file"
        if kept is None:
            return [f"there is no snapshot {self._shown} yet", f"{FLAG} writes it; look at it then"]
        if type(kept) is not type(value):
            is_what = kept if isinstance(kept, str) else "a tree" if isinstance(kept, dict) else "a file"
            return [f"the snapshot {self._shown} is {is_what}, and this is {what}", f"{FLAG} writes it anew"]
        if isinstance(kept, dict) and isinstance(value, dict):
            return self._list(differences(kept, value))
        old, new = (each if isinstance(each, bytes) else b"" for each in (kept, value))
        return self._list([Difference("M", "", old, new)])

    def _list(self, found: list[Difference]) -> list[str]:
        lines = lines_of(found, _LINES_MAX)
        head = f"the snapshot {self._shown} is different (- snapshot, + now)"
        last = f"if this is right now: {FLAG}"
        short = [head, *lines, last]
        if len(short) <= _SHORT_LINES and sum(map(len, short)) <= _SHORT_CHARACTERS:
            return short
        self._told.differences.append((f"{self!r}, - snapshot, + now", "\n".join(lines)))
        listed = [str(difference)[:80] for difference in found[:_LISTED] if difference.path]
        more = [f"and {len(found) - _LISTED:,} more"] if len(found) > _LISTED else []
        return [f"the snapshot {self._shown} is different; the lines are below", *listed, *more, last]


def _value(other: object) -> bytes | Table:
    """What is kept of something. Raises TypeError: that is not kept."""
    if isinstance(other, vfswasi.Trace):
        if other.forgotten:
            raise TypeError(
                f"the trace has the last {counted(len(other), 'call')} alone; there were too many to compare"
            )
        return golden(other)
    if isinstance(other, str):
        return other.encode("utf-8", "surrogatepass")
    if isinstance(other, bytes | bytearray | memoryview):
        return bytes(other)
    if isinstance(other, Mapping):
        return table_of(other)
    if other is None:
        raise TypeError("None is in no snapshot: was the output, or the trace, asked for?")
    hint = "; compare its files, stdout or trace" if isinstance(other, vfswasi.Result) else ""
    raise TypeError(f"a snapshot holds a tree, text, bytes or a trace, not {type(other).__name__}{hint}")


def explained(op: str, left: object, right: object) -> list[str] | None:
    """For `pytest_assertrepr_compare`."""
    snapshot, other = (left, right) if isinstance(left, Snapshot) else (right, left)
    if not isinstance(snapshot, Snapshot) or op not in ("==", "!="):
        return None
    what = _short(other)
    head = f"{what} {op} {snapshot!r}" if snapshot is right else f"{snapshot!r} {op} {what}"
    return [head, *(snapshot.explained(other) if op == "==" else ["they are equal"])]


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a tree of {counted(len(table_of(value)), 'file')}"
    if isinstance(value, vfswasi.Trace):
        return f"a trace of {len(value):,} calls"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
