"""What the command line says when something is wrong, in one line, and with which exit status it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from ..errors import ApplyError, ConflictError, Uncommitted, UncommittedError
from ..printing import printable, without_secrets

EXIT_TIMEOUT = 124
EXIT_OURS = 125
EXIT_INTERRUPTED = 128 + 2  # as if SIGINT had ended us
EXIT_PIPE = 128 + 13  # as if SIGPIPE had


def fail(message: str, status: int = EXIT_OURS) -> int:
    """Say it on standard error; returns the status."""
    line = printable(without_secrets(" ".join(message.split("\n"))))
    print(f"vfswasi: {line}", file=sys.stderr)
    return status


def words_of(error: Exception) -> str:
    """What is said of an error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def status_of(returncode: int) -> int:
    """The exit status for that of a guest, which is -N if signal N ended it."""
    return 128 - returncode if returncode < 0 else min(returncode, 255)


class Warning(logging.Formatter):
    """Warnings of the package, each on a line with our name."""

    def format(self, record: logging.LogRecord) -> str:
        return "vfswasi: warning: " + printable(" ".join(record.getMessage().split("\n")))


def tell_refusals(result: Any) -> None:
    """Of a program that has failed: what it was refused, and what would have allowed it."""
    if result is not None and result.refusals:
        from ..host.results.refused import telling

        for each in telling(result.refusals):
            fail(each.told(command_line=True))


def flush() -> None:
    """Write out what was printed. Raises OSError; then what is left is forgotten, or Python would complain of it at
    its end."""
    failed: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            failed = failed or error
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
    if failed is not None:
        raise failed


_CONFLICTS_MAX: Final = 200  # lines


def not_stored(error: UncommittedError, saved: Mapping[str, str] | None = None, changes: Any = None) -> int:
    """Say what could not be stored, and where it is now, so that it is not lost; returns the status. saved: guest
    directory -> file that has its changes already. changes: of the run; those of the error's result if None."""
    known = getattr(error.result, "changes", {}) if changes is None else changes
    overlays = [file for file in error.files if file.path in known]
    others = [file for file in error.files if file.path not in known]
    there = dict(saved or {})
    for file in overlays:
        _list(file)
        where = "" if file.path in there else keep({file.path: known[file.path]}, there)
        if file.path in there:
            where = f"they are in {there[file.path]}: vfswasi apply {there[file.path]} TARGET applies them"
        cause = file.error.__cause__
        why = "they do not fit what lies below, and nothing was written" if _is_conflict(file) else str(cause)
        fail(f"the changes in {file.path} were not applied: {why}; {where}")
    if others or not overlays:
        return fail(f"{error}; {rescued(UncommittedError(str(error), others))}")
    return EXIT_OURS


def _is_conflict(file: Uncommitted) -> bool:
    return isinstance(file.error.__cause__, ConflictError)


def _list(file: Uncommitted) -> None:
    """A line for each path that is in the way."""
    cause = file.error.__cause__
    told = cause.conflicts if isinstance(cause, ConflictError) else {}
    if isinstance(cause, ApplyError) and cause.done:
        told = {**dict.fromkeys(cause.done, "applied"), **dict.fromkeys(cause.left, "not applied")}
    for path, why in list(told.items())[:_CONFLICTS_MAX]:
        fail(f"{file.path.rstrip('/')}/{path}: {why}")
    if len(told) > _CONFLICTS_MAX:
        fail(f"{file.path}: and {len(told) - _CONFLICTS_MAX:,} more")


def keep(changes: Mapping[str, Any], saved: MutableMapping[str, str]) -> str:
    """Save changes where they will not be lost; says where, and notes it in `saved`."""
    try:
        import tempfile

        directory = tempfile.mkdtemp(prefix="vfswasi-not-stored-")
        for number, (name, each) in enumerate(changes.items(), 1):
            path = os.path.join(directory, f"{number}.changes")
            each.save(path)
            saved[name] = path
    except Exception as failure:
        return f"they could not be saved either: {words_of(failure)}"
    return f"they are in {', '.join(saved[name] for name in changes)}"


def rescued(error: UncommittedError) -> str:
    """Save what could not be stored where it will not be lost; says where."""
    files = [file for file in error.files if file.size]
    if not files:
        return "nothing of it could be kept"
    try:
        import tempfile

        directory = tempfile.mkdtemp(prefix="vfswasi-not-stored-")
        for number, file in enumerate(files, 1):
            name = "".join(ch if ch.isalnum() or ch in "._-" else "_" for ch in file.path.rpartition("/")[2])
            file.save(os.path.join(directory, f"{number}-{name[:100]}"))
            file.close()
    except OSError as failure:
        return f"what was written could not be saved either: {failure.strerror}"
    return f"what was written is in {directory}"
