"""W5: compiled code is run as it is, so it must lie where it is ours alone, and be signed; nothing else that is loaded
can be more than data."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi.engine.compiling import cache as module_cache
from vfswasi.engine.compiling import engines, modules
from vfswasi.engine.interruption.ways import Way
from vfswasi.limits import Limits

from ..rawguest import RawGuest
from ..wat_programs import compiled

ROOT = Path(__file__).parents[2]


def _exiting(code: int) -> bytes:
    return f"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))""".encode()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: Way) -> Path:
    """An empty cache, to which everything is written, its key elsewhere, and no module remembered in memory."""
    directory = tmp_path / "home" / ".cache"
    for path in (directory, tmp_path / "key"):
        path.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(directory))
    monkeypatch.setenv("VFSWASI_KEY_DIR", str(tmp_path / "key"))
    monkeypatch.setattr(modules, "_CACHE_WORTH_S", -1.0)
    monkeypatch.setattr(modules, "_CACHE_WORTH_BYTES", 0)
    monkeypatch.setattr(modules, "_remembered", type(modules._remembered)())
    monkeypatch.setattr(module_cache, "_told", set())
    return directory


def _fresh(code: int, **options: Any) -> int:
    modules._remembered.clear()
    result = vfswasi.run(_exiting(code), vdso=False, **options)
    assert result.returncode is not None
    return result.returncode


def _only(cache: Path) -> Path:
    (file,) = cache.glob("*.cwasm")
    return file


def _code(status: int) -> bytes:
    return compiled(_exiting(status))


def _forged(cache: Path) -> None:
    """Put the code of another module under the name of that which exits with 1, signed as whoever has the key would."""
    assert _fresh(1) == 1
    file = _only(cache)
    code = _code(66)
    key = (cache.parents[1] / "key" / "cache-key").read_bytes()
    file.write_bytes(code + module_cache.signatures(key, file.stem, code))


def test_w5_the_cache_is_used_and_what_is_signed_is_believed(cache: Path) -> None:
    """The ground of what follows: without this the tests below would show nothing."""
    _forged(cache)
    assert _fresh(1) == 66
    assert _only(cache).stat().st_mode & 0o077 == 0
    assert (cache.parents[1] / "key" / "cache-key").stat().st_mode & 0o077 == 0


@contextlib.contextmanager
def _nothing_compiled() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(modules, "_compile")
        patch.delattr(modules, "_compile_rewritten")
        yield


FORGERIES = {
    "not signed": lambda code, own, other: code,
    "signed with nothing": lambda code, own, other: code + bytes(64),
    "with the signature that was there": lambda code, own, other: code + own[-32:],
    "with both signatures that were there": lambda code, own, other: code + own[-64:],
    "of the same size, with both signatures": lambda code, own, other: code.ljust(len(own), b"\0")[:-64] + own[-64:],
    "a module of ours under another's name": lambda code, own, other: other,
    "with a byte changed": lambda code, own, other: own[:5000] + bytes([own[5000] ^ 1]) + own[5001:],
    "with a byte of its signature changed": lambda code, own, other: own[:-1] + bytes([own[-1] ^ 1]),
    "something behind it": lambda code, own, other: own + b"\0",
    "something in front of it": lambda code, own, other: b"\0" + own,
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_w5_what_is_not_signed_is_not_run(cache: Path, forgery: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever can write to the cache, but not read the key."""
    assert _fresh(66) == 66
    other = _only(cache).read_bytes()
    _only(cache).unlink()
    assert _fresh(1) == 1
    file = _only(cache)
    file.write_bytes(FORGERIES[forgery](_code(66), file.read_bytes(), other))
    assert _fresh(1) == 1
    assert _fresh(1) == 1
    assert [record.getMessage() for record in caplog.records if file.name in record.getMessage()] == [
        f"{file} is not used, the module is compiled again: its signature is wrong"
    ], "said once"
    with _nothing_compiled():
        assert _fresh(1) == 1, "and a good one lies there again"


def test_w5_a_module_of_many_pieces_is_checked_in_all_of_them(
    cache: Path, monkeypatch: pytest.MonkeyPatch, interruption: Way
) -> None:
    monkeypatch.setattr(module_cache, "_PIECE_BYTES", 1000)
    assert _fresh(1) == 1
    file = _only(cache)
    good = file.read_bytes()
    assert len(good) > 10_000
    with _nothing_compiled():
        assert _fresh(1) == 1
    key = module_cache._key(make=False)
    for at in range(0, len(good), 997):
        bad = good[:at] + bytes([good[at] ^ 0x80]) + good[at + 1 :]
        file.write_bytes(bad)
        number = os.open(file, os.O_RDONLY)
        with pytest.raises(module_cache.Unusable):
            module_cache.checked(modules.engine(way=interruption), number, file.stem, key)
        os.close(number)


def test_w5_memory_is_taken_only_for_a_size_that_is_signed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _fresh(1) == 1
    file = _only(cache)
    good = file.read_bytes()
    with file.open("r+b") as grown:
        grown.truncate(1 << 40)
        grown.seek(-64, os.SEEK_END)
        grown.write(good[-64:])

    def refused(*_: object) -> int:
        raise AssertionError("a copy of it is made")

    monkeypatch.setattr(os, "memfd_create", refused)
    with open(file, "rb") as opened, pytest.raises(module_cache.Unusable, match="signature is wrong"):
        module_cache.checked(modules.engine(), opened.fileno(), file.stem, module_cache._key(make=False))


@pytest.mark.parametrize("when", ["hashing", "waiting for the others"])
def test_w5_no_thread_is_left_hashing_after_ctrl_c(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    others = threading.Event()
    inside: list[int] = []

    def part(room: memoryview, at: int) -> memoryview:
        if threading.current_thread() is not threading.main_thread():
            inside.append(at)
            others.wait(0.3)  # one step of many
            inside.remove(at)
        elif when == "hashing":
            raise KeyboardInterrupt
        return room

    left = [2]  # the second while the first is dealt with

    def interrupt(_number: int, _frame: object) -> None:
        left[0] -= 1
        if not left[0]:
            signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        if when != "hashing":
            signal.setitimer(signal.ITIMER_REAL, 0.15, 0.1)
        with pytest.raises(KeyboardInterrupt):
            module_cache._hashes(16 << 20, part)
        assert not inside
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_w5_a_file_that_changes_after_the_check_changes_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _fresh(1) == 1
    file = _only(cache)
    load = wasmtime.Module.deserialize_file

    def late(engine: wasmtime.Engine, path: str) -> wasmtime.Module:
        file.write_bytes(bytes(file.stat().st_size))
        return load(engine, path)

    monkeypatch.setattr(wasmtime.Module, "deserialize_file", late)
    with _nothing_compiled():
        assert _fresh(1) == 1


@pytest.mark.parametrize("lacking", ["memfd_create", "/proc"])
def test_w5_without_what_linux_has_it_is_checked_all_the_same(
    cache: Path, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _fresh(1) == 1
    if lacking == "/proc":
        exists = os.path.exists
        monkeypatch.setattr(os.path, "exists", lambda path: not str(path).startswith("/proc") and exists(path))
    else:
        monkeypatch.delattr(os, lacking)
    with _nothing_compiled():
        assert _fresh(1) == 1
    file = _only(cache)
    file.write_bytes(_code(66) + bytes(32))
    assert _fresh(1) == 1


KEYS = {
    "open to others": lambda key: key.chmod(0o644),
    "cut": lambda key: key.write_bytes(key.read_bytes()[:16]),
    "empty": lambda key: key.write_bytes(b""),
    "a link": lambda key: (key.rename(key.with_name("elsewhere")), key.symlink_to("elsewhere")),
    "in an open directory": lambda key: key.parent.chmod(0o755),
    "gone": lambda key: key.unlink(),
}


@pytest.mark.parametrize("trouble", KEYS)
def test_w5_a_key_that_others_may_know_signs_nothing(cache: Path, trouble: str) -> None:
    _forged(cache)
    KEYS[trouble](cache.parents[1] / "key" / "cache-key")
    assert _fresh(1) == 1
    assert _fresh(2) == 2


@pytest.mark.parametrize("where", ["the same", "below"])
def test_w5_the_key_never_lies_with_what_it_signs(
    cache: Path, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VFSWASI_KEY_DIR", str(cache if where == "the same" else cache / "key"))
    assert _fresh(1) == 1
    assert [path.name for path in cache.rglob("*")] == []
    assert "the key must not lie with what it signs" in caplog.text


def test_w5_processes_that_begin_at_once_agree_on_a_key(cache: Path) -> None:
    code = "import sys; from vfswasi.engine.compiling import cache; sys.stdout.write(cache._key(make=True).hex())"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=60)[0] for process in started}
    assert len(keys) == 1
    assert [path.name for path in (cache.parents[1] / "key").iterdir()] == ["cache-key"]


@pytest.mark.parametrize(
    ("mode", "used"), [(0o777, False), (0o757, False), (0o775, False), (0o1777, True), (0o755, True)]
)
def test_w5_a_cache_below_a_directory_that_others_may_change_is_not_used(
    cache: Path, mode: int, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forged(cache)
    monkeypatch.setattr(os, "getgid", lambda: 4711)  # no group of the user's own
    cache.parent.chmod(mode)
    assert _fresh(1) == (66 if used else 1)


def test_w5_a_group_of_the_users_own_is_the_user(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems that give one to each, and where new directories are open to it."""
    _forged(cache)
    cache.parent.chmod(0o775)
    os.chown(cache.parent, -1, os.getgid())
    if os.getgid() == os.getuid():
        assert _fresh(1) == 66
    monkeypatch.setattr(os, "getgid", lambda: os.getuid() + 1)
    assert _fresh(1) == 1


@pytest.mark.parametrize("mode", [0o701, 0o704, 0o710, 0o740, 0o755, 0o770, 0o777, 0o1777])
def test_w5_a_cache_that_is_open_to_others_is_not_used(cache: Path, mode: int) -> None:
    _forged(cache)
    before = sorted(cache.iterdir())
    cache.chmod(mode)
    assert _fresh(1) == 1
    assert _fresh(2) == 2
    assert sorted(cache.iterdir()) == before, "nor is anything written to it"


def test_w5_a_cache_of_somebody_else_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forged(cache)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert _fresh(1) == 1


def test_w5_a_link_is_no_cache_and_no_module(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forged(cache)
    link = cache.with_name("link")
    link.symlink_to(cache)
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(link))
    assert _fresh(1) == 1
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(cache))
    (file,) = cache.glob("*.cwasm")
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")
    assert _fresh(1) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped head", "a directory", "a FIFO"])
def test_w5_a_damaged_file_is_compiled_again(cache: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    assert _fresh(1) == 1
    file = _only(cache)
    data = file.read_bytes()
    file.unlink()
    match damage:
        case "a directory":
            file.mkdir()
        case "a FIFO":
            os.mkfifo(file)
        case _:
            bad = {"cut": data[:-1], "empty": b"", "text": b"no code", "flipped head": b"\0" + data[1:]}[damage]
            file.write_bytes(bad)
    assert _fresh(1) == 1


def test_w5_the_name_depends_on_module_version_and_settings(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[str]:
        return {path.name for path in cache.glob("*.cwasm")}

    assert _fresh(1) == 1
    first = names()
    assert _fresh(2) == 2
    assert _fresh(1, limits=Limits(fuel=10**9)) == 1
    assert _fresh(1, features=["gc"]) == 1
    monkeypatch.setattr(engines, "_engine_identity", lambda way, fuel, features: b"another version of wasmtime")
    assert _fresh(1) == 1
    assert len(names()) == 5
    assert first < names()


@pytest.mark.parametrize("where", ["the directory itself", "one above it", "a link to one above it"])
def test_w5_no_guest_can_write_to_the_cache(cache: Path, where: str, tmp_path: Path) -> None:
    """It is refused to mount it writable, or it is not used; else a guest's file is run as machine code next time."""
    _forged(cache)
    file = _only(cache)
    code = file.read_bytes()
    file.unlink()
    (tmp_path / "link").symlink_to("home")
    source = {"the directory itself": cache, "one above it": cache.parent}.get(where, tmp_path / "link")
    below = "" if where == "the directory itself" else ".cache/"
    try:
        with RawGuest({"/d": vfswasi.Mount(source, rw=True)}) as guest:
            fd = guest.create(below + file.name)
            for start in range(0, len(code), 0x8000):
                guest.write(fd, code[start : start + 0x8000])
            guest.close_fd(fd)
    except vfswasi.MountError:
        return
    assert _fresh(1) == 1


def test_w5_no_guest_can_write_where_the_key_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "state" / "vfswasi"
    key.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("VFSWASI_KEY_DIR", str(key))
    for source in (key, key.parent, tmp_path):
        with pytest.raises(vfswasi.MountError, match="what vfswasi runs or trusts"):
            vfswasi.run(_exiting(0), preopens={"/d": vfswasi.Mount(source, rw=True)})
        assert vfswasi.run(_exiting(0), preopens={"/d": source}).returncode == 0, "to read is allowed"
    (tmp_path / "other").mkdir()
    assert vfswasi.run(_exiting(0), preopens={"/d": vfswasi.Mount(tmp_path / "other", rw=True)}).returncode == 0


WAYS = ["its bytes changed", "another file in its place", "another module of ours", "a link to a file of its own"]


@pytest.mark.parametrize("way", WAYS)
def test_w5_a_guest_that_writes_to_the_cache_all_the_same_decides_nothing(
    cache: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through a bind mount, or whatever else shows a directory without anybody being able to tell."""
    assert _fresh(66) == 66
    other = _only(cache).name
    assert _fresh(1) == 1
    (name,) = {path.name for path in cache.glob("*.cwasm")} - {other}
    good = (cache / name).read_bytes()
    code = _code(66) + good[-32:]
    monkeypatch.setattr(modules, "trusted_directories", list)
    with RawGuest({"/d": vfswasi.Mount(cache, rw=True)}) as guest:
        if way == "another module of ours":
            guest.rename(other, name)
        elif way == "its bytes changed":
            fd = guest.create(name)
            guest.pwrite(fd, code[:0x8000], 0)
            guest.close_fd(fd)
        else:
            fd = guest.create("new")
            for start in range(0, len(code), 0x8000):
                guest.write(fd, code[start : start + 0x8000])
            guest.close_fd(fd)
            if way == "another file in its place":
                guest.rename("new", name)
            else:
                guest.unlink(name)
                guest.symlink("new", name)
    assert (cache / name).read_bytes() != good
    assert _fresh(1) == 1


def test_w5_nothing_of_the_package_can_load_objects() -> None:
    """No pickle and nothing like it; what is stored beside compiled code is data. A worker process is told by its
    caller what to run in pickles; what the worker answers is none (`tests/isolation/test_hostile_workers.py`)."""
    from_callers = ROOT / "vfswasi" / "host" / "isolation" / "wire.py"
    forbidden = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "copyreg", "joblib", "yaml"}
    for path in (ROOT / "vfswasi").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = {node.func.id} & {"eval", "exec", "compile", "__import__"}
                assert not names, (path, node.lineno)
            else:
                continue
            assert not names & forbidden - ({"pickle"} if path == from_callers else set()), (path, node.lineno)
    loading = [path for path in (ROOT / "vfswasi").rglob("*.py") if "deserialize" in path.read_text()]
    assert [path.name for path in loading] == ["cache.py"]
