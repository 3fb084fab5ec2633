"""Lines of JSON in files that anybody may have made: an object in each, whose fields are looked at one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, cast


class Wrong(ValueError):
    """What is wrong with a manifest or with entries, in a few words."""


def line_of(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def is_digest(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def object_of(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except Wrong:
        raise
    except (ValueError, RecursionError) as error:
        raise Wrong("a line of its manifest is no JSON") from error
    if not isinstance(found, dict):
        raise Wrong("a line of its manifest is no object")
    return cast("dict[str, Any]", found)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Wrong("a line of its manifest names a field twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise Wrong(f"{text} is no number")


def only(fields: dict[str, Any], known: frozenset[str]) -> None:
    for name in fields:
        if name not in known:
            raise Wrong(f"its manifest has a field {brief(name)}, which is not known")


def text_of(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise Wrong(f"{name!r} is {brief(value)}, no text")
    return value


def required_text(fields: dict[str, Any], name: str) -> str:
    value = text_of(fields, name)
    if value is None:
        raise Wrong(f"an entry of its manifest has no {name!r}")
    return value


def number_of(fields: dict[str, Any], name: str, within: range) -> int:
    value = fields.get(name)
    if type(value) is not int or value not in within:
        raise Wrong(f"{name!r} is {brief(value)}, no such number")
    return value


def brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "..."
