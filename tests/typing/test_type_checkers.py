"""mypy and pyright refuse each wrong call, and accept each right one. basedpyright is pyright with its Node in the
package; it checks here as pyright does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLS = Path(__file__).with_name("calls.py")


def _wrong() -> set[int]:
    lines = CALLS.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong") and not line.startswith("#")}


def _run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def _explained(found: dict[int, str]) -> str:
    lines = CALLS.read_text().splitlines()
    accepted = [f"accepted: {lines[number - 1].strip()}" for number in sorted(_wrong() - set(found))]
    refused = [f"refused: {lines[number - 1].strip()}: {found[number]}" for number in sorted(set(found) - _wrong())]
    return "\n".join([*accepted, *refused])


def test_mypy() -> None:
    told = _run("mypy", "--strict", "--no-error-summary", "--allow-untyped-globals", str(CALLS.relative_to(ROOT)))
    found: dict[int, str] = {}
    for line in told.splitlines():
        match = re.match(r"tests/typing/calls\.py:(\d+): error: (.*)", line)
        if match:
            found[int(match[1])] = match[2]
        else:
            assert ": note: " in line, line
    assert not _explained(found), _explained(found)
    assert len(found) > 60


def test_pyright(tmp_path: Path) -> None:
    settings = {"include": [str(CALLS)], "typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    told = _run("basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path))
    found: dict[int, str] = {}
    for each in json.loads(told)["generalDiagnostics"]:
        if each["severity"] == "error":
            assert each["file"] == str(CALLS), each
            found[each["range"]["start"]["line"] + 1] = each["message"]
    assert not _explained(found), _explained(found)
    assert len(found) > 60
