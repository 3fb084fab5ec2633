"""wasmtime's engines, one for each way in which modules are compiled; the names of compiled modules in the cache."""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import wasmtime

from ...limits import Limits
from .. import capi
from ..interruption.ways import EPOCH, REWRITER, Way
from ..threads.stacks import rounded
from . import features as wasm_features
from .features import NONE, Features

_SETTINGS: Final = "interruption={} memory_may_move=0 fuel={} v3"
STACK_BYTES: Final = rounded(Limits().stack_bytes)
Settings = tuple[bool, Features, int, Way]

_lock = threading.RLock()
_engines: dict[Settings, wasmtime.Engine] = {}


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


class Digest(Protocol):
    """What hashlib makes."""

    def copy(self) -> Digest: ...
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def engine(
    fuel: bool = False, features: Features = NONE, stack_bytes: int = STACK_BYTES, way: Way = EPOCH
) -> wasmtime.Engine:
    """The engine of all sandboxes of this process with these settings. `fuel`: instructions are counted. `stack_bytes`:
    what a guest may use of its thread's stack, as `stacks.rounded` gives it; the code is the same whatever it is.
    `way`: how its guests are interrupted; those of PAGE run modules that were rewritten, and no others."""
    settings = (fuel, features, stack_bytes, way)
    with _lock:
        found = _engines.get(settings)
        if found is None:
            config = wasmtime.Config()
            wasm_features.configure(config, features)
            config.epoch_interruption = way == EPOCH
            config.memory_may_move = False
            config.consume_fuel = fuel
            capi.set_stack_bytes(config, stack_bytes)
            found = _engines[settings] = wasmtime.Engine(config)
        return found


def settings_of(engine_: wasmtime.Engine) -> Settings | None:
    """Of an engine of ours; None: it is somebody else's."""
    return next((settings for settings, ours in _engines.items() if ours is engine_), None)


def tick() -> None:
    """Make all guests that compute look at their deadlines, those that are interrupted by epoch. Any thread may call
    this, and a signal handler."""
    for (_, _, _, way), each in list(_engines.items()):
        if way == EPOCH:
            each.increment_epoch()


def key(digest: Digest, way: str, fuel: bool, features: Features) -> str:
    """The name of compiled code: a hash of all that it depends on. `digest`: of the module as it was given."""
    whole = digest.copy()
    whole.update(_engine_identity(way, fuel, features))
    return whole.hexdigest()


@cache
def _engine_identity(way: str, fuel: bool, features: Features) -> bytes:
    """What compiled code depends on beside the module; looking the version up takes half a millisecond."""
    settings = _SETTINGS.format(way if way == EPOCH else f"{way} {REWRITER}", int(fuel))
    return f"\0{_wasmtime_version()}\0{settings}\0{wasm_features.identity(features)}".encode()


def _wasmtime_version() -> str:
    """What `importlib.metadata` says, which takes longer to import than a small program to run: the name of the one
    directory that an installation has for it (Binary distribution format, "The .dist-info directory")."""
    installed = Path(wasmtime.__file__).parents[1]
    names = [path.name for path in installed.glob("wasmtime-*.dist-info")]
    if len(names) == 1:
        return names[0].removeprefix("wasmtime-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version("wasmtime")
