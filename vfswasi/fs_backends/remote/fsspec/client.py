"""What is asked of an fsspec file system, and how.

Only the methods that mean exactly one object are used (`info`, `ls`, `cat_file`, `pipe_file`, `put_file`, `cp_file`,
`rm_file`, `mkdir`, `rmdir`): the others expand `*`, `?` and `[`, and a guest chooses the names. What is written is
staged by us and handed over as a whole, since fsspec's own write handles upload half an object when something fails.

Asynchronous file systems run on fsspec's own loop, those that block on threads of ours, and those that are in this
process (memory, local) on the thread that runs the guest. Requests end with the run's deadline or their own timeout.

Which file systems may be mounted: see `trust/fsspec.py`. Where links may be, each name is looked up in the listing
of its directory, which shows a link as one, before anything below is asked for. Between that look and the use of a path
somebody else may put a link there, and the server would follow it: such a store is mounted as a whole or on trust.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from ....errors import Errno, FsError
from ....printing import redacted
from ... import waiting
from ...base import FileType, Key
from ...trust import CONTENTS, MEMORY, UNKNOWN, Nature, is_one_of
from ...trust.fsspec import nature_of
from ..asker import asker_of, place_of, token_of
from ..client import Body, Client, Data, Guard, Info, Page, fits_a_key
from ..entries import http_date as http_date
from ..entries import info_of
from ..entries import nanoseconds as nanoseconds
from ..translate import translated

# Whose `mv` of a file is one command to the server, and with which that replaces what is there. Those of object stores
# copy, and leave half of it behind when something fails.
_REPLACES = ("fsspec.implementations.ftp.FTPFileSystem", "fsspec.implementations.sftp.SFTPFileSystem")
_MOVES = (*_REPLACES, "fsspec.implementations.smb.SMBFileSystem")
_ONE_CALL = ("fsspec.implementations.ftp.FTPFileSystem",)  # at a time: there is one connection for all
# Those that know nothing but what they are made with.
_BY_OPTIONS = ("fsspec.implementations.http.HTTPFileSystem",)

THREADS_MAX = 8
_PIPE_MAX_BYTES = 16 << 20  # larger bodies go through a file
_COPY_BYTES = 1 << 20


class FsspecClient(Client):
    """`fs` below the path `root`.

    close_fs: called when the client is closed, for what was opened for it. nature: what kind of store it is; by default
    that of its class.
    """

    def __init__(
        self,
        fs: Any,
        root: str,
        *,
        timeout_s: float = 30.0,
        close_fs: Callable[[], None] | None = None,
        nature: Nature | None = None,
        anywhere: bool = False,
    ) -> None:
        super().__init__()
        nature = nature or nature_of(fs) or UNKNOWN
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        self.fs = fs
        self.nature = nature
        self.timeout_s = timeout_s
        self._close_fs = close_fs
        self._is_async = bool(getattr(fs, "async_impl", False))
        threads = 1 if is_one_of(fs, _ONE_CALL) else THREADS_MAX
        self._threads = None if nature.in_process else waiting.Threads(threads, f"vfswasi {protocol}")
        path = str(fs._strip_protocol(root))
        self.protocol = protocol
        self.root = path.rstrip("/")
        self._absolute = fs.root_marker == "/" or path.startswith("/")
        self.name = _shown_name(fs, protocol, self.root)
        self._is_ours = close_fs is not None
        self._anywhere = anywhere
        self.writes = nature.writes
        self.lists_first = not nature.in_process
        self.remembers = not nature.in_process
        self.has_links = nature.walked
        self.moves_directories = nature.in_process
        self.implied = nature.implied

    @functools.cached_property
    def place(self) -> Key:  # type: ignore[override]
        if self._anywhere:  # as if it showed all of this machine
            return ("local",)
        # Each object of fsspec's memory shows the one store of the process.
        store = "memory" if self.nature is MEMORY else place_of(self.fs, self.protocol)
        return ("fsspec", store, *(name for name in self.root.split("/") if name))

    @functools.cached_property
    def identity(self) -> object:  # type: ignore[override]
        return (*self.place, self.root)

    @functools.cached_property
    def asker(self) -> str:
        """The very object, where it may sign with what only it knows: keys of the environment, a session."""
        fs = self.fs
        kind = type(fs)
        if self._is_ours and is_one_of(fs, _BY_OPTIONS):
            client_options = getattr(fs, "client_kwargs", None) or {}
            if not client_options.get("trust_env"):  # .netrc
                return asker_of(kind.__qualname__, self.root, list(fs.storage_args), dict(fs.storage_options))
        return asker_of(token_of(fs))

    def path(self, key: Key) -> str:
        """The one place where a key becomes a path."""
        if not key:
            return self.root or ("/" if self._absolute else self.fs.root_marker)
        below = "/".join(key)
        return f"{self.root}/{below}" if self.root or self._absolute else below

    # Calls

    def _start(self, method: str, *args: Any, **options: Any) -> Future[Any]:
        """Begin a call of the file system. Raises DQUOT."""
        waiting.spend(requests=1)
        self.counter.count(requests=1)
        own = getattr(self.fs, f"_{method}", None) if self._is_async else None
        if own is not None:
            return asyncio.run_coroutine_threadsafe(own(*args, **options), self.fs.loop)
        call = getattr(self.fs, method)
        if self._threads is not None:
            return self._threads.submit(lambda: call(*args, **options))
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Make a call. Raises FsError."""
        what = f"{self.name}: {method}"
        future = self._start(method, *args, **options)
        try:
            return waiting.result(future, self.timeout_s, what)
        except FsError:
            raise
        except Exception as error:
            failed = translated(error, what)
        except BaseException as error:
            if future.cancelled() or not future.done() or future.exception() is not error:
                raise  # of this thread's own, such as Ctrl-C
            failed = translated(error, what)
        raise failed

    # Looking

    def info(self, key: Key) -> Info | None:
        if self.has_links and key:
            return self._listed(key)
        with contextlib.suppress(Exception):
            self.fs.invalidate_cache(self.fs._parent(self.path(key)))
        try:
            entry = self.call("info", self.path(key))
        except FsError as error:
            if error.errno in (Errno.NOENT, Errno.NOTDIR):
                return None
            raise
        return self.info_of(entry)

    def _listed(self, key: Key) -> Info | None:
        """As its directory's listing shows it: asked for by itself, a link may be shown as what it leads to."""
        try:
            for entries, _ in self.pages(key[:-1]):
                return entries.get(key[-1])
        except FsError as error:
            if error.errno is not Errno.NOTDIR:
                raise
        return None

    def pages(self, key: Key) -> Iterator[Page]:
        path = self.path(key)
        with contextlib.suppress(Exception):
            self.fs.invalidate_cache(path)
        try:
            found = self.call("ls", path, detail=True)
        except FsError as error:
            if error.errno is Errno.NOENT:
                return
            raise
        if not isinstance(found, list | tuple):
            raise FsError(Errno.IO, f"{self.name}: a directory with {type(found).__name__}")
        entries: dict[str, Info] = {}
        here = path.rstrip("/")
        for entry in found:
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                continue
            if name.rstrip("/").lstrip("/") == here.lstrip("/"):
                if entry.get("type") != "directory" and len(found) == 1:
                    raise FsError(Errno.NOTDIR)
                continue
            name = self._name(name, here)
            if fits_a_key(name):
                try:
                    info = self.info_of(entry)
                except FsError:  # nothing that a store can mean
                    continue
                if info.filetype is FileType.DIRECTORY or name not in entries:
                    entries[name] = info
        yield entries, True

    def _name(self, full: str, here: str) -> str:
        full = full.rstrip("/") if full.endswith("/") and not full.endswith("//") else full
        prefix = here.lstrip("/") + "/" if here.lstrip("/") else ""
        bare = full.lstrip("/")
        return bare[len(prefix) :] if bare.startswith(prefix) else bare.rpartition("/")[2]

    def info_of(self, entry: Any) -> Info:
        """What an entry of `info` or `ls` says. Raises IO: nothing that a store can mean."""
        return info_of(entry, self.name, self.remembers, self.nature is CONTENTS)

    # Reading

    def fetch(self, key: Key, info: Info, start: int, end: int) -> Future[Data]:
        path = self.path(key)
        inner = self._start("cat_file", path) if end < 0 else self._start("cat_file", path, start=start, end=end)
        return self._received(inner, info, start, end)

    def _received(self, inner: Future[Data], info: Info, start: int, end: int) -> Future[Data]:
        """The range out of what came: a server may send the whole file for it."""
        outer: Future[Data] = Future()

        def arrived(done: Future[Data]) -> None:
            if not outer.set_running_or_notify_cancel():
                return
            try:
                data = done.result()
            except BaseException as error:
                outer.set_exception(translated(error, f"{self.name}: read"))
                return
            if isinstance(data, memoryview):
                data = bytes(data)
            if not isinstance(data, bytes | bytearray):
                outer.set_exception(FsError(Errno.IO, f"{self.name}: read: {type(data).__name__} came, no bytes"))
                return
            self.counter.count(received=len(data))
            if end >= 0 and len(data) != end - start and len(data) == info.size:
                data = data[start:end]
            outer.set_result(data)

        outer.add_done_callback(lambda done: done.cancelled() and inner.cancel())
        inner.add_done_callback(arrived)
        return outer

    # Writing

    def put(self, key: Key, body: Body, guard: Guard, version: str | None) -> Info:
        """fsspec has no conditions: the guard is looked at just before, so two writers at once may both succeed."""
        if guard is not Guard.ANY:
            there = self.info(key)
            if guard is Guard.NEW and there is not None:
                raise FsError(Errno.EXIST)
            if guard is Guard.SAME and (there is None or there.version != version):
                raise FsError(Errno.STALE, f"{self.name}: the file was changed by somebody else")
        path = self.path(key)
        waiting.spend(count=body.size)
        if body.size <= _PIPE_MAX_BYTES:
            self.call("pipe_file", path, body.read(0, body.size))
        else:
            try:
                with tempfile.NamedTemporaryFile() as file:
                    for offset in range(0, body.size, _COPY_BYTES):
                        file.write(body.read(offset, _COPY_BYTES))
                    file.flush()
                    self.call("put_file", file.name, path)
            except OSError as error:
                raise FsError(Errno.NOSPC, "no room for a copy to upload") from error
        self.counter.count(sent=body.size)
        stored = self.info(key)
        if stored is None or (stored.size is not None and stored.size != body.size):
            raise FsError(Errno.IO, f"{self.name}: the file is not there after it was written")
        return stored

    def make_directory(self, key: Key) -> None:
        self.call("mkdir", self.path(key), create_parents=False)

    def remove_directory(self, key: Key) -> None:
        try:
            self.call("rmdir", self.path(key))
        except FsError as error:
            if not (self.nature is MEMORY and error.errno is Errno.NOENT):  # implied, and gone with its last file
                raise

    def remove(self, key: Key) -> None:
        self.call("rm_file", self.path(key))

    def copy(self, old: Key, new: Key, info: Info) -> Info:
        self.call("cp_file", self.path(old), self.path(new))
        found = self.info(new)
        if found is None:
            raise FsError(Errno.IO, f"{self.name}: the copy is not there")
        return found

    def move(self, old: Key, new: Key, info: Info, replaces: bool) -> Info | None:
        if info.filetype is not FileType.REGULAR_FILE or not is_one_of(self.fs, _REPLACES if replaces else _MOVES):
            return None
        self.call("mv", self.path(old), self.path(new))
        found = self.info(new)
        if found is None or found.size != info.size or self.info(old) is not None:
            raise FsError(Errno.IO, f"{self.name}: the file is not where it was moved to")
        return found

    def close(self) -> None:
        if self._threads is not None:
            self._threads.close()
        if self._close_fs is not None:
            self._close_fs()


def _shown_name(fs: Any, protocol: str, root: str) -> str:
    """What messages call it."""
    if "://" in root:
        return redacted(root if root.startswith(f"{protocol}://") else f"{protocol}::{root}")
    host = getattr(fs, "host", None)
    return redacted(f"{protocol}://{host if isinstance(host, str) and root[:1] in ('', '/') else ''}{root or '/'}")
