"""How a sandbox opens a session, and takes a snapshot of a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...engine.compiling import refusals
from ...errors import MissingExportError
from ...kernel.clocks import Deadline
from ...kernel.process import Process
from ...limits import check_seconds
from ...mounts.dress import Dress
from ..arguments import check_args_bytes, encode_argv
from ..runs.asked import Asked, clocks_of
from ..runs.observed import recorder_of
from ..stdio import hide_terminals, standard_streams
from .origin import Origin, Parts
from .session import Session, Snapshot


def open_session(origin: Origin, argv: list[str], command: bool, options: Mapping[str, Any]) -> Session:
    """`Sandbox.session`; options: those of `Asked.of` but `check`, and `timeout`."""
    given = dict(options)
    if "check" in given:
        raise TypeError("a session has no check: a call that ends the guest raises")
    if given.get("record") is not None:
        raise ValueError("a session cannot be recorded, only runs can")
    if given.get("accesses"):
        raise ValueError("accesses are of a run from its beginning to its end; a session has none, so leave them out")
    limits = origin.limits
    timeout = given.pop("timeout", None)
    seconds = limits.wall_seconds if timeout is None else check_seconds("timeout", timeout)
    asked = Asked.of(**given)
    wrong = refusals.session(origin.program.compiled.exports, command)
    if wrong is not None:
        raise MissingExportError(f"{origin.program.name}: {wrong}")
    encoded = encode_argv(argv)
    check_args_bytes(encoded, origin.environ, limits)
    deadline = Deadline()
    origin.begun(deadline)
    try:
        before = origin.mounts.traffic()
        clocks = clocks_of(asked.clock)
        dress = Dress(asked.clock, asked.deterministic, now_ns=clocks.for_stores())
        preopens = origin.mounts.instantiate(limits, dress=dress)
        streams = standard_streams(asked.stdin, asked.stdout, asked.stderr, limits.output_bytes)
        if asked.deterministic:
            hide_terminals(streams)
        process = Process(
            argv=encoded,
            environ=origin.environ,
            preopens=preopens,
            streams=streams,
            limits=limits,
            deadline=deadline,
            entropy=asked.entropy,
            tracer=recorder_of(asked.trace),
            clocks=clocks,
        )
    except BaseException:
        origin.over(deadline)
        raise
    parts = Parts(process, preopens, streams, asked.entropy, asked.codec, argv, before, dress)
    return Session(origin, parts, deadline, seconds)


def taken_after(session: Session, after: str | tuple[Any, ...] | Callable[[Session], object] | None) -> Snapshot:
    """A snapshot of a session, which is given up then. `after`: see `Sandbox.snapshot`."""
    try:
        if isinstance(after, str):
            session.call(after)
        elif isinstance(after, tuple):
            session.call(*after)
        elif callable(after):
            after(session)
        elif after is not None:
            raise TypeError(f"after must be the name of a function, a tuple or a callable, not {type(after).__name__}")
        return session.snapshot()
    finally:
        session.kill()
