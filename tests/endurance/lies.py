"""What a broken store may answer: by the name of the call, what the lie is, and how it is made of the true answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import DirEntry, FileType, Stat

Lie = Callable[[Any], Any]

_WRONG: dict[str, Lie] = {
    "None": lambda _: None,
    "a str": lambda _: "7",
    "an object": lambda _: object(),
    "a negative number": lambda _: -1,
    "a huge number": lambda _: 2**70,
    "a float": lambda _: 1.5,
}
_COUNTS: dict[str, Lie] = {
    **_WRONG,
    "fewer": lambda count: count // 2,
    "none": lambda _: 0,
    "one more": lambda count: count + 1,
    "many more": lambda count: count + 100_000,
    "2**31": lambda _: 2**31,
    "2**32 + 8": lambda _: 2**32 + 8,
    "2**63": lambda _: 2**63,
}


def _stats(wrap: Callable[[Stat, Any], Any], stat_of: Callable[[Any], Stat]) -> dict[str, Lie]:
    """Lies within a Stat, wherever it stands in the answer."""
    changes: dict[str, dict[str, Any]] = {
        "size -1": {"size": -1},
        "size 2**64": {"size": 2**64},
        "size None": {"size": None},
        "size one more": {},
        "type 99": {"filetype": 99},
        "type None": {"filetype": None},
        "a directory": {"filetype": FileType.DIRECTORY},
        "a file": {"filetype": FileType.REGULAR_FILE},
        "a link": {"filetype": FileType.SYMBOLIC_LINK},
        "a device": {"filetype": FileType.CHARACTER_DEVICE},
        "ident -5": {"ident": -5},
        "ident 2**70": {"ident": 2**70},
        "ident str": {"ident": "7"},
        "ident of another": {"ident": 1},
        "nlink -1": {"nlink": -1},
        "times -1": {"atim_ns": -1, "mtim_ns": -(2**70), "ctim_ns": 2**70},
        "times str": {"atim_ns": "a", "mtim_ns": "m", "ctim_ns": "c"},
    }

    def made(name: str, answer: Any) -> Any:
        stat = stat_of(answer)
        if not isinstance(stat, Stat):
            return answer
        change = {"size": stat.size + 1} if name == "size one more" else changes[name]
        return wrap(stat._replace(**change), answer)

    lies: dict[str, Lie] = {name: lambda answer, name=name: made(name, answer) for name in changes}  # type: ignore[misc]
    return lies


def _then(entries: Any, error: Exception) -> Iterator[DirEntry]:
    yield from entries
    raise error


def _with(entry: Any) -> Lie:
    return lambda entries: [*entries, entry]


_LISTS: dict[str, Lie] = {
    "None": lambda _: None,
    "a number": lambda _: 5,
    "twice": lambda entries: list(entries) * 2,
    "nothing": lambda _: [],
    **{
        f"the name {name!r:.20}": _with(DirEntry(name, FileType.REGULAR_FILE, 77))  # type: ignore[arg-type]
        for name in ("", ".", "..", "a/b", "/", "nul\0", "\udcff", "x" * 5000, 7, None, b"bytes")
    },
    "type 77": _with(DirEntry("odd", 77)),  # type: ignore[arg-type]
    "ident -1": _with(DirEntry("odd", FileType.REGULAR_FILE, -1)),
    "ident 2**70": _with(DirEntry("odd", FileType.REGULAR_FILE, 2**70)),
    "a pair": _with(("odd", FileType.REGULAR_FILE)),
    "not an entry": _with("odd"),
    "an error after the entries": lambda entries: _then(entries, FsError(Errno.IO)),
    "a KeyError after the entries": lambda entries: _then(entries, KeyError("odd")),
}
_TARGETS = (None, 7, b"bytes", "", "/", "/etc/passwd", "..", "../../..", "nul\0", "\udcff", "x" * 9000, "link")

LIES: dict[str, dict[str, Lie]] = {
    "handle.read_into": _COUNTS,
    "handle.append": _COUNTS,
    "handle.size": _COUNTS,
    "handle.ident": _WRONG,
    "handle.reserve": {"yes": lambda _: True, **_WRONG},
    "stat": {**_WRONG, **_stats(lambda stat, _: stat, lambda stat: stat)},
    "handle.stat": {**_WRONG, **_stats(lambda stat, _: stat, lambda stat: stat)},
    "walk": {
        **_WRONG,
        "one more": lambda found: (found[0] + 1, found[1]),
        "one fewer": lambda found: (found[0] - 1, found[1]),
        "many more": lambda found: (found[0] + 50, found[1]),
        "-1": lambda found: (-1, found[1]),
        "no stat": lambda found: (found[0], None),
        "three": lambda found: (*found, 3),
        **_stats(lambda stat, found: (found[0], stat), lambda found: found[1]),
    },
    "list": _LISTS,
    "listing_version": {**_WRONG, "a list": lambda _: []},
    "readlink": {f"{target!r:.20}": lambda _, target=target: target for target in _TARGETS},  # type: ignore[misc]
}


def lies_of(call: str) -> dict[str, Lie]:
    """Every lie that this call can tell."""
    return LIES.get(call, _WRONG)
