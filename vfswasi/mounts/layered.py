"""What is mounted with an overlay: a base that stays as it is, and a new overlay above it for each run."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from ..errors import FsError, MountError
from ..fs_backends.base import Backend, Caps
from ..fs_backends.layers.checked import checked
from ..fs_backends.layers.overlay.backend import OverlayBackend
from ..fs_backends.layers.overlay.difference import difference
from ..fs_backends.layers.overlay.entries import Entry, Layer
from .lent import Lent
from .options import Mount, for_reading

MADE_ANEW: Final = (
    "a tree in memory is made anew for each run, so that changes cannot be applied to it; mount a MemoryBackend, or "
    "take them from Result.changes"
)


class Layered:
    """The base of one mount. It is closed when the mount is and nobody uses it any more; who wants to look at it after
    that opens it once more (`open`), which is what changes are compared with.

    source: what is mounted; None: it was made for this mount alone. text: the same for people, without secrets.
    apply: when changes are applied to it; None: never by themselves.
    """

    def __init__(self, mount: Mount, base: Backend, text: str, *, owned: bool, made_anew: bool) -> None:
        self.mount = mount = settled(mount)
        self.source: Any = None if made_anew else mount
        self.text = text
        self.apply: str | None = mount.apply
        self.applying = threading.Lock()  # one run's changes after another's
        self._base = Lent(base, owned)
        self.root = root_of(base)  # what `source` led to when it was mounted
        self._owned = owned
        self._made_anew = made_anew
        self._lock = threading.Lock()

    def overlay(
        self, below: Callable[[Backend], Backend] = checked, now_ns: Callable[[], int] | None = None
    ) -> LeasedOverlay:
        """A new one. below: what is put between it and the base. now_ns: where its times come from. Raises
        MountError: the changes that it is to begin with were made on something else."""
        begin: Layer | None = self.mount.overlay if not isinstance(self.mount.overlay, bool) else None
        with self._lock:
            shared = self._base
            shared.take()
        try:
            return LeasedOverlay(shared, self, begin, self._made_anew, below, now_ns)
        except FsError as error:
            shared.give()
            raise MountError(f"the changes cannot be made on {self.text}: {error.detail or error}") from error
        except BaseException:
            shared.give()
            raise

    def made_of(self, base: Backend) -> Layered:
        """The same over another tree in memory, which was made for one run and has its times."""
        return Layered(self.mount, base, self.text, owned=True, made_anew=True)

    @contextlib.contextmanager
    def open(self) -> Iterator[Backend]:
        """The base, for reading. Raises MountError."""
        with self._lock:
            shared = self._base
            there = shared.try_take()
        if self._made_anew and not there:  # a tree in memory, of which there is no other
            yield shared.backend
            return
        if there:
            try:
                yield checked(shared.backend)
            finally:
                shared.give()
            return
        from .finding.sources import open_source

        backend = open_source(for_reading(self.mount))
        try:
            check_root(self, backend)
            yield checked(backend)
        finally:
            backend.close()

    def renew(self) -> None:
        """It has been changed, by us: later runs get it as it is now. Raises MountError."""
        if not self._owned or self._made_anew:
            return
        from .finding.sources import open_source

        backend = open_source(for_reading(self.mount))
        try:
            check_root(self, backend)
        except BaseException:
            backend.close()
            raise
        fresh = Lent(backend, True)
        with self._lock:
            old, self._base = self._base, fresh
        old.close()

    def close(self) -> None:
        self._base.close()


def root_of(backend: Backend) -> object:
    """Which directory or archive of this machine it is; None: none of these, or nobody can put another in its place."""
    place = backend.place
    if place is None or place[0] not in ("local", "archive"):
        return None
    if place[0] == "archive":  # it gets another number whenever it is written anew
        return place
    found = backend.stat(())
    return None if found.ident is None else ("directory", found.ident)


def check_root(base: Any, backend: Backend) -> None:
    """base: has a `root`, of what was mounted. Raises MountError: the same source leads to something else now, such as
    through a link that a program put in the place of a directory."""
    root = getattr(base, "root", None)
    if root is not None and root_of(backend) != root:
        raise MountError(f"{base.text} is not what was mounted: another directory or archive is in its place now")


def settled(mount: Mount) -> Mount:
    """With a path that means the same wherever the process is when it is opened again."""
    from dataclasses import replace

    from .finding.source_text import local_path

    source = mount.source
    if isinstance(source, os.PathLike) and not hasattr(source, "fs"):
        return replace(mount, source=os.path.abspath(os.fsdecode(source)))
    path = local_path(source) if isinstance(source, str) and source not in ("mem:", "dev:") else None
    return replace(mount, source=os.path.abspath(path)) if path and "\0" not in path else mount


def check_writable(mount: Mount, base: Backend, text: str) -> None:
    """Changes can be applied to it some day. Raises MountError."""
    place = base.place
    if Caps.WRITE in base.caps or (place is not None and place[0] == "archive"):
        return
    from dataclasses import replace

    from .finding.sources import open_mount

    try:
        backend = base
        if base is not mount.source:
            backend = open_mount(replace(mount, rw=True, overlay=False, apply=None))
            backend.close()
        if Caps.WRITE not in backend.caps:
            raise MountError(f"{text} can only be read")
    except MountError as error:
        raise MountError(f"changes could not be applied: {error}; leave out apply") from error


class LeasedOverlay(OverlayBackend):
    """The overlay of one run. layered: the mount that it is of."""

    def __init__(
        self,
        shared: Lent,
        layered: Layered,
        begin: Layer | None,
        made_anew: bool,
        below: Callable[[Backend], Backend],
        now_ns: Callable[[], int] | None,
    ) -> None:
        self._shared, self._below = shared, below
        self.layered = layered
        super().__init__(below(checked(shared.backend)), begin, private=made_anew, now_ns=now_ns or time.time_ns)
        self._give = weakref.finalize(self, shared.give)

    def _empty_copy(self) -> OverlayBackend:
        self._shared.take()
        try:
            return LeasedOverlay(self._shared, self.layered, None, self._tree.made_anew, self._below, None)
        except BaseException:
            self._shared.give()
            raise

    def changes(self) -> tuple[Entry, ...]:
        """As `entries`, for those who look at them when this is closed."""
        with self._lock:
            return tuple(difference(self._tree, self.layered))

    @property
    def is_over(self) -> bool:
        return not self._give.alive

    def close(self) -> None:
        try:
            if self._give.alive:
                super().close()
        finally:
            self._give()
