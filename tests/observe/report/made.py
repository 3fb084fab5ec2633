"""Results and traces made by hand, for the page about them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import vfswasi
from vfswasi import Limits, Result
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Traffic
from vfswasi.limits import Usage
from vfswasi.observe.accesses.access import Access, Mounted
from vfswasi.observe.accesses.accesses import Accesses
from vfswasi.observe.report.given import Given, Spent
from vfswasi.observe.trace.call import Call
from vfswasi.observe.trace.trace import Counted, Trace


def trace_of(calls: Sequence[Call], forgotten: int = 0) -> Trace:
    trace = Trace(calls)
    stats: dict[str, Counted] = {}
    for call in calls:
        before = stats.get(call.name, Counted())
        nbytes = sum(call.results.get(name, 0) for name in ("nread", "nwritten"))
        failed = call.errno is not Errno.SUCCESS
        stats[call.name] = Counted(
            before.calls + 1, before.errors + failed, before.nbytes + nbytes, before.ns + call.duration_ns
        )
    trace.stats, trace.forgotten = stats, forgotten
    return trace


def looked_at(found: Mapping[str, tuple[Access, ...]]) -> Accesses:
    return Accesses(
        {name: Mounted("rw", None, "shown", None, None, None, accesses) for name, accesses in found.items()}
    )


def calls(count: int, seconds: float = 1.0, names: Sequence[str] = ("/src/a.c", "/src/b.h", "/out/a.o")) -> list[Call]:
    """A run that looks for files, reads, computes, writes."""
    chance = random.Random(1)
    made = []
    step = int(seconds * 10**9 / count)
    for number in range(count):
        part = number / count
        path = names[number % len(names)]
        if 0.45 < part < 0.6:
            continue
        if part < 0.2:
            name, errno, results = "path_open", chance.choice([Errno.SUCCESS, Errno.NOENT]), {"fd": 4}
        elif part < 0.7:
            name, errno, results = "fd_read", Errno.SUCCESS, {"nread": chance.randrange(1, 5000)}
        else:
            name, errno, results = "fd_write", Errno.SUCCESS, {"nwritten": chance.randrange(1, 5000)}
        if part > 0.97:
            name, errno, results = "path_open", Errno.ROFS, {}
        made.append(
            Call(
                name,
                number,
                {"fd": 4},
                path=path,
                mount="/" + path.split("/")[1],
                errno=errno,
                results=results,
                started_ns=number * step,
                duration_ns=chance.randrange(1000, max(step, 1001)),
            )
        )
    return made


def result(**options: Any) -> Result[Any]:
    """A run that a report has everything of."""
    changes = vfswasi.run(
        b'(module (memory (export "memory") 1) (func (export "_start")))', preopens={"/out": {}}
    ).changes
    given = Given(
        Limits(),
        vfswasi.Clock.virtual("2026-01-31"),
        True,
        7,
        (("/src", "ro", "zip://*::s3://bucket/src.zip"), ("/out", "rw", "memory, new for each run")),
        {"/src": Spent(120, 90_000_000), "/out": Spent(40, 1_000_000)},
    )
    whole: dict[str, Any] = {
        "args": ["cc.wasm", "-O2", "/src/a.c"],
        "returncode": 1,
        "stdout": "",
        "stderr": "cc: cannot write /src/a.o: Read-only file system\n",
        "usage": Usage(1.0, None, 5 << 20, 7, 3, 4000, 50, 12, 1 << 20),
        "traffic": {"/src": Traffic(12, 1 << 20, 0)},
        "changes": changes,
        "trace": trace_of(calls(400)),
        "accesses": looked_at(
            {
                "/src": (
                    Access("a.c", "file", read="whole", size=1200),
                    Access("a.h", "missing"),
                    Access("b.h", "file", read=((0, 100), (4096, 5000)), size=90_000),
                )
            }
        ),
        "_given": given,
    }
    return Result(**{**whole, **options})
