"""Why a guest may have failed, as far as it was we who refused it something."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from posixpath import normpath
from typing import TYPE_CHECKING, Final

from ...errors import Errno
from ...kernel.paths.places import decoded_text

if TYPE_CHECKING:
    from ...kernel.process import Process
    from ...observe.refusals import Refusal

_TOLD_MAX: Final = 3
_LOOKED_AT_MAX: Final = 1000  # arguments and variables
_GUESSES_MAX: Final = 2
_PATH_MAX: Final = 300  # characters; what is longer is hardly a file's name
# Directories of a system, which programs are told of as a matter of course.
_ORDINARY: Final = frozenset({"PATH", "PWD", "OLDPWD", "HOME", "SHELL", "TMPDIR", "TMP", "TEMP", "LANG", "TERM", "TZ"})
_OF_PATTERNS: Final = frozenset("*?[](){}|^$\\")
# What programs try and go on without: bytecode caches, and times.
_TRIED: Final = "/__pycache__"
# A name with an ending, below directories or not: no option, number, address or sentence.
_NAME: Final = re.compile(r"(?:\.{0,2}[\w+-][\w.+-]*/)*[\w+-][\w.+-]*\.[A-Za-z]\w{0,7}")
_MINOR: Final = frozenset({"path_filestat_set_times", "fd_filestat_set_times"})


def refusals_of(process: Process, failed: bool) -> tuple[Refusal, ...]:
    """What a guest was refused, the last first; if it has failed, also what is not mounted of what it may have looked
    for."""
    known = process.refusals
    if known is None and not failed:
        return ()
    from ...observe.refusals import Refusal, not_mounted  # most runs are refused nothing

    found: list[Refusal] = []
    if known is not None:
        for each in known.newest_first():
            found.append(
                Refusal(
                    each.call,
                    each.path,
                    each.errno,
                    each.mount,
                    each.readonly,
                    each.devices,
                    each.outside,
                    each.detail,
                )
            )
    if failed:
        names = [mount.name for mount in process.mounts]
        for path in _not_mounted(process.argv[1:], process.environ, names):
            found.append(not_mounted(path, names))
    return tuple(found)


def telling(refusals: Iterable[Refusal]) -> list[Refusal]:
    """Those that are worth a line after a failure: few, what programs try and go on without left out."""
    kept = [each for each in refusals if _TRIED not in (each.path or "")]
    found: list[Refusal] = []
    places: set[tuple[str | None, Errno]] = set()
    for each in sorted(kept, key=lambda each: each.call in _MINOR):
        place = (each.mount, each.errno) if each.call and not each.outside else (each.path, each.errno)
        if place not in places:  # several files of one read-only mount are one reason
            places.add(place)
            found.append(each)
    return found[:_TOLD_MAX]


def _not_mounted(args: Sequence[bytes], environ: Sequence[bytes], mounts: Sequence[str]) -> list[str]:
    """Paths among the arguments and the environment of a program that lie in none of its mounts. What else it was given
    may be the reason if an argument lies in one: then names without a directory are words, and variables are left
    out."""
    roots = ["." if name == "." else normpath(f"/{name.lstrip('/')}") for name in mounts]
    start = _start(environ)

    def lies_in_one(path: str) -> bool:
        whole = normpath(f"{start}/{path}") if path[0] != "/" else path
        return any(root == "/" or whole == root or whole.startswith(root + "/") for root in roots)

    given = list(_paths(args))
    some = any(lies_in_one(path) for path in given)
    words = [path for path in given if path[0] == "/" or ("." not in roots and not (some and "/" not in path))]
    found = [path for path in dict.fromkeys(words) if not lies_in_one(path)]
    if not found and not some:
        found = [path for path in dict.fromkeys(_values(environ)) if not lies_in_one(path)]
    return found[:_GUESSES_MAX]


def _start(environ: Sequence[bytes]) -> str:
    """Where C libraries look for what has no slash in front."""
    for raw in environ[:_LOOKED_AT_MAX]:
        if raw.startswith(b"PWD=/"):
            return decoded_text(raw[4 : 4 + _PATH_MAX])
    return ""


def _paths(args: Sequence[bytes]) -> Iterator[str]:
    """Absolute ones, and what looks like the name of a file."""
    for raw in args[:_LOOKED_AT_MAX]:
        word = decoded_text(raw[: 4 * _PATH_MAX])
        if word.startswith("-"):
            word = word.partition("=")[2]
        if _is_path(word) or (len(word) <= _PATH_MAX and _NAME.fullmatch(word)):
            yield normpath(word)


def _values(environ: Sequence[bytes]) -> Iterator[str]:
    """Absolute paths."""
    for raw in environ[:_LOOKED_AT_MAX]:
        name, _, value = decoded_text(raw[: 4 * _PATH_MAX]).partition("=")
        if name not in _ORDINARY and _is_path(value):
            yield normpath(value)


def _is_path(word: str) -> bool:
    plain = 1 < len(word) <= _PATH_MAX and word[0] == "/" and word[1] not in "/ " and ":" not in word
    return plain and _OF_PATTERNS.isdisjoint(word)
