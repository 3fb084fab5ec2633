"""What a trace says of a program is what the program says of itself: a C program writes down what it asked for and what
it got, and the lines of the trace are compared with that, one by one."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import vfswasi

from ...cli.running import vfswasi as command

FILES = {"greeting.txt": "Hello, world\n", "sub/inner": "within", "sub/ünlaut": ""}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "files.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, contents in FILES.items():
            made.writestr(name, contents)
    return path


def own_calls(lines: list[str]) -> list[str]:
    """Those of the program itself: what is before is the C library's, looking for its mounts and arguments; behind
    them it prints."""
    first = next(index for index, line in enumerate(lines) if line.startswith("path_open"))
    last = next(index for index, line in enumerate(lines) if index > first and "stdout" in line)
    return lines[first:last]


@pytest.mark.parametrize("root", ["/z", "/"])
def test_each_line_is_what_the_program_says_it_did(root: str, archive: Path, program: Callable[[str], Path]) -> None:
    base = root.rstrip("/")
    result = vfswasi.run(
        program("diary"), [base or ""], preopens={root: archive}, stdout=vfswasi.PIPE, text=True, trace=True
    )
    assert result.returncode == 0
    diary = (result.stdout or "").replace("3<>", f"3<{root}>").splitlines()
    assert len(diary) == 19
    assert own_calls([call.line(duration=False) for call in result.trace or ()]) == diary
    assert {call.path for call in result.trace or () if call.errno is vfswasi.Errno.NOTCAPABLE} == {"/above"}


def test_the_command_prints_the_same_lines_with_times(archive: Path, program: Callable[[str], Path]) -> None:
    done = command("--trace", f"--mount=/z={archive}", program("diary"), "/z", cwd=archive.parent)
    lines = done.stderr.splitlines()
    assert all(re.fullmatch(r".* <\d+\.\d{6}>", line) for line in lines)
    assert own_calls([re.sub(r" <[\d.]+>$", "", line) for line in lines]) == done.stdout.splitlines()


def test_the_objects_of_json_say_the_same(archive: Path, program: Callable[[str], Path]) -> None:
    trace = archive.with_name("calls.json")
    done = command(f"--trace=json:{trace}", f"--mount=/z={archive}", program("diary"), "/z", cwd=archive.parent)
    calls = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [call["number"] for call in calls] == list(range(len(calls)))
    names = own_calls([f"{call['name']} {call['descriptors']}" for call in calls])
    diary = done.stdout.splitlines()
    assert [name.split()[0] for name in names] == [line.partition("(")[0] for line in diary]
    opened = next(call for call in calls if call["name"] == "path_open")
    assert opened["arguments"]["dirflags"] == ["SYMLINK_FOLLOW"]
    assert (opened["path"], opened["mount"], opened["errno"]) == ("/z/greeting.txt", "/z", "SUCCESS")
    read = next(call for call in calls if call["name"] == "fd_read")
    assert read["results"] == {"nread": 5, "data": "Hello"}


def test_a_program_of_somebody_else_opens_each_file_once_and_reads_all_of_it(archive: Path) -> None:
    tool = Path(__file__).parents[3] / "examples" / "wordcount.wasm"
    result = vfswasi.run(
        tool, ["/out/report", "/z"], preopens={"/z": archive, "/out": {}}, capture_output=True, check=True, trace=True
    )
    assert result.trace is not None
    files = {f"/z/{name}": contents.encode() for name, contents in FILES.items()}
    opened = [call for call in result.trace if call.name == "path_open" and call.path in files]
    assert sorted(call.path or "" for call in opened) == sorted(files)
    for path, contents in files.items():
        reads = [call for call in result.trace if call.name == "fd_read" and call.path == path]
        assert sum(call.results["nread"] for call in reads) == len(contents)
        assert reads[0].results["data"] == contents
        assert reads[-1].results["nread"] == 0
    written = [call for call in result.trace if call.name == "fd_write" and call.path == "/out/report"]
    assert sum(call.results["nwritten"] for call in written) == len(result.files["/out/report"])
    listed = {name for call in result.trace if call.name == "fd_readdir" for name in call.results["names"]}
    assert listed == {".", "..", "sub", "greeting.txt", "inner", "ünlaut"}
    assert not [call for call in result.trace if call.mount == "/z" and call.name in ("fd_write", "path_unlink_file")]
