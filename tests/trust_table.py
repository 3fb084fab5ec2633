"""python -m tests.trust_table: write the tables of docs/trust.md again, from the classes of fsspec and PyFilesystem2.

Of each implementation in fsspec's registry, and each file system class of PyFilesystem2, what becomes of one that is
mounted. A class of a package that is not installed is looked up by the name that fsspec has for it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
import warnings
from pathlib import Path
from typing import Any

from vfswasi.fs_backends import trust
from vfswasi.fs_backends.trust import Nature
from vfswasi.fs_backends.trust import fsspec as for_fsspec
from vfswasi.fs_backends.trust import pyfilesystem as for_pyfilesystem

PAGE = Path(__file__).parents[1] / "docs" / "trust.md"
BEGIN = "<!-- made by python -m tests.trust_table -->"
END = "<!-- until here -->"

LOCAL = "a local directory, as if its path had been given"
FORWARDS = "not itself: what it forwards to, under the same rule"
REFUSED = "refused, unless trusted"


def about(nature: Nature) -> str:
    """What is done with a store of a nature."""
    if nature is trust.UNKNOWN:
        return REFUSED
    if nature.resolves:
        return f"{nature.about}: mounted from its root; a part of it is refused, unless trusted"
    return f"mounted: {nature.about}"


def of_fsspec(name: str) -> str:
    """What becomes of a file system of fsspec whose class a package shows as `name`."""
    if name == for_fsspec.LOCAL:
        return LOCAL
    if name in for_fsspec.CACHES:
        return f"{FORWARDS}; with compression refused"
    if name in (for_fsspec.DIRECTORY, for_fsspec.ASYNC):
        return FORWARDS
    if name == for_fsspec.ARROW:
        return "by what is in it: a local directory, a bucket, what pyarrow forwards to; else refused, unless trusted"
    if name == for_fsspec.GENERIC:
        return "refused: mount the URL"
    if name == for_fsspec.REFERENCE:
        return "refused without the option `reference`; with it mounted, to be read"
    return about(for_fsspec.NATURES.get(name, trust.UNKNOWN))


def of_pyfilesystem(name: str) -> str:
    """The same for PyFilesystem2."""
    if name in for_pyfilesystem.LOCAL:
        return LOCAL
    if name in for_pyfilesystem.WRAPPERS:
        return FORWARDS
    if name in for_pyfilesystem.PACKED:
        return "mounted: a temporary directory of its own"
    if name in for_pyfilesystem.COMPOSITES:
        return "mounted if each part of it would be and none is a local directory; else refused, unless trusted"
    return about(for_pyfilesystem.NATURES.get(name, trust.UNKNOWN))


def implementations() -> dict[str, str]:
    """Protocol -> name of the class, as fsspec itself has them; what other packages register is left out."""
    for node in ast.parse(inspect.getsource(importlib.import_module("fsspec.registry"))).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "known_implementations":
            return {name: about["class"] for name, about in ast.literal_eval(node.value).items()}
    raise AssertionError("fsspec.registry has no known_implementations")


def classes_of_pyfilesystem() -> list[str]:
    """The names of all classes that are file systems."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the original imports pkg_resources, which warns
        library = importlib.import_module("fs.base")
        package = importlib.import_module("fs")
        found = set()
        for module in pkgutil.iter_modules(package.__path__, "fs."):
            if module.name == "fs.test" or module.ispkg:
                continue
            members: dict[str, Any] = vars(importlib.import_module(module.name))
            for name, cls in members.items():
                if inspect.isclass(cls) and issubclass(cls, library.FS) and cls.__module__ == module.name:
                    found.add(f"{module.name}.{name}")
    return sorted(found)


def table() -> str:
    """The table as the page has it."""
    by_class: dict[str, list[str]] = {}
    for protocol, name in implementations().items():
        by_class.setdefault(name, []).append(protocol)
    rows = ["| protocol of fsspec | class | what becomes of it |", "|---|---|---|"]
    for name in sorted(by_class, key=lambda name: sorted(by_class[name])):
        protocols = " ".join(f"`{protocol}`" for protocol in sorted(by_class[name]))
        rows.append(f"| {protocols} | `{name}` | {of_fsspec(name)} |")
    for name in sorted({*for_fsspec.NATURES, for_fsspec.ARROW, for_fsspec.GENERIC} - set(by_class)):
        rows.append(f"|  | `{name}` | {of_fsspec(name)} |")
    rows += ["", "| class of PyFilesystem2 | what becomes of it |", "|---|---|"]
    for name in sorted({*classes_of_pyfilesystem(), *for_pyfilesystem.NATURES}):
        rows.append(f"| `{name}` | {of_pyfilesystem(name)} |")
    return "\n".join(rows)


def parts() -> tuple[str, str, str]:
    """(what stands before the table, the table, what stands behind it)"""
    before, _, rest = PAGE.read_text().partition(BEGIN + "\n")
    middle, _, behind = rest.partition(END)
    return before, middle.strip(), behind


def main() -> int:
    before, _, behind = parts()
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{behind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
