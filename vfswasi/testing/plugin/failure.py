"""`Failure`: one thing that is to fail in the runs of a test."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from types import TracebackType

import vfswasi
from vfswasi import Errno


class Failure:
    """One thing that is to fail. struck: how often it did so, in all runs. As a context manager it holds for the runs
    within; `cancel` ends it."""

    def __init__(
        self,
        asked: str,
        calls: frozenset[str],
        errno: Errno,
        nth: int,
        times: int | None,
        path: str | None,
        strict: bool,
    ) -> None:
        self._asked, self._calls, self._errno, self._path = asked, calls, errno, path
        self._first, self._end = nth, None if times is None else nth + times
        self.strict = strict
        self.active = True
        self.struck = 0
        self._seen: list[int] = []  # matching calls, of each run

    def of_run(self) -> Callable[[vfswasi.Call], Errno | None]:
        """For one run, in which it counts from 1."""
        self._seen.append(0)
        run = len(self._seen) - 1

        def failing(call: vfswasi.Call) -> Errno | None:
            if call.name not in self._calls or not self._fits(call):
                return None
            self._seen[run] = count = self._seen[run] + 1
            if count < self._first or (self._end is not None and count >= self._end):
                return None
            self.struck += 1
            return self._errno

        return failing

    def _fits(self, call: vfswasi.Call) -> bool:
        if self._path is None:
            return True
        pattern = self._path if self._path.startswith("/") else f"*/{self._path}"
        return any(path is not None and fnmatchcase(path, pattern) for path in (call.path, call.target))

    def cancel(self) -> None:
        """Later runs are as if it had not been asked for."""
        self.active = False

    def idle(self) -> str:
        """Why it never struck."""
        if not self._seen:
            return f"{self._asked} never struck: no wasm(...) came after it"
        most = max(self._seen)
        where = "" if self._path is None else f" on {self._path!r}"
        calls = " or ".join(sorted(self._calls))
        return (
            f"{self._asked} never struck: no run had so many calls of {calls}{where}, there were at most {most:,} "
            "(strict=False if that is right)"
        )

    def __repr__(self) -> str:
        return f"<{self._asked}, struck {self.struck:,} times>"

    def __enter__(self) -> Failure:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
