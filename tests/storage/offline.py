"""Replays a recording where there is nothing but the recording: a process without network, with an empty home, in
another directory, without credentials.

As a program: `offline.py FILE` prints what the replayed run wrote. Any attempt to connect ends it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def _without_network() -> list[str]:
    """A command before others that takes the network away, where the system lets us."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return []
    done = subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False)
    return [unshare, "-rn"] if done.returncode == 0 else []


def _compiled() -> dict[str, str]:
    from vfswasi.engine.compiling import cache as compiled

    return {"VFSWASI_CACHE_DIR": str(compiled.directory()), "VFSWASI_KEY_DIR": str(compiled.key_directory())}


def replay(recording: Path, home: Path) -> subprocess.CompletedProcess[bytes]:
    """What `vfswasi replay` did there. home: a directory that is made; the recording is moved into it."""
    home.mkdir()
    moved = home / "bug.recording"
    recording.rename(moved)
    return subprocess.run(
        [*_without_network(), sys.executable, __file__, str(moved)],
        cwd=home,
        # Compiled modules are found where they are here, so that nobody waits; the recording has the module.
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            **_compiled(),
        },
        capture_output=True,
        timeout=300,
        check=False,
    )


def _forbid(event: str, _: object) -> None:
    if event.startswith("socket."):
        os.write(2, f"{event} was tried\n".encode())
        os._exit(99)


if __name__ == "__main__":
    sys.addaudithook(_forbid)
    from vfswasi.cli.command import main

    sys.exit(main(["replay", "-v", sys.argv[1]]))
