"""Another process that swaps what a guest walks over, all the time; run as a program, it imports nothing of ours.

    with Swapper(root, "exchange", ("d", "trap")):
        ...

`exchange`: two names change places in one step (RENAME_EXCHANGE), again and again.
`rename`: one name is in turn a directory, nothing, a link, nothing, a file, nothing: with mkdir, symlink, rename,
unlink.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_ROUNDS = 64  # between two looks at whether the parent lives
_PAUSE = 1000


class Swapper:
    """A context manager: the process runs inside it. `names` are relative to `root`; the first is the honest one."""

    def __init__(self, root: Path, how: str, names: Sequence[str]) -> None:
        self._command = [sys.executable, "-I", __file__, str(root), str(os.getpid()), how, *names]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        died = self._process.poll()
        self._process.kill()
        self._process.communicate()
        assert died is None, "the swapper ended by itself"


def exchange(one: str, other: str) -> None:
    """Swap two names; `one` is a directory or a file, `other` a link, both from the start."""
    target = os.readlink(other)
    is_file = os.path.isfile(one)
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    raw, raw_other = one.encode(), other.encode()
    ready()
    while alive():
        for _ in range(_ROUNDS):
            pause()
            if renameat2(_AT_FDCWD, raw, _AT_FDCWD, raw_other, _RENAME_EXCHANGE):
                break  # the guest has removed one of them, or moved it
        if is_file:
            attempt(lambda: _new_file(one + ".made", one))
            attempt(lambda: _new_link(target, other + ".made", other))


def flicker(name: str, target: str) -> None:
    """One name is one thing after the other; `target` is what the link leads to."""
    made, junk = name + ".made", name + ".junk"
    ready()
    while alive():
        for _ in range(_ROUNDS):
            for make in (lambda: os.mkdir(name), lambda: os.symlink(target, name), lambda: _new_file(made, name)):
                pause()
                attempt(lambda: _clear(name, junk))
                pause()
                attempt(make)


def _new_file(made: str, name: str) -> None:
    with open(made, "w") as file:
        file.write("public")
    os.rename(made, name)


def _new_link(target: str, made: str, name: str) -> None:
    os.symlink(target, made)
    os.rename(made, name)


def _clear(name: str, junk: str) -> None:
    try:
        os.unlink(name)
    except IsADirectoryError:
        try:
            os.rmdir(name)
        except OSError:
            os.rename(name, junk)
            shutil.rmtree(junk, ignore_errors=True)
    except FileNotFoundError:
        pass


def attempt(step: Callable[[], None]) -> None:
    """The guest may have been there first."""
    try:
        step()
    except OSError:
        pass


def pause() -> None:
    """A few microseconds outside of the system: the lock of a directory is not handed on while one always asks."""
    for _ in range(random.randrange(_PAUSE)):
        pass


def ready() -> None:
    print("ready", flush=True)


def alive() -> bool:
    return os.getppid() == int(sys.argv[2])


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    if sys.argv[3] == "exchange":
        exchange(*sys.argv[4:])
    else:
        flicker(*sys.argv[4:])
