"""The preopens of a sandbox: opened once, checked against each other, given to every run."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..errors import MountError
from ..fs_backends.base import Backend, Key, Traffic
from ..fs_backends.layers.checked import checked
from ..fs_backends.layers.readonly import ReadOnly
from ..fs_backends.layers.recorded import Book, Recorded
from ..fs_backends.memory.backend import MemoryBackend
from ..fs_backends.memory.literal import frozen
from ..fs_backends.waiting import check_time
from ..holders import holders
from ..kernel.process import Preopen
from ..limits import Limits
from .dress import PLAIN, Dress
from .lent import ChangedInPlace, FilesInPlace, StoreInPlace, TreeLiteral
from .options import guest_name
from .prepared import Prepared, prepare

if TYPE_CHECKING:
    from ..fs_backends.layers.picked import OneFile
    from ..fs_backends.trust.directories import Seen
    from .finding.source_types import Source


_ALONE: Final = (
    "{!r} is mounted, and so is a single file in it; a directory in which single files are mounted has nothing else: "
    "mount the file in another directory, or put it into what is mounted there"
)


class _Shown:
    """What a mount shows, asked for once."""

    def __init__(self, name: str, backend: Backend | OneFile) -> None:
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

    def __init__(
        self,
        preopens: Mapping[str, Source] | None,
        trusted: Iterable[str | os.PathLike[str]] = (),
        base: MountTable | None = None,
    ) -> None:
        """`preopens`: guest directory -> source, in the order in which the guest gets them. `trusted`: directories
        of this machine that no guest may write to. `base`: mounts that the guest gets too, each in its place, unless
        it is one of `preopens`; they stay those of `base`, which has to outlive this table.

        Raises MountError (missing, corrupt, twice, overlapping, shows what is trusted), TypeError, ValueError.
        """
        self._trusted = [os.path.abspath(directory) for directory in trusted]
        self._mounts: list[Prepared] = []
        self._shown: dict[bool, list[_Shown]] = {False: [], True: []}  # by whether they are read-only
        if preopens is None:
            return
        if not isinstance(preopens, Mapping):
            raise TypeError(f"preopens must map guest directories to sources, not {type(preopens).__name__}")
        try:
            self._add_all(preopens, base)
            self._check_single_files()
        except BaseException:
            self.close()
            raise

    def _add_all(self, preopens: Mapping[str, Source], base: MountTable | None) -> None:
        kept = {} if base is None else {mount.name: mount._replace(owned=False) for mount in base._mounts}
        replaced: dict[str, Source] = {}
        added: dict[str, Source] = {}
        for given, source in preopens.items():
            name = guest_name(given)
            if name in replaced or name in added:
                raise MountError(f"mount {name!r}: given twice; each guest directory can have one source")
            (replaced if name in kept else added)[name] = source
        for name, mount in kept.items():
            if name in replaced:
                self._add(prepare(name, replaced[name]))
            else:
                self._add(mount)
        for name, source in added.items():
            self._add(prepare(name, source))

    def _add(self, prepared: Prepared) -> None:
        self._mounts.append(prepared)  # before the checks, so that close() finds it
        shows = prepared.file or prepared.backend
        if shows is not None:
            self._check(prepared, shows)

    def _check_single_files(self) -> None:
        """Raises MountError: the directory of one is mounted too."""
        whole = {mount.name for mount in self._mounts if mount.file is None}
        for mount in self._mounts:
            if mount.file is not None and mount.directory in whole:
                raise MountError(f"mount {mount.name!r}: {_ALONE.format(mount.directory)}")

    def _check(self, prepared: Prepared, shows: Backend | OneFile) -> None:
        """Raises MountError."""
        if not prepared.changes_nothing:
            check_trusted(prepared.name, shows, self._trusted)
        if not prepared.overlap:
            self._compare(_Shown(prepared.name, shows), prepared.changes_nothing)

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

    def instantiate(
        self,
        limits: Limits,
        trees: Mapping[str, Backend] | None = None,
        *,
        recorded: bool = False,
        dress: Dress = PLAIN,
    ) -> list[Preopen]:
        """The preopens of one run; literal trees are copied into new stores, and overlays begin anew.

        trees: such stores by guest directory, which are used as they are. recorded: stores keep account of what the run
        changes in them. dress: what else is between them and the run. Raises MountError: changes that an overlay begins
        with were made on something else.
        """
        preopens: dict[str, Preopen] = {}
        dress = dress.for_one_run()
        if not self.has_overlays:
            self._instantiate(preopens, limits, trees, None, {} if recorded else None, dress)
            return list(preopens.values())
        with contextlib.ExitStack() as opened:
            self._instantiate(preopens, limits, trees, opened, {} if recorded else None, dress)
            opened.pop_all()
        return list(preopens.values())

    def _instantiate(
        self,
        preopens: dict[str, Preopen],
        limits: Limits,
        trees: Mapping[str, Backend] | None,
        opened: contextlib.ExitStack | None,
        books: dict[object, Book] | None,
        dress: Dress,
    ) -> None:
        for mount in self._mounts:
            if mount.file is not None:
                if mount.directory not in preopens:
                    preopens[mount.directory] = self._picked(mount.directory, books is not None, dress)
                continue
            base: ChangedInPlace | TreeLiteral | None = mount.in_place
            backend: Any = mount.backend
            if trees is not None and (backend is None or mount.layered is not None):
                backend = trees[mount.name]
                if dress.now_ns is not None:
                    backend.take_times_from(dress.now_ns)
            elif mount.layered is not None:
                layered = mount.layered
                if dress.now_ns is not None and mount.tree is not None:
                    layered = layered.made_of(MemoryBackend.with_room(mount.tree, 0, dress.now_ns()))
                backend = layered.overlay(partial(dress.below, mount.name), dress.now_ns)
                if opened is not None:
                    opened.callback(backend.close)
            elif backend is None:
                tree, made_ns = mount.tree or {}, (dress.now_ns or time.time_ns)()
                if tree and books is not None and not mount.readonly:
                    tree = frozen(tree)
                backend = MemoryBackend.with_room(tree, limits.memory_files_bytes, made_ns)
                if dress.now_ns is not None:
                    backend.take_times_from(dress.now_ns)
                base = TreeLiteral(tree, made_ns)
            backend = store = checked(backend)
            if mount.layered is None:
                backend = dress.below(mount.name, backend)
            if books is not None and not mount.readonly and base is not None:
                book = books.get(backend.identity)
                if book is None:
                    again = mount.in_place
                    book = books[backend.identity] = Book(store, again is None, again)
                backend = Recorded(backend, book, base)
            preopens[mount.name] = _preopen(mount.name, backend, mount.readonly, dress, mount.times)

    def _picked(self, directory: str, recorded: bool, dress: Dress) -> Preopen:
        """The single files that are mounted in a guest's directory."""
        from ..fs_backends.layers.picked import Picked

        picked, readonly, kept = Picked(), True, True
        changed: dict[str, StoreInPlace] = {}
        for mount in self._mounts:
            if mount.file is not None and mount.directory == directory:
                name = mount.name.rpartition("/")[2]
                picked.pick(name, mount.file, mount.readonly)
                readonly = readonly and mount.readonly
                kept = kept and mount.times == "keep"
                if mount.in_place is not None:
                    changed[name] = mount.in_place
        store, times = dress.below(directory, picked), "keep" if kept else None
        if not recorded or not changed:
            return _preopen(directory, store, readonly, dress, times)
        base = FilesInPlace(changed)
        recorder = Recorded(store, Book(picked, False, base), base)
        return _preopen(directory, recorder, readonly, dress, times)

    def copied_trees(self, preopens: Iterable[Preopen]) -> dict[str, Backend]:
        """Of the preopens of a run, copies of those stores that were made for it, for another run that shall find the
        same. Raises FsError (CANCELED)."""
        own = {mount.name for mount in self._mounts if mount.backend is None or mount.layered is not None}
        trees: dict[str, Backend] = {}
        for preopen in preopens:
            backend: Any = preopen.backend.inner if isinstance(preopen.backend, ReadOnly) else preopen.backend
            if preopen.name in own:
                trees[preopen.name] = backend.copy()
        return trees

    def traffic(self) -> dict[str, Traffic]:
        """What the stores that are far away have cost so far."""
        found: dict[str, Traffic] = {}
        for mount in self._mounts:
            traffic = None if mount.store is None else checked(mount.store).traffic()
            if traffic is not None:
                found[mount.directory] = found.get(mount.directory, Traffic()) + traffic
        return found

    def close(self) -> None:
        """Close the backends that were opened here. Raises what the first that cannot be closed raises, after all."""
        mounts, self._mounts = self._mounts, []
        with contextlib.ExitStack() as stack:
            for mount in reversed(mounts):
                if mount.owned and mount.store is not None:
                    stack.callback((mount.layered or mount.in_place or mount.store).close)

    @property
    def has_overlays(self) -> bool:
        return any(mount.layered is not None for mount in self._mounts)

    def told(self) -> list[tuple[str, str, str]]:
        """(guest directory, "ro", "rw" or "overlay", what is there) of each, for people, without secrets."""
        return [(mount.name, _manner(mount), mount.what) for mount in self._mounts]

    def manners(self) -> list[tuple[str, str, str, str | None]]:
        """As `told` of each directory that the guest gets, with what is shown of times. One with single files is "rw"
        if any of them is."""
        found: dict[str, tuple[str, str, str, str | None]] = {}
        for mount in self._mounts:
            name, manner, what, times = mount.directory, _manner(mount), mount.what, mount.times
            before = found.get(name)
            if before is not None:
                manner = "rw" if "rw" in (manner, before[1]) else manner
                what, times = f"{before[2]}, {what}", times if times == before[3] else None
            found[name] = name, manner, what, times
        return list(found.values())

    def __iter__(self) -> Iterator[str]:
        return (mount.name for mount in self._mounts)


def _preopen(name: str, backend: Backend, readonly: bool, dress: Dress, times: str | None) -> Preopen:
    shown = dress.shown(name, backend, times, readonly)
    if readonly:
        backend = ReadOnly(backend)
        shown = None if shown is None else ReadOnly(shown)
    return Preopen(name, backend, readonly, shown)


def _manner(mount: Prepared) -> str:
    return "overlay" if mount.layered is not None else "ro" if mount.readonly else "rw"


def check_trusted(name: str, backend: Backend | OneFile, trusted: Iterable[str]) -> None:
    """Raises MountError: what is mounted shows one of the directories that no guest may write to."""
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
