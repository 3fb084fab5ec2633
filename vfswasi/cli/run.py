"""`vfswasi run`: a program, on what it is given."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..engine.compiling.features import NAMES as FEATURES
from ..errors import GuestTrapError
from ..host.sandbox import Sandbox
from ..mounts.options import parse_limits, parse_mount
from . import progress
from .arguments.parser import Parser

DESCRIPTION = "Run a WASI program."
TO_PROGRAM = True


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="GUEST=SOURCE[,OPTION...]",
        help="give the program a directory: a path, a zip or tar archive, a URL (s3://, https://, zip://*::URL, ...), "
        "mem: (empty, in memory) or dev: (devices); read-only unless ,rw follows; a comma in SOURCE is written twice",
    )
    parser.add_argument("--tmp", action="store_true", help="give the program an empty /tmp in memory")
    parser.add_argument("--dev", action="store_true", help="give the program /dev/null, /dev/urandom and the like")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="set an environment variable")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end the program after this time")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a limit of the program, for instance memory_bytes=64M, inodes=1000 or fuel=1000000000; "
        "wall_seconds and fuel may be none",
    )
    parser.add_argument("--stdin", metavar="FILE", help="read standard input from FILE (default: inherited)")
    parser.add_argument("--argv0", metavar="NAME", help="the program's own name, as it sees it (default: the file's)")
    parser.add_argument("--seed", type=int, metavar="N", help="give the program the same random bytes in every run")
    add_feature(parser)
    parser.add_argument(
        "--no-vdso", action="store_true", help="answer every system call in Python (also: VFSWASI_VDSO=0)"
    )
    parser.add_argument("module", metavar="MODULE", help="a .wasm file (or .wat)")


def add_feature(parser: Parser) -> None:
    """The option of every command that looks at a module."""
    parser.add_argument(
        "--feature",
        action="append",
        default=[],
        choices=FEATURES,
        metavar="NAME",
        help=f"switch a feature of WebAssembly on or off: {', '.join(FEATURES)}",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def main(options: argparse.Namespace) -> int:
    preopens: dict[str, Any] = {}
    for text in options.mount:
        guest, mount = parse_mount(text)
        if guest in preopens:
            raise ValueError(f"--mount {guest}: given twice; each guest directory can have one source")
        preopens[guest] = mount
    for guest, wanted, url in (("/tmp", options.tmp, "mem:"), ("/dev", options.dev, "dev:")):
        if wanted and preopens.setdefault(guest, url) is not url:
            raise ValueError(f"--mount {guest}: given twice, by {guest.replace('/', '--')} too")
    env: dict[str, str] = {}
    for text in options.env:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--env {text!r} is not NAME=VALUE")
        env[name] = value
    stdin = None
    try:
        if options.stdin is not None:
            stdin = open(options.stdin, "rb")  # noqa: SIM115 - closed below, after the run
        vdso = False if options.no_vdso else None
        limits = parse_limits(options.limit)
        with Sandbox(
            options.module,
            preopens=preopens,
            env=env,
            argv0=options.argv0,
            limits=limits,
            vdso=vdso,
            timeout=options.timeout,
            features=options.feature,
        ) as sandbox:
            source = stdin if stdin is not None else _inherited_stdin()
            with progress.shown(sandbox.traffic):
                result = sandbox._run_once(options.args, stdin=source, stdout=1, stderr=2, seed=options.seed)
    finally:
        if stdin is not None:
            stdin.close()
    if result.trap is not None:
        print(f"vfswasi: {GuestTrapError.__name__}: {result.trap}", file=sys.stderr)
    if result.returncode < 0:
        return 128 - result.returncode
    return min(result.returncode, 255)


def _inherited_stdin() -> Any:
    return 0 if sys.stdin is not None else None
