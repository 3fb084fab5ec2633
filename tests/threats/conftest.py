"""The jail, with the check that no test of an attack may leave out: nothing outside has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..rawguest import RawGuest
from .jail import Jail


@pytest.fixture(params=["memory", "local"])
def jail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jail]:
    """A jail whose surroundings are the same after the test as before it."""
    place = tmp_path / "place"
    made = Jail(request.param, place)
    before = made.outside()
    assert before
    yield made
    after = made.outside()
    made.close()
    assert after == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place"]


@pytest.fixture
def guest(jail: Jail) -> RawGuest:
    return jail.guest
