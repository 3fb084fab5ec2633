"""The unified diff of changes: what programs that read diffs make of it, and what it says where it cannot be had."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfswasi import Changes, File, FsError, MemoryBackend, MountError
from vfswasi.observe.diff import files, lines
from vfswasi.observe.diff.lines import blocks, hunks

from .made import (
    FILE,
    Entry,
    Gone,
    MadeBase,
    Was,
    added,
    made_directory,
    made_link,
    modified,
    plain,
    removed,
    renamed,
    some,
    touched,
)


def test_each_kind_as_git_writes_it() -> None:
    changes, _ = some()
    assert (
        changes.diff()
        == """\
diff --git a/a b/b
similarity index 100%
rename from a
rename to b
Binary files a/d/e/y and /dev/null differ
diff --git a/d/x b/d/x
deleted file mode 100644
--- a/d/x
+++ /dev/null
@@ -1 +0,0 @@
-1
diff --git a/gone b/gone
deleted file mode 100644
diff --git a/new b/new
new file mode 100644
--- /dev/null
+++ b/new
@@ -0,0 +1 @@
+new
diff --git a/old.txt b/old.txt
--- a/old.txt
+++ b/old.txt
@@ -1,3 +1,3 @@
 one
-two
+2
 three
"""
    )


def test_a_file_with_another_name_and_other_contents_is_shown_once() -> None:
    base = MadeBase({"a": "1\n2\n", "d": {"x": "1\n"}})
    entries = [
        renamed(base, "a", "b"),
        modified(base, "b", "1\n3", "a"),
        renamed(base, "d", "e"),
        modified(base, "e/x", "2\n", "d/x"),
    ]
    assert (
        Changes(entries, base).diff()
        == """\
diff --git a/a b/b
rename from a
rename to b
--- a/a
+++ b/b
@@ -1,2 +1,2 @@
 1
-2
+3
\\ No newline at end of file
Renamed directory: a/d -> b/e
diff --git a/d/x b/e/x
rename from d/x
rename to e/x
--- a/d/x
+++ b/e/x
@@ -1 +1 @@
-1
+2
"""
    )


def test_names_are_quoted_as_git_does() -> None:
    base = MadeBase({})
    text = Changes([added('a b"\x1b\n\u202e', b"1\n"), added("c d", b"1\n"), added("é", b"1\n")], base).diff()
    assert '+++ "b/a b\\"\\033\\n\\342\\200\\256"\n' in text
    assert "+++ b/c d\t\n" in text
    assert "+++ b/é\n" in text
    assert "\x1b" not in text


def test_links_are_shown_by_their_targets() -> None:
    base = MadeBase({"m": b"1"})
    text = Changes([made_link("l", "m"), removed(base, "m"), made_link("m", "x"), made_directory("d")], base).diff()
    assert text.startswith("diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+m\n\\ No")
    assert "deleted file mode 100644" in text
    assert "directory" not in text


def test_a_second_name_of_a_new_file_has_its_lines() -> None:
    text = Changes([added("a", b"1\n"), Entry("added", "b", FILE, size=2, link_to="a")]).diff()
    assert text.count("+1\n") == 2
    text = Changes([Entry("added", "b", FILE, size=2, link_to="old")]).diff()
    assert "Files /dev/null and b/b differ: another name of old" in text


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe"], ids=["NUL", "no UTF-8"])
def test_what_is_no_text_has_one_line(data: bytes) -> None:
    base = MadeBase({"x": b"text\n"})
    assert Changes([modified(base, "x", data)], base).diff().splitlines()[-1] == "Binary files a/x and b/x differ"
    base = MadeBase({"x": data})
    assert Changes([modified(base, "x", b"text\n")], base).diff().splitlines()[-1] == "Binary files a/x and b/x differ"


def test_what_is_large_has_one_line_and_is_not_read() -> None:
    huge = Gone(b"x")
    huge.size = files.FILE_MAX_BYTES + 1
    text = Changes([Entry("added", "x", FILE, size=huge.size, content=huge)]).diff()
    assert text.splitlines()[-1] == "Files /dev/null and b/x differ: not shown, there are 1,048,577 bytes"
    base = MadeBase({"x": b"1" * (files.FILE_MAX_BYTES + 1)})
    assert "there were 1,048,577 bytes" in Changes([modified(base, "x", b"2")], base).diff()


def test_a_text_that_would_be_too_long_goes_on_with_a_line_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "TEXT_MAX_BYTES", 100)
    text = Changes([added(f"f{number}", b"line\n" * 30) for number in range(9)]).diff()
    assert text.count("+line") == 30
    assert text.count("differ: not shown, the text is too long") == 8


def test_contents_that_are_gone_are_an_error() -> None:
    with pytest.raises(FsError, match="STALE"):
        Changes([Entry("added", "x", FILE, size=1, content=Gone(b"1"))]).diff()


def changed_base(how: str) -> MadeBase:
    base = MadeBase({"x": File(b"1\n", mtime=5), "y": b""})
    if how == "other contents":
        base.backend.write_bytes("x", b"2\n")
    elif how == "other size":
        base.backend.write_bytes("x", b"22\n")
    elif how == "removed":
        del base.backend["x"]
    elif how == "a directory":
        del base.backend["x"]
        base.backend["x"] = {}
    elif how == "a link":
        del base.backend["x"]
        base.backend.symlink("1\n", ("x",))
    elif how == "replaced":
        del base.backend["x"]
        base.backend["x"] = File(b"2\n", mtime=5)
    return base


@pytest.mark.parametrize(
    "how", ["other contents", "other size", "removed", "a directory", "a link", "replaced", "unreachable", "unknown"]
)
def test_old_contents_that_are_not_what_they_were_are_never_shown(how: str) -> None:
    first = MadeBase({"x": File(b"1\n", mtime=5), "y": b""})
    entry = modified(first, "x", b"3\n")
    base = changed_base(how)
    base.reachable = how != "unreachable"
    text = Changes([entry, added("z", b"z\n")], None if how == "unknown" else base).diff()
    assert "@@ -1" not in text
    assert "Files a/x and b/x differ: the old contents are not at hand" in text
    assert "+z\n" in text
    if how == "unreachable":
        assert "no such file" in text


def test_a_base_that_is_given_counts_where_it_has_the_same() -> None:
    first = MadeBase({"x": File(b"1\n", mtime=5), "y": File(b"1\n", mtime=5)})
    changes = Changes([modified(first, "x", b"2\n"), modified(first, "y", b"2\n")])
    text = changes.diff(base={"x": File(b"1\n", mtime=5), "y": File(b"7\n", mtime=6)})
    assert "-1\n+2\n" in text
    assert "Files a/y and b/y differ: the old contents are not at hand: what they were made on has changed" in text
    with pytest.raises(MountError, match="nothing"):
        changes.diff(base="./nothing-of-that-name")
    with pytest.raises(TypeError):
        changes.diff(base=7)


def test_a_known_digest_decides_whatever_the_times_say(tmp_path: Path) -> None:
    first = MadeBase({"x": File(b"1\n", mtime=5), "y": File(b"1\n", mtime=5)})
    Changes([modified(first, "x", b"2\n"), modified(first, "y", b"2\n")], first).save(tmp_path / "c.zip")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "x").write_bytes(b"1\n")
    (tmp_path / "copy" / "y").write_bytes(b"3\n")
    loaded = Changes.load(tmp_path / "c.zip")
    text = loaded.diff(base=tmp_path / "copy")
    assert text.count("-1\n+2\n") == 1
    assert "Files a/y and b/y differ: the old contents are not at hand: they are not what they were" in text
    assert "does not lead to what they were made on" in loaded.diff()


def test_a_store_of_the_callers_stays_open() -> None:
    backend = MemoryBackend({"x": b"1\n"})
    status = backend.stat(("x",))
    entry = Entry("removed", "x", FILE, was=Was(FILE, 2, status.mtim_ns, status.ident))
    assert "-1\n" in Changes([entry]).diff(base=backend)
    assert backend.read_bytes("x") == b"1\n"


def test_times_alone_are_no_difference_of_texts() -> None:
    base = MadeBase({"x": b"1\n"})
    assert Changes([touched(base, "x", 5)], base).diff() == ""
    assert Changes([]).diff() == ""
    assert Changes([Entry("attributes", "x", FILE, None, plain(base.was("x")))]).diff() == ""


# The lines themselves

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n"]), max_size=40)


@settings(max_examples=400)
@given(TEXTS, TEXTS)
def test_the_blocks_make_the_new_text_of_the_old_one_with_the_fewest_lines(old: list[str], new: list[str]) -> None:
    made: list[str] = []
    at = edits = 0
    for first, last, new_first, new_last in blocks(old, new):
        assert at <= first <= last
        made += old[at:first] + new[new_first:new_last]
        assert len(made) == new_last
        edits += last - first + new_last - new_first
        at = last
    assert made + old[at:] == new
    assert edits == len(old) + len(new) - 2 * longest_common(old, new)


def longest_common(old: list[str], new: list[str]) -> int:
    row = [0] * (len(new) + 1)
    for line in old:
        before = 0
        for at, other in enumerate(new):
            here = row[at + 1]
            row[at + 1] = before + 1 if line == other else max(row[at + 1], row[at])
            before = here
    return row[-1]


def test_texts_with_nothing_in_common_are_given_up_early() -> None:
    old, new = [f"{number}\n" for number in range(50_000)], [f"x{number}\n" for number in range(50_000)]
    assert blocks(["same\n", *old, "end\n"], ["same\n", *new, "end\n"]) == [(1, 50_001, 1, 50_001)]
    repeated = ["a\n", "b\n"] * 100_000
    assert blocks(repeated, repeated[1:] + ["c\n"] * lines.EDITS_MAX)


def test_comparing_is_given_up_after_a_while() -> None:
    old, new = ["1\n", "same\n", "2\n"], ["3\n", "same\n", "4\n"]
    effort = lines.Effort(50)
    assert blocks(old, new, effort) == [(0, 1, 0, 1), (2, 3, 2, 3)]
    assert 0 < effort.left < 50
    while effort.left >= 16:
        assert blocks(old, new, effort) == [(0, 1, 0, 1), (2, 3, 2, 3)]
    assert blocks(old, new, effort) == [(0, 3, 0, 3)]
    effort.left = -1
    assert blocks(old, new, effort) == [(0, 3, 0, 3)]


def test_far_changes_in_a_long_text_are_small_hunks() -> None:
    old = [f"{number}\n" for number in range(30_000)]
    new = ["first\n", *old[:20_000], "middle\n", *old[20_001:]]
    assert (
        "".join(hunks(old, new))
        == """\
@@ -1,3 +1,4 @@
+first
 0
 1
 2
@@ -19998,7 +19999,7 @@
 19997
 19998
 19999
-20000
+middle
 20001
 20002
 20003
"""
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git reads what is written for it")
def test_git_applies_it(tmp_path: Path) -> None:
    tree = {"m": "1\n2\n3", "gone": "x\n", "moved": "y\n", "both": "1\n2\n", "dir": {"z": "z"}, 'odd "\té': "o\n"}
    base = MadeBase({**tree, "binary": "\0old"})
    changes = Changes(
        [
            modified(base, "m", "1\n2\n4\n"),
            removed(base, "gone"),
            renamed(base, "moved", "new/name"),
            made_directory("new"),
            renamed(base, "both", "two words"),
            modified(base, "two words", "0\n1\n2\n", "both"),
            removed(base, "dir"),
            modified(base, 'odd "\té', "p\n"),
            added("empty", b""),
            made_link("link", "m"),
            modified(base, "binary", b"\0new"),
            added("a binary", b"\0"),
        ],
        base,
    )
    base_files = {
        "binary": "\0old",
        "m": "1\n2\n3",
        "gone": "x\n",
        "moved": "y\n",
        "both": "1\n2\n",
        "dir/z": "z",
        'odd "\té': "o\n",
    }
    for path, text in base_files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    done = subprocess.run(
        ["git", "apply", "-"], cwd=tmp_path, input=changes.diff(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if not path.is_dir()}
    assert {name: path.read_text() for name, path in found.items() if not path.is_symlink()} == {
        "binary": "\0old",
        "m": "1\n2\n4\n",
        "new/name": "y\n",
        "two words": "0\n1\n2\n",
        'odd "\té': "p\n",
        "empty": "",
    }
    assert found["link"].readlink() == Path("m")
