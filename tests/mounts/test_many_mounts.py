"""A thousand preopens in one run: they are opened, told apart and closed, and what there is too little for is said."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Mount, MountError
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends import waiting
from vfswasi.kernel.clocks import Deadline
from vfswasi.mounts.table import MountTable

from ..rawguest import RawGuest
from ..wat_programs import program

MANY = 1000


def archive(path: Path, name: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(name, name)
    return path


def directory(path: Path, name: str) -> Path:
    path.mkdir()
    (path / name).write_text(name)
    return path


def mounts(tmp_path: Path, count: int) -> dict[str, Any]:
    """Memory, archives and directories, some of each writable; each has a file `n0`, `n1` and so on."""
    made: dict[str, Any] = {}
    for index in range(count):
        name, rw = f"n{index}", index % 2 == 0
        match index // 2 % 3:
            case 0:
                made[f"/m{index}"] = Mount({name: name.encode()}, rw=rw)
            case 1:
                made[f"/m{index}"] = Mount(archive(tmp_path / f"{index}.zip", name), rw=rw)
            case 2:
                made[f"/m{index}"] = Mount(directory(tmp_path / f"{index}", name), rw=rw)
    return made


def held() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def test_a_thousand_mounts_are_opened_and_closed(tmp_path: Path) -> None:
    preopens = mounts(tmp_path, MANY)
    vfswasi.run(program(""))
    before = held()
    for _ in range(2):
        assert vfswasi.run(program(""), preopens=preopens, timeout=120).returncode == 0
        assert all(now <= then for now, then in zip(held(), before, strict=True))
    with RawGuest(preopens) as guest:
        for index in (0, 1, 2, 3, 4, 5, MANY - 1):
            fd = guest.open(f"n{index}", fd=3 + index)
            assert guest.read(fd, 10) == f"n{index}".encode()


def test_one_directory_with_two_permissions_is_found_among_many(tmp_path: Path) -> None:
    preopens = mounts(tmp_path, 60)
    shared = directory(tmp_path / "shared", "x")
    below = directory(shared / "below", "y")
    before = held()
    for first, second in (({"rw": True}, {"rw": False}), ({"rw": False}, {"rw": True})):
        with pytest.raises(MountError, match="mount '/b': shows the same directories as mount '/a'"):
            MountTable({"/a": Mount(shared, **first), **preopens, "/b": Mount(below, **second)})  # type: ignore[arg-type]
        MountTable({"/a": Mount(shared, **first), **preopens, "/b": Mount(below, **first)}).close()  # type: ignore[arg-type]
        told = Mount(below, overlap=True, **second)  # type: ignore[arg-type]
        MountTable({"/a": Mount(shared, **first), **preopens, "/b": told}).close()  # type: ignore[arg-type]
    with pytest.raises(MountError, match="given twice"):
        MountTable({**preopens, "/m0/": {}})
    assert all(now <= then for now, then in zip(held(), before, strict=True))


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = len(os.listdir("/proc/self/fd")) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_descriptors_run_out_the_error_says_so(tmp_path: Path, few_descriptors: int) -> None:
    preopens = {
        f"/d{index}": Mount(directory(tmp_path / f"{index}", "x"), rw=index % 2 == 0)
        for index in range(few_descriptors)
    }
    before = held()
    for _ in range(3):
        with pytest.raises(MountError, match="Too many open files"):
            MountTable(preopens)
        with pytest.raises(MountError, match="Too many open files"):
            MountTable(preopens, trusted=[tmp_path / "trusted"])
    assert all(now <= then for now, then in zip(held(), before, strict=True))


def test_telling_mounts_apart_ends_with_the_time(tmp_path: Path) -> None:
    over = Deadline(0.0)
    time.sleep(0.01)
    with waiting.bounded_by(over), pytest.raises(FsError) as caught:
        MountTable({"/a": Mount(directory(tmp_path / "a", "x"), rw=True), "/b": directory(tmp_path / "b", "x")})
    assert caught.value.errno is Errno.CANCELED
