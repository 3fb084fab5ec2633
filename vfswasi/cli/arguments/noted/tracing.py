"""`vfswasi run --trace[=WHERE]` and `--stats`: a line for each call of the program, and a table of all."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ....fs_backends.base import Traffic
from ....limits import Usage
from ....printing import counted, printable, shown
from ..parser import Parser
from .places import check_place

_STDERR: Final = 2
_JSON: Final = "json"
_STANDARD_ERROR: Final = "\0"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--trace",
        nargs="?",
        const=_STANDARD_ERROR,
        metavar="FILE",
        help="print each system call of the program on standard error, as strace does, or write them to FILE, which is "
        "emptied first; --trace=json and --trace=json:FILE: each as an object of JSON on a line",
    )
    parser.add_argument(
        "--stats",
        action="store_true",
        help="print on standard error, when the program has ended, how many calls it made, how long they took, what "
        "they moved, and what the run has used",
    )


def _check_module(module: str, args: Sequence[str]) -> None:
    """Raises ValueError: what stands where the program is expected is where the trace was to go."""
    meant = args and "://" not in module and not os.path.exists(module)
    if meant and any(argument.endswith((".wasm", ".wat")) for argument in args):
        raise ValueError(
            f"--trace {shown(module)}: where the trace goes stands behind a =, --trace={printable(module)}"
        )


class Tracing:
    """What the two options ask for. given: whether one of them was."""

    def __init__(self, options: Namespace) -> None:
        """Raises ValueError."""
        self.stats: bool = options.stats
        self.printer = None if options.trace is None else _printer(options.trace)
        self.given = self.stats or self.printer is not None

    def check_run(self, options: Namespace) -> None:
        """Of `vfswasi run`. Raises ValueError."""
        if options.trace == _STANDARD_ERROR:
            _check_module(options.module, options.args)
        if self.given and options.isolation == "process":
            name = "--stats" if self.printer is None else "--trace"
            raise ValueError(f"{name} cannot be with --isolation=process; leave one of them out")

    @property
    def asked(self) -> Any:
        """What a run takes as `trace`."""
        return self.stats if self.printer is None else self.printer

    @property
    def wanted(self) -> bool:
        """Whether `tell` has something to do."""
        return self.stats or (self.printer is not None and self.printer.path is not None)

    def begin(self, opened: contextlib.ExitStack) -> None:
        """The program can be run: the file is emptied now. Raises OSError."""
        if self.printer is not None:
            self.printer.open(opened)

    def tell(self, trace: Any, traffic: Mapping[str, Traffic], usage: Usage) -> None:
        """The run is over. Raises OSError: the file does not have all calls."""
        if self.stats and trace is not None:
            lines = [trace.summary(), *_moved(traffic), _used(usage)]
            print("\n".join(lines), file=sys.stderr, flush=True)
        if self.printer is not None and self.printer.failed is not None:
            raise self.printer.failed


def _printer(text: str) -> Printer:
    """Raises ValueError."""
    if text == _STANDARD_ERROR:
        return Printer(None, False)
    if text == _JSON:
        return Printer(None, True)
    form, colon, path = text.partition(":")
    if colon and form == _JSON:
        text = path
    elif colon and form.isalpha():
        raise ValueError(f"--trace={shown(text)[1:-1]}: there is no form {form!r}; write json:FILE, or ./{form}:...")
    if text in ("", "-"):
        raise ValueError("--trace= needs the name of a file; without one, write --trace or --trace=json")
    check_place("--trace", text, beside=False)
    return Printer(text, form == _JSON and bool(colon))


class Printer:
    """Writes each call when it is over. What cannot be written is given up, and the program goes on.

    path: of the file, or None: standard error. failed: why the file does not have all of them.
    """

    def __init__(self, path: str | None, json: bool) -> None:
        self.path = path
        self.failed: OSError | None = None
        self._json = json
        self._fd = _STDERR

    def open(self, opened: contextlib.ExitStack) -> None:
        """Raises OSError."""
        if self.path is not None:
            file = open(self.path, "wb", buffering=0)  # noqa: SIM115 - closed by `opened`
            self._fd = opened.enter_context(file).fileno()
            opened.callback(self._stop)

    def _stop(self) -> None:
        """A thread that was left behind must not write to what gets the number next."""
        self._fd = -1

    def __call__(self, call: Any) -> None:
        """Nothing is said before a call: it would stand on one line with what the program prints."""

    def over(self, call: Any) -> None:
        if self._fd < 0:
            return
        from ....observe.trace.lines import as_json

        line = f"{as_json(call) if self._json else call}\n".encode("utf-8", "backslashreplace")
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            self._fd = -1
            if self.path is not None:
                self.failed = OSError(error.errno, error.strerror, self.path)


def _moved(traffic: Mapping[str, Traffic]) -> Iterable[str]:
    for name, cost in traffic.items():
        parts = [counted(cost.requests, "request"), f"{counted(cost.bytes_received, 'byte')} received"]
        if cost.bytes_sent:
            parts.append(f"{counted(cost.bytes_sent, 'byte')} sent")
        yield f"{printable(name)}: {', '.join(parts)}"


def _used(usage: Usage) -> str:
    parts = [f"{usage.wall_seconds:.3f} seconds", f"{counted(usage.memory_bytes, 'byte')} of memory"]
    if usage.fuel is not None:
        parts.append(f"{usage.fuel:,} of fuel")
    for number, unit in (
        (usage.descriptors, "descriptor"),
        (usage.inodes, "new name"),
        (usage.stored_bytes, "new byte"),
        (usage.remote_requests, "remote request"),
    ):
        if number:
            parts.append(counted(number, unit))
    return f"used: {', '.join(parts)}"
