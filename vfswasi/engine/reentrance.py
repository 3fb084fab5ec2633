"""System calls in a store that the user made: one at a time, and only where there is stack for one.

There the host's code that a call runs (a stream, a backend) may have the instance at hand, and call the guest. As long
as that computes, it may. A system call in the middle of another one is refused: what the first has read, charged and
moved would change under it. The same refusal meets another thread.
"""

from __future__ import annotations

from ..errors import WasiStateError
from ..limits import Limits
from .fast_path.publishing import FastPath
from .memory import MovingMemory
from .threads import stacks


class Turn:
    """Whether a call of one guest is going on. `memory`: what it uses; None if nobody has looked for it yet."""

    __slots__ = ("_busy", "memory")

    def __init__(self) -> None:
        self._busy = False
        self.memory: MovingMemory | None = None

    def begin(self, fast: FastPath | None, caller: int) -> None:
        """A call begins. `caller`: any address on the stack here. Raises WasiStateError."""
        if self._busy or (fast is not None and fast.busy):
            raise WasiStateError(
                "a system call was made in the middle of another one of the same guest: what a stream or a backend "
                "calls must make none"
            )
        left = stacks.room_below(caller)
        if left is not None and left < stacks.CALL_BYTES:
            raise WasiStateError(
                f"a system call was made with {left >> 10} KiB of the thread's stack left: call the guest on a thread "
                "with a larger stack, or give its engine less with Config.max_wasm_stack"
            )
        self._busy = True
        if fast is not None:
            fast.begin()

    def memory_of(self, caller: int, limits: Limits) -> MovingMemory:
        """The caller's memory."""
        if self.memory is None:
            self.memory = MovingMemory.of_caller(caller, limits)
        return self.memory

    def end(self, fast: FastPath | None) -> None:
        """It is over, however it ended."""
        self._busy = False
        if self.memory is not None:
            self.memory.begin()
        if fast is not None:
            fast.end()
