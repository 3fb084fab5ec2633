"""`vfswasi mounts`: what is wrong with one entry is one line, and everything else is shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vfswasi.cli import main
from vfswasi.cli.messages import EXIT_OURS

from ..fs_backends import tar_forge, zip_forge
from ..fs_backends.zip_forge import DEFLATED, Entry

LINK = 0o120777
DEPTH = 1500


def shown(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str], list[str]]:
    status = main(["mounts", str(path), *options])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out.splitlines()[1:], err.splitlines()


def test_a_link_that_cannot_be_shown_hides_no_sibling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(
        zip_forge.forge(
            Entry("a", b"1"),
            Entry("d/bad", b"\xff\xfe", mode=LINK),
            Entry("d/long", b"t" * 5000, mode=LINK),
            Entry("d/nul", b"t\0u", mode=LINK),
            Entry("d/secret", b"x", mode=LINK, flags=0x801),
            Entry("d/broken", b"x", DEFLATED, crc=1, mode=LINK),
            Entry("d/ok", b"../a", mode=LINK),
            Entry("d/esc\x1b[31m", b"\x1b[0m", mode=LINK),
            Entry("d/self", b"self", mode=LINK),
            Entry("z", b"22"),
        )
    )
    status, out, err = shown(path, capsys)
    assert status == EXIT_OURS
    assert out == [
        "  a  1",
        "  d/",
        "    bad  (cannot be read: ILSEQ)",
        "    broken  (cannot be read: IO)",
        r"    esc\x1b[31m -> \x1b[0m",
        "    long  (cannot be read: NAMETOOLONG)",
        "    nul  (cannot be read: ILSEQ)",
        "    ok -> ../a",
        "    secret  (cannot be read: IO)",
        "    self -> self",
        "  z  2",
    ]
    assert len(err) == 5
    assert err[0] == "vfswasi: bad: ILSEQ: link target is not UTF-8"


def test_links_of_tar_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(
        tar_forge.forge(
            tar_forge.pax(("linkpath", b"t" * 5000)),
            tar_forge.member("long", kind=b"2"),
            tar_forge.member("bad", kind=b"2", link=b"\xff"),
            tar_forge.member("z", b"1"),
        )
    )
    status, out, err = shown(path, capsys)
    assert (status, len(err)) == (EXIT_OURS, 2)
    assert out == ["  bad  (cannot be read: ILSEQ)", "  long  (cannot be read: NAMETOOLONG)", "  z  1"]


def test_trees_deeper_than_pythons_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sys.getrecursionlimit() <= DEPTH
    path = tmp_path / "a.zip"
    path.write_bytes(zip_forge.forge(Entry("d/" * DEPTH + "f", b"1"), Entry("z", b"1")))
    status, out, err = shown(path, capsys)
    assert (status, err) == (0, [])
    assert len(out) == DEPTH + 2
    assert out[-2:] == ["  " * (DEPTH + 1) + "f  1", "  z  1"]
    assert shown(path, capsys, "--depth", "2") == (0, ["  d/", "    d/", "  z  1"], [])


def test_local_directories_deeper_than_pythons_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "z").write_bytes(b"1")
    here = os.getcwd()
    try:
        os.chdir(root)
        for _ in range(DEPTH):
            os.mkdir("directory")
            os.chdir("directory")
    finally:
        os.chdir(here)
    status, out, err = shown(root, capsys)
    # How deep it can be looked at depends on the system; what lies beside is shown in any case.
    assert out[-1] == "  z  1"
    assert len(out) > 100
    assert (status, len(err)) in ((0, 0), (EXIT_OURS, 1))
    try:
        os.chdir(root)  # what pytest removes later must not be deeper than Python's stack
        for _ in range(DEPTH):
            os.chdir("directory")
        for _ in range(DEPTH):
            os.chdir("..")
            os.rmdir("directory")
    finally:
        os.chdir(here)


def test_what_cannot_be_listed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections.abc import Iterator

    from vfswasi.errors import Errno, FsError
    from vfswasi.fs_backends.base import DirEntry, Key
    from vfswasi.fs_backends.local.backend import LocalBackend

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    listed = LocalBackend.list

    def breaks_off(self: LocalBackend, key: Key) -> Iterator[DirEntry]:
        yield from listed(self, key)
        if key == ("a",):
            raise FsError(Errno.IO, "gone\nin the middle")

    monkeypatch.setattr(LocalBackend, "list", breaks_off)
    status, out, err = shown(tmp_path, capsys)
    assert status == EXIT_OURS
    assert out == ["  a/", "    f  1", "  b  1"]
    assert err == [r"vfswasi: a: IO: gone\nin the middle"]
