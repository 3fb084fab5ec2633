"""The calls of a run: how many of each name, which files they moved bytes of, where in time they were."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ...errors import Errno
from ..trace.call import Call
from ..trace.trace import Counted, Trace
from .refusals import is_refused
from .words import Cell, Column, Table, duration, foreign, largest, left_out, number, size, size_text, time_text

BINS: Final = 160
HEIGHT: Final = 24
FILES_MAX: Final = 200
LAST_MAX: Final = 60
_CALL_MAX: Final = 40  # characters of a call's name, of which there are few
_NAMES_MAX: Final = 100
WAITS: Final = frozenset({"poll_oneoff", "sched_yield"})
READS: Final = frozenset({"fd_read", "fd_pread"})
WRITES: Final = frozenset({"fd_write", "fd_pwrite"})
_STREAMS: Final = {0: "standard input", 1: "standard output", 2: "standard error"}
_LANES: Final = {
    "find and open": frozenset({"path_open", "path_filestat_get", "path_readlink", "fd_close"}),
    "list": frozenset({"fd_readdir"}),
    "read": READS,
    "write": WRITES,
    "make, move, remove": frozenset(
        {
            *("path_create_directory", "path_link", "path_remove_directory", "path_rename", "path_symlink"),
            *("path_unlink_file", "path_filestat_set_times", "fd_filestat_set_times", "fd_filestat_set_size"),
            *("fd_allocate", "fd_sync", "fd_datasync"),
        }
    ),
    "wait": WAITS,
}
_REST: Final = "all others"


class Bar(NamedTuple):
    """One bin of a lane. at: which; height: up to `HEIGHT`; told: what was there."""

    at: int
    height: float
    told: str


class Lane(NamedTuple):
    name: str
    told: str
    tone: str
    bars: Sequence[Bar]


class Timeline(NamedTuple):
    """ticks: texts, from the first to the last moment."""

    lanes: Sequence[Lane]
    ticks: Sequence[str]
    note: str


class _Bin:
    """What a lane has in one bin."""

    def __init__(self) -> None:
        self.ns = 0.0
        self.names: Counter[str] = Counter()


def counted(stats: Mapping[str, Counted]) -> Table:
    """A row for each name."""
    most = largest(each.ns for each in stats.values())
    rows = [
        [
            *(
                Cell(foreign(name, _CALL_MAX)),
                number(each.calls),
                number(each.errors, "warn"),
                size(each.nbytes or None),
            ),
            *(duration(each.ns, most), duration(each.ns / each.calls if each.calls else None)),
        ]
        for name, each in sorted(stats.items(), key=lambda item: -item[1].ns)[:_NAMES_MAX]
    ]
    columns = [
        *(Column("Call", "code"), Column("Calls", "number"), Column("Failed", "number"), Column("Bytes", "number")),
        *(Column("Time", "number", bar=True), Column("Each", "number")),
    ]
    note = "A failed call is often a question: whether a file is there, for instance."
    return Table("calls", "Calls by name", columns, rows, note)


def bytes_of_files(trace: Trace) -> Table | None:
    """A row for each file that bytes were read from or written to."""
    found: dict[tuple[str, bool], list[int]] = {}
    for call in trace:
        moved = nbytes_of(call)
        if call.name not in READS and call.name not in WRITES:
            continue
        name = call.path or _STREAMS.get(call.arguments.get("fd", -1), "")
        if not name:
            continue
        row = found.setdefault((name, call.path is None), [0, 0, 0, 0])
        row[0 if call.name in READS else 1] += moved
        row[2] += 1
        row[3] += call.duration_ns
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda item: -(item[1][0] + item[1][1]))
    most = largest(max(row[0], row[1]) for row in found.values())
    rows = [
        [
            Cell(foreign(name), tone="stream" if stream else ""),
            *(size(read, most), size(written, most), number(calls), duration(ns)),
        ]
        for (name, stream), (read, written, calls, ns) in ordered[:FILES_MAX]
    ]
    columns = [
        *(Column("File", "code"), Column("Read", "number", bar=True), Column("Written", "number", bar=True)),
        *(Column("Calls", "number"), Column("Time", "number")),
    ]
    notes = [left_out(len(rows), len(found), "files, by bytes"), _forgotten(trace)]
    return Table("files", "Bytes per file", columns, rows, " ".join(filter(None, notes)))


def nbytes_of(call: Call) -> int:
    """Read or written by it."""
    for name in ("nread", "nwritten"):
        value = call.results.get(name)
        if isinstance(value, int):
            return value
    return 0


def timeline(trace: Trace, wall_ns: int) -> Timeline | None:
    """The calls in bins of equal time."""
    if not trace:
        return None
    end = max([wall_ns, *(call.started_ns + call.duration_ns for call in trace)]) or 1
    width = end / BINS
    lanes: dict[str, list[_Bin | None]] = {}
    failed: list[Counter[str]] = [Counter() for _ in range(BINS)]
    refused: list[Counter[str]] = [Counter() for _ in range(BINS)]
    for call in trace:
        bins = lanes.setdefault(_lane_of(call.name), [None] * BINS)
        first = min(int(call.started_ns / width), BINS - 1)
        for at, ns in _spread(call, first, width):
            found = bins[at] = bins[at] or _Bin()
            found.ns += ns
        found = bins[first] = bins[first] or _Bin()
        found.names[foreign(call.name, _CALL_MAX)] += 1
        if call.errno not in (None, Errno.SUCCESS):
            (refused if is_refused(call) else failed)[first][_failure(call)] += 1
    made = [_busy(name, lanes[name], width, trace.stats, end) for name in [*_LANES, _REST] if name in lanes]
    for name, counts, tone in (("failed", failed, "warn"), ("refused", refused, "bad")):
        if any(counts):
            made.append(_marks(name, counts, tone, width))
    ticks = [time_text(end * part / 4) for part in range(5)]
    return Timeline(made, ticks, _forgotten(trace))


def last_calls(trace: Trace) -> list[str]:
    """As lines, of the calls that were made last."""
    return [foreign(str(call), 300) for call in trace[-LAST_MAX:]]


def _forgotten(trace: Trace) -> str:
    if not trace.forgotten:
        return ""
    return f"Of the last {len(trace):,} calls; the {trace.forgotten:,} before them are only counted."


def _lane_of(name: str) -> str:
    return next((lane for lane, names in _LANES.items() if name in names), _REST)


def _spread(call: Call, first: int, width: float) -> Iterable[tuple[int, float]]:
    """(bin, how much of the call is in it)."""
    start, end = float(call.started_ns), float(call.started_ns + call.duration_ns)
    last = min(int(end / width), BINS - 1)
    for at in range(first, last + 1):
        yield at, max(min(end, (at + 1) * width) - max(start, at * width), 0.0)


def _failure(call: Call) -> str:
    path = "" if call.path is None else f" {foreign(call.path, 60)}"
    return f"{foreign(call.name, _CALL_MAX)} {call.errno.name if call.errno is not None else ''}{path}"


def _busy(name: str, bins: Sequence[_Bin | None], width: float, stats: Mapping[str, Counted], end: float) -> Lane:
    bars = []
    for at, each in enumerate(bins):
        if each is None:
            continue
        height = max(HEIGHT * math.sqrt(min(each.ns / width, 1.0)), 2.0)
        calls = ", ".join(f"{what} × {count:,}" for what, count in each.names.most_common(3))
        bars.append(Bar(at, round(height, 1), f"{_when(at, width)}: {calls or 'going on'}, {time_text(each.ns)}"))
    ns = sum(each.ns for each in bins if each is not None)
    count = sum(each.names.total() for each in bins if each is not None)
    return Lane(
        name, f"{count:,} × {time_text(ns)}".replace(" × ", " calls, ", 1), "wait" if name == "wait" else "", bars
    )


def _marks(name: str, counts: Sequence[Counter[str]], tone: str, width: float) -> Lane:
    most = largest(each.total() for each in counts)
    bars = [
        Bar(
            at,
            round(max(HEIGHT * math.sqrt(each.total() / most), 6.0), 1),
            f"{_when(at, width)}: " + ", ".join(f"{what} × {count:,}" for what, count in each.most_common(3)),
        )
        for at, each in enumerate(counts)
        if each
    ]
    total = sum(each.total() for each in counts)
    return Lane(name, f"{total:,} call{'' if total == 1 else 's'}", tone, bars)


def _when(at: int, width: float) -> str:
    return f"{time_text(at * width)} to {time_text((at + 1) * width)}"


def summed(trace: Trace) -> tuple[int, int, int]:
    """(calls, nanoseconds in them, of those waiting)."""
    calls = sum(each.calls for each in trace.stats.values())
    ns = sum(each.ns for each in trace.stats.values())
    return calls, ns, sum(each.ns for name, each in trace.stats.items() if name in WAITS)


def moved(trace: Trace) -> tuple[int, int]:
    """Bytes (read, written), all calls."""
    return tuple(  # type: ignore[return-value]
        sum(each.nbytes for name, each in trace.stats.items() if name in names) for names in (READS, WRITES)
    )


def told_moved(trace: Trace) -> str:
    read, written = moved(trace)
    return f"{size_text(read)} read, {size_text(written)} written"
