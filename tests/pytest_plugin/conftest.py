"""A pytest within pytest, with the plugin and a program."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

# All that a test of the inner pytest loads: it forgets what was imported while it ran, and would load it twice.
import vfswasi.host.running
import vfswasi.observe.trace.trace
import vfswasi.testing.plugin.running
import vfswasi.testing.plugin.snapshots.snapshots  # noqa: F401

EXAMPLES = Path(__file__).parents[2] / "examples"
PLUGIN = "vfswasi.testing.pytest_plugin"

RunTests = Callable[..., pytest.RunResult]


@pytest.fixture
def run_tests(pytester: pytest.Pytester) -> RunTests:
    """`run_tests(code, *options)` runs the code as test_it.py, beside wordcount.wasm; without code what is there."""
    shutil.copy(EXAMPLES / "wordcount.wasm", pytester.path)

    def run(code: str | None = None, *options: str, subprocess: bool = False) -> pytest.RunResult:
        if code is not None:
            pytester.makepyfile(test_it=textwrap.dedent(code))
        whole = ["-p", PLUGIN, "-p", "no:cacheprovider", "-W", "error", *options]
        if subprocess:
            return pytester.runpytest_subprocess(*whole)
        # A second faulthandler would stand before the signal handler of wasmtime, which is there already.
        return pytester.runpytest_inprocess("-p", "no:faulthandler", *whole)

    return run
