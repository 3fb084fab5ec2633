"""`Recording`: what a file says of a recorded run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from ...clock import Clock
from ...limits import Limits
from ...printing import without_secrets
from ...records import field, record

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


@record(frozen=True, slots=False)
class Recording:
    """A recorded run. `vfswasi.replay` runs it again.

    args: the guest's argv. env: its environment. cwd, seed, clock, deterministic, features, limits: what the run was
    given. timeout: its seconds; None: none. vdso: whether its fast path was on. module: its name; module_sha256,
    module_bytes: of it; has_module: whether it is in the file. mounts: what the guest saw. ending: how it ended. calls:
    how many system calls it made. stdin, stdout, stderr: how many bytes. seconds: how long it ran. cut: why something
    was left out; None: nothing. inexact: files that others changed while the run read them. when: ISO 8601. vfswasi,
    wasmtime, machine: what recorded it. size: bytes of what was kept of files.

    As a context manager, or with `close`, it closes the file.
    """

    args: tuple[str, ...]
    env: Mapping[str, str]
    module: str
    module_sha256: str
    module_bytes: int
    has_module: bool
    limits: Limits
    cwd: str | None = None
    seed: int | None = None
    clock: Clock | None = None
    deterministic: bool = False
    features: tuple[str, ...] = ()
    timeout: float | None = None
    mounts: tuple[MountTold, ...] = ()
    ending: EndingTold = field(default_factory=EndingTold)
    calls: int = 0
    stdin: int = 0
    stdout: int = 0
    stderr: int = 0
    seconds: float = 0.0
    joined: bool = False
    cut: str | None = None
    inexact: tuple[str, ...] = ()
    when: str = ""
    vfswasi: str = ""
    wasmtime: str = ""
    machine: str = ""
    size: int = 0
    _opened: Opened | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, file: str | os.PathLike[str] | IO[bytes]) -> Recording:
        """Read it, which runs nothing. Raises OSError, TypeError, MountError: it is no recording, or a corrupt one."""
        from .file.reading import load

        return load(file)

    def module_file(self) -> bytes:
        """The module. Raises FsError (IO: it is not what it should be), ValueError: it is not in the file."""
        return self.opened.module()

    def output(self, name: str) -> Iterator[bytes]:
        """What the run wrote to "stdout" or "stderr", in pieces. Raises FsError."""
        return self.opened.pieces("stdout" if self.joined else name)

    @property
    def opened(self) -> Opened:
        """Raises ValueError: it is closed."""
        if self._opened is None or self._opened.closed:
            raise ValueError("this Recording is closed")
        return self._opened

    def close(self) -> None:
        """May be called more than once."""
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
