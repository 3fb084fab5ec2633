"""A trace as lines that are the same in every run: what the program asked for, and what it got."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import vfswasi

from ....printing import printable

# What the C library does before `main`, and asks of descriptors, clocks and generators; it differs between compilers.
LEFT_OUT: Final = frozenset(
    "args_get args_sizes_get environ_get environ_sizes_get fd_prestat_get fd_prestat_dir_name fd_fdstat_get "
    "clock_time_get clock_res_get random_get sched_yield".split()
)
# Results of which each is a fact about the files, not about the machine.
_RESULTS: Final = ("nread", "nwritten", "size")


def golden(trace: Iterable[vfswasi.Call]) -> bytes:
    """One line for each call: its name, its paths and flags, how many bytes, and its errno unless that is SUCCESS. No
    durations, addresses, numbers of descriptors or inodes."""
    lines = [_line(call) for call in trace if call.name not in LEFT_OUT]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def _line(call: vfswasi.Call) -> str:
    words = [call.name]
    if call.path is not None:
        words.append(printable(call.path))
    elif "fd" in call.arguments and call.arguments["fd"] in (0, 1, 2):
        words.append(("stdin", "stdout", "stderr")[call.arguments["fd"]])
    if call.target is not None:
        words.append(f"-> {printable(call.target)}")
    words += [flags for name, value in call.arguments.items() if (flags := _flags(name, value))]
    words += [str(value) for name, value in call.results.items() if name in _RESULTS]
    if call.errno:
        words.append(f"= {call.errno.name}{' (injected)' if call.injected else ''}")
    return " ".join(words)


def _flags(name: str, value: Any) -> str:
    """Of opening and the like. Rights say what a library might do, not what is done; links are followed as a rule."""
    if not isinstance(value, tuple) or "right" in name:
        return ""
    return "|".join(str(flag).lower() for flag in value if flag != "SYMLINK_FOLLOW")
