"""`Report`: a page about a run, as one file."""

from __future__ import annotations

import os
from typing import Any

from ..saved.beside import naming, written_beside


class Report:
    """A page of HTML that stands for itself: nothing in it is fetched from anywhere, and what the program chose (names,
    output) is text in it and nothing else.

    html: the page. In a notebook it is shown in a frame.
    """

    html: str

    def __init__(self, html: str) -> None:
        self.html = html

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, which takes its place when it is whole; what was there is replaced. Raises OSError."""
        with naming(path), written_beside(path, overwrite=True) as file:
            file.write(self.html.encode())

    def __repr__(self) -> str:
        return f"<Report of {len(self.html.encode()):,} bytes>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from html import escape

        return (
            '<iframe title="Report of a run" sandbox="allow-scripts" width="100%" height="640" '
            f'srcdoc="{escape(self.html)}"></iframe>'
        )


def report_of(result: Any) -> Report:
    """Of a `Result`, with what it has. Raises SandboxError: a package is missing."""
    from .page import page

    return Report(page(result, result._given))
