"""What every backend promises to the kernel, as tests.

Subclass `BackendConformance` in a test module and say how a backend holding a given tree is made. The tests call the
protocol of `fs_backends.base` directly. A capability that the backend lacks is asserted as its errno, never skipped;
what its store cannot even represent in the tree it is made of is said in class attributes (see `ground.Ground`).
"""

from __future__ import annotations

from .changing import ChangingConformance
from .reading import ReadingConformance


class BackendConformance(ReadingConformance, ChangingConformance):
    """Subclass it; `make(tree)` builds a backend that holds a tree literal (bytes, dicts, `Symlink`)."""
