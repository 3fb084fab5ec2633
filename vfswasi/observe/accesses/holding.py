"""Whether another run would see what one has seen: `Accesses.hold`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from ...errors import Errno, FsError, MountError
from ...fs_backends.base import Backend, FileType, Key, Stat
from ...fs_backends.layers.accessed.looked import Looked
from ...fs_backends.layers.accessed.note import found_as, names_digest, shown_digest
from ...fs_backends.layers.accessed.versions import file_version, looked_at
from ...fs_backends.waiting import check_time
from ...kernel.process import Preopen
from ...limits import Limits
from ...mounts.dress import Dress
from ...mounts.options import guest_name
from ...mounts.table import MountTable
from ...printing import counted, printable
from .access import Access, Held, Mounted
from .telling import caps_of, clock_apart, digest_of, kind_of, shares_of, start_of, target_digest, way_of

_WAYS: Final = {"ro": "read-only", "rw": "writable", "overlay": "writable, with an overlay"}
_WHAT: Final = {
    "file": "a file",
    "directory": "a directory",
    "link": "a link",
    "other": "neither file nor directory",
    "missing": "not there",
}
_ATTRIBUTES: Final = ("time of modification", "time of change", "number of links", "inode number")
_SHIELD: Final = "; a run with deterministic=True is not shown that"
_PIECE_BYTES: Final = 1 << 18
_CHECKED_AT_ONCE: Final = 256


class _Differs(Exception):
    """The text says how."""


def hold(accesses: Mapping[str, Mounted], preopens: Mapping[str, Any]) -> Held:
    """See `Accesses.hold`."""
    if not isinstance(preopens, Mapping):
        raise TypeError(f"preopens must map guest directories to sources, not {type(preopens).__name__}")
    for name, mount in accesses.items():
        reason = mount.unsure or next(
            (f"{access.path}: {access.unsure}" for access in mount.accesses if access.unsure), ""
        )
        if reason:
            return Held(f"nobody can say what the program saw in {_quoted(name)}: {reason}")
    try:
        with _opened(preopens) as (found, stores):
            _compare(accesses, found, stores, preopens)
    except _Differs as difference:
        return Held(str(difference))
    except MountError as error:
        return Held(f"what is to be mounted cannot be opened: {error}")
    return Held()


@contextlib.contextmanager
def _opened(preopens: Mapping[str, Any]) -> Iterator[tuple[dict[str, Preopen], dict[str, Backend]]]:
    """(the preopens that a run would get, the stores behind them, where a run's own accesses would be noted)"""
    stores: dict[str, Backend] = {}

    def noted(name: str, store: Backend) -> Backend:
        stores[name] = store
        return store

    with contextlib.ExitStack() as stack:
        table = MountTable(preopens)
        stack.callback(table.close)
        found = table.instantiate(Limits(), dress=Dress(lower=(noted,)))
        for preopen in found:
            if hasattr(preopen.backend, "layered"):
                stack.callback(preopen.backend.close)
        yield {preopen.name: preopen for preopen in found}, stores


def _compare(
    accesses: Mapping[str, Mounted],
    found: Mapping[str, Preopen],
    stores: Mapping[str, Backend],
    preopens: Mapping[str, Any],
) -> None:
    """Raises _Differs, FsError (CANCELED)."""
    if list(found) != list(accesses):
        raise _Differs(_other_mounts(list(accesses), list(found)))
    asked = [_Store(name, mount, stores[name]) for name, mount in accesses.items()]
    shared = shares_of(found.values(), stores)
    for name, mount in accesses.items():
        _compare_mount(name, mount, found[name])
        if mount.shares != shared.get(name):
            raise _Differs(f"{_quoted(name)} has other files together with other mounts than then")
        if mount.times != "shown" and (mount.times == "kept") != _keeps_times(name, preopens):
            raise _Differs(f'{_quoted(name)} has another option times="keep" than then')
    for each in asked:
        each.compare_names()
    for each in asked:
        each.compare_listings()
    for each in asked:
        each.compare_contents()


def _other_mounts(then: list[str], now: list[str]) -> str:
    for name in then:
        if name not in now:
            return f"{_quoted(name)} was mounted, and is not now"
    for name in now:
        if name not in then:
            return f"{_quoted(name)} is mounted now, and was not"
    return "the mounts come in another order"


def _compare_mount(name: str, then: Mounted, now: Preopen) -> None:
    way = way_of(now)
    if then.way != way:
        one, other = (_WAYS.get(each, each) for each in (then.way, way))
        raise _Differs(f"{_quoted(name)} was mounted {one}, and is {other} now")
    if then.caps != caps_of(now):
        raise _Differs(f"{_quoted(name)} is in another kind of store, which can do other things than the one then")
    start, unsure = start_of(now)
    if then.start != start or unsure is not None:
        raise _Differs(f"the overlay of {_quoted(name)} begins with other changes")


def _keeps_times(directory: str, preopens: Mapping[str, Any]) -> bool:
    """Whether `Mount.times` says so of a guest directory, or of all files that are mounted in it."""
    named = {guest_name(name): getattr(source, "times", None) == "keep" for name, source in preopens.items()}
    if directory in named:
        return named[directory]
    return all(keeps for name, keeps in named.items() if (name.rpartition("/")[0] or "/") == directory)


class _Store:
    """One mount, then and now."""

    def __init__(self, name: str, then: Mounted, store: Backend) -> None:
        self._name = name
        self._then = then
        self._store = store
        self._looked: Looked = looked_at(store, False)
        self._same: set[str] = set()  # files whose version says that they have the same contents
        self._steps = 0

    def _asked(self) -> Iterator[tuple[Key, Access]]:
        for access in self._then.accesses:
            self._steps += 1
            if not self._steps % _CHECKED_AT_ONCE:
                check_time("comparing")
            yield tuple(access.path.split("/")) if access.path else (), access

    def _path(self, access: Access) -> str:
        return _quoted(f"{self._name.rstrip('/')}/{access.path}" if access.path else self._name)

    @contextlib.contextmanager
    def _asking(self, access: Access) -> Iterator[None]:
        try:
            yield
        except FsError as error:
            if error.errno is Errno.CANCELED:
                raise
            raise _Differs(f"{self._path(access)} cannot be looked at now: {error}") from None

    def compare_names(self) -> None:
        """And all else that is known without reading."""
        for key, access in self._asked():
            with self._asking(access):
                stat = self._find(key)
                self._compare_kind(key, access, stat)
                if stat is not None:
                    self._compare_attributes(access, stat)
                    self._compare_version(key, access, stat)

    def _find(self, key: Key) -> Stat | None:
        if not key:
            return self._store.stat(key)
        count, stat = self._store.walk((), key)
        return stat if count == len(key) else None

    def _compare_kind(self, key: Key, access: Access, stat: Stat | None) -> None:
        now = "missing" if stat is None else found_as(stat.filetype)
        path = self._path(access)
        if now != access.found:
            raise _Differs(f"{path} was {_WHAT[access.found]}, and is {_WHAT[now]} now")
        if stat is not None and now == "other":
            device = None
            if access.version is not None and " " in access.version:
                opened = self._store.device(key) if stat.filetype is FileType.CHARACTER_DEVICE else None
                device = "none" if opened is None else opened.name.lower()
            if kind_of(stat.filetype, device) != access.version:
                raise _Differs(f"{path} is something else now")
        if now == "link" and access.digest is not None:
            target = self._store.readlink(key)
            if target_digest(target) != access.digest:
                raise _Differs(f"{path} is a link to something else now")

    def _compare_attributes(self, access: Access, stat: Stat) -> None:
        path = self._path(access)
        if access.size is not None and stat.size != access.size:
            raise _Differs(f"{path} had {counted(access.size, 'byte')}, and has {stat.size:,} now")
        if access.attributes is not None:
            looked = self._looked
            now = clock_apart(looked, stat.mtim_ns), clock_apart(looked, stat.ctim_ns), stat.nlink, stat.ident
            unseen = self._then.times == "hidden" or _only_names(access)
            for what, one, other in zip(_ATTRIBUTES, access.attributes, now, strict=True):
                if one != other and not (one is None and unseen):
                    raise _Differs(f"{path} has another {what}, which the program could see{_SHIELD}")

    def _compare_version(self, key: Key, access: Access, stat: Stat) -> None:
        if access.found != "file" or not access.read:
            return
        if access.version is not None and access.version == file_version(self._store, self._looked, key, stat):
            self._same.add(access.path)
        elif access.digest is None:
            raise _Differs(
                f"{self._path(access)} was changed since, or is in another store; whether it has the same contents "
                'nobody can say without a digest (accesses="digest")'
            )

    def compare_listings(self) -> None:
        for key, access in self._asked():
            if access.listed:
                with self._asking(access):
                    entries = list(self._store.list(key))
                    if names_digest([(entry.name, entry.filetype) for entry in entries]) != access.digest:
                        raise _Differs(f"{self._path(access)} holds other names, or something else under one of them")
                    if access.order == "":
                        raise _Differs(
                            f"the order in which {self._path(access)} was listed was not kept, since the program had "
                            f"changed too much there{_SHIELD}"
                        )
                    shown = [entry for entry in entries if entry.name not in access.but]
                    if access.order is not None and access.order != shown_digest(shown):
                        raise _Differs(
                            f"{self._path(access)} is listed in another order, or with other inode numbers{_SHIELD}"
                        )

    def compare_contents(self) -> None:
        for key, access in self._asked():
            if access.found == "file" and access.read and access.path not in self._same:
                with self._asking(access):
                    if self._digest(key, access) != access.digest:
                        raise _Differs(f"{self._path(access)} has other contents")

    def _digest(self, key: Key, access: Access) -> str | None:
        """Of what was read then, as it is now; None: there is not that much."""
        ranges = ((0, access.size or 0),) if access.read == "whole" else access.read
        digests = []
        piece = bytearray(_PIECE_BYTES)
        handle = self._store.open(key, False)
        try:
            with memoryview(piece) as view:
                for start, end in ranges:
                    digest = sha256()
                    while start < end:
                        check_time("comparing")
                        count = handle.read_into(start, view[: min(end - start, len(piece))])
                        if not count:
                            return None
                        digest.update(view[:count])
                        start += count
                    digests.append(digest.digest())
        finally:
            handle.close()
        return digest_of(digests)


def _only_names(access: Access) -> bool:
    """The run changed a file without looking at its attributes; how many names it has shows in that."""
    if not access.written or access.attributes is None:
        return False
    mtim, ctim, _, ident = access.attributes
    return mtim is None and ctim is None and ident is None


def _quoted(path: str) -> str:
    return f"'{printable(path)}'"
