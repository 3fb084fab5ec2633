"""`Call`: one system call of a guest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import Errno
from ...records import field, record


@record()
class Call:
    """One system call, as preview1 names it. It is made before the call, and complete after it.

    name: "path_open". number: which call of the run it is, from 0. arguments: parameter -> value, decoded: paths as
    str, flags as tuples of their names in the specification (in capitals), one of an enumeration as its name, numbers
    as int; of what is written the first bytes, as "data", with how many they are in all, as "nbytes". Text is cut at
    512 characters, and what a wrong pointer points to is that pointer. path: the guest's whole path of what the call is
    about ("/data/x"), as far as its arguments say, links not followed; None: it is about no file. target: the second
    one of path_rename, path_link and path_symlink. mount: the guest directory that it lies in, or None. errno: None
    while it is not over, and if the guest has ended in it. results: what the guest got beside the errno, such as
    {"fd": 4} or {"nwritten": 5}; of what was read the first bytes, as "data". started_ns: since the run began.
    duration_ns: of the call. injected: the errno is one that a callable gave. ended: the guest has ended in it.
    descriptors: parameter -> what that descriptor stood for, such as {"fd": "/data"}. `str()` is a line as strace has
    it.
    """

    name: str
    number: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    path: str | None = None
    target: str | None = None
    mount: str | None = None
    errno: Errno | None = None
    results: Mapping[str, Any] = field(default_factory=dict)
    started_ns: int = 0
    duration_ns: int = 0
    injected: bool = False
    ended: bool = False
    descriptors: Mapping[str, str] = field(default_factory=dict)

    def line(self, *, duration: bool = True) -> str:
        """As strace has it, without what a terminal would act upon. duration: whether it ends with the seconds that the
        call took, if it is over."""
        from .lines import line

        return line(self, duration)

    def __str__(self) -> str:
        return self.line()
