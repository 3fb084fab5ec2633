"""Recordings of runs that ask for much: what is kept is bounded, and the replay is the same."""

from __future__ import annotations

import random
import shutil
import tracemalloc
from pathlib import Path

from vfswasi import Mount, Recording

from .made import check_same, recorded, replayed


def test_a_hundred_thousand_looks_at_the_clock(tmp_path: Path) -> None:
    result = recorded("clock 100000\n", tmp_path / "r")
    check_same(result, replayed(tmp_path / "r"))
    with Recording.load(tmp_path / "r") as made:
        assert made.calls > 100_000
    assert (tmp_path / "r").stat().st_size < 100_000


def test_a_hundred_megabytes_take_no_memory_and_are_kept_once(tmp_path: Path) -> None:
    block = random.Random(1).randbytes(1 << 20)
    with (tmp_path / "big").open("wb") as file:
        for number in range(100):
            file.write(number.to_bytes(4, "little") + block[4:] if number % 2 else block)
    tracemalloc.start()
    result = recorded("cat /d/big\ncat /d/big\n", tmp_path / "r", {"/d/big": tmp_path / "big"})
    (tmp_path / "big").unlink()
    check_same(result, replayed(tmp_path / "r"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    with Recording.load(tmp_path / "r") as made:
        assert made.size < 4 << 20  # 32 different pages, and the first of each megabyte


def test_reading_here_and_there_keeps_what_was_read(tmp_path: Path) -> None:
    rng = random.Random(2)
    (tmp_path / "big").write_bytes(rng.randbytes(30 << 20))
    text = "".join(f"cat /d/big {rng.randrange(31 << 20)} {rng.choice([1, 100, 70_000])}\n" for _ in range(100))
    result = recorded(text, tmp_path / "r", {"/d/big": tmp_path / "big"})
    (tmp_path / "big").unlink()
    check_same(result, replayed(tmp_path / "r"))
    with Recording.load(tmp_path / "r") as made:
        assert made.size < 16 << 20


def test_ten_thousand_names(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number in range(10_000):
        (tmp_path / "d" / f"name-{number}").touch()
    text = "ls /d\nstat /d/name-77\nstat /d/name-10000\nrm /d/name-5\nls /d\n"
    for rw in ("", "rw"):
        result = recorded(text, tmp_path / f"r{rw}", {"/d": Mount(tmp_path / "d", rw=rw == "rw")})
        assert result.stdout is not None
        assert result.stdout.count(b"\n") > 20_000
    changes = [str(change) for change in result.changes["/d"]]
    shutil.rmtree(tmp_path / "d")
    check_same(result, replayed(tmp_path / "rrw"), changes)
    assert replayed(tmp_path / "r").same
