"""Writes a recording: what was kept first, then the manifest, which has the digest of each part."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from ...saved.fields import line_of
from ...saved.writing import member_info
from ..calls import run_lengths
from ..facts import Facts, Question
from ..recording import Recording
from ..spool import Stream
from ..streams import NotedSink, NotedSource
from ..told import MountTold
from .manifest import CALLS, FORMAT, MANIFEST, MODULE, PAGES, SEGMENT_BYTES, STREAMS, VERSION, mount_line, run_line

_AT_ONCE = 20_000  # numbers on one line
_LEVEL = 3


class Kept(NamedTuple):
    """What there is to be written beside `Recording`. texts: of calls. mounts: each with what is known of it."""

    pages: Stream
    calls: Stream
    texts: Iterable[bytes]
    stdin: NotedSource
    out: NotedSink
    err: NotedSink
    mounts: Mapping[str, tuple[MountTold, Facts]]
    module: Stream | None


def write(told: Recording, kept: Kept, out: IO[bytes]) -> None:
    """Raises OSError."""
    members: list[dict[str, Any]] = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        if kept.module is not None:
            members.append(_put(archive, MODULE, kept.module.pieces()))
        members.append(_put(archive, CALLS, kept.calls.pieces()))
        streams = kept.stdin.data, kept.out.data, kept.err.data
        for name, stream in zip(STREAMS, streams, strict=True):
            if name != "stderr" or not told.joined:
                members.append(_put(archive, name, stream.pieces()))
        for number, segment in enumerate(_segments(kept.pages)):
            members.append(_put(archive, f"{PAGES}/{number:06}", iter([segment])))
        with archive.open(member_info(MANIFEST, None), "w", force_zip64=True) as member:
            for fields in _lines(told, kept, members):
                member.write(line_of(fields))


def _put(archive: zipfile.ZipFile, name: str, pieces: Iterator[bytes]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with archive.open(member_info(name, None), "w", force_zip64=True) as member:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            member.write(piece)
    return {"member": name, "size": size, "sha256": digest.hexdigest()}


def _segments(pages: Stream) -> Iterator[bytes]:
    for start in range(0, pages.size, SEGMENT_BYTES):
        yield pages.read(start, min(SEGMENT_BYTES, pages.size - start))


def _lines(told: Recording, kept: Kept, members: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield {"format": FORMAT, "version": VERSION}
    yield run_line(told)
    yield from members
    yield from _stream_lines(kept)
    for text in kept.texts:
        yield {"text": text.decode("utf-8", "surrogateescape")}
    for mount, facts in kept.mounts.values():
        yield mount_line(mount)
        yield from _facts(facts)
    yield {"end": True}


def _stream_lines(kept: Kept) -> Iterator[dict[str, Any]]:
    source = kept.stdin
    yield {"stream": "stdin", "tty": source.tty, "may_wait": source.may_wait}
    for name, counts in (("counts", source.counts), ("available", source.available_counts)):
        for some in _some(run_lengths(counts)):
            yield {"of": "stdin", name: some}
    for name, sink in (("stdout", kept.out), ("stderr", kept.err)):
        yield {"stream": name, "tty": sink.tty, "may_wait": sink.may_wait}
        for some in _some([[number, value] for number, value in sink.partial.items()]):
            yield {"of": name, "partial": some}


def _some(values: list[list[int]]) -> Iterator[list[list[int]]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _facts(facts: Facts) -> Iterator[dict[str, Any]]:
    for key in facts.inexact:
        yield {"inexact": list(key)}
    for question, said in facts.said.items():
        for start in range(0, len(said), 1000):
            yield _said(question, said[start : start + 1000])
    for content in facts.contents:
        yield {"content": content.number}
        for some in _some([[number, ref] for number, ref in sorted(content.pages.items())]):
            yield {"content": content.number, "pages": some}
        for (offset, length), found in content.exact.items():
            yield {"content": content.number, "at": offset, "length": length, "gave": found}
    for key, opens in facts.opens.items():
        runs: list[list[int | str]] = []
        for value in opens:
            if runs and runs[-1][1] == value:
                runs[-1][0] += 1  # type: ignore[operator]
            else:
                runs.append([1, value])
        for start in range(0, len(runs), _AT_ONCE):
            yield {"opened": list(key), "gave": runs[start : start + _AT_ONCE]}


def _said(question: Question, said: list[tuple[int, Any]]) -> dict[str, Any]:
    what, key, names = question
    below = {"names": list(names)} if names else {}
    return {"asked": what, "key": list(key), **below, "said": [[count, answer] for count, answer in said]}
