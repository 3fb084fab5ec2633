"""The plugin is beside every pytest: it costs nothing until it is used, and works under pytest-xdist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from .conftest import PLUGIN, RunTests

ROOT = Path(__file__).parents[2]


def test_the_entry_point_leads_to_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    value = project["entry-points"]["pytest11"]["vfswasi"]
    assert EntryPoint("vfswasi", value, "pytest11").load().pytest_addoption
    assert value.partition(":")[0] == PLUGIN
    assert not any("pytest" in name for name in project["dependencies"])


def test_nothing_is_loaded_but_the_plugin_itself_until_a_test_uses_it(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    code = """
    import sys

    def loaded():
        return {name for name in sys.modules if name.partition(".")[0] in ("vfswasi", "wasmtime", "fsspec", "anyio")}

    AT_COLLECTION = loaded()

    def test(request):
        mine = {name for name in loaded() if not name.startswith("anyio")}
        assert mine == {"vfswasi", "vfswasi.errors", "vfswasi.printing", "vfswasi.testing", "PLUGIN"}
        assert AT_COLLECTION <= loaded()
    """
    passing = run_tests(code.replace("PLUGIN", PLUGIN), subprocess=True)
    passing.assert_outcomes(passed=1)


@pytest.mark.parametrize("also", ["-p", "both"])
def test_it_may_be_loaded_by_its_entry_point_and_by_its_name(
    run_tests: RunTests, pytester: pytest.Pytester, also: str
) -> None:
    # An entry point is what a distribution says; this one stands in a directory on the path.
    info = pytester.mkdir("beside") / "beside-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: beside\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\nvfswasi = {PLUGIN}:entry_point\n")
    pytester.syspathinsert(pytester.path / "beside")
    if also != "-p":
        pytester.makeconftest(f"pytest_plugins = ['{PLUGIN}']")
    pytester.makepyfile(test_it="def test(wasm): assert wasm('wordcount.wasm', check=False).returncode == 2")
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", "-p", PLUGIN)
    result.assert_outcomes(passed=1)
    without = pytester.runpytest_subprocess("-p", "no:vfswasi", "-p", "no:cacheprovider") if also == "-p" else None
    if without is not None:
        without.assert_outcomes(errors=1)
        without.stdout.fnmatch_lines(["E*fixture 'wasm' not found"])


def test_its_options_and_markers_are_described(run_tests: RunTests) -> None:
    shown = run_tests("", "--help").stdout.str()
    assert "--wasm-update" in shown
    assert "wasm_programs" in shown
    assert "@pytest.mark.wasm(timeout=..., limits=...," in run_tests("", "--markers").stdout.str()
    fixtures = run_tests("", "--fixtures").stdout.str()
    for name in ("wasm", "wasm_snapshot", "wasm_fail"):
        assert re.search(rf"^{name} -- .*pytest_plugin", fixtures, re.MULTILINE)


def test_under_xdist_runs_snapshots_updates_and_reports_work_as_without(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    code = """
    import pytest

    @pytest.mark.parametrize("n", range(4))
    def test(wasm, wasm_snapshot, n):
        result = wasm("wordcount.wasm", "r", "in", files={"in": {str(n): "x y"}})
        assert result.files == wasm_snapshot(f"files{n}")
        assert result.trace == wasm_snapshot(f"calls{n}.txt")
        assert result.stdout == wasm_snapshot("same.txt")
    """
    parallel = ("-n", "2")
    written = run_tests(code, *parallel, "--wasm-update", subprocess=True)
    written.assert_outcomes(passed=4)
    names = {"same.txt", *(f"files{n}" for n in range(4)), *(f"calls{n}.txt" for n in range(4))}
    assert {line for line in written.outlines if line.startswith("snapshots/")} == {
        f"snapshots/test_it/{name}" for name in names
    }
    (pytester.path / "snapshots" / "test_it" / "files1" / "r").unlink()
    failed = run_tests(None, *parallel, subprocess=True)
    failed.assert_outcomes(passed=3, failed=1)
    failed.stdout.fnmatch_lines(
        ["E*the snapshot snapshots/test_it/files1 is different*", "*wasm: wordcount.wasm r in*"]
    )
    assert not list((pytester.path / "snapshots").rglob(".wasm_snapshot*"))
    run_tests(None, "--wasm-update").assert_outcomes(passed=4)


def test_without_a_program_no_sandbox_is_made_and_each_is_closed_in_the_end(run_tests: RunTests) -> None:
    code = """
    import vfswasi

    def test(wasm, request):
        made = []
        real = vfswasi.Sandbox.close
        wasm("wordcount.wasm", check=False)
        (sandbox,) = [value for value in gc_sandboxes() if not value._closed]
        sandbox.close = lambda: print("closed") or real(sandbox)

    def gc_sandboxes():
        import gc
        return [each for each in gc.get_objects() if type(each) is vfswasi.Sandbox]
    """
    result = run_tests(code, "-s", subprocess=True)
    result.assert_outcomes(passed=1)
    assert result.outlines[-1] == "closed"


def test_importing_the_plugin_is_quick_beside_pytest() -> None:
    """Counted in modules, as a time would depend on the machine."""
    code = f"import pytest, sys; before = set(sys.modules); import {PLUGIN}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    own = ["vfswasi", "vfswasi.errors", "vfswasi.printing", "vfswasi.testing", PLUGIN]
    assert done.stdout.split() == sorted(own)
