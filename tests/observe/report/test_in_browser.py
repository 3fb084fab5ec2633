"""The page about a run in a real Chromium: it loads nothing, fits, sorts, and nothing that a guest chose is obeyed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfswasi import Result
from vfswasi.errors import Errno
from vfswasi.observe.accesses.accesses import Access
from vfswasi.observe.trace.call import Call

from .browser import CHROMIUM, chromium, opened
from .made import calls, looked_at, result, trace_of

if CHROMIUM is None:
    pytest.skip("no Chromium: apt-get install chromium, or name one in VFSWASI_CHROMIUM", allow_module_level=True)

EVIL = "<script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


def saved(found: Result[Any], tmp_path: Path) -> Path:
    at = tmp_path / "report.html"
    found.report().save(at)
    return at


def hostile() -> Result[Any]:
    """Whatever a guest can choose tries to be markup, to leave a quoted attribute, or to be very long."""
    names = [
        "/src/" + EVIL,
        '/src/"><h1 id=mine>',
        "/src/" + "x" * 5000,
        "/src/\x1b[31m\u202egnp.exe",
        "/src/{{ 7*7 }}",
    ]
    made = calls(200, names=names)
    made.append(Call(EVIL, 999, {"path": EVIL}, path=EVIL, mount=EVIL, errno=Errno.ROFS, started_ns=1, duration_ns=1))
    return result(
        args=[EVIL, '"', "'", "a b", "\x1b[2J", "y" * 10_000],
        stdout=EVIL + "\n</pre></style></script>" + "z" * 100_000,
        stderr=(EVIL + "\0\r\n").encode() * 1000,
        trap=EVIL * 100,
        trace=trace_of(made),
        accesses=looked_at({EVIL: (Access(EVIL, "missing"), Access("w" * 5000, "file", read="whole"))}),
    )


@pytest.mark.parametrize("found", [result, hostile], ids=["usual", "hostile"])
def test_it_opens_without_a_complaint_and_asks_for_nothing_else(found: Any, browser: Any, tmp_path: Path) -> None:
    file = saved(found(), tmp_path)
    with opened(browser, file) as page:
        page.wait_for_load_state("networkidle")
        assert page.said == []
        assert page.asked == [file.as_uri()]


def test_nothing_that_a_guest_chose_is_markup_or_run(browser: Any, tmp_path: Path) -> None:
    with opened(browser, saved(hostile(), tmp_path)) as page:
        assert page.title() == "x onerror=\"document.title='owned'\">: trapped"  # argv[0], as text
        assert page.locator("img, #mine, iframe, object, embed, link").count() == 0
        assert page.locator("script").count() == page.locator("style").count() == 1
        text = page.inner_text("body")
        assert "{{ 7*7 }}" in text
        assert not any(ch in text for ch in "\x1b\u202e\0")


def test_what_is_put_into_it_later_cannot_be_run_or_fetched(browser: Any, tmp_path: Path) -> None:
    """The page's own policy forbids it, should escaping ever fail."""
    with opened(browser, saved(result(), tmp_path)) as page:
        page.evaluate(
            """() => {
                const image = '<img src="http://127.0.0.1:9/x" onerror="window.ran = 1">';
                document.body.insertAdjacentHTML("beforeend", image);
                const script = document.createElement("script");
                script.textContent = "window.ran = 1";
                document.body.append(script);
            }"""
        )
        page.wait_for_timeout(300)
        assert page.evaluate("window.ran") is None
        # Chromium reports what it has not asked for as a request that failed: nothing went out.
        assert any("Content Security Policy" in line for line in page.said)
        assert page.evaluate("performance.getEntriesByType('resource').filter(e => e.responseStatus).length") == 0


@pytest.mark.parametrize("width", [390, 320, 1200])
@pytest.mark.parametrize("found", [result, hostile], ids=["usual", "hostile"])
def test_it_fits_the_width_of_the_screen(found: Any, width: int, browser: Any, tmp_path: Path) -> None:
    with opened(browser, saved(found(), tmp_path), width=width, height=844) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        )
        assert wide == 0 or width == 1200 or found is hostile


def column(page: Any, heading: str) -> list[str]:
    """The cells of a column of the table of calls."""
    rows = page.locator(f"{TABLE} tbody tr")
    at = page.locator(f"{TABLE} th").all_inner_texts().index(heading)
    return [row.locator("td").nth(at).inner_text() for row in rows.all()]


TABLE = "section:has(> #calls) table"


def test_a_click_on_a_heading_sorts(browser: Any, tmp_path: Path) -> None:
    with opened(browser, saved(result(), tmp_path)) as page:
        heading = page.locator(f"{TABLE} th", has_text="Calls")
        counts = sorted(int(each) for each in column(page, "Calls"))
        assert len(counts) > 2
        heading.locator("button").click()
        assert [int(each) for each in column(page, "Calls")] == counts[::-1]
        assert heading.get_attribute("aria-sort") == "descending"
        heading.locator("button").click()
        assert [int(each) for each in column(page, "Calls")] == counts
        assert heading.get_attribute("aria-sort") == "ascending"


def test_sizes_are_sorted_by_what_they_are_and_not_by_how_they_are_written(browser: Any, tmp_path: Path) -> None:
    made = [
        Call("fd_read", at, {"fd": 4}, path=f"/src/{at}", errno=Errno.SUCCESS, results={"nread": count})
        for at, count in enumerate([999, 2 << 20, 3 << 10, 5 << 30])
    ]
    with opened(browser, saved(result(trace=trace_of(made)), tmp_path)) as page:
        page.locator("section:has(> #files) th", has_text="Read").locator("button").click()
        cells = page.locator("section:has(> #files) tbody tr td:nth-child(2)").all_inner_texts()
        assert [cell.strip() for cell in cells] == ["5.0 GiB", "2.0 MiB", "3.0 KiB", "999 B"]


def test_the_keyboard_sorts_too(browser: Any, tmp_path: Path) -> None:
    with opened(browser, saved(result(), tmp_path)) as page:
        page.locator(f"{TABLE} th", has_text="Call").first.locator("button").focus()
        page.keyboard.press("Enter")
        assert column(page, "Call") == sorted(column(page, "Call"))
        page.keyboard.press("Space")
        assert column(page, "Call") == sorted(column(page, "Call"), reverse=True)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Calls"


def test_it_is_all_there_without_its_script(browser: Any, tmp_path: Path) -> None:
    file = saved(result(), tmp_path)
    with opened(browser, file) as page:
        whole = page.inner_text("body")
    with opened(browser, file, java_script_enabled=False) as page:
        assert page.inner_text("body") == whole
        assert page.locator("th button").count() == 0


# Of a text and what lies behind it, as WCAG has it: 4.5 is what it asks for.
CONTRAST = """() => {
    const parts = (text) => text.match(/[0-9.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const found = parts(getComputedStyle(at).backgroundColor);
            if (found.length === 3 || found[3] === 1) return found;
        }
        return [255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || element.closest("script, style, svg, .unseen")) continue;
        const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        found.push([contrast, walker.currentNode.textContent.trim().slice(0, 40)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(scheme: str, browser: Any, tmp_path: Path) -> None:
    with opened(browser, saved(result(), tmp_path), color_scheme=scheme) as page:
        found = page.evaluate(CONTRAST)
        assert len(found) > 100
        assert [text for contrast, text in found if contrast < 4.5] == []
        red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
        assert (red + green + blue > 700) == (scheme == "light")


def test_the_headings_make_an_outline_and_every_picture_has_words(browser: Any, tmp_path: Path) -> None:
    with opened(browser, saved(result(), tmp_path)) as page:
        levels = [
            int(name[1]) for name in page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => e.tagName)")
        ]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        bare = "[...document.querySelectorAll('svg')].filter(e => !e.ariaLabel && e.ariaHidden !== 'true').length"
        assert page.evaluate(bare) == 0
        assert page.locator("th:not([scope])").count() == 0
        links = page.evaluate("[...document.querySelectorAll('nav a')].map(e => e.getAttribute('href'))")
        assert len(links) > 5
        assert all(page.locator(link).count() == 1 for link in links)


def test_ten_thousand_calls_are_a_page_that_opens(browser: Any, tmp_path: Path) -> None:
    names = [f"/src/{number % 900}/file-{number}.c" for number in range(3000)]
    file = saved(result(trace=trace_of(calls(10_000, names=names), forgotten=5)), tmp_path)
    assert file.stat().st_size < 2_000_000
    with opened(browser, file) as page:
        assert page.locator(".lane rect").count() < 8 * 160
        assert "the 5 before them are only counted" in page.inner_text("#timeline ~ .note")


def test_a_notebook_shows_it_in_a_frame_that_can_do_nothing_to_the_page_around_it(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "notebook.html"
    file.write_text(f"<!DOCTYPE html><title>mine</title>{hostile().report()._repr_html_()}")
    with opened(browser, file) as page:
        frame = page.frames[1]
        frame.wait_for_load_state()
        assert frame.locator("h1").count() == 1
        assert frame.locator("th button").count() > 5
        assert page.title() == "mine"
        reached = frame.evaluate("() => { try { return parent.document.title } catch { return null } }")
        assert reached is None
