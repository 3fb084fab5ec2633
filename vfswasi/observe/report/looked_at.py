"""What a run looked at, mount by mount."""

from __future__ import annotations

from typing import Final

from ..accesses.accesses import Access, Accesses
from .words import Cell, Column, Table, foreign, left_out, size, size_text

ROWS_MAX: Final = 200
_RANGES_MAX: Final = 3


def looked_at(accesses: Accesses) -> list[Table]:
    """A table for each mount that was looked at."""
    tables, left = [], ROWS_MAX
    for number, (mount, found) in enumerate(accesses.items()):
        if not found or left <= 0:
            continue
        shown = found[:left]
        left -= len(shown)
        written = any(each.written for each in shown)
        rows = [
            [_name(mount, each), _found(each), _read(each), _size(each), *_changed(each, written)] for each in shown
        ]
        columns = [Column("Path", "code"), Column("Found"), Column("Read"), Column("Size", "number")]
        if written:
            columns.append(Column("Written"))
        missing = sum(each.found == "missing" for each in found)
        caption = f"{foreign(mount)}: {len(found):,} names, {missing:,} of them not there"
        note = left_out(len(rows), len(found), "names")
        tables.append(Table(f"accesses-{number}", caption, columns, rows, note))
    return tables


def _name(mount: str, access: Access) -> Cell:
    return Cell(foreign(f"{mount.rstrip('/')}/{access.path}" if access.path else mount))


def _found(access: Access) -> Cell:
    if access.found == "missing":
        return Cell("not found", tone="quiet")
    unsure = getattr(access, "unsure", None)
    more = f"; unsure: {foreign(unsure)}" if unsure else ""
    return Cell(access.found + (", listed" if access.listed else "") + more)


def _read(access: Access) -> Cell:
    if access.read == "whole":
        return Cell("whole", float("inf"))
    if not access.read:
        return Cell("", 0)
    count = sum(end - start for start, end in access.read)
    ranges = ", ".join(f"{start:,} to {end:,}" for start, end in access.read[:_RANGES_MAX])
    more = f", … {len(access.read):,} parts" if len(access.read) > _RANGES_MAX else ""
    return Cell(f"{size_text(count)}: {ranges}{more}", count)


def _size(access: Access) -> Cell:
    return size(access.size if access.found == "file" else None)


def _changed(access: Access, shown: bool) -> list[Cell]:
    return [Cell("yes" if access.written else "")] if shown else []
