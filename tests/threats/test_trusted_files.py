"""W5: compiled code is trusted, so where it lies matters; nothing else that is loaded can be more than data."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi.engine import modules
from vfswasi.limits import Limits

from ..rawguest import RawGuest

ROOT = Path(__file__).parents[2]


def _exiting(code: int) -> bytes:
    return f"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))""".encode()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, to which everything is written, and no module remembered in memory."""
    directory = tmp_path / "home" / ".cache"
    directory.mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(directory))
    compile_ = modules._compile
    monkeypatch.setattr(modules, "_compile", lambda into, wasm, name, key: compile_(into, wasm, name, key, -1.0))
    monkeypatch.setattr(modules, "_remembered", type(modules._remembered)())
    return directory


def _fresh(code: int, **options: Any) -> int:
    modules._remembered.clear()
    result = vfswasi.run(_exiting(code), vdso=False, **options)
    assert result.returncode is not None
    return result.returncode


def _forged(cache: Path) -> None:
    """Put the code of another module under the name of that which exits with 1."""
    assert _fresh(1) == 1
    (victim,) = cache.glob("*.cwasm")
    other = modules.engine()
    victim.write_bytes(wasmtime.Module(other, wasmtime.wat2wasm(_exiting(66).decode())).serialize())


def test_w5_the_cache_is_used_and_what_lies_there_is_believed(cache: Path) -> None:
    """The ground of what follows: who can write there decides what runs."""
    _forged(cache)
    assert _fresh(1) == 66
    (file,) = cache.glob("*.cwasm")
    assert file.stat().st_mode & 0o077 == 0


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
    (file,) = cache.glob("*.cwasm")
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
    monkeypatch.setattr(modules, "_engine_identity", lambda fuel: b"another version of wasmtime")
    assert _fresh(1) == 1
    assert len(names()) == 4
    assert first < names()


@pytest.mark.parametrize("where", ["the directory itself", "one above it", "a link to one above it"])
def test_w5_no_guest_can_write_to_the_cache(cache: Path, where: str, tmp_path: Path) -> None:
    """It is refused to mount it writable, or it is not used; else a guest's file is run as machine code next time."""
    _forged(cache)
    (file,) = cache.glob("*.cwasm")
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


def test_w5_nothing_of_the_package_can_load_objects() -> None:
    """No pickle and nothing like it; what is stored beside compiled code is data."""
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
            assert not names & forbidden, (path, node.lineno)
    loading = [path for path in (ROOT / "vfswasi").rglob("*.py") if "deserialize" in path.read_text()]
    assert [path.name for path in loading] == ["modules.py"]
