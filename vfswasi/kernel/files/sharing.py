"""Who else has a store mounted: what a run may keep to itself depends on it.

A run may keep contents that it read as long as nobody else can write to the store, and may keep back what it wrote
as long as nobody else can look. Runs of this process are known here; other processes are the business of stores that
say `Caps.SHARED`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class Share:
    """One run's part in a store. `revoke` is called, on any thread, when another run comes along that may not find
    this one keeping things to itself."""

    __slots__ = ("__weakref__", "identity", "revoke", "writes")

    def __init__(self, identity: object, writes: bool) -> None:
        self.identity = identity
        self.writes = writes
        self.revoke: Callable[[], None] | None = None

    def may_keep_reads(self) -> bool:
        """Whether nobody else can write to the store."""
        return not any(other.writes for other in _others(self))

    def may_keep_writes(self) -> bool:
        """Whether nobody else has the store."""
        return not _others(self)


# Reentrant: a share may be collected, and leave by itself, wherever this thread holds the lock.
_lock = threading.RLock()
_shares: dict[object, list[weakref.ref[Share]]] = {}


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


def _others(share: Share) -> list[Share]:
    with _lock:
        found = [ref() for ref in _shares.get(share.identity, ())]
    return [other for other in found if other is not None and other is not share]


def join(share: Share) -> None:
    """The run begins to use the store."""
    identity = share.identity
    with _lock:
        _shares.setdefault(identity, []).append(weakref.ref(share, lambda _: _remove(identity, None)))
    for other in _others(share):
        if (share.writes or other.writes) and other.revoke is not None:
            other.revoke()


def leave(share: Share) -> None:
    """The run is done with the store; harmless to say twice."""
    _remove(share.identity, share)


def _remove(identity: object, gone: Share | None) -> None:
    """Take `gone` off the list, and whatever was collected without leaving."""
    with _lock:
        refs = [ref for ref in _shares.get(identity, ()) if (share := ref()) is not None and share is not gone]
        if refs:
            _shares[identity] = refs
        else:
            _shares.pop(identity, None)
