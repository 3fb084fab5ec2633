"""A program that failed is told about with what it was refused: which mount, limit or link, and what would allow it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Errno, Limits
from vfswasi.host.results.refused import telling
from vfswasi.kernel import refused
from vfswasi.observe.refusals import Refusal

from ..cli.running import vfswasi as command
from ..guest_programs import compile_guest
from ..rawguest import RawGuest

WRITABLE = "Mount(..., rw=True) for /d lets the program change it, and Mount(..., overlay=True) lets it write"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a file, and a link that leads out."""
    place = tmp_path / "tree"
    place.mkdir()
    (place / "file").write_text("contents")
    (place / "out").symlink_to("../secret")
    (place / "absolute").symlink_to("/etc/passwd")
    return place


def notes(args: list[str], preopens: dict[str, Any], **options: Any) -> list[str]:
    """Of the error that says that the program failed."""
    with pytest.raises(vfswasi.GuestError) as caught:
        vfswasi.run(
            compile_guest("refused"), args, preopens=preopens, capture_output=True, check=True, timeout=60, **options
        )
    return list(getattr(caught.value, "__notes__", []))


@pytest.mark.parametrize(
    ("args", "could_not"),
    [
        (["write", "/d/new"], "open /d/new for writing"),
        (["write", "/d/file"], "open /d/file for writing"),
        (["mkdir", "/d/new"], "make the directory /d/new"),
        (["remove", "/d/file"], "remove /d/file"),
        (["rename", "/d/file", "/d/new"], "rename from or to /d/file"),
        (["link", "/d/new", "file"], "make the link /d/new"),
    ],
    ids=["new file", "old file", "directory", "remove", "rename", "link"],
)
@pytest.mark.parametrize("vdso", [True, False], ids=["fast path", "no fast path"])
@pytest.mark.parametrize("traced", [True, False], ids=["traced", "not traced"])
def test_a_read_only_mount_says_so_and_how_it_could_be_changed(
    args: list[str], could_not: str, vdso: bool, traced: bool, tree: Path
) -> None:
    (note,) = notes(args, {"/d": tree}, vdso=vdso, trace=traced)
    assert note.startswith(f"the program could not {could_not}: /d is mounted read-only; {WRITABLE}")


def test_a_rename_into_a_read_only_mount_names_that_one(tree: Path) -> None:
    (note,) = notes(["rename", "/w/a", "/d/a"], {"/w": {"a": "1"}, "/d": tree})
    assert "from or to /d/a: /d is mounted read-only" in note


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/d/out", "open /d/out: a symbolic link on the way leads out of /d"),
        ("/d/absolute", "open /d/absolute: a symbolic link on the way leads out of /d"),
        ("/d/../secret", "open /secret: that leads out of /d"),
    ],
)
def test_what_leads_out_of_its_mount_says_so(path: str, told: str, tree: Path) -> None:
    assert told in notes(["read", path], {"/d": tree})[0]


@pytest.mark.parametrize(
    ("what", "limits", "name"),
    [
        ("big", Limits(mount_bytes=10_000), "mount_bytes"),
        ("big", Limits(stored_bytes=10_000), "stored_bytes"),
        ("big", Limits(memory_files_bytes=10_000), "memory_files_bytes"),
        ("big", Limits(file_bytes=10_000), "file_bytes"),
        ("many", Limits(inodes=10), "inodes"),
        ("many", Limits(descriptors=20), "descriptors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("vdso", [True, False], ids=["fast path", "no fast path"])
def test_a_limit_is_named_and_how_it_is_set(what: str, limits: Limits, name: str, vdso: bool) -> None:
    path = "/d/file" if what == "big" else "/d"
    (note,) = notes([what, path], {"/d": {}}, limits=limits, vdso=vdso)
    assert note.endswith(f": the limit {name} is reached; Limits({name}=N) sets another")


@pytest.mark.parametrize(
    ("args", "env", "mounts", "told"),
    [
        (["read", "/e/x"], {}, ["/d"], "if the program looked for /e/x: nothing is mounted there, only at /d"),
        (["read", "/dd"], {}, ["/d"], "if the program looked for /dd: nothing is mounted there, only at /d"),
        (["read", "x.txt"], {}, [], "if the program looked for x.txt: nothing is mounted; preopens={GUEST: SOURCE}"),
        (["read", "a/x.txt"], {}, ["/d"], "if the program looked for a/x.txt: nothing is mounted there, only at /d"),
        (["read", "--in=/e/x"], {}, ["/d"], "if the program looked for /e/x: "),
        (["read", "nowhere"], {"CONFIG": "/etc/x"}, ["/d"], "if the program looked for /etc/x: "),
    ],
)
def test_what_is_not_mounted_is_guessed_of_the_arguments(
    args: list[str], env: dict[str, str], mounts: list[str], told: str
) -> None:
    (note,) = notes(args, {name: {} for name in mounts}, env=env)
    assert note.startswith(told)


@pytest.mark.parametrize(
    ("args", "env", "mounts"),
    [
        (["read", "/d/x"], {}, ["/d"]),
        (["read", "/e/x"], {}, ["/"]),
        (["read", "x.txt"], {}, ["/"]),
        (["read", "x.txt"], {}, ["."]),
        (["read", "x.txt"], {"PWD": "/d"}, ["/d"]),
        (["read", "d/x.txt"], {}, ["d"]),
        (["read", "/d/x.txt"], {}, ["d"]),
        (["read", "d/e/x.txt"], {}, ["./d/e"]),
        (["read", "word"], {}, ["/d"]),
        (["read", "-v"], {}, []),
        (["read", "3.14"], {}, ["/d"]),
        (["read", "https://example.org/x"], {}, ["/d"]),
        (["read", "//comment"], {}, ["/d"]),
        (["read", "/"], {}, ["/d"]),
        (["read", "foo.bar", "/d"], {}, ["/d"]),
        (["read", "/d/x", "/foo.*/"], {}, ["/d"]),
        (["read", "/d/x", "word"], {"PYTHONHOME": "/usr/local"}, ["/d"]),
        (["read", "word"], {"PATH": "/bin", "HOME": "/root", "PATHS": "/a:/b"}, ["/d"]),
    ],
)
def test_nothing_is_guessed_of_what_is_mounted_or_is_no_path(
    args: list[str], env: dict[str, str], mounts: list[str]
) -> None:
    assert notes(args, {name: {} for name in mounts}, env=env) == []


def test_a_program_that_ends_well_has_no_notes_but_its_refusals_are_there(tree: Path) -> None:
    with vfswasi.Sandbox(compile_guest("errands"), preopens={".": tree}) as sandbox:
        result = sandbox.run(capture_output=True, check=True)
    assert result.returncode == 0
    assert {each.errno for each in result.refusals} >= {Errno.ROFS}
    assert all(each.mount == "." and each.readonly for each in result.refusals if each.errno is Errno.ROFS)


def test_a_file_that_is_not_there_is_no_refusal() -> None:
    assert notes(["read", "/d/missing"], {"/d": {}}) == []


def test_the_newest_is_the_first_and_of_one_mount_there_is_one_note(tree: Path) -> None:
    with RawGuest({"/d": tree, "/e": {}}) as guest:
        for name in ("a", "b", "b", "c"):
            guest.mkdir(name)
        known = guest.wasi._process.refusals
        assert known is not None
        assert [each.path for each in known.newest_first()] == ["/d/c", "/d/b", "/d/a"]
    told = [Refusal(each.call, each.path, each.errno, each.mount, each.readonly) for each in known.newest_first()]
    assert [each.path for each in telling(told)] == ["/d/c"]


def test_what_programs_try_and_go_on_without_is_not_told() -> None:
    cache = Refusal("path_create_directory", "/lib/__pycache__", Errno.ROFS, "/lib", True)
    times = Refusal("path_filestat_set_times", "/d/x", Errno.ROFS, "/d", True)
    full = Refusal("fd_write", "/e/x", Errno.DQUOT, "/e", detail="Limits.inodes")
    assert telling([cache]) == []
    assert telling([times, full]) == [full, times]
    assert len(telling([Refusal("path_open", f"/{n}", Errno.ROFS, f"/{n}", True) for n in range(9)])) == 3


def test_a_guest_that_is_refused_for_ever_takes_no_memory(tree: Path) -> None:
    with RawGuest({"/d": tree}) as guest:
        for number in range(1000):
            guest.mkdir(f"{number}")
        known = guest.wasi._process.refusals
    assert known is not None
    assert len(known.newest_first()) == refused.KEPT


def test_a_process_of_its_own_says_the_same(tree: Path) -> None:
    here = notes(["write", "/d/new"], {"/d": str(tree)})
    assert notes(["write", "/d/new"], {"/d": str(tree)}, isolation="process") == here
    there = notes(["read", "/e/x"], {"/d": str(tree)}, isolation="process")
    assert there == ["if the program looked for /e/x: nothing is mounted there, only at /d"]


def test_a_session_that_failed_has_them_too(tree: Path) -> None:
    with vfswasi.Sandbox(compile_guest("refused"), preopens={"/d": tree}) as sandbox:
        session = sandbox.session(["write", "/d/new"], command=True, capture_output=True)
        with session, pytest.raises(vfswasi.GuestExitError) as caught:
            session.call("_start")
    assert "/d is mounted read-only" in caught.value.__notes__[0]
    assert caught.value.result.refusals[0].path == "/d/new"


def test_notes_and_refusals_are_pickled(tree: Path) -> None:
    with pytest.raises(vfswasi.GuestExitError) as caught:
        vfswasi.run(compile_guest("refused"), ["mkdir", "/d/x"], preopens={"/d": tree}, capture_output=True, check=True)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.__notes__ == caught.value.__notes__
    assert again.result.refusals == caught.value.result.refusals


def test_what_a_trace_injects_is_no_refusal_of_ours() -> None:
    assert notes(["write", "/d/new"], {"/d": {}}, trace=lambda call: "ROFS" if call.path == "/d/new" else None) == []


def test_a_guest_that_was_killed_has_no_notes(tree: Path) -> None:
    result: vfswasi.Result[bytes] = vfswasi.Result(
        ["x"], -9, _interrupted=True, refusals=(Refusal("path_open", "/d/x", Errno.ROFS, "/d", True),)
    )
    with pytest.raises(vfswasi.GuestInterruptedError) as caught:
        result.check_returncode()
    assert not hasattr(caught.value, "__notes__")


# The command line.


def test_the_command_says_it_in_its_last_line_with_its_own_options(tree: Path) -> None:
    done = command(f"--mount=/d={tree}", compile_guest("refused"), "write", "/d/new", cwd=tree, status=1)
    first, last = done.stderr.splitlines()
    assert first == "/d/new: Read-only file system"
    assert last == (
        "vfswasi: the program could not open /d/new for writing: /d is mounted read-only; with ,rw behind its source "
        "the program may change it, with ,overlay it may write and the source stays"
    )
    for option in ("rw", "overlay"):
        command(f"--mount=/d={tree},{option}", compile_guest("refused"), "write", "/d/new", cwd=tree)


@pytest.mark.parametrize(
    ("options", "args", "told"),
    [
        ([], ["read", "x.txt"], "nothing is mounted; --mount GUEST=SOURCE gives it a directory"),
        (["--tmp"], ["read", "/data/x"], "if the program looked for /data/x: nothing is mounted there, only at /tmp"),
        (["--tmp", "--limit=inodes=5"], ["many", "/tmp"], "the limit inodes is reached; --limit inodes=N sets another"),
        (["--dev"], ["write", "/dev/x"], "/dev has devices and nothing else"),
        (["--isolation=process", "--tmp"], ["read", "/data/x"], "nothing is mounted there, only at /tmp"),
    ],
)
def test_each_refusal_has_its_line(options: list[str], args: list[str], told: str, tmp_path: Path) -> None:
    done = command(*options, compile_guest("refused"), *args, cwd=tmp_path, status=1)
    assert len(done.stderr.splitlines()) == 2
    assert done.stderr.splitlines()[-1].startswith("vfswasi: ")
    assert told in done.stderr.splitlines()[-1]


def test_a_program_that_ends_well_is_followed_by_nothing(tree: Path) -> None:
    assert command(f"--mount=.={tree}", compile_guest("errands"), cwd=tree).stderr == ""


def test_a_trap_is_followed_by_them(tree: Path, run_program: Callable[..., vfswasi.Result]) -> None:
    result: vfswasi.Result[bytes] = vfswasi.Result(
        ["x"], -6, trap="unreachable", refusals=(Refusal("path_open", "/d/x", Errno.ROFS, "/d", True),)
    )
    with pytest.raises(vfswasi.GuestTrapError) as caught:
        result.check_returncode()
    assert "/d is mounted read-only" in caught.value.__notes__[0]
