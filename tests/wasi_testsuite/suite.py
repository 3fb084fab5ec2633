"""Test programs in the format of WebAssembly's wasi-testsuite, and running one of them.

A test is a program that ends with status 0, beside it perhaps a file of the same name with `.json`: its arguments,
environment and directories, and what it has to print. What stands there and is not understood here fails the test: a
condition that nobody looks at would look like one that is met.

Source: doc/specification.md and test-runner/wasi_test_runner/test_case.py of that suite.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vfswasi

# Directories of programs for other versions of WASI, which are components.
OTHER_VERSIONS = ("wasm32-wasip2", "wasm32-wasip3")
_TEXTS = {"args": list, "dirs": list, "env": dict, "exit_code": int, "stdout": str, "stderr": str, "root": str}
# Of older tests: a list of the functions that the program is about, and a word to the reader.
_REMARKS = {"wasi_functions", "description"}


@dataclass
class Case:
    """One program. `dirs`: directories beside it, as (directory, name for the guest). `stdout`, `stderr`: what it has
    to print; None: whatever it likes. `unclear`: what in its description is not understood."""

    wasm: Path
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    dirs: list[tuple[Path, str]] = field(default_factory=list)
    stdin: bytes | None = None
    exit_code: int = 0
    stdout: bytes | None = None
    stderr: bytes | None = None
    unclear: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.wasm.stem


def read_case(wasm: Path) -> Case:
    """The test that belongs to a program."""
    case = Case(wasm)
    description = wasm.with_suffix(".json")
    if not description.exists():
        return case
    try:
        config = json.loads(description.read_text("utf-8"))
    except ValueError as error:
        case.unclear.append(f"{description.name}: {error}")
        return case
    if not isinstance(config, dict):
        case.unclear.append(f"{description.name} is not an object")
        return case
    if "operations" in config or "proposals" in config or "world" in config:
        _read_operations(case, config)
    else:
        _take(case, config, set(_TEXTS) | _REMARKS, "")
    return case


def _read_operations(case: Case, config: dict[str, Any]) -> None:
    """The newer form: a list of things to do with the program."""
    for key in sorted(set(config) - {"operations", "proposals", "world"} - _REMARKS):
        case.unclear.append(f"key {key!r}")
    if config.get("proposals"):
        case.unclear.append(f"proposals {config['proposals']!r}")
    if config.get("world", "wasi:cli/command") != "wasi:cli/command":
        case.unclear.append(f"world {config['world']!r}")
    operations = config.get("operations") or [{"type": "run"}, {"type": "wait"}]
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        case.unclear.append("operations that are no list of objects")
        return
    kinds = [operation.get("type") for operation in operations]
    if kinds.count("run") != 1 or kinds[0] != "run" or "wait" in kinds[:-1]:
        case.unclear.append(f"operations in the order {kinds!r}")
    for operation in operations:
        where = f" of {operation.get('type')!r}"
        if operation.get("type") == "run":
            _take(case, operation, {"type", "args", "env", "dirs", "root"}, where)
        elif operation.get("type") == "wait":
            _take(case, operation, {"type", "exit_code"}, where)
        elif operation.get("type") in ("read", "write"):
            _take(case, operation, {"type", "id", "payload"}, where)
            stream = operation.get("id", "stdout" if operation["type"] == "read" else "stdin")
            payload = str(operation.get("payload", "")).encode()
            if stream not in (("stdout", "stderr") if operation["type"] == "read" else ("stdin",)):
                case.unclear.append(f"id {stream!r}{where}")
            else:
                setattr(case, stream, (getattr(case, stream) or b"") + payload)
        else:
            case.unclear.append(f"operation {operation.get('type')!r}")


def _take(case: Case, config: Mapping[str, Any], known: set[str], where: str) -> None:
    for key, value in config.items():
        if key not in known:
            case.unclear.append(f"key {key!r}{where}")
        elif key in _TEXTS and not isinstance(value, _TEXTS[key]):
            case.unclear.append(f"{key}={value!r}{where}")
        elif key == "dirs":
            case.dirs += [(case.wasm.parent / name, name) for name in value]
        elif key == "root":
            case.dirs.append((case.wasm.parent / value, "/"))
        elif key in ("stdout", "stderr"):
            setattr(case, key, value.encode())
        elif key in _TEXTS:
            setattr(case, key, value)


def tree_of(directory: Path) -> dict[str, Any]:
    """A directory of this machine as a tree for a mount in memory. `*.cleanup` is what an earlier run left."""
    tree: dict[str, Any] = {}
    for path in directory.iterdir():
        if path.name.endswith(".cleanup"):
            continue
        if path.is_symlink():
            tree[path.name] = vfswasi.Symlink(str(path.readlink()))
        else:
            tree[path.name] = tree_of(path) if path.is_dir() else path.read_bytes()
    return tree


def status_of(result: vfswasi.Result) -> int:
    """The exit status of a run as the command line tells it."""
    return 128 - result.returncode if result.returncode < 0 else min(result.returncode, 255)


def run_case(case: Case, store: str, vdso: bool, timeout_s: float = 60.0) -> list[str]:
    """Run a test on fresh copies of its directories, in "memory" or "local"; what is wrong, nothing if it passed."""
    if case.unclear:
        return [f"not understood: {what}" for what in case.unclear]
    missing = [str(directory) for directory, _ in case.dirs if not directory.is_dir()]
    if missing:
        return [f"no such directory: {name}" for name in missing]
    with tempfile.TemporaryDirectory() as place:
        preopens: dict[str, Any] = {}
        for number, (directory, name) in enumerate(case.dirs):
            if store == "memory":
                preopens[name] = tree_of(directory)
            else:
                copy = Path(place) / str(number)
                shutil.copytree(directory, copy, symlinks=True, ignore=shutil.ignore_patterns("*.cleanup"))
                preopens[name] = vfswasi.Mount(copy, rw=True)
        try:
            result = vfswasi.run(
                case.wasm,
                case.args,
                env=case.env,
                preopens=preopens,
                stdin=case.stdin,
                capture_output=True,
                timeout=timeout_s,
                vdso=vdso,
            )
        except (vfswasi.SandboxError, ValueError) as error:
            return [f"{type(error).__name__}: {error}"]
    wrong = []
    if status_of(result) != case.exit_code:
        wrong.append(f"exit status {status_of(result)}, not {case.exit_code}")
        wrong += [result.trap] if result.trap else []
        wrong += [f"stderr: {result.stderr[-500:]!r}"] if result.stderr and case.stderr is None else []
    for name in ("stdout", "stderr"):
        expected, got = getattr(case, name), getattr(result, name)
        if expected is not None and got != expected:
            wrong.append(f"{name}: {got[:500]!r}, not {expected[:500]!r}")
    return wrong


@dataclass
class Suite:
    """The tests of one directory. `name`: as its manifest says. `other`: it is for another version of WASI."""

    name: str
    cases: list[Path]
    other: bool


def suites_in(top: Path) -> Iterator[Suite]:
    """Every directory with programs below `top`, which may be a checkout or a part of it."""
    places = {path.parent for kind in ("*.wasm", "*.wat") for path in top.rglob(kind)}
    for place in sorted(places):
        manifest = place / "manifest.json"
        name = str(json.loads(manifest.read_text("utf-8"))["name"]) if manifest.exists() else str(place)
        cases = sorted(path for kind in ("*.wasm", "*.wat") for path in place.glob(kind))
        yield Suite(name, cases, any(part in OTHER_VERSIONS for part in place.parts))


def read_skips(path: Path) -> dict[tuple[str, str], str]:
    """(suite, test) -> why it is left out, from a file as the suite's own runner takes it: JSON or TOML, {suite: {test:
    reason}}. Raises ValueError."""
    text = path.read_text("utf-8")
    if path.suffix == ".toml":
        import tomllib

        found = tomllib.loads(text)
    else:
        found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(tests, dict) for tests in found.values()):
        raise ValueError(f"{path}: must be {{suite: {{test: reason}}}}")
    return {(suite, test): str(reason) for suite, tests in found.items() for test, reason in tests.items()}
