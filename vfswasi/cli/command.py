"""The command line: `vfswasi run`, `vfswasi inspect`, `vfswasi mounts`.

Exit status of `run`: the guest's own (statuses above 255 become 255); 128 + N if signal N ended it, so 134 for
a trap; 124 if `--timeout` ended it; 125 if vfswasi itself failed, with one line on stderr. Of the others: 0 or 125.
Of all: 141 if nobody reads what they print any more, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import vfswasi

from ..engine.compiling.features import NAMES as FEATURES
from ..engine.compiling.features import checked as checked_features
from ..errors import FsError, GuestLimitError, GuestTrapError, SandboxError, UncommittedError, errno_of
from ..fs_backends.base import Backend, FileType, Key
from ..host.arguments import read_module
from ..host.sandbox import Sandbox
from ..mounts.options import parse_limits, parse_mount, parse_source
from ..printing import printable, redacted, without_secrets
from . import progress

EXIT_OURS = 125
EXIT_TIMEOUT = 124
EXIT_PIPE = 128 + 13  # as if SIGPIPE had ended us


class _Help(argparse.HelpFormatter):
    """As wide as the terminal. argparse makes one for each option, to check it, and asks `shutil` for the width, whose
    decompressors take longer to import than a small program to run."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or _terminal_columns()
        except ValueError:
            columns = _terminal_columns()
        super().__init__(prog, width=columns - 2)


def _terminal_columns() -> int:
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _Parser(argparse.ArgumentParser):
    """Usage errors are our failures: status 125, and one line that says where to look."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {without_secrets(message)} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(EXIT_OURS)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="vfswasi",
        description="Run WebAssembly (WASI) programs on files that live anywhere.",
        epilog="Exit status: the guest's; 128+N: signal N (134 trap); 124: out of time or fuel; 125: vfswasi failed.",
    )
    parser.add_argument("--version", action="version", version=f"vfswasi {vfswasi.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser("run", help="run a program", description="Run a WASI program.")
    run.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="GUEST=SOURCE[,OPTION...]",
        help="give the program a directory: a path, a zip or tar archive, a URL (s3://, https://, zip://*::URL, ...), "
        "mem: (empty, in memory) or dev: (devices); read-only unless ,rw follows; a comma in SOURCE is written twice",
    )
    run.add_argument("--tmp", action="store_true", help="give the program an empty /tmp in memory")
    run.add_argument("--dev", action="store_true", help="give the program /dev/null, /dev/urandom and the like")
    run.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="set an environment variable")
    run.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end the program after this time")
    run.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a limit of the program, for instance memory_bytes=64M, inodes=1000 or fuel=1000000000; "
        "wall_seconds and fuel may be none",
    )
    run.add_argument("--stdin", metavar="FILE", help="read standard input from FILE (default: inherited)")
    run.add_argument("--argv0", metavar="NAME", help="the program's own name, as it sees it (default: the file's)")
    run.add_argument("--seed", type=int, metavar="N", help="give the program the same random bytes in every run")
    _add_feature(run)
    run.add_argument(
        "--isolation",
        choices=("none", "process"),
        help="process: run the program in a process of its own, so that a crash of the engine is an error and no more",
    )
    run.add_argument("--no-vdso", action="store_true", help="answer every system call in Python (also: VFSWASI_VDSO=0)")
    run.add_argument("module", metavar="MODULE", help="a .wasm file (or .wat)")
    run.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS", help="arguments of the program")
    run.set_defaults(function=_run)

    inspect = commands.add_parser(
        "inspect", help="show what a module imports and needs", description="Show what a module imports and needs."
    )
    inspect.add_argument("--json", action="store_true", help="print JSON")
    _add_feature(inspect)
    inspect.add_argument("module", metavar="MODULE")
    inspect.set_defaults(function=_inspect)

    mounts = commands.add_parser(
        "mounts",
        help="show what a source looks like to a program",
        description="Show a source as the tree that a program would see.",
    )
    mounts.add_argument("--depth", type=int, default=None, metavar="N", help="show N levels (default: all)")
    mounts.add_argument("source", metavar="SOURCE[,OPTION...]")
    mounts.set_defaults(function=_mounts)
    return parser


def _add_feature(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--feature",
        action="append",
        default=[],
        choices=FEATURES,
        metavar="NAME",
        help=f"switch a feature of WebAssembly on or off: {', '.join(FEATURES)}",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. A usage error raises SystemExit(125)."""
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(_Warning())
    log = logging.getLogger("vfswasi")
    log.addHandler(warnings)
    try:
        try:
            return _main(argv)
        finally:
            log.removeHandler(warnings)
            _flush()
    except BrokenPipeError:  # whoever reads has what they wanted, as with `| head`
        return EXIT_PIPE
    except OSError as error:  # our own output could not be written
        return _fail(f"standard output: {error.strerror}", EXIT_OURS)


class _Warning(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "vfswasi: warning: " + printable(" ".join(record.getMessage().split("\n")))


def _flush() -> None:
    """Write out what was printed. Raises OSError; then what is left is forgotten, or Python would complain of it at
    its end."""
    failed: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            failed = failed or error
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
    if failed is not None:
        raise failed


def _main(argv: Sequence[str] | None) -> int:
    options = _parser().parse_args(argv)
    try:
        status: int = options.function(options)
        return status
    except GuestLimitError as error:
        return _fail(str(error), EXIT_TIMEOUT)
    except BrokenPipeError:
        raise
    except UncommittedError as error:
        return _fail(f"{error}; {_rescued(error)}", EXIT_OURS)
    except (SandboxError, FsError, ValueError) as error:
        return _fail(str(error), EXIT_OURS)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        return _fail(what, EXIT_OURS)
    except KeyboardInterrupt:
        return 130


def _fail(message: str, status: int) -> int:
    line = printable(without_secrets(" ".join(message.split("\n"))))
    print(f"vfswasi: {line}", file=sys.stderr)
    return status


def _rescued(error: UncommittedError) -> str:
    """Save what could not be stored where it will not be lost; says where."""
    files = [file for file in error.files if file.size]
    if not files:
        return "nothing of it could be kept"
    try:
        import tempfile

        directory = tempfile.mkdtemp(prefix="vfswasi-not-stored-")
        for number, file in enumerate(files, 1):
            name = "".join(ch if ch.isalnum() or ch in "._-" else "_" for ch in file.path.rpartition("/")[2])
            file.save(os.path.join(directory, f"{number}-{name[:100]}"))
            file.close()
    except OSError as failure:
        return f"what was written could not be saved either: {failure.strerror}"
    return f"what was written is in {directory}"


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _run(options: argparse.Namespace) -> int:
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
            isolation=options.isolation,
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


def _inspect(options: argparse.Namespace) -> int:
    from . import inspect as inspection

    wasm, name = read_module(options.module)
    description = inspection.describe(wasm, name, checked_features(options.feature))
    if options.json:
        import json

        print(json.dumps(description, indent=2))
    else:
        print("\n".join(inspection.shown(description, name)))
    return 0


def _mounts(options: argparse.Namespace) -> int:
    from ..mounts.sources import open_source

    backend = open_source(parse_source(options.source))
    try:
        print(printable(redacted(options.source)))
        return EXIT_OURS if _print_tree(backend, options.depth) else 0
    finally:
        backend.close()


def _print_tree(backend: Backend, depth: int | None) -> int:
    """Everything below, a line each; how much of it could not be looked at. Not recursive: trees may be deeper than
    Python's stack."""
    failures = 0
    todo: list[Iterator[tuple[Key, str, FileType]]] = []

    def enter(key: Key, shown: str) -> int:
        if depth is not None and len(key) >= depth:
            return 0
        found: list[tuple[str, FileType]] = []
        failed = 0
        try:
            found.extend((entry.name, entry.filetype) for entry in backend.list(key))
        except FsError as error:
            failed = _failed(shown, error)
        todo.append(iter([((*key, name), name, filetype) for name, filetype in sorted(found)]))
        return failed

    failures += enter((), ".")
    while todo:
        for key, name, filetype in todo[-1]:
            indent = "  " * len(key)
            shown = printable(name)
            if filetype is FileType.DIRECTORY:
                print(f"{indent}{shown}/")
                failures += enter(key, shown)
                break
            try:
                print(f"{indent}{shown}{_details(backend, key, filetype)}")
            except FsError as error:
                failures += _failed(shown, error, indent)
        else:
            todo.pop()
    return failures


def _details(backend: Backend, key: Key, filetype: FileType) -> str:
    if filetype is FileType.SYMBOLIC_LINK:
        return f" -> {printable(backend.readlink(key))}"
    return f"  {backend.stat(key).size:,}" if filetype is FileType.REGULAR_FILE else "  (not a file)"


def _failed(shown: str, error: FsError, indent: str | None = None) -> int:
    """Say on one line what is wrong with something, which is listed too if it was not yet (`indent`)."""
    if indent is not None:
        print(f"{indent}{shown}  (cannot be read: {errno_of(error).name})")
    print(f"vfswasi: {shown[:200]}: {printable(str(error))}", file=sys.stderr)
    return 1
