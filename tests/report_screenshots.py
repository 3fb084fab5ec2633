"""Takes the pictures of a report that the documentation shows: python -m tests.report_screenshots [DIR]

GCC, compiled to WebAssembly, compiles a program: its headers are in a zip archive, its sources in another one, with an
overlay, and it is told to write a list of what it included among the headers, which are read-only. Needs the packages
of the extra `test` and a Chromium of the system's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vfswasi
from tests import avr_build
from tests.observe.report.browser import CHROMIUM, chromium, opened

PICTURES = Path(__file__).parents[1] / "docs" / "images"
BYTES_MAX = 200_000
# name -> what the browser is, and the section that the picture begins with.
VIEWS: Mapping[str, dict[str, Any]] = {
    "report-desktop": {"width": 1120, "height": 1160},
    "report-dark": {"width": 1120, "height": 900, "color_scheme": "dark", "section": "#calls"},
    "report-phone": {"width": 390, "height": 844, "device_scale_factor": 2},
    "report-phone-files": {"width": 390, "height": 844, "device_scale_factor": 2, "section": "#files"},
}


def archive(files: Mapping[str, bytes]) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            writer.writestr(zipfile.ZipInfo(name, (2026, 1, 31, 12, 0, 0)), content)
    made.seek(0)
    return made


def compiled(scratch: Path) -> vfswasi.Result[Any]:
    """The run that the pictures are of."""
    sources = {path.name: path.read_bytes() for path in sorted(avr_build.SOURCE.iterdir()) if path.is_file()}
    sources["firmware.s"] = b'\t.file\t"firmware.c"\n\t.text\n; of an older compiler\n'
    for name, files in (("headers.zip", avr_build.headers()), ("sources.zip", sources)):
        (scratch / name).write_bytes(archive(files).getvalue())
    arguments = ["/src/firmware.s" if word == "/out/firmware.s" else word for word in avr_build.STEPS[0][1]]
    return vfswasi.run(
        avr_build.program("cc1"),
        [*arguments, "-MD", "/inc/firmware.d"],
        preopens={
            "/inc": "headers.zip",
            "/src": vfswasi.Mount("sources.zip", overlay=True),
        },
        capture_output=True,
        seed=7,
        trace=True,
        accesses=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.report_screenshots", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", default=PICTURES, help="where they go (docs/images)")
    options = parser.parse_args()
    if CHROMIUM is None:
        parser.error("no chromium found; install one, or name it in VFSWASI_CHROMIUM")
    options.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        with contextlib.chdir(scratch):  # sources are shown by the names that they are given
            result = compiled(Path(scratch))
        file = Path(scratch) / "report.html"
        result.report().save(file)
        print(f"{result!r}: a report of {file.stat().st_size:,} bytes")
        return _taken(file, options.directory)


def _taken(file: Path, directory: Path) -> int:
    large = 0
    with chromium() as browser:
        for name, view in VIEWS.items():
            section = view.get("section")
            with opened(browser, file, **{key: value for key, value in view.items() if key != "section"}) as page:
                if section is not None:
                    page.locator(section).evaluate("element => element.scrollIntoView({behavior: 'instant'})")
                picture = directory / f"{name}.png"
                page.screenshot(path=picture)
                size = picture.stat().st_size
                large += size > BYTES_MAX
                print(f"{picture}: {size:,} bytes{' is too large' if size > BYTES_MAX else ''}")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
