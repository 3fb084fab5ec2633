"""Classes made by `record` are dataclasses to whoever asks."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

import vfswasi
from vfswasi import records
from vfswasi.fs_backends.base import Traffic

Make = Any


def _described(record: Make, field: Make) -> tuple[Any, Any]:
    """The same two classes, made either way."""

    @record(frozen=True, slots=True)
    class Fixed:
        """Words."""

        first: int
        second: str = "two"

        def __post_init__(self) -> None:
            if self.first < 0:
                raise ValueError("below 0")

        def third(self) -> int:
            return self.first + 2

    @record(frozen=False, slots=False)
    class Loose:
        first: int = 1
        second: list[int] = field(default_factory=list, repr=False, compare=False)

    return Fixed, Loose


PAIRS = list(
    zip(_described(records.record, records.field), _described(dataclasses.dataclass, dataclasses.field), strict=True)
)
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((3,), {}),
    ((3, "x"), {}),
    ((3, "x", 4), {}),
    ((), {"first": 3}),
    ((), {"second": "x"}),
    ((3,), {"first": 3}),
    ((3,), {"other": 3}),
    ((-1,), {}),
    ((), {"self": 1}),
]


def _outcome(function: Any, *args: Any, **options: Any) -> Any:
    try:
        return function(*args, **options)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("call", CALLS, ids=repr)
@pytest.mark.parametrize("pair", PAIRS, ids=["fixed", "loose"])
def test_they_are_made_and_shown_as_dataclasses_are(pair: tuple[Any, Any], call: Any) -> None:
    ours, theirs = (_outcome(kind, *call[0], **call[1]) for kind in pair)
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert repr(ours) == repr(theirs)
    assert (ours.first, ours.second) == (theirs.first, theirs.second)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(dataclasses.replace(ours, first=7)) == repr(dataclasses.replace(theirs, first=7))
    assert _outcome(setattr, ours, "first", 5) == _outcome(setattr, theirs, "first", 5)
    assert _outcome(setattr, ours, "unknown", 5) in (
        _outcome(setattr, theirs, "unknown", 5),
        dataclasses.FrozenInstanceError,
    )
    assert _outcome(delattr, ours, "first") == _outcome(delattr, theirs, "first")
    assert _outcome(hash, theirs) == _outcome(hash, ours)


@pytest.mark.parametrize("pair", PAIRS, ids=["fixed", "loose"])
def test_what_is_told_of_the_class_is_the_same(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    assert dataclasses.is_dataclass(ours)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert ours.__match_args__ == theirs.__match_args__
    assert [(field.name, field.default) for field in dataclasses.fields(ours)] == [
        (field.name, field.default) for field in dataclasses.fields(theirs)
    ]
    assert [hasattr(ours(first=1), "__dict__"), ours.__hash__ is None] == [
        hasattr(theirs(first=1), "__dict__"),
        theirs.__hash__ is None,
    ]


def test_equality_is_that_of_the_fields_that_are_compared() -> None:
    fixed, loose = (pair[0] for pair in PAIRS)
    assert fixed(1) == fixed(1, "two") != fixed(2)
    assert len({fixed(1), fixed(1), fixed(2)}) == 2
    assert loose(1, [1]) == loose(1, [2])
    assert loose().second is not loose().second
    assert fixed(1) != (1, "two")


PUBLIC: list[Any] = [
    vfswasi.Limits(fuel=5),
    vfswasi.Usage(1.5),
    vfswasi.Mount({"f": b"x"}, rw=False),
    vfswasi.Symlink("target"),
    Traffic(1, 2, 3),
    vfswasi.Result(["a"], 3, b"out", fast_calls={"fd_read": 1}),
]


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: type(value).__name__)
def test_the_public_ones_can_be_copied_pickled_replaced_and_subclassed(value: Any) -> None:
    kind = type(value)
    assert kind.__doc__
    assert kind.__module__.startswith("vfswasi.")
    for same in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), dataclasses.replace(value)):
        assert type(same) is kind
        assert same == value
        assert repr(same) == repr(value)
    names = [field.name for field in dataclasses.fields(value)]
    assert list(inspect.signature(kind).parameters) == names
    more = dataclasses.dataclass(frozen=kind.__hash__ is not None)(type("More", (kind,), {}))
    assert more(*(getattr(value, name) for name in names)).__class__ is more
    match value:
        case vfswasi.Limits(wall_seconds=seconds):
            assert seconds == 3600
        case vfswasi.Symlink(target):
            assert target == "target"
