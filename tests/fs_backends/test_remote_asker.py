"""Who may find a block in the cache: those who ask with the same credentials, options and sessions."""

from __future__ import annotations

import gc
import hashlib
from typing import Any, NamedTuple

import fsspec
import pytest
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from vfswasi import Mount, ReadCache
from vfswasi.fs_backends.remote.asker import asker_of, digest, token_of
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.client import Client
from vfswasi.fs_backends.remote.fsspec.backend import FsspecBackend, client_for
from vfswasi.fs_backends.remote.reader import ReadOptions
from vfswasi.fs_backends.trust.fsspec import Directory, resolved
from vfswasi.mounts.finding.stores import backend_of, opened


class Slow(MemoryFileSystem):  # type: ignore[misc]
    """A store that looks far away, of several users."""

    protocol = "slow"
    denied = False

    def cat_file(self, path: str, **options: Any) -> bytes:
        if self.denied:
            raise PermissionError(path)
        return bytes(super().cat_file(path, **options))


def client_of(fs: Any, root: str) -> Client:
    store = resolved(fs, root, trust=True)
    assert not isinstance(store, Directory)
    return client_for(store)


def backend(fs: Any, cache: ReadCache) -> FsspecBackend:
    return FsspecBackend(fs, "/users", options=ReadOptions(cache=cache), trust=True)


def read(made: RemoteBackend) -> bytes:
    handle = made.open(("f",), False)
    try:
        data = bytearray(7)
        return bytes(data[: handle.read_into(0, data)])
    finally:
        handle.close()


@pytest.fixture(autouse=True)
def _file() -> None:
    MemoryFileSystem().pipe_file("/users/f", b"content")


def test_an_equal_file_system_of_somebody_else_finds_nothing() -> None:
    """fsspec's `==` looks at the arguments, and what a file system signs with may be none of them."""
    cache = ReadCache()
    mine, other = Slow(skip_instance_cache=True), Slow(skip_instance_cache=True)
    assert mine == other
    assert read(backend(mine, cache)) == b"content"
    other.denied = True
    with pytest.raises(Exception, match="ACCES"):
        read(backend(other, cache))


def test_the_same_file_system_finds_what_was_read() -> None:
    cache = ReadCache()
    fs = Slow(skip_instance_cache=True)
    assert read(backend(fs, cache)) == b"content"
    fs.denied = True
    assert read(backend(fs, cache)) == b"content"


def test_an_object_keeps_its_token_and_no_other_gets_it() -> None:
    seen = set()
    for _ in range(200):
        fs = Slow(skip_instance_cache=True)
        assert token_of(fs) == token_of(fs)
        seen.add(token_of(fs))
        del fs
        gc.collect(0)
    assert len(seen) == 200
    assert token_of(5) != token_of(5)  # which cannot be watched


class Auth(NamedTuple):
    """As aiohttp's BasicAuth."""

    login: str
    password: str


URL = "https://host.example/d"
SAME: list[dict[str, Any]] = [
    {},
    {"headers": {"Authorization": "Bearer a"}},
    {"headers": {"A": "1", "B": "2"}},
    {"client_kwargs": {"cookies": {"session": "a"}}},
    {"client_kwargs": {"auth": Auth("user", "a")}},
]
OTHERS: list[dict[str, Any]] = [
    *SAME,
    {"headers": {"Authorization": "Bearer b"}},
    {"headers": {"A": "2", "B": "1"}},
    {"client_kwargs": {"cookies": {"session": "b"}}},
    {"client_kwargs": {"auth": Auth("user", "b")}},
    {"client_kwargs": {"auth": Auth("a", "user")}},
    {"cookies": {"session": "a"}},
    {"block_size": 1},
    {"block_size": "1"},
    {"block_size": True},
]


def of_url(options: dict[str, Any], url: str = URL) -> str:
    mount = Mount(url, storage_options=options)
    store, close = opened(url, mount)
    assert not isinstance(store, Directory)
    made = backend_of(store, mount, close)
    try:
        return made.client.asker
    finally:
        made.close()


@pytest.mark.parametrize("options", SAME, ids=repr)
def test_the_same_options_of_a_web_server_are_the_same_user(options: dict[str, Any]) -> None:
    assert of_url(options) == of_url(dict(reversed(options.items())))


def test_other_options_of_a_web_server_are_another_user() -> None:
    assert len({of_url(options) for options in OTHERS}) == len(OTHERS)
    urls = (URL, "https://user:a@host.example/d", "https://user:b@host.example/d", "https://host.example/d?sig=1")
    assert len({of_url({}, url) for url in urls}) == len(urls)


def test_who_signs_with_what_others_set_up_is_alone() -> None:
    """The files of the environment, a client of the caller's, a subclass."""
    environment = {"client_kwargs": {"trust_env": True}}
    assert of_url(environment) != of_url(environment)
    makers: list[Any] = [lambda **_: None, lambda **_: None]
    assert of_url({"get_client": makers[0]}) != of_url({"get_client": makers[1]})
    assert of_url({"get_client": makers[0]}) == of_url({"get_client": makers[0]})

    class Own(HTTPFileSystem):  # type: ignore[misc]
        pass

    given = [Own(skip_instance_cache=True), Own(skip_instance_cache=True), HTTPFileSystem(skip_instance_cache=True)]
    askers = [client_of(fs, URL).asker for fs in given]
    assert len({*askers, of_url({})}) == 4
    assert client_of(given[0], URL).asker == askers[0]


S3_OTHERS: list[dict[str, Any]] = [
    {"anon": True},
    {"key": "a", "secret": "x"},
    {"key": "a", "secret": "y"},
    {"key": "b", "secret": "x"},
    {"key": "a", "secret": "x", "token": "t"},
    {"key": "a", "secret": "x", "token": "u"},
    {"key": "a", "secret": "x", "requester_pays": True},
    {"key": "a", "secret": "x", "version_aware": True},
    {"key": "a", "secret": "x", "endpoint_url": "http://127.0.0.1:1"},
    {"key": "a", "secret": "x", "endpoint_url": "http://127.0.0.1:2"},
    {"key": "a", "secret": "x", "s3_additional_kwargs": {"SSECustomerKey": "k"}},
    {"key": "a", "secret": "x", "config_kwargs": {"user_agent": "z"}},
    {"key": "a", "secret": "x", "client_kwargs": {"region_name": "eu-west-1"}},
]


@pytest.fixture
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def of_s3(**options: Any) -> Any:
    return client_for(resolved(fsspec.filesystem("s3", skip_instance_cache=True, **options), "bucket/p"))


@pytest.mark.usefixtures("_no_credentials")
def test_other_credentials_of_s3_are_another_user_of_the_same_place() -> None:
    clients = [of_s3(**options) for options in S3_OTHERS]
    assert len({client.asker for client in clients}) == len(clients)
    assert [of_s3(**options).asker for options in S3_OTHERS] == [client.asker for client in clients]
    assert len({client.place for client in clients}) == 3
    assert len({client.identity for client in clients}) == 3
    for client in clients:
        assert "SSE" not in client.asker
        assert not {"a", "x", "y", "t", "k"} & set(map(str, client.place))


@pytest.mark.usefixtures("_no_credentials")
def test_it_counts_what_signs_and_not_where_it_came_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    expected = of_s3(key="a", secret="x").asker
    config = tmp_path / "config"
    config.write_text("[profile p]\naws_access_key_id = a\naws_secret_access_key = x\n")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", str(config))
        patch.setenv("AWS_PROFILE", "p")
        assert of_s3().asker == expected
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert of_s3().asker == expected
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    assert of_s3().asker != expected
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert of_s3().place[1] == "127.0.0.1:9"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.eu-central-1.amazonaws.com")
    assert of_s3().place[1] == "aws"


def test_nobody_can_make_a_digest_elsewhere() -> None:
    guesses = [hashlib.blake2b(text, digest_size=24).hexdigest() for text in (b"secret", b"'secret'")]
    assert digest("secret") not in guesses
    assert asker_of("a", "b") != asker_of("a, b")
    assert asker_of({"a": 1, "b": 2}) == asker_of({"b": 2, "a": 1})
    assert asker_of([1]) != asker_of((1,)) != asker_of((True,)) != asker_of((1.0,))


def test_stores_of_one_account_are_one_place_whoever_asks() -> None:
    class Account(Slow):
        protocol = "gs"

    one, other = (Account(token=token, skip_instance_cache=True) for token in ("a", "b"))
    assert client_of(one, "/bucket").place == client_of(other, "/bucket").place
    assert client_of(one, "/bucket").asker != client_of(other, "/bucket").asker
    here, there = (Account(endpoint_url=url, skip_instance_cache=True) for url in ("http://a", "http://b"))
    assert client_of(here, "/bucket").place != client_of(there, "/bucket").place
