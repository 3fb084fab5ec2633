"""E1, E4: each limit, and the errno or the exception that meets it; and what a run says that it has used."""

from __future__ import annotations

import dataclasses
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.cli import main
from vfswasi.engine.compiling import modules
from vfswasi.errors import Errno
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.fs_backends.waiting import Allowance, bounded_by
from vfswasi.limits import LIMIT_NAMES, Limits
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.options import parse_limits

from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest, pack_subscriptions
from ..slow_modules import of_values_through_loops
from ..wat_programs import ENDLESS, program

TESTS: dict[str, Callable[..., None]] = {}


def of(*limits: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks the test of some limits."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        TESTS.update(dict.fromkeys(limits, test))
        return test

    return mark


def run(body: str, *, functions: str = "", **limits: Any) -> vfswasi.Result:
    """A guest whose `_start` is `body`, under these limits."""
    wasm = f'(module (memory (export "memory") 1) {functions} (func (export "_start") {body}))'.encode()
    return vfswasi.run(wasm, limits=Limits(**limits), stdout=vfswasi.DEVNULL)


def test_every_limit_has_a_test() -> None:
    assert set(TESTS) == set(LIMIT_NAMES)


@pytest.mark.alone
@of("wall_seconds")
def test_wall_seconds_is_a_timeout() -> None:
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"still running after 0.05 seconds") as caught:
        run(ENDLESS, wall_seconds=0.05)
    assert caught.value.limit == "wall_seconds"
    assert isinstance(caught.value, vfswasi.GuestLimitError)
    assert 0.05 <= caught.value.usage.wall_seconds < 1
    wasm = program("")
    assert vfswasi.run(wasm, limits=Limits(wall_seconds=0.0), timeout=20).returncode == 0, "timeout takes its place"
    assert vfswasi.run(wasm, limits=Limits(wall_seconds=None)).returncode == 0
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(program(ENDLESS), limits=Limits(wall_seconds=None), timeout=0.02)


@of("compile_seconds", "compile_memory_bytes")
def test_compiling_has_limits_of_its_own() -> None:
    wasm = of_values_through_loops(16_384)
    with pytest.raises(vfswasi.CompileTimeoutError, match=r"took longer than compile_seconds \(0.2 s\)") as late:
        vfswasi.run(wasm, limits=Limits(compile_seconds=0.2), timeout=100)
    assert late.value.limit == "compile_seconds"
    with pytest.raises(vfswasi.CompileLimitError, match=r"more memory than compile_memory_bytes \(100,000,000") as big:
        vfswasi.run(wasm, limits=Limits(compile_memory_bytes=100_000_000))
    assert big.value.limit == "compile_memory_bytes"
    assert not isinstance(big.value, TimeoutError)
    assert vfswasi.run(program("(nop) (nop)"), limits=Limits(compile_seconds=None, wall_seconds=20)).returncode == 0
    assert parse_limits(["compile_seconds=1.5", "compile_memory_bytes=1G"]) == Limits(
        compile_seconds=1.5, compile_memory_bytes=1 << 30
    )
    assert parse_limits(["compile_seconds=none"]).compile_seconds is None
    for value in (-1, float("nan")):
        with pytest.raises(ValueError, match="compile_seconds"):
            Limits(compile_seconds=value)


@of("fuel")
@pytest.mark.parametrize("vdso", [True, False])
def test_fuel_ends_a_guest_that_computes(vdso: bool) -> None:
    wasm = program(f"(call $say (i32.const 1)) {ENDLESS}")
    with pytest.raises(vfswasi.GuestFuelError, match="used up its fuel") as caught:
        vfswasi.run(wasm, limits=Limits(fuel=1_000_000), capture_output=True, vdso=vdso, timeout=60)
    assert caught.value.limit == "fuel"
    assert caught.value.stdout == b"so fa"
    assert caught.value.usage.fuel == 1_000_000


def test_fuel_that_is_enough_is_counted_and_the_same_each_time() -> None:
    loop = """(local $i i32) (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))"""
    used = {run(loop, fuel=10**9).usage.fuel for _ in range(3)}
    assert len(used) == 1
    (fuel,) = used
    assert fuel is not None
    assert 1000 < fuel < 100_000
    assert run(loop).usage.fuel is None
    assert run(loop, fuel=fuel).returncode == 0
    with pytest.raises(vfswasi.GuestFuelError):
        run(loop, fuel=fuel // 2)  # it is looked at in loops and at the start of functions


def test_fuel_counts_in_a_start_section() -> None:
    wasm = f'(module (memory (export "memory") 1) (func $f {ENDLESS}) (start $f) (func (export "_start")))'.encode()
    with pytest.raises(vfswasi.GuestFuelError):
        vfswasi.run(wasm, limits=Limits(fuel=10_000), timeout=60)


@of("memory_bytes")
def test_memory_bytes() -> None:
    grow = "(if (i32.ne (memory.grow (i32.const 2)) (i32.const {})) (then unreachable))"
    assert run(grow.format(-1), memory_bytes=2 * 65536).returncode == 0
    result = run(grow.format(1), memory_bytes=3 * 65536)
    assert (result.returncode, result.usage.memory_bytes) == (0, 3 * 65536)
    with pytest.raises(vfswasi.InvalidModuleError, match="memory"):
        run("", memory_bytes=65535)


@of("memories")
def test_memories() -> None:
    more = "(memory $b 1) (memory $c 1)"
    assert run("", functions=more, memories=3).returncode == 0
    with pytest.raises(vfswasi.InvalidModuleError, match="memor"):
        run("", functions=more, memories=2)


@of("tables")
def test_tables() -> None:
    more = "(table 1 funcref) (table 1 externref)"
    assert run("", functions=more, tables=2).returncode == 0
    with pytest.raises(vfswasi.InvalidModuleError, match="table"):
        run("", functions=more, tables=1)


@of("table_elements")
def test_table_elements() -> None:
    grow = "(if (i32.ne (table.grow (ref.null func) (i32.const 100)) (i32.const -1)) (then unreachable))"
    table = "(table 1 funcref)"
    assert run(grow, functions=table, table_elements=100).returncode == 0
    assert run(grow, functions=table, table_elements=101).returncode == -6, "there it grows"
    with pytest.raises(vfswasi.InvalidModuleError, match="table"):
        run("", functions="(table 200 funcref)", table_elements=199)


def test_a_guest_brings_no_other_instances() -> None:
    """It is one instance, and the two of the fast path are ours; nothing in a core module makes more."""
    assert vfswasi.run(program("(call $say (i32.const 1))"), stdout=vfswasi.DEVNULL, vdso=True).returncode == 0


@of("descriptors")
def test_descriptors() -> None:
    with RawGuest({"/d": {"f": b""}}, limits=Limits(descriptors=7)) as guest:
        opened = [guest.open("f") for _ in range(3)]
        assert guest.try_open("f")[0] is Errno.MFILE
        assert guest.try_open("new", oflags=c.OFLAG_CREAT)[0] is Errno.MFILE
        assert guest.names == guest.names
        guest.close_fd(opened[1])
        assert guest.open("f") == opened[1]


@of("inodes", "mount_bytes", "stored_bytes", "file_bytes")
def test_what_is_stored() -> None:
    """In detail in test_quotas.py."""
    limits = {"inodes": Errno.DQUOT, "mount_bytes": Errno.DQUOT, "stored_bytes": Errno.DQUOT, "file_bytes": Errno.FBIG}
    for name, errno in limits.items():
        with RawGuest({"/d": {}}, limits=Limits(**{name: 1})) as guest:
            fd = guest.create("f", b"1")
            met = guest.mkdir("d") if name == "inodes" else guest.call("fd_filestat_set_size", fd, 2)
            assert met is errno, name


@of("memory_files_bytes")
def test_memory_files_bytes() -> None:
    """Room beside what the mount was given, however much that was."""
    for tree in ({}, {"given": b"x" * 1000}):
        with RawGuest({"/d": tree}, limits=Limits(memory_files_bytes=100)) as guest:
            fd = guest.create("f")
            assert guest.call("fd_filestat_set_size", fd, 101) is Errno.NOSPC
            guest.must("fd_filestat_set_size", fd, 100)
    result = vfswasi.run(program(""), preopens={"/d": {"big": bytes(200 << 20)}})
    assert result.returncode == 0


@of("path_bytes")
def test_path_bytes() -> None:
    with RawGuest({"/d": {"l": vfswasi.Symlink("x" * 21)}}, limits=Limits(path_bytes=20)) as guest:
        assert guest.mkdir("a" * 20) is Errno.SUCCESS
        assert guest.mkdir("a" * 21) is guest.mkdir("./" + "a" * 19) is Errno.NAMETOOLONG
        assert guest.symlink("a" * 21, "l2") is Errno.NAMETOOLONG
        assert guest.try_open("l")[0] is Errno.NAMETOOLONG
    with RawGuest({"/d": {}}) as guest:
        assert guest.mkdir("./" * 2048 + "d") is Errno.NAMETOOLONG
        assert guest.mkdir("./" * 2047 + "d") is Errno.SUCCESS


@of("name_bytes")
def test_name_bytes() -> None:
    with RawGuest({"/d": {}}, limits=Limits(name_bytes=5)) as guest:
        for name, errno in (("abcde", 0), ("abcdef", 1), ("\u20ac", 0), ("\u20ac\u20ac", 1), ("abcde/x/abcdef", 1)):
            assert guest.mkdir(name) in ((Errno.NAMETOOLONG,) if errno else (Errno.SUCCESS,)), name
        assert guest.rename("abcde", "abcdef") is guest.symlink("x", "abcdef") is Errno.NAMETOOLONG
        assert guest.try_open("abcdef", oflags=c.OFLAG_CREAT | c.OFLAG_EXCL)[0] is Errno.NAMETOOLONG
    with RawGuest({"/d": {}}) as guest:
        assert guest.mkdir("n" * 255) is Errno.SUCCESS
        assert guest.mkdir("n" * 256) is Errno.NAMETOOLONG


@of("depth")
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_depth(kind: str, tmp_path: Path) -> None:
    source = vfswasi.Mount({} if kind == "memory" else tmp_path, rw=True)
    with RawGuest({"/d": source}, limits=Limits(depth=4)) as guest:
        assert guest.mkdir("a") is guest.mkdir("a/b") is guest.mkdir("a/b/c") is guest.mkdir("a/b/c/d") is Errno.SUCCESS
        assert guest.mkdir("a/b/c/d/e") is Errno.NAMETOOLONG
        deep = guest.opendir("a/b/c/d")
        for call in (guest.mkdir, guest.unlink):
            assert call("e", fd=deep) is Errno.NAMETOOLONG
        assert guest.try_open("e", fd=deep, oflags=c.OFLAG_CREAT | c.OFLAG_EXCL)[0] is Errno.NAMETOOLONG
        assert guest.try_open("./e", fd=deep, oflags=c.OFLAG_CREAT)[0] is Errno.NAMETOOLONG
        assert guest.mkdir("x") is Errno.SUCCESS
        assert guest.rename("x", "e", new_fd=deep) is Errno.NAMETOOLONG
        assert guest.symlink("a/b/c/d/e", "l") is Errno.SUCCESS
        assert guest.try_open("l")[0] is Errno.NAMETOOLONG
        assert guest.try_open("./a/../a/b/c/d", base=0)[0] is Errno.SUCCESS, "dots are no depth"


def test_a_tree_that_grows_downwards_by_renames_cannot_be_walked_beyond_its_depth() -> None:
    """A rename may push a subtree below the limit; nothing there can be reached or added to."""
    with RawGuest({"/d": {}}, limits=Limits(depth=8)) as guest:
        guest.mkdir("top")
        for _ in range(40):
            path = "next"
            assert guest.mkdir(path) is Errno.SUCCESS
            for _ in range(5):
                path += "/n"
                assert guest.mkdir(path) is Errno.SUCCESS
            assert guest.rename("top", f"{path}/top") is Errno.SUCCESS
            assert guest.rename("next", "top") is Errno.SUCCESS
        assert guest.mkdir("top/" + "n/" * 5 + "top/n/n") is Errno.NAMETOOLONG


@of("call_bytes")
@pytest.mark.parametrize("vdso", [True, False])
def test_call_bytes_makes_counts_smaller(vdso: bool) -> None:
    with RawGuest({"/d": {"f": b"0123456789" * 3}}, limits=Limits(call_bytes=10), vdso=vdso, stdin=b"i" * 30) as guest:
        fd = guest.create("g")
        assert guest.write(fd, b"x" * 30) == 10
        assert guest.pwrite(fd, b"y" * 11, 0) == 10
        read = guest.open("f")
        for _ in range(5):
            guest.must("fd_seek", read, 0, 0, 0x3000)
            iovs = guest.iovs((FREE, 4), (FREE + 4, 3), (FREE + 7, 20), (FREE + 27, 1))
            guest.must("fd_read", read, *iovs, 0x3000)
            assert guest.u32() == 10
            assert guest.pread(read, 20, 0) == b"0123456789"
        assert guest.pread(read, 30, 0)[:10] == b"0123456789"
        assert guest.read(0, 30) == b"i" * 10
        assert guest.write(1, b"o" * 30) == 10


@pytest.mark.parametrize("vdso", [False, True])
def test_call_bytes_hold_for_the_fast_path_too(vdso: bool) -> None:
    """Where a call could be answered from a window that is larger than the limit."""
    size = 100_000
    with RawGuest({"/d": {"f": bytes(200_000)}}, vdso=vdso, limits=Limits(call_bytes=size)) as guest:
        fd = guest.open("f")
        for _ in range(6):
            guest.must("fd_pread", fd, *guest.iovs((0, 70_000), (70_000, 70_000)), 0, 0x3F000)
            assert guest.u32(0x3F000) == size


def test_removing_what_was_there_before_makes_no_room_for_more_names() -> None:
    store = MemoryBackend({str(number): b"" for number in range(10)})
    with RawGuest({"/d": vfswasi.Mount(store, rw=True), "/e": {}}, limits=Limits(inodes=3)) as guest:
        assert all(guest.unlink(str(number)) is Errno.SUCCESS for number in range(10))
        assert [guest.mkdir(f"n{number}", fd=4) for number in range(4)] == [Errno.SUCCESS] * 3 + [Errno.DQUOT]


@of("iovecs")
def test_iovecs() -> None:
    with RawGuest({"/d": {"f": b"12345"}}, limits=Limits(iovecs=3)) as guest:
        fd = guest.open("f", base=ALL_FILE_RIGHTS)
        guest.poke(FREE, struct.pack("<II", FREE + 1000, 1) * 4)
        for name in ("fd_read", "fd_write"):
            assert guest.call(name, fd, FREE, 3, 0x3000) is Errno.SUCCESS
            assert guest.call(name, fd, FREE, 4, 0x3000) is Errno.INVAL
        for name in ("fd_pread", "fd_pwrite"):
            assert guest.call(name, fd, FREE, 4, 0, 0x3000) is Errno.INVAL


@of("subscriptions")
def test_subscriptions() -> None:
    with RawGuest(limits=Limits(subscriptions=2)) as guest:
        guest.poke(FREE, pack_subscriptions(guest.abi, [(1, "clock", 1, 0, 0)] * 3))
        assert guest.call("poll_oneoff", FREE, 0x10000, 2, 0x3000) is Errno.SUCCESS
        assert guest.call("poll_oneoff", FREE, 0x10000, 3, 0x3000) is Errno.INVAL


@of("directory_entries")
@pytest.mark.parametrize("kind", ["memory", "local", "fsspec"])
def test_directory_entries(kind: str, tmp_path: Path) -> None:
    """Of each listing by itself; names are still found, and made."""
    names = [f"f{number}" for number in range(4)]
    tree: Any = tmp_path
    if kind == "memory":
        tree = dict.fromkeys(names, b"") | {"sub": dict.fromkeys(names, b"")}
    else:
        for directory in (tmp_path, tmp_path / "sub"):
            directory.mkdir(exist_ok=True)
            for name in names:
                (directory / name).touch()
    if kind == "fsspec":
        tree = pytest.importorskip("fsspec.implementations.dirfs").DirFileSystem(
            str(tmp_path), pytest.importorskip("fsspec.implementations.local").LocalFileSystem()
        )
    with RawGuest({"/d": vfswasi.Mount(tree, rw=True)}, limits=Limits(directory_entries=5)) as guest:
        assert len(guest.names()) == 5
        assert len(guest.names("sub")) == 4
        guest.create("more")
        assert guest.call("fd_readdir", 3, FREE, 4096, 0, 0x3000) is Errno.NOMEM
        assert len(guest.names("sub")) == 4
        assert guest.stat("f3").size == 0
        assert guest.rmdir("sub") is Errno.NOTEMPTY
        guest.unlink("f3")
        assert len(guest.names()) == 5


@pytest.mark.parametrize("kind", ["local", "fsspec"])
def test_to_remove_a_directory_that_is_too_long_to_list_is_notempty(kind: str, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / "d" / name).mkdir(parents=True)
    (tmp_path / "other").mkdir()
    tree: Any = tmp_path
    if kind == "fsspec":
        files = pytest.importorskip("fsspec.implementations.local").LocalFileSystem()
        tree = pytest.importorskip("fsspec.implementations.dirfs").DirFileSystem(str(tmp_path), files)
    with RawGuest({"/d": vfswasi.Mount(tree, rw=True)}, limits=Limits(directory_entries=2)) as guest:
        assert guest.rmdir("d") is Errno.NOTEMPTY
        assert guest.rename("other", "d") is Errno.NOTEMPTY


@of("output_bytes")
def test_output_bytes() -> None:
    wasm = program("(call $say (i32.const 1)) (call $say (i32.const 1)) (call $say (i32.const 2))")
    result = vfswasi.run(wasm, capture_output=True, limits=Limits(output_bytes=8))
    assert (result.stdout, result.stderr) == (b"so faso ", b"so fa")
    assert result.usage.output_bytes == 13


@of("remote_requests", "remote_bytes")
def test_remote_limits(tmp_path: Path) -> None:
    """With real servers in tests/storage/test_remote_limits.py."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    files.store.clear()
    for number in range(5):
        files.pipe_file(f"/dir{number}/f", b"x" * 1000)
    mount = vfswasi.Mount(files, rw=True, root="/")
    try:
        with RawGuest({"/d": mount}, limits=Limits(remote_bytes=2500)) as guest:
            assert [guest.contents(f"dir{number}/f") for number in range(2)] == [b"x" * 1000] * 2
            fd = guest.open("dir2/f")
            assert guest.call("fd_read", fd, *guest.iovs((FREE, 1000)), 0x3000) is Errno.DQUOT
        with RawGuest({"/d": mount}, limits=Limits(remote_requests=3)) as guest:
            met = [guest.try_open(f"dir{number}/f")[0] for number in range(5)]
            assert met[-1] is Errno.DQUOT
            assert met == sorted(met), "once it is used up it stays so"
    finally:
        files.store.clear()


@of("module_bytes")
def test_module_bytes(tmp_path: Path) -> None:
    wasm = program("")
    (tmp_path / "p.wasm").write_bytes(wasm)
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p.wasm", wasm)
    given = [tmp_path / "p.wasm", io.BytesIO(wasm), f"zip://p.wasm::{tmp_path}/p.zip"]
    for module in given:
        assert vfswasi.run(module, limits=Limits(module_bytes=len(wasm))).returncode == 0
        if isinstance(module, io.BytesIO):
            module.seek(0)
        with pytest.raises(vfswasi.ModuleError, match=f"{len(wasm) - 1:,}"):
            vfswasi.run(module, limits=Limits(module_bytes=len(wasm) - 1))
    with pytest.raises(vfswasi.ModuleError, match=r"Limits\.module_bytes"):
        vfswasi.run("/dev/zero", limits=Limits(module_bytes=1 << 20))


@of("args_bytes")
def test_args_bytes() -> None:
    wasm = program("")
    given: dict[str, Any] = {"argv0": "p", "args": ["ab"], "env": {"A": "1"}}
    assert vfswasi.run(wasm, limits=Limits(args_bytes=9), **given).returncode == 0
    with pytest.raises(ValueError, match="args_bytes"):
        vfswasi.run(wasm, limits=Limits(args_bytes=8), **given)
    with pytest.raises(ValueError, match="args_bytes"):
        vfswasi.WASI(version="preview1", args=["a" * 8], limits=Limits(args_bytes=8))


@of("window_bytes")
def test_window_bytes_zero_is_no_fast_path() -> None:
    result = vfswasi.run(program("(call $say (i32.const 1))" * 20), stdout=vfswasi.PIPE, limits=Limits(window_bytes=0))
    assert result.stdout == b"so fa" * 20
    assert not any(result.fast_calls.values())


@of("stack_bytes")
def test_stack_bytes() -> None:
    """A program of 30,000 frames runs; half the stack holds half as many; it is a trap where there is no more."""
    functions = """(func $f (param i32)
      (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))))
      (i32.store (i32.const 0) (i32.const 1)))"""

    def depth(count: int, **limits: int) -> str | None:
        return run(f"(call $f (i32.const {count}))", functions=functions, **limits).limit

    assert depth(30_000) is None
    assert depth(200_000) is None
    assert depth(1_000_000) == "stack"
    assert depth(1_000_000, stack_bytes=64 << 20) is None
    assert depth(10_000, stack_bytes=1 << 20) is None
    assert depth(10_000, stack_bytes=128 << 10) == "stack"
    assert depth(1_000, stack_bytes=0) is None, "64 KiB are the least"
    assert depth(10_000, stack_bytes=0) == "stack"
    assert depth(30_000, fuel=10_000_000) is None
    with pytest.raises(ValueError, match=r"stack_bytes must be at most"):
        Limits(stack_bytes=(1 << 30) + 1)


@pytest.mark.usefixtures("interruption")
def test_the_size_of_the_stack_compiles_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(modules, "_CACHE_WORTH_S", -1.0)
    monkeypatch.setattr(modules, "_CACHE_WORTH_BYTES", 0)
    compiled: list[str] = []

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **more: compiled.append(args[2]) or original(*args, **more)

    for name in ("_compile", "_compile_rewritten"):
        monkeypatch.setattr(modules, name, noting(getattr(modules, name)))
    wasm = program("(drop (i32.const 987)) (call $say (i32.const 1))")
    for size in (1 << 20, 1 << 24, 1 << 20):
        assert vfswasi.run(wasm, stdout=vfswasi.PIPE, argv0="p", limits=Limits(stack_bytes=size)).stdout == b"so fa"
    assert len([name for name in compiled if not name.endswith(".wat")]) == 1


def test_a_stack_that_is_too_deep_is_named() -> None:
    result = run("(call $f)", functions="(func $f (call $f) (call $f))")
    assert (result.returncode, result.limit) == (-6, "stack")
    assert "call stack exhausted" in (result.trap or "")
    assert run("unreachable").limit is None


# Usage


def test_usage_is_what_was_used() -> None:
    with RawGuest({"/d": {}}) as guest:
        process = guest.wasi._process
        guest.close_fd(guest.create("f", b"x" * 100))
        guest.close_fd(guest.create("g", b"x" * 50))
        guest.unlink("f")
        guest.unlink("g")
        assert (process.quota.inodes, process.quota.bytes) == (0, 0)
        assert (process.quota.peak_inodes, process.quota.peak_bytes) == (2, 150)
        assert process.fds.peak == 5
    result = vfswasi.run(program(""), preopens={"/d": {}})
    assert result.usage == dataclasses.replace(
        result.usage, memory_bytes=65536, descriptors=4, stored_bytes=0, inodes=0
    )
    assert 0 < result.usage.wall_seconds < 10


def test_usage_comes_with_errors_too() -> None:
    with pytest.raises(vfswasi.GuestTrapError) as trapped:
        vfswasi.run(program("unreachable"), check=True)
    assert trapped.value.usage.wall_seconds > 0


# The arguments


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_bad_values_name_the_limit(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: -1})
    for value in ("1", 1.5j, b"1", True, [1]):
        with pytest.raises(TypeError, match=name):
            Limits(**{name: value})  # type: ignore[arg-type]
    if name not in ("fuel", "wall_seconds", "compile_seconds", "compile_memory_bytes"):
        with pytest.raises(TypeError, match=name):
            Limits(**{name: None})
    assert getattr(Limits(**{name: 100}), name) == 100


def test_impossible_values() -> None:
    for name, value in {"name_bytes": 256, "call_bytes": 2**32, "fuel": 2**63}.items():
        with pytest.raises(ValueError, match=name):
            Limits(**{name: value})
    with pytest.raises(ValueError, match="NaN"):
        Limits(wall_seconds=float("nan"))
    assert Limits(wall_seconds=float("inf")).wall_seconds == float("inf")
    assert vfswasi.run(program(""), limits=Limits(wall_seconds=float("inf"))).returncode == 0


def test_the_command_line_spells_them_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["memory_bytes=64M", "inodes=1_000", "fuel=none", "wall_seconds=2.5", "stored_bytes=1GiB"]
    assert parse_limits(texts) == Limits(
        memory_bytes=64 << 20, inodes=1000, fuel=None, wall_seconds=2.5, stored_bytes=1 << 30
    )
    for text, message in {
        "memory_byte=1": "did you mean memory_bytes",
        "xyz=1": "there are wall_seconds",
        "inodes": "NAME=VALUE",
        "inodes=many": "many",
        "memory_bytes=1X": "size",
        "inodes=none": "inodes",
        "name_bytes=300": "255",
    }.items():
        with pytest.raises(ValueError, match=message):
            parse_limits([text])
    wasm = tmp_path / "p.wat"
    wasm.write_bytes(program(ENDLESS))
    assert main(["run", "--limit", "fuel=1000", str(wasm)]) == 124
    assert "used up its fuel of 1,000" in capsys.readouterr().err
    assert main(["run", "--limit", "wall_seconds=0.05", str(wasm)]) == 124
    assert main(["run", "--limit", "inode=3", str(wasm)]) == 125
    assert "did you mean inodes?" in capsys.readouterr().err


def test_a_store_of_the_hosts_keeps_its_own_limits_across_runs() -> None:
    store = MemoryBackend(max_bytes=100, max_inodes=2)
    for _ in range(3):
        with RawGuest({"/d": store}) as guest:
            fd = guest.create("f")
            assert guest.call("fd_filestat_set_size", fd, 101) is Errno.NOSPC
            guest.mkdir("d")
            assert guest.mkdir("e") is Errno.NOSPC


@of("index_bytes")
def test_index_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as made:
        for number in range(2000):
            made.addfile(tarfile.TarInfo(f"d{number}/f"))
    little = bounded_by(None, Allowance(0, 0, 0, index_bytes=1 << 20))
    with little, pytest.raises(vfswasi.MountError, match=r"Limits\.index_bytes \(1,048,576 bytes\); raise the limit"):
        open_source(str(path))
    with bounded_by(None, Allowance(0, 0, 0, index_bytes=4 << 20)):
        open_source(str(path)).close()


@of("buffer_bytes")
def test_buffer_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as made:
        made.writestr("f", bytes(1 << 20))
    open_and_read = (
        '(module (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32)'
        ' (result i32))) (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))'
        ' (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
        ' (memory (export "memory") 1) (data (i32.const 0) "f") (data (i32.const 8) "\\40\\00\\00\\00\\10\\00\\00\\00")'
        ' (func (export "_start") (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)'
        " (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)) (then unreachable))"
        " (call $exit (call $read (i32.load (i32.const 32)) (i32.const 8) (i32.const 1) (i32.const 40)))))"
    )
    for limit, errno in ((64 << 10, Errno.NOMEM), (64 << 20, Errno.SUCCESS)):
        limits = Limits(buffer_bytes=limit)
        result = vfswasi.run(open_and_read.encode(), preopens={"/d": str(path)}, limits=limits, vdso=False)
        assert result.returncode == errno
