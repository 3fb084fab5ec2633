"""WritableArchive when others change the archive, when a commit fails, and when the process is killed in one."""

from __future__ import annotations

import io
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fs_backends.rewriting.differences import names, pack, seen
from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import noise
from tests.fs_backends.zip_written import OLD, only, put
from tests.open_files import open_files, opened_since
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.archive.tar.output import _Output
from vfswasi.fs_backends.archive.writable import WritableArchive
from vfswasi.fs_backends.archive.zip.output import ZipOutput
from vfswasi.testing.ground import errno_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["zip", "tar", "tar.xz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the archive is; nothing else is in its directory."""
    (tmp_path / "d").mkdir()
    return tmp_path / "d" / f"a.{request.param}"


@pytest.fixture
def old(path: Path) -> bytes:
    """The bytes of an archive with `OLD` at `path`."""
    pack(path, {**OLD})
    return path.read_bytes()


# Somebody else


def _replaced(path: Path) -> None:
    other = path.with_name("other." + path.name.partition(".")[2])
    pack(other, {"theirs": b"1"})
    other.replace(path)


def _touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [_replaced, _touched, lambda path: path.write_bytes(b"longer" * 1000), Path.unlink])
def test_an_archive_that_somebody_else_changed_is_left_alone(
    path: Path, old: bytes, change: Callable[[Path], object]
) -> None:
    backend = WritableArchive(path)
    backend.mkdir(("mine",))
    change(path)
    theirs = path.read_bytes() if path.exists() else None
    assert errno_of(backend.commit) is Errno.STALE
    assert (path.read_bytes() if path.exists() else None) == theirs
    assert backend.changed
    assert [name for name in os.listdir(path.parent) if name.endswith(".tmp")] == []
    backend.close()


def test_the_check_is_repeated_when_all_is_written(path: Path, old: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = WritableArchive(path)
    backend.mkdir(("mine",))
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (_replaced(path), original(fd)))
    with pytest.raises(FsError, match="was changed by somebody else"):
        backend.commit()
    assert seen(path) == {"theirs": b"1"}
    only(path)
    backend.close()


def test_a_new_archive_does_not_replace_one_that_was_made_meanwhile(path: Path) -> None:
    backend, other = WritableArchive(path), WritableArchive(path)
    backend.mkdir(("mine",))
    other.mkdir(("theirs",))
    other.commit()
    with pytest.raises(FsError, match="was made by somebody else"):
        backend.commit()
    assert seen(path) == {"theirs": {}}
    for each in (backend, other):
        each.close()


def test_of_many_commits_at_once_one_wins(path: Path, old: bytes) -> None:
    backends = [WritableArchive(path) for _ in range(6)]
    outcomes: list[Errno] = []

    def commit(number: int) -> None:
        backends[number].mkdir((f"by{number}",))
        try:
            backends[number].commit()
            outcomes.append(Errno.SUCCESS)
        except FsError as error:
            outcomes.append(error.errno)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [Errno.SUCCESS] + [Errno.STALE] * 5
    only(path)
    for backend in backends:
        backend.close()


# Commits that fail


@pytest.mark.parametrize(
    ("where", "error", "expected"),
    [
        ("os.fsync", OSError(5, "Input/output error"), Errno.IO),
        ("os.replace", OSError(28, "No space left on device"), Errno.NOSPC),
        ("os.fchmod", OSError(1, "Operation not permitted"), Errno.ACCES),
        ("tempfile.mkstemp", OSError(30, "Read-only file system"), Errno.ROFS),
        ("fcntl.flock", OSError(37, "No locks available"), Errno.IO),
        ("vfswasi.fs_backends.archive.{kind}.output.pieces", OSError(122, "Disk quota exceeded"), Errno.DQUOT),
        ("vfswasi.fs_backends.archive.{kind}.output.{end}", struct.error("too large"), Errno.IO),
        ("vfswasi.fs_backends.archive.{kind}.output.write", zipfile.LargeZipFile("too large"), Errno.IO),
        ("os.fsync", KeyboardInterrupt(), None),
    ],
)
def test_a_commit_that_fails_leaves_the_old_archive_and_can_be_repeated(
    path: Path,
    old: bytes,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: BaseException,
    expected: Errno | None,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    backend = WritableArchive(path)
    put(backend, ("change",), b"changed" * 1000)
    backend.mkdir(("new",))
    staged = tree(backend)
    before = open_files()
    with monkeypatch.context() as patch:
        kind, end = ("zip", "ZipOutput._write_end") if path.suffix == ".zip" else ("tar", "_Output.end")
        patch.setattr(where.format(kind=kind, end=end), fail)
        if expected is None:
            with pytest.raises(KeyboardInterrupt):
                backend.commit()
        else:
            assert errno_of(backend.commit) is expected
    assert path.read_bytes() == old
    only(path)
    assert opened_since(before) == []
    assert backend.changed
    assert tree(backend) == staged
    backend.commit()
    assert seen(path) == staged
    names(path)
    backend.close()


def test_a_disk_that_is_full_at_any_write(path: Path, old: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = WritableArchive(path)
    put(backend, ("change",), noise(300_000))
    original = os.fdopen
    for allowed in range(0, 300_000, 23_000):

        class Full(io.FileIO):
            left = allowed

            def write(self, data: Any, /) -> int:
                self.left -= len(data)
                if self.left < 0:
                    raise OSError(28, "No space left on device")
                return super().write(data)

        def small(descriptor: int, mode: str, kind: type[Full] = Full) -> Any:
            return io.BufferedRandom(kind(descriptor, "r+"))

        monkeypatch.setattr(os, "fdopen", small)
        outcome = errno_of(backend.commit)
        monkeypatch.setattr(os, "fdopen", original)
        if outcome is Errno.SUCCESS:
            break
        assert outcome is Errno.NOSPC
        assert path.read_bytes() == old
        only(path)
    assert allowed > (50_000 if path.suffix == ".xz" else 100_000)
    backend.close()


def test_what_was_written_is_read_before_it_counts(path: Path, old: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = WritableArchive(path)
    put(backend, ("change",), b"x")
    end = (ZipOutput, "_write_end") if path.suffix == ".zip" else (_Output, "put")
    monkeypatch.setattr(*end, lambda self, *_: None)
    assert errno_of(backend.commit) is Errno.IO
    assert path.read_bytes() == old
    only(path)
    backend.close()


PROGRAM = """
    import os, sys, time
    from vfswasi.fs_backends.archive.writable import WritableArchive
    backend = WritableArchive(sys.argv[1])
    handle = backend.create(("new",))
    handle.write_from(0, os.urandom(1 << 20))
    handle.close()
    def wait(*arguments):
        print("here", flush=True)
        time.sleep(60)
    import vfswasi.fs_backends.archive.rewriting as module
    {patch}
    backend.commit()
"""


@pytest.mark.parametrize(
    "patch",
    [
        "os.fsync = wait",
        "os.replace = wait",
        "module._Progress.end = wait",
        "module.version_of = wait",
    ],
)
def test_a_process_that_is_killed_in_a_commit_leaves_the_old_archive(path: Path, old: bytes, patch: str) -> None:
    program = textwrap.dedent(PROGRAM).replace("{patch}", patch)
    with subprocess.Popen([sys.executable, "-c", program, path], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert path.read_bytes() == old
    left = [name for name in os.listdir(path.parent) if name != path.name]
    assert all(name.startswith(".vfswasi-") and name.endswith(".tmp") for name in left)
    # Nobody is kept out by what was left.
    backend = WritableArchive(path)
    backend.mkdir(("after",))
    backend.commit()
    backend.close()


def test_a_process_that_is_killed_at_any_time_leaves_one_of_the_two(path: Path, old: bytes) -> None:
    program = textwrap.dedent(PROGRAM).replace("{patch}", "print('here', flush=True)")
    rng = random.Random(8)
    outcomes = set()
    for number in range(8):
        path.write_bytes(old)
        with subprocess.Popen([sys.executable, "-c", program, path], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.01 * number)
            process.kill()
        now = path.read_bytes()
        outcomes.add("old" if now == old else "new")
        assert set(OLD) <= set(names(path))
    assert outcomes
