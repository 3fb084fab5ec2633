"""What the page about a run says, and that it stays small, harmless and silent about secrets."""

from __future__ import annotations

import builtins
import pickle
import re
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

import vfswasi
from vfswasi import Clock, Limits, Result, SandboxError
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Traffic
from vfswasi.limits import Usage
from vfswasi.observe.accesses.accesses import Access
from vfswasi.observe.refusals import Refusal
from vfswasi.observe.report import calls as of_calls
from vfswasi.observe.report.given import Given
from vfswasi.observe.report.output import end_of
from vfswasi.observe.report.ran import clock_text, time_parts
from vfswasi.observe.report.refusals import advice
from vfswasi.observe.report.words import foreign, size_text, time_text
from vfswasi.observe.trace.call import Call

from .made import calls, looked_at, result, trace_of

EMPTY = b'(module (memory (export "memory") 1) (func (export "_start")))'
SIZE_MAX = 2_000_000
EXAMPLES = Path(__file__).parents[3] / "examples"


class Page(HTMLParser):
    """texts: what is shown of each table, row by row; tags: all that there are; whole: all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: list[list[list[str]]] = []
        self.whole = ""
        self._in = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._in = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in not in ("script", "style"):
            self.whole += data
        if self._in in ("td", "th"):
            self.tables[-1][-1][-1] += data.strip()

    def table(self, first: str) -> list[dict[str, str]]:
        """The rows of the table whose first heading that is."""
        (found,) = (table for table in self.tables if table[0][0] == first)
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def page_of(found: Result[Any]) -> Page:
    return Page(found.report().html)


def shown(found: Result[Any]) -> str:
    return " ".join(page_of(found).whole.split())


# What it says


def test_every_part_is_there() -> None:
    page = page_of(result())
    words = " ".join(page.whole.split())
    assert "cc.wasm -O2 /src/a.c" in words
    assert "exit status 1" in words
    assert "cc: cannot write /src/a.o: Read-only file system" in words
    assert "virtual, from 2026-01-31 00:00:00 UTC" in words
    assert "seed 7" in words
    files = {row["File"]: row for row in page.table("File")}
    assert set(files) == {"/src/a.c", "/src/b.h", "/out/a.o"}
    mounts = page.table("Mount")
    assert mounts[0]["Source"] == "zip://*::s3://bucket/src.zip"
    assert (mounts[0]["Requests"], mounts[0]["Received"], mounts[0]["Time in it"]) == ("12", "1.0 MiB", "90.00 ms")
    assert mounts[1]["Requests"] == ""
    assert "Written" not in page.table("Path")[0]
    looked = page.table("Path")
    assert [(row["Path"], row["Found"], row["Read"]) for row in looked] == [
        ("/src/a.c", "file", "whole"),
        ("/src/a.h", "not found", ""),
        ("/src/b.h", "file", "1,004 B: 0 to 100, 4,096 to 5,000"),
    ]
    limits = {row["Limit"]: row for row in page.table("Limit")}
    assert limits["descriptors"] == {"Limit": "descriptors", "Used": "7", "At most": "1,024", "Share": "0.7 %"}


def test_bytes_per_file_are_those_of_the_calls_that_moved_them() -> None:
    made = [
        Call("fd_read", 0, {"fd": 4}, path="/src/a", errno=Errno.SUCCESS, results={"nread": 1000}),
        Call("fd_pread", 1, {"fd": 4}, path="/src/a", errno=Errno.SUCCESS, results={"nread": 24}),
        Call("fd_write", 2, {"fd": 5}, path="/out/b", errno=Errno.SUCCESS, results={"nwritten": 7}),
        Call("fd_write", 3, {"fd": 1}, errno=Errno.SUCCESS, results={"nwritten": 3}),
        Call("path_open", 4, {"fd": 3}, path="/src/c", errno=Errno.SUCCESS, results={"fd": 6}),
    ]
    page = page_of(result(trace=trace_of(made)))
    assert [(row["File"], row["Read"], row["Written"], row["Calls"]) for row in page.table("File")] == [
        ("/src/a", "1.0 KiB", "0 B", "2"),
        ("/out/b", "0 B", "7 B", "1"),
        ("standard output", "0 B", "3 B", "1"),
    ]
    (stats,) = (table for table in page.tables if table[0][:3] == ["Call", "Calls", "Failed"])
    assert {row[0]: row[1] for row in stats[1:]} == {"fd_read": "1", "fd_pread": "1", "fd_write": "2", "path_open": "1"}


def test_a_run_that_was_not_traced_shows_what_is_known_and_how_to_get_more() -> None:
    ran = vfswasi.run(EMPTY, ["x"], preopens={"/data": {"a": "b"}}, capture_output=True, seed=3, clock=Clock.fixed(0))
    words = shown(ran)
    assert "exit status 0" in words
    assert "run with trace=True" in words
    assert "run with accesses=True" in words
    assert "fixed, 1970-01-01 00:00:00 UTC" in words
    assert "seed 3" in words
    assert "Timeline" not in words
    assert "/data" in words


def test_a_result_of_which_nothing_more_is_known_has_a_page_too() -> None:
    assert "ended by signal 9" in shown(Result([], -9))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"returncode": 0}, "exit status 0"),
        ({"returncode": 3}, "exit status 3"),
        ({"returncode": -6, "trap": "wasm trap: unreachable"}, "trapped"),
        ({"returncode": -6, "trap": "x", "limit": "stack"}, "trapped: no stack left"),
        ({"returncode": -15}, "ended by signal 15"),
        ({"returncode": -9, "limit": "wall_seconds", "_timeout_s": 2.5}, "time over after 2.5 seconds"),
        ({"returncode": -9, "limit": "fuel"}, "fuel used up"),
        ({"returncode": -9, "_interrupted": True}, "interrupted"),
    ],
    ids=["success", "failure", "trap", "stack", "signal", "time", "fuel", "interrupted"],
)
def test_it_says_how_the_run_ended(options: dict[str, Any], told: str) -> None:
    page = page_of(result(**options))
    assert re.search(rf"cc\.wasm\s+{re.escape(told)}\s", page.whole)


def test_the_result_of_an_error_has_a_report() -> None:
    endless = b'(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'
    with pytest.raises(vfswasi.GuestTimeoutError) as ended:
        vfswasi.run(endless, timeout=0.3)
    assert ended.value.result is not None
    assert "time over after 0.3 seconds" in shown(ended.value.result)


def test_a_report_can_be_made_of_a_result_that_has_travelled() -> None:
    found = result(accesses=None)
    assert pickle.loads(pickle.dumps(found.report())).html == found.report().html
    plain = vfswasi.run(EMPTY, capture_output=True, limits=Limits(inodes=77))
    assert pickle.loads(pickle.dumps(plain)).report().html == plain.report().html
    assert "77" in shown(plain)


def test_what_was_looked_at_says_what_was_listed_and_written() -> None:
    found = (Access("", "directory", listed=True, size=0), Access("a", "file", written=True, size=5))
    rows = page_of(result(accesses=looked_at({"/d": found, "/e": ()}))).table("Path")
    assert [[*row.values()] for row in rows] == [
        ["/d", "directory, listed", "", "", ""],
        ["/d/a", "file", "", "5 B", "yes"],
    ]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def server() -> Iterator[str]:
    """A web server of the examples."""
    handler = partial(Quiet, directory=str(EXAMPLES))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_real_run_over_a_store_far_away_has_its_requests_and_how_long_it_was_waited_for(server: str) -> None:
    ran = vfswasi.run(
        EXAMPLES / "wordcount.wasm",
        ["/out/report.txt", "/data"],
        preopens={"/data": f"zip://*::{server}/corpus.zip", "/out": {}},
        capture_output=True,
        text=True,
        trace=True,
    )
    page = page_of(ran)
    mounts = {row["Mount"]: row for row in page.table("Mount")}
    assert int(mounts["/data"]["Requests"]) == ran.traffic["/data"].requests > 0
    assert mounts["/data"]["Source"] == f"zip://*::{server}/corpus.zip"
    assert int(mounts["/data"]["Store asked"]) > 3
    assert mounts["/out"]["Way"] == "read and write"
    files = {row["File"]: row for row in page.table("File")}
    assert files["/out/report.txt"]["Written"] == size_text(len(ran.files["/out/report.txt"]))
    assert files["standard output"]["Written"] == size_text(len(ran.stdout or ""))
    parts = {part.name: part.ns for part in time_parts(ran, ran._given, ran.trace)}
    assert parts["storage"] > 0
    assert sum(parts.values()) == pytest.approx(ran.usage.wall_seconds * 10**9, rel=0.01)
    assert "A report.txt" in " ".join(page.whole.split())


def test_time_in_files_that_are_mounted_alone_is_told_of_their_directory(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one two")
    ran = vfswasi.run(
        EXAMPLES / "wordcount.wasm",
        ["/out/report.txt", "/data"],
        preopens={"/data/x.txt": tmp_path / "x.txt", "/out": {}},
        capture_output=True,
        trace=True,
    )
    mounts = {row["Mount"]: row for row in page_of(ran).table("Mount")}
    assert mounts["/data/x.txt"]["Way"] == "read-only"
    assert int(mounts["/data"]["Store asked"]) > 0


# Refusals


GIVEN = Given(Limits(inodes=3), mounts=(("/ro", "ro", "x.zip"), ("/rw", "rw", "memory")))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("path_open", path="/ro/a", mount="/ro", errno=Errno.ROFS), "/ro is read-only: with rw .* with overlay"),
        (Call("fd_write", path="/ro/a", mount="/ro", errno=Errno.NOTCAPABLE), "/ro is read-only"),
        (Call("fd_write", path="/rw/a", mount="/rw", errno=Errno.NOTCAPABLE), "was not opened for that"),
        (Call("path_open", path="/etc/passwd", mount="/ro", errno=Errno.NOTCAPABLE), "leads out of what is mounted"),
        (Call("path_open", path="/rw/../x", mount="/rw", errno=Errno.NOTCAPABLE), "leads out of what is mounted"),
        (Call("path_open", path="/rw/link", mount="/rw", errno=Errno.NOTCAPABLE), "by a link"),
        (Call("path_open", path="/rw/a", mount="/rw", errno=Errno.DQUOT), r"^a limit: Limits\.inodes \(3\)$"),
        (Call("path_open", path="/rw/a", mount="/rw", errno=Errno.MFILE), r"Limits\.descriptors \(1,024\)"),
        (Call("fd_write", path="/rw/a", mount="/rw", errno=Errno.FBIG), r"Limits\.file_bytes"),
        (Call("fd_write", 0, {"fd": 1}, errno=Errno.NOSPC), r"Limits\.output_bytes"),
        (Call("fd_write", 0, {"fd": 9}, path="/rw/a", mount="/rw", errno=Errno.NOSPC), r"Limits\.memory_files_bytes"),
        (Call("fd_write", path="/rw/a", mount="/rw", errno=Errno.NOSPC, injected=True), "told to fail here"),
        (Call("fd_read", path="/rw/a", mount="/rw", errno=Errno.IO), "the store of /rw has failed"),
        (Call("path_link", path="/ro/a", mount="/ro", errno=Errno.NOTSUP), "/ro cannot do that"),
    ],
)
def test_a_refusal_says_what_it_takes(call: Call, words: str) -> None:
    assert re.search(words, advice(call, GIVEN, Usage(inodes=3)))


def test_equal_refusals_are_one_line_and_questions_are_none() -> None:
    made = [Call("path_open", at, path="/ro/a", mount="/ro", errno=Errno.ROFS) for at in range(40)]
    made += [Call("path_open", 50, path="/ro/b", mount="/ro", errno=Errno.NOENT)]
    page = page_of(result(trace=trace_of(made), _given=GIVEN))
    (refused,) = (table for table in page.tables if "What it takes" in table[0])
    assert [row[:4] for row in refused[1:]] == [["path_open", "/ro/a", "ROFS", "40"]]


def test_what_the_result_knows_of_a_refusal_is_told_also_of_a_run_without_a_trace() -> None:
    made = trace_of([Call("path_open", 0, path="/ro/a", mount="/ro", errno=Errno.ROFS)])
    known = (
        Refusal("path_open", "/ro/a", Errno.ROFS, "/ro", readonly=True),
        Refusal("path_open", "/rw/l", Errno.NOTCAPABLE, "/rw", outside="link"),
        Refusal("", "/x", Errno.NOENT, mounts=("/ro",)),
    )
    for trace, times in ((made, "1"), (None, "")):
        page = page_of(Result(["p"], 1, trace=trace, refusals=known))
        (refused,) = (table for table in page.tables if "What it takes" in table[0])
        assert [row[:4] for row in refused[1:]] == [
            ["path_open", "/ro/a", "ROFS", times],
            ["path_open", "/rw/l", "NOTCAPABLE", ""],
            ["", "/x", "NOENT", ""],
        ]
        words = [row[4] for row in refused[1:]]
        assert words[0].startswith("/ro is read-only: with rw")
        assert "a symbolic link on the way leads out of /rw" in words[1]
        assert "nothing is mounted there, only at /ro" in words[2]


# Time


def test_the_parts_of_the_time_add_up_to_that_of_the_run() -> None:
    made = [
        Call("fd_read", 0, errno=Errno.SUCCESS, started_ns=0, duration_ns=300_000_000),
        Call("poll_oneoff", 1, errno=Errno.SUCCESS, started_ns=0, duration_ns=200_000_000),
    ]
    parts = time_parts(result(), result()._given, trace_of(made))
    assert {part.name: part.ns for part in parts} == {
        "the program, and what is around it": 500_000_000,
        "vfswasi": 300_000_000 - 91_000_000,
        "storage": 91_000_000,
        "waiting": 200_000_000,
    }
    assert sum(part.share for part in parts) == pytest.approx(100, abs=0.1)


def test_time_of_stores_that_was_not_measured_is_not_told_as_if_it_had_been() -> None:
    given = Given(Limits())
    parts = time_parts(result(), given, trace_of(calls(10)))
    assert "storage" not in {part.name for part in parts}
    assert "unmeasured" in " ".join(part.told for part in parts)


def test_a_call_lies_in_each_bin_that_it_lasts_through() -> None:
    second = 10**9
    made = [Call("fd_read", 0, errno=Errno.SUCCESS, started_ns=second // 2, duration_ns=second // 4)]
    line = of_calls.timeline(trace_of(made), second)
    assert line is not None
    (lane,) = line.lanes
    assert lane.name == "read"
    assert {bar.at for bar in lane.bars if bar.height == of_calls.HEIGHT} == set(range(80, 120))


def test_a_call_that_never_ended_and_one_beyond_the_end_are_drawn() -> None:
    made = [
        Call("fd_read", 0, started_ns=10, duration_ns=0),
        Call("fd_read", 1, errno=Errno.SUCCESS, started_ns=2 * 10**9, duration_ns=5),
    ]
    line = of_calls.timeline(trace_of(made), 10**9)
    assert line is not None
    assert [bar.at for bar in line.lanes[0].bars] == [0, 159]


# What is bounded


def test_whatever_a_guest_chooses_the_page_stays_small() -> None:
    """Characters that are the longest when they are escaped, names of any length, as many as there may be."""
    evil = ['"' * 5000 + str(number) for number in range(10_000)]
    made = [
        Call(evil[at], at, {"path": evil[at]}, path="/src/" + evil[at], mount=evil[at], errno=Errno.ROFS, started_ns=at)
        for at in range(3000)
    ]
    made += [
        Call("fd_read", at, path="/src/" + name, errno=Errno.SUCCESS, results={"nread": at + 1}, started_ns=at)
        for at, name in enumerate(evil[:7000])
    ]
    tree = {f"{number:03}" + '"' * 240: '"\n' * 10_000 for number in range(500)}
    whole = result(
        args=["p.wasm", *evil],
        stdout='"' * 10**6,
        stderr='"\n' * 10**6,
        trap='"' * 10**6,
        trace=trace_of(made),
        traffic={name: Traffic(1, 1, 1) for name in evil[:1000]},
        accesses=looked_at({name: (Access(name, "file", read=((0, 1),) * 10_000),) for name in evil[:1000]}),
        changes={"/out": changes_of(tree), **{name: changes_of({"a": '"' * 1000}) for name in evil[:300]}},
    )
    html = whole.report().html
    assert 100_000 < len(html.encode()) < SIZE_MAX


def changes_of(tree: dict[str, str]) -> vfswasi.Changes:
    from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
    from vfswasi.fs_backends.memory.backend import MemoryBackend

    overlay = OverlayBackend(MemoryBackend())
    for name, text in tree.items():
        handle = overlay.create((name,))
        handle.write_from(0, memoryview(text.encode()))
        handle.close()
    return vfswasi.Changes(overlay.entries())


def test_the_end_of_an_output_is_shown_and_that_there_is_more() -> None:
    text, cut = end_of("".join(f"line {number}\n" for number in range(10_000)))
    assert text.endswith("line 9999")
    assert cut
    assert len(text) < 16_000
    assert end_of(b"a\r\nb\xff\n") == ("a\nb\ufffd", False)


def test_the_diff_of_a_change_is_shown_with_its_lines() -> None:
    page = page_of(result(changes={"/out": changes_of({"a.txt": "hello\nworld\n"})}))
    assert "+hello" in page.whole
    (rows,) = (table for table in page.tables if table[0][1:] == ["Path", "Before", "After"])
    assert rows[1] == ["A", "a.txt", "", "12 B"]


def test_a_diff_of_many_changes_is_of_the_first_ones() -> None:
    words = shown(result(changes={"/out": changes_of({f"{number:03}.txt": "x\n" for number in range(60)})}))
    assert "+++ b/049.txt" in words
    assert "+++ b/050.txt" not in words
    assert "The diff of the first 50 changes; result.changes[...].diff() has all of it." in words


def test_contents_that_are_gone_leave_the_rest_of_the_page() -> None:
    class Gone:
        base = None

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter([vfswasi.Change("added", "a", "file", size=1)])

        def iter_diff(self) -> Any:
            yield "diff --git a/a b/a\n"
            raise RuntimeError("s3://key:secret@bucket/a is gone")

    words = shown(result(changes={"/out": Gone()}))
    assert "cannot be read: s3://***@bucket/a is gone" in words
    assert "secret" not in words


# What is harmless


EVIL = ["<script>alert(1)</script>", "a\x1b[31mb", "a\u202eb", "a\u2066b", "\udc80", "a\0b", "{{ 7 * 7 }}", "{% raw %}"]


@pytest.mark.parametrize(
    "evil", EVIL, ids=["markup", "escape", "override", "isolate", "surrogate", "nul", "braces", "tag"]
)
def test_nothing_that_a_guest_chose_is_markup_or_moves_what_is_around_it(evil: str) -> None:
    made = [Call(evil, 0, {evil: evil}, path=evil, mount=evil, errno=Errno.ROFS, results={evil: evil})]
    whole = result(
        args=[evil, evil],
        stdout=evil,
        stderr=evil,
        trap=evil,
        trace=trace_of(made),
        traffic={evil: Traffic(1, 1, 1)},
        accesses=looked_at({evil: (Access(evil, "missing"),)}),
        _given=Given(Limits(), mounts=((evil, "ro", evil),)),
    )
    plain = page_of(
        result(trace=trace_of([Call("x", 0, errno=Errno.ROFS, path="/p", mount="/m")]), trap="x", stdout="x")
    )
    html = whole.report().html
    page = Page(html)
    html.encode()
    assert page.tags.count("script") == 1
    assert set(page.tags) == set(plain.tags)
    assert not any(name.startswith("on") or name == "style" for name, _ in page.attributes)
    assert not any(ch in html for ch in "\x1b\u202e\u2066\0\udc80")
    assert "49" not in page.whole if "7 * 7" in evil else True


def test_the_page_forbids_what_is_not_its_own() -> None:
    html = result().report().html
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in re.sub(r"http-equiv|zip://\*::s3://", "", html.lower())
    assert not re.search(r"(src|href)=\"(?!#)", html)


def test_secrets_of_mounts_are_not_shown() -> None:
    fsspec.filesystem("memory").pipe("/user:hunter2@host/x?token=hunter3/a", b"")
    ran = vfswasi.run(
        EMPTY,
        preopens={"/data": vfswasi.Mount("memory://user:hunter2@host/x?token=hunter3", rw=False)},
        env={"TOKEN": "hunter4"},
        trace=True,
        capture_output=True,
    )
    assert ran._given is not None
    assert ran._given.mounts is not None
    html = ran.report().html
    assert "memory://" in html
    assert "hunter" not in html


# How it is kept


def test_it_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    at = tmp_path / "r.html"
    at.write_text("old")
    report = result().report()
    report.save(at)
    assert at.read_bytes() == report.html.encode()
    assert [each.name for each in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(FileNotFoundError):
        report.save(tmp_path / "none" / "r.html")
    with pytest.raises(IsADirectoryError):
        report.save(tmp_path)


def test_without_its_package_it_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def importing(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "jinja2":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(SandboxError, match=r"Jinja2: pip install \"vfswasi\[report\]\""):
        result().report()


# Words


@pytest.mark.parametrize(
    ("ns", "told"),
    [
        (0, "0"),
        (400, "0.4 µs"),
        (1_250_000, "1.25 ms"),
        (250_000_000, "250 ms"),
        (3_200_000_000, "3.20 s"),
        (125 * 10**9, "2 min 5 s"),
        (3600 * 10**9, "60 min"),
    ],
)
def test_times_are_told_as_people_read_them(ns: int, told: str) -> None:
    assert time_text(ns) == told


def test_sizes_are_told_as_people_read_them() -> None:
    assert [size_text(count) for count in (0, 17, 1536, 5 << 20, 3 << 40)] == [
        "0 B",
        "17 B",
        "1.5 KiB",
        "5.0 MiB",
        "3,072.0 GiB",
    ]


def test_foreign_texts_are_cut_where_they_are_too_long_as_they_are_shown() -> None:
    assert foreign("abc", 3) == "abc"
    assert foreign("abcd", 3) == "ab…"
    assert len(foreign("\x1b" * 100, 20)) == 20


def test_a_clock_is_told() -> None:
    assert clock_text(None) == clock_text(Clock.system()) == "the system's"
    assert clock_text(Clock.stepped(0, 0.5)) == "stepped, from 1970-01-01 00:00:00 UTC, 500 ms at each look"
