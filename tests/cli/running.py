"""The command line as others use it: a process of its own, with a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "HOME", "COLUMNS"))}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(home), **more}


def vfswasi(
    *arguments: str | Path, cwd: Path, stdin: bytes = b"", status: int | None = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """What it did in the directory `cwd`; `status` is what it has to end with."""
    done = subprocess.run(
        [sys.executable, "-m", "vfswasi", *map(str, arguments)],
        cwd=cwd,
        env=environment(cwd, **more),
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    told = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in told.stderr
    assert status is None or told.returncode == status, (told.returncode, told.stdout, told.stderr)
    return told


def refused(*arguments: str | Path, cwd: Path, **more: str) -> str:
    """The one line that it says."""
    done = vfswasi(*arguments, cwd=cwd, status=125, **more)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("vfswasi")
    return done.stderr.rstrip("\n")
