"""The command line: `vfswasi run`, `inspect`, `mounts`, `compile`, `cache`."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments, by default the process's; returns the exit status. A usage error
    raises SystemExit(125)."""
    from .command import main as run  # argparse and all that it needs

    return run(argv)
