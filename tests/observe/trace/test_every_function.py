"""Each function of both snapshots, called where it succeeds, has one line in the trace that says what was asked and
what came of it."""

from __future__ import annotations

import pytest

from vfswasi.abi.layouts import ABIS
from vfswasi.errors import Errno

from ...rawguest import RawGuest
from ...semantics.test_every_function import EVERY, Succeeds

# What the last call of that name looks like, without the time it took; * where the clock decides.
LINES = {
    "args_get": 'args_get() = 0 {argv: ["a", "bc"]}',
    "args_sizes_get": "args_sizes_get() = 0 {argc: 2, argv_buf_size: 5}",
    "environ_get": 'environ_get() = 0 {names: ["A"]}',
    "environ_sizes_get": "environ_sizes_get() = 0 {environc: 1, environ_buf_size: 4}",
    "clock_res_get": "clock_res_get(MONOTONIC) = 0 {resolution: *}",
    "clock_time_get": "clock_time_get(REALTIME, 1) = 0 {time: *}",
    "fd_advise": "fd_advise(4</d/f>, 0, 7, NOREUSE) = 0",
    "fd_allocate": "fd_allocate(4</d/f>, 0, 10) = 0",
    "fd_close": "fd_close(4) = BADF",
    "fd_datasync": "fd_datasync(4</d/f>) = 0",
    "fd_fdstat_get": "fd_fdstat_get(4</d/f>) = 0 "
    "{filetype: REGULAR_FILE, flags: 0, fs_rights_base: FD_READ|FD_WRITE|+11}",
    "fd_fdstat_set_flags": "fd_fdstat_set_flags(4</d/f>, APPEND) = 0",
    "fd_fdstat_set_rights": "fd_fdstat_set_rights(4</d/f>, FD_READ|+4, 0) = 0",
    "fd_filestat_get": "fd_filestat_get(4</d/f>) = 0 {filetype: REGULAR_FILE, size: 7}",
    "fd_filestat_set_size": "fd_filestat_set_size(4</d/f>, 3) = 0",
    "fd_filestat_set_times": "fd_filestat_set_times(4</d/f>, 5000000000, 7000000000, ATIM|MTIM) = 0",
    "fd_pread": 'fd_pread(4</d/f>, 1, 3, 2) = 0 {nread: 3, data: "nte"}',
    "fd_prestat_get": "fd_prestat_get(3</d>) = 0 {pr_name_len: 2}",
    "fd_prestat_dir_name": 'fd_prestat_dir_name(3</d>, 2) = 0 {path: "/d"}',
    "fd_pwrite": 'fd_pwrite(4</d/f>, "XY", 1, 2, 1) = 0 {nwritten: 2}',
    "fd_read": 'fd_read(5</d/f>, 1, 4) = 0 {nread: 0, data: ""}',
    "fd_readdir": 'fd_readdir(3</d>, 4096, 0) = 0 {bufused: 76, names: [".", "..", "f"]}',
    "fd_renumber": "fd_renumber(4</d/f>, 5</d/f>) = 0",
    "fd_seek": "fd_seek(4</d/f>, -1, END) = 0 {newoffset: 6}",
    "fd_sync": "fd_sync(4</d/f>) = 0",
    "fd_tell": "fd_tell(4</d/f>) = 0 {offset: 7}",
    "fd_write": 'fd_write(4</d/f>, "more", 1, 4) = 0 {nwritten: 4}',
    "path_create_directory": 'path_create_directory(3</d>, "new") = 0',
    "path_filestat_get": 'path_filestat_get(3</d>, SYMLINK_FOLLOW, "f") = 0 {filetype: REGULAR_FILE, size: 7}',
    "path_filestat_set_times": 'path_filestat_set_times(3</d>, 0, "f", 5000000000, 7000000000, ATIM|MTIM) = 0',
    "path_link": 'path_link(3</d>, 0, "f", 3</d>, "new") = 0',
    "path_open": 'path_open(3</d>, SYMLINK_FOLLOW, "f", 0, FD_READ|+4, 0, 0) = 0 {fd: 5}',
    "path_readlink": 'path_readlink(3</d>, "new", 4096) = 0 {bufused: 1, target: "f"}',
    "path_remove_directory": 'path_remove_directory(3</d>, "new") = 0',
    "path_rename": 'path_rename(3</d>, "f", 3</d>, "new") = 0',
    "path_symlink": 'path_symlink("f", 3</d>, "new") = 0',
    "path_unlink_file": 'path_unlink_file(3</d>, "f") = 0',
    "poll_oneoff": "poll_oneoff([CLOCK MONOTONIC 0ns, FD_WRITE 4, CLOCK REALTIME until 1ns]) = 0 "
    "{nevents: 3, events: [CLOCK, FD_WRITE, CLOCK]}",
    "proc_raise": "proc_raise(CHLD) = 0",
    "sched_yield": "sched_yield() = 0",
    "random_get": "random_get(32) = 0",
    "sock_accept": "sock_accept(4</d/f>, 0) = NOTSOCK",
    "sock_recv": "sock_recv(4</d/f>, 1, 8, 0) = NOTSOCK",
    "sock_send": 'sock_send(4</d/f>, "' + "\\x00" * 8 + '", 1, 8, 0) = NOTSOCK',
    "sock_shutdown": "sock_shutdown(4</d/f>, RD|WR) = NOTSOCK",
}
# name -> (path, target) of that call; all others are about no file, or about /d/f alone.
PATHS = {
    "fd_prestat_get": ("/d", None),
    "fd_prestat_dir_name": ("/d", None),
    "fd_readdir": ("/d", None),
    "path_create_directory": ("/d/new", None),
    "path_link": ("/d/f", "/d/new"),
    "path_readlink": ("/d/new", None),
    "path_remove_directory": ("/d/new", None),
    "path_rename": ("/d/f", "/d/new"),
    "path_symlink": ("/d/new", "/d/f"),
    "fd_close": (None, None),  # the second time there is nothing
}


@pytest.mark.parametrize(("version", "name"), [each for each in EVERY if each[1] != "proc_exit"])
def test_every_function_has_a_line_that_says_what_was_asked_and_what_came_of_it(version: str, name: str) -> None:
    with RawGuest({"/d": {}}, version=version, args=["a", "bc"], env={"A": "1"}, trace=True) as guest:
        assert guest.create("f", b"content") == 4
        getattr(Succeeds(guest), name)()
        call = [call for call in guest.wasi.trace or () if call.name == name][-1]
    start, star, end = LINES[name].partition("*")
    line = call.line(duration=False)
    assert line.startswith(start) if star else line == start
    assert line.endswith(end)
    assert "\n" not in line
    about = ("/d/f", None) if call.name.startswith(("fd_", "path_", "sock_")) else (None, None)
    assert (call.path, call.target) == PATHS.get(name, about)
    assert call.mount == (None if call.path is None else "/d")
    assert str(call).startswith(line + " <0.")


def test_no_function_is_missing() -> None:
    assert set(LINES) | {"proc_exit"} == set(ABIS["preview1"].functions)


def test_a_call_in_which_the_guest_ends_is_there_too() -> None:
    import vfswasi

    module = b"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 3))))"""
    result = vfswasi.run(module, trace=True)
    assert result.returncode == 3
    (call,) = result.trace or ()
    assert (call.errno, call.ended, call.line(duration=False)) == (None, True, "proc_exit(3) = ?")
    assert result.trace is not None
    assert result.trace.stats["proc_exit"][:2] == (1, 0)


def test_a_failed_call_has_no_results_and_the_name_of_its_errno() -> None:
    with RawGuest({"/d": {}}, trace=True) as guest:
        assert guest.try_open("missing")[0] is Errno.NOENT
        call = (guest.wasi.trace or ())[-1]
    assert (call.errno, dict(call.results)) == (Errno.NOENT, {})
    assert call.line(duration=False).endswith(" = NOENT")
