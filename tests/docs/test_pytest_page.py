"""The page about pytest is a story: its files are written and its commands run one after another, and what pytest
prints is what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pytest.md"
REST = "..."  # a line of the page that stands for any lines


def test_the_story_happens_as_it_is_told(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "wordcount.wasm", tmp_path)
    outcomes = []
    for language, text in _blocks(PAGE.read_text()):
        if language == "python":
            name = re.match(r"# (test_\w+\.py)\n", text)
            assert name, f"the first line of a block names its file: {text}"
            (tmp_path / name[1]).write_text(text)
            continue
        for command, expected in _commands(text):
            done = _run(command.split(), tmp_path)
            outcomes.append(done.returncode)
            shown = _comparable(done.stdout)
            assert _fits(_comparable(expected), shown), f"$ {command}\n{done.stdout}\n{done.stderr}"
    assert outcomes[0] == 1, "it begins with a test that fails"
    assert outcomes[-1] == 0, "it ends well"


def test_every_block_of_the_page_is_looked_at() -> None:
    text = PAGE.read_text()
    assert text.count("```") == 2 * len(list(_blocks(text)))
    assert sum(language == "python" for language, _ in _blocks(text)) >= 6


def test_what_fits_is_what_is_shown() -> None:
    shown = ["a", "b", "c", "d"]
    for page in (["a", "b", "c", "d"], ["...", "c", "d"], ["a", "..."], ["a", "...", "d"], ["...", "b", "...", "d"]):
        assert _fits(page, shown), page
    for page in (
        ["a", "b", "c"],
        ["b", "..."],
        ["...", "c"],
        ["a", "...", "c"],
        ["a", "d"],
        ["...", "d", "...", "c", "..."],
    ):
        assert not _fits(page, shown), page


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    for block in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield block[1], block[2]


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for command in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        yield command[1], command[2]


def _run(words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    assert words[0] in ("pytest", "cat"), words
    words = [sys.executable, "-m", *words] if words[0] == "pytest" else words
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER", "FORCE_COLOR")},
        "PYTHONPATH": str(ROOT),
        "PYTEST_PLUGINS": "vfswasi.testing.pytest_plugin",
        "COLUMNS": "80",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)


def _comparable(text: str) -> list[str]:
    """Without times, and the marks below expressions, which only some versions of Python have."""
    lines = [re.sub(r"\bin \d+\.\d+s", "in 0.10s", line.rstrip()) for line in text.splitlines()]
    return [line for line in lines if line and not re.fullmatch(r"[ ^~]+", line)]


def _fits(page: list[str], shown: list[str]) -> bool:
    """Whether the lines of the page are those that were shown, where `...` may be any of them."""
    parts: list[list[str]] = [[]]
    for line in page:
        if line == REST:
            parts.append([])
        else:
            parts[-1].append(line)
    first, *others = parts
    if shown[: len(first)] != first or (not others and len(shown) != len(first)):
        return False
    at = len(first)
    for number, part in enumerate(others):
        starts = range(at, len(shown) - len(part) + 1)
        if number == len(others) - 1:
            starts = range(max(at, len(shown) - len(part)), len(shown) - len(part) + 1)
        found = next((start for start in starts if shown[start : start + len(part)] == part), None)
        if found is None:
            return False
        at = found + len(part)
    return True
