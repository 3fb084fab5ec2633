"""What is noted of one run while it goes on, and written to a file when it is over."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ...fs_backends.base import Backend
from ...kernel.streams.stream import Stream
from ...kernel.tracing import Tracer
from ...logs import logger
from ..saved.beside import naming, written_beside
from .calls import Both, Calls
from .facts import Facts
from .file.writing import Kept, write
from .record import Record
from .recording import Recording
from .spool import Pages, Room
from .spool import Stream as Spooled
from .stores.changing import NotedBelow
from .stores.noting import Noted
from .streams import NotedSink, NotedSource, noted
from .told import EndingTold, MountTold, ending_told

MEMORY_BYTES: Final = 512 << 20

_log = logger("vfswasi")


class Recorder:
    """One run. told: what is known of it when it begins. mounts: guest directory -> what it is. wasm: the module.

    To be used for one run: `tracer`, `layer` and `streams` when it is put together, then `ended` or `close`.
    """

    def __init__(self, how: Record, told: Recording, mounts: Mapping[str, MountTold], wasm: bytes) -> None:
        """Raises OSError."""
        how.check()
        self._how, self._told, self._manners = how, told, mounts
        self._room = Room(how.max_bytes, MEMORY_BYTES)
        self._pages = Pages(self._room)
        self._calls = Calls(self._room)
        self._mounts: dict[str, tuple[MountTold, Facts]] = {}
        self._layers: list[Noted] = []
        self._identities: dict[object, int] = {}
        self._streams: tuple[NotedSource, NotedSink, NotedSink] | None = None
        self._module: Spooled | None = None
        self._began = time.monotonic()
        self._over = False
        if how.module:
            self._module = Spooled(Room(len(wasm), 0))
            self._module.add(wasm)

    def tracer(self, callers: Tracer | None) -> Tracer:
        return self._calls if callers is None else Both(callers, self._calls)

    def layer(self, name: str, store: Backend) -> Backend:
        told = self._manners[name]
        facts = Facts(self._room, self._pages)
        identity = self._identities.setdefault(store.identity, len(self._identities))
        made = (NotedBelow if told.manner == "rw" else Noted)(store, facts)
        from dataclasses import replace

        self._mounts[name] = replace(told, caps=store.caps.value, identity=identity), facts
        self._layers.append(made)
        return made

    def streams(self, streams: tuple[Stream, Stream, Stream]) -> tuple[Stream, Stream, Stream]:
        found, *self._streams = noted(streams, self._room)  # type: ignore[assignment]
        return found

    def ended(self, ending: Any) -> None:
        """The run is over, as `engine.runner.Ending` says or None: the file is written. Raises OSError."""
        if self._over:
            return
        self._over = True
        for layer in self._layers:
            layer.is_over = True
        self._calls.settle()
        try:
            self._write(ending_told(ending))
        finally:
            self.close()

    def _write(self, ending: EndingTold) -> None:
        from dataclasses import replace

        if self._streams is None:
            return  # it has not begun
        given, out, err = self._streams
        inexact = [
            f"{name.rstrip('/')}/{'/'.join(key)}" for name, (_, facts) in self._mounts.items() for key in facts.inexact
        ]
        told = replace(
            self._told,
            ending=ending,
            calls=self._calls.count,
            seconds=round(time.monotonic() - self._began, 3),
            joined=out is err,
            cut=self._room.cut,
        )
        kept = Kept(
            self._pages.stream, self._calls.stream, self._calls.texts, given, out, err, self._mounts, self._module
        )
        with naming(self._how.path), written_beside(self._how.path, overwrite=True) as file:
            write(told, kept, file)
        if told.cut is not None:
            _log.warning("the recording is not whole: %s", told.cut)
        for path in inexact[:3]:
            _log.warning("%s was changed by others while the run read it; a replay may differ", path)
        for one, other in self._twice():
            _log.warning("%s and %s show one store, which is replayed as two; a replay may differ", one, other)

    def _twice(self) -> Iterator[tuple[str, str]]:
        """Mounts of one store that can be changed."""
        every = [told for told, _ in self._mounts.values()]
        changed = {told.identity for told in every if told.manner == "rw"}
        first: dict[int, str] = {}
        for told in every:
            name = first.setdefault(told.identity, told.name)
            if name != told.name and told.identity in changed:
                yield name, told.name

    def close(self) -> None:
        """Give back what is kept; nothing more is noted."""
        self._over = True
        for layer in self._layers:
            layer.is_over = True
        self._pages.close()
        self._calls.stream.close()
        for end in self._streams or ():
            end.data.close()
        if self._module is not None:
            self._module.close()


def facts_of_module(wasm: bytes) -> tuple[str, int]:
    """(SHA-256, bytes)."""
    return hashlib.sha256(wasm).hexdigest(), len(wasm)


def versions() -> dict[str, Any]:
    """What records: fields of `Recording`."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "vfswasi": version_of("vfswasi"),
        "wasmtime": version_of("wasmtime"),
        "machine": platform.machine(),
    }


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
