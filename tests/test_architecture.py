"""The shape of the package: imports point down only, and what only one room may know stays in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .guest_programs import GUESTS, guest_names

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vfswasi"
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES_MAX = 450

# Room -> the rooms whose modules it may import, beside its own. A room is the longest matching prefix of a module's
# dotted name within the package; "" is the package itself, which gathers the public names.
BACKENDS = {"fs_backends.base", "fs_backends.budget", "fs_backends.turns", "fs_backends.waiting", "fs_backends"}
BELOW_ENGINE = {
    "syscalls",
    "abi",
    "abi.constants",
    "kernel",
    "limits",
    "holders",
    "printing",
    "fs_backends.base",
    "fs_backends.turns",
    "fs_backends.waiting",
    "errors",
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "limits": {"fs_backends.budget"},
    "holders": set(),
    "printing": set(),
    "abi.constants": set(),
    "abi": {"abi.constants"},
    "fs_backends.base": {"errors"},
    "fs_backends.budget": {"errors"},
    "fs_backends.turns": {"fs_backends.base"},
    "fs_backends.waiting": {"fs_backends.budget", "fs_backends.turns", "errors"},
    "fs_backends": {
        "fs_backends.base",
        "fs_backends.budget",
        "fs_backends.turns",
        "fs_backends.waiting",
        "printing",
        "errors",
    },
    "kernel": {"abi.constants", "fs_backends.base", "fs_backends.turns", "fs_backends.waiting", "limits", "errors"},
    "syscalls": {"abi", "abi.constants", "kernel", "fs_backends.base", "fs_backends.turns", "limits", "errors"},
    "engine": BELOW_ENGINE,
    "mount_options": {"fs_backends.base", "limits", "printing"},
    "source_text": {"mount_options", "printing", "errors", *BACKENDS},
    "sources": {"source_text", "mount_options", "printing", "errors", *BACKENDS},
    "mounts": {"sources", "mount_options", "holders", "printing", "kernel", "limits", "errors", *BACKENDS},
    "stdio": {"kernel", "errors"},
    "closing": {"kernel", "printing", "errors", *BACKENDS},
    "arguments": {"limits", "errors"},
    "result": {"engine", *BELOW_ENGINE, *BACKENDS},
    "mounting": {"engine", "mounts", "mount_options", "sources", *BELOW_ENGINE, *BACKENDS},
    "sandbox": {
        "arguments",
        "result",
        "engine",
        "mounting",
        "sources",
        "stdio",
        "closing",
        *BELOW_ENGINE,
        *BACKENDS,
    },
    "wasi": {"arguments", "engine", "mounting", "sources", "stdio", "closing", *BELOW_ENGINE, *BACKENDS},
    "progress": {"fs_backends.base"},
    "inspection": {"engine", *BELOW_ENGINE},
    "cli": {
        "",
        "inspection",
        "progress",
        "arguments",
        "sandbox",
        "wasi",
        "engine",
        "mounts",
        "mount_options",
        "sources",
        "stdio",
        *BELOW_ENGINE,
        *BACKENDS,
    },
    "__main__": {"cli"},
    "testing": {"", "errors", *BACKENDS},
    "": {"sandbox", "result", "wasi", "mounts", "mount_options", "limits", "errors", *BACKENDS},
}

# Foreign package -> the rooms that may import it while the program runs.
FOREIGN = {"wasmtime": {"engine"}, "fsspec": {"fs_backends", "sources", "source_text"}, "fs": {"fs_backends"}}


def room_of(dotted: str) -> str:
    """The room of a module, named within the package: "kernel.poll" -> "kernel"."""
    fitting = [room for room in MAY_IMPORT if room and (dotted == room or dotted.startswith(room + "."))]
    assert fitting or not dotted, f"the module {dotted} stands in no room of the table above"
    return max(fitting, key=len, default="")


def dotted_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def running_code(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`."""
    yield node
    guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    children = node.orelse if isinstance(node, ast.If) and guarded else ast.iter_child_nodes(node)
    for child in children:
        yield from running_code(child)


def imports_of(path: Path, code: str | None = None) -> Iterator[tuple[str, str]]:
    """("own", dotted name in the package) and ("foreign", top-level package) of each import that runs in the module at
    `path`, or in `code` if it stood there."""
    own = dotted_name(path)
    package = own.split(".") if path.name == "__init__.py" else own.split(".")[:-1]
    names = [part for part in package if part]
    known = {dotted_name(module) for module in MODULES}
    for node in running_code(ast.parse(path.read_text() if code is None else code, str(path))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["vfswasi", *names[: len(names) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            found = [
                ".".join([*base, alias.name]) if ".".join([*base[1:], alias.name]) in known else ".".join(base)
                for alias in node.names
            ]
        else:
            continue
        for name in found:
            top, _, rest = name.partition(".")
            yield ("own", rest) if top == "vfswasi" else ("foreign", top)


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_imports_point_down(path: Path) -> None:
    room = room_of(dotted_name(path))
    for kind, name in imports_of(path):
        if kind == "own":
            assert room_of(name) in MAY_IMPORT[room] | {room}, f"{dotted_name(path)} imports {name or 'vfswasi'}"


def test_the_table_of_rooms_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {room for room, below in MAY_IMPORT.items() if room not in done and below <= done}
        assert ready, sorted(set(MAY_IMPORT) - done)
        done |= ready


@pytest.mark.parametrize("package", FOREIGN)
def test_only_its_room_imports_a_foreign_package(package: str) -> None:
    importers = {dotted_name(path) for path in MODULES if ("foreign", package) in imports_of(path)}
    assert {room_of(name) for name in importers} <= FOREIGN[package], importers
    if package == "wasmtime":
        assert importers, "the check sees nothing"


def test_the_check_sees_what_it_must_see() -> None:
    code = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import wasmtime
else:
    import fs
def late():
    from fsspec.core import open
    from ..engine import host
    from .. import errors
    import vfswasi.cli.main
"""
    assert set(imports_of(PACKAGE / "kernel" / "process.py", code)) == {
        ("foreign", "fs"),
        ("foreign", "fsspec"),
        ("foreign", "typing"),
        ("own", "cli"),
        ("own", "engine.host"),
        ("own", "errors"),
    }


HEAVY = ("s3fs", "fs", "botocore", "aiohttp", "pytest", "hypothesis", "fsspec", "numpy")


def test_importing_the_package_imports_no_storage_library_and_no_test_tool() -> None:
    code = "import sys, vfswasi, vfswasi.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"vfswasi", "wasmtime"} <= loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_no_module_needs_a_scroll_map(path: Path) -> None:
    assert len(path.read_text().splitlines()) < LINES_MAX, "split it by verb"


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_files_are_named_by_what_they_do(path: Path) -> None:
    assert not {"utils", "util", "helpers", "helper", "manager", "misc", "common"} & set(
        re.split(r"[._]", dotted_name(path))
    )


@pytest.mark.parametrize("name", guest_names())
def test_every_guest_program_is_run_by_some_test(name: str) -> None:
    assert (GUESTS / f"{name}.c").exists()
    named = re.compile(rf"""["']{re.escape(name)}["']""")
    me = Path(__file__)
    tests = [path for path in me.parent.rglob("test_*.py") if path != me and named.search(path.read_text())]
    assert tests, f"tests/guests/{name}.c is not run by any test"
