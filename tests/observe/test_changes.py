"""What differs, as a value: its list, and how it is asked."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import PurePosixPath

import pytest

import vfswasi
from vfswasi import Change, Changes, FsError

from .made import (
    DIRECTORY,
    FILE,
    LINK,
    Bytes,
    Entry,
    Gone,
    MadeBase,
    Was,
    added,
    made_directory,
    made_link,
    modified,
    removed,
    some,
    touched,
)

EVIL = "x\x1b[31m\n\u202e\x07"


def test_the_list_that_people_know() -> None:
    changes, _ = some()
    assert str(changes) == "R a -> b\nD d/\nD gone\nA new\nM old.txt\nT t"


def test_iterating_gives_changes_in_the_order_of_the_paths() -> None:
    changes, _ = some()
    assert list(changes) == [
        Change("renamed", "b", "file", "a", 5, 5),
        Change("removed", "d", "directory"),
        Change("removed", "gone", "file", None, None, 0),
        Change("added", "new", "file", None, 4, None),
        Change("modified", "old.txt", "file", None, 12, 14),
        Change("attributes", "t", "file", None, 1, 1),
    ]
    assert [str(change) for change in changes] == str(changes).split("\n")


def test_of_one_path_what_was_removed_comes_first() -> None:
    base = MadeBase({"p": b"1"})
    changes = Changes([made_directory("p"), removed(base, "p"), added("p/q", b"")], base)
    assert str(changes) == "D p\nA p/\nA p/q"


def test_what_is_in_a_directory_stands_below_it() -> None:
    entries = [added("a/x", b""), added("a-b", b""), made_directory("a"), added("a.c", b""), added("A", b"")]
    assert str(Changes(entries)) == "A A\nA a/\nA a/x\nA a-b\nA a.c"


def test_the_list_is_safe_on_a_terminal() -> None:
    base = MadeBase({EVIL: b"1"})
    changes = Changes([removed(base, EVIL), made_link(EVIL + "\r", "\x1b[0m"), added("\ud800", b"")], base)
    for text in (str(changes), repr(changes)):
        assert text.replace("\n", "").isprintable()
    assert str(changes).count("\n") == 2
    assert repr(changes).count("\n") == 0
    assert str(changes).startswith(r"D x\x1b[31m\n\u202e\x07" + "\n")


def test_a_repr_is_one_short_line_however_many_there_are() -> None:
    changes = Changes([added(f"f{number:06}" + "x" * 200, b"") for number in range(5000)])
    assert len(repr(changes)) < 400
    assert "5,000 in all" in repr(changes)
    assert repr(Changes([])) == "<Changes: none>"
    assert repr(some()[0]).startswith("<Changes to 'base.zip': R a -> b, D d/, D gone, ...")


def test_length_truth_and_membership() -> None:
    changes, _ = some()
    assert len(changes) == 6
    assert changes
    assert not Changes([])
    for path in ("new", "/new", "./new", PurePosixPath("new")):
        assert path in changes
    for other in ("nothing", "a", 7, None, Change("added", "new", "file", None, 5)):
        assert other not in changes
    assert next(iter(changes)) in changes


def test_they_are_immutable() -> None:
    changes, _ = some()
    with pytest.raises(AttributeError, match="immutable"):
        changes.entries = ()
    with pytest.raises(AttributeError, match="immutable"):
        del changes.base
    with pytest.raises(AttributeError):
        next(iter(changes)).path = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    "other",
    [
        added("a", b"2"),
        added("b", b"1"),
        added("a", b"1", mtim_ns=7),
        made_link("a", "1"),
        made_directory("a"),
        Entry("modified", "a", FILE, None, Was(FILE, 1), 1, content=Bytes(b"1")),
    ],
    ids=["contents", "path", "time", "link", "directory", "kind"],
)
def test_they_are_equal_when_they_make_the_same(other: Entry) -> None:
    one = Changes([added("a", b"1")])
    assert one == Changes([added("a", b"1")], MadeBase({}))
    assert hash(one) == hash(Changes([added("a", b"1")]))
    assert one != Changes([other])
    assert one != Changes([added("a", b"1"), added("c", b"1")])
    assert one != "A a"


def test_what_was_there_counts_and_what_was_found_out_of_it_since_does_not() -> None:
    def of(was: Was) -> Changes:
        return Changes([Entry("removed", "a", DIRECTORY, was=was)])

    found_out = Was(DIRECTORY, 0, None, 7, None, {"x": Was(FILE, 1, digest="0" * 64)})
    assert of(Was(DIRECTORY, below={"x": Was(FILE, 1)})) == of(found_out)
    assert of(Was(DIRECTORY, below={"x": Was(FILE, 1)})) != of(Was(DIRECTORY, below={"x": Was(FILE, 2)}))
    assert of(Was(DIRECTORY, below={"x": Was(FILE, 1)})) != of(Was(DIRECTORY))


def test_contents_are_read_only_where_all_else_is_equal_and_once() -> None:
    one, other = Changes([added("a", b"1"), added("b", b"2")]), Changes([added("a", b"1"), added("b", b"3")])
    longer = Changes([added("a", b"1"), added("b", b"22")])
    assert one != longer
    assert [entry.content.opened for entry in one.entries if isinstance(entry.content, Bytes)] == [0, 0]
    assert one != other
    assert one != other
    assert [entry.content.opened for entry in one.entries if isinstance(entry.content, Bytes)] == [1, 1]


def test_new_contents_can_be_read() -> None:
    base = MadeBase({"m": b"before", "r": b"", "t": b""})
    entries = [
        added("n", b"new"),
        modified(base, "m", b"after"),
        removed(base, "r"),
        touched(base, "t", 1),
        made_directory("d"),
        made_link("l", "n"),
        Entry("added", "again", FILE, size=3, link_to="n"),
        Entry("added", "lost", FILE, size=3, content=Gone(b"123")),
    ]
    changes = Changes(entries, base)
    assert changes.read_bytes("n") == changes.read_bytes("/again") == b"new"
    assert changes.read_bytes("m") == b"after"
    for path, reason in [
        ("nothing", "nothing has changed there"),
        ("r", "it was removed"),
        ("t", "its contents have not changed"),
        ("l", "a link to 'n'"),
    ]:
        with pytest.raises(FileNotFoundError, match=reason):
            changes.read_bytes(path)
    with pytest.raises(IsADirectoryError):
        changes.read_bytes("d")
    with pytest.raises(ValueError, match=r"no '\.\.' in it"):
        changes.read_bytes("d/../n")
    with pytest.raises(FsError, match="STALE"):
        changes.read_bytes("lost")


def test_plain_data_and_json() -> None:
    changes, _ = some()
    told = changes.as_dict()
    assert told["base"] == "'base.zip'"
    assert told["changes"][0] == {
        "kind": "renamed",
        "path": "b",
        "file_type": "file",
        "old_path": "a",
        "size": 5,
        "old_size": 5,
    }
    assert json.loads(changes.to_json()) == told
    assert Changes([]).as_dict() == {"base": None, "changes": []}
    assert json.loads(Changes([added("\ud800\x1b", b"")]).to_json(2))["changes"][0]["path"] == "\ud800\x1b"


def test_a_notebook_shows_the_list_which_no_name_breaks_out_of() -> None:
    base = MadeBase({}, "</code><script>alert(1)</script>")
    evil = "<img src=x onerror=alert(1)>$x$\x1b[31m"
    html = Changes([added(evil, b"12"), made_link("l", evil)], base)._repr_html_()
    assert "<img" not in html
    assert "<script" not in html
    assert "\x1b" not in html
    assert html.startswith('<div class="tex2jax_ignore mathjax_ignore"><details open><summary>2 changes to <code>')
    assert "&lt;img src=x" in html
    assert "2 bytes" in html
    many = Changes([added(f"f{number}", b"") for number in range(5000)])._repr_html_()
    assert "5,000 changes" in many
    assert "and 4,900 more" in many
    assert len(many) < 20_000


def test_pickles_and_copies_have_the_contents_in_them() -> None:
    changes, base = some()
    for same in (copy.copy(changes), copy.deepcopy(changes), pickle.loads(pickle.dumps(changes))):
        assert same == changes
        assert same.read_bytes("new") == b"new\n"
        assert same.base is not None
        assert (same.base.text, same.base.source) == ("'base.zip'", None)
    assert base.opened == 0, "a pickle does not wait for a store that may be far away"


def test_the_names_are_public_and_late() -> None:
    assert vfswasi.Changes is Changes
    assert vfswasi.Change is Change
    assert issubclass(vfswasi.ConflictError, vfswasi.SandboxError)


def test_every_type_of_file_has_a_word() -> None:
    from vfswasi.fs_backends.base import FileType

    for filetype in FileType:
        entry = Entry("removed", "x", filetype, was=Was(filetype, 1))
        assert next(iter(Changes([entry]))).file_type
    assert next(iter(Changes([made_link("l", "x")]))).file_type == "link"
    assert LINK is FileType.SYMBOLIC_LINK
