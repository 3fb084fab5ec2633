"""Compiling modules, with engines that are set up here. What was compiled is kept in memory, and on disk under a name
that is the hash of the module, the version of wasmtime and the engine's settings (`module_cache`)."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import wasmtime

from ...errors import InvalidModuleError
from ...limits import Limits
from ...logs import logger
from .. import capi
from ..interruption.ways import EPOCH, PAGE, REWRITER, Way
from ..threads.stacks import rounded
from . import cache as module_cache
from . import features as wasm_features
from . import outline, refusals
from .features import NONE, Features

if TYPE_CHECKING:
    from .exposing import Inside

_log = logger("vfswasi")

_NOT_REWRITTEN: Final = "page, but that it cannot be rewritten"  # in place of a way
_KEPT: Final = b"\0exposed 1"  # behind a module whose inside is exported: another one when that is done otherwise
_SETTINGS: Final = "interruption={} memory_may_move=0 fuel={} v3"
STACK_BYTES: Final = rounded(Limits().stack_bytes)
# What compiles faster than this is not written to disk, nor what is so small that only the machine was slow.
_CACHE_WORTH_S: Final = 0.02
_CACHE_WORTH_BYTES: Final = 4096
_REMEMBERED: Final = 16  # compiled modules kept in memory

_WASM_MAGIC: Final = b"\0asm"


class _Digest(Protocol):
    """What hashlib makes."""

    def copy(self) -> _Digest: ...
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


_lock = threading.RLock()
_Settings = tuple[bool, Features, int, Way]
_engines: dict[_Settings, wasmtime.Engine] = {}
_remembered: OrderedDict[tuple[str, int], CompiledModule] = OrderedDict()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


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


def tick() -> None:
    """Make all guests that compute look at their deadlines, those that are interrupted by epoch. Any thread may call
    this, and a signal handler."""
    for (_, _, _, way), each in list(_engines.items()):
        if way == EPOCH:
            each.increment_epoch()


class Import(NamedTuple):
    """One import: `kind` is "func", "memory", "table", "global" or "tag"; `type` is wasmtime's type object; `signature`
    that of a function of numbers."""

    module: str
    name: str
    kind: str
    type: Any
    signature: outline.Signature | None


class CompiledModule(NamedTuple):
    """A module ready to run, with what its imports and exports are."""

    module: wasmtime.Module
    engine: wasmtime.Engine
    imports: tuple[Import, ...]
    exports: dict[str, Any]  # name -> wasmtime's type object; the page of ours is not among them
    has_start: bool  # a start section: it runs while the module is instantiated
    memories: int  # its own, beside those that it imports
    tables: int
    page: bytes | None  # under which name the compiled module exports the page that ends it; None: epochs do
    inside: Inside | None = None  # of one that was compiled so that instances can be kept and copied

    @property
    def interruption(self) -> Way:
        """How a guest that computes is interrupted."""
        return EPOCH if self.page is None else PAGE


def load(
    wasm: bytes,
    name: str,
    fuel: bool = False,
    features: Features = NONE,
    stack_bytes: int = STACK_BYTES,
    way: Way = EPOCH,
    kept: bool | None = False,
) -> CompiledModule:
    """Compile `wasm` (binary, or the text format), or take it from the cache. `name` is for messages. `fuel`: so that
    its instructions are counted. `features`: what it may use, see `features.NAMES`. `stack_bytes`: see `engine`. `way`:
    how it should be interrupted; what cannot be rewritten for PAGE is compiled for EPOCH. `kept`: so that instances of
    it can be kept between calls and copied (see `exposing`); None: if it is no command.

    Raises InvalidModuleError.
    """
    wasm = binary(wasm, name)
    excess = outline.too_many(wasm)
    if excess is not None:
        raise InvalidModuleError(f"{name}: {refusals.excess(excess)}")
    digest = hashlib.sha256(wasm)
    if kept is None:
        kept = not any(export == "_start" for export, _, _ in outline.read(wasm).exports)
    if kept:
        digest.update(_KEPT)
    key = _key(digest, way, fuel, features)
    with _lock:
        known = _remembered.get((key, stack_bytes))
        if known is not None:
            _remembered.move_to_end((key, stack_bytes))
            return known
    inside = None
    if kept:
        from . import exposing  # of no use to runs

        try:
            # As it was given: what names a function that is not there must not find one of ours.
            wasmtime.Module.validate(engine(fuel, features, stack_bytes, EPOCH), wasm)
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(f"{name}: {refusals.why(wasm, error, features)}") from error
        wasm, inside = exposing.expose(wasm)
    module, into, got = _module(wasm, name, digest, (fuel, features, stack_bytes, way))
    signatures = iter(outline.imported_functions(wasm))
    imports = []
    for each in module.imports:
        kind = _kind(each.type)
        signature = next(signatures) if kind == "func" else None
        imports.append(Import(each.module, each.name or "", kind, each.type, signature))
    exports = {each.name: each.type for each in module.exports}
    page = None
    if got == PAGE:
        added, _ = exports.popitem()  # it comes behind those of the module's own
        page = added.encode()
    if inside is not None:
        exports = {export: type_ for export, type_ in exports.items() if export not in inside.added}
    compiled = CompiledModule(module, into, tuple(imports), exports, *outline.counts(wasm), page, inside)
    with _lock:
        _remembered[key, stack_bytes] = compiled
        while len(_remembered) > _REMEMBERED:
            _remembered.popitem(last=False)
    return compiled


def _module(
    wasm: bytes, name: str, digest: _Digest, settings: _Settings
) -> tuple[wasmtime.Module, wasmtime.Engine, Way]:
    """The module, its engine, and the way in which it is interrupted there. `digest`: of `wasm`."""
    fuel, features, stack_bytes, way = settings
    into, key = engine(*settings), _key(digest, way, fuel, features)
    module = module_cache.load(into, key)
    if module is not None:
        return module, into, way
    if way == EPOCH:
        return _compile(into, wasm, name, key, features), into, EPOCH
    # What cannot be rewritten has a place of its own in the cache, so that nobody tries again.
    by_epoch, kept = engine(fuel, features, stack_bytes, EPOCH), _key(digest, _NOT_REWRITTEN, fuel, features)
    module = module_cache.load(by_epoch, kept)
    if module is not None:
        return module, by_epoch, EPOCH
    module = _compile_rewritten(into, wasm, name, key, features)
    if module is not None:
        return module, into, PAGE
    return _compile(by_epoch, wasm, name, kept, features), by_epoch, EPOCH


def _key(digest: _Digest, way: str, fuel: bool, features: Features) -> str:
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


def _kind(type_: Any) -> str:
    return type(type_).__name__.removesuffix("Type").lower()


def binary(wasm: bytes, name: str, components: bool = False) -> bytes:
    """The binary format of a module that is in it or in the text format. Raises InvalidModuleError, for a component
    too unless they are wanted."""
    if wasm[:4] == _WASM_MAGIC:
        if outline.has_too_many_sections(wasm):
            raise InvalidModuleError(
                f"{name}: it has more than {outline.SECTIONS_MAX:,} sections, which no compiler makes"
            )
        if outline.is_component(wasm) and not components:
            raise InvalidModuleError(f"{name}: {refusals.component(wasm)}")
        return wasm
    if wasm.lstrip()[:1] == b"(":
        try:
            wasm = bytes(wasmtime.wat2wasm(wasm))
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(f"{name}: not valid WebAssembly text: {refusals.causes(error)}") from error
        return binary(wasm, name, components)
    raise InvalidModuleError(f"{name}: not a WebAssembly module (it does not start with \\0asm)")


def load_own(engine_: wasmtime.Engine, text: str, name: str) -> wasmtime.Module:
    """Compile a module of this package for an engine. For our own engines the result is kept on disk, small as it is,
    because nearly every process needs it."""
    settings = next((settings for settings, ours in _engines.items() if ours is engine_), None)
    if settings is None:
        return wasmtime.Module(engine_, bytes(wasmtime.wat2wasm(text)))
    fuel, features, _, way = settings
    key = _key(hashlib.sha256(text.encode()), way, fuel, features)
    kept = module_cache.load(engine_, key)
    return kept or _compile(engine_, bytes(wasmtime.wat2wasm(text)), name, key, features, ours=True)


def _compile(
    into: wasmtime.Engine, wasm: bytes, name: str, key: str, on: Features, ours: bool = False
) -> wasmtime.Module:
    started = time.monotonic()
    try:
        module = wasmtime.Module(into, wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(f"{name}: {refusals.why(wasm, error, on)}") from error
    _keep(key, module, wasm, started, ours)
    return module


def _compile_rewritten(into: wasmtime.Engine, wasm: bytes, name: str, key: str, on: Features) -> wasmtime.Module | None:
    """With a page that ends it; None: this module cannot have one. Raises InvalidModuleError."""
    from ..interruption import rewriting  # of no use to a module that was compiled before

    started = time.monotonic()
    try:
        # As it was given: what names a memory that is not there must not find ours.
        wasmtime.Module.validate(into, wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(f"{name}: {refusals.why(wasm, error, on)}") from error
    has_start, _, _ = outline.counts(wasm)
    if has_start:  # it runs before anybody can know where the page is
        return None
    try:
        rewritten = rewriting.rewrite(wasm)
        module = wasmtime.Module(into, rewritten.wasm)
    except (rewriting.CannotRewriteError, wasmtime.WasmtimeError) as error:
        _log.debug("%s: interrupted by epochs: %s", name, error)
        return None
    _keep(key, module, wasm, started)
    return module


def _keep(key: str, module: wasmtime.Module, wasm: bytes, started: float, ours: bool = False) -> None:
    """On disk, if that is worth it. `started`: monotonic seconds, when the work on it began."""
    seconds = time.monotonic() - started
    if ours or (seconds > _CACHE_WORTH_S and len(wasm) > _CACHE_WORTH_BYTES):
        module_cache.store(key, module, seconds, tell=not ours)


def trusted_directories() -> list[Path]:
    """Where compiled modules lie, and the key that signs them: no guest may write there."""
    found = []
    for place in (module_cache.directory, module_cache.key_directory):
        try:
            found.append(place())
        except RuntimeError:  # nobody has a home
            pass
    return found
