"""What the documentation shows works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vfswasi.abi.layouts import PREVIEW1

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{page.relative_to(ROOT)}:{page.read_text()[: match.start()].count(chr(10)) + 1}", match[1])
        for page in PAGES
        for match in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A place that looks like a clone: the examples, and the README's files beside them."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name in ("wordcount.wasm", "corpus.zip"):
        (tmp_path / name).symlink_to(ROOT / "examples" / name)
    (tmp_path / "results").mkdir()
    return tmp_path


def _environment(clone: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{clone}"}


@pytest.mark.parametrize(("where", "code"), _blocks("python"), ids=[where for where, _ in _blocks("python")])
def test_python_examples_run(where: str, code: str, clone: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=clone, env=_environment(clone), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{where}\n{done.stderr}"


def _commands() -> list[tuple[str, str, str]]:
    found = []
    for where, block in _blocks("console"):
        for command in re.finditer(r"^\$ (vfswasi .*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if "[options]" not in command[1]:
                found.append((where, command[1], command[2]))
    return found


@pytest.mark.parametrize(("where", "command", "output"), _commands(), ids=[c[1] for c in _commands()])
def test_commands_run_and_print_what_is_shown(where: str, command: str, output: str, clone: Path) -> None:
    argv = [sys.executable, "-m", "vfswasi", *shlex.split(command)[1:]]
    done = subprocess.run(argv, cwd=clone, env=_environment(clone), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{where}\n{done.stderr}"
    if output:
        assert done.stdout == output


def test_the_example_backend_in_the_docs_is_the_one_in_the_repository() -> None:
    page = (ROOT / "docs" / "writing-a-backend.md").read_text()
    assert (ROOT / "examples" / "mapping_backend.py").read_text().strip() in page


@pytest.mark.parametrize("function", PREVIEW1.functions)
def test_every_function_has_its_row_in_the_semantics(function: str) -> None:
    page = (ROOT / "docs" / "semantics.md").read_text()
    assert re.search(rf"^\| `{function}`", page, re.MULTILINE)


def test_demo_prints_the_report() -> None:
    argv = [sys.executable, "examples/demo.py"]
    done = subprocess.run(argv, cwd=ROOT, env=_environment(ROOT), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "3 files"
    assert done.stdout.splitlines()[-1].split() == ["15", "43", "233", "total"]
