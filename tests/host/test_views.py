"""Results, sandboxes and errors: on one line, in a notebook, in another process."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import multiprocessing
import pickle
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fsspec
import pytest

import vfswasi
from vfswasi import errors
from vfswasi.host.results.views import result_html
from vfswasi.mounts.prepared import what

from ..wat_programs import OPEN, SAY, program

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e $\\href{javascript:alert(3)}{x}$ \x1b[31m\r&amp;"


def with_files() -> vfswasi.Result[Any]:
    return vfswasi.run(program(SAY + OPEN), preopens={"/d": {"sub": {"f": b"\xff", "l": vfswasi.Symlink("f")}}})


class Tags(HTMLParser):
    """What is markup in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == [], "tags that nobody closes"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.found.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


HARMLESS = {"div", "b", "i", "code", "pre", "span", "small", "details", "summary", "table", "tr", "th", "td"}


@pytest.mark.parametrize("how", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_result_with_files_is_copied_and_pickled(how: Any) -> None:
    result = with_files()
    twin = how(result)
    assert twin == result
    assert twin.files == result.files == {"/d": {"sub": {"f": b"\xff", "l": vfswasi.Symlink("f")}, "s": b""}}
    assert twin.usage == result.usage
    assert repr(twin) == repr(result)


def test_a_result_is_a_dataclass_to_whoever_asks() -> None:
    told = dataclasses.asdict(with_files())
    assert (told["returncode"], told["usage"]["wall_seconds"] > 0) == (0, True)
    assert pickle.loads(pickle.dumps(told)).keys() == told.keys()


def test_what_is_pickled_is_what_a_shared_tree_holds_at_that_moment() -> None:
    shared = vfswasi.MemoryBackend({"f": b"1"})
    result = vfswasi.run(program(""), preopens={"/d": shared})
    sent = pickle.dumps(result)
    shared["f"] = b"2"
    assert pickle.loads(sent).files == {"/d": {"f": b"1"}}


def _in_a_process(count: int) -> vfswasi.Result[Any]:
    return vfswasi.run(program(SAY + OPEN), capture_output=True, preopens={"/d": {"n": str(count)}})


def test_results_come_back_from_a_process_pool() -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        for count, result in enumerate(pool.map(_in_a_process, range(2))):
            assert result.files == {"/d": {"n": str(count).encode(), "s": b""}}
            assert result.stdout == b"so fa"


# Errors


def _all_errors() -> list[type[BaseException]]:
    found: list[type[BaseException]] = [errors.FsError, errors.SandboxError]
    for kind in found:
        found.extend(below for below in kind.__subclasses__() if below.__module__.startswith("vfswasi."))
    return found


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_is_pickled_and_copied(kind: Any) -> None:
    if issubclass(kind, errors.FsError):
        made = kind.__new__(kind)
        made.errno, made.detail = errors.Errno.NOSPC, "full"
        made.more = "words"
    elif issubclass(kind, errors.UncommittedError):
        lost = errors.Uncommitted(
            "a/b", errors.FsError(errors.Errno.IO, "no"), 3, lambda at, n: b"abc"[at : at + n], dict
        )
        made = kind("not stored", [lost], with_files())
    elif issubclass(kind, errors.GuestError):
        made = kind("ended", argv=["p"], returncode=3, stdout=b"out", stderr="err", usage=vfswasi.Usage(fuel=3))
        made.result = with_files()
    else:
        made = kind("words")
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert type(twin) is kind
        assert str(twin) == str(made)
        assert twin.__dict__.keys() == made.__dict__.keys()
        for name in ("argv", "returncode", "stdout", "stderr", "usage", "limit", "errno", "detail", "result"):
            if name != "errno" or issubclass(kind, errors.FsError):
                assert getattr(twin, name, None) == getattr(made, name, None), name
        if isinstance(made, errors.UncommittedError):
            (file,) = twin.files
            assert (file.path, file.error.errno, file.read(), file.read(1, 1)) == ("a/b", errors.Errno.IO, b"abc", b"b")
            assert twin.result.files == made.result.files


def _time_out(_: int) -> None:
    vfswasi.run(program("(loop $again (br $again))"), timeout=0.1)


def test_an_error_of_a_guest_comes_back_from_a_process_pool() -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        with pytest.raises(vfswasi.GuestTimeoutError, match="still running") as caught:
            pool.submit(_time_out, 0).result()
        assert caught.value.argv == ["module.wasm"]


# One line


def test_the_repr_of_a_result_is_short_whatever_was_captured() -> None:
    result = vfswasi.Result(["p.wasm", "x" * 10_000, *"abcdefghijkl"], 0, b"o" * 10_000_000, "e\n" * 1_000_000)
    assert len(repr(result)) < 600
    assert "\n" not in repr(result)
    assert "10,000,000 bytes" in repr(result)
    assert repr(vfswasi.Result(["p"], 3, b"two\n")) == r"Result(args=['p'], returncode=3, stdout=b'two\n')"


def test_the_repr_of_a_sandbox() -> None:
    with vfswasi.Sandbox(program(""), preopens={"/in": {}, "/tmp": "mem:"}) as sandbox:
        assert repr(sandbox) == "<Sandbox of 'module.wasm': '/in', '/tmp'>"
    assert repr(sandbox).endswith(", closed>")
    assert repr(vfswasi.Sandbox(program(""))) == "<Sandbox of 'module.wasm': no preopens>"
    many = vfswasi.Sandbox(program(""), preopens={f"/{number}" + "x" * 300: {} for number in range(500)})
    assert len(repr(many)) < 1000
    assert len(many._repr_html_()) < 20_000


# Notebooks


@pytest.mark.parametrize("made", [str, str.encode])
def test_what_a_program_printed_is_never_markup(made: Any) -> None:
    trees = {f"/{EVIL}": vfswasi.MemoryBackend({EVIL.replace("/", "|"): b"", "l": vfswasi.Symlink(EVIL)})}
    result: Any = vfswasi.Result([EVIL], 1, made(EVIL), made(EVIL * 1000), trap=EVIL, limit="stack")
    page = result_html(result, trees)
    tags = Tags(page)
    assert tags.found <= HARMLESS
    assert tags.attributes <= {"class", "style"}
    assert not re.search("[\u202e\x1b\r]", page)
    assert EVIL[:20] in tags.text
    assert page.startswith('<div class="tex2jax_ignore mathjax_ignore">')


def test_the_view_of_a_result_tells_how_it_ended_and_shows_beginning_and_end() -> None:
    lines = "".join(f"line {number}\n" for number in range(100_000))
    page = Tags(vfswasi.Result(["p"], 7, lines, b"")._repr_html_()).text
    assert "exit status 7" in page
    assert "line 0\n" in page
    assert "line 99999" in page
    assert "line 500\n" not in page
    assert f"{len(lines):,} characters in all" in page
    assert "stderr" not in page
    for result, words in (
        (vfswasi.Result(["p"], 0), "exit status 0"),
        (vfswasi.Result(["p"], -9), "ended by signal 9"),
        (vfswasi.Result(["p"], -6, trap="wasm trap: unreachable"), "wasm trap: unreachable"),
        (vfswasi.Result([], -6, trap="t", limit="stack"), "trapped: stack"),
    ):
        assert words in Tags(result._repr_html_()).text


@pytest.mark.parametrize("data", [b"\n" * 10_000_000, b"x" * 10_000_000, b"\xff" * 10_000_000, b"&" * 10_000_000])
def test_views_are_bounded(data: bytes) -> None:
    page = vfswasi.Result(["p"], 0, data, data)._repr_html_()
    Tags(page)
    assert len(page) < 200_000


def test_the_view_of_a_result_shows_its_files() -> None:
    page = Tags(with_files()._repr_html_()).text
    for words in ("/d", "sub/", "f  1 byte", "l -> f"):
        assert words in page


def test_the_view_of_a_sandbox_has_no_secrets(tmp_path: Path) -> None:
    preopens: dict[str, Any] = {
        "/m": {},
        "/b": vfswasi.MemoryBackend(),
        "/l": vfswasi.Mount(tmp_path, rw=True),
        "/e": vfswasi.Mount("memory://", storage_options={"token": "pass-word"}),
        f"/{EVIL}": "mem:",
    }
    limits = vfswasi.Limits(fuel=1000)
    fsspec.filesystem("memory").pipe("/views/f", b"")
    with vfswasi.Sandbox(program(""), preopens=preopens, env={"KEY": "pass-word"}, limits=limits) as sandbox:
        page = sandbox._repr_html_()
        assert "pass-word" not in page + repr(sandbox)
    tags = Tags(page)
    assert tags.found <= HARMLESS
    assert what(vfswasi.Mount("https://user:pass-word@x/y?pass-word")) == "https://***@x/y?***"
    for words in ("/m", "memory, new for each run", "MemoryBackend", str(tmp_path), "rw", "ro", "fuel=1000"):
        assert words in tags.text
