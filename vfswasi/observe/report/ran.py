"""What ran: with which arguments, how it ended, what it used, where its time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ...clock import Clock
from ...printing import counted
from ..trace.trace import Trace
from .calls import moved, summed
from .given import Given
from .words import Cell, Column, Table, duration, foreign, largest, number, size, size_text, time_text

_ARGS_MAX: Final = 40
_AMOUNTS: Final = ("wall_seconds", "fuel", "memory_bytes", "descriptors", "inodes", "stored_bytes", "output_bytes")
_WAYS: Final = {"ro": "read-only", "rw": "read and write", "overlay": "overlay: the source stays"}
_MOUNTS_MAX: Final = 100


class Part(NamedTuple):
    """Of the time of a run. tone: a class of the page's style; share: 0 to 100."""

    name: str
    ns: float
    tone: str
    told: str
    at: float = 0.0
    share: float = 0.0


class Fact(NamedTuple):
    name: str
    value: str
    more: str = ""
    tone: str = ""


def name_of(result: Any) -> str:
    return foreign(result.args[0].rpartition("/")[2], 80) if result.args else "guest"


def arguments(result: Any) -> list[str]:
    shown = [foreign(arg) if arg and not set(arg) & set(" '\"") else foreign(repr(arg)) for arg in result.args]
    if len(shown) > _ARGS_MAX:
        return [*shown[:_ARGS_MAX], f"… {len(shown):,} in all"]
    return shown


def ending(result: Any) -> tuple[str, str]:
    """(how it ended, class of the page's style)."""
    code = result.returncode
    if result._interrupted:
        return "interrupted", "bad"
    if result.limit == "wall_seconds":
        seconds = "" if result._timeout_s is None else f" after {counted(result._timeout_s, 'second')}"
        return f"time over{seconds}", "bad"
    if result.limit == "fuel":
        return "fuel used up", "bad"
    if result.trap is not None:
        return "trapped: no stack left" if result.limit == "stack" else "trapped", "bad"
    if code < 0:
        return f"ended by signal {-code}", "bad"
    return f"exit status {code}", "good" if code == 0 else "bad"


def facts(result: Any, given: Given | None, trace: Trace | None, refused: int) -> list[Fact]:
    """What stands in large letters."""
    usage = result.usage
    found = [Fact("time", time_text(usage.wall_seconds * 10**9))]
    if trace is not None:
        calls, _, _ = summed(trace)
        read, written = moved(trace)
        failed = sum(each.errors for each in trace.stats.values())
        found += [
            Fact("calls", f"{calls:,}", f"{failed:,} failed"),
            Fact("refused", f"{refused:,}", "", "bad" if refused else ""),
            Fact("read", size_text(read)),
            Fact("written", size_text(written)),
        ]
    found.append(Fact("memory", size_text(usage.memory_bytes)))
    if usage.remote_requests or result.traffic:
        found.append(Fact("requests", f"{usage.remote_requests:,}", f"{size_text(usage.remote_bytes)} moved"))
    count = sum(len(changes) for changes in result.changes.values())
    if result.changes:
        found.append(Fact("change" if count == 1 else "changes", f"{count:,}"))
    return found


def conditions(result: Any, given: Given | None) -> list[Fact]:
    """Clock, chance, and the like."""
    found = []
    if given is not None:
        found.append(Fact("Clock", clock_text(given.clock)))
        seed = "the system's" if given.seed is None else f"seed {given.seed}"
        found.append(Fact("Random bytes", seed))
        found.append(Fact("Deterministic", "yes" if given.deterministic else "no"))
    fast = {"page": "by a page of memory, at full speed", "epoch": "by epochs"}
    found.append(Fact("Can be ended", fast.get(result.interruption, "")))
    calls = sum(count for name, count in result.fast_calls.items() if not name.startswith("bytes_"))
    if calls:
        found.append(Fact("Fast path", f"{calls:,} calls were answered inside wasm"))
    return found


def clock_text(clock: Clock | None) -> str:
    if clock is None or clock.kind == "system":
        return "the system's"
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(clock.start_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    step = f", {time_text(clock.step_ns)} at each look" if clock.kind == "stepped" else ""
    return f"{clock.kind}, from {at}{step}" if clock.kind != "fixed" else f"fixed, {at}"


def limits(result: Any, given: Given | None) -> Table | None:
    """What it used, beside the limit of the same name."""
    usage, bounds = result.usage, None if given is None else given.limits
    rows = []
    for name in [*_AMOUNTS, "remote_requests", "remote_bytes"]:
        used, limit = getattr(usage, name), None if bounds is None else getattr(bounds, name)
        if used is None:
            continue
        if name == "wall_seconds" and result._timeout_s is not None:
            limit = result._timeout_s
        share = None if not limit else round(min(100.0, 100 * used / limit), 2)
        rows.append(
            [
                Cell(name),
                Cell(_amount(name, used), used),
                Cell("" if bounds is None else "none" if limit is None else _amount(name, limit), limit or -1),
                Cell(_percent(share, used), share, share, "bad" if share == 100 else ""),
            ]
        )
    columns = [
        *(Column("Limit", "code"), Column("Used", "number"), Column("At most", "number")),
        Column("Share", "number", bar=True),
    ]
    return Table("limits", "What it used of its limits", columns, rows)


def _percent(share: float | None, used: float) -> str:
    if share is None:
        return ""
    return f"{share:.1f} %" if share >= 0.1 or not used else "< 0.1 %"


def _amount(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return size_text(value)
    return time_text(value * 10**9) if name.endswith("_seconds") else f"{value:,.0f}"


def mounts(result: Any, given: Given | None) -> Table | None:
    """A row for each mount that is known: what it is, and what it cost."""
    told: dict[str, tuple[str, str]] = {}
    if given is not None and given.mounts is not None:
        told = {name: (_WAYS.get(way, way), what) for name, way, what in given.mounts}
    storage = {} if given is None or given.storage is None else given.storage
    for name in [*result.traffic, *result.changes, *storage]:  # the directory of single files is no mount
        told.setdefault(name, ("", ""))
    if not told:
        return None
    slowest = largest(each.ns for each in storage.values())
    requests = largest(each.requests for each in result.traffic.values())
    rows = []
    for name, (way, what) in [*told.items()][:_MOUNTS_MAX]:
        traffic, spent = result.traffic.get(name), storage.get(name)
        row = [Cell(foreign(name)), Cell(foreign(what)), Cell(way)]
        if storage:
            row.append(Cell("", -1) if spent is None else number(spent.calls))
            row.append(Cell("", -1) if spent is None else duration(spent.ns, slowest))
        if result.traffic and traffic is None:
            row += [Cell("", -1)] * 3
        elif traffic is not None:
            asked = Cell(f"{traffic.requests:,}", traffic.requests, _part(traffic.requests, requests))
            row += [asked, size(traffic.bytes_received), size(traffic.bytes_sent)]
        rows.append(row)
    columns = [Column("Mount", "code"), Column("Source", "code"), Column("Way")]
    if storage:
        columns += [Column("Store asked", "number"), Column("Time in it", "number", bar=True)]
    if result.traffic:
        columns += [Column("Requests", "number", bar=True), Column("Received", "number"), Column("Sent", "number")]
    return Table("mounts", "Mounts, and what they cost", columns, rows)


def _part(amount: float, most: float) -> float | None:
    return round(100 * amount / most, 1) if most else None


def time_parts(result: Any, given: Given | None, trace: Trace | None) -> list[Part]:
    """Where the time of the run went, as far as it was measured."""
    if trace is None:
        return []
    wall = result.usage.wall_seconds * 10**9
    _, inside, waiting = summed(trace)
    stored = 0.0
    measured = given is not None and given.storage is not None
    if given is not None and given.storage is not None:
        stored = float(sum(each.ns for each in given.storage.values()))
    stored = min(stored, max(inside - waiting, 0))
    parts = [
        Part("the program, and what is around it", max(wall - inside, 0), "guest", "all that is in none of its calls"),
        Part("vfswasi", max(inside - waiting - stored, 0), "ours", _ours(measured)),
    ]
    if measured:
        parts.append(Part("storage", stored, "storage", "its calls, while a store was asked"))
    if waiting:
        parts.append(Part("waiting", waiting, "wait", "poll_oneoff and sched_yield: it slept, or waited for input"))
    whole = sum(part.ns for part in parts) or 1
    placed, at = [], 0.0
    for part in parts:
        share = 100 * part.ns / whole
        placed.append(part._replace(at=round(at, 2), share=round(share, 2)))
        at += share
    return placed


def _ours(measured: bool) -> str:
    return "its calls, without storage" if measured else "its calls; what its stores took is in this, unmeasured"


def sections(present: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(anchor, title) of what the page has."""
    titles = {
        "refusals": "Refused",
        "time": "Time",
        "timeline": "Timeline",
        "calls": "Calls",
        "files": "Files",
        "mounts": "Mounts",
        "accesses": "Looked at",
        "changes": "Changes",
        "output": "Output",
        "limits": "Limits",
    }
    return [(name, title) for name, title in titles.items() if present.get(name)]
