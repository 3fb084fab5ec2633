"""Deterministic runs of real programs: the same bytes on any day, in any directory, from any kind of store, on any
thread, with the fast path and without."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import vfswasi

from .. import avr_build
from ..guest_programs import compile_guest
from ..storage.servers import Moto, Server
from .hermetic_runs import PROGRAMS, STAMP, Place

ROOT = Path(__file__).parents[2]
KINDS = ("memory", "zip", "local", "s3")
GLYPH = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="9px" height="9px"><circle r="4"/></svg>"""
# For the guest that prints everything: what each kind of store can have.
SEEN = {
    "given": "given\n",
    "b/file": "in b\n",
    "b/c/deep": "deep\n",
    "a": "first\n",
    "ä": "last\n",
    "large": "".join(f"line {n}\n" for n in range(30_000)),
}
Places = Callable[[str, str], Place]


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    server = Moto()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", Server.key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", Server.secret)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield server
    server.stop()


def _write(root: Path, files: dict[str, Any], backwards: bool) -> Path:
    """In one order or the other, since directories list what they have as it came."""
    for name in sorted(files, reverse=backwards):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = files[name]
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, s3: Server) -> Places:
    """Where the files of a set are, in each kind of store."""
    sources = {path.name: path.read_bytes() for path in avr_build.SOURCE.iterdir() if path.is_file()}
    sets = {"src": {**sources, "stamp.c": STAMP, "glyph.svg": GLYPH}, "inc": avr_build.headers(), "seen": SEEN}
    root = tmp_path_factory.mktemp("sets")
    bucket = s3.new_bucket()

    @cache
    def placed(name: str, kind: str) -> Place:
        files = sets[name]
        if kind in ("memory", "local"):
            return kind, str(_write(root / f"{name}-{kind}", files, kind == "local"))
        if kind == "zip" or name == "inc":
            path = root / f"{name}.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for each in sorted(files, reverse=True):
                    archive.writestr(each, files[each])
            if kind == "zip":
                return kind, str(path)
            s3.file_system().pipe_file(f"{bucket}/{name}.zip", path.read_bytes())
            return kind, f"zip://*::s3://{bucket}/{name}.zip", s3.endpoint
        for each, data in files.items():
            s3.file_system().pipe_file(f"{bucket}/{name}/{each}", data.encode() if isinstance(data, str) else data)
        return kind, f"s3://{bucket}/{name}", s3.endpoint

    return placed


def places_of(program: str, kind: str, place: Places) -> dict[str, Place]:
    if program == "everything":
        return {"/ro": place("seen", kind), "/rw": place("seen", kind)}
    return {"/src": place("src", kind), "/inc": place("inc", kind)}


@pytest.fixture(scope="module")
def expected(place: Places) -> Callable[[str], str]:
    """What came out here and now, from memory, with the fast path."""
    return cache(lambda program: PROGRAMS[program](places_of(program, "memory", place), True))


def differ(one: str, other: str) -> str:
    """The first place where they do, for people."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{one[max(0, at - 200) : at + 80]!r} / {other[max(0, at - 200) : at + 80]!r}"


@pytest.mark.parametrize("vdso", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_comes_out_is_the_same_from_every_store_with_the_fast_path_and_without(
    program: str, kind: str, vdso: bool, place: Places, expected: Callable[[str], str]
) -> None:
    found = PROGRAMS[program](places_of(program, kind, place), vdso)
    assert found == expected(program), differ(found, expected(program))


def test_what_came_out_is_worth_comparing(expected: Callable[[str], str]) -> None:
    """The programs did what they were asked for, and saw the clock, chance, files and numbers."""
    everything = expected("everything")
    assert "clock 0 at first: 0 946728000000000000" in everything
    assert everything.count("\n") > 200
    assert "truncate: done" in everything
    digests, stamped, _ = json.loads(expected("avr"))
    assert {"firmware.elf", "firmware.hex", "stamp.s"} <= digests.keys()
    assert stamped[0] == '\t.string\t"Jan  1 2000 12:00:00 Tue Jan  1 00:00:00 1980"'
    svg, _, _ = json.loads(expected("graphviz"))
    assert "glyph.svg" in svg
    status, said, errors = json.loads(expected("python"))
    assert (status, errors) == (0, "")
    assert "Sunday 02 January 2000" in said
    told, _, _, _ = json.loads(expected("go"))
    assert "hunter2" not in told[0]
    assert "[HIDDEN" in told[0]


@pytest.mark.parametrize("program", ["everything", "python", "go"])
def test_several_at_once_on_threads_do_not_meet(program: str, place: Places, expected: Callable[[str], str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        kinds = ("memory", "zip", "local", "memory")
        runs = [pool.submit(PROGRAMS[program], places_of(program, kind, place), n < 2) for n, kind in enumerate(kinds)]
        for run in runs:
            assert run.result() == expected(program), differ(run.result(), expected(program))


def test_a_bucket_that_is_written_to_shows_the_same_each_time(s3: Server) -> None:
    """What it cannot do it refuses in the same way."""
    said = []
    for vdso in (True, False):
        bucket = s3.new_bucket()
        s3.file_system().pipe_file(f"{bucket}/at/given", b"given")
        result = vfswasi.run(
            compile_guest("everything"),
            ["-w", "/rw"],
            preopens={"/rw": vfswasi.Mount(f"s3://{bucket}/at", endpoint=s3.endpoint, rw=True)},
            capture_output=True,
            text=True,
            deterministic=True,
            vdso=vdso,
        )
        assert result.returncode == 0
        said.append(result.stdout)
    assert said[0] == said[1], differ(*said)
    assert "symlink: Not supported" in said[0]


def test_devices_show_the_same_each_time() -> None:
    runs = [
        vfswasi.run(
            compile_guest("everything"),
            preopens={"/dev": "dev:"},
            capture_output=True,
            text=True,
            deterministic=True,
            vdso=vdso,
            stdin=vfswasi.DEVNULL,
        )
        for vdso in (True, False)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert "/dev/null: dev 1" in runs[0].stdout


@pytest.fixture(scope="module")
def another_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that sets the clock of a process apart. Sandboxes and storage are in there, and the guest's clocks
    where they are the system's."""
    library = tmp_path_factory.mktemp("day") / "other_day.so"
    source = Path(__file__).parent / "other_day.c"
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=300)
    return library


@pytest.mark.skipif(sys.platform != "linux", reason="a library is preloaded, and calls are found in it, as on Linux")
@pytest.mark.parametrize(("apart_s", "kinds"), [(101_234_567, "zip s3"), (-50_000_000, "local memory")])
def test_what_comes_out_is_the_same_on_other_days_and_elsewhere(
    apart_s: int,
    kinds: str,
    place: Places,
    expected: Callable[[str], str],
    another_day: Path,
    tmp_path: Path,
) -> None:
    """In another process, with another clock, directory, time zone, language and names of users."""
    first, second = kinds.split()
    jobs = [(program, places_of(program, first, place), True) for program in PROGRAMS]
    jobs += [(program, places_of(program, second, place), False) for program in ("everything", "python")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.hermetic_runs"],
        input=json.dumps(jobs) + "\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=500,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "LD_PRELOAD": str(another_day),
            "OTHER_DAY_S": str(apart_s),
            "TZ": "Pacific/Auckland",
            "LC_ALL": "C",
            "USER": "somebody",
            "PYTHONHASHSEED": "99",
            "TMPDIR": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout)
    told_ns, ours_ns = (
        int(re.findall(r"clock 0 at first: 0 (\d+)", text)[0]) for text in (answers.pop("plain"), plain())
    )
    assert abs(ours_ns + apart_s * 10**9 - told_ns) < 3600 * 10**9  # it was another day there
    assert len(answers) == len(jobs)
    for name, found in answers.items():
        program = name.split()[0]
        assert found == expected(program), f"{name}: {differ(found, expected(program))}"


def plain() -> str:
    """What a guest sees whose run is not deterministic."""
    return str(vfswasi.run(compile_guest("everything"), capture_output=True, text=True).stdout)
