"""Names out of the pages of web servers: those that real servers write, and those that nobody should."""

from __future__ import annotations

import html
import itertools
import time
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.remote.http.page import VALUE_MAX_BYTES, links, unescaped
from vfswasi.fs_backends.remote.http.urls import names_on_page

HERE = "http://host:8000/pub/"


def hrefs(page: str | bytes, charset: str = "") -> list[str]:
    body = page if isinstance(page, bytes) else page.encode()
    return [href for tag, href in links(body, charset, lambda: None) if tag == "a"]


def names(page: str | bytes, here: str = HERE, url: str | None = None) -> dict[str, bool]:
    body = page if isinstance(page, bytes) else page.encode()
    return names_on_page(links(body, "", lambda: None), here, url or here, lambda count: None)


EXPECTED = {"a.txt": False, "R&D.txt": False, "it's.txt": False, "100%.txt": False, "é.txt": False, "sub dir": True}

PAGES = {
    "Python's http.server": """<!DOCTYPE HTML>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Directory listing for /pub/</title>
</head>
<body>
<h1>Directory listing for /pub/</h1>
<hr>
<ul>
<li><a href="100%25.txt">100%.txt</a></li>
<li><a href="a.txt">a.txt</a></li>
<li><a href="%C3%A9.txt">é.txt</a></li>
<li><a href="it%27s.txt">it&#x27;s.txt</a></li>
<li><a href="R%26D.txt">R&amp;D.txt</a></li>
<li><a href="sub%20dir/">sub dir/</a></li>
</ul>
<hr>
</body>
</html>
""",
    "nginx": """<html>\r
<head><title>Index of /pub/</title></head>\r
<body>\r
<h1>Index of /pub/</h1><hr><pre><a href="../">../</a>\r
<a href="sub%20dir/">sub dir/</a>                                           27-Nov-2026 04:00                   -\r
<a href="100%25.txt">100%.txt</a>                                           27-Nov-2026 04:00                   5\r
<a href="R%26D.txt">R&amp;D.txt</a>                                            27-Nov-2026 04:00                   5\r
<a href="a.txt">a.txt</a>                                              27-Nov-2026 04:00                   5\r
<a href="it%27s.txt">it's.txt</a>                                           27-Nov-2026 04:00                   5\r
<a href="%C3%A9.txt">é.txt</a>                                              27-Nov-2026 04:00                   5\r
</pre><hr></body>\r
</html>\r
""",
    "Apache's mod_autoindex": """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html>
 <head>
  <title>Index of /pub</title>
 </head>
 <body>
<h1>Index of /pub</h1>
  <table>
   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th><th><a href="?C=N;O=D">Name</a></th><th>\
<a href="?C=M;O=A">Last modified</a></th><th><a href="?C=S;O=A">Size</a></th></tr>
   <tr><td valign="top"><img src="/icons/back.gif" alt="[PARENTDIR]"></td><td><a href="/">Parent Directory</a></td></tr>
<tr><td valign="top"><img src="/icons/text.gif" alt="[TXT]"></td><td><a href="100%25.txt">100%.txt</a></td></tr>
<tr><td valign="top"><img src="/icons/text.gif" alt="[TXT]"></td><td><a href="R&amp;D.txt">R&amp;D.txt</a></td></tr>
<tr><td valign="top"><img src="/icons/text.gif" alt="[TXT]"></td><td><a href="a.txt">a.txt</a></td></tr>
<tr><td valign="top"><img src="/icons/text.gif" alt="[TXT]"></td><td><a href="it's.txt">it's.txt</a></td></tr>
<tr><td valign="top"><img src="/icons/folder.gif" alt="[DIR]"></td><td><a href="sub%20dir/">sub dir/</a></td></tr>
<tr><td valign="top"><img src="/icons/text.gif" alt="[TXT]"></td><td><a href="%c3%a9.txt">é.txt</a></td></tr>
</table>
</body></html>
""",
    "Caddy": """<!DOCTYPE html>
<html>
	<head><title>/pub/</title>
		<link rel="canonical" href="/pub/"  />
		<style>a > b { content: "<a href='no'>" }</style>
		<script>document.write("<a href='script.txt'>x</a>")</script></head>
	<body onload="initPage()">
		<header><h1><a href="/">/</a><a href="/pub/">pub/</a></h1></header>
		<a href="javascript:queryParam('layout', '')" id="layout-list">List</a>
		<a href="?sort=name&order=desc">Name</a>
		<tr class="file"><td><a href="./sub%20dir/"><svg/><span class="name">sub dir/</span></a></td></tr>
		<tr class="file"><td><a href="./100%25.txt"><span class="name">100%.txt</span></a></td></tr>
		<tr class="file"><td><a href="./R&amp;D.txt"><span class="name">R&amp;D.txt</span></a></td></tr>
		<tr class="file"><td><a href="./a.txt"><span class="name">a.txt</span></a></td></tr>
		<tr class="file"><td><a href="./it&#39;s.txt"><span class="name">it&#39;s.txt</span></a></td></tr>
		<tr class="file"><td><a href="./%C3%A9.txt"><span class="name">é.txt</span></a></td></tr>
		<footer>Served with <a rel="noopener noreferrer" href="https://caddyserver.com">Caddy</a></footer>
	</body>
</html>
""",
    "lighttpd": """<!DOCTYPE html>
<html>
<head>
<title>Index of /pub/</title>
</head>
<body>
<h2>Index of /pub/</h2>
<div class="list">
<table summary="Directory Listing" cellpadding="0" cellspacing="0">
<tbody>
<tr class="d"><td class="n"><a href="../">..</a>/</td><td class="m">&nbsp;</td><td class="s">- &nbsp;</td></tr>
<tr class="d"><td class="n"><a href="sub%20dir/">sub dir</a>/</td><td class="m">2026-Nov-27 04:00:00</td></tr>
<tr><td class="n"><a href="100%25.txt">100%.txt</a></td><td class="m">2026-Nov-27 04:00:00</td></tr>
<tr><td class="n"><a href="R%26D.txt">R&amp;D.txt</a></td><td class="m">2026-Nov-27 04:00:00</td></tr>
<tr><td class="n"><a href="a.txt">a.txt</a></td><td class="m">2026-Nov-27 04:00:00</td></tr>
<tr><td class="n"><a href="it%27s.txt">it&#39;s.txt</a></td><td class="m">2026-Nov-27 04:00:00</td></tr>
<tr><td class="n"><a href="%c3%a9.txt">é.txt</a></td><td class="m">2026-Nov-27 04:00:00</td></tr>
</tbody>
</table>
</div>
</body>
</html>
""",
}


@pytest.mark.parametrize("server", PAGES)
def test_pages_of_real_servers(server: str) -> None:
    assert names(PAGES[server]) == EXPECTED


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<a href="./a.txt">', {"a.txt": False}),
        ("<a href=a.txt>", {"a.txt": False}),
        ("<a href='it&apos;s.txt'>", {"it's.txt": False}),
        ('<a href="it\'s.txt">', {"it's.txt": False}),
        ("<A HREF='a.txt'>", {"a.txt": False}),
        ("<a\n\tclass=x\n\thref\n=\n'a.txt'\n>", {"a.txt": False}),
        ('<a href="first" href="second">', {"first": False}),
        ('<a data-href="no" href="yes">', {"yes": False}),
        ('<a title="a > b" href="yes">', {"yes": False}),
        ('<a title=\'<a href="no">\' href="yes">', {"yes": False}),
        ('<a href="a.txt"><a href="a.txt/">', {"a.txt": True}),
        ('<a href="http://host:8000/pub/a.txt">', {"a.txt": False}),
        ('<a href="//host:8000/pub/a.txt">', {"a.txt": False}),
        ('<a href="HTTP://HOST:8000/pub/a.txt">', {"a.txt": False}),
        ('<a href="/pub/a.txt">', {"a.txt": False}),
        ('<a href="/p%75b/a.txt">', {"a.txt": False}),
        ('<a href="//pub/a.txt">', {}),
        ('<a href="/pub//a.txt">', {"a.txt": False}),
        ('<a href="../pub/a.txt">', {"a.txt": False}),
        ('<a href="a.txt#part">', {"a.txt": False}),
        ('<a href=" a.txt\n">', {"a.txt": False}),
        ('<a href="a.txt?download=1">', {}),
        ('<a href="?a.txt">', {}),
        ('<a href="#a.txt">', {}),
        ('<a href="">', {}),
        ("<a href>", {}),
        ('<a href=".">', {}),
        ('<a href="..">', {}),
        ('<a href="/">', {}),
        ('<a href="../other">', {}),
        ('<a href="/publication">', {}),
        ('<a href="sub/a.txt">', {}),
        ('<a href="https://host:8000/pub/a.txt">', {}),
        ('<a href="http://host/pub/a.txt">', {}),
        ('<a href="http://other:8000/pub/a.txt">', {}),
        ('<a href="http://me@host:8000/pub/a.txt">', {}),
        ('<a href="mailto:x@y">', {}),
        ('<a href="javascript:a.txt">', {}),
        ('<a href="data:text/plain,x">', {}),
        ('<a href="a%2Fb">', {}),
        ('<a href="a&#47;b">', {}),
        ('<a href="%2e%2e">', {}),
        ('<a href="%2e%2e%2fx">', {}),
        ('<a href="sub/%2e%2e/%2e%2e/x">', {}),
        ('<a href="a\\b">', {}),
        ('<a href="a%5Cb">', {"a\\b": False}),
        ('<a href="nul%00">', {}),
        ('<a href="%FF.txt">', {}),
        ('<a href="%C3%28">', {}),
        ('<a href="%25">', {"%": False}),
        ('<a href="%2525">', {"%25": False}),
        ('<a href="50%">', {"50%": False}),
        ('<a href="a+b">', {"a+b": False}),
        ('<a href="a%2Bb">', {"a+b": False}),
        ('<a href="é">', {"é": False}),
        ('<a href="&eacute;">', {"é": False}),
        ('<a href="%C3%A9">', {"é": False}),
        ('<a href="a%3Ab">', {"a:b": False}),
        ('<a href="' + "x" * 256 + '">', {}),
        ('<a href="http://[">', {}),
        ('<a href="http://host:99999/pub/a">', {}),
        ('<base href="sub/"><a href="a.txt"><a href="../b.txt">', {"b.txt": False}),
        ('<base href="http://other/"><a href="a.txt"><a href="http://host:8000/pub/b.txt">', {"b.txt": False}),
        ('<base href="/pub/"><base href="/x/"><a href="a.txt">', {"a.txt": False}),
        ('<!-- <a href="no"> --><a href="yes">', {"yes": False}),
        ('<!--><a href="yes">', {"yes": False}),
        ('<!doctype html "<a href=no>"><a href="yes">', {"yes": False}),
        ('<?php <a href="no" ?><a href="yes">', {"yes": False}),
        ('<script><a href="no"></script ><a href="yes">', {"yes": False}),
        ('<SCRIPT>"</scripts>"<a href="no"></script><a href="yes">', {"yes": False}),
        ('<title><a href="no"></title><a href="yes">', {"yes": False}),
        ('<textarea><a href="no"></textarea/><a href="yes">', {"yes": False}),
        ('</a href="no"><a href="yes">', {"yes": False}),
        ('<abbr href="no"><a/href="yes">', {"yes": False}),
        ('1 < 2 <a href="yes">', {"yes": False}),
        ('<a href="no', {}),
        ("<a href=no", {}),
        ("<", {}),
        ("", {}),
    ],
)
def test_links_of_every_kind(page: str, expected: dict[str, bool]) -> None:
    assert names(page) == expected


def test_a_page_that_came_from_elsewhere_in_the_mount() -> None:
    assert names('<a href="a.txt">', url="http://host:8000/pub/index.html") == {"a.txt": False}
    assert names('<a href="a.txt">', url="http://host:8000/pub/other/") == {}


def test_a_query_of_the_mount_is_no_part_of_a_name() -> None:
    page = '<a href="a.txt?key=1"><a href="b.txt"><a href="c.txt?key=2">'
    assert names(page, here=f"{HERE}?key=1") == {"a.txt": False, "b.txt": False}


def test_references_in_values() -> None:
    assert unescaped("a&amp;b&lt;&#38;&#x26;&#38x") == "a&b<&&&x"
    assert unescaped("?a=1&copy=2&amp=3&not&notit;&unknown;&") == "?a=1&copy=2&amp=3¬&notit;&unknown;&"


def test_pages_in_latin_1() -> None:
    assert hrefs(b"<a href='\xe9'>", "ISO-8859-1") == ["é"]
    assert hrefs(b"<a href='\xe9'><a href=b>", "utf-8") == ["b"]


@given(st.lists(st.text(min_size=1, max_size=20), max_size=8))
def test_whatever_a_name_is_it_comes_back(texts: list[str]) -> None:
    wanted = [text for text in texts if text.isprintable() and not text.isspace()]
    page = "".join(f'<li><a class="x" href="{quote(text, safe="")}">{html.escape(text)}</a></li>' for text in wanted)
    fitting = {text for text in wanted if text not in (".", "..") and "/" not in text}
    assert set(names(page)) == {text for text in fitting if len(text.encode()) <= 255}


class _Reference(HTMLParser):
    """The standard library's parser, on pages that are not made against it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        value = next((value for name, value in attrs if name == "href"), None)
        if tag == "a" and value is not None:
            self.found.append(value)


_WORDS = st.sampled_from(["a", "b c", "x=1", "&amp;", "é", "'", "/", "1", "%20", "?", "<b>", "=", ">"])
_VALUES = st.lists(_WORDS, max_size=4).map("".join)
_TAGS = st.tuples(
    st.sampled_from(["a", "A", "p", "abbr", "img"]),
    st.lists(st.tuples(st.sampled_from(["href", "HREF", "class", "x-y"]), _VALUES), max_size=3),
    st.sampled_from(["", " ", "\n"]),
)


@given(st.lists(_TAGS, max_size=6))
def test_the_standard_librarys_parser_finds_the_same(tags: list[tuple[str, list[tuple[str, str]], str]]) -> None:
    page = "".join(
        f"<{name}{blank or ' '}"
        + " ".join(f'{attribute}="{value}"' for attribute, value in attributes)
        + f"{blank}>text"
        for name, attributes, blank in tags
    )
    reference = _Reference()
    reference.feed(page)
    reference.close()
    assert hrefs(page) == reference.found


# Pages that are made to take long. The standard library's parser needs a minute for 60 kB of the second.
HOSTILE = {
    "spaces in a tag": b"<a" + b" " * (4 << 20),
    "tags in tags": b"<a " * (1 << 20),
    "attributes": b"<a " + b"a " * (1 << 20),
    "open quotes": b'<a x="' * (1 << 19),
    "values without end": b"<a " + b"x=" * (1 << 20),
    "equals signs": b"<a " + b"=" * (1 << 20),
    "spaces before equals": (b"<a x" + b" " * 5000) * 400,
    "comments": b"<!--" * (1 << 20),
    "comments that end": b"<!---->" * (1 << 19),
    "declarations": b"<!" * (1 << 20),
    "end tags": b"</" * (1 << 20),
    "text that does not end": b"<script>" + b"</" * (1 << 20),
    "texts in texts": b"<script></script>" * (1 << 17),
    "names of tags": b"<a" * (1 << 20),
    "references": b'<a href="' + b"&" * 8000 + b'">' + b'<a href="&amp;&#1;&x">' * 20_000,
    "one long value": b'<a href="' + b"x" * (4 << 20) + b'">',
    "slashes": b"<a " + b"/" * (4 << 20),
    "text": b"x" * (16 << 20),
    "zeros": bytes(16 << 20),
}


class _Late(Exception):
    pass


@pytest.mark.parametrize("label", HOSTILE)
def test_x8_no_page_holds_us_up(label: str) -> None:
    """The time is looked at often: nothing between two looks takes long."""
    page = HOSTILE[label]
    looked = [time.thread_time()]

    def check() -> None:
        looked.append(time.thread_time())

    names_on_page(links(page, "", check), HERE, HERE, lambda count: None)
    looked.append(time.thread_time())
    assert max(after - before for before, after in itertools.pairwise(looked)) < 0.5
    assert looked[-1] - looked[0] < 30


def test_x8_the_time_of_the_run_ends_it() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise FsError(Errno.CANCELED)

    with pytest.raises(FsError):
        list(links(b"<a href=x>" * 100_000, "", check))
    assert calls == 3


def test_values_that_are_too_long_are_left_out() -> None:
    assert hrefs(b'<a href="' + b"x" * (VALUE_MAX_BYTES + 1) + b'"><a href=y>') == ["y"]
