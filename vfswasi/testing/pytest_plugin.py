"""The pytest plugin: the fixtures `wasm`, `wasm_snapshot` and `wasm_fail`, and what a failing test shows of its runs.

It is loaded by every pytest beside which vfswasi is installed, so it loads nothing but itself until a test uses it.
See docs/pytest.md.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from .plugin.failures import WasmFail
    from .plugin.running import Wasm
    from .plugin.session import Session
    from .plugin.snapshots.snapshots import WasmSnapshot
    from .plugin.told import Told

_NAME: Final = "vfswasi.testing.pytest_plugin"
_SESSION: Final = pytest.StashKey["Session"]()
_TOLD: Final = pytest.StashKey["Told"]()
_XDIST: Final = "vfswasi_snapshots"  # what a worker of pytest-xdist tells its controller


class _EntryPoint:
    """What the entry point leads to: the module may have been loaded by its name already, with `-p`, and pytest would
    refuse it under a second one."""

    def pytest_addoption(self, pluginmanager: pytest.PytestPluginManager) -> None:
        pluginmanager.import_plugin(_NAME)


entry_point = _EntryPoint()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("wasm", "tests of WebAssembly programs (vfswasi)")
    group.addoption(
        "--wasm-update",
        action="store_true",
        help="write what tests compare with wasm_snapshot(...) to the snapshots, where it differs",
    )
    parser.addini(
        "wasm_programs", "directories in which wasm(...) looks for programs, after that of the test file", "paths", []
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "wasm(timeout=..., limits=..., memory=..., fuel=..., deterministic=..., env=..., check=..., trace=...): what "
        "wasm(...) of this test has unless it is told otherwise",
    )


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """What programs left may look like tests."""
    if collection_path.name != "snapshots":
        return None
    try:
        with open(collection_path / ".gitattributes", encoding="utf-8") as file:
            return True if "wasm_snapshot" in file.readline() else None
    except (OSError, ValueError):
        return None


def _session(config: pytest.Config) -> Session:
    if _SESSION not in config.stash:
        from .plugin.session import Session

        config.stash[_SESSION] = Session(config.rootpath, bool(config.getoption("--wasm-update")))
    return config.stash[_SESSION]


def _told(item: Any) -> Told:
    if _TOLD not in item.stash:
        from .plugin.told import Told

        item.stash[_TOLD] = Told()
    found: Told = item.stash[_TOLD]
    return found


@pytest.fixture
def wasm(request: pytest.FixtureRequest) -> Wasm:
    """`wasm("prog.wasm", "arg", files={"in.txt": "..."})` runs a program on files in memory and gives its Result."""
    from .plugin.defaults import defaults_of
    from .plugin.running import Wasm

    return Wasm(_session(request.config), _told(request.node), request.config, request.path, defaults_of(request.node))


@pytest.fixture
def wasm_snapshot(request: pytest.FixtureRequest) -> WasmSnapshot:
    """`assert result.files == wasm_snapshot("name")`: what lies in snapshots/, beside the test; `pytest --wasm-update`
    writes it."""
    from .plugin.snapshots.snapshots import WasmSnapshot

    return WasmSnapshot(_session(request.config), _told(request.node), request.path, request.node.nodeid)


@pytest.fixture
def wasm_fail(request: pytest.FixtureRequest) -> Iterator[WasmFail]:
    """`wasm_fail("write", nth=3, errno="NOSPC")`: in the runs that follow, the third write fails so."""
    from .plugin.failures import WasmFail

    told = _told(request.node)
    yield WasmFail(told)
    if not told.failed:
        told.check_failures()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    told = item.stash.get(_TOLD, None)
    if told is not None and call.excinfo is not None and not item.config.getoption("fulltrace"):
        from .plugin.frames import hide_ours

        hide_ours(call)
    report = yield
    if told is not None and report.failed:
        told.failed = True
        from .plugin.reports import sections

        report.sections.extend(sections(told))
    if told is not None and call.when == "teardown":
        del item.stash[_TOLD]  # pytest keeps the items, and each run has its files
    return report


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    snapshots = sys.modules.get("vfswasi.testing.plugin.snapshots.snapshots")
    return None if snapshots is None else snapshots.explained(op, left, right)


def pytest_sessionfinish(session: pytest.Session) -> None:
    ours = session.config.stash.get(_SESSION, None)
    output = getattr(session.config, "workeroutput", None)
    if ours is not None and output is not None:
        output[_XDIST] = list(ours.written)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    written = getattr(node, "workeroutput", {}).get(_XDIST)
    if written:
        _session(node.config).written.update(dict.fromkeys(written, ""))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    ours = config.stash.get(_SESSION, None)
    if ours is not None and ours.written:
        terminalreporter.section("wasm snapshots written")
        for place in sorted(ours.written):
            terminalreporter.write_line(place)


def pytest_unconfigure(config: pytest.Config) -> None:
    ours = config.stash.get(_SESSION, None)
    if ours is not None:
        ours.close()
