"""What a tree literal may hold: names, links and text, each checked where it stands in the tree."""

from __future__ import annotations

from ...records import record

_NAME_MAX_BYTES = 255


@record(frozen=True)
class Symlink:
    """A symbolic link in a tree literal."""

    target: str


def check_name(name: object, path: str) -> None:
    """`path` is for the message. Raises TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"{path}: a name must be a str, not {type(name).__name__}")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{path}: {name!r} is not a file name; use nested dicts for directories")
    size = len(encoded(name, path))
    if size > _NAME_MAX_BYTES:
        raise ValueError(f"{path}: a name may have {_NAME_MAX_BYTES} bytes, not {size}")


def check_target(target: object, path: str) -> None:
    """The target of a link. Raises TypeError, ValueError."""
    if not isinstance(target, str):
        raise TypeError(f"{path}: the target of a link must be a str, not {type(target).__name__}")
    if "\0" in target:
        raise ValueError(f"{path}: the target of a link cannot hold a NUL")
    encoded(target, path)


def encoded(text: str, path: str) -> bytes:
    """`text` as UTF-8. Raises ValueError (it holds surrogates)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!r}: {text!r} is not valid Unicode") from None
