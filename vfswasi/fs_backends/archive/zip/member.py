"""Readers for the members of a zip archive: positional, bounded in memory, cheap to seek back.

A stored member is a range of the archive. A compressed one of up to an eighth of the cache (8 MiB) is
inflated whole at its first read, checksum included. A larger one is inflated in pages of 64 KiB by a
decoder that each handle keeps; pages and copies of the decoder ("checkpoints", every 256 KiB, then ever
wider so that there are at most 128) go to the cache, so that seeking back starts nearby. bzip2 and lzma
decoders cannot be copied: going back in such a large member, out of the cache, starts at its beginning. Pages that
have to leave the cache go to a spool on disk.

A handle itself holds one page and one decoder, never a whole member. Decoders of all open members share the run's
`Limits.buffer_bytes`: the one that was idle for longest goes when another needs its memory.

The last page of a member is only given out if the checksum and both sizes are right, in whatever order
the pages were read.
"""

from __future__ import annotations

import bisect
import threading
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED

from ....errors import Errno, FsError
from ...base import Buffer, Handle, Stat
from ..decoders import DEFLATE_BYTES, Slot, reserve
from ..ranges import PAGE_BYTES, RangeHandle
from ..source import ArchiveSource
from .decoder import Decoder, corrupt, inflate, new_decoder
from .directory import decoded
from .member_spool import SPOOL_BYTES, MemberSpool
from .tree import HEADER_BYTES, LOCAL_SIGNATURE, Member

_CHECKPOINT_SPACING_BYTES = 256 << 10
_CHECKPOINT_MAX = 128
_CHECKPOINT_COST_BYTES = 64 << 10  # zlib's state and 32 KiB window, and the input not yet used
_ENTRY_COST_BYTES = 256
_WHOLE_MAX_BYTES = 8 << 20

_FLAG_ENCRYPTED = 0x01
_FLAG_PATCH = 0x20
_FLAG_STRONG_ENCRYPTION = 0x40
_METHODS = frozenset({ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA})


class MemberCache:
    """Inflated bytes and checkpoints of one backend, least recently used first out, `limit_bytes` in total; behind it
    `spool`."""

    def __init__(self, limit_bytes: int, spool_bytes: int = SPOOL_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.spool = MemberSpool(spool_bytes)
        self.whole_max_bytes = min(_WHOLE_MAX_BYTES, limit_bytes // 8)
        self.checkpoint_max = min(_CHECKPOINT_MAX, limit_bytes // 8 // _CHECKPOINT_COST_BYTES)
        self.used_bytes = 0
        self.inflated_bytes = 0  # for measuring only: not exact with several threads
        self._lock = threading.Lock()
        self._items: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """What was put under `key`, or None."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: Hashable, value: object, cost_bytes: int) -> None:
        """Keep `value`, at the expense of what was not used for longest."""
        cost_bytes += _ENTRY_COST_BYTES
        gone: list[tuple[Hashable, Any]] = []
        with self._lock:
            old = self._items.pop(key, None)
            if old is not None:
                self.used_bytes -= old[1]
            if cost_bytes > self.limit_bytes:
                return
            self._items[key] = value, cost_bytes
            self.used_bytes += cost_bytes
            while self.used_bytes > self.limit_bytes:
                oldest, (kept, freed) = self._items.popitem(last=False)
                self.used_bytes -= freed
                gone.append((oldest, kept))
        for oldest, kept in gone:
            if isinstance(oldest, tuple) and oldest[1] >= 0:
                self.spool.put(oldest[0], oldest[1], kept)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self.used_bytes = 0
        self.spool.close()


def locate(source: ArchiveSource, member: Member) -> None:
    """Read and check the local header; sets `member.data_start`. Raises IO with the reason chained."""
    info = member.info
    name = info.name
    if info.flags & (_FLAG_ENCRYPTED | _FLAG_STRONG_ENCRYPTION):
        raise FsError(Errno.IO, f"zip member {name!r} is encrypted") from RuntimeError("encrypted")
    if info.flags & _FLAG_PATCH or info.method not in _METHODS:
        reason = f"compression method {info.method} is not supported"
        raise FsError(Errno.IO, f"zip member {name!r}: {reason}") from NotImplementedError(reason)
    start, _ = find_data(source, member)
    if info.method == ZIP_STORED and info.compress_size != info.file_size:
        raise corrupt(info, "stored, but its two sizes differ")
    member.data_start = start
    if info.file_size == 0 and info.compress_size:
        # No read of an empty file reaches the data, so what they hold is looked at now.
        try:
            inflate(source, member)
        except FsError:
            member.data_start = -1
            raise


def find_data(source: ArchiveSource, member: Member) -> tuple[int, int]:
    """(offset of the member's data as they stand in the archive, bytes of the local extra fields before them).

    Also of a member that cannot be unpacked. Raises IO: no such header, overlapping data.
    """
    info = member.info
    if member.limit < 0:
        raise corrupt(info, "its data overlap those of another member")
    header = source.read(info.header_offset, HEADER_BYTES)
    if header[:4] != LOCAL_SIGNATURE:
        raise corrupt(info, "no local header where the directory says")
    name_bytes = int.from_bytes(header[26:28], "little")
    extra_bytes = int.from_bytes(header[28:30], "little")
    raw_name = source.read(info.header_offset + HEADER_BYTES, name_bytes)
    # Some programs write the two in different encodings, each with its flag.
    if raw_name != info.raw_name and decoded(raw_name, int.from_bytes(header[6:8], "little"), 0, b"") != info.name:
        raise corrupt(info, "local header has another name")
    if int.from_bytes(header[8:10], "little") != info.method:
        raise corrupt(info, "local header has another compression method")
    start = info.header_offset + HEADER_BYTES + name_bytes + extra_bytes
    if start + info.compress_size > member.limit:
        raise corrupt(info, "its data overlap those of another member")
    return start, extra_bytes


class StoredHandle(RangeHandle):
    """A range of the archive. Reading it from start to end checks the checksum, once for each member."""

    def __init__(self, source: ArchiveSource, member: Member) -> None:
        super().__init__(source, member.data_start, member.stat)
        self._member = member
        # Replaced as one: next offset to check (-1: no more) and the checksum up to there.
        self._checked: tuple[int, int] = (-1 if member.verified else 0, 0)

    def _check(self, offset: int, data: memoryview) -> None:
        position, crc = self._checked
        end = offset + len(data)
        if not offset <= position < end:
            return
        with data[position - offset :] as news:
            crc = zlib.crc32(news, crc)
        if end < self._size:
            self._checked = end, crc
            return
        info = self._member.info
        if crc != info.crc:
            raise corrupt(info, "checksum mismatch")
        self._member.verified = True
        self._checked = -1, 0


class Checkpoints:
    """Copies of a member's decoder at multiples of a spacing that doubles when there are too many."""

    def __init__(self, max_count: int) -> None:
        self._max_count = max_count
        self._spacing = _CHECKPOINT_SPACING_BYTES
        self._positions: list[int] = []
        self._decoders: dict[int, Decoder] = {}
        self._lock = threading.Lock()

    @property
    def cost_bytes(self) -> int:
        return len(self._positions) * _CHECKPOINT_COST_BYTES

    def add(self, decoder: Decoder) -> bool:
        """Keep a copy if one is due at the decoder's position; whether it was kept."""
        position = decoder.position
        with self._lock:
            if position % self._spacing or position in self._decoders or not self._max_count:
                return False
            twin = decoder.copy()
            if twin is None:
                return False
            self._decoders[position] = twin
            bisect.insort(self._positions, position)
            while len(self._positions) > self._max_count:
                self._spacing *= 2
                self._positions = [kept for kept in self._positions if not kept % self._spacing]
                self._decoders = {kept: self._decoders[kept] for kept in self._positions}
            return True

    def nearest(self, low: int, high: int) -> Decoder | None:
        """A fresh copy of the last checkpoint with low < position <= high."""
        with self._lock:
            index = bisect.bisect_right(self._positions, high) - 1
            if index < 0 or self._positions[index] <= low:
                return None
            return self._decoders[self._positions[index]].copy()


class InflatedHandle(Handle):
    """A compressed member, in pages; see the top of this module."""

    def __init__(self, source: ArchiveSource, member: Member, cache: MemberCache) -> None:
        self._source = source
        self._member = member
        self._cache = cache
        self._stat = member.stat
        self._size = self._stat.size
        self._lock = threading.Lock()
        self._idle = Slot()
        self._page: tuple[int, bytes] = (0, b"")  # offset, bytes: replaced as one

    def read_into(self, offset: int, buf: Buffer) -> int:
        count = min(len(buf), self._size - offset)
        start, page = self._page
        start = offset - start
        if start >= 0 and 0 < count <= len(page) - start:
            buf[:count] = page[start : start + count]
            return count
        done = 0
        with memoryview(buf) as view:
            while done < count:
                number, start = divmod(offset + done, PAGE_BYTES)
                page = self._load(number)
                self._page = number * PAGE_BYTES, page
                piece = min(len(page) - start, count - done)
                view[done : done + piece] = page[start : start + piece]
                done += piece
        return done

    def _load(self, number: int) -> bytes:
        ident = self._member.number
        if self._size <= self._cache.whole_max_bytes:
            whole: bytes | None = self._cache.get(ident)
            if whole is None:
                whole = inflate(self._source, self._member)
                self._cache.inflated_bytes += len(whole)
                self._cache.put(ident, whole, len(whole))
            return whole[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
        at = number * PAGE_BYTES
        page: bytes | None = self._cache.get((ident, number))
        if page is None:
            page = self._cache.spool.get(ident, number, min(PAGE_BYTES, self._size - at))
        if page is not None:
            return page
        with self._lock:
            return self._inflate_page(at)

    def _inflate_page(self, target: int) -> bytes:
        ident = self._member.number
        checkpoints: Checkpoints = self._cache.get((ident, -1)) or Checkpoints(self._cache.checkpoint_max)
        # Not put back if anything below raises: a decoder that failed is in no state to go on.
        decoder = self._decoder_before(target, checkpoints)
        try:
            while True:
                start = decoder.position
                page = decoder.read(min(PAGE_BYTES, self._size - start))
                self._cache.inflated_bytes += len(page)
                if decoder.position == self._size:
                    decoder.finish()
                elif checkpoints.add(decoder):
                    self._cache.put((ident, -1), checkpoints, checkpoints.cost_bytes)
                self._cache.put((ident, start // PAGE_BYTES), page, len(page))
                if start == target:
                    break
        except BaseException:
            decoder.release()
            raise
        if decoder.position == self._size:
            decoder.release()  # there is nothing more to come
        else:
            self._idle.put(decoder)
        return page

    def _decoder_before(self, target: int, checkpoints: Checkpoints) -> Decoder:
        """One that has not passed `target`, as near as can be had."""
        kept = self._idle.take()
        decoder = kept if isinstance(kept, Decoder) else None
        if decoder is not None and decoder.position > target:
            decoder.release()
            decoder = None
        nearer = checkpoints.nearest(decoder.position if decoder else 0, target)
        if nearer is None:
            return decoder or new_decoder(self._source, self._member)
        nearer.charge = None if decoder is None else decoder.charge
        if nearer.charge is None:
            nearer.charge = reserve(DEFLATE_BYTES, f"zip member {self._member.info.name!r}")
        return nearer

    def size(self) -> int:
        return self._size

    def stat(self) -> Stat:
        return self._stat

    def close(self) -> None:
        self._idle.close()
        self._page = (0, b"")
