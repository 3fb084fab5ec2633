"""Changes applied to a bucket: on the condition that each object is what was looked at, removals last."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from vfswasi import Mount
from vfswasi.errors import ApplyError, ConflictError
from vfswasi.fs_backends.base import FileType
from vfswasi.fs_backends.layers.overlay.entries import Entry, Was
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.mounts.finding.sources import open_source
from vfswasi.observe.applying import elsewhere

from ..observe.applying import model
from .proxy import Proxy
from .servers import Server

BASE: model.Tree = {
    "edited": b"old contents",
    "gone": {"x": b"x", "sub": {"y": b"y"}},
    "a": b"this was a",
    "b": b"this was b",
    "old": b"is renamed",
    "dir": {"in": b"in", "deep": {"er": b"deeper"}},
    "kept": b"kept",
}
ENTRIES = [
    model.modified(BASE, "edited", b"new contents"),
    model.removed(BASE, "gone"),
    model.renamed(BASE, "a", "b"),
    model.renamed(BASE, "b", "a"),
    model.renamed(BASE, "old", "new"),
    model.renamed(BASE, "dir", "moved"),
    model.added("fresh", {}),
    model.added("fresh/file", b"fresh"),
]
AFTER: model.Tree = {
    "edited": b"new contents",
    "a": b"this was b",
    "b": b"this was a",
    "new": b"is renamed",
    "moved": {"in": b"in", "deep": {"er": b"deeper"}},
    "fresh": {"file": b"fresh"},
    "kept": b"kept",
}


class Bucket:
    """With what the tests ask the server itself."""

    def __init__(self, server: Server, endpoint: str | None = None) -> None:
        self.name = server.new_bucket()
        self.fs = server.file_system()
        self.mount = Mount(f"s3://{self.name}/data", endpoint=endpoint or server.endpoint)
        for path, node in model.paths_of(BASE):
            if isinstance(node, bytes):
                self.fs.pipe_file(f"{self.name}/data/{path}", node)

    def tree(self) -> model.Tree:
        with contextlib.closing(open_source(replace(self.mount, listing=0, cache=0))) as backend:
            return model.tree_in(backend)

    def versions(self) -> dict[str, tuple[str, Any]]:
        """Of every object: its ETag, and when it was written."""
        answer = self.fs.call_s3("list_objects_v2", Bucket=self.name)
        return {found["Key"]: (found["ETag"], found["LastModified"]) for found in answer.get("Contents", [])}

    def put(self, path: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.name}/data/{path}", data)

    def remove(self, path: str) -> None:
        self.fs.call_s3("delete_object", Bucket=self.name, Key=f"data/{path}")


@pytest.fixture
def bucket(s3_server: Server) -> Bucket:
    return Bucket(s3_server)


def recorded(bucket: Bucket, entry: Entry) -> Entry:
    """As an overlay records it, which reads no contents."""
    with contextlib.closing(open_source(bucket.mount)) as backend:

        def look(path: str, was: Was) -> Was:
            key = tuple(path.split("/"))
            found = backend.stat(key)
            below = {name: look(f"{path}/{name}", other) for name, other in was.below.items()}
            version = backend.version(key) if found.filetype is FileType.REGULAR_FILE else None
            return Was(found.filetype, found.size, found.mtim_ns, found.ident, None, below, version)

        return entry if entry.was is None else replace(entry, was=look(entry.old_path or entry.path, entry.was))


def test_the_changes_are_made(bucket: Bucket) -> None:
    kept = bucket.versions()["data/kept"]
    model.changes(*ENTRIES).apply(bucket.mount)
    assert bucket.tree() == AFTER
    assert bucket.versions()["data/kept"] == kept
    model.changes(*ENTRIES).apply(bucket.mount)  # everything is there already
    assert bucket.tree() == AFTER


def test_what_somebody_did_is_found_and_nothing_is_written(bucket: Bucket) -> None:
    """At once: the server's times have whole seconds."""
    changes = model.changes(*ENTRIES)
    on_the_base = model.changes(*(recorded(bucket, entry) for entry in ENTRIES), base=bucket.mount)
    bucket.put("edited", b"OLD contents")  # of the same size
    bucket.put("old", b"IS renamed")
    bucket.put("gone/sub/y", b"Y")
    bucket.put("gone/sub/z", b"more")
    bucket.put("fresh/other", b"a new directory is there")
    bucket.remove("a")
    bucket.remove("b")
    bucket.put("b/in", b"a directory now")
    before = bucket.versions()
    for made, target in ((changes, bucket.mount), (on_the_base, None)):
        with pytest.raises(ConflictError) as raised:
            made.apply(target)
        assert set(raised.value.conflicts) == {"edited", "old", "gone/sub/y", "gone/sub/z", "fresh", "a", "b"}
        assert bucket.versions() == before


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
@pytest.mark.parametrize("what", ["edited", "fresh/file", "gone/x", "old"])
def test_what_changes_after_it_was_looked_at_is_not_lost(
    what: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = elsewhere.check_again

    def meanwhile(*arguments: Any) -> None:
        again(*arguments)
        bucket.put(what, b"somebody's")

    monkeypatch.setattr(elsewhere, "check_again", meanwhile)
    with pytest.raises(ApplyError) as raised:
        model.changes(*ENTRIES).apply(bucket.mount)
    assert bucket.fs.cat_file(f"{bucket.name}/data/{what}") == b"somebody's"
    assert set(raised.value.done) | set(raised.value.left) == {model_path(entry) for entry in ENTRIES}


def model_path(entry: Entry) -> str:
    return entry.old_path or entry.path


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_a_mount_that_remembers_old_listings_does_not_decide(bucket: Bucket) -> None:
    """Of a backend of the caller's, which was listed before somebody rewrote an object."""
    with contextlib.closing(open_source(replace(bucket.mount, rw=True, listing=600))) as backend:
        assert isinstance(backend, RemoteBackend)
        assert model.tree_in(backend) == BASE
        bucket.put("edited", b"OLD contents")
        with pytest.raises(ConflictError) as raised:
            model.changes(*ENTRIES).apply(backend)
        assert list(raised.value.conflicts) == ["edited"]
        bucket.put("edited", b"old contents")
        model.changes(*ENTRIES).apply(backend)
        assert model.tree_in(backend) == bucket.tree() == AFTER


@pytest.fixture
def watched(proxy: Proxy, s3_server: Server) -> Bucket:
    return Bucket(s3_server, proxy.endpoint)


def test_conditions_go_with_what_is_written_and_removals_come_last(proxy: Proxy, watched: Bucket) -> None:
    """On the base itself, whose versions are known: nothing is read."""
    entries = [
        model.modified(BASE, "edited", b"new contents"),
        model.added("added", b"added"),
        model.renamed(BASE, "old", "new"),
        model.removed(BASE, "gone"),
    ]
    changes = model.changes(*(recorded(watched, entry) for entry in entries), base=watched.mount)
    etag = watched.versions()["data/edited"][0]
    proxy.reset()
    changes.apply()
    assert not [request for request in proxy.requests() if request.kind == "GetObject"], proxy.kinds()
    requests = {f"{request.method} {request.path.rpartition('/data/')[2]}": request for request in proxy.requests()}
    assert requests["PUT edited"].if_match == etag
    assert requests["PUT added"].if_none_match == "*"
    assert requests["PUT new"].headers["x-amz-copy-source"].endswith("data/old")
    order = list(requests)
    removed = [order.index(f"DELETE gone/{name}") for name in ("x", "sub/y")]
    assert min(removed) > max(at for at, name in enumerate(order) if name.startswith("PUT"))


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
def test_what_fails_half_way_says_what_was_done(proxy: Proxy, watched: Bucket) -> None:
    proxy.fail(403, method="DELETE", path="/gone/x", times=100)
    with pytest.raises(ApplyError, match="made in part") as raised:
        model.changes(*ENTRIES).apply(watched.mount)
    assert raised.value.left == ("gone",)
    assert set(raised.value.done) == {model_path(entry) for entry in ENTRIES} - {"gone"}
    files = {f"data/{path}" for path, node in model.paths_of(AFTER) if isinstance(node, bytes)}
    assert {name for name in watched.versions() if not name.endswith("/")} == files | {"data/gone/x"}
