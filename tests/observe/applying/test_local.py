"""Changes applied to a directory of this machine: as a whole, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vfswasi.errors import ApplyError, ConflictError, Errno, FsError, MountError
from vfswasi.fs_backends.base import FileType
from vfswasi.fs_backends.layers.overlay.entries import Entry
from vfswasi.fs_backends.local import publishing
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.local.file import LocalHandle
from vfswasi.fs_backends.waiting import bounded_by, check_time
from vfswasi.mounts.options import Mount
from vfswasi.observe.applying import local
from vfswasi.observe.applying.plan import STAGING, Plan
from vfswasi.observe.changes import Changes

from . import killing, model

BASE: model.Tree = {"a": b"a", "b": b"b", "dir": {"x": b"x", "y": b"y"}, "gone": {"z": b"z"}}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return model.fill(tmp_path / "place", BASE)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A directory whose syncing costs nothing, if there is one."""
    where = killing.quick_place()
    if where is None:
        yield tmp_path
        return
    import tempfile

    with tempfile.TemporaryDirectory(dir=where) as name:
        yield Path(name)


# Killed


def test_killed_before_any_of_its_steps_it_is_finished_by_applying_again(quick: Path) -> None:
    how_far = killing.before_every_step(quick)
    assert set(how_far) >= {
        "while contents were written",
        "while old names left",
        "while new names came",
        "while it tidied up",
    }


def test_killed_at_random_moments_it_is_finished_by_applying_again(quick: Path) -> None:
    how_far = killing.at_random_moments(quick, 40, seed=time.time_ns())
    assert how_far.total() >= 40


def test_other_changes_wait_until_what_was_begun_is_finished(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = model.changes(model.modified(BASE, "a", b"1"), model.removed(BASE, "gone"))
    _stop_before(monkeypatch, "note_left")
    with pytest.raises(_Stopped):
        begun.apply(place)
    monkeypatch.undo()
    half = model.tree_at(place)
    [staging] = [name for name in half if name.startswith(STAGING)]
    others = [
        model.changes(model.modified(BASE, "b", b"2")),
        model.changes(model.modified(BASE, "a", b"2"), model.removed(BASE, "gone")),  # of the same size
    ]
    for other in others:
        with pytest.raises(ConflictError, match=r"half made|did not come to their end") as raised:
            other.apply(place)
        assert staging in str(raised.value)
        assert model.tree_at(place) == half
    begun.apply(place)
    assert model.tree_at(place) == {"a": b"1", "b": b"b", "dir": BASE["dir"]}
    others[0].apply(place)
    assert (place / "b").read_bytes() == b"2"


def test_what_was_left_before_anything_was_changed_is_thrown_away(place: Path) -> None:
    left = place / f"{STAGING}{'0123' * 6}"
    left.mkdir()
    (left / "n1").write_bytes(b"x")
    (left / "n2").mkdir()
    (left / "n3").symlink_to(place)
    (left / "journal.new").write_bytes(b"{")
    model.changes(model.modified(BASE, "a", b"1")).apply(place)
    assert model.tree_at(place) == BASE | {"a": b"1"}


def test_what_was_left_when_all_was_done_is_thrown_away(place: Path) -> None:
    left = place / f"{STAGING}{'0123' * 6}"
    (left / "o1" / "deep").mkdir(parents=True)
    (left / "o1" / "deep" / "link").symlink_to(place)
    (left / "out").touch()
    model.changes(model.modified(BASE, "a", b"1")).apply(place)
    assert model.tree_at(place) == BASE | {"a": b"1"}


@pytest.mark.parametrize("name", ["mine", "0123", "0123" * 6 + "4", "ABCD" * 6, "xyzw" * 6])
def test_a_directory_of_somebody_else_stays_whatever_it_is_called(place: Path, name: str) -> None:
    (place / f"{STAGING}{name}").mkdir()
    (place / f"{STAGING}{name}" / "o1").write_bytes(b"precious")
    model.changes(model.modified(BASE, "a", b"1")).apply(place)
    assert model.tree_at(place) == BASE | {"a": b"1", f"{STAGING}{name}": {"o1": b"precious"}}


@pytest.mark.parametrize("inside", ["o1", "n1/precious", "letter.txt", "n1x", "o", "out.old"])
def test_what_may_be_precious_is_not_thrown_away_but_told(place: Path, inside: str) -> None:
    left = place / f"{STAGING}{'0123' * 6}"
    (left / inside).parent.mkdir(parents=True)
    (left / inside).write_bytes(b"precious")
    with pytest.raises(ConflictError, match="look at it, and remove or rename it") as raised:
        model.changes(model.modified(BASE, "a", b"1")).apply(place)
    assert list(raised.value.conflicts) == [left.name]
    assert (left / inside).read_bytes() == b"precious"
    assert (place / "a").read_bytes() == b"a"


@pytest.mark.parametrize("below", ["", "deep"])
def test_names_that_nobody_sees_in_a_removed_directory_are_a_conflict(place: Path, below: str) -> None:
    base = BASE | {"gone": {"z": b"z", "deep": {"y": b"y"}}}
    (place / "gone" / "deep").mkdir()
    (place / "gone" / "deep" / "y").write_bytes(b"y")
    unseen = os.path.join(os.fsencode(place / "gone" / below), b"\xff\xfe")
    with open(unseen, "wb") as file:
        file.write(b"hidden")
    removed = model.changes(model.removed(base, "gone"))
    with pytest.raises(ConflictError, match="not UTF-8") as raised:
        removed.apply(place)
    assert list(raised.value.conflicts) == [f"gone/{below}".rstrip("/")]
    assert os.path.exists(unseen)
    assert sorted(os.listdir(place)) == sorted(base)
    os.unlink(unseen)
    assert model.tree_at(place) == base
    removed.apply(place)
    assert "gone" not in model.tree_at(place)


def test_what_appears_unseen_at_the_last_moment_is_kept_and_in_nobodys_way(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note_left(staging: Any) -> None:
        noted(staging)
        [old] = [name for name in staging.names() if name.startswith("o") and name != "out"]
        with open(os.path.join(os.fsencode(place / staging.key[0] / old), b"\xff"), "wb"):
            pass

    noted = local.Staging.note_left
    monkeypatch.setattr(local.Staging, "note_left", note_left)
    model.changes(model.removed(BASE, "gone")).apply(place)
    monkeypatch.undo()
    left = [name for name in os.listdir(place) if name.startswith(STAGING)]
    assert len(left) == 1
    model.changes(model.modified(BASE, "a", b"1")).apply(place)
    assert (place / "a").read_bytes() == b"1"
    assert [name for name in os.listdir(place) if name.startswith(STAGING)] == left


class _Time:
    """Of a run: is over once it is said to be."""

    is_over = False

    def over(self) -> BaseException | None:
        return TimeoutError() if self.is_over else None


def test_a_time_that_is_over_stops_nothing_that_has_a_journal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_of_run = _Time()

    def write_journal(staging: Any, digests: Any) -> None:
        written(staging, digests)
        time_of_run.is_over = True

    written = local.Staging.write_journal
    monkeypatch.setattr(local.Staging, "write_journal", write_journal)
    made = model.changes(
        model.modified(BASE, "a", b"1"), model.removed(BASE, "gone"), model.renamed(BASE, "dir", "new", mtim_ns=7)
    )
    with bounded_by(time_of_run):
        made.apply(place)
    assert time_of_run.is_over
    assert model.tree_at(place) == {"a": b"1", "b": b"b", "new": BASE["dir"]}
    assert (place / "new").stat().st_mtime_ns == 7


def test_a_time_that_is_over_before_the_journal_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_of_run = _Time()

    def check_again(*_: Any) -> None:
        time_of_run.is_over = True
        check_time("changes")

    monkeypatch.setattr(local, "check_again", check_again)
    made = model.changes(model.modified(BASE, "a", b"1"), model.removed(BASE, "gone"))
    with bounded_by(time_of_run), pytest.raises(ApplyError, match="nothing was changed"):
        made.apply(place)
    assert model.tree_at(place) == BASE


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"version": 1, "changes": "x", "digests": {}}', b"[" * 100_000])
def test_a_journal_that_is_none_of_these_changes_is_a_conflict(place: Path, text: bytes) -> None:
    changes = model.changes(model.modified(BASE, "a", b"1"))
    left = place / f"{STAGING}{Plan(changes.entries).ident()}"
    left.mkdir()
    (left / "journal").write_bytes(text)
    with pytest.raises(ConflictError, match="apply those again"):
        changes.apply(place)
    assert (place / "a").read_bytes() == b"a"


def test_what_is_missing_of_what_was_staged_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = model.changes(model.modified(BASE, "a", b"1"), model.removed(BASE, "gone"))
    _stop_before(monkeypatch, "note_left")
    with pytest.raises(_Stopped):
        changes.apply(place)
    monkeypatch.undo()
    for staged in place.glob(f"{STAGING}*/n*"):
        staged.unlink()
    with pytest.raises(ApplyError, match="does not have any more"):
        changes.apply(place)
    assert (place / "a").read_bytes() == b"a"


@pytest.mark.parametrize("somebody", ["file", "link"])
def test_new_contents_that_somebody_has_changed_meanwhile_are_not_taken(
    place: Path, monkeypatch: pytest.MonkeyPatch, somebody: str
) -> None:
    made = model.changes(model.modified(BASE, "a", b"1"), model.removed(BASE, "gone"))
    _stop_before(monkeypatch, "note_left")
    with pytest.raises(_Stopped):
        made.apply(place)
    monkeypatch.undo()
    [new] = place.glob(f"{STAGING}*/n*")
    new.unlink()
    new.write_bytes(b"2") if somebody == "file" else new.symlink_to("/etc/passwd")
    with pytest.raises(ConflictError, match="somebody has changed its new contents") as raised:
        made.apply(place)
    assert list(raised.value.conflicts) == ["a"]
    assert (place / "a").read_bytes() == b"a"
    new.unlink()
    new.write_bytes(b"1")
    made.apply(place)
    assert model.tree_at(place) == {"a": b"1", "b": b"b", "dir": BASE["dir"]}


def test_an_error_of_whoever_is_told_how_far_it_is_can_be_finished(place: Path) -> None:
    def progress(done: int, total: int) -> None:
        if (place / "new").exists():
            raise ValueError("the screen is gone")

    made = model.changes(model.modified(BASE, "a", b"1"), model.renamed(BASE, "dir", "new"))
    with pytest.raises(ApplyError, match="the screen is gone; when that is mended, apply the same changes again"):
        made.apply(place, progress=progress)
    made.apply(place)
    assert model.tree_at(place) == {"a": b"1", "b": b"b", "gone": BASE["gone"], "new": BASE["dir"]}


class _Stopped(BaseException):
    pass


def _stop_before(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def stop(*_: Any) -> None:
        raise _Stopped

    monkeypatch.setattr(local.Staging, name, stop)


# Failing


def _failing(errno_name: Errno, nth: int) -> Callable[[Any], Any]:
    count = 0

    def wrapped(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == nth:
                raise FsError(errno_name, "it failed")
            return method(*arguments)

        return call

    return wrapped


@pytest.mark.parametrize("nth", range(1, 4))
@pytest.mark.parametrize(
    ("kind", "name"), [(LocalHandle, "write_from"), (LocalBackend, "create"), (LocalHandle, "sync")]
)
def test_a_full_disk_changes_nothing(
    kind: Any, name: str, nth: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model.changes(
        model.modified(BASE, "a", b"1"),
        model.modified(BASE, "b", b"2"),
        model.added("c", b"3"),
        model.removed(BASE, "gone"),
    )
    monkeypatch.setattr(kind, name, _failing(Errno.NOSPC, nth)(getattr(kind, name)))
    with pytest.raises(ApplyError, match=r"nothing was changed: NOSPC") as raised:
        made.apply(place)
    assert raised.value.done == ()
    assert set(raised.value.left) == {"a", "b", "c", "gone"}
    assert model.tree_at(place) == BASE


def test_contents_that_cannot_be_read_change_nothing(place: Path) -> None:
    lost = replace(model.modified(BASE, "b", b"22"), content=model.Broken(b"22"))
    shrunk = replace(model.modified(BASE, "b", b"22"), content=_Short(b"22"))
    for entry in (lost, shrunk):
        with pytest.raises(ApplyError, match="STALE"):
            model.changes(model.modified(BASE, "a", b"1"), entry).apply(place)
        assert model.tree_at(place) == BASE


class _Short(model.Bytes):
    def open(self) -> Any:
        return model.Bytes(self.data[:-1]).open()


def test_what_fails_half_way_says_how_to_finish_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = model.changes(
        model.modified(BASE, "a", b"1"), model.removed(BASE, "gone"), model.renamed(BASE, "dir", "new")
    )
    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "rename", _failing(Errno.IO, 3)(LocalBackend.rename))
        with pytest.raises(ApplyError, match="apply the same changes again"):
            made.apply(place)
    made.apply(place)
    assert model.tree_at(place) == {"a": b"1", "b": b"b", "new": BASE["dir"]}


def test_without_the_right_to_write_nothing_is_begun(quick: Path) -> None:
    """Told before, for each directory: a removed one, what it is in, and where something comes to."""
    place = model.fill(quick / "place", BASE)
    for directory in ("gone", "dir"):
        (place / directory).chmod(0o555)
    os.chmod(quick, 0o755)
    os.chmod(place, 0o777)
    if os.geteuid() == 0 and not all(os.stat(above).st_mode & 0o001 for above in quick.parents):
        pytest.skip("nobody but this user can come to its temporary directories")

    def tried() -> None:
        if os.geteuid() == 0:
            os.seteuid(65534)
        with pytest.raises(ConflictError) as raised:
            model.changes(
                model.removed(BASE, "gone"), model.added("dir/new", b""), model.modified(BASE, "a", b"1")
            ).apply(place)
        assert set(raised.value.conflicts) == {"gone", "dir/new"}
        assert "cannot be written to" in str(raised.value)

    assert killing._status(killing._in_a_child(tried)) == 0
    assert model.tree_at(place) == BASE


# Names


def test_names_may_be_swapped_and_go_in_circles(place: Path) -> None:
    model.changes(
        model.renamed(BASE, "a", "b"),
        model.renamed(BASE, "b", "a"),
        model.renamed(BASE, "dir", "gone"),
        model.renamed(BASE, "gone", "gone/z"),
        model.renamed(BASE, "gone/z", "dir"),
    ).apply(place)
    assert model.tree_at(place) == {"a": b"b", "b": b"a", "gone": BASE["dir"] | {"z": {}}, "dir": b"z"}


def test_renaming_moves_and_does_not_copy(place: Path) -> None:
    numbers = {name: (place / name).stat().st_ino for name in ("a", "dir", "dir/x")}
    model.changes(model.renamed(BASE, "a", "new"), model.renamed(BASE, "dir", "other")).apply(place)
    assert (place / "new").stat().st_ino == numbers["a"]
    assert (place / "other").stat().st_ino == numbers["dir"]
    assert (place / "other/x").stat().st_ino == numbers["dir/x"]


def test_a_link_that_is_put_in_the_way_leads_nowhere(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After everything was looked at, and before anything moves, a directory becomes a link that leads out."""
    outside = model.fill(tmp_path / "outside", {"x": b"x", "y": b"y"})
    real = local.Staging.write_journal

    def swapped(staging: Any, digests: Any) -> None:
        real(staging, digests)
        (place / "dir").rename(tmp_path / "off")
        (place / "dir").symlink_to(outside)

    monkeypatch.setattr(local.Staging, "write_journal", swapped)
    for entries in (
        [model.modified(BASE, "dir/x", b"1")],
        [model.removed(BASE, "dir/x")],
        [model.added("dir/new", b"1")],
        [model.renamed(BASE, "dir/x", "dir/z")],
        [Entry("attributes", "dir/x", FileType.REGULAR_FILE, was=model.was(b"x"), mtim_ns=5)],
    ):
        times = (outside / "x").stat().st_mtime_ns
        with pytest.raises(ApplyError, match=r"NOTDIR|LOOP"):
            model.changes(*entries).apply(place)
        assert model.tree_at(outside) == {"x": b"x", "y": b"y"}
        assert (outside / "x").stat().st_mtime_ns == times
        (place / "dir").unlink()
        (tmp_path / "off").rename(place / "dir")
        monkeypatch.undo()
        model.changes(*entries).apply(place)
        monkeypatch.setattr(local.Staging, "write_journal", swapped)
        (place / "dir").rename(tmp_path / f"done{entries[0].kind}")
        model.fill(place / "dir", BASE["dir"])


def test_what_appears_meanwhile_is_not_replaced(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = model.changes(model.added("new", b"mine"))
    real = local.Staging.write_journal

    def appears(staging: Any, digests: Any) -> None:
        real(staging, digests)
        (place / "new").write_bytes(b"somebody's")

    monkeypatch.setattr(local.Staging, "write_journal", appears)
    with pytest.raises(ApplyError, match="has appeared meanwhile"):
        changes.apply(place)
    assert (place / "new").read_bytes() == b"somebody's"
    (place / "new").rename(place / "away")
    changes.apply(place)
    assert model.tree_at(place) == BASE | {"new": b"mine", "away": b"somebody's"}


@pytest.mark.parametrize("what", ["edit", "add"])
def test_what_changes_while_contents_are_copied_is_a_conflict(
    what: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = local.write

    def meanwhile(*arguments: Any) -> str:
        (place / ("a" if what == "edit" else "gone/new")).write_bytes(b"A")
        return real(*arguments)

    monkeypatch.setattr(local, "write", meanwhile)
    with pytest.raises(ConflictError, match="at this very moment"):
        model.changes(model.modified(BASE, "a", b"1"), model.removed(BASE, "gone")).apply(place)
    assert not list(place.glob(f"{STAGING}*"))
    assert (place / "gone/z").exists()


# What files keep


def test_permissions_stay_and_nothing_runs_as_somebody_else(place: Path) -> None:
    (place / "a").chmod(0o4755)
    (place / "b").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(place / "b", 65534, 65533)
    owner = (place / "b").stat()
    model.changes(
        model.modified(BASE, "a", b"1"), model.removed(BASE, "b"), model.added("b", b"2"), model.added("c", b"3")
    ).apply(place)
    assert (place / "a").stat().st_mode & 0o7777 == 0o755
    found = (place / "b").stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, owner.st_uid, owner.st_gid)
    assert (place / "c").stat().st_mode & 0o7777 == 0o600


def test_times_are_those_of_the_run(place: Path) -> None:
    day = 86_400 * 10**9
    model.changes(
        model.modified(BASE, "a", b"1", mtim_ns=1 * day, atim_ns=2 * day),
        model.added("new", {}, mtim_ns=3 * day),
        model.added("new/in", b"", mtim_ns=4 * day),
        model.added("new/link", "in", mtim_ns=5 * day),
        model.renamed(BASE, "dir", "moved", mtim_ns=6 * day),
        model.removed(BASE, "dir/x"),
        Entry("attributes", "b", FileType.REGULAR_FILE, was=model.was(b"b"), mtim_ns=7 * day),
        Entry("attributes", "", FileType.DIRECTORY, was=model.was({}), mtim_ns=8 * day),
    ).apply(place)
    paths = ("a", "new", "new/in", "new/link", "moved", "b", "")
    assert [os.lstat(place / path).st_mtime_ns // day for path in paths] == [1, 3, 4, 5, 6, 7, 8]
    assert os.lstat(place / "a").st_atime_ns == 2 * day


def test_names_of_one_file_stay_names_of_one_file(place: Path) -> None:
    os.link(place / "a", place / "dir/a")
    base = BASE | {"dir": BASE["dir"] | {"a": b"a"}}
    model.changes(
        model.modified(base, "a", b"1"),
        model.modified(base, "dir/a", b"1"),
        model.added("new", b"1", link_to="a"),
        model.added("newer", b"1", link_to="new"),
        model.added("other", b"b", link_to="b"),
        model.renamed(base, "dir/x", "x"),
        model.added("xx", b"x", link_to="x"),
    ).apply(place)
    one = {(place / name).stat().st_ino for name in ("a", "dir/a", "new", "newer")}
    assert len(one) == 1
    assert (place / "a").read_bytes() == b"1"
    assert (place / "b").samefile(place / "other")
    assert (place / "x").samefile(place / "xx")


def test_where_there_are_no_hard_links_there_is_a_copy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise FsError(Errno.PERM)

    monkeypatch.setattr(LocalBackend, "link", refused)
    model.changes(model.added("new", b"b", link_to="b"), model.modified(BASE, "a", b"1")).apply(place)
    assert model.tree_at(place) == BASE | {"new": b"b", "a": b"1"}


# Targets


def test_the_base_is_the_target_unless_another_one_is_named(place: Path, tmp_path: Path) -> None:
    other = model.fill(tmp_path / "other", BASE)
    changes = model.changes(model.modified(BASE, "a", b"1"), base=Mount(str(place), rw=False))
    changes.apply(Mount(str(other)))
    assert (model.tree_at(place), model.tree_at(other)) == (BASE, BASE | {"a": b"1"})
    changes.apply()
    assert model.tree_at(place) == BASE | {"a": b"1"}


@pytest.mark.parametrize(
    ("base", "target", "why"),
    [
        (None, None, r"changes\.apply\(target\)"),
        ({}, None, "MemoryBackend"),
        ("mem:", None, "MemoryBackend"),
        (None, {}, "MemoryBackend"),
        (None, "dev:", "can only be read"),
        (None, Mount(".", rw=False), "read only"),
        (None, Mount("x", file=True), "not to one file"),
        (None, "nowhere/at/all", "does not exist"),
    ],
)
def test_targets_that_are_none_are_told(base: Any, target: Any, why: str) -> None:
    with pytest.raises(MountError, match=why):
        model.changes(model.added("new", b""), base=base).apply(target)
    with pytest.raises(MountError):
        Changes([]).apply()


def test_a_directory_in_the_target_may_be_meant(place: Path) -> None:
    model.changes(model.modified(BASE["dir"], "x", b"1")).apply(Mount(place, root="dir"))
    assert model.tree_at(place) == BASE | {"dir": {"x": b"1", "y": b"y"}}


def test_progress_goes_up_to_all(place: Path) -> None:
    told: list[tuple[int, int]] = []
    data = bytes(3 << 20)
    model.changes(model.modified(BASE, "a", data), model.removed(BASE, "gone")).apply(
        place, progress=lambda done, total: told.append((done, total))
    )
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (len(data) + 1, len(data) + 1)


# At the same time


def test_two_at_once_wait_for_each_other(place: Path) -> None:
    """Of twenty that all change the same file, one succeeds; the others find that it is not what it was."""
    outcomes: list[Any] = []

    def applied(number: int) -> None:
        try:
            model.changes(model.modified(BASE, "a", f"by {number}".encode())).apply(place)
            outcomes.append(number)
        except ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=applied, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [won] = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(outcomes) == 20
    assert model.tree_at(place) == BASE | {"a": f"by {won}".encode()}


def test_a_process_that_was_killed_is_not_waited_for(place: Path) -> None:
    code = (
        "import sys, time; from vfswasi.fs_backends.local.backend import LocalBackend\n"
        "from vfswasi.fs_backends.local.publishing import alone\n"
        "with alone(LocalBackend(sys.argv[1])):\n    print('has it', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"has it\n"
    done = threading.Event()

    def applied() -> None:
        model.changes(model.modified(BASE, "a", b"1")).apply(place)
        done.set()

    thread = threading.Thread(target=applied)
    thread.start()
    assert not done.wait(0.3)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    thread.join(30)
    assert done.is_set()
    assert (place / "a").read_bytes() == b"1"


def test_where_directories_cannot_be_locked_nothing_is_done(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(publishing.fcntl, "flock", refused)
    with pytest.raises(ApplyError, match="cannot be locked"):
        model.changes(model.modified(BASE, "a", b"1")).apply(place)
    assert model.tree_at(place) == BASE
