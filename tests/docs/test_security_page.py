"""docs/security.md: every promise names tests that exist, and its table of limits is what the code has."""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import re
from pathlib import Path

import pytest

from vfswasi.limits import Limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The rows of a table, without its head."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


PROMISES = rows(section("What holds"))
NAMED = sorted({name for _, tests in PROMISES for name in re.findall(r"`([^`]*)`", tests)})


def test_there_are_promises_and_each_names_a_test() -> None:
    assert len(PROMISES) > 20
    for promise, tests in PROMISES:
        assert re.search(r"`tests/\S+::test_\w+`", tests), promise


@pytest.mark.parametrize("name", NAMED)
def test_the_tests_of_a_promise_exist(name: str) -> None:
    path, _, test = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_tests_of_a_promise_are_run() -> None:
    """No name of a test that is skipped or expected to fail stands for a promise."""
    for name in NAMED:
        path, _, test = name.partition("::")
        for node in ast.parse((ROOT / path).read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == test:
                marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
                assert "mark.skip(" not in marks, name
                assert "mark.xfail" not in marks, name


ATTACKS = rows(section("Attacks, one by one"))


@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=[what for _, what, _ in ATTACKS])
def test_every_attack_is_made(number: int) -> None:
    """Each pattern of the table fits the name of a test that is there."""
    patterns = re.findall(r"`(tests/[^`]*)`", ATTACKS[number][2])
    assert patterns
    for pattern in patterns:
        path, _, test = pattern.partition("::")
        names = [node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert fnmatch.filter(names, test), pattern


HOLES = rows(section("Holes of other hosts"))


def test_every_hole_of_another_host_is_a_test() -> None:
    assert len(HOLES) >= 5
    for hole, _, tests in HOLES:
        patterns = re.findall(r"`(tests/[^`]*)`", tests)
        assert patterns, hole
        for pattern in patterns:
            path, _, test = pattern.partition("::")
            tree = ast.parse((ROOT / path).read_text())
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, pattern


def test_the_table_of_limits_is_the_code() -> None:
    told = {name.strip("`"): default for name, default, _ in rows(section("Limits"))}
    assert list(told) == [field.name for field in dataclasses.fields(Limits)]
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    for name, text in told.items():
        number, _, unit = text.replace(",", "").partition(" ")
        value = None if number == "None" else int(number) * units.get(unit, 1)
        assert value == getattr(Limits(), name), name


def test_the_policy_points_to_the_page() -> None:
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text()
