"""What a recording says of a run before it begins."""

from __future__ import annotations

from ...limits import Limits
from ...mounts.table import MountTable
from ...observe.recording.recorder import Recorder, facts_of_module, versions
from ...observe.recording.recording import Recording
from ...observe.recording.told import MountTold
from ..runs.asked import Asked, Own
from .mounting import Bounds
from .programs import Programs


def recorder(
    asked: Asked,
    words: tuple[list[str], list[bytes], list[bytes]],
    limits: Limits,
    own: Own,
    bounds: Bounds,
    mounts: MountTable,
    programs: Programs,
    features: tuple[str, ...],
) -> Recorder:
    """Of one run. words: as in `assembled`. Raises ValueError (the caller's functions cannot be recorded), OSError,
    InvalidModuleError."""
    assert asked.record is not None
    wasm, has_imports = programs.origin()
    if own.imports or has_imports:
        raise ValueError("a run with imports= cannot be recorded: nobody could run the caller's functions again")
    digest, size = facts_of_module(wasm)
    argv, _, environ = words
    env = [each.decode("utf-8", "surrogateescape").partition("=") for each in environ]
    told = Recording(
        tuple(argv),
        {name: value for name, _, value in env},
        programs.name,
        digest,
        size,
        asked.record.module,
        limits,
        own.cwd,
        asked.seed,
        asked.clock,
        asked.deterministic,
        features,
        bounds.deadline.timeout_s,
        **versions(),
    )
    manners = {name: MountTold(name, manner, what, times) for name, manner, what, times in mounts.manners()}
    return Recorder(asked.record, told, manners, wasm)
