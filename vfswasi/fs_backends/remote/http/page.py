"""The links of an HTML page that nobody vouches for.

`html.parser` of the standard library takes minutes for pages of some kilobytes that are made for it (CVE-2025-6069 and
its like), and holds the interpreter's lock meanwhile. So tags are found here, in one pass that never goes back: each
step is a search for a byte or one bounded run of a class of bytes, and between steps the time is looked at.

Source: HTML Living Standard, 13.2.5 (tokenization), of which what can hold no link is skipped.
"""

from __future__ import annotations

import html
import html.entities
import re
from collections.abc import Callable, Iterator

VALUE_MAX_BYTES = 8192
_STEPS = 256  # between two looks at the time

# One class each, never given back: the time is that of the bytes that are passed over.
_TAG = re.compile(rb"</?+([A-Za-z][^\s/>]{0,63}+)")
_BETWEEN = re.compile(rb"[\s/]{0,8192}+")
_NAME = re.compile(rb"=?+[^\s/>=]{0,8192}+")
_EQUALS = re.compile(rb"\s{0,8192}+=\s{0,8192}+")
_BARE = re.compile(rb"[^\s>]{0,8192}+")
_REFERENCE = re.compile(r"&(#[0-9]{1,8}+|#[xX][0-9A-Fa-f]{1,8}+|[A-Za-z][0-9A-Za-z]{0,31}+)(;?+)(=?+)")

# What is in these is text up to their end tag.
_TEXT = frozenset({b"script", b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes"})
_ENDS = b" \t\r\n\f/>"
_LATIN = frozenset({"iso-8859-1", "latin1", "latin-1", "windows-1252", "cp1252"})


def links(page: bytes, charset: str, check: Callable[[], None]) -> Iterator[tuple[str, str]]:
    """`("a", href)` for each link and `("base", href)` for each base, in order, references such as `&amp;` resolved.

    check: called every few hundred steps; may raise. Values over `VALUE_MAX_BYTES`, and those that are no text in
    `charset` (UTF-8, unless it is a name of Latin-1), are left out.
    """
    encoding = "cp1252" if charset.lower() in _LATIN else "utf-8"
    for name, value in _Scanner(page, check).hrefs():
        try:
            yield name.decode(), unescaped(value.decode(encoding))
        except UnicodeDecodeError:
            continue


def unescaped(value: str) -> str:
    """The value of an attribute, with its character references resolved (13.2.5.73)."""
    return _REFERENCE.sub(_resolved, value) if "&" in value else value


def _resolved(found: re.Match[str]) -> str:
    name, semicolon, equals = found.groups()
    if name[0] == "#":
        return html.unescape(f"&{name};") + equals
    if not semicolon and equals:  # `?a=1&copy=2` is no copyright sign
        return found[0]
    known = html.entities.html5.get(name + semicolon)
    return found[0] if known is None else known + equals


class _Scanner:
    def __init__(self, page: bytes, check: Callable[[], None]) -> None:
        self._page = page
        self._check = check
        self._steps = 0

    def _step(self) -> None:
        self._steps += 1
        if not self._steps % _STEPS:
            self._check()

    def hrefs(self) -> Iterator[tuple[bytes, bytes]]:
        page = self._page
        at = page.find(b"<")
        while at >= 0:
            self._step()
            if page.startswith(b"<!--", at):
                end = page.find(b"-->", at + 2)  # `<!-->` is a comment, too
                at = end if end < 0 else page.find(b"<", end + 3)
                continue
            tag = _TAG.match(page, at)
            if tag is None:
                # `<!`, `<?` and `</` begin what ends with the next `>`; other `<` are text.
                if page[at + 1 : at + 2] in (b"!", b"?", b"/"):
                    at = page.find(b">", at + 1)
                at = page.find(b"<", at + 1) if at >= 0 else at
                continue
            at, href = self._attributes(tag.end())
            if at < 0:
                return
            if page[tag.start() + 1] != ord("/"):
                name = tag[1].lower()
                if name in (b"a", b"base") and href is not None:
                    yield name, href
                elif name in _TEXT:
                    at = self._end_of_text(at, name)
            at = page.find(b"<", at) if at >= 0 else at

    def _attributes(self, at: int) -> tuple[int, bytes | None]:
        """Behind a tag's `>`, or -1 if it has none; and its first `href`."""
        page = self._page
        href: bytes | None = None
        while True:
            self._step()
            at = _end(_BETWEEN, page, at)
            if at >= len(page):
                return -1, None
            byte = page[at]
            if byte == ord(">"):
                return at + 1, href
            if byte in b" \t\r\n\f\v/":  # more of it than one run
                continue
            start, at = at, _end(_NAME, page, at)
            is_href = href is None and page[start:at].lower() == b"href"
            equals = _EQUALS.match(page, at)
            if equals is None:
                continue
            at = equals.end()
            quote = page[at : at + 1]
            if quote in (b'"', b"'"):
                start, at = at + 1, page.find(quote, at + 1)
                if at < 0:
                    return -1, None
                end, at = at, at + 1
            else:
                start, at = at, _end(_BARE, page, at)
                end = at
            if is_href and end - start <= VALUE_MAX_BYTES:
                href = page[start:end]

    def _end_of_text(self, at: int, name: bytes) -> int:
        page = self._page
        while (at := page.find(b"</", at)) >= 0:
            self._step()
            end = at + 2 + len(name)
            if page[at + 2 : end].lower() == name and page[end : end + 1] in _ENDS:
                return at
            at += 2
        return -1


def _end(pattern: re.Pattern[bytes], page: bytes, at: int) -> int:
    found = pattern.match(page, at)
    return at if found is None else found.end()
