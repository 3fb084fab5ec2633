"""The two ways in which a guest that computes is made to look at its deadline, and which of them a run gets."""

from __future__ import annotations

import os
from typing import Final, Literal

from ...limits import Limits
from . import page

Way = Literal["page", "epoch"]
"""`page`: the module was rewritten, and a page of its memory is made inaccessible (see the module of that name).
`epoch`: the compiled code looks at a counter of its engine's, which costs more; for whatever cannot be rewritten."""

PAGE: Final = "page"
EPOCH: Final = "epoch"
REWRITER: Final = 3
"""Another one whenever `rewriting` makes something else of a module: what was compiled of the old is kept on disk."""

_VARIABLE: Final = "VFSWASI_INTERRUPT"


def wanted(limits: Limits) -> Way:
    """The way that a run with these limits should get. `VFSWASI_INTERRUPT` says `page` (the default) or `epoch`. Raises
    ValueError: it says something else."""
    chosen = os.environ.get(_VARIABLE) or PAGE
    if chosen not in (PAGE, EPOCH):
        raise ValueError(f'{_VARIABLE} must be "page" or "epoch", not {chosen!r}')
    if chosen == EPOCH or not page.AVAILABLE:
        return EPOCH
    # What the rewriter adds would be counted as the guest's fuel; and the limit holds for each memory, ours too.
    if limits.fuel is not None or limits.memory_bytes < page.SIZE:
        return EPOCH
    return PAGE
