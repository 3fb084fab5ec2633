"""Compiling modules, and the cache of what was compiled.

Machine code is loaded without any check of its own, so it comes only from our directory, which must belong to
the user and be closed to everybody else, under a name that is the hash of the module, the version of wasmtime
and the engine's settings. The cache is a convenience: any trouble with it means compiling, never failing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import wasmtime

from ..errors import InvalidModuleError
from ..limits import Limits
from . import capi
from .stacks import rounded

_log = logging.getLogger("vfswasi.cache")

_SETTINGS: Final = "epoch_interruption memory_may_move=0 fuel={} v1"
_CACHE_MAX_BYTES: Final = 4 << 30
_CACHE_WORTH_S: Final = 0.02  # what compiles faster than this is not written to disk
STACK_BYTES: Final = rounded(Limits().stack_bytes)
_REMEMBERED: Final = 16  # compiled modules kept in memory

_WASM_MAGIC: Final = b"\0asm"
_COMPONENT_VERSION: Final = b"\x0d\x00\x01\x00"

_lock = threading.RLock()
_engines: dict[tuple[bool, int], wasmtime.Engine] = {}
_remembered: OrderedDict[tuple[str, int], CompiledModule] = OrderedDict()


def engine(fuel: bool = False, stack_bytes: int = STACK_BYTES) -> wasmtime.Engine:
    """The engine of all sandboxes of this process whose guests may use as much stack, as `stacks.rounded` gives it, and
    whose instructions are counted or not. The code is the same whatever the stack."""
    with _lock:
        found = _engines.get((fuel, stack_bytes))
        if found is None:
            config = wasmtime.Config()
            config.epoch_interruption = True
            config.memory_may_move = False
            config.consume_fuel = fuel
            capi.set_stack_bytes(config, stack_bytes)
            found = _engines[fuel, stack_bytes] = wasmtime.Engine(config)
        return found


def tick() -> None:
    """Make all guests that compute look at their deadlines. Any thread may call this, and a signal handler."""
    for each in list(_engines.values()):
        each.increment_epoch()


@dataclass(frozen=True, eq=False)
class Import:
    """One import: `kind` is "func", "memory", "table", "global" or "tag"; `type` is wasmtime's type object."""

    module: str
    name: str
    kind: str
    type: Any


@dataclass(frozen=True, eq=False)
class CompiledModule:
    """A module ready to run, with what its imports and exports are."""

    module: wasmtime.Module
    engine: wasmtime.Engine
    imports: tuple[Import, ...]
    exports: dict[str, Any]  # name -> wasmtime's type object
    has_start: bool  # a start section: it runs while the module is instantiated
    memories: int  # its own, beside those that it imports
    tables: int


def load(wasm: bytes, name: str, fuel: bool = False, stack_bytes: int = STACK_BYTES) -> CompiledModule:
    """Compile `wasm` (binary, or the text format), or take it from the cache. `name` is for messages. `fuel`: so that
    its instructions are counted. `stack_bytes`: see `engine`.

    Raises InvalidModuleError.
    """
    wasm = _binary(wasm, name)
    digest = hashlib.sha256(wasm)
    digest.update(_engine_identity(fuel))
    key = digest.hexdigest()
    with _lock:
        known = _remembered.get((key, stack_bytes))
        if known is not None:
            _remembered.move_to_end((key, stack_bytes))
            return known
    into = engine(fuel, stack_bytes)
    module = _from_disk(into, key) or _compile(into, wasm, name, key)
    imports = tuple(Import(i.module, i.name or "", _kind(i.type), i.type) for i in module.imports)
    compiled = CompiledModule(module, into, imports, {e.name: e.type for e in module.exports}, *_sections(wasm))
    with _lock:
        _remembered[key, stack_bytes] = compiled
        while len(_remembered) > _REMEMBERED:
            _remembered.popitem(last=False)
    return compiled


@cache
def _engine_identity(fuel: bool) -> bytes:
    """What compiled code depends on beside the module; looking the version up takes half a millisecond."""
    from importlib.metadata import version  # slow to import, and needed only once something is compiled

    return f"\0{version('wasmtime')}\0{_SETTINGS.format(int(fuel))}".encode()


def _kind(type_: Any) -> str:
    return type(type_).__name__.removesuffix("Type").lower()


def _binary(wasm: bytes, name: str) -> bytes:
    if wasm[:4] == _WASM_MAGIC:
        if wasm[4:8] == _COMPONENT_VERSION:
            raise InvalidModuleError(
                f"{name}: this is a WebAssembly component; build the program as a core module for WASI preview1 "
                "(target wasm32-wasip1)"
            )
        return wasm
    if wasm.lstrip()[:1] == b"(":
        try:
            return bytes(wasmtime.wat2wasm(wasm))
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(f"{name}: not valid WebAssembly text: {_first_line(error)}") from error
    raise InvalidModuleError(f"{name}: not a WebAssembly module (it does not start with \\0asm)")


def load_own(engine_: wasmtime.Engine, text: str, name: str) -> wasmtime.Module:
    """Compile a module of this package for an engine. For our own engines the result is kept on disk, small as it is,
    because nearly every process needs it."""
    fuel = next((fuel for (fuel, _), ours in _engines.items() if ours is engine_), None)
    if fuel is None:
        return wasmtime.Module(engine_, bytes(wasmtime.wat2wasm(text)))
    digest = hashlib.sha256(text.encode())
    digest.update(_engine_identity(fuel))
    key = digest.hexdigest()
    return _from_disk(engine_, key) or _compile(engine_, bytes(wasmtime.wat2wasm(text)), name, key, worth_s=0)


_TABLES: Final = 4
_MEMORIES: Final = 5
_START: Final = 8


def _sections(wasm: bytes) -> tuple[bool, int, int]:
    """(whether there is a start section, memories, tables) of a valid module (WebAssembly core specification, 5.5)."""
    counts = {_TABLES: 0, _MEMORIES: 0, _START: 0}
    at = 8
    while at < len(wasm):
        section = wasm[at]
        size, at = _unsigned(wasm, at + 1)
        if section in counts:
            counts[section] = 1 if section == _START else _unsigned(wasm, at)[0]
        at += size
    return bool(counts[_START]), counts[_MEMORIES], counts[_TABLES]


def _unsigned(wasm: bytes, at: int) -> tuple[int, int]:
    """(an integer in LEB128, where it ends)."""
    value = shift = 0
    while True:
        byte, at = wasm[at], at + 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _compile(
    into: wasmtime.Engine, wasm: bytes, name: str, key: str, worth_s: float = _CACHE_WORTH_S
) -> wasmtime.Module:
    started = time.monotonic()
    try:
        module = wasmtime.Module(into, wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(f"{name}: not a valid WebAssembly module: {_first_line(error)}") from error
    if time.monotonic() - started > worth_s:
        _to_disk(key, module)
    return module


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # wasmtime puts the cause below a headline that says nothing new.
    cause = lines[lines.index("Caused by:") + 1 :][:1] if "Caused by:" in lines else []
    return repr("; ".join(lines[:1] + [line.removeprefix("0: ") for line in cause]))[1:-1]


def cache_directory() -> Path:
    """Where compiled modules lie: `$VFSWASI_CACHE_DIR`, else `vfswasi` in `$XDG_CACHE_HOME` or `~/.cache`."""
    given = os.environ.get("VFSWASI_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vfswasi"


def trusted_directory() -> Path | None:
    """From where machine code is loaded; None if there is no such place."""
    try:
        return cache_directory()
    except RuntimeError:  # nobody has a home
        return None


def _open_cache(make: bool) -> Path | None:
    """The cache directory if it is there, or can be made, and is ours alone."""
    try:
        directory = cache_directory()
        if make:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = directory.lstat()
    except (OSError, RuntimeError) as error:
        _log.debug("no module cache: %s", error)
        return None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        _log.warning("module cache %s is not used: it must be owned by you with mode 0700", directory)
        return None
    return directory


def _from_disk(into: wasmtime.Engine, key: str) -> wasmtime.Module | None:
    directory = _open_cache(make=False)
    if directory is None:
        return None
    path = directory / f"{key}.cwasm"
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
            return None
        module = wasmtime.Module.deserialize_file(into, str(path))
    except FileNotFoundError:
        return None
    except (OSError, wasmtime.WasmtimeError) as error:
        _log.warning("cached module %s is unusable and will be compiled again: %s", path, error)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # marks it as used, for _prune
    return module


def _to_disk(key: str, module: wasmtime.Module) -> None:
    directory = _open_cache(make=True)
    if directory is None:
        return
    try:
        data = module.serialize()
        # Complete on disk before it has its name: a torn file of machine code must never be loaded.
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".new-", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, directory / f"{key}.cwasm")
            except BaseException:
                os.unlink(file.name)
                raise
        _prune(directory)
    except (OSError, wasmtime.WasmtimeError) as error:
        _log.warning("compiled module was not cached: %s", error)


def _prune(directory: Path) -> None:
    """Remove what was used least recently until the cache is within its size."""
    found = sorted(((path.stat(), path) for path in directory.glob("*.cwasm")), key=lambda pair: -pair[0].st_mtime)
    total = 0
    for status, path in found:
        total += status.st_size
        if total > _CACHE_MAX_BYTES:
            path.unlink(missing_ok=True)
