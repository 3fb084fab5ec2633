"""A descriptor that the fast path answers for, as Python sees it."""

from __future__ import annotations

from ...kernel.descriptor import OpenFile


class PublishedFile(OpenFile):
    """An open file whose cursor lies in vdso memory."""

    __slots__ = ("_index", "_longs")

    def __init__(self, file: OpenFile, longs: memoryview, index: int) -> None:
        self._longs = longs
        self._index = index
        super().__init__(file.mount, file.inode, file.rights, file.flags)

    @property
    def cursor(self) -> int:
        return self._longs[self._index]

    @cursor.setter
    def cursor(self, value: int) -> None:
        self._longs[self._index] = value
