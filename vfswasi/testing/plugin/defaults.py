"""What markers say: `@pytest.mark.wasm(timeout=5)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

import vfswasi

from ...limits import check_seconds
from ...mounts.amounts import parse_size
from ...printing import did_you_mean


def _timeout(value: Any) -> object:
    check_seconds("timeout", value)
    return value


def _limits(value: Any) -> object:
    if not isinstance(value, vfswasi.Limits):
        raise TypeError(f"limits must be a vfswasi.Limits, not {type(value).__name__}")
    return value


def memory_bytes(value: Any) -> int:
    """Of bytes, or of a text such as "64MiB". Raises TypeError, ValueError."""
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'memory must be bytes as an int, or a text such as "64MiB", not {value!r}')
    return vfswasi.Limits(memory_bytes=value).memory_bytes


def _fuel(value: Any) -> object:
    return vfswasi.Limits(fuel=value).fuel


def _env(value: Any) -> object:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise TypeError(f'env must be a dict of str, such as {{"LANG": "C"}}, not {value!r}')
    return dict(value)


def _bool(name: str) -> Callable[[Any], object]:
    def checked(value: Any) -> object:
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")
        return value

    return checked


_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "timeout": _timeout,
    "limits": _limits,
    "memory": memory_bytes,
    "fuel": _fuel,
    "env": _env,
    **{name: _bool(name) for name in ("deterministic", "check", "trace")},
}


def defaults_of(item: pytest.Item) -> dict[str, Any]:
    """Options of `wasm` for this test: of its markers, those of the function before those of its class and module.
    What is wrong with them fails the test."""
    found: dict[str, Any] = {}
    wrong = ""
    for marker in item.iter_markers("wasm"):
        try:
            for name, value in _checked(marker).items():
                found.setdefault(name, value)
        except (TypeError, ValueError) as error:
            wrong = wrong or f"pytest.mark.wasm of {item.nodeid}: {error}"
    if wrong:
        pytest.fail(wrong, pytrace=False)
    return found


def _checked(marker: pytest.Mark) -> dict[str, Any]:
    """Raises TypeError, ValueError."""
    if marker.args:
        raise TypeError(f"give options by name, such as timeout=5, not {marker.args[0]!r}")
    found: dict[str, Any] = {}
    for name, value in marker.kwargs.items():
        if name not in _CHECKS:
            near = did_you_mean(name, _CHECKS)
            raise TypeError(f"there is no option {name!r}{near or '; there are ' + ', '.join(_CHECKS)}")
        found[name] = _CHECKS[name](value)
    return found
