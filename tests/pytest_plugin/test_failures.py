"""The fixture `wasm_fail`, golden traces, and what a failing test shows of its runs."""

from __future__ import annotations

import re

import pytest

from vfswasi import Call, Trace
from vfswasi.testing.plugin.snapshots.calls import golden

from .conftest import RunTests

COUNT = """
import pytest, vfswasi

def count(wasm, **options):
    return wasm("wordcount.wasm", "out.txt", "in", files={"in": {"a": "one two", "b": "three"}}, **options)
"""


def test_a_call_fails_with_an_errno_and_the_program_sees_it(run_tests: RunTests) -> None:
    code = """
    def test_write(wasm, wasm_fail):
        failure = wasm_fail("write", errno="NOSPC")
        result = count(wasm, check=False)
        assert (result.returncode, failure.struck) == (1, 1)
        assert "No space left on device" in result.stderr
        assert [call.name for call in result.trace if call.injected] == ["fd_write"]
        assert result.files["/out.txt"] == b""

    def test_nth(wasm, wasm_fail):
        wasm_fail("open", nth=3, errno=vfswasi.Errno.ACCES)  # the report, the directory, the first file
        result = count(wasm, check=False)
        assert result.stderr == "in/a: Permission denied\\n"

    def test_times(wasm, wasm_fail):
        wasm_fail("path_open", nth=3, times=2, errno="EACCES")
        assert count(wasm, check=False).stderr == "in/a: Permission denied\\nin/b: Permission denied\\n"

    def test_all(wasm, wasm_fail):
        failure = wasm_fail("stat", path="/in/*", times=None, errno="IO")
        assert "in/b: I/O error" in count(wasm, check=False).stderr
        assert failure.struck == 2

    @pytest.mark.parametrize("path", ["b", "in/b", "/in/b", "*/b", "[b]"])
    def test_path(wasm, wasm_fail, path):
        wasm_fail("open", path=path, errno="NOENT")
        assert count(wasm, check=False).stderr == "in/b: No such file or directory\\n"

    def test_it_holds_for_each_run_that_follows_until_it_is_cancelled(wasm, wasm_fail):
        assert count(wasm).returncode == 0
        failure = wasm_fail("write", errno="NOSPC")
        assert count(wasm, check=False).returncode == 1
        assert count(wasm, check=False).returncode == 1
        failure.cancel()
        assert count(wasm).returncode == 0
        assert failure.struck == 2

    def test_within_a_block(wasm, wasm_fail):
        # The way to try a program with every one of its calls failing.
        for nth in range(1, 100):
            with wasm_fail("open", nth=nth, errno="IO", strict=False) as failure:
                result = count(wasm, check=False)
            if not failure.struck:
                break
            assert result.returncode == 1
        assert nth == 5
        assert count(wasm).returncode == 0

    def test_beside_a_callable_of_ones_own(wasm, wasm_fail):
        class Mine:
            names, ended = [], []
            def __call__(self, call):
                self.names.append(call.name)
                return "PERM" if call.path == "/in/a" and call.name == "path_open" else None
            def over(self, call):
                self.ended.append(call.errno)
        wasm_fail("open", path="b", errno="ACCES")
        result = count(wasm, check=False, trace=Mine())
        assert result.stderr == "in/a: Operation not permitted\\nin/b: Permission denied\\n"
        assert len(Mine.names) >= len(Mine.ended) > 10

    def test_of_the_test_before_nothing_is_left(wasm):
        assert count(wasm).returncode == 0
    """
    result = run_tests(COUNT + code.replace("\n    ", "\n"))
    result.assert_outcomes(passed=13)


def test_what_never_struck_is_an_error_of_the_test(run_tests: RunTests) -> None:
    code = """
    def test_too_few(wasm, wasm_fail):
        wasm_fail("write", nth=30, path="out.txt", errno="NOSPC")
        count(wasm)

    def test_no_run(wasm_fail):
        wasm_fail("rename", errno="IO")

    def test_allowed(wasm, wasm_fail):
        wasm_fail("rename", errno="IO", strict=False)
        count(wasm)

    def test_that_failed_anyway(wasm, wasm_fail):
        wasm_fail("rename", errno="IO")
        assert False
    """
    result = run_tests(COUNT + code.replace("\n    ", "\n"))
    result.assert_outcomes(passed=3, failed=1, errors=2)
    shown = result.stdout.str()
    assert (
        "wasm_fail('write', nth=30, path='out.txt', errno='NOSPC') never struck: no run had so many calls of fd_pwrite "
        "or fd_write on 'out.txt', there were at most 1 (strict=False if that is right)" in shown
    )
    assert "wasm_fail('rename', errno='IO') never struck: no wasm(...) came after it" in shown


def test_what_is_wrong_with_a_failure_is_said_in_one_line(run_tests: RunTests) -> None:
    wrong = {
        "'wirte', errno='IO'": "there is no call 'wirte'; did you mean write?",
        "'fd_wirte', errno='IO'": "there is no call 'fd_wirte'; did you mean fd_write?",
        "'proc_exit', errno='IO'": "proc_exit does not come back, so it cannot fail",
        "5, errno='IO'": 'call must be a name such as "write", not 5',
        "'write', errno='NOSPACE'": "there is no errno 'NOSPACE'; did you mean NOSPC?",
        "'write', errno='SUCCESS'": "SUCCESS is no failure",
        "'write', errno=28": 'errno must be a name such as "NOSPC", or a vfswasi.Errno, not 28',
        "'write', errno='IO', nth=0": "nth counts from 1, it cannot be 0",
        "'write', errno='IO', nth='1'": "nth must be an int, not '1'",
        "'write', errno='IO', times=0": "times counts from 1, it cannot be 0",
        "'write', errno='IO', path=b'x'": "path must be a pattern as str, not bytes",
    }
    result = run_tests(
        "\n".join(f"def test_{n}(wasm_fail):\n    wasm_fail({given})" for n, given in enumerate(wrong)), "-vv"
    )
    result.assert_outcomes(failed=len(wrong))
    for message in wrong.values():
        assert message in result.stdout.str()
    assert "vfswasi/testing" not in result.stdout.str()


def test_a_worker_process_cannot_be_made_to_fail(run_tests: RunTests) -> None:
    code = """
    def test(wasm, wasm_fail):
        with pytest.raises(ValueError, match="leave out isolation"), wasm_fail("open", errno="IO", strict=False):
            count(wasm, isolation="process")
        assert count(wasm, isolation="process", deterministic=False).stdout == "2 files\\n"
    """
    run_tests(COUNT + code.replace("\n    ", "\n")).assert_outcomes(passed=1)


def test_a_golden_trace_has_what_was_asked_for_and_nothing_that_varies(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    code = """
    def test(wasm, wasm_snapshot):
        result = count(wasm, timeout=30)
        assert result.trace == wasm_snapshot("calls.txt")
        # Another run, with other descriptors below the same directories, is no other trace.
        assert wasm("wordcount.wasm", "out.txt", "in", files={"in": {"a": "one two", "b": "three"}},
                    preopens={"/more": {}}).trace == wasm_snapshot("calls.txt")

    def test_another(wasm, wasm_snapshot):
        result = wasm("wordcount.wasm", "out.txt", "in", files={"in": {"a": "one two"}})
        assert result.trace == wasm_snapshot("calls.txt")
    """
    code = COUNT + code.replace("\n    ", "\n")
    run_tests(code, "--wasm-update", "-k", "not another").assert_outcomes(passed=1)
    lines = (pytester.path / "snapshots" / "test_it" / "calls.txt").read_text().splitlines()
    assert lines[0] == "path_open /out.txt creat|trunc"
    assert "fd_read /in/a 7" in lines
    assert lines[-1] == "fd_write stdout 8"
    assert not re.search("0x|prestat|fdstat|_ns", "\n".join(lines))
    result = run_tests(code)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["E*a trace of * calls == wasm_snapshot('calls.txt')", "*wasm: wasm_snapshot('calls.txt')*", "-path_open /in/b"]
    )


def test_a_line_of_a_golden_trace_tells_errnos_and_both_paths() -> None:
    from vfswasi import Errno

    calls = Trace(
        [
            Call("path_rename", 0, {"old_fd": 3}, "/a\n", "/b", "/", Errno.NOENT),
            Call("fd_write", 1, {"fd": 2}, errno=Errno.PIPE, injected=True),
            Call("clock_time_get", 2),
        ]
    )
    assert golden(calls) == b"path_rename /a\\n -> /b = NOENT\nfd_write stderr = PIPE (injected)\n"


def test_a_trace_that_is_not_whole_is_not_compared(run_tests: RunTests) -> None:
    code = """
    import vfswasi

    def test(wasm_snapshot):
        assert vfswasi.Trace([vfswasi.Call("fd_read")], {}, 5) == wasm_snapshot("calls")
    """
    result = run_tests(code, "--wasm-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*the trace has the last 1 call alone; there were too many to compare"])


def test_a_failing_test_shows_what_the_program_printed_changed_and_did_last(run_tests: RunTests) -> None:
    code = """
    def test(wasm):
        result = wasm("wordcount.wasm", "out.txt", "in", "missing", files={"in": {"a": ""}}, check=False)
        assert result.returncode == 0
    """
    result = run_tests(code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*wasm: wordcount.wasm out.txt in missing: exit status 1*",
            "stdout:",
            "  1 file",
            "stderr:",
            "  missing: No such file or directory",
            "changes:",
            "  A /out.txt",
            "last calls, of *:",
            "  path_open(*missing*NOENT*",
        ]
    )


def test_what_a_program_printed_is_shown_harmless_and_short(run_tests: RunTests) -> None:
    text = "".join(rf"\1b[31m{n}\n" for n in range(100)) + "x" * 5000
    size = len(re.sub(r"\\..", ".", text.replace(r"\n", ".")))
    module = f'''(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "{text}")
        (data (i32.const 0) "\\40\\00\\00\\00")
        (func (export "_start") (i32.store (i32.const 4) (i32.const {size}))
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) unreachable))'''
    result = run_tests(f"PROGRAM = {module.encode()!r}\n\ndef test(wasm):\n    wasm(PROGRAM)\n")
    result.assert_outcomes(failed=1)
    shown = result.stdout.str()
    section = shown[shown.index("wasm: program: it trapped") :]
    assert "\x1b" not in shown
    assert "... 101 lines, of which these are the last" in section
    assert r"  \x1b[31m99" in section
    assert "... 5,000 characters" in section
    assert len(section) < 6000


def test_of_many_runs_the_last_are_shown_and_each_once(run_tests: RunTests) -> None:
    code = """
    @pytest.fixture
    def failing_later(wasm):
        yield
        assert not "failed again"

    def test(wasm, failing_later):
        for n in range(10):
            wasm("wordcount.wasm", f"out{n}", files={}, check=False)
        assert False
    """
    result = run_tests(COUNT + code.replace("\n    ", "\n"))
    result.assert_outcomes(failed=1, errors=1)
    titles = [line for line in result.outlines if "- wasm: wordcount" in line]
    assert [re.findall(r"out\d", title)[0] for title in titles] == ["out7", "out8", "out9"]


def test_a_run_that_was_ended_is_shown_with_what_it_had_done(run_tests: RunTests) -> None:
    code = """
    LOOP = b'(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'

    def test_time(wasm):
        wasm(LOOP, timeout=0.1)

    def test_fuel(wasm):
        wasm(LOOP, fuel=100)
    """
    result = run_tests(code.replace("\n    ", "\n"))
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*wasm: program: its time was over*", "*wasm: program: its fuel was used up*"])


def test_frames_of_a_callable_of_the_tests_are_shown_and_ours_are_not(run_tests: RunTests) -> None:
    code = """
    def test(wasm):
        def mine(call):
            raise RuntimeError("mine")
        count(wasm, trace=mine)
    """
    result = run_tests(COUNT + code.replace("\n    ", "\n"))
    result.assert_outcomes(failed=1)
    shown = result.stdout.str()
    assert 'raise RuntimeError("mine")' in shown
    assert "vfswasi/" not in shown


def test_of_a_test_that_is_over_nothing_is_kept_and_it_may_be_run_again(
    run_tests: RunTests, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item):
            for _ in range(2):
                for report in runtestprotocol(item, log=False, nextitem=None):
                    item.ihook.pytest_runtest_logreport(report=report)
            return True
        """
    )
    code = """
    import gc

    BEFORE = []

    def results():
        gc.collect()
        return sum(type(each) is vfswasi.Result for each in gc.get_objects())

    def test(wasm, wasm_fail):
        BEFORE.append(results())
        assert BEFORE[-1] == BEFORE[0]
        wasm_fail("write", errno="NOSPC", nth=500)
        for _ in range(5):
            count(wasm)
        assert results() == BEFORE[0] + 3
    """
    result = run_tests(COUNT + code.replace("\n    ", "\n"))
    result.assert_outcomes(passed=2, errors=2)


def test_frames_of_what_a_result_raises_are_not_shown_either(run_tests: RunTests) -> None:
    code = """
    def test_file(wasm):
        result = count(wasm)
        result.files["nothing.txt"]

    def test_status(wasm, wasm_fail):
        wasm_fail("write", errno="NOSPC")
        count(wasm, check=False).check_returncode()
    """
    result = run_tests(COUNT + code.replace("\n    ", "\n"))
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E*KeyError: 'nothing.txt'", "E*GuestExitError: *"])
    assert "vfswasi/" not in result.stdout.str()
    assert "vfswasi/" in run_tests(None, "--full-trace").stdout.str()
