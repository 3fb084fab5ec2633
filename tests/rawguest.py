"""A guest that does what the test says: every WASI function can be called through WebAssembly, argument by argument.

The module imports each function of one snapshot and exports a wrapper of the same name, so a call goes the way
of any program's call: from wasm through the raw callback into the kernel and back into linear memory. Tests look
at errnos and at memory before and after.

    guest = RawGuest({"/d": {"f": b"hello"}})
    fd = guest.open("f")                        # raises GuestErrno on failure
    assert guest.read(fd, 5) == b"hello"
    assert guest.call("fd_read", fd, 2**32 - 8, 1, 0) == Errno.FAULT
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import wasmtime

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.abi.layouts import ABIS, Abi
from vfswasi.errors import Errno
from vfswasi.kernel import rights

PAGES = 4
SIZE = PAGES * 65536

# Where the conveniences below put their arguments; tests that place their own use addresses from FREE on.
_PATH, _PATH2, _RESULT, _IOVS, _DATA = 0x1000, 0x2000, 0x3000, 0x3100, 0x10000
FREE = 0x20000

ALL_FILE_RIGHTS = rights.FILE
READ = c.RIGHT_FD_READ | c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL | c.RIGHT_FD_FILESTAT_GET | c.RIGHT_POLL_FD_READWRITE


class GuestErrno(Exception):
    """A convenience call failed; `errno` says how."""

    def __init__(self, name: str, errno: Errno) -> None:
        super().__init__(f"{name}: {errno.name}")
        self.errno = errno


class FdStat(NamedTuple):
    filetype: int
    flags: int
    base: int
    inheriting: int


class FileStat(NamedTuple):
    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int
    mtim: int
    ctim: int


class Dirent(NamedTuple):
    next: int
    ino: int
    filetype: int
    name: bytes


def wat(abi: Abi) -> bytes:
    """The module for one snapshot, in the text format."""
    value = {"i": "i32", "I": "i64"}
    imports, exports = [], []
    for name, types in abi.functions.items():
        params = " ".join(value[letter] for letter in types)
        result = "" if name == "proc_exit" else "(result i32)"
        imports.append(f'(import "{abi.module}" "{name}" (func ${name} (param {params}) {result}))')
        gets = " ".join(f"(local.get {index})" for index in range(len(types)))
        exports.append(f'(func (export "{name}") (param {params}) {result} (call ${name} {gets}))')
    return "\n".join(
        [
            "(module",
            *imports,
            f'(memory (export "memory") {PAGES} {4 * PAGES})',
            *exports,
            '(func (export "grow") (result i32) (memory.grow (i32.const 1)))',
            ")",
        ]
    ).encode()


class RawGuest:
    """An instance of that module under `vfswasi.WASI`. The first preopen is descriptor 3."""

    def __init__(self, preopens: Mapping[str, Any] | None = None, *, version: str = "preview1", **options: Any) -> None:
        options.setdefault("stdin", b"")
        options.setdefault("stdout", vfswasi.PIPE)
        options.setdefault("stderr", vfswasi.PIPE)
        self.abi = ABIS[version]
        options.setdefault("vdso", True)
        self.wasi = vfswasi.WASI(version=version, preopens=preopens, **options)
        engine = _engine()
        if version not in _MODULES:
            _MODULES[version] = wasmtime.Module(engine, wasmtime.wat2wasm(wat(self.abi)))
        self.store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        for module, functions in self.wasi.get_import_object(self.store).items():
            for name, function in functions.items():
                linker.define(self.store, module, name, function)
        self.instance = linker.instantiate(self.store, _MODULES[version])
        self.wasi.finalize_bindings(self.instance)
        self._exports = self.instance.exports(self.store)
        self.memory = self._exports["memory"]

    def close(self) -> None:
        self.wasi.close()
        self.store.close()

    def __enter__(self) -> RawGuest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The boundary: numbers in, errno out.

    def call(self, name: str, *args: int) -> Errno:
        """Call a function with unsigned (or signed) integers; its errno."""
        signed = [
            _signed(value, 64 if letter == "I" else 32)
            for value, letter in zip(args, self.abi.functions[name], strict=True)
        ]
        return Errno(self._exports[name](self.store, *signed))

    def must(self, name: str, *args: int) -> None:
        """`call`, raising GuestErrno unless it succeeds."""
        errno = self.call(name, *args)
        if errno is not Errno.SUCCESS:
            raise GuestErrno(name, errno)

    def peek(self, ptr: int, length: int) -> bytes:
        """Guest memory."""
        return bytes(self.memory.read(self.store, ptr, ptr + length))

    def poke(self, ptr: int, data: bytes) -> None:
        self.memory.write(self.store, data, ptr)

    def u32(self, ptr: int = _RESULT) -> int:
        return int.from_bytes(self.peek(ptr, 4), "little")

    def u64(self, ptr: int = _RESULT) -> int:
        return int.from_bytes(self.peek(ptr, 8), "little")

    def grow(self) -> None:
        """One page (64 KiB) more of linear memory."""
        self._exports["grow"](self.store)

    def text(self, value: str | bytes, ptr: int = _PATH) -> tuple[int, int]:
        """Put a path into memory: (pointer, length)."""
        raw = value.encode() if isinstance(value, str) else value
        self.poke(ptr, raw)
        return ptr, len(raw)

    def iovs(self, *buffers: tuple[int, int]) -> tuple[int, int]:
        """Put an iovec array into memory: (pointer, count)."""
        self.poke(_IOVS, b"".join(struct.pack("<II", ptr, length) for ptr, length in buffers))
        return _IOVS, len(buffers)

    # Conveniences: one call each, raising GuestErrno.

    def try_open(
        self,
        path: str | bytes,
        *,
        fd: int = 3,
        follow: bool = True,
        oflags: int = 0,
        base: int | None = None,
        inheriting: int = 0,
        fdflags: int = 0,
    ) -> tuple[Errno, int]:
        """(errno, descriptor). `base` defaults to the rights to read; pass `WRITE_RIGHTS` or what is needed."""
        ptr, length = self.text(path)
        base = READ if base is None else base
        errno = self.call("path_open", fd, int(follow), ptr, length, oflags, base, inheriting, fdflags, _RESULT)
        return errno, self.u32() if errno is Errno.SUCCESS else -1

    def open(self, path: str | bytes, **options: Any) -> int:
        """Open; the descriptor. Options as in `try_open`."""
        errno, fd = self.try_open(path, **options)
        if errno is not Errno.SUCCESS:
            raise GuestErrno("path_open", errno)
        return fd

    def create(self, path: str | bytes, data: bytes = b"", *, fd: int = 3, fdflags: int = 0) -> int:
        """Create or truncate a file, write `data`, keep it open for reading and writing; the descriptor."""
        opened = self.open(path, fd=fd, oflags=c.OFLAG_CREAT | c.OFLAG_TRUNC, base=ALL_FILE_RIGHTS, fdflags=fdflags)
        if data:
            self.write(opened, data)
        return opened

    def opendir(self, path: str | bytes, *, fd: int = 3) -> int:
        """Open a directory with its parent's rights; the descriptor."""
        return self.open(path, fd=fd, oflags=c.OFLAG_DIRECTORY, base=0, inheriting=0)

    def read(self, fd: int, size: int) -> bytes:
        self.must("fd_read", fd, *self.iovs((_DATA, size)), _RESULT)
        return self.peek(_DATA, self.u32())

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self.must("fd_pread", fd, *self.iovs((_DATA, size)), offset, _RESULT)
        return self.peek(_DATA, self.u32())

    def write(self, fd: int, data: bytes) -> int:
        self.poke(_DATA, data)
        self.must("fd_write", fd, *self.iovs((_DATA, len(data))), _RESULT)
        return self.u32()

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.poke(_DATA, data)
        self.must("fd_pwrite", fd, *self.iovs((_DATA, len(data))), offset, _RESULT)
        return self.u32()

    def seek(self, fd: int, offset: int, whence: int = 0) -> int:
        self.must("fd_seek", fd, offset, whence, _RESULT)
        return self.u64()

    def tell(self, fd: int) -> int:
        self.must("fd_tell", fd, _RESULT)
        return self.u64()

    def close_fd(self, fd: int) -> None:
        self.must("fd_close", fd)

    def contents(self, path: str | bytes, *, fd: int = 3) -> bytes:
        """A whole file, through a descriptor of its own."""
        opened = self.open(path, fd=fd)
        data = bytearray()
        while piece := self.read(opened, 0x8000):
            data += piece
        self.close_fd(opened)
        return bytes(data)

    def fdstat(self, fd: int) -> FdStat:
        self.must("fd_fdstat_get", fd, _RESULT)
        return FdStat(*struct.unpack("<BxH4xQQ", self.peek(_RESULT, 24)))

    def fstat(self, fd: int) -> FileStat:
        self.must("fd_filestat_get", fd, _RESULT)
        return self._filestat()

    def stat(self, path: str | bytes, *, fd: int = 3, follow: bool = True) -> FileStat:
        self.must("path_filestat_get", fd, int(follow), *self.text(path), _RESULT)
        return self._filestat()

    def _filestat(self) -> FileStat:
        layout = "<QQB7xQQQQQ" if self.abi.version == "preview1" else "<QQB3xIQQQQ"
        return FileStat(*struct.unpack(layout, self.peek(_RESULT, struct.calcsize(layout))))

    def path_call(self, name: str, path: str | bytes, *, fd: int = 3) -> Errno:
        """path_create_directory, path_remove_directory, path_unlink_file: the errno."""
        return self.call(name, fd, *self.text(path))

    def mkdir(self, path: str | bytes, *, fd: int = 3) -> Errno:
        return self.path_call("path_create_directory", path, fd=fd)

    def rmdir(self, path: str | bytes, *, fd: int = 3) -> Errno:
        return self.path_call("path_remove_directory", path, fd=fd)

    def unlink(self, path: str | bytes, *, fd: int = 3) -> Errno:
        return self.path_call("path_unlink_file", path, fd=fd)

    def rename(self, old: str | bytes, new: str | bytes, *, fd: int = 3, new_fd: int = 3) -> Errno:
        return self.call("path_rename", fd, *self.text(old), new_fd, *self.text(new, _PATH2))

    def link(self, old: str | bytes, new: str | bytes, *, flags: int = 0, fd: int = 3, new_fd: int = 3) -> Errno:
        return self.call("path_link", fd, flags, *self.text(old), new_fd, *self.text(new, _PATH2))

    def symlink(self, target: str | bytes, path: str | bytes, *, fd: int = 3) -> Errno:
        return self.call("path_symlink", *self.text(target), fd, *self.text(path, _PATH2))

    def readlink(self, path: str | bytes, size: int = 4096, *, fd: int = 3) -> bytes:
        self.must("path_readlink", fd, *self.text(path), _DATA, size, _RESULT)
        return self.peek(_DATA, self.u32())

    def readdir_raw(self, fd: int, size: int, cookie: int = 0) -> bytes:
        """What one call writes."""
        self.must("fd_readdir", fd, _DATA, size, cookie, _RESULT)
        return self.peek(_DATA, self.u32())

    def readdir(self, fd: int, size: int = 4096) -> list[Dirent]:
        """All entries, read through a buffer of `size` bytes as wasi-libc does."""
        entries: list[Dirent] = []
        cookie = 0
        while True:
            raw = self.readdir_raw(fd, size, cookie)
            complete = parse_dirents(raw)
            entries += complete
            if len(raw) < size:
                return entries
            if not complete:
                raise AssertionError(f"a buffer of {size} bytes cannot hold one entry")
            cookie = entries[-1].next

    def names(self, path: str | bytes = ".", *, fd: int = 3) -> list[bytes]:
        """The names in a directory, sorted, without dots."""
        opened = self.opendir(path, fd=fd)
        found = sorted(entry.name for entry in self.readdir(opened) if entry.name not in (b".", b".."))
        self.close_fd(opened)
        return found


def parse_dirents(raw: bytes) -> list[Dirent]:
    """The complete entries in a readdir buffer."""
    entries, at = [], 0
    while at + 24 <= len(raw):
        cookie, ino, namlen, filetype = struct.unpack_from("<QQIB", raw, at)
        if at + 24 + namlen > len(raw):
            break
        entries.append(Dirent(cookie, ino, filetype, raw[at + 24 : at + 24 + namlen]))
        at += 24 + namlen
    return entries


def pack_subscriptions(abi: Abi, subscriptions: Sequence[tuple[Any, ...]]) -> bytes:
    """Subscriptions for poll_oneoff: (userdata, "clock", id, timeout_ns, flags) or (userdata, "read"/"write", fd)."""
    packed = b""
    for userdata, kind, *rest in subscriptions:
        if kind == "clock":
            clock, timeout, flags = rest
            if abi.version == "preview1":
                body = struct.pack("<QB7xI4xQQH6x", userdata, 0, clock, timeout, 0, flags)
            else:
                body = struct.pack("<QB7xQI4xQQH6x", userdata, 0, 0, clock, timeout, 0, flags)
        else:
            tag = {"read": 1, "write": 2}.get(kind, kind)
            body = struct.pack("<QB7xI", userdata, tag, rest[0])
        packed += body.ljust(48 if abi.version == "preview1" else 56, b"\0")
    return packed


class PollEvent(NamedTuple):
    userdata: int
    errno: int
    type: int
    nbytes: int
    flags: int


def unpack_events(raw: bytes) -> list[PollEvent]:
    """What poll_oneoff wrote: 32 bytes an event."""
    return [PollEvent(*fields) for fields in struct.iter_unpack("<QHB5xQH6x", raw)]


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


_MODULES: dict[str, wasmtime.Module] = {}
_ENGINES: list[wasmtime.Engine] = []


def _engine() -> wasmtime.Engine:
    if not _ENGINES:
        _ENGINES.append(wasmtime.Engine())
    return _ENGINES[0]
