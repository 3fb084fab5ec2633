"""One file out of whatever could be mounted, as bytes.

| source                                          | is                                       |
|-------------------------------------------------|------------------------------------------|
| `https://host/prog.wasm?key`, `s3://b/prog.wasm`, a URL of fsspec | the file at that place |
| `zip://bin/prog.wasm::TARGET`, `tar://...`      | a member of the archive TARGET           |
| `pyfs+ftp://host/dir/prog.wasm`                 | a file of PyFilesystem2                  |
| `Mount(SOURCE, root="bin/prog.wasm")`           | the file with that name in the source    |
| a `UPath`                                       | itself                                   |
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from typing import Any

from ...errors import Errno, FsError, MountError, errno_of
from ...fs_backends.base import Backend, Key
from ...fs_backends.layers.checked import checked
from ...fs_backends.remote.translate import scrubbed
from ...fs_backends.waiting import check_time
from ...printing import counted, redacted, shown
from ..options import Mount
from .source_text import local_path, without_caches
from .sources import is_upath, open_mount, source_of_file

_STEP_BYTES = 1 << 20


def local_file(mount: Mount) -> str | None:
    """The path of this machine that the file has; None: it is somewhere else. Raises MountError."""
    source = mount.source
    if mount.root or is_upath(source):
        return None
    if isinstance(source, os.PathLike):
        return os.fsdecode(os.fspath(source))
    if not isinstance(source, str):
        return None
    return local_path(source)


def name_of(mount: Mount) -> str:
    """The last name on the way to the file; "" if there is none."""
    if mount.root:
        return mount.root.rstrip("/").rpartition("/")[2]
    if isinstance(mount.source, str):
        _, mount = without_caches(mount.source, mount)
        first = redacted(str(mount.source)).split("::", 1)[0]
        return first.split("?")[0].split(";")[0].rstrip("/").rpartition("/")[2]
    name = getattr(mount.source, "name", "")
    return name if isinstance(name, str) else ""


def read_file(mount: Mount, most: int) -> bytes:
    """All of the file, of at most so many bytes. Raises FileNotFoundError, MountError (without secrets), FsError
    (CANCELED), TypeError."""
    what = redacted(mount.source) if isinstance(mount.source, str) else shown(mount.source)
    what += f" with root={redacted(mount.root)!r}" if mount.root else ""
    try:
        return _read(mount, most, what)
    except MountError as error:
        scrubbed(error)
        cause = error.__cause__
        if isinstance(cause, FsError) and errno_of(cause) is Errno.NOENT:
            raise FileNotFoundError(errno.ENOENT, "no such file", what) from None
        raise
    except FsError as error:
        scrubbed(error)
        if errno_of(error) is Errno.CANCELED:
            raise
        if errno_of(error) in (Errno.NOENT, Errno.NOTDIR):
            raise FileNotFoundError(errno.ENOENT, "no such file", what) from None
        raise MountError(f"{what}: {error.detail or errno_of(error).name}") from error


def _read(mount: Mount, most: int, what: str) -> bytes:
    source = mount.source
    if isinstance(source, str) and not mount.root and not source.startswith(("zip::", "tar::")):
        source, mount = without_caches(source, mount)
        first, chained, target = source.partition("::")
        archive = re.split("://|$", first)[0] in ("zip", "tar")
        if not archive and not first.startswith("pyfs+"):
            opened = source_of_file(source, mount, "module")
            try:
                return _all_of(opened.read_into, opened.size, most, what)
            finally:
                opened.close()
        parent, _, name = first.rpartition("/")
        scheme_end = first.index("://") + 3 if "://" in first else len(first)
        if not name or name == "*" or len(parent) < scheme_end - 1 or (archive and not chained):
            raise MountError(f"{what} names no file; write the file's name, such as zip://bin/prog.wasm::tools.zip")
        path = local_path(target) if archive else None
        if path is not None and not os.path.lexists(path):
            raise FileNotFoundError(errno.ENOENT, "no such archive", path)
        mount = replace(mount, source=first[: max(scheme_end, len(parent))] + chained + target)
        return _member(open_mount(mount), (name,), most, what, True)
    if is_upath(source) and not mount.root:
        return _member(open_mount(replace(mount, source=source.parent)), (source.name,), most, what, True)
    parent, _, name = mount.root.rstrip("/").rpartition("/")
    if not name and isinstance(source, str):
        raise MountError(f"{what} names no file; write the file's name, such as zip://bin/prog.wasm::tools.zip")
    if not name:
        raise TypeError(f"a file of {type(source).__name__} needs its name: Mount(source, root='bin/prog.wasm')")
    backend = open_mount(replace(mount, root=parent)) if not isinstance(source, Backend) else source
    key = tuple(mount.root.strip("/").split("/")) if backend is source else (name,)
    return _member(backend, key, most, what, backend is not source)


def _member(backend: Backend, key: Key, most: int, what: str, ours: bool) -> bytes:
    """`ours`: it is closed here."""
    try:
        handle = checked(backend).open(key, False)
        try:
            return _all_of(handle.read_into, handle.size(), most, what, short_ok=True)
        finally:
            handle.close()
    finally:
        if ours:
            backend.close()


def _all_of(read_into: Any, size: int, most: int, what: str, short_ok: bool = False) -> bytes:
    if size > most:
        raise MountError(f"{what} has {counted(size, 'byte')}, more than the {most:,} of Limits.module_bytes")
    data = bytearray(size)
    done = 0
    with memoryview(data) as view:
        while done < size:
            check_time(what)
            piece = view[done : done + _STEP_BYTES]
            count = read_into(done, piece)
            if short_ok and not count:
                break
            done += count if short_ok else len(piece)
    return bytes(data[:done])
