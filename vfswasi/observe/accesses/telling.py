"""By what one mount is told from another, and one thing in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ...errors import FsError
from ...fs_backends.base import Backend, Caps, FileType, Key
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


def caps_of(preopen: Preopen) -> int | None:
    """See `Mounted.caps`."""
    return None if preopen.readonly else (preopen.backend.caps & _TOLD_BY_CHANGES).value


def times_of(preopen: Preopen) -> Any:
    """See `Mounted.times`."""
    shown: Any = preopen.shown
    if shown is None:
        return "shown"
    while not hasattr(shown, "then_ns") and isinstance(getattr(shown, "inner", None), Backend):
        shown = shown.inner
    # The instant that is shown in place of all times; who has none shows them.
    return "kept" if getattr(shown, "then_ns", None) is None else "hidden"


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


def shares_of(preopens: Iterable[Preopen], stores: Mapping[str, Backend]) -> dict[str, str]:
    """`Mounted.shares` of those mounts that have any. stores: behind each of the preopens.

    A guest can tell mounts of one store by their device numbers, and sees through one what it has changed through
    another."""
    parts = [part for preopen in preopens for part in _parts(preopen, stores[preopen.name])]
    places: dict[Key, list[_Part]] = {}
    for part in parts:
        if part.place is not None:
            places.setdefault(part.place, []).append(part)
    first: dict[object, _Part] = {}
    found: dict[str, list[str]] = {}
    for part in parts:
        same = first.setdefault(part.identity, part)
        if same is not part and (same.writes or part.writes or (same.is_whole and part.is_whole)):
            found.setdefault(part.mount, []).append(f"{part.path} is {same.path}")
        place = part.place or ()
        for length in range(len(place), 0, -1):
            for other in places.get(place[:length], ()):
                if other.identity != part.identity and (other.writes or part.writes):
                    inside = "/".join((other.path, *place[length:]))
                    found.setdefault(part.mount, []).append(f"{part.path} is {inside}")
    return {name: "; ".join(told) for name, told in found.items()}


class _Part(NamedTuple):
    """path: for the guest. writes: it can change what it shows."""

    mount: str
    path: str
    identity: object
    place: Key | None
    writes: bool

    @property
    def is_whole(self) -> bool:
        """Not a single file, which has no device number of its own."""
        return self.path == self.mount


def _parts(preopen: Preopen, store: Backend) -> Iterator[_Part]:
    name, picked = preopen.name, _innermost(store)
    if isinstance(picked, Picked):
        written = picked.writable()
        for file, identity, place in picked.shown():
            yield _Part(name, f"{name.rstrip('/')}/{file}", identity, place, file in written)
    else:
        yield _Part(name, name, store.identity, store.place, way_of(preopen) == "rw")


def _innermost(store: Backend) -> Backend:
    while isinstance(inner := getattr(store, "inner", None), Backend):
        store = inner
    return store
