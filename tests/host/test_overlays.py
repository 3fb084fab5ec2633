"""Overlays of runs and of `WASI` objects: what their callers are told, and when changes are applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi import Changes, ConflictError, Mount, UncommittedError

from ..rawguest import ALL_FILE_RIGHTS, RawGuest
from ..wat_programs import ENDLESS, OPEN, program

WRITE = f"{OPEN} (call $say (i32.load (i32.const 64)))"  # "so fa" into the file "s" of the first mount


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "s").write_text("so good")
    return tmp_path / "base"


def started(body: str, mount: Mount) -> tuple[vfswasi.WASI, wasmtime.Instance]:
    wasi = vfswasi.WASI(version="preview1", preopens={"/d": mount})
    store = wasmtime.Store()
    linker = wasmtime.Linker(store.engine)
    wasi.define_in(linker, store)
    return wasi, linker.instantiate(store, wasmtime.Module(store.engine, wasmtime.wat2wasm(program(body))))


@pytest.mark.parametrize("status", [0, 7])
def test_a_command_in_a_store_of_the_callers_has_changes_when_it_has_ended(base: Path, status: int) -> None:
    wasi, instance = started(f"{WRITE} (call $exit (i32.const {status}))", Mount(base, overlay=True, apply="success"))
    assert wasi.changes == {}
    assert wasi.start(instance) == status
    assert str(wasi.changes["/d"]) == "M s"
    assert (base / "s").read_text() == ("so good" if status else "so faod")
    wasi.close()  # nothing is applied twice
    assert wasi.changes["/d"].read_bytes("s") == b"so faod"


def test_a_command_that_traps_has_changes_too(base: Path) -> None:
    wasi, instance = started(f"{WRITE} unreachable", Mount(base, overlay=True, apply="success"))
    with pytest.raises(wasmtime.Trap):
        wasi.start(instance)
    assert str(wasi.changes["/d"]) == "M s"
    assert (base / "s").read_text() == "so good"


def test_an_instance_that_is_not_started_has_them_when_it_is_closed(base: Path) -> None:
    guest = RawGuest({"/d": Mount(base, overlay=True, apply="success")})
    guest.write(guest.open("s", base=ALL_FILE_RIGHTS), b"SO")
    assert (guest.wasi.changes, (base / "s").read_text()) == ({}, "so good")
    guest.close()
    assert (str(guest.wasi.changes["/d"]), (base / "s").read_text()) == ("M s", "SO good")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"{WRITE} (call $exit (i32.const 7))", vfswasi.GuestExitError),
        (f"{WRITE} unreachable", vfswasi.GuestTrapError),
        (f"{WRITE} {ENDLESS}", vfswasi.GuestTimeoutError),
    ],
)
def test_an_error_of_a_run_has_what_was_changed(base: Path, body: str, kind: type[vfswasi.GuestError]) -> None:
    with vfswasi.Sandbox(program(body), preopens={"/d": Mount(base, overlay=True, apply="success")}) as sandbox:
        with pytest.raises(kind) as raised:
            sandbox.run(check=True, timeout=1)
        assert raised.value.result.changes["/d"].read_bytes("s") == b"so faod"
    assert (base / "s").read_text() == "so good"


def test_each_mount_is_applied_as_a_whole_and_one_that_cannot_be_is_told(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "second").mkdir()
    second = WRITE.replace("(i32.const 3)", "(i32.const 4)", 1)
    preopens = {name: Mount(tmp_path / name[1:], overlay=True, apply="success") for name in ("/base", "/second")}
    real = Changes.apply

    def late(changes: Changes, *arguments: Any) -> None:
        (base / "s").write_text("somebody else's")
        real(changes, *arguments)

    monkeypatch.setattr(Changes, "apply", late)
    with pytest.raises(UncommittedError, match="could not be stored: /base") as raised:
        vfswasi.run(program(WRITE + second), preopens=preopens)
    (lost,) = raised.value.files
    assert isinstance(lost.error.__cause__, ConflictError)
    assert list(lost.error.__cause__.conflicts) == ["s"]
    assert raised.value.result.changes["/base"].read_bytes("s") == b"so faod"
    assert (base / "s").read_text() == "somebody else's"
    assert (tmp_path / "second" / "s").read_text() == "so fa"


def test_changes_outlive_their_sandbox(base: Path) -> None:
    with vfswasi.Sandbox(program(WRITE), preopens={"/d": Mount(base, overlay=True)}) as sandbox:
        changes = sandbox.run().changes["/d"]
    assert changes.read_bytes("s") == b"so faod"
    assert "-so good" in changes.diff()
    changes.apply()
    assert (base / "s").read_text() == "so faod"


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_relative_path_means_what_it_meant_wherever_the_process_goes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: Any
) -> None:
    (tmp_path / "elsewhere" / "base").mkdir(parents=True)
    (tmp_path / "elsewhere" / "base" / "s").write_text("so good")
    monkeypatch.chdir(tmp_path)
    changes = []
    for source in ("base", Path("base"), "./base"):
        result = vfswasi.run(program(WRITE), preopens={"/d": Mount(source, overlay=True)}, isolation=isolation)
        changes.append(result.changes["/d"])
    monkeypatch.chdir(tmp_path / "elsewhere")
    for each in changes:
        assert "-so good" in each.diff()
    changes[0].apply()
    assert (base / "s").read_text() == "so faod"
    assert (tmp_path / "elsewhere" / "base" / "s").read_text() == "so good"


def test_sources_that_are_mounted_without_an_overlay_have_no_changes(base: Path) -> None:
    assert vfswasi.run(program(""), preopens={"/d": base}).changes == {}
