"""Inode numbers of stores that have none of their own."""

from __future__ import annotations

import itertools

import vfswasi
from vfswasi.kernel.files.serials import Serials

from ..rawguest import RawGuest
from .test_weak_stores import WeakStore


def test_a_walk_remembers_nothing_and_sees_the_same_numbers_again() -> None:
    serials = Serials()
    keys = [("bucket", f"name-{number}") for number in range(10_000)] + [(), ("a",), ("a", "b"), ("ab",)]
    numbers = [serials.of(key) for key in keys]
    assert len(set(numbers)) == len(keys)
    assert all(0 < number < 1 << 63 for number in numbers)
    assert not serials._known
    assert [Serials().of(key) for key in keys] == numbers


def test_no_two_that_are_there_at_once_have_one_number() -> None:
    """Files are made, renamed and removed under three names in every order of six steps."""
    keys = [("a",), ("b",), ("c",)]
    steps = [*itertools.permutations(keys, 2), *((key,) for key in keys)]
    for plan in itertools.product(steps, repeat=4):
        serials = Serials()
        there = {key: serials.of(key) for key in keys}
        unlinked_but_open: set[int] = set()
        for step in plan:
            if len(step) == 2:
                old, new = step
                serials.removed(new, True)
                unlinked_but_open.add(there[new])
                serials.renamed(old, new, False)
                there[new] = there[old]
                assert serials.of(new) == there[new], "the number follows"
                there[old] = serials.of(old)  # something new is made there
            else:
                serials.removed(step[0], True)
                unlinked_but_open.add(there[step[0]])
                there[step[0]] = serials.of(step[0])
            assert len(set(there.values())) == len(keys)
            assert unlinked_but_open.isdisjoint(there.values())


def test_what_is_remembered_is_bounded() -> None:
    serials = Serials()
    for number in range(40_000):
        serials.renamed((f"old{number}",), (f"new{number}",), number % 10_000 == 0)
    assert len(serials._known) == 65_536
    assert serials.of(("new39999",)) == Serials().of(("old39999",))


def test_files_that_lost_one_name_one_after_the_other_are_several_files() -> None:
    with RawGuest({"/d": vfswasi.Mount(WeakStore(), rw=True)}) as guest:
        fds = []
        for number in range(5):
            fds.append(guest.create("f", b"%d" % number))
            guest.must("path_unlink_file", 3, *guest.text("f"))
        assert len({guest.fstat(fd).ino for fd in fds}) == 5
        for number, fd in enumerate(fds):
            guest.seek(fd, 0)
            assert guest.read(fd, 10) == b"%d" % number
