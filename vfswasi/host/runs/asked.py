"""What a caller asks of a run, checked before there is a guest."""

from __future__ import annotations

import codecs
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ...clock import Clock
from ...engine.user_functions import UserImports
from ...fs_backends.base import Traffic
from ...kernel.clocks import Clocks
from ...limits import Limits
from ..arguments import checked_cwd, encode_environ
from ..stdio import PIPE

if TYPE_CHECKING:
    from ...mounts.finding.source_types import Source
    from ...observe.recording.record import Record
    from ..types import Trace
    from .witness import Witness

# What a deterministic run has unless it is told otherwise: noon of a day at which no file of anybody's is new.
DETERMINISTIC_CLOCK: Final = Clock("virtual", 946_728_000 * 10**9)
DETERMINISTIC_SEED: Final = 0


class Asked(NamedTuple):
    """What a caller wants of a run beside its arguments. codec: (encoding, errors) of captured output; None: bytes.
    clock: None: the system's. witness: what is there in place of a new one for `record`, of a run that is made
    again."""

    stdin: Any
    stdout: Any
    stderr: Any
    codec: tuple[str, str] | None
    check: bool
    entropy: Callable[[int], bytes]
    seed: int | None = None
    clock: Clock | None = None
    deterministic: bool = False
    accesses: bool | Literal["digest"] = False
    trace: Trace = None
    record: Record | None = None
    witness: Witness | None = None

    @classmethod
    def of(
        cls,
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        input: Any = None,
        capture_output: bool = False,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        check: bool = False,
        seed: int | None = None,
        clock: Clock | None = None,
        deterministic: bool = False,
        accesses: bool | Literal["digest"] = False,
        trace: Trace = None,
        record: str | os.PathLike[str] | Record | None = None,
    ) -> Asked:
        """The options of `Sandbox.run`. Raises ValueError, TypeError, LookupError (of encodings)."""
        if capture_output:
            if stdout is not None or stderr is not None:
                raise ValueError("stdout and stderr may not be used with capture_output")
            stdout = stderr = PIPE
        if text:
            codecs.lookup(encoding)  # a mistake here must not cost the output of a finished run
            codecs.lookup_error(errors)
        if input is not None:
            if stdin is not None:
                raise ValueError("stdin and input may not both be used")
            if not isinstance(input, str | bytes | bytearray | memoryview):
                raise TypeError(f"input must be bytes or str, not {type(input).__name__}")
            stdin = input.encode(encoding, "strict") if isinstance(input, str) else input
        if clock is not None:
            check_clock(clock)
        check_deterministic(deterministic)
        recorded = None
        if record is not None:
            from ...observe.recording.record import as_record, clock_from_now, random_seed  # few runs are

            recorded = as_record(record)
            if clock is not None and clock.kind == "system":
                raise ValueError(
                    "a recorded run cannot have the system's clock, which says something else when it is replayed; "
                    "leave clock= (--clock) out, and it has one that begins now"
                )
            if not deterministic:
                clock = clock_from_now() if clock is None else clock
                seed = random_seed() if seed is None else seed
                deterministic = True
        if deterministic:
            seed = DETERMINISTIC_SEED if seed is None else seed
            clock = DETERMINISTIC_CLOCK if clock is None else clock
        if clock is not None and clock.kind == "system":
            clock = None
        if not isinstance(accesses, bool) and accesses != "digest":
            raise ValueError(f'accesses must be True, False or "digest", not {accesses!r}')
        check_trace(trace)
        entropy = os.urandom if seed is None else _seeded(seed)
        trace = None if trace is False else trace  # a callable may be as false as an empty list
        codec = (encoding, errors) if text else None
        streams = stdin, stdout, stderr
        return cls(*streams, codec, check, entropy, seed, clock, deterministic, accesses, trace, recorded)


def check_clock(clock: object) -> None:
    """Raises TypeError."""
    if not isinstance(clock, Clock):
        raise TypeError(f"clock must be a vfswasi.Clock, such as Clock.fixed(0), not {type(clock).__name__}")


def check_trace(trace: object) -> None:
    """Raises TypeError."""
    if trace is not None and not isinstance(trace, bool) and not callable(trace):
        raise TypeError(f"trace must be True, False or a callable, not {type(trace).__name__}")


def clocks_of(clock: Clock | None) -> Clocks:
    """The clocks of one run, as they are when it begins."""
    if clock is None or clock.kind == "system":
        return Clocks()
    from ...kernel.own_clocks import OwnClocks  # few runs have them

    return OwnClocks(clock)


def check_deterministic(deterministic: object) -> None:
    """Raises TypeError."""
    if not isinstance(deterministic, bool):
        raise TypeError(f"deterministic must be True or False, not {type(deterministic).__name__}")


def _seeded(seed: int) -> Callable[[int], bytes]:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int, not {type(seed).__name__}")
    from ...kernel.entropy import SeededEntropy  # few runs have a seed

    return SeededEntropy(seed)


class Own(NamedTuple):
    """What one run has for itself."""

    env: Mapping[str, str] | None = None
    preopens: Mapping[str, Source] | None = None
    limits: Limits | None = None
    imports: UserImports | None = None
    cwd: str | None = None

    @classmethod
    def is_long(cls, options: Mapping[str, Any]) -> bool:
        """Whether preparing a run with these may take long: something is opened, or compiled."""
        return any(options.get(name) is not None for name in ("preopens", "limits", "imports"))

    def without_replaced(self, traffic: dict[str, Traffic]) -> dict[str, Traffic]:
        """What mounts of the sandbox have cost, by guest directory, but for those that this run does not have."""
        if not isinstance(self.preopens, Mapping):
            return traffic
        replaced = {name.rstrip("/") or "/" for name in self.preopens if isinstance(name, str)}
        return {name: cost for name, cost in traffic.items() if name not in replaced}

    def environ(self, env: Mapping[str, str] | None) -> list[bytes]:
        """The guest's environment, with that of the sandbox. Raises TypeError, ValueError."""
        encode_environ(self.env)
        every = {**(env or {}), **(self.env or {})}
        if self.cwd is not None:
            every["PWD"] = checked_cwd(self.cwd)
        return encode_environ(every)


def checked_limits(limits: Limits | None) -> Limits:
    """Raises TypeError."""
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a vfswasi.Limits, not {type(limits).__name__}")
    return limits


def checked_timeout(timeout: float | None) -> float | None:
    """Seconds, None: for ever. Raises TypeError, ValueError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be seconds as a number, not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds, not NaN")
    return None if timeout > 1e9 else max(float(timeout), 0.0)
