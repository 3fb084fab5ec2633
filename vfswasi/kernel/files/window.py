"""What the kernel knows of a cache that keeps part of an open file nearer to the guest than its store."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from ...fs_backends.base import Handle, Stat


class Windows(Protocol):
    """All windows of a run."""

    def settle(self) -> None:
        """The stores get everything; before the guest waits, or our own code looks at them. What a store does
        not take stays in the window, and the file's own calls will say so."""

    def refresh(self, everything: bool) -> None:
        """What was read is looked at again before it counts: after a wait what others share, after code of the
        host's everything."""


class Window(Handle):
    """Stands in place of a `FileInode`'s handle, so whatever goes through the handle sees what was written.

    What reaches the store another way (a lookup by path, another run) needs `settle` first.
    """

    @abstractmethod
    def settle(self) -> bool:
        """Give the store what it does not have yet; whether there was anything. Raises what `Handle.write_from`
        raises, and has kept everything then."""

    @abstractmethod
    def forget_attributes(self) -> None:
        """The file's attributes were changed by its path: names, times."""

    @abstractmethod
    def keep_attributes(self, stat: Stat) -> None:
        """The file's attributes, as the guest may be told until something changes."""

    @abstractmethod
    def dissolve(self) -> None:
        """`settle`, and put the store's own handle back in its place. Raises what `settle` raises, and is still there
        then."""


def tick_ns(mtim_ns: int, ctim_ns: int) -> int:
    """How long two changes may have the same time: 2 s where times are whole seconds (FAT, some servers), else the
    interval at which kernels of a low HZ update their clock, twice over."""
    return 20_000_000 if mtim_ns % 1_000_000_000 or ctim_ns % 1_000_000_000 else 2_000_000_000
