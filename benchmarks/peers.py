"""Who takes part in the benchmark, and the command that runs the benchmark program in each of them."""

from __future__ import annotations

import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

BASELINE = "vfswasi memory"

BLOCK_BYTES = 4096
ENTRIES = 1000


@dataclass(frozen=True)
class Workplace:
    """What the peers run on and in.

    guest: the program compiled for WASI. native: the program for this machine, or None without a C compiler.
    directory: an empty directory, on tmpfs if the machine has one. archive: the prepared zip archive.
    """

    guest: Path
    native: Path | None
    directory: Path
    archive: Path


@dataclass(frozen=True)
class Peer:
    """One column. `commands` each print rows, `name<TAB>microseconds`; they run in `directory`, one after another.

    `commands` is empty where the machine lacks the program, and `lacks` names it then.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    lacks: str = ""


def peers(place: Workplace, rows: list[str], scale: float) -> list[Peer]:
    """All peers, the baseline first. rows: names of the benchmark program's rows, none for all of them."""
    options = ["--scale", str(scale)]
    for row in rows:
        options += ["--row", row]
    guest, directory = str(place.guest), str(place.directory)
    args = (*options, "/d")

    def python(host: str, source: str, *more: str) -> tuple[str, ...]:
        return (sys.executable, str(HERE / "python_peer.py"), host, "guest", guest, source, *args, *more)

    def start(host: str) -> tuple[str, ...]:
        return (sys.executable, str(HERE / "python_peer.py"), host, "start", "--scale", str(scale))

    threads = (sys.executable, str(HERE / "python_peer.py"), "vfswasi", "threads", guest, "--scale", str(scale))
    vfswasi_start = () if rows else (threads, start("vfswasi"))
    wasmtime_start = () if rows else (start("wasmtime"),)
    node, wasmtime = shutil.which("node"), shutil.which("wasmtime")
    node_run = (str(node), "--no-warnings", str(HERE / "node_peer.mjs"), guest, directory, *args)
    wasmtime_run = (str(wasmtime), "run", "--dir", f"{directory}::/d", guest, *args)
    return [
        Peer(BASELINE, (python("vfswasi", "mem:"), *vfswasi_start)),
        Peer("vfswasi local", (python("vfswasi", directory),)),
        Peer("vfswasi zip", (python("vfswasi", f"zip://{place.archive}", "--readonly"),)),
        Peer("wasmtime-py", (python("wasmtime", directory), *wasmtime_start)),
        Peer("node:wasi", (node_run,)) if node else Peer("node:wasi", (), "node"),
        Peer("wasmtime CLI", (wasmtime_run,)) if wasmtime else Peer("wasmtime CLI", (), "wasmtime"),
        Peer("native C", ((str(place.native), *options, "."),)) if place.native else Peer("native C", (), "cc"),
    ]


def content(size: int) -> bytes:
    """What the benchmark program expects in its files: the byte at offset o is (o / 4096) % 256."""
    return b"".join(bytes([block % 256]) * BLOCK_BYTES for block in range(size // BLOCK_BYTES))


def make_archive(path: Path) -> None:
    """The tree for `--readonly`, every member stored as it is: what is measured is the access, not inflating."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        archive.writestr("bench-1m", content(1 << 20))
        archive.writestr("bench-16m", content(16 << 20))
        archive.mkdir("bench-dir")
        for number in range(ENTRIES):
            archive.writestr(f"bench-dir/entry-{number:04}", b"")
