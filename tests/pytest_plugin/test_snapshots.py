"""The fixture `wasm_snapshot`: what is compared, what is written where, and what is said of a difference."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vfswasi import Directory, File, Symlink
from vfswasi.testing.plugin.snapshots.storing import store
from vfswasi.testing.plugin.snapshots.trees import EMPTY, FromDisk, name_on_disk, table_of

from .conftest import RunTests

UPDATE = "--wasm-update"

COUNTED = """
def test(wasm, wasm_snapshot):
    files = {"in": {"a.txt": "one two\\n"}, "empty": {}}
    result = wasm("wordcount.wasm", "report.txt", "in", files=files)
    assert result.files == wasm_snapshot("whole")
    assert result.files["/in"] == wasm_snapshot("in")
    assert result.files["/report.txt"] == wasm_snapshot("report.txt")
    assert result.stdout == wasm_snapshot("out")
    assert wasm_snapshot("out") == result.stdout
"""


def snapshots(pytester: pytest.Pytester) -> Path:
    return pytester.path / "snapshots" / "test_it"


def test_a_snapshot_is_written_on_demand_and_compared_then(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    result = run_tests(COUNTED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*assert a tree of 3 files == wasm_snapshot('whole')",
            "E*there is no snapshot snapshots/test_it/whole yet",
            "E*pytest --wasm-update writes it*",
        ]
    )
    assert not snapshots(pytester).exists()
    result = run_tests(None, UPDATE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*wasm snapshots written*", "snapshots/test_it/in", "snapshots/test_it/out"])
    there = snapshots(pytester)
    assert sorted(os.listdir(there)) == ["in", "out", "report.txt", "whole"]
    assert (there / "in" / "a.txt").read_text() == "one two\n"
    assert (there / "whole" / "in" / "a.txt").read_text() == "one two\n"
    assert (there / "out").read_text() == "1 file\n"
    assert (there / "report.txt").read_bytes() == (there / "whole" / "report.txt").read_bytes()
    run_tests().assert_outcomes(passed=1)
    written = run_tests(None, UPDATE)
    written.assert_outcomes(passed=1)
    assert "snapshots written" not in written.stdout.str()


def test_what_is_equal_is_not_written_again(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    run_tests(COUNTED, UPDATE)
    before = {path: path.lstat() for path in snapshots(pytester).rglob("*")}
    (snapshots(pytester) / "out").write_text("other")
    run_tests(None, UPDATE).assert_outcomes(passed=1)
    after = {path: path.lstat() for path in snapshots(pytester).rglob("*")}
    changed = {path.name for path in before if (before[path].st_ino, before[path].st_mtime_ns) != (
        after[path].st_ino, after[path].st_mtime_ns)}  # fmt: skip
    assert changed == {"out"}


def test_a_difference_is_told_by_path_and_by_line(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    run_tests(COUNTED, UPDATE)
    whole = snapshots(pytester) / "whole"
    (whole / "in" / "a.txt").write_text("one two\nthree\n")
    (whole / "gone.txt").write_text("gone\n")
    shutil.rmtree(whole / "empty")
    (whole / "report.txt").write_bytes(b"\0\1")
    result = run_tests(COUNTED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*the snapshot snapshots/test_it/whole is different; the lines are below",
            "E*A empty/",
            "E*D gone.txt",
            "E*M in/a.txt",
            "E*M report.txt (* bytes, was 2)",
            "E*if this is right now: pytest --wasm-update",
            "*wasm: wasm_snapshot('whole'), - snapshot, + now*",
            "D gone.txt",
            "-gone",
            "M in/a.txt",
            " one two",
            "-three",
        ],
        consecutive=False,
    )


def test_a_short_difference_stands_in_the_assertion_itself(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    run_tests(COUNTED, UPDATE)
    (snapshots(pytester) / "out").write_text("2 files\n")
    result = run_tests(COUNTED)
    result.stdout.fnmatch_lines(
        [
            "E*assert '1 file\\n' == wasm_snapshot('out')",
            "E*the snapshot snapshots/test_it/out is different (- snapshot, + now)",
            "E*-2 files",
            "E*+1 file",
            "E*if this is right now: pytest --wasm-update",
        ]
    )
    assert "Full output truncated" not in result.stdout.str()
    assert "wasm: wasm_snapshot" not in result.stdout.str()


def test_however_much_differs_the_report_is_bounded(run_tests: RunTests) -> None:
    code = """
    def test(wasm_snapshot):
        import os
        many = os.environ["MANY"] == "1"
        tree = {f"{n}.txt": "line\\n" * 3 + "x" * 10_000 for n in range(500)} if many else {}
        assert tree == wasm_snapshot("many")
    """
    os.environ["MANY"] = "0"
    run_tests(code, UPDATE).assert_outcomes(passed=1)
    os.environ["MANY"] = "1"
    result = run_tests()
    del os.environ["MANY"]
    result.assert_outcomes(failed=1)
    shown = result.stdout.str()
    assert len(shown) < 40_000
    assert "and 496 more" in shown
    assert "... and more" in shown


def test_a_snapshot_of_another_kind_is_told_and_replaced(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    run_tests(COUNTED, UPDATE)
    there = snapshots(pytester)
    shutil.rmtree(there / "in")
    (there / "in").write_text("x")
    (there / "out").unlink()
    (there / "out").mkdir()
    result = run_tests()
    result.stdout.fnmatch_lines(["E*the snapshot snapshots/test_it/in is a file, and this is a tree"])
    run_tests(None, UPDATE).assert_outcomes(passed=1)
    assert (there / "in").is_dir()
    assert (there / "out").read_text() == "1 file\n"
    assert not [name for name in os.listdir(there) if name.startswith(".wasm")]


def test_unequal_is_no_reason_to_write(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    code = """
    def test(wasm_snapshot):
        assert "x" != wasm_snapshot("name")
    """
    run_tests(code, UPDATE).assert_outcomes(passed=1)
    assert not snapshots(pytester).exists()


def test_what_no_snapshot_can_hold_is_told(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    result = run_tests(
        """
        def test_number(wasm_snapshot):
            assert 5 == wasm_snapshot("name")

        def test_none(wasm_snapshot):
            assert None == wasm_snapshot("name")

        def test_result(wasm, wasm_snapshot):
            assert wasm("wordcount.wasm", "r", "in", files={"in": {}}) == wasm_snapshot("name")
        """,
        UPDATE,
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["E*a snapshot holds a tree, text, bytes or a trace, not int"])
    result.stdout.fnmatch_lines(["E*None is in no snapshot*"])
    result.stdout.fnmatch_lines(["E*not Result; compare its files, stdout or trace"])
    assert not snapshots(pytester).exists()


def test_a_name_that_leads_elsewhere_is_refused(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    code = """
    import pytest

    NAMES = ["", ".", "..", "../x", "a/b", "/x", "a\\\\b", "a\\0", ".git", "-x", "a\\n", "x" * 300, "a.", "a ", "*",
             "_x"]

    @pytest.mark.parametrize("name", NAMES)
    def test(wasm_snapshot, name):
        with pytest.raises(ValueError, match="is no name of a snapshot"):
            "x" == wasm_snapshot(name)

    def test_type(wasm_snapshot):
        with pytest.raises(TypeError, match="must be a str, not int"):
            wasm_snapshot(5)
    """
    run_tests(code, UPDATE).assert_outcomes(passed=17)
    assert not (pytester.path / "snapshots").exists()


def test_names_of_parametrized_tests_are_names(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    code = """
    import pytest

    @pytest.mark.parametrize("n", [1, "a-b"])
    def test(wasm_snapshot, request, n):
        assert str(n) == wasm_snapshot(request.node.name)
    """
    run_tests(code, UPDATE).assert_outcomes(passed=2)
    assert sorted(os.listdir(snapshots(pytester))) == ["test[1]", "test[a-b]"]
    run_tests().assert_outcomes(passed=2)


def test_one_name_for_two_things_is_an_error_when_they_are_written(run_tests: RunTests) -> None:
    code = """
    import pytest

    @pytest.mark.parametrize("n", [1, 1, 2])
    def test(wasm_snapshot, n):
        assert str(n) == wasm_snapshot("same")
    """
    result = run_tests(code, UPDATE)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E*wasm_snapshot('same') is compared with different things, here and in*"])


def test_a_link_in_the_place_of_a_snapshot_is_replaced_and_never_followed(
    run_tests: RunTests, pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").write_text("mine")
    snapshots(pytester).mkdir(parents=True)
    (snapshots(pytester) / "tree").symlink_to(elsewhere)
    (snapshots(pytester) / "text").symlink_to(elsewhere / "file")
    code = """
    def test_tree(wasm_snapshot):
        assert {"file": "mine"} == wasm_snapshot("tree")

    def test_text(wasm_snapshot):
        assert "mine" == wasm_snapshot("text")
    """
    result = run_tests(code)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E*snapshots/test_it/te* is a link, which is not followed, and this is a *"])
    run_tests(code.replace("mine", "new"), UPDATE).assert_outcomes(passed=2)
    assert (elsewhere / "file").read_text() == "mine"
    assert os.listdir(elsewhere) == ["file"]
    assert (snapshots(pytester) / "tree" / "file").read_text() == "new"
    assert not (snapshots(pytester) / "text").is_symlink()


def test_a_link_within_a_snapshot_is_a_link_and_leads_no_writer_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = tmp_path / "snapshots" / "tree"
    store(tmp_path / "snapshots", place, table_of({"l": Symlink(str(outside))}))
    store(tmp_path / "snapshots", place, table_of({"l": {"x": "y"}}))
    assert os.listdir(outside) == []
    assert (place / "l" / "x").read_text() == "y"
    # Mounts within each other could say both; what is mounted hides what was there.
    store(tmp_path / "snapshots", place, table_of({"/": {"l": Symlink(str(outside))}, "/l": {"x": "z"}}))
    assert os.listdir(outside) == []
    assert (place / "l" / "x").read_text() == "z"


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"empty": {}},
        {"a": {"b": {"c": {}}}},
        {"text": "x\r\ny\n", "binary": bytes(range(256)), "nothing": b""},
        {"link": Symlink("/etc/passwd"), "dangling": Symlink("../../x"), "dir": {"up": Symlink("..")}},
        {
            ".git": {"config": "x"},
            ".gitignore": "*",
            ".GitAttributes": "* text",
            "dir": {".gitkeep": ""},
            ".gitkeep": "",
        },
        {"100%": "", "%2E": "", "%2Egit": "", "%25": "", "%2e%2e": "", "a%zz": ""},
        {"Ü ß\n": "", "\\": "", "a:b*?": "", "~": "", " ": "", "-rf": "", "x" * 250: ""},
        {"test_x.py": "import nothing_there", "conftest.py": "raise"},
    ],
    ids=["nothing", "empty", "deep", "contents", "links", "git", "escapes", "odd", "tests"],
)
def test_every_tree_is_what_it_was_after_it_was_written(tmp_path: Path, tree: dict[str, object]) -> None:
    place = tmp_path / "snapshots" / "tree"
    store(tmp_path / "snapshots", place, table_of(tree))
    assert FromDisk(place, escaped=True).table() == table_of(tree)
    assert not [
        name for path in place.rglob("*") if (name := path.name).lower().startswith(".git") and name != ".gitkeep"
    ]


def test_git_keeps_a_snapshot_whatever_is_in_it(run_tests: RunTests, pytester: pytest.Pytester, tmp_path: Path) -> None:
    def git(*words: str, cwd: Path = pytester.path) -> None:
        ours = [
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "core.autocrlf=true",
            "-c",
            "init.defaultBranch=main",
        ]
        subprocess.run(["git", *ours, *words], cwd=cwd, check=True, capture_output=True)

    git("init")
    (pytester.path / ".gitignore").write_text("*.o\nbuild/\n.pytest_cache\n__pycache__\n")
    code = """
    def test(wasm_snapshot):
        tree = {"x.o": "y", "build": {"a": "b"}, "dos.txt": "a\\r\\nb\\r\\n", "unix.txt": "a\\nb\\n", "empty": {},
                ".gitignore": "*", ".git": {"HEAD": ""}}
        assert tree == wasm_snapshot("tree")
    """
    run_tests(code, UPDATE).assert_outcomes(passed=1)
    git("add", ".")
    git("commit", "-m", "x")
    clone = tmp_path / "clone"
    git("clone", "-c", "core.autocrlf=true", str(pytester.path), str(clone))
    os.chdir(clone)
    kept = FromDisk(clone / "snapshots" / "test_it" / "tree", escaped=True).table()
    assert kept == FromDisk(snapshots(pytester) / "tree", escaped=True).table()
    assert set(kept) == {"x.o", "build/a", "dos.txt", "unix.txt", "empty", ".gitignore", ".git/HEAD"}


def test_where_line_ends_alone_differ_that_is_said(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    code = "def test(wasm_snapshot):\n    assert {'a.txt': 'x\\ny\\n', 'b': '', 'c': '\\n' * 9} == wasm_snapshot('t')\n"
    run_tests(code, UPDATE)
    for name in ("a.txt", "c"):
        place = snapshots(pytester) / "t" / name
        place.write_bytes(place.read_bytes().replace(b"\n", b"\r\n"))
    result = run_tests()
    result.stdout.fnmatch_lines(["E*M a.txt (line ends alone; the snapshot has \\r\\n, which git may have made)"])


def test_permissions_do_not_count_and_are_kept_when_a_snapshot_is_written_anew(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    run_tests(COUNTED, UPDATE)
    for name in ("whole/in/a.txt", "out"):
        (snapshots(pytester) / name).chmod(0o755)
    run_tests().assert_outcomes(passed=1)
    run_tests(COUNTED.replace("one two", "three four"), UPDATE).assert_outcomes(passed=1)
    (snapshots(pytester) / "out").write_text("x")
    run_tests(None, UPDATE).assert_outcomes(passed=1)
    for name in ("whole/in/a.txt", "out"):
        assert (snapshots(pytester) / name).stat().st_mode & 0o777 == 0o755


def test_what_programs_left_is_not_taken_for_tests(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    code = """
    def test(wasm_snapshot):
        assert {"test_bad.py": "def test():\\n    assert False\\n", "conftest.py": "1 / 0"} == wasm_snapshot("t")
    """
    run_tests(code, UPDATE).assert_outcomes(passed=1)
    run_tests().assert_outcomes(passed=1)
    # Directories of that name which are somebody else's are collected as ever.
    (pytester.path / "other" / "snapshots").mkdir(parents=True)
    (pytester.path / "other" / "snapshots" / "test_mine.py").write_text("def test():\n    pass\n")
    run_tests().assert_outcomes(passed=2)


def test_an_update_that_fails_leaves_the_snapshot_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "snapshots" / "tree"
    store(tmp_path / "snapshots", place, {"a": b"old"})
    real = os.rename

    def failing(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise PermissionError(13, "no")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(PermissionError):
            store(tmp_path / "snapshots", place, {"a": b"new"})
    with pytest.raises(OSError, match="too long"):
        store(tmp_path / "snapshots", place, {"x" * 300: b"new"})
    assert FromDisk(place, escaped=True).table() == {"a": b"old"}
    assert sorted(os.listdir(place.parent)) == [".gitattributes", ".gitignore", "tree"]


def test_tables_of_trees() -> None:
    assert table_of({"/": {"a": b"x"}, "/out": {"b": "y"}, "../z": {"c": b""}}) == {
        "a": b"x",
        "out/b": b"y",
        "z/c": b"",
    }
    literal = {"f": File("x", 5), "d": Directory({"g": bytearray(b"y")}, 5), "l": Symlink("f", 3)}
    assert table_of(literal) == {"f": b"x", "d/g": b"y", "l": Symlink("f")}
    assert table_of({"/": {"out": {}}, "/out": {"b": ""}}) == {"out/b": b""}
    assert table_of({"/out": {}}) == {"out": EMPTY}
    assert name_on_disk("..gitx") == "..gitx"
    for wrong in ({"..": b""}, {"a": {"..": b""}}, {"a": {"": b""}}, {"a\0": b""}):
        with pytest.raises(ValueError, match="is no name of a file"):
            table_of(wrong)
    for wrong in ({"a": 5}, {5: b""}):
        with pytest.raises(TypeError):
            table_of(wrong)
    deep: dict[str, object] = {}
    deep["x"] = deep
    with pytest.raises(ValueError, match="within each other"):
        table_of(deep)
