"""The environment of a program, from `--env NAME=VALUE`, `--env NAME` and `--env-file FILE`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

_NAME = re.compile(r"[^\s=#'\"][^\s=]*")


def environment(files: Iterable[str], texts: Iterable[str]) -> dict[str, str]:
    """What stands in files is replaced by what stands on the command line, and the earlier by the later.

    Raises ValueError, OSError.
    """
    env: dict[str, str] = {}
    for path in files:
        env.update(_of_file(path))
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise ValueError(f"--env {text!r} is not NAME=VALUE")
        if not equals:
            inherited = os.environ.get(name)
            if inherited is None:
                raise ValueError(f"--env {name}: there is no {name} in your environment; write --env NAME=VALUE")
            value = inherited
        env[name] = value
    return env


def _of_file(path: str) -> Iterator[tuple[str, str]]:
    """Lines of NAME=VALUE, or NAME, which is inherited if it is there; empty lines, and comments behind `#`.

    A value in quotes is what is between them; nothing else in it is replaced. No message has a value: it may be a
    secret.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, equals, value = line.removeprefix("export ").lstrip().partition("=")
            name, value = name.rstrip(), value.lstrip()
            if not _NAME.fullmatch(name):
                raise ValueError(f"--env-file {path}: line {number} is not NAME=VALUE")
            if not equals:
                if name in os.environ:
                    yield name, os.environ[name]
                continue
            if value[:1] in ("'", '"') and len(value) > 1:
                if value[-1] != value[0]:
                    raise ValueError(
                        f"--env-file {path}: line {number}: the value of {name} begins with a quote and does not end "
                        "with it; a value is one line"
                    )
                value = value[1:-1]
            yield name, value
