"""The house stays as ARCHITECTURE.md draws it: imports point down, and every room has one job."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vfswasi"
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES_MAX = 450

# Room -> rooms it may import from, beside itself.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "fs_backends": {"errors"},
    "abi": {"errors", "fs_backends.base"},
    "kernel": {"errors", "fs_backends.base", "abi.constants"},
    "syscalls": {"errors", "fs_backends.base", "abi", "kernel"},
    "limits": set(),
    "engine": {"errors", "abi", "kernel", "syscalls", "limits", "fs_backends.base"},
    "stdio": {"kernel"},
    "mounts": {"errors", "fs_backends", "kernel"},
    "sandbox": {"errors", "engine", "kernel", "limits", "mounts", "stdio", "fs_backends"},
    "wasi": {"errors", "engine", "kernel", "abi", "limits", "mounts", "sandbox", "stdio"},
    "testing": {"errors", "fs_backends"},
    "cli": {"", "errors", "engine", "fs_backends", "mounts", "sandbox"},
    "__main__": {"cli"},
    "__init__": {"errors", "fs_backends", "limits", "mounts", "sandbox", "wasi"},
}


def _name(path: Path) -> str:
    """The module below the package: "kernel.resolve", "errors", "__init__"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imports(path: Path) -> set[str]:
    """Absolute names of all that a module imports, except what only type checkers see."""
    package = ("vfswasi", *path.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                below = PACKAGE.parent / Path(*f"{module}.{alias.name}".split("."))
                is_module = below.with_suffix(".py").exists() or (below / "__init__.py").exists()
                found.add(f"{module}.{alias.name}" if is_module else module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_point_down(path: Path) -> None:
    name = _name(path)
    room = name.split(".")[0]
    for imported in _imports(path):
        if imported != "vfswasi" and not imported.startswith("vfswasi."):
            continue
        target = imported.removeprefix("vfswasi").removeprefix(".")
        if target.split(".")[0] == room:
            continue
        allowed = BELOW[room]
        assert target in allowed or target.split(".")[0] in allowed, f"{name} imports {imported}"


def test_abi_is_pure() -> None:
    for path in (PACKAGE / "abi").glob("*.py"):
        allowed = {"__future__", "dataclasses", "struct", "typing"}
        assert all(name in allowed or name.startswith("vfswasi.abi") for name in _imports(path)), path


@pytest.mark.parametrize(
    ("library", "rooms"),
    [("wasmtime", ("engine",)), ("fsspec", ("fs_backends",)), ("fs", ("fs_backends",)), ("pytest", ("testing",))],
)
def test_each_library_has_one_room(library: str, rooms: tuple[str, ...]) -> None:
    for path in MODULES:
        if any(name.split(".")[0] == library for name in _imports(path)):
            assert _name(path).split(".")[0] in rooms, path


def test_importing_the_package_imports_no_client_and_no_test_tool() -> None:
    program = "import sys, vfswasi; print(' '.join(sorted(name.split('.')[0] for name in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"s3fs", "fs", "botocore", "boto3", "aiohttp", "requests", "pytest", "hypothesis", "fsspec"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_module_needs_a_scroll_map(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def test_the_public_names_are_sorted_and_exist() -> None:
    import vfswasi

    assert all(hasattr(vfswasi, name) for name in vfswasi.__all__)
    assert len(set(vfswasi.__all__)) == len(vfswasi.__all__)
