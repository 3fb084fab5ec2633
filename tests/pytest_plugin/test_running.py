"""The fixture `wasm`: what a program gets, and what its Result is."""

from __future__ import annotations

import pytest

from .conftest import RunTests


def passes(result: pytest.RunResult, count: int = 1) -> None:
    result.assert_outcomes(passed=count)


def test_a_program_runs_on_files_and_gives_its_output_and_what_it_wrote(run_tests: RunTests) -> None:
    passes(
        run_tests(
            """
            def test(wasm):
                result = wasm("wordcount.wasm", "report.txt", "in", files={"in": {"a.txt": "one two"}})
                assert (result.stdout, result.stderr, result.returncode) == ("1 file\\n", "", 0)
                assert result.files["report.txt"].decode().split() == "0 2 7 in/a.txt 0 2 7 total".split()
            """
        )
    )


def test_arguments_come_one_by_one_as_a_list_or_by_name(run_tests: RunTests) -> None:
    passes(
        run_tests(
            """
            import pytest

            @pytest.mark.parametrize("how", ["words", "list", "tuple", "name"])
            def test(wasm, how):
                words = ["report.txt", "in"]
                files = {"in": {}}
                result = {
                    "words": lambda: wasm("wordcount.wasm", *words, files=files),
                    "list": lambda: wasm("wordcount.wasm", words, files=files),
                    "tuple": lambda: wasm("wordcount.wasm", tuple(words), files=files),
                    "name": lambda: wasm("wordcount.wasm", args=words, files=files),
                }[how]()
                assert result.args == ["wordcount.wasm", "report.txt", "in"]
                assert result.stdout == "0 files\\n"
            """
        ),
        4,
    )


def test_output_is_bytes_where_that_is_asked_for(run_tests: RunTests) -> None:
    passes(
        run_tests(
            """
            def test(wasm):
                assert wasm("wordcount.wasm", "r", "in", files={"in": {}}, text=False).stdout == b"0 files\\n"
            """
        )
    )


def test_files_may_be_paths_or_a_directory_of_this_machine_which_stays_as_it_is(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    (pytester.path / "data" / "in").mkdir(parents=True)
    (pytester.path / "data" / "in" / "a.txt").write_text("x")
    (pytester.path / "data" / "in" / "link").symlink_to("a.txt")
    (pytester.path / "data" / "empty").mkdir()
    passes(
        run_tests(
            """
            from pathlib import Path
            from vfswasi import Symlink

            def test_paths(wasm):
                result = wasm("wordcount.wasm", "out/r", "in", files={"in/deep/a": "x", "/in/b": "y", "out": {}})
                assert result.files["/in"] == {"deep": {"a": b"x"}, "b": b"y"}
                assert result.stdout == "2 files\\n"

            def test_directory(wasm):
                result = wasm("wordcount.wasm", "r", "in", files=Path(__file__).with_name("data"))
                assert result.files["/in"] == {"a.txt": b"x", "link": Symlink("a.txt")}
                assert result.files["/empty"] == {}
                assert "/r" in result.files
            """
        ),
        2,
    )
    assert not (pytester.path / "data" / "r").exists()


def test_further_directories_are_preopens_and_a_root_of_ones_own_takes_the_place_of_files(run_tests: RunTests) -> None:
    passes(
        run_tests(
            """
            import pytest

            def test_beside(wasm):
                result = wasm("wordcount.wasm", "/out/r", "/in", files={"in": {}}, preopens={"/out": {}})
                assert set(result.files) == {"/", "/out"}
                assert list(result.files["/out"]) == ["r"]

            def test_root(wasm):
                result = wasm("wordcount.wasm", "r", "in", preopens={"/": {"in": {"a": ""}}})
                assert result.stdout == "1 file\\n"

            def test_both(wasm):
                with pytest.raises(ValueError, match='files are what the guest has at "/"'):
                    wasm("wordcount.wasm", "r", "in", files={}, preopens={"/": {}})
            """
        ),
        3,
    )


def test_a_run_is_hermetic_unless_it_is_told_otherwise(run_tests: RunTests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    passes(
        run_tests(
            """
            def test(wasm, monkeypatch):
                import vfswasi

                asked = []
                real = vfswasi.Sandbox.run

                def run(sandbox, args, **options):
                    asked.append((options, sandbox._deterministic, sandbox._env))
                    return real(sandbox, args, **options)

                monkeypatch.setattr(vfswasi.Sandbox, "run", run)
                wasm("wordcount.wasm", "r", "in", files={"in": {}})
                wasm("wordcount.wasm", "r", "in", files={"in": {}}, deterministic=False, env={"A": "b"})
                (first, deterministic, env), (second, other, _) = asked
                assert deterministic and env is None and "env" not in first and list(first["preopens"]) == ["/"]
                assert first["timeout"] == 60 and "stdin" not in first
                assert not other and second["env"] == {"A": "b"}
            """
        )
    )


def test_a_program_that_fails_fails_the_test_unless_it_may(run_tests: RunTests) -> None:
    result = run_tests(
        """
        def test_checked(wasm):
            wasm("wordcount.wasm", "r", "missing")

        def test_unchecked(wasm):
            result = wasm("wordcount.wasm", "r", "missing", check=False)
            assert result.returncode == 1
            assert "missing: No such file" in result.stderr
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E*GuestExitError: wordcount.wasm ended with exit status 1*", "E*check=False*"])


def test_a_program_is_looked_for_beside_the_test_in_the_directories_of_the_ini_file_and_at_the_root(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    program = pytester.path / "wordcount.wasm"
    pytester.makeini("[pytest]\nwasm_programs = bin more")
    for place in ("sub", "bin"):
        (pytester.path / place).mkdir()
    code = """
        def test(wasm):
            print(wasm({!r}, "r", "in", files={{"in": {{}}}}).args)
        """
    for target, named in (
        ("sub/beside.wasm", "beside.wasm"),
        ("bin/build.wasm", "build.wasm"),
        ("root.wasm", "root.wasm"),
        ("sub/x.wasm", str(pytester.path / "sub" / "x.wasm")),
        ("bin/y.wasm", "../bin/y.wasm"),
    ):
        (pytester.path / target).write_bytes(program.read_bytes())
        (pytester.path / "sub" / "test_it.py").write_text(code.format(named).replace("\n        ", "\n"))
        passes(run_tests())
    program.rename(pytester.path / "bin" / "wordcount.wasm")
    (pytester.path / "sub" / "test_it.py").write_text(code.format("wordcont.wasm").replace("\n        ", "\n"))
    result = run_tests()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*there is no program wordcont.wasm in sub/, bin/, more/, ./; did you mean wordcount.wasm?*wasm_programs*"]
    )


def test_bytes_and_text_modules_are_programs_too(run_tests: RunTests) -> None:
    passes(
        run_tests(
            """
            MODULE = b'(module (memory (export "memory") 1) (func (export "_start")))'

            def test(wasm):
                assert wasm(MODULE).returncode == 0
            """
        )
    )


def test_a_program_is_compiled_once_for_all_tests_and_anew_when_it_has_changed(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    passes(
        run_tests(
            """
            import pytest, shutil, vfswasi

            made = []
            real = vfswasi.Sandbox.__init__

            @pytest.fixture(autouse=True)
            def counted(monkeypatch):
                def init(self, *args, **options):
                    made.append(args)
                    real(self, *args, **options)
                monkeypatch.setattr(vfswasi.Sandbox, "__init__", init)

            @pytest.mark.parametrize("n", range(3))
            def test(wasm, n):
                wasm("wordcount.wasm", "r", "in", files={"in": {}}, features=[])
                assert len(made) == 1

            def test_changed(wasm, request):
                program = request.path.with_name("wordcount.wasm")
                with open(program, "ab") as file:
                    file.write(b"\\0\\2\\1a")  # an empty custom section
                wasm("wordcount.wasm", "r", "in", files={"in": {}}, features=[])
                assert len(made) == 2
            """
        ),
        4,
    )


def test_limits_end_a_run(run_tests: RunTests) -> None:
    passes(
        run_tests(
            """
            import pytest, vfswasi

            LOOP = b'(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
            BIG = b'(module (memory (export "memory") 100) (func (export "_start")))'

            def test_time(wasm):
                with pytest.raises(vfswasi.GuestTimeoutError):
                    wasm(LOOP, timeout=0.2)

            def test_fuel(wasm):
                with pytest.raises(vfswasi.GuestFuelError):
                    wasm(LOOP, fuel=1000)

            @pytest.mark.parametrize("memory", [1 << 20, "1MiB"])
            def test_memory(wasm, memory):
                with pytest.raises(vfswasi.ModuleError):
                    wasm(BIG, memory=memory)
                wasm(BIG, memory="10MiB")

            @pytest.mark.wasm(timeout=0.2)
            def test_marked(wasm):
                with pytest.raises(vfswasi.GuestTimeoutError):
                    wasm(LOOP)

            @pytest.mark.wasm(limits=vfswasi.Limits(fuel=1000))
            class TestClass:
                def test_of_the_class(self, wasm):
                    with pytest.raises(vfswasi.GuestFuelError):
                        wasm(LOOP)

                @pytest.mark.wasm(memory="1MiB", check=False)
                def test_of_both(self, wasm):
                    with pytest.raises(vfswasi.ModuleError):
                        wasm(BIG)
                    with pytest.raises(vfswasi.GuestFuelError):
                        wasm(LOOP)
            """
        ),
        7,
    )


WRONG_MARKERS = [
    ("timout=3", "there is no option 'timout'; did you mean timeout?"),
    ("nonsense=3", "there is no option 'nonsense'; there are timeout, limits, memory"),
    ("timeout='x'", "timeout must be seconds as a number, not 'x'"),
    ("timeout=-1", "timeout must not be negative"),
    ("limits={}", "limits must be a vfswasi.Limits, not dict"),
    ("memory='much'", "'much' is not a size such as"),
    ("memory=True", "memory must be bytes as an int"),
    ("fuel='x'", "Limits.fuel must be an int"),
    ("deterministic=1", "deterministic must be True or False, not 1"),
    ("env={'A': 1}", "env must be a dict of str"),
    ("5", "give options by name, such as timeout=5, not 5"),
]


def test_what_is_wrong_with_a_marker_is_said_in_one_line(run_tests: RunTests) -> None:
    tests = [f"@pytest.mark.wasm({given})\ndef test_{n}(wasm): pass" for n, (given, _) in enumerate(WRONG_MARKERS)]
    result = run_tests("import pytest\n" + "\n".join(tests), "--strict-markers")
    result.assert_outcomes(errors=len(WRONG_MARKERS))
    for n, (_, message) in enumerate(WRONG_MARKERS):
        assert f"\npytest.mark.wasm of test_it.py::test_{n}: {message}" in result.stdout.str()
    assert "During handling" not in result.stdout.str()


WRONG_CALLS = [
    ("wasm('wordcount.wasm', fils={})", "wasm() has no option 'fils'; did you mean files?"),
    ("wasm('wordcount.wasm', {'a': 'b'})", "an argument of the program must be a str, not dict; files are given"),
    ("wasm('wordcount.wasm', 3)", "an argument of the program must be a str, not int"),
    ("wasm('wordcount.wasm', 'a', 3)", "an argument of the program must be a str, not int"),
    ("wasm('wordcount.wasm', 'a', args=['b'])", "one by one, or as args=[...], not both"),
    ("wasm('wordcount.wasm', files='data')", "files must be a dict such as"),
    ("wasm('wordcount.wasm', files={'a': '', 'a/b': ''})", "files: 'a/b' lies below what is a file"),
    ("wasm('wordcount.wasm', files={'a/b': '', 'a': {}})", "files: 'a' is there twice"),
    ("wasm('wordcount.wasm', preopens=['x'])", "preopens must be a dict of guest directory -> source, not list"),
    ("wasm('/none/p.wasm')", "there is no program /none/p.wasm"),
]


def test_what_is_wrong_with_a_call_is_said_in_one_line_without_frames_of_ours(run_tests: RunTests) -> None:
    tests = [f"def test_{n}(wasm):\n    {call}" for n, (call, _) in enumerate(WRONG_CALLS)]
    result = run_tests("\n".join(tests))
    result.assert_outcomes(failed=len(WRONG_CALLS))
    shown = result.stdout.str()
    for _, message in WRONG_CALLS:
        assert message in shown
    assert "vfswasi/testing" not in shown
    assert "vfswasi/testing" in run_tests(None, "--full-trace").stdout.str()
