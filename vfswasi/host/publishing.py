"""What a run changed in its overlays, and making it so in what lies below them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import ApplyError, ConflictError, Errno, FsError, MountError
from ..kernel.process import Preopen
from ..observe.changes import Changes


def changes_of(overlays: Sequence[Preopen]) -> dict[str, Changes]:
    """Guest directory -> what is different there now. The overlays (`mounts.layered.LeasedOverlay`) are closed; of one
    that was closed before this has been told."""
    found = {}
    for preopen in overlays:
        overlay: Any = preopen.backend
        if overlay.is_over:
            continue
        try:
            found[preopen.name] = Changes(overlay.changes(), overlay.layered)
        finally:
            overlay.close()
    return found


def changes_now(preopens: Iterable[Preopen]) -> dict[str, Changes]:
    """Guest directory -> what is different there at this moment, and stays so whatever the guest does next. Raises
    FsError: NOSPC, IO, CANCELED."""
    found = {}
    for preopen in preopens:
        overlay: Any = preopen.backend
        if hasattr(overlay, "layered") and not overlay.is_over:
            copied = overlay.copy()
            try:
                found[preopen.name] = Changes(copied.changes(), overlay.layered)
            finally:
                copied.close()
    return found


def publish_all(changes: Mapping[str, Changes]) -> list[tuple[str, FsError]]:
    """Apply them where the mount says so, one mount after the other; which could not be, and why."""
    lost: list[tuple[str, FsError]] = []
    each: Any
    for name, each in changes.items():
        layered = each.base
        if layered.apply != "success" or not each.entries:
            continue
        try:
            with layered.applying:
                each.apply()
                layered.renew()
        except FsError as error:
            lost.append((name, error))
        except ConflictError as error:
            lost.append((name, _told(Errno.STALE, error)))
        except (ApplyError, MountError, OSError) as error:
            lost.append((name, _told(Errno.IO, error)))
    return lost


def _told(errno: Errno, error: Exception) -> FsError:
    told = FsError(errno, str(error))
    told.__cause__ = error
    return told
