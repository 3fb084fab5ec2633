"""The page: what there is to say of a run, put into the template."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SandboxError
from . import calls, changed, looked_at, output, ran
from .given import Given
from .refusals import is_refused, refusals
from .words import time_text

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent


def check_installed() -> None:
    """Raises SandboxError: a package is missing."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise SandboxError('a report needs the package Jinja2: pip install "vfswasi[report]"') from None


def page(result: Any, given: Given | None) -> str:
    """Raises SandboxError: a package is missing."""
    check_installed()
    template, style, script = _template()
    trace, accesses = result.trace, result.accesses
    refused = sum(map(is_refused, trace or ()))
    told, tone = ran.ending(result)
    content: dict[str, Any] = {
        "name": ran.name_of(result),
        "arguments": ran.arguments(result),
        "ending": told,
        "tone": tone,
        "trap": None if result.trap is None else output.end_of(result.trap, 8000)[0],
        "said": output.last_words(result) if tone == "bad" else "",
        "facts": ran.facts(result, given, trace, refused),
        "conditions": ran.conditions(result, given),
        "refusals": refusals(trace or (), given, result),
        "time": ran.time_parts(result, given, trace),
        "timeline": None if trace is None else calls.timeline(trace, int(result.usage.wall_seconds * 10**9)),
        "calls": None if trace is None else calls.counted(trace.stats),
        "last": [] if trace is None else calls.last_calls(trace),
        "files": None if trace is None else calls.bytes_of_files(trace),
        "mounts": ran.mounts(result, given),
        "accesses": None if accesses is None else looked_at.looked_at(accesses),
        "changes": changed.changed(result.changes),
        "output": output.printed(result),
        "limits": ran.limits(result, given),
        "traced": trace is not None,
        "noted": accesses is not None,
        "overlaid": bool(result.changes),
        "bins": calls.BINS,
        "height": calls.HEIGHT,
    }
    return template.render(
        content,
        sections=ran.sections(content),
        style=style,
        script=script,
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


@cache
def _template() -> tuple[Template, str, str]:
    """The template, and what stands in it as it is."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["time"] = time_text
    text, style, script = ((_HERE / name).read_text("utf-8") for name in ("page.html.j2", "page.css", "page.js"))
    return environment.from_string(text), style, script


def _digest(text: str) -> str:
    """As a policy of the page names what may be in it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
