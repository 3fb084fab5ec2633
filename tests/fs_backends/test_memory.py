"""What only the memory backend promises: tree literals, export, quota, times, link counts, threads."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Caps, FileType, Handle, Key
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink


def errno_of(call: Callable[..., object], *args: object) -> Errno:
    with pytest.raises(FsError) as caught:
        call(*args)
    return caught.value.errno


def read(handle: Handle, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: handle.read_into(offset, buffer)])


def put(store: MemoryBackend, key: Key, data: bytes) -> None:
    handle = store.create(key)
    handle.write_from(0, data)
    handle.close()


# Tree literals


def test_a_literal_comes_back_from_export() -> None:
    tree = {"a": b"\0\xff", "d": {"e": {}, "l": Symlink("../a")}, "dangling": Symlink("none"), "u": b""}
    assert MemoryBackend(tree).export() == tree
    assert MemoryBackend().export() == MemoryBackend({}).export() == {}
    assert MemoryBackend(MemoryBackend(tree).export()).export() == tree


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("grün", "grün".encode()),
        ("", b""),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (memoryview(b"12345678").cast("I"), b"12345678"),
        (MappingProxyType({"x": b"1"}), {"x": b"1"}),
    ],
)
def test_values_of_a_literal(given: object, stored: object) -> None:
    assert MemoryBackend({"v": given}).export() == {"v": stored}
    assert MemoryBackend(MappingProxyType({"d": {"v": given}})).export() == {"d": {"v": stored}}


def test_mutable_values_are_copied() -> None:
    data = bytearray(b"before")
    store = MemoryBackend({"array": data, "view": memoryview(data)})
    data[:] = b"after!"
    assert store.export() == {"array": b"before", "view": b"before"}
    data += b"resizable: nobody holds a view of it"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256, "é" * 128, "\ud800"])
def test_names_that_a_literal_cannot_hold(name: str) -> None:
    for value in (b"", {}, Symlink("t")):
        with pytest.raises(ValueError, match=r"^'?/dir/"):
            MemoryBackend({"dir": {name: value}})


def test_the_longest_names() -> None:
    assert set(MemoryBackend({"x" * 255: b"", "é" * 127 + "x": b""}).export()) == {"x" * 255, "é" * 127 + "x"}


@pytest.mark.parametrize(
    ("tree", "error", "words"),
    [
        ({"d": {5: b""}}, TypeError, r"^/d/5: a name must be a str, not int"),
        ({"d": {b"n": b""}}, TypeError, r"^/d/b'n': a name must be a str, not bytes"),
        ({"d": {"f": 5}}, TypeError, r"^/d/f: .* not int"),
        ({"d": {"f": None}}, TypeError, r"^/d/f: .* not NoneType"),
        ({"d": {"f": ["x"]}}, TypeError, r"^/d/f: .* not list"),
        ({"d": {"f": "\ud800"}}, ValueError, r"^'/d/f': .* not valid Unicode"),
        ({"d": {"l": Symlink("\ud800")}}, ValueError, r"^'/d/l': .* not valid Unicode"),
        ({"d": {"l": Symlink("a\0b")}}, ValueError, r"^/d/l: .* NUL"),
        ({"d": {"l": Symlink(5)}}, TypeError, r"^/d/l: .* not int"),  # type: ignore[arg-type]
        ([("f", b"")], TypeError, r"must be a mapping, not list"),
        (b"f", TypeError, r"must be a mapping, not bytes"),
    ],
)
def test_what_is_no_literal(tree: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        MemoryBackend(tree)


def test_a_literal_that_contains_itself_is_a_value_error() -> None:
    tree: dict[str, Any] = {}
    tree["again"] = tree
    with pytest.raises(ValueError, match="contains itself"):
        MemoryBackend(tree)


@pytest.mark.parametrize(
    ("max_bytes", "error"), [(-1, ValueError), (1.5, TypeError), ("9", TypeError), (True, TypeError)]
)
def test_max_bytes_is_a_number_of_bytes(max_bytes: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_bytes"):
        MemoryBackend(max_bytes=max_bytes)


def test_a_link_in_a_literal_is_a_value() -> None:
    assert Symlink("a") == Symlink("a") != Symlink("b")
    assert len({Symlink("a"), Symlink("a")}) == 1
    with pytest.raises(AttributeError):
        Symlink("a").target = "b"  # type: ignore[misc]


def test_export_of_a_tree_deeper_than_the_stack() -> None:
    store = MemoryBackend()
    key: Key = ()
    for _ in range(depth := sys.getrecursionlimit() + 500):
        key = (*key, "d")
        store.mkdir(key)
    tree = store.export()
    for _ in range(depth):
        tree = tree["d"]
    assert tree == {}


def test_export_is_a_copy() -> None:
    store = MemoryBackend({"f": b"1", "d": {}})
    exported = store.export()
    put(store, ("d", "new"), b"2")
    exported["d"]["other"] = b"3"
    assert store.export() == {"f": b"1", "d": {"new": b"2"}}


def test_stores_share_nothing() -> None:
    one, other = MemoryBackend(), MemoryBackend()
    put(one, ("f",), b"1")
    assert other.export() == {}
    assert one.identity is not other.identity


# Identity, link counts, times


def test_idents_count_from_the_root() -> None:
    store = MemoryBackend({"a": b"", "b": b""})
    assert store.stat(()).ident == 1
    store.remove(("a",))
    store.create(("a",)).close()
    assert len({store.stat(key).ident for key in ((), ("a",), ("b",))}) == 3
    assert store.stat(("a",)).ident == 4, "a number is never given twice"


def test_link_counts() -> None:
    store = MemoryBackend({"d": {"one": {}, "two": {}, "f": b""}, "e": {}})

    def counts(*keys: Key) -> list[int]:
        return [store.stat(key).nlink for key in keys]

    assert counts((), ("d",), ("d", "one"), ("d", "f")) == [4, 4, 2, 1]
    store.mkdir(("d", "three"))
    store.rename(("d", "one"), ("one",))
    assert counts((), ("d",)) == [5, 4]
    store.rename(("one",), ("e",))
    assert counts((), ("d",), ("e",)) == [4, 4, 2]
    store.rmdir(("d", "two"))
    assert counts((), ("d",)) == [4, 3]
    store.link(("d", "f"), ("g",))
    handle = store.open(("g",), False)
    assert handle.stat().nlink == 2
    store.rename(("d", "f"), ("g",))
    assert counts(("d", "f"), ("g",)) == [2, 2], "two names of one file: nothing happens"
    store.remove(("g",))
    assert handle.stat().nlink == 1
    store.remove(("d", "f"))
    assert handle.stat().nlink == 0


def test_the_root_stays() -> None:
    store = MemoryBackend({"d": {}})
    assert errno_of(store.rmdir, ()) is Errno.BUSY
    assert errno_of(store.rename, (), ("d", "x")) is Errno.BUSY
    assert errno_of(store.rename, ("d",), ()) is Errno.BUSY
    assert errno_of(store.remove, ()) is Errno.ISDIR
    assert errno_of(store.open, (), True) is Errno.ISDIR
    assert store.export() == {"d": {}}


def test_a_directory_does_not_move_into_itself() -> None:
    store = MemoryBackend({"d": {"e": {}}})
    assert errno_of(store.rename, ("d",), ("d", "e", "x")) is Errno.INVAL
    assert errno_of(store.rename, ("d",), ("d", "e")) is Errno.INVAL
    store.rename(("d",), ("d",))
    assert store.export() == {"d": {"e": {}}}


def test_nothing_is_made_below_a_removed_directory() -> None:
    store = MemoryBackend({"d": {}})
    store.rmdir(("d",))
    for call, args in ((store.create, ()), (store.mkdir, ()), (store.stat, ())):
        assert errno_of(call, ("d", "x"), *args) is Errno.NOENT
    assert store.export() == {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every look at the clock is one nanosecond later; the list holds the last one."""
    last = [1000]

    def tick() -> int:
        last[0] += 1
        return last[0]

    monkeypatch.setattr("time.time_ns", tick)
    return last


# call, then the objects whose mtim and whose ctim it sets.
TIMES: dict[str, tuple[Callable[[MemoryBackend, Handle], object], set[str], set[str]]] = {
    "read": (lambda store, f: read(f, 0, 9), set(), set()),
    "read much": (lambda store, f: read(f, 0, 10_000), set(), set()),
    "list": (lambda store, f: store.list(("d",)), set(), set()),
    "open": (lambda store, f: store.open(("d", "f"), True).close(), set(), set()),
    "write": (lambda store, f: f.write_from(0, b"x"), {"f"}, {"f"}),
    "write nothing": (lambda store, f: f.write_from(0, b""), set(), set()),
    "append": (lambda store, f: f.append(b"x"), {"f"}, {"f"}),
    "truncate": (lambda store, f: f.truncate(0), {"f"}, {"f"}),
    "truncate to the same size": (lambda store, f: f.truncate(4), {"f"}, {"f"}),
    "allocate": (lambda store, f: f.allocate(0, 99), {"f"}, {"f"}),
    "allocate what is there": (lambda store, f: f.allocate(0, 2), set(), set()),
    "link": (lambda store, f: store.link(("d", "f"), ("e", "g")), {"e"}, {"e", "f"}),
    "unlink": (lambda store, f: store.remove(("d", "f")), {"d"}, {"d", "f"}),
    "rename": (lambda store, f: store.rename(("d", "f"), ("e", "g")), {"d", "e"}, {"d", "e", "f"}),
    "create": (lambda store, f: store.create(("d", "n")).close(), {"d"}, {"d"}),
    "mkdir": (lambda store, f: store.mkdir(("d", "n")), {"d"}, {"d"}),
    "symlink": (lambda store, f: store.symlink("t", ("d", "n")), {"d"}, {"d"}),
    "set_times": (lambda store, f: store.set_times(("d", "f"), None, None), set(), {"f"}),
    "set_times of a handle": (lambda store, f: f.set_times(None, None), set(), {"f"}),
    "a failure": (lambda store, f: errno_of(store.rmdir, ("d",)), set(), set()),
    "no space": (lambda store, f: errno_of(f.truncate, 2**62), set(), set()),
}


@pytest.mark.parametrize(("call", "mtims", "ctims"), TIMES.values(), ids=TIMES)
def test_times_follow_posix(
    clock: list[int], call: Callable[[MemoryBackend, Handle], object], mtims: set[str], ctims: set[str]
) -> None:
    store = MemoryBackend({"d": {"f": b"data"}, "e": {}})
    handle = store.open(("d", "f"), True)

    def stats() -> dict[str, Any]:
        return {"d": store.stat(("d",)), "e": store.stat(("e",)), "f": handle.stat()}

    before, start = stats(), clock[0]
    call(store, handle)
    after = stats()
    assert {name for name, stat in after.items() if stat.mtim_ns > start} == mtims
    assert {name for name, stat in after.items() if stat.ctim_ns > start} == ctims
    assert {name: stat.atim_ns for name, stat in after.items()} == {name: stat.atim_ns for name, stat in before.items()}


def test_a_new_object_has_one_time(clock: list[int]) -> None:
    store = MemoryBackend()
    store.create(("f",)).close()
    stat = store.stat(("f",))
    assert stat.atim_ns == stat.mtim_ns == stat.ctim_ns == clock[0]


@pytest.mark.parametrize("time_ns", [0, -1, 2**64, -(2**70), 1_700_000_000_123_456_789])
def test_times_are_kept_as_they_are(time_ns: int) -> None:
    store = MemoryBackend({"f": b""})
    store.set_times(("f",), time_ns, time_ns - 1)
    assert store.stat(("f",))[2:4] == (time_ns, time_ns - 1)


# Writing


@pytest.mark.parametrize("size", [1, 4096, 4097, 10_000])
@pytest.mark.parametrize("offset", [0, 3, 5000, 9_999, 10_000, 20_000])
def test_writes_anywhere(offset: int, size: int) -> None:
    old = bytes(range(250)) * 40
    piece = b"\xee" * size
    store = MemoryBackend({"f": old})
    handle = store.open(("f",), True)
    handle.write_from(offset, memoryview(piece))
    expected = old[:offset].ljust(offset, b"\0") + piece + old[offset + size :]
    assert store.export() == {"f": expected}
    assert read(handle, 0, 50_000) == expected
    assert handle.size() == store.stat(("f",)).size == len(expected)


def test_handles_keep_no_view_of_a_buffer() -> None:
    store = MemoryBackend({"f": b"x" * 10_000})
    handle = store.open(("f",), True)
    for size in (10, 9000):
        buffer = bytearray(size)
        handle.read_into(0, buffer)
        handle.write_from(0, buffer)
        handle.append(buffer)
        buffer.clear()  # BufferError if somebody still looks at it
    handle.truncate(0)


@pytest.mark.parametrize(
    ("target", "errno"), [("a\0b", Errno.INVAL), ("\ud800", Errno.ILSEQ)], ids=["NUL", "surrogate"]
)
def test_a_link_that_cannot_be_spelled_is_not_made(target: str, errno: Errno) -> None:
    store = MemoryBackend()
    assert errno_of(store.symlink, target, ("l",)) is errno
    assert store.export() == {}


# Quota


def free(store: MemoryBackend) -> int:
    """The bytes that still fit, found by trying."""
    handle = store.create(("probe",))
    low, high = 0, 1 << 20
    while low < high:
        middle = (low + high + 1) // 2
        try:
            handle.truncate(middle)
            low = middle
        except FsError as error:
            if error.errno is not Errno.NOSPC:
                raise
            high = middle - 1
    store.remove(("probe",))
    handle.close()
    return low


def test_what_is_charged() -> None:
    store = MemoryBackend({"a": b"x" * 100, "d": {"l": Symlink("x" * 50)}}, max_bytes=1050)
    assert free(store) == 900, "a link costs what its target has"
    store.link(("a",), ("b",))
    assert free(store) == 900, "a second name costs no bytes"
    store.remove(("a",))
    assert free(store) == 900
    one, other = store.open(("b",), True), store.open(("b",), False)
    store.remove(("b",))
    assert free(store) == 900, "unlinked, but open"
    one.append(b"y" * 10)
    assert free(store) == 890
    one.close()
    assert free(store) == 890
    other.close()
    assert free(store) == 1000
    put(store, ("old",), b"1" * 300)
    put(store, ("new",), b"2" * 200)
    store.rename(("new",), ("old",))
    assert free(store) == 800, "a file that another one replaced is given back"
    handle = store.open(("old",), True)
    handle.truncate(50)
    assert free(store) == 950
    handle.write_from(40, b"z" * 20)
    assert free(store) == 940
    handle.allocate(0, 100)
    assert free(store) == 900


def test_links_and_names_are_charged() -> None:
    store = MemoryBackend({"a": b"", "l": Symlink("x" * 60)}, max_bytes=100, max_inodes=4)
    store.symlink("y" * 40, ("m",))
    assert errno_of(store.symlink, "z", ("n",)) is Errno.NOSPC
    store.link(("l",), ("k",))
    for make in (store.create, store.mkdir, lambda key: store.link(("a",), key)):
        assert errno_of(make, ("one too many",)) is Errno.NOSPC
    assert sorted(store.export()) == ["a", "k", "l", "m"]
    store.remove(("l",))
    assert store.used_bytes == 100, "its other name keeps it"
    store.rename(("m",), ("k",))
    assert store.used_bytes == 40, "what was replaced is given back, names and bytes"
    store.mkdir(("d",))
    store.mkdir(("e",))
    assert errno_of(store.mkdir, ("f",)) is Errno.NOSPC
    store.rmdir(("e",))
    store.symlink("x" * 60, ("f",))
    with pytest.raises(ValueError, match="max_inodes=1"):
        MemoryBackend({"a": b"", "b": {}}, max_inodes=1)


def test_the_last_byte_fits_and_the_next_does_not() -> None:
    store = MemoryBackend({"f": b"12345"}, max_bytes=10)
    handle = store.open(("f",), True)
    mtim = handle.stat().mtim_ns
    for call, args in (
        (handle.write_from, (5, b"6" * 6)),
        (handle.write_from, (3, b"6" * 8)),
        (handle.write_from, (10, b"6")),
        (handle.append, (b"6" * 6,)),
        (handle.truncate, (11,)),
        (handle.allocate, (4, 7)),
    ):
        assert errno_of(call, *args) is Errno.NOSPC, (call, args)
        assert store.export() == {"f": b"12345"}
        assert handle.stat().mtim_ns == mtim
    handle.write_from(3, b"abcdefg")
    assert store.export() == {"f": b"123abcdefg"}


def test_a_literal_beyond_the_quota_is_a_value_error() -> None:
    assert MemoryBackend({"a": b"12", "b": "34"}, max_bytes=4).export() == {"a": b"12", "b": b"34"}
    with pytest.raises(ValueError, match=r"^/d/b: .*max_bytes=3"):
        MemoryBackend({"a": b"12", "d": {"b": "34"}}, max_bytes=3)
    with pytest.raises(ValueError, match="max_bytes=7"):
        MemoryBackend({"a": memoryview(b"12345678").cast("I")}, max_bytes=7)


@pytest.mark.parametrize(
    ("size", "errno"), [(1 << 40, Errno.NOSPC), (2**63 - 1, Errno.NOSPC), (2**63, Errno.FBIG), (2**64, Errno.FBIG)]
)
def test_huge_sizes_take_no_memory(size: int, errno: Errno) -> None:
    handle = MemoryBackend().create(("f",))
    tracemalloc.start()
    try:
        assert errno_of(handle.truncate, size) is errno
        assert errno_of(handle.write_from, size - 1, b"x") is errno
        assert errno_of(handle.allocate, size - 1, 1) is errno
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert handle.size() == 0


def test_a_quota_beyond_the_machine_is_nospc_and_charges_nothing() -> None:
    # 2**60 bytes are more than any address space, so the allocation fails at once.
    store = MemoryBackend({"f": b"data"}, max_bytes=2**60 + 4)
    handle = store.open(("f",), True)
    for call, args in (
        (handle.truncate, (2**60,)),
        (handle.write_from, (2**60, b"x")),
        (handle.allocate, (0, 2**60)),
    ):
        assert errno_of(call, *args) is Errno.NOSPC
    assert store.export() == {"f": b"data"}
    assert free(store) == 1 << 20


# Handles for reading; threads


def test_handles_for_reading_refuse_every_write() -> None:
    store = MemoryBackend({"f": b"data"})
    handle = store.open(("f",), False)
    for call, args in (
        (handle.write_from, (0, b"x")),
        (handle.write_from, (0, b"")),
        (handle.append, (b"x",)),
        (handle.append, (b"",)),
        (handle.truncate, (4,)),
        (handle.truncate, (2**63,)),
        (handle.allocate, (0, 1)),
        (handle.allocate, (0, 9)),
    ):
        assert errno_of(call, *args) is Errno.ROFS, (call, args)
    assert store.export() == {"f": b"data"}


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads change places as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(*works: Callable[[], object]) -> None:
    """Run the works on one thread each; raise what one of them raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("eager_threads")
def test_appends_of_many_threads_lose_nothing() -> None:
    store = MemoryBackend({"log": b""})

    def append(mark: bytes) -> None:
        handle = store.open(("log",), True)
        for _ in range(300):
            end = handle.append(mark * 50)
            assert read(handle, end - 50, 50) == mark * 50
        handle.close()

    together(*(lambda mark=bytes([mark]): append(mark) for mark in b"abcd"))  # type: ignore[misc]
    log = store.export()["log"]
    lines = [log[at : at + 50] for at in range(0, len(log), 50)]
    assert len(lines) == 1200
    assert all(len(set(line)) == 1 for line in lines)


@pytest.mark.usefixtures("eager_threads")
def test_a_file_is_resized_while_others_read_it() -> None:
    store = MemoryBackend({"f": b"x" * 100_000})
    stop = threading.Event()

    def resize() -> None:
        handle = store.open(("f",), True)
        try:
            for round_ in range(400):
                handle.truncate(10)
                handle.append(b"x" * (50_000 + round_))
                handle.allocate(0, 60_000)
        finally:
            stop.set()

    def look(size: int) -> None:
        handle = store.open(("f",), False)
        while not stop.is_set():
            assert set(read(handle, 0, size)) <= set(b"x\0")
            assert handle.stat().size >= 10

    together(resize, lambda: look(64), lambda: look(70_000))


def test_allocate_never_cuts_what_another_thread_appends() -> None:
    store = MemoryBackend({"f": b""})
    handle, other = store.open(("f",), True), store.open(("f",), True)
    append = threading.Thread(target=other.append, args=(b"x" * 100,))

    def size_then_append() -> int:
        append.start()
        append.join(0.2)  # returns only if the other thread could get in between
        return 0

    handle.size = size_then_append  # type: ignore[method-assign]
    handle.allocate(0, 10)
    append.join()
    assert store.export() == {"f": b"\0" * 10 + b"x" * 100}


@pytest.mark.usefixtures("eager_threads")
def test_a_rename_shows_no_gap() -> None:
    assert Caps.ATOMIC_RENAME in MemoryBackend.caps
    store = MemoryBackend({"f": b"old", "d": {}})
    stop = threading.Event()

    def replace() -> None:
        try:
            for _ in range(3000):
                store.create(("t",)).close()
                store.rename(("t",), ("f",))
                store.mkdir(("e",))
                store.rename(("e",), ("d",))
        finally:
            stop.set()

    def look() -> None:
        while not stop.is_set():
            assert store.walk((), ("f",))[0] == 1
            assert store.stat(("f",)).filetype is FileType.REGULAR_FILE
            assert store.walk((), ("d",))[0] == 1

    together(replace, look)


@pytest.mark.usefixtures("eager_threads")
def test_many_threads_hammer_one_tree() -> None:
    store = MemoryBackend({"shared": {}}, max_bytes=1 << 20)
    expected = {Errno.EXIST, Errno.NOENT, Errno.NOTEMPTY, Errno.NOSPC, Errno.ISDIR, Errno.NOTDIR, Errno.PERM}

    def hammer(seed: int) -> None:
        names = [("shared", f"n{number}") for number in range(4)]
        for step in range(600):
            one, other = names[(seed + step) % 4], names[(seed * 7 + step * 3 + 1) % 4]
            try:
                match (seed + step * 5) % 7:
                    case 0 | 1:
                        put(store, one, b"d" * (step * 10))
                    case 2:
                        store.remove(one)
                    case 3:
                        store.rename(one, other)
                    case 4:
                        store.link(one, other)
                    case 5:
                        store.mkdir(one)
                    case 6:
                        store.rmdir(one)
            except FsError as error:
                if error.errno not in expected:
                    raise

    together(*(lambda seed=seed: hammer(seed) for seed in range(4)))  # type: ignore[misc]
    entries = {entry.name: entry for entry in store.list(("shared",))}
    directories = sum(entry.filetype is FileType.DIRECTORY for entry in entries.values())
    assert store.stat(("shared",)).nlink == 2 + directories
    for name, entry in entries.items():
        names = sum(other.ident == entry.ident for other in entries.values())
        assert store.stat(("shared", name)).nlink == (2 if entry.filetype is FileType.DIRECTORY else names)
        (store.rmdir if entry.filetype is FileType.DIRECTORY else store.remove)(("shared", name))
    assert free(store) == 1 << 20, "every byte came back"


CHANGES: dict[str, Callable[[MemoryBackend, Handle], object]] = {
    name: call
    for name, (call, _, ctims) in TIMES.items()
    if "f" in ctims and name not in ("rename", "unlink", "set_times", "set_times of a handle")
} | {
    "unlink one of two names": lambda store, f: (store.link(("d", "f"), ("e", "g")), store.remove(("e", "g"))),
    "rename": lambda store, f: (store.rename(("d", "f"), ("d", "g")), store.rename(("d", "g"), ("d", "f"))),
    "replace another name": lambda store, f: (store.link(("d", "f"), ("e", "g")), f.append(b"x")),
    "set_times": lambda store, f: store.set_times(("d", "f"), 7, 8),
    "set_times of a handle": lambda store, f: f.set_times(7, 8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_attributes_that_were_looked_at_are_never_older_than_the_last_change(
    change: Callable[[MemoryBackend, Handle], object],
) -> None:
    store = MemoryBackend({"d": {"f": b"data"}, "e": {}})
    handle = store.open(("d", "f"), True)
    for _ in range(3):
        before = handle.stat()
        assert handle.stat() == store.stat(("d", "f")) == before
        change(store, handle)
        now = handle.stat()
        assert now == store.stat(("d", "f"))
        names = sum("f" in tree or "g" in tree for tree in store.export().values())
        assert (now.size, now.nlink) == (handle.size(), names)
        node = store._find(("d", "f"))
        assert (now.atim_ns, now.mtim_ns, now.ctim_ns) == (node.atim, node.mtim, node.ctim)
        if "g" in store.export()["e"]:
            store.remove(("e", "g"))


def test_what_was_seen_of_a_change_that_failed_does_not_last(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryBackend({"f": b"data"})
    handle = store.open(("f",), True)
    seen: list[int] = []

    def look_and_fail(what: str) -> None:
        seen.append(handle.stat().size)
        raise FsError(Errno.CANCELED)

    monkeypatch.setattr("vfswasi.fs_backends.memory.file.check_time", look_and_fail)
    assert errno_of(handle.truncate, 64 << 20) is Errno.CANCELED
    assert seen[0] > 4
    assert handle.stat().size == store.stat(("f",)).size == 4


@pytest.mark.usefixtures("eager_threads")
def test_attributes_are_right_when_threads_looked_while_others_changed() -> None:
    store = MemoryBackend({"f": b"", "d": {}})
    stop = threading.Event()

    def look() -> None:
        handle = store.open(("f",), False)
        while not stop.is_set():
            handle.stat()

    def change() -> None:
        handle = store.open(("f",), True)
        try:
            for round_ in range(3000):
                handle.append(b"x")
                assert handle.stat().size == round_ + 1
                store.link(("f",), ("d", "g"))
                assert handle.stat().nlink == 2
                store.remove(("d", "g"))
                assert handle.stat().nlink == 1
        finally:
            stop.set()

    together(change, look, look)


def test_a_copy_has_the_same_files_times_links_and_numbers_and_room_of_its_own() -> None:
    store = MemoryBackend({"a": "one", "d": {"b": "two", "e": {}}, "l": Symlink("d/b")}, max_bytes=100)
    store.link(("a",), ("d", "again"))
    store.set_times(("d", "b"), 5, 6)
    gone = store.create(("gone",))
    gone.write_from(0, b"nameless")
    store.remove(("gone",))
    copy = store.copy()
    keys = [(), ("a",), ("d",), ("d", "b"), ("d", "e"), ("d", "again"), ("l",)]
    assert [copy.stat(key) for key in keys] == [store.stat(key) for key in keys]
    assert (copy.export(), copy.max_bytes) == (store.export(), 100)
    assert (store.used_bytes, copy.used_bytes) == (3 + 3 + 3 + 8, 3 + 3 + 3)
    handle = copy.open(("d", "again"), True)
    handle.write_from(0, b"ONE!")
    handle.close()
    assert (copy.export()["a"], store.export()["a"]) == (b"ONE!", b"one")
    new = copy.create(("new",))
    assert new.ident() not in {store.stat(key).ident for key in keys}
    new.close()
    gone.close()
    assert "new" not in store.export()
