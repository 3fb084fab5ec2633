"""From what a caller asked for to a run that can begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ...engine.compiling import modules
from ...engine.runner import Program
from ...fs_backends.base import Traffic
from ...kernel.clocks import Deadline
from ...kernel.process import Process
from ...limits import Limits
from ...mounts.dress import Dress
from ...mounts.table import MountTable
from ..runs.asked import Asked, Own, clocks_of
from ..runs.observed import UNOBSERVED, Observed, observed
from ..runs.pipes import NO_PIPES, Pipes
from ..runs.run import Run, Setting
from ..stdio import hide_terminals, standard_streams
from .mounting import Bounds, open_mounts
from .programs import Programs


class Ground(NamedTuple):
    """A sandbox from the side of its runs. programs, features: of its module. begun, over: told of each run's deadline,
    when it can begin, and when nothing is left of it, with the mounts that were opened for it alone; `begun` raises
    ValueError if the sandbox is closed."""

    mounts: MountTable
    programs: Programs
    features: tuple[str, ...]
    fast: bool
    begun: Callable[[Deadline], None]
    over: Callable[[Deadline, MountTable | None], None]


def assembled(
    ground: Ground,
    program: Program,
    words: tuple[list[str], list[bytes], list[bytes]],
    limits: Limits,
    asked: Asked,
    own: Own,
    bounds: Bounds,
    before: Mapping[str, Traffic],
    pipes: Pipes,
) -> Run[Any]:
    """A run that has not begun. words: the arguments, the same encoded, the environment. before: what the mounts had
    cost. Raises what opening mounts and streams raises, and `Ground.begun`."""
    argv, encoded, environ = words
    mounts = ground.mounts
    if own.preopens is not None:
        mounts = open_mounts(own.preopens, modules.trusted_directories(), bounds, ground.mounts)
    mine = None if mounts is ground.mounts else mounts
    try:
        seen = _seen(ground, words, limits, asked, own, bounds, mounts)
        clocks = clocks_of(asked.clock)
        dress = Dress(asked.clock, asked.deterministic, seen.lower, clocks.for_stores())
        preopens = mounts.instantiate(limits, recorded=True, dress=dress)
        stdio = asked.stdin, asked.stdout, asked.stderr
        if pipes is not NO_PIPES:  # else PIPE means to capture
            stdio = pipes.open(*stdio, asked.codec, limits.output_bytes)
        streams = standard_streams(*stdio, limits.output_bytes)
        if asked.deterministic:
            hide_terminals(streams)
        pipes.opened()
    except BaseException:
        pipes.close()
        if mine is not None:
            mine.close()
        raise
    process = Process(
        argv=encoded,
        environ=environ,
        preopens=preopens,
        streams=seen.streams(streams),
        limits=limits,
        deadline=bounds.deadline,
        allowance=bounds.allowance,
        entropy=asked.entropy,
        clocks=clocks,
        tracer=seen.told,
    )
    try:
        ground.begun(bounds.deadline)
    except BaseException:
        process.close(False)
        pipes.close()
        if mine is not None:
            mine.close()
        raise
    over = partial(ground.over, bounds.deadline, mine)
    told = None if seen is UNOBSERVED else tuple(mounts.told())
    setting = Setting(
        argv, program, process, preopens, streams, pipes, ground.fast, own.cwd, bounds, before, over, seen, told
    )
    return Run(setting, asked)


def _seen(
    ground: Ground,
    words: tuple[list[str], list[bytes], list[bytes]],
    limits: Limits,
    asked: Asked,
    own: Own,
    bounds: Bounds,
    mounts: MountTable,
) -> Observed:
    """What is noted about the run."""
    seen = observed(asked).seen_by(asked.witness)
    if asked.record is None:
        return seen
    from .recording import recorder  # few runs are recorded

    return seen.seen_by(recorder(asked, words, limits, own, bounds, mounts, ground.programs, ground.features))
