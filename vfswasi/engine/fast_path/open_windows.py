"""The windows of one guest together: who gives up memory for another, and what happens to all of them."""

from __future__ import annotations

from ...errors import FsError
from ...logs import logger
from . import vdso
from .windows import FileWindow

_log = logger("vfswasi.vdso")


class OpenWindows(dict[FileWindow, None]):
    """The one that was moved longest ago comes first. A window may leave while something happens to all."""

    def take_region(
        self, regions: vdso.Regions, size: int, window: FileWindow, from_others: bool
    ) -> tuple[int, int] | None:
        """Room for `window`, and its size; None if there is not that much."""
        self.pop(window, None)
        self[window] = None
        found = regions.take(size)
        if found is None and from_others:
            for other in list(self):
                if other is not window and other.give_up_region():
                    found = regions.take(size)
                    if found is not None:
                        break
        return found

    def release_space(self) -> bool:
        """Give back what is reserved in the stores for writes to come; whether there was anything."""
        released = False
        for window in list(self):
            try:
                released |= window.release_space()
            except FsError:
                pass  # it keeps what it has, and its own file will hear of it
        return released

    def settle(self) -> None:
        """The stores get what was written."""
        for window in list(self):
            try:
                # Somebody else may want the space meanwhile.
                if not window.release_space():
                    window.settle()
            except FsError as error:
                _log.debug("a file could not be written back: %s", error)

    def refresh(self, everything: bool) -> None:
        """What was read is looked at again; without `everything`, of files that others may change at any time."""
        for window in list(self):
            if everything or window.shared:
                try:
                    window.refresh()
                except FsError as error:
                    _log.debug("a file could not be looked at again: %s", error)

    def dissolve(self) -> None:
        """Give all back; those whose stores do not take it now stay."""
        for window in list(self):
            try:
                window.dissolve()
            except FsError as error:
                _log.debug("a file could not be written back: %s", error)
