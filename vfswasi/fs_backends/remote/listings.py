"""What is known of a remote tree without asking again: listings for a while, and what the guest itself changed.

A listing answers for every name in its directory, present or not, so a program that looks at a thousand files in a
directory, or for a file in a hundred places, costs one request per directory. Of a directory of many pages only the
first is fetched to look at one name; it then answers for the names on it, and the others are asked for one by one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from ...errors import Errno, FsError
from .. import waiting
from ..base import FileType, Key
from .client import DIRECTORY, Client, Info, fits_a_key, sound

_LISTINGS_MAX = 4096
_ENTRIES_MAX = 250_000  # of all listings; about 300 bytes each
_SINGLES_MAX = 65536


def _is_whole(info: Info) -> bool:
    """Some stores list names without sizes."""
    return info.size is not None or info.filetype is not FileType.REGULAR_FILE


class Unknown:
    """Nothing is known."""


UNKNOWN = Unknown()


@dataclass
class _Listing:
    entries: dict[str, Info] | None  # None: there is no such directory
    complete: bool
    at: float
    # Of what is not complete: before this, in the order of the bytes, nothing is missing.
    until: bytes = b""

    def tells(self, name: str, implied: bool) -> bool:
        """Whether a file of that name, which is listed, is no directory as well, which would come later in the order.
        `implied`: it could be both, and the directory wins."""
        return self.complete or not implied or f"{name}/".encode() < self.until


def _until(entries: dict[str, Info]) -> bytes:
    names = (f"{name}/" if info.filetype is FileType.DIRECTORY else name for name, info in entries.items())
    return max((name.encode() for name in names), default=b"")


class Listings:
    """The memory of one mount. Several threads may use it."""

    def __init__(self, client: Client, seconds: float) -> None:
        """seconds: how long an answer of the store is believed; 0: never."""
        self._client = client
        self.seconds = self._seconds = seconds
        self._lock = threading.RLock()
        self._listings: OrderedDict[Key, _Listing] = OrderedDict()
        self._singles: OrderedDict[Key, tuple[Info | None, float]] = OrderedDict()
        self._refused: OrderedDict[Key, float] = OrderedDict()  # directories that may not be listed
        # Directories that the guest made or emptied. Where directories are implied the store may not show them.
        self.made: set[Key] = set()

    def peek(self, key: Key) -> Info | Unknown | None:
        """What is at `key`, None for nothing, as far as it is known. Makes no request."""
        if not key or key in self.made:
            return DIRECTORY
        with self._lock:
            listing = self._fresh(key[:-1])
            if listing is not None:
                found = None if listing.entries is None else listing.entries.get(key[-1])
                if found is not None and _is_whole(found):
                    directory = found.filetype is FileType.DIRECTORY
                    if directory or listing.tells(key[-1], self._client.implied):
                        return found
                if found is None and self._client.lists_all and (listing.entries is None or listing.complete):
                    return None
            below = self._fresh(key)
            if below is not None and below.entries is not None:
                return DIRECTORY
            single = self._singles.get(key)
            if single is not None and time.monotonic() - single[1] < self._seconds:
                return single[0]
        return UNKNOWN

    def ask(self, key: Key) -> Info | None:
        """What is at `key`, None for nothing; asks the store if it is not known. Raises ACCES, IO."""
        known = self.peek(key)
        if not isinstance(known, Unknown):
            return known
        if self._client.lists_first and self._fresh(key[:-1]) is None and self._list_if_allowed(key[:-1]):
            known = self.peek(key)
            if not isinstance(known, Unknown):
                return known
        found = self._client.info(key)
        if found is not None and not sound(found):
            raise FsError(Errno.IO, f"{self._client.name}: what it says of {'/'.join(key)!r} is impossible")
        self._keep_single(key, found)
        return found

    def _list_if_allowed(self, key: Key) -> bool:
        """The first page of a directory; False: the store does not let us list it, which says nothing of its names."""
        with self._lock:
            refused = self._refused.get(key)
        if refused is not None and time.monotonic() - refused < self._seconds:
            return False
        try:
            self.entries(key, complete=False)
        except FsError as error:
            if error.errno is not Errno.ACCES or not self._client.implied:
                raise
            with self._lock:
                self._refused[key] = time.monotonic()
                if len(self._refused) > _LISTINGS_MAX:
                    self._refused.popitem(last=False)
            return False
        return True

    def entries(self, key: Key, complete: bool = True) -> dict[str, Info] | None:
        """The entries of a directory as the store has them, a copy; None: there is no such directory. Only the first
        page unless `complete`. Raises NOTDIR, ACCES, NOMEM, IO."""
        with self._lock:
            listing = self._fresh(key)
            if listing is not None and (listing.complete or not complete):
                return None if listing.entries is None else dict(listing.entries)
        entries: dict[str, Info] | None = None
        at = time.monotonic()
        whole = True
        for told, last in self._client.pages(key):
            page = {name: info for name, info in told.items() if fits_a_key(name) and sound(info)}
            if entries is None:
                entries = page
            else:
                found = entries
                entries |= {
                    name: info
                    for name, info in page.items()
                    if name not in found or found[name].filetype is not FileType.DIRECTORY
                }
            if complete:
                waiting.check_entries(len(entries))
            if not complete and not last:
                whole = False
                break
        if self._seconds:
            with self._lock:
                until = b"" if whole or entries is None else _until(entries)
                self._keep(key, _Listing(None if entries is None else dict(entries), whole, at, until))
        if entries is None and key in self.made:
            return {}
        return entries

    def _keep(self, key: Key, listing: _Listing) -> None:
        self._listings.pop(key, None)
        self._listings[key] = listing
        entries = sum(len(other.entries or ()) for other in self._listings.values())
        while len(self._listings) > _LISTINGS_MAX or (entries > _ENTRIES_MAX and len(self._listings) > 1):
            entries -= len(self._listings.popitem(last=False)[1].entries or ())

    def _fresh(self, key: Key) -> _Listing | None:
        with self._lock:
            listing = self._listings.get(key)
            if listing is not None and time.monotonic() - listing.at >= self._seconds:
                del self._listings[key]
                return None
            return listing

    def _keep_single(self, key: Key, info: Info | None) -> None:
        if not self._seconds:
            return
        with self._lock:
            self._singles.pop(key, None)
            self._singles[key] = info, time.monotonic()
            if len(self._singles) > _SINGLES_MAX:
                self._singles.popitem(last=False)

    def note(self, key: Key, info: Info | None) -> None:
        """There is this at `key` now, or nothing: we have made it so."""
        parent = key[:-1]
        with self._lock:
            listing = self._fresh(parent)
            if listing is not None:
                if listing.entries is None:
                    listing.entries, listing.complete = {}, True
                if info is None:
                    listing.entries.pop(key[-1], None)
                else:
                    listing.entries[key[-1]] = info
            self._keep_single(key, info)
            if info is None:
                self.made.discard(key)
                if self._client.implied:
                    # The last file of a directory may have gone, and the directory with it; a guest would not expect
                    # that.
                    self.made.add(parent)
            if info is None or info.filetype is not FileType.DIRECTORY:
                self._listings.pop(key, None)
            elif key not in self._listings and self._seconds:
                self._listings[key] = _Listing({}, True, time.monotonic())

    def forget(self, key: Key) -> None:
        """What is known of `key` may be wrong."""
        with self._lock:
            self._listings.pop(key[:-1], None)
            self._singles.pop(key, None)

    def forget_below(self, key: Key) -> None:
        """What is known of `key` and all below it may be wrong."""
        depth = len(key)
        with self._lock:
            self.forget(key)
            for table in (self._listings, self._singles):
                for other in [other for other in table if other[:depth] == key]:
                    del table[other]
            self.made = {other for other in self.made if other[:depth] != key}
