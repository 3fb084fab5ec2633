"""`Accesses`: what a run looked at in its mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...printing import counted, printable
from . import holding, text
from .access import Access as Access
from .access import Held as Held
from .access import Mounted

_SHOWN_MAX: Final = 200
_BYTES_MAX: Final = 256 << 20  # of a file that is loaded


class Accesses(Mapping[str, tuple[Access, ...]]):
    """Guest directory -> what was asked there, in the order of the paths.

    It does not change, can be compared and pickled, and written to a file (`save`, `load`, `to_json`, `from_json`).
    mounts: the same with what is known of each mount.
    """

    __slots__ = ("mounts",)

    mounts: Mapping[str, Mounted]

    def __init__(self, mounts: Mapping[str, Mounted]) -> None:
        object.__setattr__(self, "mounts", dict(mounts))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Accesses do not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Accesses do not change")

    def __getitem__(self, name: str) -> tuple[Access, ...]:
        return self.mounts[name].accesses

    def __iter__(self) -> Iterator[str]:
        return iter(self.mounts)

    def __len__(self) -> int:
        return len(self.mounts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Accesses):
            return NotImplemented
        return list(self.mounts.items()) == list(other.mounts.items())

    def __hash__(self) -> int:
        return hash(tuple(self.mounts.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Accesses, (self.mounts,)

    def hold(self, preopens: Mapping[str, Any]) -> Held:
        """Whether a run over these preopens, all that it has, would see the same. What is quick to compare is compared
        first, and the first difference ends it.

        It is about the mounts alone: the module, its arguments, environment, input, clock, seed and limits have to be
        the same too. Where something cannot be compared the answer is no. Raises TypeError, ValueError: these are no
        preopens.
        """
        return holding.hold(self.mounts, preopens)

    def to_json(self) -> str:
        """As a text that `from_json` reads."""
        return text.to_json(self.mounts)

    @classmethod
    def from_json(cls, told: str | bytes) -> Accesses:
        """What `to_json` wrote, whoever has changed it since: it is looked at first. Raises ValueError."""
        return cls(text.from_json(told))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file, which is there as a whole or not at all. Raises OSError."""
        from ..saved.beside import naming, written_beside

        with naming(path), written_beside(path, overwrite=True) as file:
            file.write(self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Accesses:
        """Raises OSError, ValueError."""
        with open(path, "rb") as file:
            data = file.read(_BYTES_MAX + 1)
        if len(data) > _BYTES_MAX:
            raise ValueError(f"{os.fspath(path)!r} has more than 256 MiB, which no accesses have")
        return cls.from_json(data)

    def __repr__(self) -> str:
        mounts = [f"{name}: {counted(len(self[name]), 'name')}" for name in self]
        return f"<Accesses: {', '.join(mounts) or 'no mounts'}>"

    def __str__(self) -> str:
        lines = []
        for name, mount in self.mounts.items():
            lines.append(f"{printable(name)} ({mount.way})")
            lines += [f"  {access}" for access in mount.accesses[:_SHOWN_MAX]]
            if len(mount.accesses) > _SHOWN_MAX:
                lines.append(f"  and {counted(len(mount.accesses) - _SHOWN_MAX, 'name')} more")
            if mount.unsure is not None:
                lines.append(f"  unsure: {mount.unsure}")
        return "\n".join(lines)
