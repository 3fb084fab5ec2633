"""What goes into a run, as types: for those who check their programs with mypy or pyright, and wrap ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar, Union

from ..clock import Clock
from ..limits import Limits
from ..mounts.finding.source_types import Source
from ..mounts.options import Mount

if TYPE_CHECKING:
    from socket import socket

    from ..errors import Errno
    from ..observe.recording.record import Record
    from ..observe.trace.call import Call

T = TypeVar("T", covariant=True)
U = TypeVar("U", contravariant=True)


class Readable(Protocol[T]):
    """Any file, or object with its `read`."""

    def read(self, size: int, /) -> T: ...


class Writable(Protocol[U]):
    """Any file, or object with its `write`."""

    def write(self, data: U, /) -> object: ...


class StoredFile(Protocol):
    """A path of universal_pathlib, or what `fsspec.open` gives."""

    @property
    def fs(self) -> Any: ...

    @property
    def path(self) -> Any: ...


class Strings(Protocol):
    """A list, tuple, set, ... of str. A str is none, though it is a sequence of str: its `in` takes only a str, and the
    others take any object."""

    def __contains__(self, item: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...


Args: TypeAlias = Strings | Iterator[str]
Module: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, Readable[bytes], StoredFile, Mount]
# None is nothing; an int is a descriptor, or DEVNULL.
Stdin: TypeAlias = Union[str, bytes, bytearray, memoryview, int, Readable[str | bytes | None], "socket", None]
# None is inherited; an int is a descriptor, PIPE, DEVNULL or STDOUT.
Stdout: TypeAlias = Union[int, Writable[str], Writable[bytes], Callable[[bytes], object], "socket", None]
# (memory: GuestMemory, *numbers) -> a number, several, or None, as the import's type has it.
HostFunction: TypeAlias = Callable[..., Any]
HostFunctions: TypeAlias = Mapping[str, Mapping[str, HostFunction]]
# Of a call that is about to be made -> an errno that the guest gets instead, its name or number, or None.
TraceFunction: TypeAlias = Callable[["Call"], Union["Errno", str, int, None]]
Trace: TypeAlias = bool | TraceFunction | None
RecordTo: TypeAlias = Union[str, "os.PathLike[str]", "Record", None]
Isolation: TypeAlias = Literal["none", "process"]


class StartOptions(TypedDict, total=False):
    """What `Sandbox.start` takes beside the arguments and what makes its streams text."""

    stdin: Stdin
    stdout: Stdout
    stderr: Stdout
    encoding: str
    errors: str
    timeout: float | None
    seed: int | None
    env: Mapping[str, str] | None
    preopens: Mapping[str, Source] | None
    limits: Limits | None
    imports: HostFunctions | None
    cwd: str | None
    clock: Clock | None
    deterministic: bool
    accesses: bool | Literal["digest"]
    trace: Trace
    record: RecordTo


class RunOptions(StartOptions, total=False):
    """What `Sandbox.run` takes so."""

    input: str | bytes | bytearray | memoryview | None
    capture_output: bool
    check: bool


class OnceOptions(RunOptions, total=False):
    """What `run` takes so."""

    argv0: str | None
    vdso: bool | None
    features: Iterable[str]
    isolation: Isolation | None
