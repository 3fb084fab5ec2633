"""Compiling modules, with engines that are set up here. What was compiled is kept in memory, and on disk under a name
that is the hash of the module, the version of wasmtime and the engine's settings (`module_cache`)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import wasmtime

from ...errors import CompileError, InvalidModuleError
from ...limits import Limits
from ...logs import logger
from ..interruption.ways import EPOCH, PAGE, Way
from . import cache as module_cache
from . import outline, refusals
from .apart import costs
from .compiled import CompiledModule as CompiledModule
from .compiled import Import as Import
from .compiled import described
from .engines import STACK_BYTES as STACK_BYTES
from .engines import Digest, Settings, settings_of
from .engines import engine as engine
from .engines import key as key_of
from .engines import tick as tick
from .features import NONE, Features

if TYPE_CHECKING:
    from .exposing import Inside

_log = logger("vfswasi")

_NOT_REWRITTEN: Final = "page, but that it cannot be rewritten"  # in place of a way
_KEPT: Final = b"\0exposed 1"  # behind a module whose inside is exported: another one when that is done otherwise
# What compiles faster than this is not written to disk, nor what is so small that only the machine was slow.
_CACHE_WORTH_S: Final = 0.02
_CACHE_WORTH_BYTES: Final = 4096
_REMEMBERED: Final = 16  # compiled modules kept in memory
_TEXT_MAX_BYTES: Final = 256 << 10  # of the text format, that is translated here
_SLICE_S: Final = 0.25  # of waiting for another thread
_LIMITS: Final = Limits()


_lock = threading.RLock()
_compiling: dict[str, threading.Event] = {}  # by key, what some thread is at; the event is when it has ended
_remembered: OrderedDict[tuple[str, int], CompiledModule] = OrderedDict()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when the process was forked
    _compiling.clear()


os.register_at_fork(after_in_child=_renew_lock)


def load(
    wasm: bytes,
    name: str,
    fuel: bool = False,
    features: Features = NONE,
    stack_bytes: int = STACK_BYTES,
    way: Way = EPOCH,
    limits: Limits = _LIMITS,
    kept: bool | None = False,
) -> CompiledModule:
    """Compile `wasm` (binary, or the text format), or take it from the cache. `name` is for messages. `fuel`: so that
    its instructions are counted. `features`: what it may use, see `features.NAMES`. `stack_bytes`: see `engine`. `way`:
    how it should be interrupted; what cannot be rewritten for PAGE is compiled for EPOCH. `limits`: what compiling may
    take. `kept`: so that instances of it can be kept between calls and copied (see `exposing`); None: if it is no
    command. Threads that want the same module wait for the first of them.

    Of a component that the adapter for preview1 made it is the main module that is compiled. It is in the cache under
    the name of the component if that was found to be valid.

    Raises InvalidModuleError, CompileError.
    """
    wasm = binary(wasm, name, limits)
    digest = hashlib.sha256(wasm)
    if kept is None:
        kept = not outline.is_component(wasm) and all(name != "_start" for name, _, _ in outline.read(wasm).exports)
    if kept:
        digest.update(_KEPT)
    key = key_of(digest, way, fuel, features)
    known = _recall(key, stack_bytes)
    if known is not None:
        return known
    with _alone(key, name, limits):
        known = _recall(key, stack_bytes)
        if known is not None:
            return known
        _check_fit(wasm, name)
        settings = (fuel, features, stack_bytes, way)
        inside = None
        if kept:
            wasm, inside = _exposed(_main(wasm, name, features), name, settings, limits)
        got = _module(wasm, name, digest, settings, limits)
        try:
            compiled = described(_known_main(wasm), *got, inside)
        except outline.Unreadable:
            raise InvalidModuleError(f"{name}: its imports are written in a way that is not known here") from None
        with _lock:
            _remembered[key, stack_bytes] = compiled
            while len(_remembered) > _REMEMBERED:
                _remembered.popitem(last=False)
        return compiled


def _exposed(wasm: bytes, name: str, settings: Settings, limits: Limits) -> tuple[bytes, Inside]:
    """A module whose instances can be kept and copied. Raises InvalidModuleError, CompileTimeoutError."""
    from . import exposing  # of no use to runs

    fuel, features, stack_bytes, _ = settings
    seconds, began = limits.compile_seconds, time.monotonic()

    def check_time() -> None:
        if seconds is not None and time.monotonic() - began >= seconds:
            from .apart import parent as apart

            raise apart.timeout(name, limits)

    try:
        # As it was given: what names a function that is not there must not find one of ours.
        wasmtime.Module.validate(engine(fuel, features, stack_bytes, EPOCH), wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(f"{name}: {refusals.why(wasm, error, features)}") from error
    return exposing.expose(wasm, check_time)


def _main(wasm: bytes, name: str, on: Features) -> bytes:
    """What is to be compiled: a module itself; of a component, which is validated here, its main module. Raises
    InvalidModuleError."""
    if not outline.is_component(wasm):
        return wasm
    from ..components import mains  # of no use to a component that was compiled before

    main = mains.checked(wasm, name, on)
    _check_sections(main, name)
    _check_fit(main, name)
    return main


def _known_main(wasm: bytes) -> bytes:
    """As `_main`, of what was found to be valid."""
    if not outline.is_component(wasm):
        return wasm
    from ..components.known import main_module

    return main_module(wasm)


def _check_fit(wasm: bytes, name: str) -> None:
    """Of a component it is the main module that is looked at, as soon as that is known."""
    unfit = None if outline.is_component(wasm) else refusals.unfit(wasm)
    if unfit is not None:
        raise InvalidModuleError(f"{name}: {unfit}")


def _check_sections(wasm: bytes, name: str) -> None:
    if outline.has_too_many_sections(wasm):
        raise InvalidModuleError(f"{name}: it has more than {outline.SECTIONS_MAX:,} sections, which no compiler makes")


def _recall(key: str, stack_bytes: int) -> CompiledModule | None:
    with _lock:
        known = _remembered.get((key, stack_bytes))
        if known is not None:
            _remembered.move_to_end((key, stack_bytes))
        return known


@contextlib.contextmanager
def _alone(key: str, name: str, limits: Limits) -> Iterator[None]:
    """No other thread is in here with the same key. Raises CompileTimeoutError: one was for too long."""
    mine = threading.Event()
    began = time.monotonic()
    try:
        while (other := _compiling.setdefault(key, mine)) is not mine:
            seconds = limits.compile_seconds
            left_s = _SLICE_S if seconds is None else min(_SLICE_S, began + seconds - time.monotonic())
            if not other.wait(max(left_s, 0)) and seconds is not None and time.monotonic() - began >= seconds:
                from .apart import parent as apart

                raise apart.timeout(name, limits)
        yield
    finally:
        mine.set()
        if _compiling.get(key) is mine:
            del _compiling[key]


class Precompiled(NamedTuple):
    """`seconds`: of compiling; None: it was in the cache. `bytes`: of the file there."""

    seconds: float | None
    bytes: int


def precompile(wasm: bytes, name: str, fuel: bool, features: Features, way: Way, limits: Limits) -> Precompiled:
    """See to it that a module is in the cache on disk. The arguments are those of `load`.

    Raises InvalidModuleError, CompileError (also if it cannot be kept).
    """
    wasm = binary(wasm, name, limits)
    _check_fit(wasm, name)
    digest = hashlib.sha256(wasm)
    settings = (fuel, features, STACK_BYTES, way)
    with _alone(key_of(digest, way, fuel, features), name, limits):
        found = _from_disk(digest, settings)
        if found is not None:
            return Precompiled(None, module_cache.size(_key_got(digest, settings, found[1])))
        module, got, seconds = _made(wasm, name, digest, settings, limits)
        try:
            kept_as = _key_got(digest, settings, got)
            module_cache.keep(kept_as, module, name)
            return Precompiled(seconds, module_cache.size(kept_as))
        except module_cache.Unusable as error:
            raise CompileError(f"{name}: it took {seconds:.1f} s, and cannot be kept: {error}") from error


def _module(
    wasm: bytes, name: str, digest: Digest, settings: Settings, limits: Limits
) -> tuple[wasmtime.Module, wasmtime.Engine, Way]:
    """The module, its engine, and the way in which it is interrupted there. `digest`: of `wasm`."""
    found = _from_disk(digest, settings)
    if found is None:
        module, got, seconds = _made(wasm, name, digest, settings, limits)
        if seconds > _CACHE_WORTH_S and len(wasm) > _CACHE_WORTH_BYTES:
            module_cache.store(_key_got(digest, settings, got), module, seconds, name)
        found = module, got
    module, got = found
    return module, engine(*settings[:3], got), got


def _from_disk(digest: Digest, settings: Settings) -> tuple[wasmtime.Module, Way] | None:
    for got in dict.fromkeys((settings[3], EPOCH)):
        module = module_cache.load(engine(*settings[:3], got), _key_got(digest, settings, got))
        if module is not None:
            return module, got
    return None


def _key_got(digest: Digest, settings: Settings, got: Way) -> str:
    """What a module is called that was wanted with these settings, and is interrupted as it `got`: what cannot be
    rewritten has a place of its own in the cache, so that nobody tries again."""
    fuel, features, _, way = settings
    return key_of(digest, way if got == way else _NOT_REWRITTEN, fuel, features)


def _made(
    wasm: bytes, name: str, digest: Digest, settings: Settings, limits: Limits
) -> tuple[wasmtime.Module, Way, float]:
    """Compiled, here or in a process of its own, and the seconds that it took."""
    started = time.monotonic()
    wasm = _main(wasm, name, settings[1])
    if not _is_cheap(limits) or not costs.is_small(wasm):
        from .apart import parent as apart  # what is small or in the cache does not need it

        fuel, features, stack_bytes, way = settings
        asked = apart.Asked(key_of(digest, way, fuel, features), fuel, features, way)

        def load(got: Way, file: int, secret: bytes) -> wasmtime.Module:
            return module_cache.checked(engine(fuel, features, stack_bytes, got), file, asked.key, secret)

        try:
            return apart.compiled(wasm, name, asked, limits, load)
        except apart.UnavailableError as error:
            _check_without_limits(name, limits, error)
    module, got = compiled_here(wasm, name, settings)
    return module, got, time.monotonic() - started


def _is_cheap(limits: Limits) -> bool:
    """Whether what is small stays within them."""
    seconds, size = limits.compile_seconds, limits.compile_memory_bytes
    return (seconds is None or seconds >= costs.SECONDS) and (size is None or size >= costs.MEMORY_BYTES)


@cache
def _warn_once(reason: str) -> None:
    _log.warning(
        "modules are compiled in this process, without limits of time and memory, and Ctrl-C waits: %s", reason
    )


def _check_without_limits(name: str, limits: Limits, error: Exception) -> None:
    """Whether a module may be compiled in this process, where nothing limits that. `error`: why nowhere else. Raises
    CompileError: there are limits to keep to."""
    held = [limit for limit in ("compile_seconds", "compile_memory_bytes") if getattr(limits, limit) is not None]
    if held:
        nones, options = ", ".join(f"{each}=None" for each in held), " ".join(f"--limit {each}=none" for each in held)
        raise CompileError(
            f"compiling {name}: no process can be started that keeps to Limits.{' and '.join(held)} ({error}); if you "
            f"trust it, pass Limits({nones}) ({options}), and it is compiled in this process"
        ) from error
    _warn_once(str(error))


def compiled_here(wasm: bytes, name: str, settings: Settings) -> tuple[wasmtime.Module, Way]:
    """Compile a module in this process, which nothing can interrupt: the module, and how it is interrupted itself.
    Raises InvalidModuleError."""
    fuel, features, stack_bytes, way = settings
    if way == PAGE:
        module = _compile_rewritten(engine(*settings), wasm, name, features)
        if module is not None:
            return module, PAGE
    return _compile(engine(fuel, features, stack_bytes, EPOCH), wasm, name, features), EPOCH


def binary(wasm: bytes, name: str, limits: Limits = _LIMITS) -> bytes:
    """The binary format of a module or a component that is in it or in the text format. Raises InvalidModuleError, and
    CompileError: what is large is translated as it is compiled, within `limits`."""
    if wasm[:4] == outline.MAGIC:
        _check_sections(wasm, name)
        return wasm
    if wasm.lstrip().startswith((b"(", b";;")):
        return binary(_translated(wasm, name, limits), name)
    raise InvalidModuleError(f"{name}: not a WebAssembly module (it does not start with \\0asm)")


def _translated(text: bytes, name: str, limits: Limits) -> bytes:
    if not _is_cheap(limits) or len(text) > _TEXT_MAX_BYTES:
        from .apart import parent as apart

        try:
            return apart.from_text(text, name, limits)
        except apart.UnavailableError as error:
            _check_without_limits(name, limits, error)
    return from_text(text, name)


def from_text(text: bytes, name: str) -> bytes:
    """The binary format of a module in the text format, made in this process. Raises InvalidModuleError."""
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(f"{name}: not valid WebAssembly text: {refusals.causes(error)}") from error


def load_own(engine_: wasmtime.Engine, text: str, name: str) -> wasmtime.Module:
    """Compile a module of this package for an engine. For our own engines the result is kept on disk, small as it is,
    because nearly every process needs it."""
    settings = settings_of(engine_)
    if settings is None:
        return wasmtime.Module(engine_, bytes(wasmtime.wat2wasm(text)))
    fuel, features, _, way = settings
    key = key_of(hashlib.sha256(text.encode()), way, fuel, features)
    module = module_cache.load(engine_, key)
    if module is None:
        module = _compile(engine_, bytes(wasmtime.wat2wasm(text)), name, features)
        module_cache.store(key, module, 0.0, name, tell=False)
    return module


def _compile(into: wasmtime.Engine, wasm: bytes, name: str, on: Features) -> wasmtime.Module:
    try:
        return wasmtime.Module(into, wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(f"{name}: {refusals.why(wasm, error, on)}") from error


def _compile_rewritten(into: wasmtime.Engine, wasm: bytes, name: str, on: Features) -> wasmtime.Module | None:
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
        return wasmtime.Module(into, rewritten.wasm)
    except (rewriting.CannotRewriteError, wasmtime.WasmtimeError) as error:
        _log.debug("%s: interrupted by epochs: %s", name, error)
        return None


def trusted_directories() -> list[Path]:
    """Where compiled modules lie, and the key that signs them: no guest may write there."""
    found = []
    for place in (module_cache.directory, module_cache.key_directory):
        try:
            found.append(place())
        except RuntimeError:  # nobody has a home
            pass
    return found
