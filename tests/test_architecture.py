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
LINES_MAX = 400
FILES_MAX = 12  # in one folder, without those below it
SHARE_MAX = 0.3  # of all lines, in one folder, without those below it

# Room -> the rooms whose modules it may import, beside its own. A room is the longest matching prefix of a module's
# dotted name within the package; "" is the package itself, which gathers the public names. The order is from the
# ground floor up.
PROTOCOL = {
    "errors",
    "logs",
    "records",
    "fs_backends.base",
    "fs_backends.budget",
    "fs_backends.charge",
    "fs_backends.staging.pages",
    "fs_backends.staging.slots",
    "fs_backends.staging.space",
    "fs_backends.turns",
    "fs_backends.waiting",
}
BACKENDS = PROTOCOL | {"fs_backends"}
BELOW_KERNEL = PROTOCOL | {"limits", "abi.constants", "clock", "printing"}
BELOW_ENGINE = BELOW_KERNEL | {"abi", "kernel", "syscalls", "printing", "holders", "optional"}
BELOW_HOST = BELOW_ENGINE | BACKENDS | {"engine", "mounts", "observe"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": {"printing"},
    "records": set(),
    "logs": set(),
    "printing": set(),
    "holders": set(),
    "clock": {"records"},
    "optional": {"errors"},
    "abi.constants": set(),
    "abi": {"abi.constants"},
    "fs_backends.base": {"errors", "records"},
    "fs_backends.budget": {"errors", "printing"},
    "limits": {"fs_backends.budget", "records"},
    "fs_backends.turns": {"fs_backends.base"},
    "fs_backends.charge": {"fs_backends.budget"},
    "fs_backends.waiting": {"fs_backends.budget", "fs_backends.turns", "errors"},
    "fs_backends.staging.slots": {"fs_backends.base", "errors"},
    "fs_backends.staging.pages": {"fs_backends.waiting"},
    "fs_backends.staging.space": {
        "fs_backends.base",
        "fs_backends.staging.pages",
        "fs_backends.staging.slots",
        "fs_backends.waiting",
        "errors",
    },
    "kernel": BELOW_KERNEL,
    "syscalls": BELOW_KERNEL | {"abi", "kernel"},
    "engine": BELOW_ENGINE,
    "fs_backends": PROTOCOL | {"clock", "optional", "printing"},
    "mounts": BACKENDS | {"clock", "holders", "kernel", "limits", "optional", "printing"},
    "observe": BACKENDS
    | {"abi", "abi.constants", "clock", "kernel", "limits", "mounts", "optional", "printing", "syscalls"},
    "host": BELOW_HOST,
    "cli": BELOW_HOST | {"", "host"},
    "__main__": {"cli"},
    "testing": BACKENDS | {"", "abi", "limits", "mounts", "observe", "printing"},
    "": BACKENDS | {"clock", "host", "limits", "mounts", "observe"},
}

# Foreign package -> the rooms that may import it while the program runs.
FOREIGN = {"wasmtime": {"engine"}, "fsspec": {"fs_backends", "mounts"}, "fs": {"fs_backends"}}


def room_of(dotted: str) -> str:
    """The room of a module, named within the package: "kernel.poll" -> "kernel"."""
    fitting = [room for room in MAY_IMPORT if room and (dotted == room or dotted.startswith(room + "."))]
    assert fitting or not dotted, f"the module {dotted} stands in no room of the table above"
    return max(fitting, key=len, default="")


def dotted_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def running_code(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`, which may name what stands above."""
    yield node
    guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    children = node.orelse if isinstance(node, ast.If) and guarded else ast.iter_child_nodes(node)
    for child in children:
        yield from running_code(child)


def imports_of(path: Path, code: str | None = None, types: bool = False) -> Iterator[tuple[str, str]]:
    """("own", dotted name in the package) and ("foreign", top-level package) of each import that runs in the module at
    `path`, or in `code` if it stood there. `types`: with those that are for types only."""
    own = dotted_name(path)
    package = own.split(".") if path.name == "__init__.py" else own.split(".")[:-1]
    names = [part for part in package if part]
    known = {dotted_name(module) for module in MODULES}
    tree = ast.parse(path.read_text() if code is None else code, str(path))
    for node in ast.walk(tree) if types else running_code(tree):
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


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of more than one node of which each leads to all others."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            for below in graph[todo.pop()] - found:
                found.add(below)
                todo.append(below)
        return found

    reach = {node: reached(node) for node in graph}
    found: list[set[str]] = []
    for node, below in reach.items():
        if node in below and not any(node in circle for circle in found):
            found.append({other for other in below if node in reach[other]})
    return found


def test_no_modules_import_each_other_in_a_circle_for_types_neither() -> None:
    graph = {
        dotted_name(path): {name for kind, name in imports_of(path, types=True) if kind == "own"} for path in MODULES
    }
    assert circles({node: below & set(graph) - {node} for node, below in graph.items()}) == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d2"}, "d2": {"e"}, "e": {"d2"}}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["d2", "e"]]
    assert circles({"a": {"b"}, "b": set()}) == []


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
    import vfswasi.cli.command
"""
    assert set(imports_of(PACKAGE / "kernel" / "process.py", code)) == {
        ("foreign", "fs"),
        ("foreign", "fsspec"),
        ("foreign", "typing"),
        ("own", "cli.command"),
        ("own", "engine.host"),
        ("own", "errors"),
    }


# Foreign packages, what is slow to import of the standard library, and own modules that only some runs need.
HEAVY = ("s3fs", "fs", "botocore", "aiohttp", "pytest", "hypothesis", "fsspec", "numpy")
SLOW = (
    *("subprocess", "zipfile", "tarfile", "tempfile", "shutil", "ssl", "socket", "email", "http", "urllib.request"),
    *(
        "concurrent.futures",
        "multiprocessing",
        "asyncio",
        "importlib.metadata",
        "json",
        "random",
        "bz2",
        "lzma",
        "zlib",
    ),
    *(
        "dataclasses",
        "inspect",
        "logging",
        "traceback",
        "argparse",
        "unittest",
        "xml",
        "html",
        "decimal",
        "datetime",
        "secrets",
        "base64",
    ),
)
LATE = (
    *("mounts.finding.sources", "mounts.finding.stores", "host.wasi", "cli.inspect", "cli.command", "engine.embedding"),
    *(f"fs_backends.{name}" for name in ("archive", "remote", "trust", "local", "pyfilesystem", "staging", "devices")),
)


def loaded_by(code: str) -> set[str]:
    """Modules that a new interpreter has loaded after `code`, and not before."""
    code = f"import sys, ctypes, wasmtime; before = set(sys.modules); {code}; print(*sys.modules.keys() - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_no_storage_library_and_no_test_tool() -> None:
    loaded = {
        name.partition(".")[0]
        for name in loaded_by("import vfswasi, vfswasi.cli.command, vfswasi.mounts.finding.sources, vfswasi.host.wasi")
    }
    assert "vfswasi" in loaded
    assert loaded.isdisjoint(HEAVY)


EMPTY = r"""b'(module (memory (export \"memory\") 1) (func (export \"_start\")))'"""


@pytest.mark.parametrize("code", ["import vfswasi", f"import vfswasi; vfswasi.run({EMPTY})"], ids=["import", "run"])
def test_what_a_small_run_does_not_need_is_not_loaded(code: str) -> None:
    loaded = loaded_by(code)
    assert ("vfswasi.engine.runner" in loaded) == ("run" in code)
    assert loaded.isdisjoint(SLOW)
    assert loaded.isdisjoint(f"vfswasi.{name}" for name in LATE)


@pytest.mark.parametrize("run", [False, True], ids=["import", "run"])
def test_the_command_line_loads_no_storage_before_it_is_mounted_and_no_rewriter_before_it_compiles(
    run: bool, tmp_path: Path
) -> None:
    program = tmp_path / "empty.wasm"
    program.write_text('(module (memory (export "memory") 1) (func (export "_start")))')
    loaded = loaded_by(
        "import vfswasi.cli.command" + (f"; vfswasi.cli.command.main(['run', {str(program)!r}])" if run else "")
    )
    assert run or "vfswasi.engine.interruption.rewriting" not in loaded
    assert loaded.isdisjoint(set(SLOW) - {"argparse", "logging", "traceback"})
    assert loaded.isdisjoint({f"vfswasi.{name}" for name in LATE} - {"vfswasi.cli.command"})


def test_every_public_name_is_there_when_it_is_asked_for() -> None:
    import vfswasi

    assert set(dir(vfswasi)) == {*vfswasi.__all__, "__version__"}
    fresh = "import vfswasi; print(*dir(vfswasi))"  # where none that is imported late has been imported yet
    done = subprocess.run([sys.executable, "-c", fresh], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == dir(vfswasi)
    for name in vfswasi.__all__:
        assert getattr(vfswasi, name) is not None
    with pytest.raises(AttributeError, match="NoSuchName"):
        vfswasi.NoSuchName  # noqa: B018
    assert (vfswasi.PIPE, vfswasi.DEVNULL, vfswasi.STDOUT) == (subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT)


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_no_module_is_long(path: Path) -> None:
    text = path.read_text()
    reason = "Longer than other files: " in (ast.get_docstring(ast.parse(text)) or "")
    assert len(text.splitlines()) <= (LINES_MAX + 50 if reason else LINES_MAX), "split it by verb"


def test_no_folder_is_crowded() -> None:
    files: dict[Path, list[int]] = {}
    for path in MODULES:
        files.setdefault(path.parent, []).append(len(path.read_text().splitlines()))
    lines = sum(map(sum, files.values()))
    for folder, found in files.items():
        assert len(found) <= FILES_MAX, folder
        assert sum(found) <= SHARE_MAX * lines, folder


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_every_folder_says_what_it_is(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def test_the_page_about_the_rooms_knows_them_all_and_names_none_that_is_not_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    tree, rest = page.split("```")[1], page.split("```")[2]
    for path in MODULES:
        if path.name == "__init__.py":
            assert path.parent == PACKAGE or f"{path.parent.name}/" in tree, path
    for name in re.findall(r"`((?:[a-z0-9_]+/)+(?:[a-z0-9_]+\.[a-z]+)?)`", rest):
        assert (PACKAGE / name).exists() or (ROOT / name).exists(), name
    named = set(re.findall(r"[a-z0-9_]+\.(?:py|wat)\b", tree))
    assert named <= {path.name for path in PACKAGE.rglob("*.*")}


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
