"""Short runs of the fuzzers with fixed seeds; and that they see what they are there for.

Longer ones: `python -m tests.fuzz plans --minutes 30`, `python -m tests.fuzz archives --minutes 10`, and the same
with `servers` and `modules`.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import wasm_text
from tests.fs_backends.zip_forge import Entry, forge
from vfswasi.abi.layouts import ABIS
from vfswasi.engine.fast_path.vdso import Vdso
from vfswasi.engine.interruption import bodies, rewriting
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.archive import tree
from vfswasi.fs_backends.archive.ranges import RangeHandle
from vfswasi.fs_backends.archive.writable import WritableArchive
from vfswasi.fs_backends.budget import Budget
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.fs_backends.memory.file import MemoryHandle
from vfswasi.fs_backends.remote.http import answers as http_answers
from vfswasi.fs_backends.remote.http.client import HttpClient
from vfswasi.fs_backends.remote.http.urls import Root
from vfswasi.kernel.descriptor import OpenFile
from vfswasi.kernel.fdtable import FdTable
from vfswasi.kernel.files import sharing
from vfswasi.kernel.files.inode import FileInode
from vfswasi.syscalls.memory import GuestMemory

from . import archives, modules, plans, servers, shapes
from .calls import SIGNATURES, Step, words
from .corpus import corpus, damaged
from .runs import Setup

# About 10 seconds for each, on a machine that does nothing else.
PLANS, ARCHIVES, SERVERS, MODULES = 25, 10, 8, 60
MINUTES_MAX = 5
ATTEMPTS = 250


@pytest.fixture(scope="module")
def figures() -> plans.Figures:
    return plans.campaign(plans.STORES, 1, time.monotonic() + 60 * MINUTES_MAX, PLANS)


def test_plans_find_nothing(figures: plans.Figures) -> None:
    assert figures.failures == []
    assert figures.plans == PLANS * len(plans.STORES)


def test_every_function_is_called_and_does_not_only_fail(figures: plans.Figures) -> None:
    assert set(figures.calls) == set(SIGNATURES)
    hopeless = {name for name, answers in figures.errnos.items() if "SUCCESS" not in answers}
    assert hopeless <= {"proc_exit", "sock_accept", "sock_recv", "sock_send", "sock_shutdown"}


def test_archives_find_nothing() -> None:
    figures = archives.campaign(1, time.monotonic() + 60 * MINUTES_MAX, ARCHIVES)
    assert figures.failures == []
    assert sum(figures.archives.values()) == ARCHIVES * len(corpus())


@pytest.mark.parametrize("version", ABIS)
def test_signatures_fit_the_functions(version: str) -> None:
    for name, types in ABIS[version].functions.items():
        drawn = words(Step(name, tuple(range(len(types)))))
        assert sum(len(args) for _, args in drawn) == len(types), name


# What is broken on purpose: (where, method, what stands in its place), and the words with which it is noticed.


def _then_fail(original: Callable[..., Any]) -> Callable[..., Any]:
    def method(*args: Any) -> Any:
        original(*args)
        raise FsError(Errno.IO)

    return method


def _not_charged(original: Callable[..., Any]) -> Callable[..., Any]:
    def truncate(self: Any, size: int) -> None:
        used = self._space.used
        original(self, size)
        self._space.used = used

    return truncate


def _never_closed(_: Callable[..., Any]) -> Callable[..., Any]:
    def release(self: Any, keep: bool = True) -> None:
        self.references -= 1

    return release


def _outside(original: Callable[..., Any]) -> Callable[..., Any]:
    def create(self: Any, key: Any) -> Any:
        (self.place_of_test / "rootbreak" / "new").write_bytes(b"")
        return original(self, key)

    return create


def _moves(original: Callable[..., Any]) -> Callable[..., Any]:
    def pread(self: Any, buffers: Any, offset: int) -> int:
        count: int = original(self, buffers, offset)
        self.cursor = offset + count
        return count

    return pread


def _crashes(_: Callable[..., Any]) -> Callable[..., Any]:
    def method(*args: Any) -> Any:
        raise ValueError("broken")

    return method


def _keeps_number(original: Callable[..., Any]) -> Callable[..., Any]:
    def add(self: Any, descriptor: Any) -> int:
        free, self._free = self._free, []
        number: int = original(self, descriptor)
        self._free = free
        return number

    return add


def _more_rights(original: Callable[..., Any]) -> Callable[..., Any]:
    def write_entry(self: Any, fd: int, descriptor: Any, *rest: Any) -> None:
        rights, descriptor.rights = descriptor.rights, (1 << 29) - 1
        original(self, fd, descriptor, *rest)
        descriptor.rights = rights

    return write_entry


def _unchecked(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, ptr, length: None


BROKEN = {
    "a failure with an effect": ("memory", MemoryBackend, "mkdir", _then_fail, "changed the store"),
    "bytes that nobody pays for": ("memory", MemoryHandle, "truncate", _not_charged, "charged"),
    "a handle that stays open": ("zip", FileInode, "release", _never_closed, "handles are open"),
    "a file outside": ("local", LocalBackend, "create", _outside, "may not change"),
    "a pread that moves the cursor": ("memory", OpenFile, "pread", _moves, "moved the cursor"),
    "an exception": ("zip", MemoryBackend, "rmdir", _crashes, "reached the host"),
    "numbers that are not the lowest": ("memory", FdTable, "add", _keeps_number, "lowest free"),
    "rights in the fast path alone": ("memory", Vdso, "write_descriptor", _more_rights, "fast: "),
    "a disk that does otherwise": ("memory", LocalBackend, "create", _then_fail, "on disk: "),
    "runs that know nothing of each other": ("memory", sharing, "_others", lambda _: lambda share: [], "fast: "),
    "results that are not checked": ("memory", GuestMemory, "check", _unchecked, ""),
}


@pytest.mark.parametrize("label", BROKEN)
def test_what_is_broken_is_noticed(label: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind, owner, method, breaks, noticed = BROKEN[label]
    monkeypatch.setenv("VFSWASI_VDSO", "1")
    monkeypatch.setattr(owner, method, breaks(getattr(owner, method)))
    monkeypatch.setattr(LocalBackend, "place_of_test", tmp_path / "place", raising=False)
    for seed in range(ATTEMPTS):
        report = plans.examine(Setup.of(kind, seed), None, tmp_path / "place")
        if report.problems:
            assert any(noticed in text for text in report.problems)
            return
    raise AssertionError("not noticed")


def test_a_failure_is_told_as_a_small_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(MemoryBackend, "mkdir", _then_fail(MemoryBackend.mkdir))
    figures = plans.campaign(["memory"], 1, time.monotonic() + 60, 60)
    assert figures.failures
    made: dict[str, Any] = {}
    text = figures.failures[0].partition("\n")[2].replace("assert not", "found =")
    exec(text, {"Step": Step, "Setup": Setup, "examine": plans.examine}, made)
    assert len(made["plan"]) <= 4  # of 50
    assert made["plan"][-1].name == "path_create_directory"
    assert "changed the store" in made["found"][0]


def test_the_same_seed_makes_the_same_plan(tmp_path: Path) -> None:
    setup = Setup.of("memory", 5)
    one, other = (plans.examine(setup, None, tmp_path / "place") for _ in range(2))
    assert one.plan == other.plan
    assert [answer for answer, _ in one.outcome.answers] == [answer for answer, _ in other.outcome.answers]


# Archives


@pytest.mark.parametrize("name", corpus())
def test_what_is_not_damaged_is_read_whole(name: str, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    data = corpus()[name]
    assert archives.examine(data, tmp_path, seen) == []
    assert seen["mounted"] == (4 if name.startswith("zip") else 3)
    assert seen["regular_file read"]
    assert not any("not all read" in what or what.endswith("IO") for what in seen)


@pytest.mark.parametrize("name", corpus())
def test_the_corpus_is_what_the_standard_library_reads(name: str) -> None:
    data = corpus()[name]
    if name.startswith("zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            expected = {
                info.filename: archive.read(info) for info in archive.infolist() if not info.external_attr >> 16
            }
        backend: Any = archives._as_zip(data, Path())
    else:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = [info for info in tar.getmembers() if info.isreg()]
            expected = {info.name: tar.extractfile(info).read() for info in members}  # type: ignore[union-attr]
        backend = archives._as_tar(data, Path())
    for path, content in expected.items():
        if not path.endswith("/"):
            handle = backend.open(tuple(path.split("/")), False)
            buffer = bytearray(len(content) + 1)
            assert bytes(buffer[: handle.read_into(0, buffer)]) == content, path


def test_an_archive_that_is_rewritten_wrongly_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = corpus()["zip deflated"]
    seen: Counter[str] = Counter()
    assert archives.examine(data, tmp_path, seen) == []
    assert seen["rewritten"] == 1
    monkeypatch.setattr(WritableArchive, "commit", lambda self: None)
    assert "rewritten: " in archives.examine(data, tmp_path)[0]


def test_names_that_escape_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = forge(Entry("../escapes", b"data"))
    assert archives.examine(data, tmp_path) == []
    monkeypatch.setattr(tree, "_NO_NAMES", frozenset())
    assert "a name that no key can hold" in archives.examine(data, tmp_path)[0]


_UNCHARGED = """
from tests.fs_backends.zip_forge import Entry
from tests.fuzz import shapes
from vfswasi.fs_backends.charge import Charge
data = shapes.forge_zip(*[Entry(f"{number}/" + "a/" * 1000 + "f") for number in range(100)])
Charge.take = lambda self, count: None
shapes.MEMORY_MAX_BYTES = 16 << 20
print(shapes.examine(data))
"""


def test_an_archive_that_costs_too_much_to_mount_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes.forge_zip(*[Entry(f"{number}/" + "a/" * 1000 + "f") for number in range(100)])
    assert shapes.examine(data) == []
    # In a process of its own: one that has run many tests has memory to spare, and does not grow.
    command = [sys.executable, "-c", _UNCHARGED]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert "MiB to mount" in done.stdout
    monkeypatch.setattr(shapes, "SECONDS_MAX", 0.0)
    assert "s to mount" in shapes.examine(data)[0]


def test_a_wrong_exception_a_wrong_count_and_a_slow_archive_are_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = corpus()["tar ustar"]
    with monkeypatch.context() as patch:
        patch.setattr(RangeHandle, "read_into", _crashes(RangeHandle.read_into))
        assert "ValueError later" in archives.examine(data, tmp_path)[0]
    with monkeypatch.context() as patch:
        patch.setattr(RangeHandle, "read_into", lambda self, offset, buf: 1)
        assert any("1 bytes of" in text for text in archives.examine(data, tmp_path))
    monkeypatch.setattr(archives, "SECONDS_MAX", 0.0)
    assert "took" in archives.examine(data, tmp_path)[0]


def test_damage_follows_from_its_seed() -> None:
    for name in corpus():
        assert damaged(name, 3) == damaged(name, 3)
    assert len({damaged("zip deflated", seed)[0] for seed in range(20)}) > 15


# Servers


def test_servers_find_nothing() -> None:
    figures = servers.campaign(1, time.monotonic() + 60 * MINUTES_MAX, SERVERS)
    assert figures.failures == []
    assert figures.servers == SERVERS
    assert sum(count for what, count in figures.seen.items() if what.startswith("bad ")) > SERVERS


def test_an_honest_server_is_read_whole() -> None:
    seen: Counter[str] = Counter()
    assert servers.examine(1, seen, badness=0) == []
    assert (seen["mounted"], seen["archive"], seen["refused"]) == (2, 1, 0)
    assert not any(name.startswith(("read ", "open ", "bad ")) for name in seen)
    assert seen["read"] == 2 * len(servers.FILES) * 5


def _anywhere(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: True


BROKEN_CLIENTS = {
    "redirects to others": (HttpClient, "_may_leave", _anywhere, "redirects", "somebody else was asked"),
    "redirects out of the root": (Root, "holds", _anywhere, "redirects", "which is outside"),
    "ranges that are believed": (http_answers, "check_range", _anywhere, "shifted", "wrong bytes"),
    "an exception": (http_answers, "charset_of", _crashes, "page", "ValueError"),
    "buffers that are kept": (Budget, "give", lambda _: lambda self, count: None, "page", "not given back"),
}


@pytest.mark.parametrize("label", BROKEN_CLIENTS)
def test_a_client_that_is_broken_is_noticed(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, method, breaks, kind, noticed = BROKEN_CLIENTS[label]
    monkeypatch.setattr(owner, method, breaks(getattr(owner, method)))
    if label == "redirects to others":
        asked = HttpClient._asked
        monkeypatch.setattr(HttpClient, "_asked", lambda *args, **options: asked(*args, **{**options, "leaves": True}))
    for seed in range(1, 100):
        problems = servers.examine(seed, badness=0.5, kinds=[kind])
        if problems:
            assert any(noticed in text for text in problems)
            return
    raise AssertionError("not noticed")


# Modules


def test_modules_find_nothing() -> None:
    figures = modules.campaign(1, time.monotonic() + 60 * MINUTES_MAX, MODULES)
    assert figures.failures == []
    assert figures.modules > MODULES * 0.8
    seen = figures.seen
    assert min(seen["loops"], seen["entries"], seen["memory done"], seen["all done"]) > MODULES // 6
    assert seen["damaged: valid, rewritten"]
    assert seen["damaged: invalid, refused"]


def _a_module(place: Path) -> bytes:
    """One with loops and calls in it, whose functions can be called."""
    for seed in range(1, 200, 2):
        wasm = modules.made_up(seed, place)
        seen: Counter[str] = Counter()
        assert modules.examine(wasm, seen) == []
        if seen["memory done"] and seen["loops"] > 1 and seen["entries"] > 1:
            return wasm
    raise AssertionError("none is made")


def _unchecked_loop(original: Callable[..., bytes]) -> Callable[..., bytes]:
    return lambda wasm, start, end, cuts, check: original(wasm, start, end, cuts[:-1], check)


def _misplaced(original: Callable[..., bytes]) -> Callable[..., bytes]:
    return lambda wasm, start, end, cuts, check: original(wasm, start, end, [end - 1 for _ in cuts], check)


def _other_check(original: Callable[..., bytes]) -> Callable[..., bytes]:
    return lambda wasm, start, end, cuts, check: original(wasm, start, end, cuts, b"\x41\x01\x1a")


def _no_module(original: Callable[..., bytes]) -> Callable[..., bytes]:
    return lambda wasm, start, end, cuts, check: original(wasm, start, end, cuts, b"\x1a")


BROKEN_REWRITERS = {
    "a check is missing": (rewriting, "with_checks", _unchecked_loop, "another module"),
    "checks stand elsewhere": (rewriting, "with_checks", _misplaced, "another module"),
    "checks are something else": (rewriting, "with_checks", _other_check, "another module"),
    "what comes out is not valid": (rewriting, "with_checks", _no_module, "not valid with checks"),
    "too much is refused": (bodies, "_SIZE_MAX_BYTES", lambda _: 20, "refused: "),
}


@pytest.mark.parametrize("label", BROKEN_REWRITERS)
def test_a_rewriter_that_is_broken_is_noticed(label: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    owner, name, breaks, noticed = BROKEN_REWRITERS[label]
    wasm = _a_module(tmp_path)
    monkeypatch.setattr(owner, name, breaks(getattr(owner, name)))
    assert noticed in modules.examine(wasm, Counter())[0]


def test_a_module_that_does_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its text, which says so before, is not looked at."""
    monkeypatch.setattr(wasm_text, "difference", lambda original, rewritten: "")
    one = _a_module(tmp_path)
    others = [wasm for seed in range(20) if (wasm := modules.made_up(seed, tmp_path)) != one]
    assert modules.examine(one, Counter(), rewriting.rewrite(one)) == []
    assert all(modules.examine(one, Counter(), rewriting.rewrite(other)) for other in others)


def test_what_comes_of_damaged_modules_besides_refusals_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wasm = _a_module(tmp_path)
    monkeypatch.setattr(modules, "SECONDS_MAX", 0.0)
    assert "s for bytes that are damaged" in modules.examine_damaged(wasm, Counter())[0]
    monkeypatch.setattr(rewriting, "_free_name", lambda taken: [][1])
    assert "IndexError from bytes" in modules.examine_damaged(wasm, Counter())[0]


def test_the_same_seed_makes_the_same_module(tmp_path: Path) -> None:
    one, other = (modules.made_up(7, tmp_path) for _ in range(2))
    assert one == other
    assert modules.damage(one, random.Random(7)) == modules.damage(one, random.Random(7)) != one
