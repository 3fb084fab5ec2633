"""The preopens of a sandbox: opened once, checked against each other, given to every run."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FsError, MountError, errno_of
from ..fs_backends.base import Backend, Caps, Key, Traffic
from ..fs_backends.layers.checked import checked
from ..fs_backends.layers.readonly import ReadOnly
from ..fs_backends.memory.backend import MemoryBackend
from ..fs_backends.waiting import check_time
from ..holders import holders
from ..kernel.process import Preopen
from ..limits import Limits
from ..printing import shown
from .options import Mount, guest_name

if TYPE_CHECKING:
    from ..fs_backends.trust.directories import Seen
    from .sources import Source


class _Prepared(NamedTuple):
    """One mount, ready to be given to runs."""

    name: str
    readonly: bool
    backend: Backend | None  # None: `tree` is made anew for each run
    tree: Mapping[str, Any] | None
    owned: bool
    overlap: bool


class _Shown:
    """What a mount shows, asked for once."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._identity = backend.identity
        self._place = backend.place

    @functools.cached_property
    def _seen(self) -> Seen | None:
        """Of a local directory; None: it cannot be looked at."""
        from ..fs_backends.trust.directories import seen_from

        return seen_from(_path_of(self._place or ()), self._identity)

    def conflicts(self, other: _Shown) -> bool:
        """Whether both show something that the other does."""
        if self._identity == other._identity:
            return True
        place, others = self._place, other._place
        if place is None or others is None:
            return False
        count = min(len(place), len(others))
        if place[:count] == others[:count]:
            return True
        if place[0] != "local" or others[0] != "local":
            return False
        return self._seen is None or other._seen is None or self._seen.meets(other._seen)


class MountTable:
    """The preopens of a sandbox: opened once, given to every run."""

    def __init__(self, preopens: Mapping[str, Source] | None, trusted: Iterable[str | os.PathLike[str]] = ()) -> None:
        """`preopens`: guest directory -> source, in the order in which the guest gets them. `trusted`: directories
        of this machine that no guest may write to.

        Raises MountError (missing, corrupt, twice, overlapping, shows what is trusted), TypeError, ValueError.
        """
        self._trusted = [os.path.abspath(directory) for directory in trusted]
        self._mounts: list[_Prepared] = []
        self._names: set[str] = set()
        self._shown: dict[bool, list[_Shown]] = {False: [], True: []}  # by whether they are read-only
        if preopens is None:
            return
        if not isinstance(preopens, Mapping):
            raise TypeError(f"preopens must map guest directories to sources, not {type(preopens).__name__}")
        try:
            for name, source in preopens.items():
                self._add(name, source)
        except BaseException:
            self.close()
            raise

    def _add(self, name: str, source: Source) -> None:
        name = guest_name(name)
        if name in self._names:
            raise MountError(f"mount {name!r}: given twice; each guest directory can have one source")
        prepared = _prepare(name, source)
        self._names.add(name)
        self._mounts.append(prepared)  # before the check, so that close() finds it
        if not prepared.readonly and prepared.backend is not None:
            _check_trusted(name, prepared.backend, self._trusted)
        if prepared.backend is not None and not prepared.overlap:
            self._compare(_Shown(name, prepared.backend), prepared.readonly)

    def _compare(self, shown: _Shown, readonly: bool) -> None:
        """With the mounts that have other permissions. Raises MountError; FsError: CANCELED."""
        for count, other in enumerate(self._shown[not readonly]):
            if not count & 255:
                check_time("mounting")
            if shown.conflicts(other):
                raise MountError(
                    f"mount {shown.name!r}: shows the same directories as mount {other.name!r} with other permissions; "
                    "use Mount(..., overlap=True) or the option overlap if that is meant"
                )
        self._shown[readonly].append(shown)

    def instantiate(self, limits: Limits, trees: Mapping[str, MemoryBackend] | None = None) -> list[Preopen]:
        """The preopens of one run; literal trees are copied into new stores. `trees`: such stores by guest directory,
        which are used as they are."""
        preopens = []
        for mount in self._mounts:
            backend = mount.backend
            if backend is None and trees is not None:
                backend = trees[mount.name]
            elif backend is None:
                backend = MemoryBackend.with_room(mount.tree or {}, limits.memory_files_bytes)
            backend = checked(backend)
            preopens.append(Preopen(mount.name, ReadOnly(backend) if mount.readonly else backend, mount.readonly))
        return preopens

    def copied_trees(self, preopens: Iterable[Preopen]) -> dict[str, MemoryBackend]:
        """Of the preopens of a run, copies of those stores that were made for it, for another run that shall find the
        same. Raises FsError (CANCELED)."""
        own = {mount.name for mount in self._mounts if mount.backend is None}
        trees = {}
        for preopen in preopens:
            backend = preopen.backend.inner if isinstance(preopen.backend, ReadOnly) else preopen.backend
            if preopen.name in own and isinstance(backend, MemoryBackend):
                trees[preopen.name] = backend.copy()
        return trees

    def traffic(self) -> dict[str, Traffic]:
        """What the stores that are far away have cost so far."""
        found = {mount.name: checked(mount.backend).traffic() for mount in self._mounts if mount.backend is not None}
        return {name: traffic for name, traffic in found.items() if traffic is not None}

    def close(self) -> None:
        """Close the backends that were opened here. Raises what the first that cannot be closed raises, after all."""
        mounts, self._mounts = self._mounts, []
        with contextlib.ExitStack() as stack:
            for mount in reversed(mounts):
                if mount.owned and mount.backend is not None:
                    stack.callback(mount.backend.close)

    def __iter__(self) -> Iterator[str]:
        return (mount.name for mount in self._mounts)


def _check_trusted(name: str, backend: Backend, trusted: Iterable[str]) -> None:
    place = backend.place
    if place is None or place[0] != "local":
        return
    from ..fs_backends.trust.directories import mount_table, seen_from

    table = mount_table()
    mounted = seen_from(_path_of(place), backend.identity, table)
    for directory in trusted:
        inside = seen_from(os.path.realpath(directory), None, table)
        above = [seen_from(holder, None, table) for holder in holders(directory)]
        shows = mounted is None or any(holder is not None and mounted.holds(holder) for holder in above)
        if shows or (inside is not None and mounted is not None and (inside.holds(mounted) or mounted.holds(inside))):
            raise MountError(
                f"mount {name!r}: a program that writes there could change what vfswasi runs or trusts, in "
                f"{directory}; mount another directory, or mount it read-only, or set VFSWASI_CACHE_DIR and "
                "VFSWASI_KEY_DIR to directories outside of it"
            )


def _path_of(place: Key) -> str:
    return "/".join(place[1:]) or "/"


def _prepare(name: str, source: Source) -> _Prepared:
    # What is known of stores is imported when there is one to mount.
    from ..fs_backends.remote.translate import scrubbed
    from .sources import open_mount, tree_of

    mount = source if isinstance(source, Mount) else Mount(source)
    given = mount.source
    try:
        tree = tree_of(mount)
    except MountError as error:
        raise MountError(f"mount {name!r}: {error}") from error
    if tree is not None:
        MemoryBackend.with_room(tree, 0)  # a mistake in the literal shows now, not at the first run
        return _Prepared(name, mount.rw is False, None, tree, False, mount.overlap)
    try:
        backend = open_mount(mount)
    except MountError as error:
        raise MountError(f"mount {name!r}: {error}") from scrubbed(error)
    except FsError as error:  # a limit of what mounting may use up
        raise MountError(f"mount {name!r}: {shown(given)}: {error.detail or errno_of(error).name}") from scrubbed(error)
    writable = Caps.WRITE in backend.caps
    if mount.rw and not writable:
        if backend is not given:
            backend.close()
        raise MountError(f"mount {name!r}: {shown(given)} can only be read; mount it without rw")
    rw = mount.rw if mount.rw is not None else isinstance(given, MemoryBackend)
    return _Prepared(name, not rw, backend, None, backend is not given, mount.overlap)
