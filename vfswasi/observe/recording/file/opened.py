"""The archive of a recording, and its parts: each is compared with its digest before a byte of it is used."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from ....errors import Errno, FsError
from ....fs_backends.archive.zip.archive import ZipArchive
from ....fs_backends.archive.zip.tree import Member
from ....fs_backends.charge import Charge
from ....fs_backends.waiting import check_time
from ...saved.fields import Wrong
from ..spool import Ref, place_of
from ..streams import Told
from ..told import Opened
from .manifest import MODULE, PAGES, SEGMENT_BYTES

_SEGMENTS_KEPT: Final = 4
_PIECE_BYTES: Final = 1 << 20


class Part:
    """One member, and what it has to be."""

    def __init__(self, member: Member, size: int, digest: str) -> None:
        if member.stat.size != size:
            raise Wrong(f"a part has {member.stat.size:,} bytes, and its manifest says {size:,}")
        self.member, self.size, self.digest = member, size, digest


class File(Opened):
    """The archive, as long as the recording is used. Any thread may read it."""

    def __init__(self, archive: ZipArchive, charge: Charge) -> None:
        self.archive, self.charge = archive, charge
        self.name = archive.source.name
        self.closed = False
        self.parts: dict[str, Part] = {}
        self.pages_bytes = 0
        self.texts = []
        self.streams: dict[str, dict[str, Any]] = {}
        self.known = {}
        self._segments: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def pieces(self, name: str) -> Iterator[bytes]:
        """Of a part, which is looked at as a whole before the first comes. Raises IO."""
        part = self.parts.get(name)
        if part is None:
            return iter(())
        digest = hashlib.sha256()
        for piece in self._raw(part):
            digest.update(piece)
        self._check(digest.hexdigest() == part.digest)
        return self._raw(part)

    def _raw(self, part: Part) -> Iterator[bytes]:
        handle = self.archive.open(part.member)
        try:
            offset = 0
            while offset < part.size:
                check_time("reading a recording")
                piece = bytearray(min(_PIECE_BYTES, part.size - offset))
                self._check(handle.read_into(offset, piece) == len(piece))
                offset += len(piece)
                yield bytes(piece)
        finally:
            handle.close()

    def _check(self, right: bool) -> None:
        if not right:
            raise FsError(Errno.IO, f"the recording {self.name}: a part is not what its digest says")

    def read(self, ref: Ref) -> bytes:
        """What was read of files. Raises IO."""
        position, length = place_of(ref)
        found = b""
        with self._lock:
            while length:
                number, start = divmod(position, SEGMENT_BYTES)
                piece = self._segment(number)[start : start + length]
                self._check(bool(piece))
                found += piece
                position, length = position + len(piece), length - len(piece)
        return found

    def _segment(self, number: int) -> bytes:
        found = self._segments.get(number)
        if found is None:
            part = self.parts.get(f"{PAGES}/{number:06}")
            self._check(part is not None)
            assert part is not None
            found = b"".join(self._raw(part))
            self._check(hashlib.sha256(found).hexdigest() == part.digest)
            self._segments[number] = found
            while len(self._segments) > _SEGMENTS_KEPT:
                self._segments.popitem(last=False)
        self._segments.move_to_end(number)
        return found

    def module(self) -> bytes:
        part = self.parts.get(MODULE)
        if part is None:
            raise ValueError(f"the recording {self.name} was made without its module, which has to be given")
        return b"".join(self.pieces(MODULE))

    def told(self, name: str) -> Told:
        """Of a stream. Raises IO."""
        part = self.parts.get(name)
        return Told(self.pieces(name), 0 if part is None else part.size, **self.streams[name])

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.archive.close()
