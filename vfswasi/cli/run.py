"""`vfswasi run`: a program, on what it is given."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from ..engine.compiling.features import NAMES as FEATURES
from ..errors import GuestError, GuestLimitError, GuestTrapError, UncommittedError
from ..host.results.result import Result
from ..host.runs.run import Run
from ..host.sandbox import Sandbox
from ..host.stdio import STDOUT
from ..mounts.amounts import parse_seconds
from ..mounts.options import parse_limits
from . import progress
from .arguments import overlays
from .arguments.environment import environment
from .arguments.module import STDIN, given
from .arguments.noted import options as observing
from .arguments.parser import Parser
from .arguments.preopens import preopens
from .messages import EXIT_OURS, fail, not_stored, status_of, tell_refusals

DESCRIPTION = "Run a WASI program. Options stand before MODULE; everything behind it belongs to the program."
RUNS_PROGRAMS = True


def add_arguments(parser: Parser) -> None:
    _add_what_it_sees(parser)
    _add_bounds(parser)
    _add_streams(parser)
    observing.add_arguments(parser)
    parser.add_argument("--argv0", metavar="NAME", help="the program's own name, as it sees it (default: the file's)")
    parser.add_argument("--seed", type=int, metavar="N", help="give the program the same random bytes in every run")
    parser.add_argument(
        "--invoke",
        metavar="FUNC",
        help="call this function of the module, ARGS are its numbers, and print what it returns; _initialize of a "
        "reactor is called first",
    )
    add_feature(parser)
    parser.add_argument(
        "--isolation",
        choices=("none", "process"),
        help="process: run the program in a process of its own, so that a crash of the engine is an error and no more",
    )
    parser.add_argument(
        "--no-vdso", action="store_true", help="answer every system call in Python (also: VFSWASI_VDSO=0)"
    )
    parser.add_argument("-V", "--version", action="version", version=_version(), help=argparse.SUPPRESS)
    parser.add_argument("module", metavar="MODULE", help="a .wasm file (or .wat), a URL, or - for standard input")
    parser.add_words("args", metavar="ARGS", help="arguments of the program")


def _version() -> str:
    import vfswasi

    return f"vfswasi {vfswasi.__version__}"


def _add_what_it_sees(parser: Parser) -> None:
    for names, metavar, told in (
        (
            ("--mount",),
            "GUEST=SOURCE[,OPTION...]",
            "give the program a directory: a path, a zip or tar archive, a URL (s3://, https://, zip://*::URL, ...), "
            "mem: (empty, in memory) or dev: (devices); or one file, by its whole name; read-only unless ,rw follows; "
            "with ,overlay it may write, and SOURCE stays as it is; a comma in SOURCE is written twice",
        ),
        (
            ("--dir",),
            "HOST[::GUEST][,OPTION...]",
            "as wasmtime: give the program the directory HOST, as GUEST (default: HOST); read-only unless ,rw follows",
        ),
        (
            ("-v", "--volume"),
            "HOST:GUEST[:rw|:O]",
            "as docker: give the program HOST, a directory or one file, as GUEST; read-only unless :rw follows, "
            "and with :O it may write, and HOST stays as it is",
        ),
    ):
        option = names[0]
        parser.add_argument(
            *names,
            dest="mounts",
            action="append",
            default=[],
            type=lambda text, option=option: (option, text),
            metavar=metavar,
            help=told,
        )
    overlays.add_arguments(parser)
    parser.add_argument("--tmp", action="store_true", help="give the program an empty /tmp in memory")
    parser.add_argument("--dev", action="store_true", help="give the program /dev/null, /dev/urandom and the like")
    parser.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set an environment variable; without =VALUE it is the one that you have",
    )
    parser.add_argument(
        "--env-file", action="append", default=[], metavar="FILE", help="set those of a file, NAME=VALUE on each line"
    )
    parser.add_argument("--cwd", metavar="DIR", help="the directory of the guest in which the program starts")


def _add_bounds(parser: Parser) -> None:
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        help="end the program after this time: seconds, or 500ms, 5s, 2m, 1h30m (default: 1h); none: never",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a limit of the program, for instance memory_bytes=64M, inodes=1000 or fuel=1000000000; "
        "wall_seconds, compile_seconds and fuel may be none",
    )


def _add_streams(parser: Parser) -> None:
    parser.add_argument("--stdin", metavar="FILE", help="read standard input from FILE (default: inherited)")
    parser.add_argument("--stdout", metavar="FILE", help="write standard output to FILE, which is emptied first")
    parser.add_argument("--stderr", metavar="FILE", help="write standard error to FILE, which is emptied first")


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


def seconds(text: str) -> float:
    if text.lower() == "none":
        return float("inf")
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(options: argparse.Namespace) -> int:
    kept = overlays.Overlays(options, preopens(options.mounts, tmp=options.tmp, dev=options.dev))
    noted = observing.Observing(options, kept.mounts)
    env = environment(options.env_file, options.env)
    limits = parse_limits(options.limit)
    with contextlib.ExitStack() as opened:
        asked: dict[str, Any] = {"stdin": _stdin(options, opened), **noted.asked}
        for name in ("seed", "cwd"):
            if getattr(options, name) is not None:
                asked[name] = getattr(options, name)
        module: Any = given(options.module)
        call = None
        if options.invoke is not None:
            if options.isolation == "process":
                raise ValueError("--invoke cannot be with --isolation=process; leave one of them out")
            from .arguments.invoke import Call

            if options.cwd is not None:
                raise ValueError("--cwd is where a program starts, and --invoke calls a function of none")
            module, call = Call.of(module, options.invoke, options.args)
            limits = call.limits(limits, options.timeout)
        sandbox = opened.enter_context(
            Sandbox(
                module,
                preopens=kept.mounts,
                env=env,
                argv0=options.argv0,
                limits=limits,
                vdso=False if options.no_vdso else None,
                timeout=options.timeout,
                features=options.feature,
                isolation=options.isolation,
                **noted.of_sandbox,
            )
        )
        asked |= _outputs(options, opened)
        noted.begin(opened)
        try:
            with progress.shown(sandbox.traffic):
                if call is not None:
                    return call.made(sandbox, asked, kept, noted)
                result = _result_of(sandbox, options.args, asked, kept, noted)
        except UncommittedError as error:
            return not_stored(error, kept.saved, kept.changes)
        except GuestLimitError as error:
            if not noted.failed:
                raise
            return fail(str(error))
    if result.trap is not None:
        print(f"vfswasi: {GuestTrapError.__name__}: {result.trap}", file=sys.stderr)
    if result.returncode != 0:
        tell_refusals(result)
    return EXIT_OURS if noted.failed else status_of(result.returncode)


def _result_of(
    sandbox: Sandbox, args: list[str], asked: dict[str, Any], kept: overlays.Overlays, noted: observing.Observing
) -> Result[Any]:
    """Raises as `Sandbox.run`, when what is known of the run has been told; KeyboardInterrupt too."""
    if not kept.wanted and not noted.wanted:
        return sandbox._run_once(args, **asked)
    run = sandbox._prepared_once(args, **asked)
    run.begin()
    try:
        result = run.result()
    except KeyboardInterrupt:
        run.kill()
        try:
            run.result()
        except (GuestError, UncommittedError) as error:
            _tell(kept, noted, error.result)
        except OSError as error:
            _tell_unrecorded(kept, noted, run, error)
        raise
    except (GuestError, UncommittedError) as error:
        _tell(kept, noted, error.result)
        raise
    except OSError as error:
        result = _tell_unrecorded(kept, noted, run, error)
        if result.ended_from_outside:
            result.check_returncode()
        return result
    _tell(kept, noted, result)
    return result


def _tell_unrecorded(kept: overlays.Overlays, noted: observing.Observing, run: Run[Any], error: OSError) -> Result[Any]:
    """Of a run that has ended, and whose recording could not be written. Raises `error` if it is something else."""
    result: Result[Any] | None = run._result
    if result is None:
        raise error
    noted.not_recorded(error)
    _tell(kept, noted, result)
    return result


def _tell(kept: overlays.Overlays, noted: observing.Observing, result: Result[Any] | None) -> None:
    if result is None:
        return
    try:
        if kept.wanted:
            kept.tell(result.changes)
    finally:
        if noted.wanted:
            noted.tell(result)


def _stdin(options: argparse.Namespace, opened: contextlib.ExitStack) -> Any:
    """What the program reads: nothing, if the module itself is what comes in."""
    if options.stdin is not None:
        return opened.enter_context(open(options.stdin, "rb"))
    return None if options.module == STDIN or sys.stdin is None else 0


def _outputs(options: argparse.Namespace, opened: contextlib.ExitStack) -> dict[str, Any]:
    """Files are emptied now, when the program can be run; one that is given twice is one."""
    outputs: dict[str, Any] = {"stdout": 1, "stderr": 2}
    if options.stdout is not None:
        outputs["stdout"] = _emptied(options.stdout, opened)
    if options.stderr is not None:
        same = options.stdout is not None and _is_same(options.stdout, options.stderr)
        outputs["stderr"] = STDOUT if same else _emptied(options.stderr, opened)
    return outputs


def _emptied(path: str, opened: contextlib.ExitStack) -> Any:
    file = open(path, "wb")  # noqa: SIM115 - closed by `opened`
    return opened.enter_context(file)


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
