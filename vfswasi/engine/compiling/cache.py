"""The cache of compiled modules on disk.

wasmtime runs what it loads without a check of its own, so two walls stand before that, and each holds alone:

- a file is looked for only in a directory that is the user's own and closed to everybody else, on a way that nobody
  else can change;
- its last bytes are signatures over its name, its size and all that is before them, made with a key that lies
  elsewhere. Whoever comes to write into the directory (a program with a mount that shows it in a way that was not
  foreseen) can remove modules or damage them, but cannot make one, and cannot put one in another's place.

What is loaded is a copy in memory, of exactly the bytes that were checked. The cache is a convenience: any trouble with
it means compiling, and a word about it once, never failing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import wasmtime

from ...holders import holders
from ...logs import logger
from ...printing import printable
from . import kept

_log = logger("vfswasi.cache")

_MAX_BYTES: Final = 4 << 30
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = hashlib.sha256().digest_size
_PIECE_BYTES: Final = 4 << 20  # large modules are copied and hashed in pieces, by several threads
_STEP_BYTES: Final = 256 << 10  # and these in steps, which stay in the processor's cache between copying and hashing
_THREADS_MAX: Final = 4
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_WORKS: Final = hasattr(os, "getuid") and hasattr(os, "preadv")

_told: set[str] = set()  # what users of this process know already


class Unusable(Exception):
    """There is no cache, or no key, that could be trusted; the text says why."""


def directory() -> Path:
    """Where compiled modules lie: `$VFSWASI_CACHE_DIR`, else `vfswasi` in `$XDG_CACHE_HOME` or `~/.cache`. Raises
    RuntimeError: nobody has a home."""
    return _place("VFSWASI_CACHE_DIR", "XDG_CACHE_HOME", ".cache")


def key_directory() -> Path:
    """Where the key that signs them lies: `$VFSWASI_KEY_DIR`, else `vfswasi` in `$XDG_STATE_HOME` or `~/.local/state`.
    Raises RuntimeError: nobody has a home."""
    return _place("VFSWASI_KEY_DIR", "XDG_STATE_HOME", ".local/state")


def _place(own: str, base: str, at_home: str) -> Path:
    given = os.environ.get(own)
    if given:
        return Path(given)
    above = os.environ.get(base)
    return (Path(above) if above else Path.home() / at_home) / "vfswasi"


def opened() -> Path | None:
    """The directory, if there is one. Raises Unusable: it is not ours alone."""
    try:
        return _open(directory, make=False) if _WORKS else None
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        raise Unusable(_reason(error)) from error


def load(engine: wasmtime.Engine, name: str) -> wasmtime.Module | None:
    """The module of that name if it is there and was written here. `name`: a hash, of all that it depends on."""
    if not _WORKS:
        return None
    try:
        place = _open(directory, make=False)
        path = place / f"{name}.cwasm"
        file = os.open(path, _READ)
    except (OSError, RuntimeError):  # there is none; if there ought to be, `store` says why there can't
        return None
    except Unusable as error:
        _tell(str(error), f"the cache of compiled modules is not used: {error}")
        return None
    try:
        module = checked(engine, file, name, _key(make=False))
    except (OSError, RuntimeError, wasmtime.WasmtimeError, Unusable) as error:
        _tell(str(place), f"{path} is not used, the module is compiled again: {_reason(error)}")
        return None
    finally:
        os.close(file)
    with contextlib.suppress(OSError):
        os.utime(path)  # marks it as used, for _prune
    return module


def keep(name: str, module: wasmtime.Module, label: str) -> None:
    """Keep a module. `label`: what its user calls it. Raises Unusable: it cannot be kept; the text says why."""
    if not _WORKS:
        raise Unusable("there is no cache on this system")
    try:
        place = _open(directory, make=True)
        key = _key(make=True)
        data = module.serialize()
        _write(place, f"{name}.cwasm", data, signatures(key, name, data))
        kept.write_label(place, name, label)
        kept.prune(place, _MAX_BYTES)
    except (OSError, RuntimeError, wasmtime.WasmtimeError) as error:
        raise Unusable(_reason(error)) from error


def size(name: str) -> int:
    """Of the file of a module that is kept. Raises Unusable: it is not there any more."""
    try:
        return os.lstat(directory() / f"{name}.cwasm").st_size
    except (OSError, RuntimeError) as error:
        raise Unusable(_reason(error)) from error


def store(name: str, module: wasmtime.Module, seconds: float, label: str, tell: bool = True) -> None:
    """Keep a module if that can be. `seconds`: what compiling it has taken. `tell`: if not, that is worth a word."""
    try:
        keep(name, module, label)
    except Unusable as error:
        if tell and _WORKS:
            reason = str(error)
            _tell(
                reason,
                f"compiled modules are not kept ({reason}), and this one took {seconds:.1f} s: set VFSWASI_CACHE_DIR "
                "and VFSWASI_KEY_DIR to directories of yours",
            )


def _tell(about: str, message: str) -> None:
    """Once for each process: every module would say it again."""
    if about not in _told:
        _told.add(about)
        _log.warning("%s", printable(message))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__


# Places.


def _open(place: Callable[[], Path], make: bool) -> Path:
    """The directory if it is there, or can be made, and is ours alone. Raises OSError, RuntimeError, Unusable."""
    path = place()
    if make and not os.path.lexists(path):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise Unusable(f"{path} is not a directory")
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Unusable(f"{path} must be owned by you with mode 0700")
    for holder in holders(os.path.abspath(path)):
        if _others_may_change(os.lstat(holder)):
            raise Unusable(f"{path} must not lie below {holder}, which others may change")
    return path


def _others_may_change(status: os.stat_result) -> bool:
    if status.st_uid not in (0, os.getuid()):
        return True
    mode = status.st_mode
    if mode & stat.S_ISVTX:  # as /tmp: others can add names, not change ours
        return False
    # A group with the user alone in it, as many systems give one to each, is the user.
    alone = status.st_gid == os.getgid() == os.getuid()
    return bool(mode & 0o002 or (mode & 0o020 and not alone))


# The key.


def _key(make: bool) -> bytes:
    """Raises OSError (FileNotFoundError: there is none), RuntimeError, Unusable."""
    modules, keys = (os.path.realpath(place()) for place in (directory, key_directory))
    if keys == modules or keys.startswith(modules.rstrip("/") + "/"):
        raise Unusable(f"the key must not lie with what it signs, in {modules}")
    path = _open(key_directory, make) / "cache-key"
    try:
        return _read_key(path)
    except FileNotFoundError:
        if not make:
            raise
    # Whoever is first decides; nobody sees a key that is not whole.
    with _named(path.parent, os.urandom(_KEY_BYTES)) as new, contextlib.suppress(FileExistsError):
        os.link(new, path)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    file = os.open(path, _READ)
    try:
        _check_file(os.fstat(file), 0o077)
        key = os.read(file, _KEY_BYTES + 1)
    finally:
        os.close(file)
    if len(key) != _KEY_BYTES:
        raise Unusable(f"{path} is not a key; delete it")
    return key


def _check_file(status: os.stat_result, forbidden: int) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & forbidden:
        raise Unusable("it must be a file of yours that nobody else may change")


# Signatures.


def _size_signature(key: bytes, name: str, size: int) -> bytes:
    """HMAC-SHA256 of the name and the size: whether to take so much memory, before it is taken."""
    return hmac.digest(key, f"vfswasi module {name} has {size} bytes\n".encode(), "sha256")


def _signature(key: bytes, name: str, size: int, hashes: Iterable[bytes]) -> bytes:
    """HMAC-SHA256 of the name, the size and the hashes of all pieces."""
    return hmac.digest(key, f"vfswasi module {name} {size}\n".encode() + b"".join(hashes), "sha256")


def signatures(key: bytes, name: str, data: bytes | bytearray) -> bytes:
    """What stands behind the module in its file."""
    with memoryview(data) as view:
        hashes = _hashes(len(data), lambda room, at: view[at : at + len(room)])
    return _size_signature(key, name, len(data)) + _signature(key, name, len(data), hashes)


def _hashes(size: int, part: Callable[[memoryview, int], memoryview]) -> list[bytes]:
    """SHA-256 of each piece of something of `size` bytes. `part(room, offset)` gives len(room) of them, in `room` or
    elsewhere; it is called by several threads, none of which is left when this returns. Raises what that raises."""
    starts = range(0, size, _PIECE_BYTES)
    found = [b""] * len(starts)
    todo = iter(range(len(starts)))
    errors: list[BaseException] = []

    def work() -> None:
        room = memoryview(bytearray(min(_STEP_BYTES, size)))
        try:
            for number in todo:
                end = min(starts[number] + _PIECE_BYTES, size)
                piece = hashlib.sha256()
                for at in range(starts[number], end, _STEP_BYTES):
                    if errors:
                        return
                    piece.update(part(room[: end - at], at))
                found[number] = piece.digest()
        except BaseException as error:
            errors.append(error)

    # `Thread.join` does not say whether a thread has ended, once it was interrupted (CPython's issue 90882).
    began: list[None] = []
    ended: list[None] = []

    def help_out() -> None:
        began.append(None)
        try:
            work()
        finally:
            ended.append(None)

    helpers: list[threading.Thread] = []
    try:
        with contextlib.suppress(RuntimeError):  # there can be no more threads; one can do it
            for _ in range(min(_THREADS_MAX, os.cpu_count() or 1, len(starts)) - 1):
                helper = threading.Thread(target=help_out)
                helper.start()
                helpers.append(helper)
        work()
        for helper in helpers:
            helper.join()
    except BaseException as error:  # Ctrl-C, at any moment
        errors.append(error)
    while len(began) > len(ended):  # one that begins only now sees that there is an error
        try:
            time.sleep(0.001)
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return found


def checked(engine: wasmtime.Engine, file: int, name: str, key: bytes) -> wasmtime.Module:
    """The module in an open file. Raises OSError, WasmtimeError, Unusable."""
    status = os.fstat(file)
    _check_file(status, 0o022)
    size = status.st_size - 2 * _SIGNATURE_BYTES
    if size <= 0:
        raise Unusable("it is cut off")
    signatures = os.pread(file, 2 * _SIGNATURE_BYTES, size)
    if not hmac.compare_digest(_size_signature(key, name, size), signatures[:_SIGNATURE_BYTES]):
        raise Unusable("its signature is wrong")
    # A copy: the file could change between the check and the moment that its code is run.
    copy = os.memfd_create("vfswasi-module", os.MFD_CLOEXEC) if hasattr(os, "memfd_create") else -1
    link = f"/proc/self/fd/{copy}"
    in_file = copy >= 0 and os.path.exists(link)
    kept = bytearray(0 if in_file else size)

    def part(room: memoryview, at: int) -> memoryview:
        if os.preadv(file, [room], at) != len(room):
            raise Unusable("it is cut off")
        if not in_file:
            kept[at : at + len(room)] = room
        elif os.pwrite(copy, room, at) != len(room):
            raise Unusable("there is no room for a copy")
        return room

    try:
        expected = _signature(key, name, size, _hashes(size, part))
        if not hmac.compare_digest(expected, signatures[_SIGNATURE_BYTES:]):
            raise Unusable("its signature is wrong")
        if not in_file:
            return wasmtime.Module.deserialize(engine, kept)
        return wasmtime.Module.deserialize_file(engine, link)
    finally:
        if copy >= 0:
            os.close(copy)


# Writing.


@contextlib.contextmanager
def _named(place: Path, *parts: Any) -> Iterator[str]:
    """A new file with these contents, whole on disk before it has its name; removed again if it still has this one."""
    import tempfile  # what is found in the cache does not need it

    with tempfile.NamedTemporaryFile(dir=place, prefix=".new-", delete=False) as file:
        try:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            yield file.name
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)


def _write(place: Path, name: str, *parts: Any) -> None:
    with _named(place, *parts) as new:
        os.replace(new, place / name)
