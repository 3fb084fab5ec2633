"""Run the notebook of the tests in JupyterLab in a headless browser, and take pictures: python -m tests.notebook DIR

Needs `pip install "vfswasi[browser]"` and a Chromium of the system's. Fails if a cell shows something else than it
should, or if anything that a program printed was taken for HTML or for a formula.
"""

from __future__ import annotations

import argparse
import html
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

from .cells import CELLS, Cell, notebook

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.notebook", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the pictures go")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    options = parser.parse_args()
    if options.chromium is None:
        parser.error("no chromium found; install one, or name it with --chromium")
    options.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        # Formulas are set in Markdown and in HTML, else the test of what is left alone would show nothing.
        formula = Cell("from IPython.display import HTML\nHTML('<p id=\"set\">$x^2$</p>')")
        made = notebook([*CELLS, formula])
        nbformat.write(made, Path(scratch) / "vfswasi.ipynb")
        port = _free_port()
        server = _start(scratch, port)
        try:
            _wait_for(port, server)
            return _look(options.chromium, port, options.directory)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _start(scratch: str, port: int) -> subprocess.Popen[bytes]:
    mine = {name: f"{scratch}/{name.lower()}" for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
        "--LabApp.news_url=",
    ]
    with open(f"{scratch}/log", "wb") as log:
        return subprocess.Popen(
            [*command, "--ServerApp.token=", "--ServerApp.password=", f"--ServerApp.root_dir={scratch}"],
            cwd=scratch,
            env={**os.environ, **mine, "JUPYTER_RUNTIME_DIR": f"{scratch}/runtime", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while server.poll() is None and time.monotonic() < give_up:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the notebook server did not start")


def _look(chromium: str, port: int, directory: Path) -> int:
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        # All cells at once: what is out of sight has no elements.
        page = browser.new_page(viewport={"width": 1200, "height": 3200})
        page.goto(f"http://127.0.0.1:{port}/lab/tree/vfswasi.ipynb?reset")
        page.wait_for_selector(".jp-CodeCell", timeout=PATIENCE_S * 1000)
        page.wait_for_function(
            "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'",
            timeout=PATIENCE_S * 1000,
        )
        page.click("text=Run >> nth=0")
        page.click("text=Run All Cells")
        last = len(CELLS) + 1
        page.wait_for_selector(f"text=[{last}]:", timeout=PATIENCE_S * 1000)
        page.wait_for_timeout(3000)  # formulas are set late
        failures = _failures(page)
        _pictures(page, directory)
        browser.close()
    for failure in failures:
        print(failure)
    print(f"{len(CELLS)} cells, {len(failures)} failures; pictures in {directory}")
    return 1 if failures else 0


def _failures(page: Page) -> list[str]:
    found = []
    for number, cell in enumerate(CELLS):
        below = page.locator(f".jp-CodeCell >> nth={number} >> .jp-Cell-outputArea")
        below.scroll_into_view_if_needed()
        for kind, words in (("stdout", cell.stdout), ("stderr", cell.stderr)):
            shown = "".join(below.locator(f'[data-mime-type="application/vnd.jupyter.{kind}"]').all_inner_texts())
            if shown.split() != words.split():
                found.append(f"cell {number}: {kind} is {shown!r}, not {words!r}")
        shown = "".join(below.locator(".jp-RenderedHTMLCommon").all_inner_texts())
        hidden = "".join(below.locator(".jp-RenderedHTMLCommon").all_text_contents())
        found += [
            f"cell {number}: no {words!r} in {shown!r}"
            for words in cell.view or ()
            if html.unescape(words) not in hidden
        ]
        if below.locator(".jp-RenderedHTMLCommon >> mjx-container").count() or below.locator("script, img").count():
            found.append(f"cell {number}: what a program printed became markup or a formula")
    if "broken" in page.title():
        found.append("a script that a program printed was run")
    if not page.locator("#set mjx-container").count():
        found.append("no formula is set in HTML at all, so that none is set in views says nothing")
    return found


def _pictures(page: Page, directory: Path) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    for number in range(1, len(CELLS)):
        cell = page.locator(f".jp-CodeCell >> nth={number}")
        cell.scroll_into_view_if_needed()
        cell.screenshot(path=directory / f"cell-{number:02}.png")
    page.screenshot(path=directory / "page.png")


if __name__ == "__main__":
    sys.exit(main())
