"""Where a URL leads, compared with where a mount is: the same origin, and below its root.

Source: RFC 3986, 3 and 5; RFC 6454, 4 (origins).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urljoin, urlsplit

from ....errors import MountError
from ....printing import redacted
from ..client import fits_a_key

Origin = tuple[str, str, int]

_PORTS = {"http": 80, "https": 443}
_SAFE = "/%:@!$&'()*+,;=~-._"  # stand for themselves in a path that is encoded already
_BLANKS = " \t\n\r\f"
_SHOWN_MAX = 200


def parts_of(url: str) -> SplitResult | None:
    """A URL of a web server in parts; None for everything else."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in _PORTS and parts.hostname and (parts.port or 1) > 0 else None
    except ValueError:
        return None


def origin_of(parts: SplitResult) -> Origin:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]


def names_of(path: str) -> tuple[bytes, ...] | None:
    """The components of a path, decoded, without empty ones; None if one of them could lead elsewhere or be two."""
    names = tuple(unquote_to_bytes(name) for name in path.split("/") if name)
    if any(name in (b".", b"..") or b"/" in name or b"\0" in name for name in names):
        return None
    return names


def shown(url: str) -> str:
    """A URL of a server's, for messages: without user names, passwords, parameters and queries."""
    parts = parts_of(url)
    if parts is None:
        text = "another kind of URL"
    else:
        text = redacted(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    return repr(text)[1:-1][:_SHOWN_MAX]


class Root:
    """What is mounted: everything of one origin whose path begins with the same names."""

    def __init__(self, url: str) -> None:
        """`url`: encoded. Raises MountError."""
        parts = parts_of(url)
        names = None if parts is None else names_of(parts.path)
        if parts is None or names is None:
            raise MountError(f"{shown(url)} is no URL of a directory of a web server")
        self._parts = parts
        self.origin = origin_of(parts)
        self.names = names

    def holds(self, parts: SplitResult) -> bool:
        """Whether a URL is of this origin, and below the root or the root itself. One that says who asks is not."""
        names = names_of(parts.path)
        inside = names is not None and names[: len(self.names)] == self.names
        return inside and origin_of(parts) == self.origin and "@" not in parts.netloc

    def url_of(self, parts: SplitResult) -> str:
        """The URL with our own spelling of the origin, who asks included."""
        path, query = quote(parts.path, safe=_SAFE), quote(parts.query, safe=_SAFE + "?")
        return self._parts._replace(path=path or "/", query=query, fragment="").geturl()


def redirected(url: str, location: str) -> SplitResult | None:
    """Where a redirect of `url` leads; None if that is no place of a web server."""
    location = location.strip(_BLANKS)
    if not location:
        return None
    try:
        target = urljoin(_bare(url), location)
    except ValueError:
        return None
    # Some servers and browsers take a backslash for a slash.
    return None if "\\" in unquote(target) else parts_of(target)


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def is_itself_as_directory(url: str, target: SplitResult) -> bool:
    """Whether a redirect does nothing but add a slash: what a server says of a directory."""
    parts = urlsplit(url)
    return (
        target.path.endswith("/")
        and not parts.path.endswith("/")
        and origin_of(parts) == origin_of(target)
        and names_of(parts.path) == names_of(target.path)
        and "@" not in target.netloc
    )


def names_on_page(
    links: Iterable[tuple[str, str]], here: str, page: str, count: Callable[[int], None]
) -> dict[str, bool]:
    """The names directly below the directory `here` that a page links to, and whether each is a directory.

    page: the URL that the page came from. count: told how many there are; may raise. Links with a query of their own,
    and those whose names a key cannot hold, are left out.
    """
    root, base, based = Root(here), _bare(page), False
    query = urlsplit(here).query
    found: dict[str, bool] = {}
    for tag, text in links:
        text = text.strip(_BLANKS)
        try:
            target = urljoin(base, text)
        except ValueError:
            continue
        if tag == "base":
            base, based = (base, based) if based else (target, True)
            continue
        parts = parts_of(target) if "\\" not in text else None
        if parts is None or parts.query not in ("", query) or not root.holds(parts):
            continue
        below = (names_of(parts.path) or ())[len(root.names) :]
        if len(below) != 1:
            continue
        try:
            name = below[0].decode()
        except UnicodeDecodeError:
            continue
        if fits_a_key(name):
            found[name] = found.get(name, False) or parts.path.endswith("/")
            count(len(found))
    return found
