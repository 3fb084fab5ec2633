"""`Recording`: what a file says of a recorded run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import IO

from ...clock import Clock
from ...limits import Limits
from ...records import field, record
from .told import EndingTold, MountTold, Opened


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

        return cls(**load(file))

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
