"""W10: docs/security.md says which versions of wasmtime are safe, and why the installed one is."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from vfswasi.engine.compiling import features

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "security.md").read_text().split("\n## wasmtime\n", 1)[1].split("\n## ", 1)[0]
Version = tuple[int, ...]


def _rows(title: str) -> list[list[str]]:
    part = SECTION.split(f"### {title}\n", 1)[1].split("\n### ", 1)[0]
    lines = [line.strip().strip("|").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def _version(text: str) -> Version:
    return tuple(int(number) for number in text.split("."))


def _mended(installed: Version, mended_in: str) -> bool:
    """Whether a version is one of those, or a later one of its major version, or of a later major version."""
    versions = [_version(each) for each in mended_in.split(", ")]
    return installed[0] > max(versions)[0] or any(installed[0] == each[0] and installed >= each for each in versions)


ADVISORIES = _rows("Advisories")
INSTALLED = _version(version("wasmtime"))


@pytest.mark.parametrize(
    ("installed", "mended_in", "answer"),
    [
        ("50.0.1", "50.0.2", False),
        ("50.0.2", "50.0.2", True),
        ("50.1.0", "50.0.2", True),
        ("51.0.0", "50.0.2", True),
        ("48.0.4", "48.0.4, 49.0.2", True),
        ("49.0.1", "48.0.4, 49.0.2", False),
        ("47.0.9", "48.0.4, 49.0.2", False),
    ],
)
def test_what_counts_as_mended(installed: str, mended_in: str, answer: bool) -> None:
    assert _mended(_version(installed), mended_in) is answer


@pytest.mark.parametrize("row", ADVISORIES, ids=[row[0] for row in ADVISORIES])
def test_w10_every_advisory_is_mended_or_what_it_needs_is_off(row: list[str]) -> None:
    _, mended_in, _, here = row
    if here.startswith("mended"):
        assert _mended(INSTALLED, mended_in)
        return
    off = re.match(r"off: ((`[a-z0-9-]+`(, )?)+)\.", here)
    assert off, here
    for name in re.findall(r"`([^`]*)`", off[1]):
        assert name in features.ON_REQUEST
        assert features.wanted(features.NONE).isdisjoint(features.ON_REQUEST[name])


def test_w10_every_version_that_may_be_installed_is_as_safe() -> None:
    """The first version that the package takes, too."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (bounds,) = [each.removeprefix("wasmtime") for each in asked if each.startswith("wasmtime")]
    assert f"`wasmtime{bounds}`" in SECTION
    found = re.fullmatch(r">=([0-9.]+),<([0-9]+)", bounds)
    assert found
    first, end = _version(found[1]), _version(found[2])
    assert first <= INSTALLED < end
    for _, mended_in, _, here in ADVISORIES:
        assert not here.startswith("mended") or _mended(first, mended_in)


def test_w10_the_table_of_features_is_the_code() -> None:
    told = {name.strip("`"): state for name, state, _ in _rows("Features of WebAssembly")}
    parts = {name for name in features.settings() if name.startswith("component_model")}
    assert told.pop("component_model` and its parts") == "off"
    assert set(told) == set(features.settings()) - parts
    for setting, state in told.items():
        if setting in features.ALWAYS:
            assert state == "on"
        elif setting == "relaxed_simd_deterministic":
            assert state == "off; on in [deterministic runs](hermetic.md), with canonical NaNs"
        elif setting in features.ON_BY_DEFAULT:
            assert state == f"on; off with `no-{setting}`"
        else:
            asked = [name for name, of_it in features.ON_REQUEST.items() if setting in of_it]
            assert state == (f"off; on with `{asked[0]}`" if asked else "off")
