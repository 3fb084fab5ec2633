"""What sessions are made of: what a sandbox gives to all of them, and what one of them is a copy of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...engine.runner import Program
from ...engine.sessions.state import State
from ...fs_backends.base import Traffic
from ...fs_backends.layers.readonly import ReadOnly
from ...fs_backends.memory.backend import MemoryBackend
from ...kernel.clocks import Deadline
from ...kernel.forking import fork
from ...kernel.process import Preopen, Process, allowance_of
from ...kernel.streams.ends import Sink, Source
from ...kernel.streams.stream import Stream
from ...limits import Limits
from ...mounts.dress import PLAIN, Dress
from ...mounts.table import MountTable
from ..stdio import hide_terminals

Streams = tuple[Stream, Stream, Stream]


class Origin(NamedTuple):
    """A sandbox from the side of its sessions. `begun`, `over`: told of each session's deadline, when there is one, and
    when nothing is left of it; `begun` raises ValueError if the sandbox is closed."""

    program: Program
    mounts: MountTable
    limits: Limits
    environ: list[bytes]
    fast: bool
    stack_bytes: int
    begun: Callable[[Deadline], None]
    over: Callable[[Deadline], None]


class Parts(NamedTuple):
    """One guest from the kernel's side. `codec`: of captured output; None: bytes. `before`: what the mounts had cost
    when it began. dress: how it sees the mounts."""

    process: Process
    preopens: Sequence[Preopen]
    streams: Streams
    entropy: Callable[[int], bytes]
    codec: tuple[str, str] | None
    argv: list[str]
    before: Mapping[str, Traffic]
    dress: Dress = PLAIN


class Copied(NamedTuple):
    """A guest between two calls: the instance, and the kernel's side."""

    state: State
    parts: Parts


def copy_of(origin: Origin, old: Parts, deadline: Deadline, given: Mapping[int, Stream]) -> Parts:
    """The same with stores, files and streams of its own. `given`: what is connected to some of the standard streams,
    by descriptor, instead of what `old` has there. Raises FsError, OSError."""
    trees = origin.mounts.copied_trees(old.preopens)
    clocks = old.process.clocks.copy()
    dress = old.dress._replace(now_ns=clocks.for_stores())
    preopens = origin.mounts.instantiate(origin.limits, trees, dress=dress)
    if dress.hermetic:
        _become(preopens, old.preopens)
    ends: dict[Source | Sink | None, Source | Sink | None] = {}
    streams: list[Stream] = []
    try:
        for fd, stream in enumerate(old.streams):
            new = given.get(fd)
            for number, end in enumerate(stream.ends()):
                if end is not None and end not in ends:
                    ends[end] = end.copy() if new is None else new.ends()[number]
            streams.append(stream.copy(ends))
        if old.dress.hermetic:
            hide_terminals(streams)
        entropy = getattr(old.entropy, "copy", lambda: os.urandom)()
        process = fork(
            old.process,
            preopens,
            streams,
            ends,
            deadline,
            allowance_of(origin.limits),
            entropy,
            clocks,
        )
    except BaseException:
        for each in ends.values():
            if each is not None:
                each.close()
        raise
    kept = (streams[0], streams[1], streams[2])
    return Parts(process, preopens, kept, entropy, old.codec, old.argv, origin.mounts.traffic(), old.dress)


def _become(preopens: Sequence[Preopen], old: Sequence[Preopen]) -> None:
    """Objects have the numbers and times that they have there. Raises FsError: NOMEM."""
    from ...fs_backends.layers.hermetic.backend import Hermetic

    for preopen, before in zip(preopens, old, strict=True):
        shown, other = (
            getattr(each, "inner", each) if isinstance(each, ReadOnly) else each
            for each in (preopen.shown, before.shown)
        )
        if isinstance(shown, Hermetic) and isinstance(other, Hermetic):
            shown.become(other)


def trees_of(preopens: Sequence[Preopen]) -> dict[str, MemoryBackend]:
    """The stores in memory, by guest directory."""
    trees = {}
    for preopen in preopens:
        backend: Any = preopen.backend
        while not isinstance(backend, MemoryBackend) and getattr(backend, "inner", None) is not None:
            backend = backend.inner
        if isinstance(backend, MemoryBackend):
            trees[preopen.name] = backend
    return trees
