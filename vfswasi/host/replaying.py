"""`replay()`: a recorded run, made again out of its file alone."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any

from ..errors import FsError, GuestError, InvalidModuleError, MountError, UncommittedError
from ..fs_backends.base import Caps
from ..limits import LIMIT_NAMES, Limits
from ..mounts.options import Mount
from ..observe.recording.difference import Difference
from ..observe.recording.recorder import facts_of_module
from ..observe.recording.recording import Recording
from ..observe.recording.replayer import RecordedStore, Replayer
from ..records import record
from .module_source import read_module
from .results.result import Result
from .runs.asked import Asked, Own
from .sandbox import Sandbox

if TYPE_CHECKING:
    from .types import Module, Stdout, Trace

_SHOWN = Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK | Caps.IMMUTABLE | Caps.SHARED | Caps.DEVICES


@record(frozen=True)
class Replayed:
    """A recorded run that was made again. result: as `vfswasi.run` gives it, also if it did not end by itself; None: it
    did not come so far. difference: where it first differs from the recorded run; None: nowhere."""

    recording: Recording
    result: Result[Any] | None
    difference: Difference | None

    @property
    def same(self) -> bool:
        """Whether it made the same calls, with the same answers, wrote the same bytes and ended in the same way."""
        return self.difference is None


def replay(
    file: str | os.PathLike[str] | IO[bytes] | Recording,
    module: Module | None = None,
    *,
    stdout: Stdout = None,
    stderr: Stdout = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str = "utf-8",
    errors: str = "replace",
    timeout: float | None = None,
    limits: Limits | None = None,
    trace: Trace = None,
) -> Replayed:
    """Run a recorded run again. Nothing is used but the file: no network, no directory, no environment of this machine.

    file: a path, a binary file, or a `Recording`. module: of a recording that was made without its module.
    stdout, stderr, capture_output, text, encoding, errors, trace: as in `vfswasi.run`.
    timeout: seconds; by default those of the recorded run, an hour at most. limits: what the recording may ask for at
    most; by default `Limits()`. A file that a stranger made says itself what its program may use up, so more than that
    is refused.

    What was never asked when the run was recorded is never answered: the run ends there, and `Replayed.difference` says
    what it was.

    Raises OSError, MountError (it is no recording, a corrupt one, or wants more than `limits`), InvalidModuleError (not
    the module that was recorded), ValueError (its module is not in it), and what compiling a module raises.
    """
    with ExitStack() as opened:
        recording = file if isinstance(file, Recording) else opened.enter_context(Recording.load(file))
        most = Limits() if limits is None else limits
        _check_limits(recording, most)
        try:
            wasm = recording.module_file() if module is None else _given(module, recording, most)
            replayer = Replayer(recording)
            asked = Asked.of(
                stdout=stdout,
                stderr=stderr,
                capture_output=capture_output,
                text=text,
                encoding=encoding,
                errors=errors,
                seed=recording.seed,
                clock=recording.clock,
                deterministic=recording.deterministic,
                trace=trace,
            )._replace(witness=replayer)
        except FsError as error:
            raise MountError(f"the recording cannot be read: {error.detail or error}") from error
        sandbox = opened.enter_context(_sandbox(recording, wasm))
        run = sandbox._prepared(recording.args[1:], asked, Own(cwd=recording.cwd), _seconds(recording, timeout, most))
        try:
            result = run.to_its_end()
        except (GuestError, UncommittedError) as error:
            result = error.result
        damage = next((known.damage for known in recording.opened.known.values() if known.damage is not None), None)
        if damage is not None:
            raise MountError(f"the recording is damaged: {damage.detail or damage}") from damage
        return Replayed(recording, result, replayer.difference)


def _sandbox(recording: Recording, wasm: bytes) -> Sandbox:
    """Raises MountError: it wants what cannot be."""
    preopens = {
        told.name: Mount(
            RecordedStore(Caps(told.caps) & _SHOWN),
            rw=False if told.manner == "ro" else None,
            overlay=told.manner != "ro",
            times="keep" if told.times == "keep" else None,
        )
        for told in recording.mounts
    }
    try:
        return Sandbox(
            wasm,
            preopens=preopens,
            env=recording.env,
            argv0=recording.args[0],
            limits=recording.limits,
            features=recording.features,
            deterministic=recording.deterministic,
        )
    except ValueError as error:
        raise MountError(f"the recording cannot be run: {error}") from error


def _given(module: Module, recording: Recording, limits: Limits) -> bytes:
    wasm, name = read_module(module, None, limits.module_bytes)
    digest, size = facts_of_module(wasm)
    if digest != recording.module_sha256:
        raise InvalidModuleError(
            f"{name}: is not the module of the recorded run: it has {size:,} bytes and SHA-256 {digest}, and that was "
            f"{recording.module_bytes:,} bytes of {recording.module_sha256}"
        )
    return wasm


def _check_limits(recording: Recording, most: Limits) -> None:
    for name in LIMIT_NAMES:
        allowed, wanted = getattr(most, name), getattr(recording.limits, name)
        if name in ("fuel", "wall_seconds") or allowed is None:
            continue  # less than nothing is asked for; the time is bounded in any case
        if wanted is None or wanted > allowed:
            raise MountError(
                f"the recorded run was given {name}={'none' if wanted is None else wanted}, more than the {allowed} "
                f"that a recording may ask for; if you know where it comes from, allow it with limits, or --limit "
                f"{name}={'none' if wanted is None else wanted}"
            )


def _seconds(recording: Recording, timeout: float | None, most: Limits) -> float | None:
    if timeout is not None:
        return timeout
    known = [value for value in (recording.timeout, most.wall_seconds) if value is not None]
    if recording.ending.interrupted:  # it need not wait any longer than somebody did then
        known.append(2 * recording.seconds + 10)
    return min(known, default=None)
