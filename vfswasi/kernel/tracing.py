"""Who is told of a guest's calls: nobody, or a tracer."""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import Errno


class Tracer(Protocol):
    """Told of each system call, on the guest's thread. What it raises ends the guest, and reaches who runs it."""

    def before(self, process: Any, memory: Any, abi: Any, name: str, arguments: tuple[int, ...]) -> Errno | None:
        """A call is about to be made. An errno: it is not made, and that is what the guest gets.

        process: the `Process`. memory: the guest's (`syscalls.memory.GuestMemory`). abi: the snapshot that the call is
        of (`abi.layouts.Abi`). name: in WASI. arguments: the numbers that it passed.
        """

    def after(self, process: Any, memory: Any, errno: Errno) -> None:
        """It was made, or refused: what `before` was told of last has ended so."""

    def ended(self, end: BaseException) -> None:
        """It has not come back: the guest has ended inside it."""

    def again(self) -> Tracer:
        """What a copy of the process is to have."""
