"""`FsspecBackend` made by hand: its root is looked at as a mount's is, and what is wrong with it is a MountError."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import fsspec
import pytest
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from vfswasi import FsspecBackend, Mount, MountError
from vfswasi.fs_backends.remote.client import Client
from vfswasi.fs_backends.remote.fsspec.client import FsspecClient
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.table import MountTable

from ..storage.http_server import HttpServer
from ..threats.test_secrets import everything_of

NO_URLS = ["http://[bad", "http://[::1/x", "http://a]b/", "https://[v1.x]:y/"]


class Counting(MemoryFileSystem):  # type: ignore[misc]
    """A store that looks far away, and counts how often it is asked about its root."""

    protocol = "counting"
    asked = 0
    denied: Exception | None = None

    def info(self, path: str, **options: Any) -> Any:
        type(self).asked += 1
        if self.denied is not None:
            raise self.denied
        return super().info(path, **options)


@pytest.fixture
def store() -> Counting:
    made = Counting(skip_instance_cache=True)
    made.makedirs("/byhand/dir", exist_ok=True)
    made.pipe_file("/byhand/file", b"x")
    Counting.asked, Counting.denied = 0, None
    return made


def left() -> list[str]:
    """Threads of its clients that do not end."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("vfswasi counting")]
    for thread in threads:
        thread.join(20)
    return [thread.name for thread in threads if thread.is_alive()]


def test_a_directory_is_a_backend(store: Counting) -> None:
    with contextlib.closing(FsspecBackend(store, "/byhand", trust=True)) as backend:
        assert sorted(entry.name for entry in backend.list(())) == ["dir", "file"]


def test_a_file_is_none(store: Counting) -> None:
    with pytest.raises(MountError, match="is a file, not a directory"):
        FsspecBackend(store, "/byhand/file", trust=True)
    assert left() == []


def test_what_is_not_there_is_none(store: Counting) -> None:
    with pytest.raises(MountError, match="does not exist"):
        FsspecBackend(store, "/byhand/missing", trust=True)
    assert left() == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError("no"), "check the credentials"),
        (ConnectionError("no"), "check the URL and the connection"),
        (OSError(122, "no"), "DQUOT|OSError"),
        (RuntimeError("no"), "RuntimeError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_store_that_does_not_answer_is_none(store: Counting, error: Exception, told: str) -> None:
    Counting.denied = error
    with pytest.raises(MountError, match=told) as caught:
        FsspecBackend(store, "/byhand", trust=True)
    assert "\n" not in str(caught.value)
    assert left() == []


def test_a_server_that_is_not_there_is_none() -> None:
    with pytest.raises(MountError, match="check the URL and the connection"):
        FsspecBackend(HTTPFileSystem(skip_instance_cache=True), "http://127.0.0.1:9/x", timeout_s=5)


def test_pages_of_a_server_are_looked_at() -> None:
    with HttpServer({"dir/a": b"x"}) as server:
        fs = HTTPFileSystem(skip_instance_cache=True, use_listings_cache=False)
        with contextlib.closing(FsspecBackend(fs, server.endpoint + "/dir")) as backend:
            assert [entry.name for entry in backend.list(())] == ["a"]
        server.status = 500
        with pytest.raises(MountError, match="check the URL and the connection"):
            FsspecBackend(fs, server.endpoint + "/dir")


@pytest.mark.parametrize("url", NO_URLS)
@pytest.mark.parametrize("chained", ["", "simplecache::"])
def test_what_is_no_url_is_none(url: str, chained: str) -> None:
    fs = HTTPFileSystem(skip_instance_cache=True)
    if chained:
        fs = fsspec.filesystem("simplecache", fs=fs, skip_instance_cache=True)
    for made in (
        lambda: FsspecBackend(fs, url),
        lambda: open_source(Mount(fs, root=url)),
        lambda: open_source(url),
        lambda: open_source(Mount(url, root="below")),
    ):
        with pytest.raises(MountError) as caught:
            made()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://user:hush@[bad/x?token=hush", "http://host:hush/x", "http://u:hush@host:hush/x"]
)
def test_a_password_in_what_is_no_url_is_not_told(url: str) -> None:
    with pytest.raises(MountError) as caught:
        FsspecBackend(HTTPFileSystem(skip_instance_cache=True), url)
    assert not any("hush" in text for text in everything_of(caught.value))


@pytest.mark.parametrize("rw", [False, True])
def test_a_root_is_looked_at_once(store: Counting, rw: bool) -> None:
    looks = []
    for made in (
        lambda: FsspecBackend(store, "/byhand", trust=True),
        lambda: open_source(Mount(store, root="/byhand", trust=True, rw=rw)),
    ):
        Counting.asked = 0
        made().close()
        looks.append(Counting.asked)
    assert looks == [1, 1]


def test_one_that_was_made_by_hand_is_mounted_without_another_look(store: Counting) -> None:
    with contextlib.closing(FsspecBackend(store, "/byhand", trust=True)) as backend:
        Counting.asked = 0
        MountTable({"/d": backend}).close()
        assert Counting.asked == 0


def test_the_client_of_what_is_none_is_closed(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Client] = []
    close = FsspecClient.close

    def noted(client: FsspecClient) -> None:
        closed.append(client)
        close(client)

    monkeypatch.setattr(FsspecClient, "close", noted)
    for root in ("/byhand/file", "/byhand/missing"):
        with pytest.raises(MountError):
            FsspecBackend(store, root, trust=True)
    assert len(closed) == 2
    made = FsspecBackend(store, "/byhand", trust=True)
    assert len(closed) == 2
    made.close()
    assert len(closed) == 3
