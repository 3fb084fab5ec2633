"""`vfswasi replay`: a recorded run, once more."""

from __future__ import annotations

import argparse
import contextlib
import sys

from ...errors import GuestTrapError
from ...limits import Limits
from ...mounts.options import parse_limits
from ...observe.recording.recording import Recording
from ...printing import counted, printable
from ..arguments.module import given
from ..arguments.noted import tracing
from ..arguments.parser import Parser
from ..messages import EXIT_DIFFERS, EXIT_TIMEOUT, fail, status_of
from ..run import seconds

DESCRIPTION = (
    "Run what vfswasi run --record has recorded once more: out of FILE alone, without network, directories or "
    f"environment of this machine. Exit status: the program's; {EXIT_DIFFERS} if it differs from the recorded run."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--info", action="store_true", help="show what is in FILE, and run nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="say on standard error that it was the same")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        help="end it after this time: seconds, or 500ms, 5s, 2m, 1h30m (default: that of the recorded run, 1h at most)",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="allow a recording that was made with more than the usual limits as much as this",
    )
    tracing.add_arguments(parser)
    parser.add_argument("file", metavar="FILE", help="what --record has written")
    parser.add_argument("module", nargs="?", metavar="MODULE", help="the module, of a recording that has none")


def main(options: argparse.Namespace) -> int:
    with Recording.load(options.file) as recording:
        if options.info:
            for line in _info(recording):
                print(printable(line))
            return 0
        return _replayed(recording, options)


def _replayed(recording: Recording, options: argparse.Namespace) -> int:
    from ...host.replaying import replay

    traced = tracing.Tracing(options)
    with contextlib.ExitStack() as opened:
        traced.begin(opened)
        done = replay(
            recording,
            None if options.module is None else given(options.module),
            stdout=1,
            stderr=2,
            timeout=options.timeout,
            limits=parse_limits(options.limit) or Limits(),
            trace=traced.asked if traced.given else None,
        )
        if done.result is not None:
            traced.tell(done.result.trace, done.result.traffic, done.result.usage)
    result = done.result
    if result is not None and result.trap is not None and not result.ended_from_outside:
        print(f"vfswasi: {GuestTrapError.__name__}: {result.trap}", file=sys.stderr)
    if done.difference is not None:
        return fail(f"the replay differs: {done.difference}{_made_by(recording)}", EXIT_DIFFERS)
    if options.verbose:
        print(f"vfswasi: the replay is the same: {counted(recording.calls, 'call')}", file=sys.stderr)
    if result is None or recording.ending.from_outside or result.ended_from_outside:
        return fail("the recorded run was ended here, and so was this one", EXIT_TIMEOUT)
    return status_of(result.returncode)


def _made_by(recording: Recording) -> str:
    """What of ours is not what recorded the run."""
    from ...observe.recording.recorder import versions

    here = versions()
    others = [
        f"{name} {getattr(recording, name)}, here {here[name]}"
        for name in ("vfswasi", "wasmtime", "machine")
        if getattr(recording, name) != here[name]
    ]
    return f" (recorded with {'; '.join(others)})" if others else ""


def _info(recording: Recording) -> list[str]:
    from ...observe.recording.replayer import in_words

    kept = "in the file" if recording.has_module else "not in the file"
    lines = [
        f"program    {recording.module}: {counted(recording.module_bytes, 'byte')}, {kept}",
        f"sha256     {recording.module_sha256}",
        f"arguments  {' '.join(map(repr, recording.args))}",
        f"variables  {' '.join(recording.env) or 'none'}",
        f"recorded   {recording.when} with vfswasi {recording.vfswasi}, wasmtime {recording.wasmtime}, "
        f"on {recording.machine}",
        f"ran        {counted(recording.seconds, 'second')}, {counted(recording.calls, 'call')}; "
        f"{in_words(recording.ending)}",
        f"streams    stdin {counted(recording.stdin, 'byte')}, stdout {counted(recording.stdout, 'byte')}, "
        f"stderr {counted(recording.stderr, 'byte')}",
    ]
    if recording.cwd is not None:
        lines.append(f"directory  {recording.cwd}")
    if recording.features:
        lines.append(f"features   {' '.join(recording.features)}")
    for told in recording.mounts:
        lines.append(
            f"mount      {told.name} ({told.manner}) of {told.what}: {counted(told.files, 'file')} read, "
            f"{counted(told.names, 'question')}"
        )
    lines.append(f"contents   {counted(recording.size, 'byte')}")
    if recording.cut is not None:
        lines.append(f"not whole  {recording.cut}")
    lines += [f"changed    {path}, by others while it was read" for path in recording.inexact]
    return lines
