"""What the command line writes: warnings once and with its name, and nothing when its reader has gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "VFSWASI_", "HOME"))}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(home), **more}


def _vfswasi(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vfswasi", *arguments]
    return subprocess.run(
        command, env=_environment(home, **more), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """More names than a pipe holds."""
    directory = tmp_path / "tree"
    directory.mkdir()
    for number in range(2000):
        (directory / f"{number}-{'n' * 200}").touch()
    return directory


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A module with more names than a pipe holds."""
    exports = "".join(f'(export "f{number}{"x" * 100}" (func $f))' for number in range(2000))
    path = tmp_path / "wide.wat"
    path.write_text(f'(module (memory (export "memory") 1) (func $f (export "_start")) {exports})')
    return path


COMMANDS = {
    "mounts": ["mounts", "TREE"],
    "inspect": ["inspect", "WIDE"],
    "inspect --json": ["inspect", "--json", "WIDE"],
    "--help": ["--help"],
    "run --help": ["run", "--help"],
    "--version": ["--version"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_goes_away_is_no_error(name: str, tree: Path, wide: Path, tmp_path: Path) -> None:
    """Status 141, as if SIGPIPE had ended it, and not a word. (argparse itself passes over it when nothing is
    buffered.)"""
    arguments = [{"TREE": str(tree), "WIDE": str(wide)}.get(each, each) for each in COMMANDS[name]]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", *arguments],
            env=_environment(tmp_path),
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(write)
    assert done.stderr == b""
    assert done.returncode in ((0, 141) if name.startswith("--") or "--help" in name else (141,))


def test_head_gets_the_first_line(tree: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "vfswasi", "mounts", str(tree)],
        env=_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{tree}\n".encode()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_a_standard_error_that_nobody_reads_is_no_traceback(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", "run", "missing.wasm"],
            env=_environment(tmp_path),
            stderr=write,
            timeout=60,
        )
    finally:
        os.close(write)
    assert done.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_told_in_one_line(tree: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", "mounts", str(tree)],
            env=_environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 125
    assert done.stderr.startswith("vfswasi: ")
    assert done.stderr.endswith("No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A module that takes longer to compile than is forgotten."""
    body = "(local.set 0 (i32.add (local.get 0) (i32.load (local.get 0))))" * 300
    functions = f"(func (param i32) {body})" * 60
    path = tmp_path / "slow.wat"
    path.write_text(f'(module (memory (export "memory") 1) {functions} (func (export "_start")))')
    return path


def _run(module: Path, home: Path, **more: str) -> list[str]:
    """The lines on stderr of a run that compiles several modules."""
    done = _vfswasi(home, "run", "--mount", "/in=mem:", str(module), **more)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_a_cache_that_is_open_to_others_is_told_once_with_our_name(slow: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    assert _run(slow, tmp_path, VFSWASI_CACHE_DIR=str(cache)) == [
        f"vfswasi: warning: the cache of compiled modules is not used: {cache} must be owned by you with mode 0700"
    ]


TROUBLE = {
    "a file is in its place": "the cache of compiled modules is not used",
    "its home is a file": "compiled modules are not kept (",
    "a key that is none": "compiled modules are not kept (",
    "a link is in the place of its key's directory": "compiled modules are not kept (",
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_cache_that_cannot_be_is_told_once(trouble: str, slow: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    state = home / ".local" / "state"
    match trouble:
        case "a file is in its place":
            (home / ".cache").mkdir(parents=True)
            (home / ".cache" / "vfswasi").write_bytes(b"")
        case "its home is a file":
            home.write_bytes(b"")
        case "a key that is none":
            (state / "vfswasi").mkdir(parents=True, mode=0o700)
            (state / "vfswasi" / "cache-key").write_bytes(b"")
            (state / "vfswasi" / "cache-key").chmod(0o600)
        case _:
            (state / "elsewhere").mkdir(parents=True, mode=0o700)
            (state / "vfswasi").symlink_to("elsewhere")
    (line,) = _run(slow, home)
    assert line.startswith(f"vfswasi: warning: {TROUBLE[trouble]}")
    assert str(home) in line


def test_a_module_that_is_compiled_at_once_is_not_worth_a_word(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_bytes(b"")
    (tmp_path / "quick.wat").write_text('(module (memory (export "memory") 1) (func (export "_start")))')
    assert _run(tmp_path / "quick.wat", home) == []


def test_a_cache_that_works_is_not_spoken_of(slow: Path, tmp_path: Path) -> None:
    assert _run(slow, tmp_path) == []
    kept = {path.name: path.read_bytes() for path in (tmp_path / ".cache" / "vfswasi").iterdir()}
    assert _run(slow, tmp_path) == []
    assert {path.name: path.read_bytes() for path in (tmp_path / ".cache" / "vfswasi").iterdir()} == kept
    assert kept
    assert (tmp_path / ".local" / "state" / "vfswasi" / "cache-key").stat().st_mode & 0o777 == 0o600
