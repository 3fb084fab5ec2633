"""Faulty: counted calls, planned failures, delays; and hosts that meet them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import pytest

import vfswasi
from tests.rawguest import RawGuest
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Handle
from vfswasi.fs_backends.layers.faulty import CALL_NAMES, Call, Faulty
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink

TREE = {"f": b"data", "d": {"g": b""}, "e": {}, "l": Symlink("f")}

# Every call with arguments that work, in an order that works.
CALLS: dict[str, tuple[object, ...]] = {
    "stat": (("f",),),
    "walk": ((), ("d", "g")),
    "list": ((),),
    "listing_version": ((),),
    "device": (("f",),),
    "open": (("f",), True),
    "create": (("new",),),
    "mkdir": (("made",),),
    "rmdir": (("e",),),
    "rename": (("new",), ("moved",)),
    "symlink": ("t", ("link",)),
    "readlink": (("l",),),
    "link": (("f",), ("second",)),
    "set_times": (("f",), 1, 2),
    "remove": (("second",),),
    "sync_directory": ((), False),
    "handle.read_into": (0, bytearray(4)),
    "handle.write_from": (0, b"DA"),
    "handle.append": (b"!",),
    "handle.truncate": (9,),
    "handle.size": (),
    "handle.stat": (),
    "handle.ident": (),
    "handle.set_times": (3, 4),
    "handle.allocate": (0, 20),
    "handle.reserve": (0, 10),
    "handle.advise": (0, 0, 0),
    "handle.sync": (True,),
    "handle.close": (),
    "handle.discard": (),
    "finish": (True,),
    "close": (),
}


def errno_of(call: Callable[..., object], *args: object) -> Errno:
    with pytest.raises(FsError) as caught:
        call(*args)
    return caught.value.errno


def perform(backend: Backend, handle: Handle, name: str) -> Any:
    target: object = handle if name.startswith("handle.") else backend
    return getattr(target, name.removeprefix("handle."))(*CALLS[name])


def test_every_method_of_the_protocol_can_fail() -> None:
    protocol = {name for name, _ in inspect.getmembers(Backend, inspect.isfunction) if not name.startswith("_")}
    protocol |= {f"handle.{name}" for name, _ in inspect.getmembers(Handle, inspect.isfunction) if name[0] != "_"}
    protocol -= {"take_uncommitted", "traffic", "note_times"}  # these ask nothing of the store
    protocol -= {"version", "handle.true_stat"}  # they are made of `stat`
    assert protocol == CALL_NAMES == CALLS.keys()


def test_without_a_plan_everything_is_the_inner_store_and_counted() -> None:
    plain, inner = MemoryBackend(TREE), MemoryBackend(TREE)
    faulty = Faulty(inner)
    assert (faulty.caps, faulty.identity) == (inner.caps, inner.identity)
    handles = plain.open(("f",), True), faulty.open(("f",), True)
    for name in CALLS:
        results = [perform(*pair, name) for pair in zip((plain, faulty), handles, strict=True)]
        if name in ("stat", "handle.stat", "walk"):
            continue  # times differ; the trees are compared below
        if name not in ("open", "create"):
            if name == "list":
                results = [list(entries) for entries in results]
            assert results[0] == results[1], name
    assert plain.export() == inner.export() != TREE
    assert faulty.counts == {name: 2 if name == "open" else 1 for name in CALLS}
    assert faulty.total == len(CALLS) + 1


@pytest.mark.parametrize("name", sorted(CALL_NAMES - {"close", "handle.close"}))
def test_a_call_that_fails_does_not_reach_the_store(name: str) -> None:
    inner = MemoryBackend(TREE)
    if name in ("rename", "remove"):
        perform(inner, inner.create(("unused",)), "create")
        inner.link(("f",), ("second",))
    before = inner.export()
    faulty = Faulty(inner)
    handle = faulty.open(("f",), True)
    faulty.fail = {name: Errno.DQUOT}
    assert errno_of(perform, faulty, handle, name) is Errno.DQUOT
    assert inner.export() == before
    faulty.fail = None
    perform(faulty, handle, name)
    assert faulty.counts[name] == (3 if name == "open" else 2)


def test_a_failing_close_still_closes() -> None:
    inner = Faulty(MemoryBackend(TREE))
    faulty = Faulty(inner, {"close": Errno.IO, "handle.close": Errno.NOSPC})
    handle = faulty.open(("f",), False)
    assert (faulty.open_handles, inner.open_handles) == (1, 1)
    assert errno_of(handle.close) is Errno.NOSPC
    assert (faulty.open_handles, inner.open_handles) == (0, 0)
    assert errno_of(faulty.close) is Errno.IO
    assert inner.counts["close"] == 1


def outcomes(faulty: Faulty, count: int) -> str:
    """One letter for each call of `stat`: does it work?"""
    letters = []
    for _ in range(count):
        try:
            faulty.stat(("f",))
            letters.append("w")
        except FsError:
            letters.append("F")
    return "".join(letters)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({}, "wwwww"),
        ({1: Errno.IO}, "Fwwww"),
        ({3: Errno.IO, 5: Errno.IO}, "wwFwF"),
        ({"stat": Errno.IO}, "FFFFF"),
        ({"list": Errno.IO}, "wwwww"),
        ({("stat", 2): Errno.IO}, "wFwww"),
        ({"stat": Errno.IO, ("stat", 3): None}, "FFwFF"),
        ({"stat": Errno.IO, 4: None}, "FFFwF"),
        (lambda call: Errno.IO if call.nth > 3 else None, "wwwFF"),
        (lambda call: Errno.IO if "f" in call.key else None, "FFFFF"),
        (lambda call: Errno.IO if "g" in call.key else None, "wwwww"),
    ],
)
def test_plans(plan: Any, expected: str) -> None:
    assert outcomes(Faulty(MemoryBackend(TREE), plan), 5) == expected


def test_numbers_count_all_calls_and_nths_those_of_a_name() -> None:
    faulty = Faulty(MemoryBackend(TREE), {("stat", 2): Errno.IO, 4: Errno.ACCES})
    faulty.stat(("f",))
    faulty.list(())
    assert errno_of(faulty.stat, ("f",)) is Errno.IO
    assert errno_of(faulty.list, ()) is Errno.ACCES
    assert (faulty.total, faulty.counts) == (4, {"stat": 2, "list": 2})


def test_what_a_function_is_told() -> None:
    seen: list[Call] = []
    faulty = Faulty(MemoryBackend(TREE), seen.append)  # type: ignore[arg-type]
    handle = faulty.open(("f",), True)
    handle.read_into(0, bytearray(1))
    handle.read_into(0, bytearray(1))
    faulty.rename(("f",), ("h",))
    faulty.walk(("d",), ("g",))
    assert seen == [
        ("open", ("f",), 1, 1),
        ("handle.read_into", ("f",), 2, 1),
        ("handle.read_into", ("f",), 3, 2),
        ("rename", ("f",), 4, 1),
        ("walk", ("d", "g"), 5, 1),
    ]


@pytest.mark.parametrize(
    "fault", [ConnectionResetError("gone"), ValueError, KeyError("k"), KeyboardInterrupt, FsError(Errno.STALE)]
)
def test_any_exception_can_be_chosen(fault: Any) -> None:
    faulty = Faulty(MemoryBackend(TREE), {"stat": fault})
    kind = fault if isinstance(fault, type) else type(fault)
    with pytest.raises(kind) as caught:
        faulty.stat(("f",))
    assert isinstance(fault, type) or caught.value is fault


@pytest.mark.parametrize(
    "plan", [{"reed": Errno.IO}, {"read_into": Errno.IO}, {("handle", 1): None}, {0: None}, {("stat", 0): None}]
)
def test_a_plan_that_would_test_nothing_is_refused(plan: Any) -> None:
    with pytest.raises(ValueError, match=r"no call is named|counted from 1"):
        Faulty(MemoryBackend(), plan)
    faulty = Faulty(MemoryBackend())
    with pytest.raises(ValueError, match=r"no call is named|counted from 1"):
        faulty.fail = plan


def test_delays() -> None:
    faulty = Faulty(MemoryBackend(TREE), {"stat": Errno.IO}, delay_s=0.05)
    started = time.monotonic()
    assert errno_of(faulty.stat, ("f",)) is Errno.IO
    faulty.open(("f",), False).close()
    assert time.monotonic() - started >= 0.15
    faulty.delay_s = lambda call: 0.05 if call.name == "list" else 0
    for call, least in ((faulty.list, 0.05), (faulty.readlink, 0.0)):
        started = time.monotonic()
        call(("d",) if call == faulty.list else ("l",))
        assert time.monotonic() - started >= least


# The kernel above a store that fails


@pytest.mark.parametrize("errno", [errno for errno in Errno if errno is not Errno.SUCCESS])
def test_a_guest_reads_the_errno_of_its_store(errno: Errno) -> None:
    faulty = Faulty(MemoryBackend(TREE))
    with RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}) as guest:
        faulty.fail = {"mkdir": errno}
        assert guest.mkdir("new") == errno
        faulty.fail = None
        assert guest.mkdir("new") == Errno.SUCCESS
