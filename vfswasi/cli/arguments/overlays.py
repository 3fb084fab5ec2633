"""What becomes of what a program has changed, in overlays above all: it is shown, saved, applied."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...mounts.options import Mount
from ...printing import printable, shown
from ..messages import keep, words_of
from .parser import Parser

if TYPE_CHECKING:
    from ...observe.changes import Changes

_NONE: Final = "no mount has an overlay; write overlay behind the one that is meant: --mount /data=DIR,overlay"

_NOTHING: Final = (
    "no mount has an overlay, or can be written to; write overlay behind the one that is meant: "
    "--mount /data=DIR,overlay"
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--changes", action="store_true", help="list what the program has changed, on standard error")
    parser.add_argument("--diff", action="store_true", help="show it as a unified diff, on standard error")
    parser.add_argument(
        "--save-changes",
        action="append",
        default=[],
        metavar="[GUEST=]FILE",
        help="save what it has changed in an overlay (of the mount GUEST, if there are several), for vfswasi changes "
        "and vfswasi apply",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="when the program ends with status 0, make the changes in what lies below its overlays, all or none",
    )


class Overlays:
    """What the options ask for. mounts: with what `--apply` means. saved: guest directory -> file, as far as it is
    done. changes: what has been told."""

    def __init__(self, options: Namespace, mounts: Mapping[str, Any]) -> None:
        """Raises ValueError."""
        self._list, self._diff = options.changes, options.diff
        names = [name for name, mount in mounts.items() if isinstance(mount, Mount) and mount.overlay is not False]
        known = names or [name for name, mount in mounts.items() if _is_writable(mount)]
        asked = {"--changes": self._list, "--diff": self._diff, "--save-changes": options.save_changes}
        for option, value in asked.items():
            if value and not known:
                raise ValueError(f"{option}: {_NOTHING}")
        if options.apply and not names:
            raise ValueError(f"--apply: {_NONE}")
        self._several = sum(name in names or _is_writable(mount) for name, mount in mounts.items()) > 1
        self.files = dict(_file_of(text, known) for text in options.save_changes)
        if len(self.files) != len(options.save_changes):
            raise ValueError("--save-changes: a mount is given twice; each can be saved in one file")
        for text in self.files.values():
            if not os.path.isdir(os.path.dirname(os.path.abspath(text))) or os.path.isdir(text):
                raise ValueError(f"--save-changes {shown(text)}: there is no such directory to write a file in")
        self.saved: dict[str, str] = {}
        self.changes: Mapping[str, Changes] | None = None
        self.mounts = dict(mounts)
        if options.apply:
            from dataclasses import replace

            self.mounts |= {name: replace(mounts[name], apply="success") for name in names}

    @property
    def wanted(self) -> bool:
        """Whether anybody asked to know what has changed."""
        return bool(self._list or self._diff or self.files)

    def tell(self, changes: Mapping[str, Changes]) -> None:
        """Save and show. Raises OSError: some could not be saved where they should be; it says where they are."""
        self.changes = changes
        failed: list[str] = []
        for name, path in self.files.items():
            if name not in changes:
                continue
            try:
                changes[name].save(path)
                self.saved[name] = path
            except Exception as error:
                failed.append(f"{path}: {words_of(error)}; {keep({name: changes[name]}, self.saved)}")
        if self._list:
            for line in self._lines(changes):
                print(line, file=sys.stderr)
        if self._diff:
            for name, each in changes.items():
                if self._several and each:
                    print(f"# {printable(name)}", file=sys.stderr)
                _print(each.iter_diff())
        if failed:
            raise OSError("changes could not be saved in " + "; in ".join(failed))

    def _lines(self, changes: Mapping[str, Changes]) -> Iterator[str]:
        some = False
        for name, each in changes.items():
            for change in each:
                some = True
                yield str(_below(name, change) if self._several else change)
        if not some:
            yield "vfswasi: nothing has changed"


def _is_writable(mount: Any) -> bool:
    """Whether the program changes the source itself, or a tree in memory."""
    if not isinstance(mount, Mount):
        return mount == "mem:" or isinstance(mount, Mapping)
    return mount.overlay is False and (bool(mount.rw) or (mount.source == "mem:" and mount.rw is None))


def _file_of(text: str, names: list[str]) -> tuple[str, str]:
    """(guest directory, file) that `[GUEST=]FILE` means. Raises ValueError."""
    guest, equals, path = text.partition("=")
    name = guest.rstrip("/") or "/"
    if equals and path and name in names:
        return name, path
    if equals and guest.startswith("/"):
        raise ValueError(f"--save-changes {shown(text)}: there is no overlay at {guest}; there are {', '.join(names)}")
    if not text:
        raise ValueError("--save-changes needs the name of a file")
    if len(names) > 1:
        ways = " ".join(f"--save-changes {name}=FILE" for name in names)
        raise ValueError(f"--save-changes {shown(text)}: there are {len(names)} overlays; say which: {ways}")
    return names[0], text


def _below(name: str, change: Any) -> Any:
    from dataclasses import replace

    def whole(path: str | None) -> str | None:
        return None if path is None else f"{name.rstrip('/')}/{path}" if path else name.rstrip("/")

    return replace(change, path=whole(change.path), old_path=whole(change.old_path))


def _print(pieces: Iterable[str]) -> None:
    """A diff as it is; on a terminal nothing in it is obeyed."""
    on_terminal = sys.stderr.isatty()
    for piece in pieces:
        text = "\n".join(printable(line.expandtabs()) for line in piece.split("\n")) if on_terminal else piece
        sys.stderr.write(text.encode("utf-8", "replace").decode())
