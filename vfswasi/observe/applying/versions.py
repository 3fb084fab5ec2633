"""Stores that tell versions of objects, and replace one as a whole, if it is that version."""

from __future__ import annotations

from ...fs_backends.base import Backend, Key


def is_remote(backend: Backend) -> bool:
    """Of its class; what is not loaded cannot be one."""
    import sys

    module = sys.modules.get(f"{__name__.partition('.')[0]}.fs_backends.remote.backend")
    return module is not None and isinstance(backend, module.RemoteBackend)


commits_as_a_whole = is_remote


def forget(backend: Backend, key: Key) -> None:
    """What was listed of `key`, and all below it, is asked for again."""
    if is_remote(backend):
        backend.listings.forget_below(key)  # type: ignore[attr-defined]
