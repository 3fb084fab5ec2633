"""One tree, mounted read-only or writable, and a look at it from behind the guest's back."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vfswasi

from ..rawguest import RawGuest
from .jail import fill, fingerprints

TREE: dict[str, Any] = {
    "f": b"content",
    "sub": {"g": b"below"},
    "empty": {},
    "link": vfswasi.Symlink("f"),
}


class Store:
    """The same tree as a read-only and as a writable mount (which a zip has not), and a look at it from behind."""

    def __init__(self, kind: str, place: Path) -> None:
        self.kind = kind
        self.look: Callable[[], object]
        self.source: Any
        if kind == "memory":
            backend = self.source = vfswasi.MemoryBackend(TREE)
            self.look = lambda: fingerprints(backend)
        elif kind == "local":
            fill(place / "tree", TREE)
            self.source = place / "tree"
            local = vfswasi.LocalBackend(self.source)
            self.look = lambda: fingerprints(local)
        else:
            archive = self.source = place / "tree.zip"
            with zipfile.ZipFile(archive, "w") as made:
                for name in ("f", "sub/g", "empty/"):
                    made.writestr(name, b"content" if name == "f" else b"")
                link = zipfile.ZipInfo("link")
                link.external_attr = 0o120777 << 16
                made.writestr(link, b"f")
            self.look = lambda: (archive.read_bytes(), archive.stat().st_mtime_ns, sorted(place.iterdir()))

    def mounted(self, rw: bool) -> RawGuest:
        return RawGuest({"/d": vfswasi.Mount(self.source, rw=rw), "/free": vfswasi.Mount({"f": b"free"}, rw=True)})
