"""Of which stores a version says what is in a file, also to whoever opens the store once more."""

from __future__ import annotations

from hashlib import sha256

from ....errors import FsError
from ...base import Backend, Key, Stat, version_of
from ...memory.backend import MemoryBackend
from .looked import Looked


def looked_at(store: Backend, digests: bool) -> Looked:
    """A new account of what is asked of the store. digests: of everything that is read."""
    lasting, local = _versions_of(store)
    inner = _innermost(store)
    made_ns = inner.made_ns if isinstance(inner, MemoryBackend) else None
    return Looked(store.caps, digests, lasting, local, made_ns)


def file_version(store: Backend, looked: Looked, key: Key, stat: Stat | None) -> str | None:
    """A text that tells which contents the file at `key` has, in whatever store of this kind; None: the store cannot
    tell, or not to whoever opens it once more. stat: what is known of it already."""
    if not looked.lasting:
        return None
    if looked.local:
        return None if stat is None else version_of(stat)
    try:
        version = store.version(key)
    except FsError:
        return None
    # An ETag, and no weak one: other stores only have whole seconds. It is one of that server.
    if version is None or not version.startswith('"'):
        return None
    return f"{sha256(repr(store.identity).encode()).hexdigest()[:16]}-{version}"


def _innermost(store: Backend) -> Backend:
    """Of layers of ours: what stands behind another's nobody knows."""
    while type(store).__module__.startswith("vfswasi.") and isinstance(inner := getattr(store, "inner", None), Backend):
        store = inner
    return store


def _versions_of(store: Backend) -> tuple[bool, bool]:
    """(whether versions of its files mean the same when it is opened once more, whether they are made of times)"""
    from ...local.backend import LocalBackend
    from ...remote.backend import RemoteBackend
    from ..picked import Picked

    store = _innermost(store)
    if isinstance(store, Picked):
        of_files = {_versions_of(each) for each in store.stores()}
        return of_files.pop() if len(of_files) == 1 else (False, False)
    if type(store) is LocalBackend:
        return True, True
    return type(store).__module__.startswith("vfswasi.") and isinstance(store, RemoteBackend), False
