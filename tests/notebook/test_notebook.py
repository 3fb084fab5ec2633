"""A notebook's cells show what programs print, and views of results, trees and sandboxes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import pytest

from .cells import CELLS, COMMAND, Cell, notebook, text_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels of this interpreter, which import this package, and keep what is theirs elsewhere."""
    at = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(at / name.lower()))
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)
        yield


def executed(cells: list[Cell]) -> list[Any]:
    made = notebook(cells)
    client = nbclient.NotebookClient(made, timeout=120, kernel_name="python3")
    client.execute()
    return list(made.cells)


@pytest.fixture(scope="module")
def shown(_kernels: None) -> list[Any]:
    return executed(CELLS)


@pytest.mark.parametrize("number", range(len(CELLS)))
def test_a_cell_shows_what_it_should(number: int, shown: list[Any]) -> None:
    cell, expected = shown[number], CELLS[number]
    assert (text_of(cell, "stdout"), text_of(cell, "stderr")) == (expected.stdout, expected.stderr)
    assert "\r" not in str(cell.outputs)
    values = [output.data for output in cell.outputs if output.output_type == "execute_result"]
    assert len(values) == (expected.view is not None)
    for words in expected.view or ():
        assert words in values[0]["text/html"]
        assert "<script" not in values[0]["text/html"]
        assert len(values[0]["text/plain"]) < 1000


def test_output_comes_while_the_program_runs_and_stays_with_the_cell_that_began_it() -> None:
    """As what the same thread prints does."""
    cells = executed(
        [
            CELLS[0],
            Cell(
                """vfswasi.run  # which loads the engine
def work():
    print("begins")
    vfswasi.run(PROGRAM, ["x"] * 10)
    print("ends")
thread = threading.Thread(target=work)
thread.start()
time.sleep(0.45)
print("cell over")"""
            ),
            Cell("print('next cell')\nthread.join()\ntime.sleep(0.3)"),
        ]
    )
    texts = [text_of(cell, "stdout") for cell in cells]
    first, second = texts[1], texts[2]
    # What is printed while one cell ends and the next begins, nbclient may leave out.
    assert 8 <= (first + second).count("out\n") <= 10
    assert first.startswith("begins\nout\nout\n")
    # Whichever cell the kernel gives to a thread's print, our output is there as well.
    mine = first if "ends\n" in first else second
    assert mine.count("out\n") >= 5
    assert first.index("out\n") < first.index("cell over") or "cell over" not in first


def test_a_command_in_a_cell_shows_its_messages_and_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = executed([Cell(f"import os, sys\nos.chdir({str(tmp_path)!r})\n{COMMAND}")])[0]
    shown = text_of(cell, "stdout").replace("\r\n", "\n")
    assert shown == "done\nvfswasi: none.zip: no such archive\n"
