"""Servers are started when the first test wants them, and live until the last is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .proxy import Proxy
from .servers import Moto, SeaweedFS, Server


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Server]:
    server = SeaweedFS()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    server = Moto()
    yield server
    server.stop()


@pytest.fixture(scope="session", params=["seaweed", "moto"])
def s3_server(request: pytest.FixtureRequest) -> Server:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Server)
    return server


@pytest.fixture
def proxy(s3_server: Server) -> Iterator[Proxy]:
    """In front of each server in turn."""
    with Proxy(s3_server.port) as made:
        yield made


@pytest.fixture
def seaweed_proxy(seaweed: Server) -> Iterator[Proxy]:
    with Proxy(seaweed.port) as made:
        yield made


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user gives them: in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", Server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", Server.secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
