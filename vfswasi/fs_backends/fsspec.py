"""Any fsspec file system as a tree: `FsspecBackend`.

Only the methods that mean exactly one object are used (`info`, `ls`, `cat_file`, `pipe_file`, `put_file`, `cp_file`,
`rm_file`, `mkdir`, `rmdir`): the others expand `*`, `?` and `[`, and a guest chooses the names. What is written is
staged by us and handed over as a whole, since fsspec's own write handles upload half an object when something fails.

Asynchronous file systems run on fsspec's own loop, those that block on threads of ours, and those that are in this
process (memory, local) on the thread that runs the guest. Requests end with the run's deadline or their own timeout.

Symbolic links of `local` and `sftp` are shown as links and walked like all others, one component at a time. Between
that look and the use of a path another process may put a link there: for directories that others write to, mount the
path, not a file system object (see `local.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email.utils
import functools
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from ..errors import Errno, FsError, MountError
from ..printing import redacted
from . import waiting
from .base import FileType, Key
from .remote.asker import asker_of, digest, token_of
from .remote.backend import RemoteBackend
from .remote.client import Body, Client, Data, Guard, Info, Page, fits_a_key
from .remote.reader import ReadOptions
from .remote.translate import translated

# Protocols that answer from this process: no thread, no listing memory, no read-ahead.
IN_PROCESS = frozenset({"memory", "file", "local"})
# Where a directory is nothing but a common beginning of names.
_IMPLIED = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oci", "oss", "cos", "tos", "b2"})
_READ_ONLY = frozenset({"http", "https", "zip", "tar", "libarchive", "reference", "github", "git", "data", "jlab"})
_LINKS = frozenset({"file", "local", "sftp", "ssh", "smb"})
# Protocols whose files are told apart by the options below and the path, and what else the protocol is called.
_NAMED = {name: name for name in ("memory", "ftp", "hdfs", "webhdfs", "oci", "oss", "cos", "tos", "b2")}
_NAMED |= {"gs": "gs", "gcs": "gs", "abfs": "az", "abfss": "az", "az": "az", "sftp": "ssh", "ssh": "ssh", "smb": "smb"}
_WHERE = ("host", "port", "endpoint", "endpoint_url", "account_name", "account_host")
# Those that know nothing but what they are made with.
_BY_OPTIONS = frozenset({"fsspec.implementations.http.HTTPFileSystem"})

THREADS_MAX = 8
_PIPE_MAX_BYTES = 16 << 20  # larger bodies go through a file
_COPY_BYTES = 1 << 20
_VERSION_FIELDS = ("ETag", "etag", "generation", "md5Hash", "content_hash", "sha", "sha256", "Content-MD5", "checksum")
_TIME_FIELDS = (
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "modified",
    "Last-Modified",
    "date_time",
    "created",
)


class FsspecClient(Client):
    """`fs` below the path `root`.

    close_fs: called when the client is closed, for what was opened for it.
    """

    def __init__(
        self, fs: Any, root: str, *, timeout_s: float = 30.0, close_fs: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        if getattr(fs, "asynchronous", False):
            raise MountError(
                f"a file system of fsspec made with asynchronous=True cannot be mounted ({protocol}); make it without"
            )
        self.fs = fs
        self.protocol = protocol
        self.timeout_s = timeout_s
        self._close_fs = close_fs
        self._is_async = bool(getattr(fs, "async_impl", False))
        self._in_process = protocol in IN_PROCESS
        self._threads = None if self._in_process else waiting.Threads(THREADS_MAX, f"vfswasi {protocol}")
        self.root = str(fs._strip_protocol(root)).rstrip("/")
        self._absolute = fs.root_marker == "/" or self.root.startswith("/")
        self.name = _shown_name(fs, protocol, self.root)
        self._is_ours = close_fs is not None
        self.writes = protocol not in _READ_ONLY
        self.lists_first = not self._in_process
        self.remembers = not self._in_process
        self.has_links = protocol in _LINKS
        self.moves_directories = self._in_process
        self.implied = protocol in _IMPLIED

    @functools.cached_property
    def place(self) -> Key:  # type: ignore[override]
        return ("fsspec", _where(self.fs, self.protocol), *(name for name in self.root.split("/") if name))

    @functools.cached_property
    def identity(self) -> object:  # type: ignore[override]
        return (*self.place, self.root)

    @functools.cached_property
    def asker(self) -> str:
        """The very object, where it may sign with what only it knows: keys of the environment, a session."""
        fs = self.fs
        kind = type(fs)
        if self._is_ours and f"{kind.__module__}.{kind.__qualname__}" in _BY_OPTIONS:
            client_options = getattr(fs, "client_kwargs", None) or {}
            if not client_options.get("trust_env"):  # .netrc
                return asker_of(kind.__qualname__, self.root, list(fs.storage_args), dict(fs.storage_options))
        return asker_of(token_of(fs))

    def path(self, key: Key) -> str:
        """The one place where a key becomes a path."""
        if not key:
            return self.root or self.fs.root_marker
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
        raise failed

    # Looking

    def info(self, key: Key) -> Info | None:
        try:
            entry = self.call("info", self.path(key))
        except FsError as error:
            if error.errno in (Errno.NOENT, Errno.NOTDIR):
                return None
            raise
        return self.info_of(entry)

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
        entries: dict[str, Info] = {}
        here = path.rstrip("/")
        for entry in found:
            name = str(entry["name"])
            if name.rstrip("/").lstrip("/") == here.lstrip("/"):
                if entry.get("type") != "directory" and len(found) == 1:
                    raise FsError(Errno.NOTDIR)
                continue
            name = self._name(name, here)
            if fits_a_key(name):
                info = self.info_of(entry)
                if info.filetype is FileType.DIRECTORY or name not in entries:
                    entries[name] = info
        yield entries, True

    def _name(self, full: str, here: str) -> str:
        full = full.rstrip("/") if full.endswith("/") and not full.endswith("//") else full
        prefix = here.lstrip("/") + "/" if here.lstrip("/") else ""
        bare = full.lstrip("/")
        return bare[len(prefix) :] if bare.startswith(prefix) else bare.rpartition("/")[2]

    def info_of(self, entry: dict[str, Any]) -> Info:
        """What an entry of `info` or `ls` says."""
        kind = entry.get("type")
        time_ns = next((ns for name in _TIME_FIELDS if (ns := nanoseconds(entry.get(name))) is not None), None)
        if entry.get("islink") or kind == "link":
            target = entry.get("destination")
            text = os.fsdecode(target) if isinstance(target, str | bytes) else None
            return Info(FileType.SYMBOLIC_LINK, len(os.fsencode(text or "")), time_ns, None, text)
        if kind == "directory":
            return Info(FileType.DIRECTORY, 0, time_ns)
        if kind not in ("file", None):
            return Info(FileType.UNKNOWN, 0, time_ns)
        size = entry.get("size")
        versions = [str(entry[name]) for name in _VERSION_FIELDS if entry.get(name)]
        version = versions[0] if versions else None
        if version is None and self.remembers and time_ns is not None:
            version = f"{time_ns}-{size}"
        return Info(FileType.REGULAR_FILE, int(size) if isinstance(size, int | float) else None, time_ns, version)

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
            if not (self.protocol == "memory" and error.errno is Errno.NOENT):  # implied, and gone with its last file
                raise

    def remove(self, key: Key) -> None:
        self.call("rm_file", self.path(key))

    def copy(self, old: Key, new: Key, info: Info) -> Info:
        self.call("cp_file", self.path(old), self.path(new))
        found = self.info(new)
        if found is None:
            raise FsError(Errno.IO, f"{self.name}: the copy is not there")
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


def _where(fs: Any, protocol: str) -> str:
    """Equal for file systems of one server or account, whoever asks; where that cannot be told, for equal options."""
    if protocol not in _NAMED:
        return digest(getattr(fs, "_fs_token", None) or token_of(fs))
    options = getattr(fs, "storage_options", {})
    named = [(name, str(value)) for name in _WHERE if (value := getattr(fs, name, None) or options.get(name))]
    return f"{_NAMED[protocol]} {digest(named)}"


def nanoseconds(value: object) -> int | None:
    """A time of any of the kinds that file systems give, in nanoseconds since 1970; None for what is no time."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value * 1e9) if math.isfinite(value) else None
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.UTC)
        since = value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
    return None


def http_date(value: object) -> int | None:
    """`Last-Modified` in nanoseconds since 1970, or None."""
    if not isinstance(value, str):
        return None
    try:
        return nanoseconds(email.utils.parsedate_to_datetime(value))
    except (TypeError, ValueError):
        return None


class FsspecBackend(RemoteBackend):
    """A directory of an fsspec file system.

    fs: an `AbstractFileSystem`; it stays the caller's. root: a path or URL of it. The others are those of
    `RemoteBackend`.

    Raises MountError (there is no such directory, it is a file, the store does not answer).
    """

    def __init__(
        self,
        fs: Any,
        root: str = "",
        *,
        options: ReadOptions | None = None,
        listing_seconds: float = 30.0,
        rename_directories: bool = False,
        timeout_s: float = 30.0,
    ) -> None:
        client = client_for(fs, root, timeout_s=timeout_s)
        if options is None and not client.remembers:
            options = ReadOptions(readahead=0)
        super().__init__(client, options, listing_seconds=listing_seconds, rename_directories=rename_directories)


def client_for(fs: Any, root: str, *, timeout_s: float = 30.0, close_fs: Callable[[], None] | None = None) -> Client:
    """The client that knows most about a file system of fsspec. Raises MountError."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if protocol in ("s3", "s3a") and hasattr(fs, "_call_s3"):
        from .s3 import S3Client

        return S3Client(fs, root, timeout_s=timeout_s, close_fs=close_fs)
    if protocol in ("http", "https"):
        from .http import HttpClient

        return HttpClient(fs, root, timeout_s=timeout_s, close_fs=close_fs)
    return FsspecClient(fs, root, timeout_s=timeout_s, close_fs=close_fs)


def check_root(backend: RemoteBackend, writing: bool) -> None:
    """That there is something to mount. Raises MountError."""
    client = backend.client
    try:
        info = client.info(())
    except FsError as error:
        hint = "check the credentials" if error.errno is Errno.ACCES else "check the URL and the connection"
        what = (error.detail or str(error)).removeprefix(f"{client.name}: ")
        raise MountError(f"{client.name}: {what}; {hint}") from error
    if info is None:
        if not (writing and client.implied):
            raise MountError(f"{client.name} does not exist")
    elif info.filetype is FileType.REGULAR_FILE:
        raise MountError(
            f"{client.name} is a file, not a directory; an archive is mounted as zip://*::URL or tar://*::URL"
        )
