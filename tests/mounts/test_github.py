"""`github://ORG:REPO@REF/`: what looks like a name and a password there is none, and is elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vfswasi.cli import main
from vfswasi.mounts.options import parse_source
from vfswasi.printing import has_password, redacted


@pytest.mark.parametrize(
    "source",
    [
        "github://org:repo@main/",
        "github://my-org:my.repo@v1.0/dir",
        "github://org:repo@/",
        "simplecache::github://org:repo@main/",
        "zip://*::github://org:repo@main/a.zip",
        "git:///srv/repo:main@dir",
    ],
)
def test_what_is_no_password(source: str) -> None:
    assert not has_password(source)
    assert parse_source(source).source == source
    assert redacted(source) == source


@pytest.mark.parametrize(
    "source",
    [
        "https://me:hunter2@host/",
        "xgithub://me:hunter2@host/",
        "not_github://me:hunter2@host/",
        "github+ssh://me:hunter2@host/",
        "github://org:repo:hunter2@main/",
        "github://org:repo@me:hunter2@main/",
        "ftp://me:hunter2@host/::github://org:repo@main/",
        "github://org:repo@main/::https://me:hunter2@host/",
        "://me:hunter2@host",
    ],
)
def test_what_may_be_one(source: str) -> None:
    assert has_password(source)
    assert "hunter2" not in redacted(source)
    with pytest.raises(ValueError, match="password") as caught:
        parse_source(source)
    assert "hunter2" not in str(caught.value)


TREES = {
    "REF": [{"path": "a.txt", "mode": "100644", "type": "blob", "size": 3, "sha": "1"},
            {"path": "dir", "mode": "040000", "type": "tree", "sha": "DIR"}],
    "DIR": [{"path": "b.txt", "mode": "100644", "type": "blob", "size": 5, "sha": "2"}],
}  # fmt: skip


class _Api(BaseHTTPRequestHandler):
    """The part of GitHub's that fsspec asks."""

    def do_GET(self) -> None:
        start, _, sha = self.path.rpartition("/")
        known = start == "/repos/ORG/REPO/git/trees" and sha in TREES
        body = json.dumps({"tree": TREES[sha]} if known else {"message": "Not Found"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("requests")
    from fsspec.implementations.github import GithubFileSystem

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(GithubFileSystem, "url", base + "/repos/{org}/{repo}/git/trees/{sha}")
    GithubFileSystem.clear_instance_cache()
    yield
    GithubFileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("api")
def test_a_repository_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mounts", "github://ORG:REPO@REF/"]) == 0
    assert capsys.readouterr().out == "github://ORG:REPO@REF/\n  a.txt  3\n  dir/\n    b.txt  5\n"
