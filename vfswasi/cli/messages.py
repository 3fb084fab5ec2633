"""What the command line says when something is wrong, in one line, and with which exit status it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from ..errors import UncommittedError
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
