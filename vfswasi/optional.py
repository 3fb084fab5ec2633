"""Packages that come with an extra of this one (`pip install "vfswasi[s3]"`): they are imported inside the functions
that use them, within `packages`, which says in one way what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from .errors import MountError


@contextlib.contextmanager
def packages(
    what: str, extra: str | None = None, hints: Mapping[str, str] | None = None, more: str = ""
) -> Iterator[None]:
    """An ImportError inside becomes a MountError.

    what: begins its message. extra: the extra that has the package; without one the text of the error says what to do.
    hints: missing module -> what to do about that one. more: what to do beside.
    """
    try:
        yield
    except ImportError as error:
        hint = (hints or {}).get(error.name or "")
        if hint is None:
            hint = f'pip install "vfswasi[{extra}]"' if extra else f"{error}"
        raise MountError(f"{what}: a package is missing: {hint}{more}") from error
