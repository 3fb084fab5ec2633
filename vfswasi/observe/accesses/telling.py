"""By what one mount is told from another, and one thing in it."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from ...errors import FsError
from ...fs_backends.base import Backend, Caps, FileType
from ...fs_backends.layers.accessed.looked import Looked
from ...fs_backends.layers.picked import Picked
from ...kernel.process import Preopen

# What a guest that changes something can tell one store from another by.
_TOLD_BY_CHANGES: Final = (
    Caps.WRITE
    | Caps.RANDOM_WRITE
    | Caps.EMPTY_DIRS
    | Caps.SYMLINKS
    | Caps.HARDLINKS
    | Caps.SET_TIMES
    | Caps.DURABLE_WRITES
)


def digest_of(digests: list[bytes]) -> str:
    """See `Access.digest`."""
    return digests[0].hex() if len(digests) == 1 else sha256(b"".join(digests)).hexdigest()


def target_digest(target: str) -> str:
    return sha256(target.encode("utf-8", "surrogatepass")).hexdigest()


def kind_of(filetype: FileType, device: str | None) -> str:
    """Of what is neither file, directory nor link. device: what opening it gives, None: it was not tried."""
    kind = filetype.name.lower()
    return kind if device is None else f"{kind} {device}"


def clock_apart(looked: Looked, time_ns: int | None) -> int | None:
    """A time of a store; None: it comes from the clock of the run that the store was made for."""
    return None if time_ns == looked.made_ns else time_ns


def way_of(preopen: Preopen) -> str:
    """See `Mounted.way`."""
    if hasattr(preopen.backend, "layered"):
        return "overlay"
    if preopen.readonly:
        return "ro"
    picked = _innermost(preopen.backend)
    return " ".join(["rw", *picked.writable()]) if isinstance(picked, Picked) else "rw"


def caps_of(preopen: Preopen) -> int:
    return (preopen.backend.caps & _TOLD_BY_CHANGES).value


def times_of(preopen: Preopen) -> Any:
    """See `Mounted.times`."""
    shown: Any = preopen.shown
    if shown is None:
        return "shown"
    while not hasattr(shown, "_then_ns") and isinstance(getattr(shown, "inner", None), Backend):
        shown = shown.inner
    # The instant that is shown in place of all times; who has none shows them.
    return "kept" if getattr(shown, "_then_ns", None) is None else "hidden"


def start_of(preopen: Preopen) -> tuple[str | None, str | None]:
    """(a digest of the changes that its overlay began with, why there is none)"""
    layered: Any = getattr(preopen.backend, "layered", None)
    begin = None if layered is None else layered.mount.overlay
    if begin is None or isinstance(begin, bool) or not begin.entries:
        return None, None
    from ..saved.writing import saved_bytes  # few overlays begin with some

    try:
        return sha256(saved_bytes(begin.entries, None)).hexdigest(), None
    except (FsError, OSError, ValueError) as error:
        return None, f"the changes that its overlay began with cannot be read: {error}"


def _innermost(store: Backend) -> Backend:
    while isinstance(inner := getattr(store, "inner", None), Backend):
        store = inner
    return store
