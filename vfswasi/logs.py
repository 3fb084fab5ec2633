"""Loggers that import `logging` when there is something to say: few runs have anything, and it is slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from logging import Logger


class _Late:
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import logging

        return getattr(logging.getLogger(self._name), attribute)


def logger(name: str) -> Logger:
    """What `logging.getLogger(name)` gives, as far as it can be used."""
    return cast("Logger", _Late(name))
