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
from typing import Any, Final, NamedTuple, Protocol

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

_log = logger("vfswasi")

_NOT_REWRITTEN: Final = "page, but that it cannot be rewritten"  # in place of a way
_SETTINGS: Final = "interruption={} memory_may_move=0 fuel={} v3"
STACK_BYTES: Final = rounded(Limits().stack_bytes)
# What compiles faster than this is not written to disk, nor what is so small that only the machine was slow.
_CACHE_WORTH_S: Final = 0.02
_CACHE_WORTH_BYTES: Final = 4096
_REMEMBERED: Final = 16  # compiled modules kept in memory


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
) -> CompiledModule:
    """Compile `wasm` (binary, or the text format), or take it from the cache. `name` is for messages. `fuel`: so that
    its instructions are counted. `features`: what it may use, see `features.NAMES`. `stack_bytes`: see `engine`. `way`:
    how it should be interrupted; what cannot be rewritten for PAGE is compiled for EPOCH. Of a component that the
    adapter for preview1 made it is the main module that is compiled.

    Raises InvalidModuleError.
    """
    wasm = binary(wasm, name)
    digest = hashlib.sha256(wasm)
    key = _key(digest, way, fuel, features)
    with _lock:
        known = _remembered.get((key, stack_bytes))
        if known is not None:
            _remembered.move_to_end((key, stack_bytes))
            return known
    if not outline.is_component(wasm):
        _check_counts(wasm, name)
    module, into, got = _module(wasm, name, digest, (fuel, features, stack_bytes, way))
    if outline.is_component(wasm):
        from ..components.known import main_module

        wasm = main_module(wasm)
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
    compiled = CompiledModule(module, into, tuple(imports), exports, *outline.counts(wasm), page)
    with _lock:
        _remembered[key, stack_bytes] = compiled
        while len(_remembered) > _REMEMBERED:
            _remembered.popitem(last=False)
    return compiled


def _module(
    wasm: bytes, name: str, digest: _Digest, settings: _Settings
) -> tuple[wasmtime.Module, wasmtime.Engine, Way]:
    """The module, its engine, and the way in which it is interrupted there. `digest`: of `wasm`. Of a component it is
    the main module, which is in the cache under the name of the component if that was found to be valid."""
    fuel, features, stack_bytes, way = settings
    into, key = engine(*settings), _key(digest, way, fuel, features)
    module = module_cache.load(into, key)
    if module is not None:
        return module, into, way
    if way == EPOCH:
        started = time.monotonic()
        wasm = _main(wasm, name, features)
        return _compile(into, wasm, name, key, features, started), into, EPOCH
    # What cannot be rewritten has a place of its own in the cache, so that nobody tries again.
    by_epoch, kept = engine(fuel, features, stack_bytes, EPOCH), _key(digest, _NOT_REWRITTEN, fuel, features)
    module = module_cache.load(by_epoch, kept)
    if module is not None:
        return module, by_epoch, EPOCH
    started = time.monotonic()
    wasm = _main(wasm, name, features)
    module = _compile_rewritten(into, wasm, name, key, features, started)
    if module is not None:
        return module, into, PAGE
    return _compile(by_epoch, wasm, name, kept, features, started), by_epoch, EPOCH


def _main(wasm: bytes, name: str, on: Features) -> bytes:
    """What is to be compiled: a module itself; of a component, which is validated here, its main module. Raises
    InvalidModuleError."""
    if not outline.is_component(wasm):
        return wasm
    from ..components import mains  # of no use to a component that was compiled before

    main = mains.checked(wasm, name, on)
    _check_sections(main, name)
    _check_counts(main, name)
    return main


def _check_counts(wasm: bytes, name: str) -> None:
    excess = outline.too_many(wasm)
    if excess is not None:
        raise InvalidModuleError(f"{name}: {refusals.excess(excess)}")


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


def binary(wasm: bytes, name: str) -> bytes:
    """The binary format of a module or a component that is in it or in the text format. Raises InvalidModuleError."""
    if wasm[:4] == outline.MAGIC:
        _check_sections(wasm, name)
        return wasm
    if wasm.lstrip().startswith((b"(", b";;")):
        try:
            wasm = bytes(wasmtime.wat2wasm(wasm))
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(f"{name}: not valid WebAssembly text: {refusals.causes(error)}") from error
        return binary(wasm, name)
    raise InvalidModuleError(f"{name}: not a WebAssembly module (it does not start with \\0asm)")


def _check_sections(wasm: bytes, name: str) -> None:
    if outline.has_too_many_sections(wasm):
        raise InvalidModuleError(f"{name}: it has more than {outline.SECTIONS_MAX:,} sections, which no compiler makes")


def load_own(engine_: wasmtime.Engine, text: str, name: str) -> wasmtime.Module:
    """Compile a module of this package for an engine. For our own engines the result is kept on disk, small as it is,
    because nearly every process needs it."""
    settings = next((settings for settings, ours in _engines.items() if ours is engine_), None)
    if settings is None:
        return wasmtime.Module(engine_, bytes(wasmtime.wat2wasm(text)))
    fuel, features, _, way = settings
    key = _key(hashlib.sha256(text.encode()), way, fuel, features)
    kept = module_cache.load(engine_, key)
    if kept is not None:
        return kept
    started = time.monotonic()
    return _compile(engine_, bytes(wasmtime.wat2wasm(text)), name, key, features, started, ours=True)


def _compile(
    into: wasmtime.Engine, wasm: bytes, name: str, key: str, on: Features, started: float, ours: bool = False
) -> wasmtime.Module:
    """`started`: monotonic seconds, when the work on it began."""
    try:
        module = wasmtime.Module(into, wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(f"{name}: {refusals.why(wasm, error, on)}") from error
    _keep(key, module, wasm, started, ours)
    return module


def _compile_rewritten(
    into: wasmtime.Engine, wasm: bytes, name: str, key: str, on: Features, started: float
) -> wasmtime.Module | None:
    """With a page that ends it; None: this module cannot have one. Raises InvalidModuleError."""
    from ..interruption import rewriting  # of no use to a module that was compiled before

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
