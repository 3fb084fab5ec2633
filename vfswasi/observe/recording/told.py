"""What a recording says of mounts and of the ending; what there is in its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...printing import without_secrets
from ...records import record

if TYPE_CHECKING:
    from .stores.answering import Known
    from .streams import Told


@record(frozen=True)
class MountTold:
    """One mount. name: the guest's directory. manner: "ro", "rw" or "overlay". what: the source, for people, without
    secrets. caps: of the store (`Caps`). identity: mounts that show the same store have the same number. files, names:
    how many files were read, and names looked up."""

    name: str
    manner: str
    what: str
    times: str | None = None
    caps: int = 0
    identity: int = 0
    files: int = 0
    names: int = 0


@record(frozen=True)
class EndingTold:
    """How the run ended: as in `Result`. failed: it did not end by itself but by an exception, whose words these are;
    interrupted: from outside."""

    returncode: int | None = None
    limit: str | None = None
    trap: str | None = None
    interrupted: bool = False
    failed: str | None = None

    @property
    def from_outside(self) -> bool:
        return self.interrupted or self.limit in ("wall_seconds",)


def ending_told(ending: Any) -> EndingTold:
    """ending: `engine.runner.Ending`; None: there was none, or the run was none."""
    if ending is None:
        return EndingTold(failed="it was over before it began, or could not be ended")
    failed = None
    if ending.error is not None:
        failed = f"{type(ending.error).__name__}: {without_secrets(str(ending.error))}"[:4096]
    interrupted = ending.limit == "interrupted"
    return EndingTold(ending.returncode, None if interrupted else ending.limit, ending.trap, interrupted, failed)


class Opened:
    """What there is in the file. known: of each mount. texts: that calls were given."""

    known: Mapping[str, Known]
    texts: list[bytes]
    closed: bool

    def module(self) -> bytes:
        raise NotImplementedError

    def told(self, name: str) -> Told:
        """Of a stream."""
        raise NotImplementedError

    def pieces(self, name: str) -> Iterator[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
