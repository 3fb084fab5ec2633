"""Dataclasses that are made without `dataclasses`.

That module, with `inspect` below it, and the methods that it compiles for each class, were a quarter of what importing
this package took. `record` gives a class the same methods, which are written once, here. Whoever asks finds a
dataclass all the same: `dataclasses.fields`, `replace` and `asdict` work, and so do pickling, copying and matching.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, dataclass_transform

C = TypeVar("C", bound=type)

_NOTHING: Final = object()


class _Field(NamedTuple):
    default: object = _NOTHING
    default_factory: Callable[[], object] | None = None
    repr: bool = True
    compare: bool = True


def field(
    *,
    default: Any = _NOTHING,
    default_factory: Callable[[], Any] | None = None,
    repr: bool = True,
    compare: bool = True,
) -> Any:
    """As `dataclasses.field`."""
    return _Field(default, default_factory, repr, compare)


@dataclass_transform(field_specifiers=(field,))
def record(*, frozen: bool = False, slots: bool = True) -> Callable[[C], C]:
    """As `dataclasses.dataclass`: the annotations of the class are its fields. `__init__` and `__repr__` of its own
    stay."""

    def made(cls: C) -> C:
        fields = {}
        for name in cls.__annotations__:
            given = cls.__dict__.get(name, _NOTHING)
            fields[name] = given if isinstance(given, _Field) else _Field(given)
        namespace: dict[str, Any] = {**_methods(cls, fields, frozen), **cls.__dict__}
        if slots:
            namespace = {name: value for name, value in namespace.items() if name not in fields}
            namespace["__slots__"] = tuple(fields)
            namespace.pop("__dict__", None)
            namespace.pop("__weakref__", None)
            again = type(cls)(cls.__name__, cls.__bases__, namespace)
            again.__qualname__ = cls.__qualname__
            return again
        for name, value in namespace.items():
            if name not in cls.__dict__:
                setattr(cls, name, value)
        for name, each in fields.items():
            if each.default_factory is not None:
                delattr(cls, name)
        return cls

    return made


def _methods(cls: type, fields: dict[str, _Field], frozen: bool) -> dict[str, Any]:
    names = tuple(fields)
    compared = tuple(name for name, each in fields.items() if each.compare)
    put = object.__setattr__
    # Names and values where all that may be left out has a value, and nothing is checked.
    plain = [] if hasattr(cls, "__post_init__") else [(name, each.default) for name, each in fields.items()]
    if any(value is _NOTHING for _, value in plain):
        plain = []

    def __init__(self: Any, /, *args: Any, **options: Any) -> None:
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__}() takes at most {len(names)} arguments, not {len(args)}")
        for name, value in zip(names, args, strict=False):
            put(self, name, value)
        if plain and not options:  # as in each run: quicker
            for name, value in plain[len(args) :]:
                put(self, name, value)
            return
        for name in names[: len(args)]:
            if name in options:
                raise TypeError(f"{cls.__name__}() got multiple values for argument {name!r}")
        for name in names[len(args) :]:
            if name in options:
                value = options.pop(name)
            else:
                given = fields[name]
                value = given.default if given.default_factory is None else given.default_factory()
                if value is _NOTHING:
                    raise TypeError(f"{cls.__name__}() misses the argument {name!r}")
            put(self, name, value)
        if options:
            raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {next(iter(options))!r}")
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    def __repr__(self: Any) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names if fields[name].repr)
        return f"{type(self).__qualname__}({shown})"

    def __eq__(self: Any, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    def __hash__(self: Any) -> int:
        return hash(tuple(getattr(self, name) for name in compared))

    def refuse(self: Any, name: str, *value: object) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")

    def __getstate__(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def __setstate__(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            put(self, name, value)

    found: dict[str, Any] = {
        "__init__": __init__,
        "__repr__": __repr__,
        "__eq__": __eq__,
        "__hash__": __hash__ if frozen else None,
        "__getstate__": __getstate__,
        "__setstate__": __setstate__,
        "__match_args__": names,
        "__dataclass_fields__": _Late(cls, fields, frozen, lambda true, _: true.__dataclass_fields__),
        "__dataclass_params__": _Late(cls, fields, frozen, lambda true, _: true.__dataclass_params__),
        "__signature__": _Late(cls, fields, frozen, lambda true, inspect: inspect.signature(true)),
    }
    if frozen:
        found |= {"__setattr__": refuse, "__delattr__": refuse}
    return found


class _Late:
    """An attribute of a class that is made when somebody asks for it, from a dataclass of the same fields."""

    def __init__(self, cls: type, fields: dict[str, _Field], frozen: bool, of: Callable[[Any, Any], Any]) -> None:
        self._class = cls
        self._fields = fields
        self._frozen = frozen
        self._of = of
        self._made: Any = None

    def __get__(self, instance: object, owner: type) -> Any:
        if self._made is None:
            import dataclasses
            import inspect

            cls = self._class
            namespace: dict[str, Any] = {"__module__": cls.__module__, "__annotations__": cls.__annotations__}
            for name, each in self._fields.items():
                options: dict[str, Any] = {"repr": each.repr, "compare": each.compare}
                if each.default_factory is not None:
                    options["default_factory"] = each.default_factory
                elif each.default is not _NOTHING:
                    options["default"] = each.default
                namespace[name] = dataclasses.field(**options)
            true: Any = dataclasses.dataclass(frozen=self._frozen)(type(cls.__name__, (), namespace))
            self._made = self._of(true, inspect)
        return self._made
