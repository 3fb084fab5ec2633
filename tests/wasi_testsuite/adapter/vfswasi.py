"""Lets the runner of WebAssembly's wasi-testsuite run its programs under vfswasi.

    python test-runner/wasi_test_runner.py -r .../tests/wasi_testsuite/adapter/vfswasi.py -t tests/.../testsuite

It is a module with `get_name`, `get_version`, `get_wasi_versions`, `get_wasi_worlds` and `compute_argv` for the runner
of today, and an executable with `--version`, `--test-file`, `--arg`, `--env` and `--dir` for older ones; both run
programs through the latter. It needs vfswasi installed for the Python that runs it, and nothing else of this directory,
so it may be copied to `adapters/`.

VFSWASI_TESTSUITE_STORE=memory runs the programs on copies of their directories in memory, in place of the directories
themselves (`local`); VFSWASI_VDSO=0 switches the fast path off.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any


def _library() -> Any:
    """The library, not this file, which has its name and lies where Python looks first."""
    loaded = sys.modules.get("vfswasi")
    if hasattr(loaded, "Sandbox"):
        return loaded
    here = str(Path(__file__).resolve().parent)
    this = sys.modules.pop("vfswasi", None)
    path = sys.path
    sys.path = [place for place in path if str(Path(place or ".").resolve()) != here]
    try:
        import vfswasi
    finally:
        sys.path = path
        if this is not None:
            sys.modules["vfswasi"] = this
    return vfswasi


def get_name() -> str:
    return "vfswasi"


def get_version() -> str:
    return str(_library().__version__)


def get_wasi_versions() -> list[str]:
    return ["wasm32-wasip1"]


def get_wasi_worlds() -> list[str]:
    return ["wasi:cli/command"]


def compute_argv(test_path: str, *wanted: Any, **named: Any) -> list[str]:
    """The command for one program. Runners have passed, one after the other: `args, env, dirs`; the same and a version
    of WASI; `(args, env, dirs)`, proposals, a world and a version; `(args, env, root)` and the rest, where `root` is
    the one directory, "/" to the guest, or None. `dirs`: pairs of a directory and its name for the guest.
    """
    given = [*wanted, *named.values()]
    args, env, dirs = given[0] if isinstance(given[0], tuple) else given[:3]
    if dirs is None:
        dirs = []
    elif isinstance(dirs, str | os.PathLike):
        dirs = [(dirs, "/")]
    argv = [sys.executable, str(Path(__file__).resolve()), "--test-file", str(test_path)]
    argv += [f"--env={name}={value}" for name, value in env.items()]
    argv += [f"--dir={host}::{guest}" for host, guest in dirs]
    return argv + [f"--arg={arg}" for arg in args]


def _tree(vfswasi: Any, directory: Path) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in directory.iterdir():
        if path.is_symlink():
            tree[path.name] = vfswasi.Symlink(str(path.readlink()))
        else:
            tree[path.name] = _tree(vfswasi, path) if path.is_dir() else path.read_bytes()
    return tree


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--test-file")
    parser.add_argument("--arg", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--dir", action="append", default=[], help="DIRECTORY, or DIRECTORY::NAME")
    options = parser.parse_args()
    vfswasi = _library()
    if options.version:
        print(get_name(), vfswasi.__version__)
        return 0
    if options.test_file is None:
        parser.error("--test-file is missing")
    store = os.environ.get("VFSWASI_TESTSUITE_STORE", "local")
    if store not in ("local", "memory"):
        parser.error(f"VFSWASI_TESTSUITE_STORE must be local or memory, not {store!r}")
    preopens: dict[str, Any] = {}
    for text in options.dir:
        host, separator, guest = text.rpartition("::")
        if not separator:
            host = guest = text
        preopens[guest] = _tree(vfswasi, Path(host)) if store == "memory" else vfswasi.Mount(Path(host), rw=True)
    env = dict(text.partition("=")[::2] for text in options.env)
    try:
        result = vfswasi.run(options.test_file, options.arg, env=env, preopens=preopens, stdin=0, stdout=1, stderr=2)
    except (vfswasi.SandboxError, OSError, ValueError) as error:
        print(f"vfswasi: {error}", file=sys.stderr)
        return 125
    if result.trap is not None:
        print(f"vfswasi: {result.trap}", file=sys.stderr)
    status: int = result.returncode
    return 128 - status if status < 0 else min(status, 255)


if __name__ == "__main__":
    sys.exit(main())
