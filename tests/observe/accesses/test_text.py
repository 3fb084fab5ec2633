"""Accesses as JSON: what was written is read, and a stranger's text does nothing but fail."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vfswasi import Accesses, Mount, Symlink

from .looking import looked

TREE: dict[str, Any] = {"a": b"hello", "sub": {"b": b"0123456789"}, "l\xe4nk": Symlink("a")}
WORDS = (
    *("list", "/d", "when", "/d/a", "part", "/d/sub/b", "1", "2", "part", "/d/sub/b", "5", "1", "read", "/d/l\xe4nk"),
    *("create", "/d/new", "x", "rm", "/d/a", "there", "/d/no", "stat", "/dev/null", "part", "/dev/zero", "0", "1"),
    *("read", "/e/sub/b"),
)


@pytest.fixture(scope="module")
def accesses() -> Accesses:
    return looked({"/d": TREE, "/dev": "dev:", "/e": Mount(TREE, overlay=True)}, *WORDS)


def test_there_and_back(accesses: Accesses, tmp_path: Path) -> None:
    text = accesses.to_json()
    assert Accesses.from_json(text) == Accesses.from_json(text.encode()) == accesses
    accesses.save(tmp_path / "a.json")
    accesses.save(tmp_path / "a.json")  # in the place of the other
    assert Accesses.load(tmp_path / "a.json") == accesses
    assert (tmp_path / "a.json").read_text() == text
    with pytest.raises(FileNotFoundError):
        Accesses.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        accesses.save(tmp_path)


def _first(told: dict[str, Any]) -> dict[str, Any]:
    mount: dict[str, Any] = told["mounts"]["/d"]
    return mount


def _access(field: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: _first(told)["accesses"][1].update({field: value})


def _mount(field: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: _first(told).update({field: value})


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda told: told.update(format="vfswasi accesses 2"),
    "more": lambda told: told.update(more=1),
    "no mounts": lambda told: told.pop("mounts"),
    "mounts": lambda told: told.update(mounts=[]),
    "a mount": lambda told: told["mounts"].update({"/d": 3}),
    "its name": lambda told: told["mounts"].update({"\ud800": _first(told)}),
    "its parts": _mount("more", 1),
    "its list": _mount("accesses", {}),
    "its way": _mount("way", 3),
    "its times": _mount("times", "never"),
    "its start": _mount("start", "ff"),
    "its abilities": _mount("caps", 1.5),
    "its doubt": _mount("unsure", ["x"]),
    "an access": lambda told: _first(told)["accesses"].append(3),
    "the order": lambda told: _first(told)["accesses"].reverse(),
    "twice": lambda told: _first(told)["accesses"].append(_first(told)["accesses"][-1]),
    "dots": _access("path", "a/../../etc/passwd"),
    "a slash": _access("path", "/etc/passwd"),
    "an empty name": _access("path", "a//b"),
    "a long name": _access("path", "a" * 256),
    "a zero": _access("path", "a\0"),
    "no path": lambda told: _first(told)["accesses"][1].pop("path"),
    "a kind": _access("found", "socket"),
    "a flag": _access("listed", 1),
    "ranges": _access("read", 3),
    "a range": _access("read", [[1, 2, 3]]),
    "backwards": _access("read", [[5, 2]]),
    "over each other": _access("read", [[1, 5], [4, 6]]),
    "below zero": _access("read", [[-1, 5]]),
    "too far": _access("read", [[1, 1 << 70]]),
    "a float": _access("size", 5.0),
    "true": _access("size", True),
    "a digest": _access("digest", "x" * 64),
    "attributes": _access("attributes", [1, 2]),
    "an attribute": _access("attributes", [1, 2, "3", 4]),
    "an order": _access("order", "x"),
    "left out": _access("but", ["../x"]),
    "a version": _access("version", 3),
    "a field": _access("colour", "red"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused(accesses: Accesses, wrong: str) -> None:
    told = json.loads(accesses.to_json())
    WRONG[wrong](told)
    with pytest.raises(ValueError, match=r"these are no accesses|is no JSON"):
        Accesses.from_json(json.dumps(told))


@pytest.mark.parametrize(
    "text",
    ["", "3", "null", "[" * 100_000, '{"format": NaN}', '{"a": 1, "a": 2}', b"\xff\xfe\xfd", "9" * 10_000, '"\\ud800"'],
    ids=["empty", "number", "null", "deep", "nan", "twice", "bytes", "digits", "surrogate"],
)
def test_what_is_none_at_all_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"these are no accesses|is no JSON"):
        Accesses.from_json(text)


def test_random_damage_is_refused_or_is_other_accesses(accesses: Accesses) -> None:
    rng = random.Random(1)
    data = accesses.to_json().encode()
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b'{}[]",:0123456789abtrue \\\x00\xff')
        try:
            found = Accesses.from_json(bytes(damaged))
        except ValueError:
            continue
        assert Accesses.from_json(found.to_json()) == found
        found.hold({"/d": TREE, "/dev": "dev:", "/e": Mount(TREE, overlay=True)})
