"""Damaged archives, mounted and looked at: refused with a MountError or read with an FsError, soon, in little memory.

examine(data)          what is wrong with how an archive is taken; nothing, if all is well
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends.archive.rewriting import ArchiveFile
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.archive.writable import WritableArchive
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, Caps, FileType, Handle, Key, Stat
from vfswasi.mounts.finding.sources import open_source

from . import shapes
from .corpus import corpus, damaged
from .peak import forget_peak, peak_bytes
from .stores import open_host_fds

SECONDS_MAX = 2.0  # of the processor's time
MEMORY_MAX_BYTES = 200 << 20  # more than the largest that a member may make a decoder take
_READ_MAX_BYTES = 1 << 20  # of each file
_READS_MAX_BYTES = 8 << 20  # of an archive
_UNPACKED_MAX_BYTES = 64 << 20
_NODES_MAX = 5000
_FAR = (2**31, 2**32 + 1, 2**62)
_NONE_SUCH = "no such name"
_NEW = "a new file"

Answers = dict[Key, Any]


class Look:
    """One walk over a mounted archive: `answers` is what was seen, `problems` what must not be."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._read_only = Caps.WRITE not in backend.caps
        self.answers: Answers = {}
        self.problems: list[str] = []
        self._left = _READS_MAX_BYTES
        todo: list[Key] = [()]
        while todo and len(self.answers) < _NODES_MAX:
            key = todo.pop()
            todo.extend(self._directory(key))

    def wrong(self, key: Key, text: str) -> None:
        self.problems.append(f"{text}: {key!r:.100}")

    def _directory(self, key: Key) -> list[Key]:
        """Look at what is in a directory; the directories among it."""
        entries = list(self.backend.list(key))
        if len({entry.name for entry in entries}) != len(entries):
            self.wrong(key, "a name is listed twice")
        if tuple(entries) != tuple(self.backend.list(key)):
            self.wrong(key, "listed otherwise the second time")
        found: list[Key] = []
        for entry in entries[:_NODES_MAX]:
            below = (*key, entry.name)
            if not _is_name(entry.name):
                self.wrong(below, "a name that no key can hold")
                continue
            status = self.backend.stat(below)
            if (status.filetype, status.ident) != (entry.filetype, entry.ident):
                self.wrong(below, "the listing and stat differ")
            if self.backend.walk(key, (entry.name, _NONE_SUCH))[0] != 1:
                self.wrong(below, "listed, and not found by walk")
            if status.size < 0 or status.nlink < 1 or status.ident is None or not 0 < status.ident < 2**64:
                self.wrong(below, f"impossible attributes {status}")
            for time_ns in (status.atim_ns, status.mtim_ns, status.ctim_ns):
                if time_ns is not None and not isinstance(time_ns, int):
                    self.wrong(below, f"a time that is {time_ns!r}")
            self.answers[below] = status, self._object(below, status)
            if status.filetype is FileType.DIRECTORY:
                found.append(below)
        return found

    def _object(self, key: Key, status: Stat) -> Any:
        if _errno(self.backend.stat, (*key, _NONE_SUCH)) not in (Errno.NOENT, Errno.NOTDIR):
            self.wrong(key, "something is found below it")
        if self._read_only and _errno(self.backend.open, key, True) in (Errno.SUCCESS, None):
            self.wrong(key, "opened for writing")
        target: Any = None
        try:
            target = self.backend.readlink(key)
            if status.filetype is not FileType.SYMBOLIC_LINK or "\0" in target:
                self.wrong(key, f"is read as a link to {target!r:.60}")
            target.encode()
        except FsError as error:
            target = error.errno
        if status.filetype is FileType.REGULAR_FILE:
            return self._file(key, status)
        if _errno(self.backend.open, key, False) in (Errno.SUCCESS, None):
            self.wrong(key, f"a {status.filetype.name} was opened")
        return target

    def _file(self, key: Key, status: Stat) -> Any:
        try:
            handle = self.backend.open(key, False)
        except FsError as error:
            return error.errno
        try:
            if handle.size() != status.size or handle.stat().size != status.size or handle.ident() != status.ident:
                self.wrong(key, "the handle and stat differ")
            count = min(status.size, _READ_MAX_BYTES, self._left)
            start = self._read(key, handle, 0, count, status.size)
            answers: list[Any] = [zlib.crc32(start) if isinstance(start, bytes) else start]
            size = status.size
            places = {0, 1, size // 3, size // 2, size - 1, size, size + 1, *_FAR, max(size - 4096, 0), 4095, 32_768}
            for offset in sorted(place for place in places if 0 <= place < 2**63):
                piece = self._read(key, handle, offset, 512, size)
                answers.append(piece)
                end = offset + len(piece) if isinstance(piece, bytes) else 0
                if isinstance(start, bytes) and 0 < end <= len(start) and piece != start[offset:end]:
                    self.wrong(key, f"other bytes at {offset} than when it was read from the start")
            return answers
        finally:
            handle.close()

    def _read(self, key: Key, handle: Handle, offset: int, count: int, size: int) -> bytes | Errno:
        buffer = bytearray(b"\xa5" * (count + 16))
        with memoryview(buffer) as view, view[:count] as asked:
            try:
                got = handle.read_into(offset, asked)
            except FsError as error:
                return error.errno
            finally:
                self._left -= count
        if got != max(0, min(count, size - offset)):
            self.wrong(key, f"{got} bytes of {count} at {offset}, size {size}")
        if buffer[count:] != b"\xa5" * 16:
            self.wrong(key, "wrote behind the buffer")
        return bytes(buffer[:got])


def _is_name(name: str) -> bool:
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and len(raw) <= 255


def _errno(call: Any, *args: Any) -> Errno | None:
    """The errno of a call; None if it gave something."""
    try:
        call(*args)
    except FsError as error:
        return error.errno
    return None


# How an archive may come to be mounted.


def _as_zip(data: bytes, _: Path) -> Backend:
    return ZipBackend(io.BytesIO(data))


def _in_pages(data: bytes, _: Path) -> Backend:
    return ZipBackend(io.BytesIO(data), cache_bytes=1 << 18)


def _as_tar(data: bytes, _: Path) -> Backend:
    return TarBackend(io.BytesIO(data), max_unpacked_bytes=_UNPACKED_MAX_BYTES)


def _by_path(data: bytes, place: Path) -> Backend:
    path = place / "archive"
    path.write_bytes(data)
    return open_source(str(path))


def _by_url(data: bytes, place: Path) -> Backend:
    path = place / "archive"
    path.write_bytes(data)
    kind = "zip" if b"PK\1\2" in data else "tar"
    return open_source(f"{kind}://{path}")


def examine(data: bytes, place: Path | None = None, seen: Counter[str] | None = None) -> list[str]:
    """Mount an archive in every way, each twice, and walk over it; what must not have happened."""
    if place is None:
        with tempfile.TemporaryDirectory(prefix="vfswasi-fuzz-") as made:
            return examine(data, Path(made), seen)
    host_fds = open_host_fds()
    for mount in (_as_zip, _in_pages, _as_tar, _by_path, _by_url):
        problems: list[str] = []
        views: list[Answers | str] = []
        for _ in range(2):
            forget_peak()
            before, started = peak_bytes(), time.process_time()
            views.append(_view(mount, data, place, problems))
            taken, grown = time.process_time() - started, peak_bytes() - before
            if taken > SECONDS_MAX:
                problems.append(f"took {taken:.1f} s")
            if grown > MEMORY_MAX_BYTES:
                problems.append(f"took {grown >> 20} MiB")
        if seen is not None:
            _count(views[0], seen)
        if views[0] != views[1]:
            problems.append("answered otherwise the second time")
        if open_host_fds() > host_fds:
            problems.append("host descriptors stay open")
        if problems:
            return [f"{mount.__name__}: {text}" for text in problems]
    try:
        return [f"rewritten: {text}" for text in _rewrite(data, place, seen)]
    except Exception as error:
        return [f"rewritten: {type(error).__name__}: {error}"]


def _view(mount: Any, data: bytes, place: Path, problems: list[str]) -> Answers | str:
    backend: Backend | None = None
    try:
        backend = mount(data, place)
        look = Look(backend)
        problems += look.problems
        return look.answers
    except MountError as error:
        if backend is not None:
            problems.append(f"MountError after the mount: {error}")
        return f"MountError {error}"
    except Exception as error:
        problems.append(f"{type(error).__name__} {'while mounting' if backend is None else 'later'}: {error}")
        return repr(error)
    finally:
        if backend is not None:
            backend.close()


def _rewrite(data: bytes, place: Path, seen: Counter[str] | None) -> list[str]:
    """Add a file to the archive: what was there must be there afterwards, or if that fails, nothing has changed."""
    path = place / "rewritten"
    path.write_bytes(data)
    try:
        backend = WritableArchive(path)
    except MountError:
        return []
    problems: list[str] = []
    try:
        before = Look(backend)
        problems += before.problems
        try:
            handle = backend.create((_NEW,))
            handle.write_from(0, b"new")
            handle.close()
            backend.commit()
        except FsError as error:
            if seen is not None:
                seen[f"not rewritten: {error.errno.name}"] += 1
            if path.read_bytes() != data:
                problems.append(f"failed with {error.errno.name} and changed the archive")
            return problems
    finally:
        backend.close()
        if sorted(place.iterdir()) != sorted({path, place / "archive"}):
            problems.append(f"left {[found.name for found in place.iterdir()]}")
    if seen is not None:
        seen["rewritten"] += 1
    with ArchiveFile(path) as written:
        after = Look(written.backend)
    new = after.answers.pop((_NEW,))
    if new[0].size != 3 or after.answers.keys() != before.answers.keys():
        problems.append(f"other names: {sorted(after.answers.keys() ^ before.answers.keys())[:3]!r}")
    for key, (status, answer) in before.answers.items():
        known = not isinstance(answer, Errno) and not (isinstance(answer, list) and _errors(answer))
        then, found = after.answers.get(key, (status, answer))
        if then.filetype != status.filetype or (known and (then.size, found) != (status.size, answer)):
            problems.append(f"{key!r:.100} became {then!r:.200} {found!r:.60} from {status!r:.200} {answer!r:.60}")
    return problems + after.problems


def _errors(answers: list[Any]) -> bool:
    return any(isinstance(part, Errno) for part in answers)


def _count(view: Answers | str, seen: Counter[str]) -> None:
    if isinstance(view, str):
        seen["refused"] += 1
        return
    seen["mounted"] += 1
    for status, answer in view.values():
        kind = status.filetype.name.lower()
        if isinstance(answer, list):
            seen[f"{kind} {'not all read' if _errors(answer) else 'read'}"] += 1
        else:
            seen[f"{kind} {answer.name}" if isinstance(answer, Errno) else kind] += 1


def minimised(name: str, seed: int, place: Path, wanted: str) -> bytes:
    """The archive with as little damage as still shows the same problem."""
    data, times = damaged(name, seed)
    kept = set(range(times))
    for number in range(times):
        tried, _ = damaged(name, seed, kept - {number})
        found = examine(tried, place)
        if found and _kind_of(found[0]) == _kind_of(wanted):
            kept.discard(number)
            data = tried
    return data


def _kind_of(problem: str) -> str:
    return "".join(letter for letter in problem if not letter.isdigit())[:60]


def as_literal(data: bytes) -> str:
    """Python that shows the failure again."""
    packed = base64.b85encode(zlib.compress(data, 9)).decode()
    return f"data = zlib.decompress(base64.b85decode({packed!r}))\nassert not examine(data)"


@dataclass
class Figures:
    """What a campaign did."""

    archives: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def text(self) -> str:
        made = ", ".join(f"{name}: {count}" for name, count in sorted(self.archives.items()))
        seen = ", ".join(f"{what}: {count}" for what, count in self.seen.most_common())
        lines = [f"{sum(self.archives.values())} archives, each mounted ten times ({made})", f"  {seen}"]
        made = ", ".join(f"{name}: {count}" for name, count in sorted(self.shapes.items()))
        lines.append(f"  {sum(self.shapes.values())} made to cost much ({made})")
        lines.append(f"  slowest: {self.slowest[0]:.2f} s for all ten, {self.slowest[1]}")
        return "\n".join([*lines, f"{len(self.failures)} failures"])


def campaign(first_seed: int, until: float, most: int | None = None, names: Sequence[str] = ()) -> Figures:
    """Archives with the damage of the seeds from `first_seed` on, to the monotonic time `until`."""
    figures = Figures()
    place = Path(tempfile.mkdtemp(prefix="vfswasi-fuzz-"))
    kinds: Counter[str] = Counter()
    started = told = time.monotonic()
    seed = first_seed
    try:
        while time.monotonic() < until and (most is None or seed < first_seed + most):
            for name in names or corpus():
                data, _ = damaged(name, seed)
                before = time.process_time()
                problems = examine(data, place, figures.seen)
                figures.archives[name] += 1
                figures.slowest = max(figures.slowest, (time.process_time() - before, f"seed {seed} {name}"))
                if problems:
                    kinds[_kind_of(problems[0])] += 1
                    if kinds[_kind_of(problems[0])] <= 2 and len(figures.failures) < 20:
                        small = minimised(name, seed, place, problems[0])
                        figures.failures.append(f"seed {seed}, {name}: {problems[0]}\n{as_literal(small)}")
                        print(f"FAILURE {figures.failures[-1]}\n", flush=True)
            name, data = shapes.shape(seed)
            figures.shapes[name] += 1
            for problem in shapes.examine(data):
                kinds[_kind_of(problem)] += 1
                figures.failures.append(f"shape of seed {seed}, {name}: {problem}")
                print(f"FAILURE {figures.failures[-1]}\n", flush=True)
            seed += 1
            if time.monotonic() > told + 30:
                told = time.monotonic()
                rate = sum(figures.archives.values()) / (told - started)
                print(f"seed {seed}: {rate:.0f} archives/s, {dict(kinds)}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if kinds:
        print(f"all problems: {dict(kinds)}", flush=True)
    return figures
