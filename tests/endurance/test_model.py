"""Random system calls on overlays three deep give what a model gives. The long version: see `tests.endurance`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .model import play


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 6, 9, 12, 32, 36])
def test_overlays_three_deep_give_what_a_model_gives(seed: int, tmp_path: Path) -> None:
    assert play(seed, 250, tmp_path / "root") == 750
