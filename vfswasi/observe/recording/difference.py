"""`Difference`: where a run that is made again is first another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ...printing import printable
from ...records import record

Kind = Literal["call", "files", "stdin", "stdout", "stderr", "ending"]


@record(frozen=True)
class Difference:
    """kind: what differs: a system call, what was asked of the mounts or of standard input, a byte of the output, or
    how the run ended. call: the number of the system call at which that showed, from 0; None: at none. name: of that
    call. path: what it was about, as the guest spelled it, if known. expected, got: in words; what the recorded run
    had, and this one. at: of output, which byte. `str()` is a sentence."""

    kind: Kind
    expected: str
    got: str
    call: int | None = None
    name: str | None = None
    path: str | None = None
    at: int | None = None

    def __str__(self) -> str:
        where = ""
        if self.call is not None:
            about = self.name or ""
            if self.path is not None:
                about = f"{about} {self.path!r}".strip()
            where = f"call {self.call}" + (f" ({about})" if about else "") + ": "
        if self.kind in ("stdout", "stderr"):
            where += f"{self.kind} at byte {self.at}: "
        return printable(f"{where}{self.got}; recorded: {self.expected}")


class Differs:
    """Holds the first difference. call, name: of the system call that is being made; about: gives its path."""

    def __init__(self) -> None:
        self.first: Difference | None = None
        self.call: int | None = None
        self.name: str | None = None
        self.about: Callable[[], str | None] = lambda: None

    def note(self, kind: Kind, expected: str, got: str, at: int | None = None) -> None:
        if self.first is None:
            self.first = Difference(kind, expected, got, self.call, self.name, self.about(), at)
