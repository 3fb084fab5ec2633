"""`Accesses` as JSON, and back. What is read may be a stranger's: it is looked at before it is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final, get_args

from ...fs_backends.layers.checked import fits_a_key
from .access import Access, Mounted, Type

_FORMAT: Final = "vfswasi accesses 1"
_FIELDS: Final = tuple(Access.__annotations__)
_OF_MOUNT: Final = tuple(Mounted.__annotations__)
_TYPES: Final = get_args(Type)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TEXT_MAX: Final = 1 << 16
_NUMBER_MAX: Final = 1 << 127
_SIZE_MAX: Final = 1 << 64


def to_json(mounted: Mapping[str, Mounted]) -> str:
    """See `Accesses.to_json`. What has its usual value is left out."""
    mounts = {}
    for name, mount in mounted.items():
        told = {field: getattr(mount, field) for field in _OF_MOUNT[:-1]}
        mounts[name] = {**told, "accesses": [_told(access) for access in mount.accesses]}
    return json.dumps({"format": _FORMAT, "mounts": mounts}, indent=1) + "\n"


def _told(access: Access) -> dict[str, Any]:
    usual = Access("", "missing")
    found = {"path": access.path, "found": access.found}
    for field in _FIELDS[2:]:
        if getattr(access, field) != getattr(usual, field):
            found[field] = getattr(access, field)
    return found


def from_json(text: str | bytes) -> dict[str, Mounted]:
    """See `Accesses.from_json`."""
    try:
        told = json.loads(text, object_pairs_hook=_no_name_twice, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON of accesses: {error}") from None
    _check(isinstance(told, dict) and told.keys() == {"format", "mounts"}, "it has other parts than it should have")
    _check(told["format"] == _FORMAT, f"its format is not {_FORMAT!r}")
    _check(isinstance(told["mounts"], dict), "its mounts are none")
    return {_text("a mount", name): _mount(mount) for name, mount in told["mounts"].items()}


def _mount(told: Any) -> Mounted:
    _check(isinstance(told, dict) and tuple(told) == _OF_MOUNT, "a mount has other parts than it should have")
    _check(isinstance(told["accesses"], list), "the accesses of a mount are no list")
    accesses = tuple(map(_access, told["accesses"]))
    keys = [tuple(access.path.split("/")) if access.path else () for access in accesses]
    _check(all(one < other for one, other in pairwise(keys)), "paths are not in order")
    _check(told["times"] in ("shown", "hidden", "kept"), "the times of a mount")
    return Mounted(
        _text("the way of a mount", told["way"]),
        _or_none(_number)("the abilities of a store", told["caps"]),
        told["times"],
        _or_none(_digest)("the start of a mount", told["start"]),
        _or_none(_text)("what a mount shares", told["shares"]),
        _or_none(_text)("a doubt", told["unsure"]),
        accesses,
    )


def _access(told: Any) -> Access:
    _check(isinstance(told, dict) and {"path", "found"} <= told.keys() <= set(_FIELDS), "an access has other parts")
    path = _text("a path", told["path"])
    _check(not path or all(map(fits_a_key, path.split("/"))), f"{path!r} is no path below a mount")
    _check(told["found"] in _TYPES, f"{path!r} was found as nothing that there is")
    for flag in ("listed", "written"):
        _check(isinstance(told.get(flag, False), bool), f"{flag} of {path!r} is not true or false")
    return Access(
        path,
        told["found"],
        told.get("listed", False),
        _ranges(path, told.get("read", ())),
        told.get("written", False),
        _or_none(_size)("a size", told.get("size")),
        _or_none(_text)("a version", told.get("version")),
        _or_none(_digest)("a digest", told.get("digest")),
        _attributes(path, told.get("attributes")),
        _or_none(_order)("an order", told.get("order")),
        _but(path, told.get("but", ())),
        _or_none(_text)("a doubt", told.get("unsure")),
    )


def _ranges(path: str, told: Any) -> Any:
    if told == "whole":
        return told
    _check(isinstance(told, list | tuple), f"what was read of {path!r} is no list")
    ranges: list[tuple[int, int]] = []
    at = 0
    for each in told:
        _check(isinstance(each, list) and len(each) == 2, f"a range of {path!r} is none")
        start, end = _size("a range", each[0]), _size("a range", each[1])
        _check(at <= start < end, f"the ranges of {path!r} are not in order")
        ranges.append((start, end))
        at = end
    return tuple(ranges)


def _but(path: str, told: Any) -> tuple[str, ...]:
    _check(isinstance(told, list | tuple) and all(map(fits_a_key, told)), f"what is left out of {path!r}")
    return tuple(map(str, told))


def _attributes(path: str, told: Any) -> Any:
    if told is None:
        return None
    _check(isinstance(told, list) and len(told) == 4, f"the attributes of {path!r} are others")
    return tuple(_or_none(_number)(f"an attribute of {path!r}", each) for each in told)


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda what, told: None if told is None else check(what, told)


def _text(what: str, told: Any) -> str:
    _check(isinstance(told, str) and len(told) <= _TEXT_MAX, f"{what} is no text of a sensible length")
    try:
        told.encode()
    except UnicodeEncodeError:
        raise ValueError(f"these are no accesses: {what} is no text") from None
    return str(told)


def _number(what: str, told: Any) -> int:
    _check(type(told) is int and -_NUMBER_MAX < told < _NUMBER_MAX, f"{what} is no number")
    return int(told)


def _size(what: str, told: Any) -> int:
    _check(type(told) is int and 0 <= told < _SIZE_MAX, f"{what} is no number of bytes")
    return int(told)


def _digest(what: str, told: Any) -> str:
    _check(isinstance(told, str) and _DIGEST.fullmatch(told) is not None, f"{what} is no SHA-256")
    return str(told)


def _order(what: str, told: Any) -> str:
    return "" if told == "" else _digest(what, told)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _check(good: object, wrong: str) -> None:
    if not good:
        raise ValueError(f"these are no accesses: {wrong}")
