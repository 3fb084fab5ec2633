"""What changes were made on, and how to come to it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from ..errors import MountError
from ..fs_backends.base import Backend
from ..printing import shown


class Base(Protocol):
    """How to come to what changes were made on, again. text: for people, without secrets. source: what it would be
    mounted from; None: it was made for the run alone, so that nothing can be applied to it."""

    text: str
    source: Any

    def open(self) -> AbstractContextManager[Backend]:
        """It as it is now, for reading. Raises MountError."""
        ...


class SourceBase:
    """Whatever can be mounted, as a base."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.text = shown(getattr(source, "source", source))

    @contextmanager
    def open(self) -> Iterator[Backend]:
        """Raises MountError, TypeError."""
        from ..fs_backends.layers.checked import checked
        from ..mounts.finding.sources import open_source

        backend = open_source(self.source)
        try:
            yield checked(backend)
        finally:
            if backend is not getattr(self.source, "source", self.source):
                backend.close()


class ToldBase:
    """What a saved file says that its changes were made on. It is not opened: whoever wrote the file would choose
    what."""

    source: Any = None

    def __init__(self, text: str) -> None:
        self.text = text

    @contextmanager
    def open(self) -> Iterator[Backend]:
        """Raises MountError."""
        raise MountError("the changes come from a file, which does not lead to what they were made on; name it")
        yield Backend()  # a generator


def base_of(source: Any) -> Base:
    """For what a caller passes as a base: one, or what could be mounted."""
    if isinstance(source, SourceBase | ToldBase) or (hasattr(source, "text") and hasattr(source, "source")):
        base: Base = source
        return base
    return SourceBase(source)
