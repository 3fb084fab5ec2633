"""E1 to E4 together: a guest that tries to use up everything, under the default limits, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..guest_programs import compile_guest

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 6.0
GROWTH_MAX_BYTES = 200 << 20

# Runs the attack and then a harmless guest; the highest resident set is the kernel's own count (proc(5), VmHWM).
SCRIPT = """
import json, sys, time
import vfswasi

module, end, timeout, kind, place = sys.argv[1:]
harmless = b'(module (memory (export "memory") 1) (func (export "_start")))'
preopens = {"/": {}} if kind == "memory" else {"/": vfswasi.Mount(place, rw=True)}

def resident():
    with open("/proc/self/status") as status:
        return max(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

with vfswasi.Sandbox(module, preopens=preopens) as sandbox:
    vfswasi.run(harmless)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before, started = resident(), time.monotonic()
    out = {"limit": None, "trap": None}
    try:
        result = sandbox.run([end], timeout=float(timeout), capture_output=True)
        out |= {"limit": result.limit, "trap": result.trap}
    except vfswasi.GuestLimitError as error:
        result = error
        out["limit"] = error.limit
    out["seconds"] = time.monotonic() - started
    out["grown"] = resident() - before
    out["memory_bytes"] = result.usage.memory_bytes
    out["inodes"] = result.usage.inodes
    out["stderr"] = result.stderr.decode()
    started = time.monotonic()
    out["next"] = vfswasi.run(harmless, preopens={"/d": {"f": b""}}).returncode
    out["next_seconds"] = time.monotonic() - started
print(json.dumps(out))
"""


@pytest.mark.parametrize("kind", ["memory", "local"])
@pytest.mark.parametrize("end", ["poll", "loop", "recursion"])
def test_a_guest_that_tries_everything(end: str, kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(compile_guest("attack")), end, str(TIMEOUT_S), kind, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert out["seconds"] < TIMEOUT_S + 2, out
    assert out["grown"] - out["memory_bytes"] < GROWTH_MAX_BYTES, out
    assert out["inodes"] <= 65_536
    assert (out["next"], out["next_seconds"] < 2) == (0, True), out
    if end == "recursion":
        assert out["limit"] == "stack" or "exhausted" in out["trap"]
    else:
        assert out["limit"] == "wall_seconds"
