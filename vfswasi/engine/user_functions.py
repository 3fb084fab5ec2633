"""Host functions of the user: what can be known of them before they are called, and what they may return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..printing import counted

# module -> name -> callable(memory, *numbers)
UserImports = Mapping[str, Mapping[str, Callable[..., Any]]]


def checked_imports(imports: UserImports | None) -> UserImports:
    """What a user gave as host functions; raises TypeError, with the name of what is none. What a module does not
    import is allowed, so that one set of functions serves many programs."""
    if imports is None:
        return {}
    if not isinstance(imports, Mapping):
        raise TypeError(f'imports must be {{"module": {{"name": function}}}}, not {type(imports).__name__}')
    for module, functions in imports.items():
        if not isinstance(module, str) or not isinstance(functions, Mapping):
            raise TypeError(f"imports: {module!r} must be a str that leads to functions by name, not to {functions!r}")
        for name, function in functions.items():
            if not isinstance(name, str) or not callable(function):
                raise TypeError(f"imports: {module}.{name} must be a function, not {function!r}")
    return imports


def check(function: Callable[..., Any], params: Sequence[str], results: Sequence[str], name: str) -> str:
    """Raises TypeError if it is known that the function cannot be called with the guest's memory and these parameters;
    returns its type as it is shown in messages."""
    import inspect  # few runs have host functions

    result = results[0] if len(results) == 1 else f"({', '.join(results)})"
    type_ = f"({', '.join(['memory', *params])}) -> {result}"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not tell; some functions written in C
        return type_
    try:
        signature.bind(None, *params)
    except TypeError as error:
        shown = getattr(function, "__name__", type(function).__name__)
        raise TypeError(
            f"host function {name} is called as {type_}, and {shown}{signature} does not take that: {error}"
        ) from None
    return type_


def fitting(returned: Any, kinds: Sequence[str], name: str) -> Sequence[Any]:
    """What a host function returned, as values that fit. Raises TypeError, OverflowError, which name the function."""
    if not kinds:
        if returned is not None:
            raise TypeError(f"host function {name} returned {returned!r}, but its type has no result")
        return ()
    if len(kinds) > 1 and not isinstance(returned, Iterable):
        raise TypeError(f"host function {name} returned {returned!r}, its type has {len(kinds)} results")
    values = (returned,) if len(kinds) == 1 else tuple(returned)
    if len(values) != len(kinds):
        raise TypeError(f"host function {name} returned {counted(len(values), 'value')}, its type has {len(kinds)}")
    return tuple(_number(value, kind, name) for value, kind in zip(values, kinds, strict=True))


def _number(value: Any, kind: str, name: str) -> int | float:
    if not isinstance(value, int | float):
        raise TypeError(f"host function {name} returned {value!r} instead of a number")
    if kind.startswith("i"):
        if not isinstance(value, int):
            raise TypeError(f"host function {name} returned {value!r} instead of an integer, for {kind}")
        return value
    try:
        return float(value)
    except OverflowError:
        raise OverflowError(f"host function {name} returned a number that is too large for {kind}") from None
