"""Foreign text in our own messages: names in a guest's sections, names of files, sources with secrets in them."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable

# What begins another part of a chained URL. A password may hold `::` itself.
_NEXT_PART = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*:[/:])")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?!:)/*")
_HOST = re.compile(r"([^:@\[\]]*|\[[0-9A-Fa-f:.]*\])(:[0-9]*)?")
_PARAMETERS = re.compile(r";|%3[Bb]")
# Where a semicolon is a part of a name: stores without parameters, and what leads to files of this machine.
_WITHOUT_PARAMETERS = frozenset("s3 s3a gs gcs az abfs abfss file local zip tar mem memory".split())
_HIDDEN = "***"
# Where fsspec has what looks like a name and a password, and is none: github://ORG:REPO@REF/, git://DIR:REF@/.
_NO_PASSWORD = frozenset({"github", "git"})
_ORG_AND_REPO = re.compile(r"[\w./-]*:[\w.-]+@(?![^/]*[:@])")
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*)?://[^/@:]*:[^/@]*@")
# Classes of HTML in which a notebook sets no formulas: `$\\href{javascript:...}{...}$` would be a link.
UNTOUCHED = "tex2jax_ignore mathjax_ignore"


def printable(text: str) -> str:
    """The text on one line, without characters that a terminal would act upon."""
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)


def counted(number: float, unit: str) -> str:
    """ "1 second", "2.5 seconds", "1,000 bytes": a number and its unit, which is given in the singular."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:,.12g}"
    if number == 1:
        return f"{text} {unit}"
    return f"{text} {unit[:-1]}ies" if unit.endswith("y") else f"{text} {unit}s"


def html_text(text: str, most: int = 1000) -> str:
    """One line of text in a page, of at most so many characters: nothing in it is markup, moves the cursor or turns the
    direction of writing."""
    from html import escape  # slow to import, and used in notebooks only

    cut = printable(text[:most])
    return escape(cut if len(text) <= most else f"{cut}...")


def redacted(text: str) -> str:
    """A path or URL, chained ones too, without user names, passwords, parameters, queries and fragments.

    Whatever could be one of them goes: what lies before the last `@`, all of a host that is none, all behind `?`, and
    behind `;` where that is no part of a name.
    """
    return "::".join(_redacted_part(part) for part in _NEXT_PART.split(text))


def _redacted_part(part: str) -> str:
    if part.startswith(("/", "./", "../", "~")) and "://" not in part:
        return part  # a path of this machine
    found = _SCHEME.search(part)
    if found is None:
        return _without_user(part) if ":" in part and "@" in part else part
    before, rest = part[: found.end()], part[found.end() :]
    place, *more = re.split(r"[?#]", rest, maxsplit=1)
    plain = before.rpartition(":")[0].lower() in _NO_PASSWORD and _ORG_AND_REPO.match(place)
    place, parameters = place if plain else _without_user(place), []
    if before.rstrip("/").rstrip(":").lower() not in _WITHOUT_PARAMETERS:
        place, *parameters = _PARAMETERS.split(place, maxsplit=1)
    return before + place + (f";{_HIDDEN}" if parameters else "") + (f"?{_HIDDEN}" if more else "")


def has_password(source: str) -> bool:
    """Whether a part of a URL, chained ones too, has a password in it."""
    for found in _CREDENTIALS.finditer(source):
        plain = (found[1] or "").lower() in _NO_PASSWORD and _ORG_AND_REPO.match(source, found.end(1) + 3)
        if not plain:
            return True
    return False


def _without_user(rest: str) -> str:
    """What follows the scheme."""
    user, at, place = rest.rpartition("@")
    if at and (":" in user or "/" not in user):
        return f"{_HIDDEN}@{_with_host(place)}"
    return _with_host(rest)


def _with_host(place: str) -> str:
    """Unless it begins with something else: what could be a password in the place of a host or a port."""
    host, slash, path = place.partition("/")
    name = _PARAMETERS.split(host)[0]
    if "[" not in name:
        name = name.rpartition("::")[2]  # behind what is in an archive
    return place if _HOST.fullmatch(name) else _HIDDEN + slash + path


def shown(source: object) -> str:
    """What was passed as a mount's source, or as a value of an option, for messages: without secrets."""
    if isinstance(source, str):
        return repr(redacted(source))
    if isinstance(source, pathlib.PurePath) and type(source).__module__.partition(".")[0] == "pathlib":
        return repr(os.fspath(source))
    if isinstance(source, bool | int | float | None):
        return repr(source)
    return type(source).__name__


def without_secrets(message: str) -> str:
    """A message that may quote sources, of which each word that looks like a URL is redacted."""
    return re.sub(r"[^\s'\"]*:/[^\s'\"]*", lambda match: redacted(match[0]), message)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" for the known word that is next to it; nothing if none is near."""
    import difflib  # slow to import

    words = list(known)
    begun = [each for each in words if len(word.strip("-")) > 2 and each.startswith(word)]
    near = begun or difflib.get_close_matches(word, words, 1)
    return f"; did you mean {near[0]}?" if near else ""
