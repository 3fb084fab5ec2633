"""After a guest has ended: its files are closed, and the stores publish what it changed or give it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import FsError, Uncommitted, UncommittedError
from ..fs_backends.base import Backend, Traffic
from ..fs_backends.layers.recorded import Recorded
from ..kernel.process import Preopen, Process
from ..logs import logger
from ..printing import printable
from .results.changed import Found

if TYPE_CHECKING:
    from ..observe.changes import Changes

_log = logger("vfswasi")


class Finished(NamedTuple):
    """What came of it. lost: what the stores could not store. changes: guest directory -> what was changed there."""

    lost: list[Uncommitted]
    changes: Mapping[str, Changes]


NOTHING: Final = Finished([], {})


def finish(process: Process, preopens: Sequence[Preopen], keep: bool, publish: bool) -> Finished:
    """Close everything; what the stores could not store, and what is different now.

    keep: the guest ended by itself, so files that it left open are stored as if it had closed them. publish: it
    succeeded, so stores that change as a whole do it now, and changes are applied that are to be. Raises what a store
    raised that is no FsError, after all.
    """
    ends: list[BaseException] = []  # what is not an error but ends the caller, such as KeyboardInterrupt
    for error in process.close(keep):
        if isinstance(error, Exception):
            _log.warning("closing a file after the run failed: %s", printable(str(error)))
        else:
            ends.append(error)
    lost: list[Uncommitted] = []
    finished: list[Backend] = []
    for preopen in preopens:
        backend = preopen.backend
        if preopen.readonly or any(backend is other for other in finished):
            continue
        finished.append(backend)
        try:
            for file in backend.take_uncommitted():
                file.path = f"{preopen.name.rstrip('/')}/{file.path}"
                lost.append(file)
        except BaseException as error:
            ends.append(error.with_traceback(None))
        try:
            backend.finish(publish and not ends)
        except FsError as error:
            lost.append(nothing_of(preopen.name, error))
        except BaseException as error:
            ends.append(error.with_traceback(None))
    changes: Mapping[str, Changes] = {}
    overlays = [preopen for preopen in preopens if hasattr(preopen.backend, "layered")]
    if overlays:
        from .publishing import changes_of, publish_all  # few runs have any

        try:
            changes = changes_of(overlays)
            if publish and not ends:
                lost += [nothing_of(name, error) for name, error in publish_all(changes)]
        except BaseException as error:
            ends.append(error.with_traceback(None))
    if any(isinstance(preopen.backend, Recorded) for preopen in preopens):
        changes = Found(preopens, changes)
    if not keep or ends:
        for file in lost:
            _log.warning("%s could not be stored: %s", printable(file.path), printable(str(file.error)))
    if ends:
        raise ends[0]
    return Finished(lost, changes)


def nothing_of(name: str, error: FsError) -> Uncommitted:
    """What says that a mount as a whole could not be stored."""
    return Uncommitted(name, error, 0, _nothing, _forget)


def _nothing(_offset: int, _count: int) -> bytes:
    return b""


def _forget() -> None:
    pass


def uncommitted(lost: list[Uncommitted], result: Any = None) -> UncommittedError:
    """The error that tells of files that could not be stored."""
    names = ", ".join(file.path for file in lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    return UncommittedError(printable(f"could not be stored: {names} ({lost[0].error})"), lost, result)


def traffic_of(preopens: Sequence[Preopen]) -> dict[str, Traffic]:
    """What the stores that are far away have cost so far, by guest directory."""
    found = {preopen.name: preopen.backend.traffic() for preopen in preopens}
    return {name: traffic for name, traffic in found.items() if traffic is not None}


def traffic_since(preopens: Sequence[Preopen], before: Mapping[str, Traffic]) -> dict[str, Traffic]:
    """What they have cost since `before`."""
    return {name: now - before[name] if name in before else now for name, now in traffic_of(preopens).items()}
