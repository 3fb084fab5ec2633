"""Web servers that lie, redirect and flood, mounted and read: an error or the right bytes come out.

examine(seed)          what is wrong with how the answers of one server are taken; nothing, if all is well
"""

from __future__ import annotations

import gzip
import io
import random
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.storage.raw_server import Asked, RawServer, answer, file_answer, page_answer
from vfswasi.errors import FsError, MountError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.fs_backends.remote.cache import ReadCache
from vfswasi.fs_backends.remote.http import answers as http_answers
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.options import Mount

from .peak import forget_peak, peak_bytes

SECONDS_MAX = 15.0  # of the clock, for all that is asked of one server
MEMORY_MAX_BYTES = 150 << 20
TIMEOUT_S = 1.0
_PATIENCE_S = 0.02  # of a server that is slow
_WHOLE_MAX_BYTES = 8 << 20  # instead of gibibytes, so that floods end soon
_FLOOD_BYTES = 24 << 20
_NAMES = ("a.txt", "b c.bin", "R&D.txt", "dir/inner.txt", "archive.zip", "unlisted")
_SECRET = "hunter2"


def _archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr(zipfile.ZipInfo("member"), b"member of the archive" * 100)
    return made.getvalue()


def contents_of(name: str) -> bytes:
    """What is right."""
    if name == "archive.zip":
        return _archive()
    size = {"a.txt": 10, "b c.bin": 150_000, "unlisted": 40_000}.get(name, 3000)
    return random.Random(name).randbytes(size)


FILES = {name: contents_of(name) for name in _NAMES}
_LINKS = {"": ["a.txt", "b%20c.bin", "R&amp;D.txt", "dir/", "archive.zip"], "dir/": ["inner.txt"]}

Bad = Callable[[random.Random, Asked, bytes, "Server"], Iterable[bytes]]


def _flood(first: bytes) -> Iterator[bytes]:
    yield first
    piece = bytes(64 << 10)
    for _ in range(_FLOOD_BYTES // len(piece)):
        yield piece


def _redirects(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    theirs, ours = server.other.port, server.raw.port
    target = draw.choice(
        [
            f"http://127.0.0.1:{theirs}{asked.path}",
            f"//127.0.0.1:{theirs}/x",
            f"http://127.0.0.1:{ours}@127.0.0.1:{theirs}/x",
            f"http://localhost:{ours}{asked.path}",
            f"https://127.0.0.1:{theirs}/x",
            "/outside",
            "/pub/../outside",
            "/pub/%2e%2e/outside",
            "/publication/x",
            "file:///etc/passwd",
            "/pub/",
            asked.path + "/",
            asked.path,
            "/pub/a.txt" if asked.path == "/pub/unlisted" else asked.path + "/",
            "",
            "\\\\127.0.0.1\\x",
            "http://[",
            "?x",
            "#",
            "x" * 7000,
        ]
    )
    yield answer(draw.choice((301, 302, 303, 307, 308)), b"moved", {"Location": target})


def _status(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    status = draw.choice(
        (100, 199, 201, 204, 206, 300, 304, 400, 401, 403, 404, 405, 410, 412, 416, 429, 500, 501, 503)
    )
    yield answer(status, b"" if status in (100, 199, 204, 304) else good.partition(b"\r\n\r\n")[2])


def _cut(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    yield good[: draw.randrange(len(good))]


def _mutated(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    """The head alone: whoever changes contents under the same version cannot be found out."""
    head, _, body = good.partition(b"\r\n\r\n")
    changed = bytearray(head)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(changed))
        how = draw.randrange(4)
        if how == 0:
            changed[at] = draw.randrange(256)
        elif how == 1:
            del changed[at : at + draw.randrange(1, 9)]
        elif how == 2:
            changed[at:at] = draw.choice((b"\r\n", b"0", b"-", b"\0", b"9" * 30, b" ", b":", b"chunked"))
        else:
            changed[at:at] = changed[max(at - 20, 0) : at]
    yield bytes(changed) + b"\r\n\r\n" + body


def _flooding(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    head, _, body = good.partition(b"\r\n\r\n")
    how = draw.randrange(4)
    if how == 0:  # no length
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        return _flood(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    if how == 1:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        return _flood(b"\r\n".join([*lines, b"Content-Length: %d" % (1 << 40)]) + b"\r\n\r\n" + body)
    if how == 2:
        return _flood(head.partition(b"\r\n")[0] + b"\r\nX: ")
    return _flood(good)


def _bomb(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    lines, _, body = good.partition(b"\r\n\r\n")
    name = draw.choice(("gzip", "deflate", "br", "identity", "gzip, gzip", "zstd", "x"))
    packed = draw.choice((gzip.compress(bytes(32 << 20), 1), zlib.compress(body), gzip.compress(body), body))
    kept = [line for line in lines.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    packed = body if name == "identity" else packed
    more = [b"Content-Encoding: " + name.encode(), b"Content-Length: %d" % len(packed)]
    yield b"\r\n".join([*kept, *more]) + b"\r\n\r\n" + packed


def _shifted(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    """Another range than was asked for, and says so, or not all of what it says."""
    data = server.data_of(asked) or b"x" * 100
    start = draw.randrange(len(data))
    end = draw.randrange(start, len(data)) + 1
    wanted = asked.range()
    if wanted is not None and wanted[1] <= len(data) and draw.random() < 0.5:
        count = wanted[1] - wanted[0]
        start = draw.randrange(len(data) - count + 1)
        end = start + count
    total = draw.choice((len(data), len(data) + 1, "*", -1, "x", 1 << 70))
    headers = {"ETag": '"v1"', "Content-Range": f"bytes {start}-{end - 1}/{total}"}
    body = data[start:end]
    if wanted is not None and draw.random() < 0.3:
        body = body[: draw.randrange(len(body) + 1)]
        if (start, end) == wanted:
            body = b""
    yield answer(206, body, headers, length=draw.random() < 0.5)


def _chunked(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    head, _, body = good.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    yield b"\r\n".join([*kept, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n"
    size = draw.choice((1 + len(body) // 3, 7 + len(body) // 50))
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        # One byte more or less is contents of its own for a parser that is not strict.
        said = len(piece) + ((1 << 40) if draw.random() < 0.02 else 0)
        yield b"%x\r\n%b\r\n" % (said, piece)
    if draw.random() < 0.8:
        yield b"0\r\n\r\n"


def _slow(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    for at in range(0, len(good), 1 + len(good) // 10):
        time.sleep(_PATIENCE_S)
        yield good[at : at + 1 + len(good) // 10]


def _silent(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    yield good[: draw.randrange(30)]
    server.wait()


def _page(draw: random.Random, asked: Asked, good: bytes, server: Server) -> Iterable[bytes]:
    """Markup made of pieces that parsers dislike, where markup is expected: other contents are no lie."""
    if server.data_of(asked) is not None:
        yield good
        return
    pieces = (
        b"<a ",
        b"<a href=",
        b"href='",
        b'"',
        b"'",
        b">",
        b"<!--",
        b"-->",
        b"<script>",
        b"</script>",
        b"&amp;",
        b"&#",
    )
    words = (
        b"a.txt",
        b"../",
        b"%2e%2e/",
        b"//127.0.0.1/",
        b"\xff",
        b"\0",
        b" " * 1000,
        b"<" * 500,
        b"%",
        b"?",
        b"x" * 300,
    )
    names = (b"<base href=http://other/>", b"<a href=dir/>", b"<A HREF=./a.txt>", b"<a href='R&amp;D.txt'>")
    made = b"".join(draw.choice(draw.choice((pieces, words, names))) for _ in range(draw.choice((10, 200, 5000))))
    yield page_answer(made, draw.choice(({}, {"Content-Type": "text/html; charset=latin1"}, {"Content-Type": "x"})))


BAD: dict[str, Bad] = {
    "redirects": _redirects,
    "status": _status,
    "cut": _cut,
    "mutated": _mutated,
    "flood": _flooding,
    "bomb": _bomb,
    "shifted": _shifted,
    "chunked": _chunked,
    "slow": _slow,
    "silent": _silent,
    "page": _page,
}


class Server:
    """Good answers, and now and then a bad one, as the seed says. Somebody else's server is `other`."""

    def __init__(self, seed: int, badness: float | None = None, kinds: Sequence[str] = ()) -> None:
        self.draw = random.Random(seed)
        self.seed = seed
        self.badness = self.draw.choice((0.1, 0.3, 0.8)) if badness is None else badness
        self.kinds = list(kinds) or self.draw.sample(sorted(BAD), self.draw.randrange(1, 4))
        self.bad: Counter[str] = Counter()
        self.over = False
        self.ranges = self.draw.random() < 0.8
        self.lengths = self.draw.random() < 0.8
        self.other = RawServer(lambda asked: [file_answer(asked, b"theirs" * 1000)])
        self.raw = RawServer(self._answers)
        self.raw.heads_have_bodies = self.draw.random() < 0.1

    def wait(self) -> None:
        until = time.monotonic() + 3 * TIMEOUT_S
        while not self.over and time.monotonic() < until:
            time.sleep(_PATIENCE_S)

    def data_of(self, asked: Asked) -> bytes | None:
        for name, data in FILES.items():
            if asked.path == "/pub/" + name.replace(" ", "%20").replace("&", "%26"):
                return data
        return None

    def _good(self, asked: Asked) -> bytes:
        data = self.data_of(asked)
        if data is not None:
            if self.ranges:
                return file_answer(asked, data)
            if asked.method == "HEAD" and self.lengths:
                return file_answer(asked, data)
            return answer(200, data, {"ETag": '"v1"'}, length=self.lengths)
        links = _LINKS.get(asked.path.removeprefix("/pub/")) if asked.path.startswith("/pub/") else None
        if links is not None:
            return page_answer("".join(f'<li><a href="{link}">x</a></li>' for link in links))
        if asked.path == "/pub/dir":
            return answer(301, b"", {"Location": "/pub/dir/"})
        return answer(404, b"nothing here")

    def _answers(self, asked: Asked) -> Iterable[bytes]:
        good = self._good(asked)
        draw = random.Random(f"{self.seed} {len(self.raw.asked)}")
        if draw.random() >= self.badness:
            return [good]
        kind = draw.choice(self.kinds)
        self.bad[kind] += 1
        return BAD[kind](draw, asked, good, self)

    def close(self) -> None:
        self.over = True
        for server in (self.raw, self.other):
            server.__exit__(None, None, None)


class _Look:
    """Everything that can be asked of a mount, each twice."""

    def __init__(self, backend: Backend, problems: list[str], seen: Counter[str]) -> None:
        self.backend, self.problems, self.seen = backend, problems, seen
        for _ in range(2):
            for key in ((), ("dir",), ("a.txt",), ("nothing",)):
                self._list(key)
            for name in (*_NAMES, "nothing", "dir", "a.txt/below"):
                self._file(tuple(name.split("/")))

    def _try(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            found = call()
        except FsError as error:
            self.seen[f"{what} {error.errno.name}"] += 1
            return None
        except Exception as error:
            self.problems.append(f"{what}: {type(error).__name__}: {error}")
            return None
        self.seen[what] += 1
        return found

    def _list(self, key: tuple[str, ...]) -> None:
        for entry in self._try("list", lambda: list(self.backend.list(key))) or ():
            if not entry.name or entry.name in (".", "..") or "/" in entry.name or "\0" in entry.name:
                self.problems.append(f"a name that no key can hold: {entry.name!r}")

    def _file(self, key: tuple[str, ...]) -> None:
        stat = self._try("stat", lambda: self.backend.stat(key))
        if stat is not None and not 0 <= stat.size < 1 << 63:
            self.problems.append(f"impossible size {stat.size}")
        if stat is None or stat.filetype is not FileType.REGULAR_FILE:
            return
        handle = self._try("open", lambda: self.backend.open(key, False))
        if handle is None:
            return
        right = FILES.get("/".join(key))
        for offset, count in ((0, 1000), (30_000, 5000), (5, 20), (149_000, 5000), (1 << 62, 10)):
            buffer = bytearray(count)
            got = self._try("read", lambda offset=offset, buffer=buffer: handle.read_into(offset, buffer))
            # A server that always says that a file is longer has a longer file.
            known = b"" if right is None or not got else right[offset : offset + got]
            if buffer[: len(known)] != known:
                self.problems.append(f"wrong bytes of {key!r} at {offset}: {bytes(buffer[:20])!r}")
        self._try("close", handle.close)


def examine(
    seed: int, seen: Counter[str] | None = None, badness: float | None = None, kinds: Sequence[str] = ()
) -> list[str]:
    """Mount one server as a directory and as an archive, and look at all of it; what must not have happened. badness
    and kinds: of its answers, instead of what the seed says."""
    seen = Counter() if seen is None else seen
    server = Server(seed, badness, kinds)
    problems: list[str] = []
    forget_peak()
    started, before = time.monotonic(), peak_bytes()
    usual, http_answers.WHOLE_MAX_BYTES = http_answers.WHOLE_MAX_BYTES, _WHOLE_MAX_BYTES
    allowance = waiting.Allowance(2000, 256 << 20, 10_000)
    used = allowance.buffers.within.used if allowance.buffers.within else 0
    try:
        with waiting.bounded_by(None, allowance):
            for source in (f"{server.raw.url}/pub", f"zip://*::{server.raw.url}/pub/archive.zip"):
                _mounted(source, server.draw.choice((0.0, 30.0)), problems, seen)
    finally:
        http_answers.WHOLE_MAX_BYTES = usual
        server.close()
    seen.update({f"bad {kind}": count for kind, count in server.bad.items()})
    problems += _requests(server)
    if allowance.buffers.used or (allowance.buffers.within and allowance.buffers.within.used > used):
        problems.append(f"{allowance.buffers.used} bytes of buffers were not given back")
    taken, grown = time.monotonic() - started, peak_bytes() - before
    if taken > SECONDS_MAX + len(server.raw.asked) * TIMEOUT_S:
        problems.append(f"took {taken:.1f} s")
    if grown > MEMORY_MAX_BYTES:
        problems.append(f"took {grown >> 20} MiB")
    return problems


def _mounted(source: str, listing: float, problems: list[str], seen: Counter[str]) -> None:
    options = {"headers": {"X-Secret": _SECRET, "Authorization": _SECRET}}
    mount = Mount(source, cache=ReadCache(), timeout=TIMEOUT_S, listing=listing, storage_options=options)
    try:
        backend = open_source(mount)
    except MountError as error:
        seen["refused"] += 1
        if _SECRET in str(error) or "\n" in str(error):
            problems.append(f"a message that says too much: {error}")
        return
    except Exception as error:
        problems.append(f"{type(error).__name__} while mounting: {error}")
        return
    seen["mounted"] += 1
    try:
        if source.startswith("zip"):
            _archive_look(backend, problems, seen)
        else:
            _Look(backend, problems, seen)
    finally:
        backend.close()


def _archive_look(backend: Backend, problems: list[str], seen: Counter[str]) -> None:
    try:
        names = [entry.name for entry in backend.list(())]
        handle = backend.open(("member",), False)
        buffer = bytearray(50)
        got = handle.read_into(100, buffer)
        handle.close()
    except FsError as error:
        seen[f"archive {error.errno.name}"] += 1
        return
    except Exception as error:
        problems.append(f"archive: {type(error).__name__}: {error}")
        return
    seen["archive"] += 1
    if names != ["member"] or buffer[:got] != (b"member of the archive" * 100)[100:150]:
        problems.append(f"another archive: {names} {bytes(buffer)!r}")


def _requests(server: Server) -> list[str]:
    """What was asked of whom."""
    problems = [f"somebody else was asked for {asked.target!r:.60}" for asked in server.other.asked[:1]]
    for asked in server.raw.asked:
        if (
            not (asked.path == "/pub" or asked.path.startswith("/pub/"))
            or ".." in asked.path
            or "%2e" in asked.path.lower()
        ):
            problems.append(f"asked for {asked.target!r:.60}, which is outside")
        if asked.method not in ("GET", "HEAD"):
            problems.append(f"asked with {asked.method}")
    return problems[:3]


@dataclass
class Figures:
    """What a campaign did."""

    servers: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)

    def text(self) -> str:
        seen = ", ".join(f"{what}: {count}" for what, count in self.seen.most_common())
        bad = sum(count for what, count in self.seen.items() if what.startswith("bad "))
        lines = [f"{self.servers} servers, {bad} bad answers", f"  {seen}"]
        lines.append(f"  slowest: {self.slowest[0]:.1f} s, seed {self.slowest[1]}")
        return "\n".join([*lines, f"{len(self.failures)} failures"])


def campaign(first_seed: int, until: float, most: int | None = None) -> Figures:
    """Servers of the seeds from `first_seed` on, to the monotonic time `until`."""
    figures = Figures()
    told = time.monotonic()
    seed = first_seed
    while time.monotonic() < until and (most is None or seed < first_seed + most):
        started = time.monotonic()
        problems = examine(seed, figures.seen)
        figures.servers += 1
        figures.slowest = max(figures.slowest, (time.monotonic() - started, seed))
        if problems and len(figures.failures) < 20:
            figures.failures.append(f"seed {seed}: {problems[0]}\nassert not examine({seed})")
            print(f"FAILURE {figures.failures[-1]}\n", flush=True)
        seed += 1
        if time.monotonic() > told + 30:
            told = time.monotonic()
            print(f"seed {seed}: {len(figures.failures)} failures", file=sys.stderr, flush=True)
    return figures
