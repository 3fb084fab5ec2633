"""`Changes.apply`: to which target, and how."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ...errors import ApplyError, ConflictError, FsError, MountError
from ...fs_backends.base import Backend, Caps, Key
from ...fs_backends.layers.checked import checked as looked_at
from ...fs_backends.local.backend import LocalBackend
from ...fs_backends.waiting import check_time
from ...mounts.finding.sources import open_mount
from ...mounts.layered import check_root
from ...mounts.options import Mount
from ...printing import shown
from . import archive, elsewhere, local
from .comparing import original_of
from .conflicts import Checked, check, is_there_already
from .plan import Plan
from .progress import Progress, Steps
from .versions import forget

_POLL_S: Final = 0.02


def apply(changes: Any, target: Any = None, progress: Progress | None = None) -> bool:
    """changes: `Changes`. Returns False: everything was there already, as the changes leave it.

    Raises ConflictError, ApplyError, MountError, TypeError.
    """
    mount = _mount_of(changes.base, target)
    plan = Plan(changes.entries)
    found = archive.path_of(mount)
    total = sum(item.entry.size for item in plan.contents()) + len(plan.coming())
    try:
        if found is not None:
            if target is None:
                _check_archive(changes.base, found[0])
            return _to_archive(changes, plan, *found, target is None, progress)
        with _opened(mount) as backend:
            if target is None:
                check_root(changes.base, backend)
            return _to_backend(changes, plan, backend, target is None, Steps(progress, total))
    except FsError as error:
        raise ApplyError(
            f"the changes were not applied, nothing was changed: {error}", left=[item.path for item in plan.items]
        ) from error


def _mount_of(base: Any, target: Any) -> Mount:
    """What is changed, to be written to. Raises MountError."""
    source = target
    if target is None:
        source = None if base is None else base.source
        if source is None:
            raise MountError(
                "the changes do not lead to what they were made on; say what to apply them to: changes.apply(target)"
            )
    mount = source if isinstance(source, Mount) else Mount(source)
    if isinstance(mount.source, Mapping) or mount.source == "mem:":
        raise MountError(
            "changes cannot be applied to a tree that is made anew for each run; give a target, such as a directory or "
            "a MemoryBackend"
        )
    if mount.file:
        raise MountError(f"{shown(mount.source)}: changes are applied to a directory or an archive, not to one file")
    if target is not None and mount.rw is False:
        raise MountError(f"{shown(mount.source)}: changes cannot be applied to what is mounted to be read only")
    if target is not None and mount.overlay is not False:
        raise MountError(
            f"{shown(mount.source)}: changes cannot be applied to an overlay, which would be forgotten; leave it out"
        )
    return replace(mount, rw=True, overlay=False, apply=None)


def _check_archive(base: Any, path: str) -> None:
    """Raises MountError: it is not the archive that was mounted."""
    root = getattr(base, "root", None)
    if root is not None and tuple(root)[:2] != ("archive", os.path.realpath(path)):
        raise MountError(f"{base.text} is not what was mounted: another directory or archive is in its place now")


@contextlib.contextmanager
def _opened(mount: Mount) -> Iterator[Backend]:
    """Raises MountError, FsError, TypeError."""
    backend = open_mount(mount)
    try:
        if Caps.WRITE not in backend.caps:
            raise MountError(f"{shown(mount.source)}: changes cannot be applied to what can only be read")
        yield looked_at(backend)
    finally:
        if backend is not mount.source:
            backend.close()


def _check(changes: Any, plan: Plan, backend: Backend, is_base: bool, below: Key = ()) -> Checked | None:
    """None: everything is there already. Raises ConflictError, FsError."""
    forget(backend, ())
    with original_of(changes.base, backend, is_base) as original:
        try:
            checked = check(plan, backend, original, below)
        except ConflictError:
            if not is_there_already(plan, backend, original, below):
                raise
            return None
    if is_base:  # of which the contents are in part
        for item in plan.contents():
            keep = getattr(item.entry.content, "keep_whole", None)
            if keep is not None:
                keep()
    return checked


def _to_backend(changes: Any, plan: Plan, backend: Backend, is_base: bool, steps: Steps) -> bool:
    answer: list[Checked | None] = []

    def look() -> Checked | None:
        answer.append(_check(changes, plan, backend, is_base))
        return answer[-1]

    if isinstance(backend, LocalBackend):
        local.apply(plan, backend, look, steps)
        return answer != [None]
    with _alone(backend.identity):
        checked = look()
        if checked is None:
            return False
        try:
            elsewhere.apply(plan, backend, checked, steps)
        except BaseException:
            backend.finish(False)
            raise
        backend.finish(True)
        return True


_alone_with: dict[object, list[Any]] = {}  # identities of stores to (a lock, how many use it)
_lock = threading.Lock()


@contextlib.contextmanager
def _alone(identity: object) -> Iterator[None]:
    """No other thread of this process is in this block for the same store; waits for it as long as the run has time.
    Raises CANCELED."""
    with _lock:
        entry = _alone_with.setdefault(identity, [threading.RLock(), 0])
        entry[1] += 1
    try:
        while not entry[0].acquire(timeout=_POLL_S):
            check_time("changes")
        try:
            yield
        finally:
            entry[0].release()
    finally:
        with _lock:
            entry[1] -= 1
            if not entry[1]:
                del _alone_with[identity]


class _AlreadyThere(Exception):
    pass


def _to_archive(changes: Any, plan: Plan, path: str, below: Key, is_base: bool, progress: Progress | None) -> bool:
    def look(old: Backend) -> None:
        if _check(changes, plan, old, is_base, below) is None:
            raise _AlreadyThere

    try:
        archive.apply(path, below, changes.entries, look, progress)
    except _AlreadyThere:
        return False
    return True
