"""What a run has changed, by guest directory: `Changes` that are made when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import FsError
from ...fs_backends.layers.recorded import Recorded
from ...fs_backends.memory.backend import MemoryBackend
from ...kernel.process import Preopen

if TYPE_CHECKING:
    from ...observe.changes import Changes


class Found(Mapping[str, "Changes"]):
    """Guest directory -> `Changes`. A mount of which it could not be found out in time has none.

    What is pickled has plain `Changes`: those of overlays and of trees in memory, as long as the trees are what they
    were when the run was over. What was changed in other stores is there, and does not travel.
    """

    def __init__(self, preopens: Sequence[Preopen], overlays: Mapping[str, Changes]) -> None:
        self._made: dict[str, Changes | None] = {}  # None: not yet
        self._stores: dict[str, Recorded] = {}
        for preopen in preopens:
            name, backend = preopen.name, preopen.backend
            if name in overlays:
                self._made[name] = overlays[name]
            elif isinstance(backend, Recorded) and not backend.book.unknown:
                self._made[name], self._stores[name] = None, backend

    def __getitem__(self, name: str) -> Changes:
        made = self._made[name]
        if made is None:
            from ...observe.changes import Changes  # few who run something look at them

            store = self._stores[name]
            made = self._made[name] = Changes(store.book.entries(), store.base)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ({name: self[name] for name in self if self._travels(name)},)

    def _travels(self, name: str) -> bool:
        store: Any = self._stores.get(name)
        if store is None:
            return True
        while isinstance(store, Recorded) or getattr(store, "only_watches", False):
            store = store.inner
        try:
            for entry in self[name].entries if isinstance(store, MemoryBackend) else ():
                if entry.content is not None:
                    entry.content.open().close()
        except FsError:
            return False
        return isinstance(store, MemoryBackend)
