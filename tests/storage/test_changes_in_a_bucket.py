"""`Result.changes` of a bucket that is mounted rw, with real servers."""

from __future__ import annotations

import pytest

import vfswasi
from vfswasi import Mount
from vfswasi.errors import Errno
from vfswasi.kernel.process import Preopen
from vfswasi.limits import Limits
from vfswasi.mounts.dress import Dress
from vfswasi.mounts.table import MountTable
from vfswasi.testing.ground import errno_of

from ..guest_programs import compile_guest
from ..host.test_changes_in_place import edited, new_contents, read, told
from .proxy import Proxy
from .servers import Server


def bucket_of(server: Server, objects: dict[str, bytes]) -> str:
    bucket = server.new_bucket()
    store = server.file_system()
    for name, data in objects.items():
        store.pipe_file(f"{bucket}/{name}", data)
    return bucket


def test_of_a_bucket(s3_server: Server) -> None:
    bucket = bucket_of(s3_server, {"a/f": b"old", "gone": b"gone", "name": b"name", "g": b"g"})
    source = Mount(f"s3://{bucket}", endpoint=s3_server.endpoint, rw=True)
    words = "new /d/n new write /d/a/f longer rm /d/gone mv /d/name /d/a/named new /d/t t rm /d/t mkdir /d/made".split()
    result = edited(source, *words, "new", "/d/made/x", "x")
    assert told(result) == [
        "modified a/f",
        "renamed a/named from name",
        "removed gone",
        "added made",
        "added made/x",
        "added n",
    ]
    # The mount is closed, and the contents come from the bucket once more.
    assert [new_contents(result, path) for path in ("a/f", "made/x", "n")] == [b"longer", b"x", b"new"]
    s3_server.file_system().pipe_file(f"{bucket}/n", b"another")
    (entry,) = (entry for entry in result.changes["/d"].entries if entry.path == "n")
    assert errno_of(read, entry.content) is Errno.STALE


def test_keeping_account_costs_no_request_for_what_was_changed(
    s3_server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_of(s3_server, {"a/f": b"old"})
    keeping = MountTable.instantiate

    def without(mounts: MountTable, limits: Limits, *, recorded: bool, dress: Dress) -> list[Preopen]:
        return keeping(mounts, limits)

    counts = []
    for instantiate in without, keeping:
        monkeypatch.setattr(MountTable, "instantiate", instantiate)
        s3_server.file_system().pipe_file(f"{bucket}/gone", b"gone")
        mount = Mount(f"s3://{bucket}", endpoint=proxy.endpoint, rw=True)
        with vfswasi.Sandbox(compile_guest("edit"), preopens={"/d": mount}) as sandbox:
            proxy.reset()
            words = "write /d/n new write /d/a/f longer rm /d/gone".split()
            result = sandbox.run(words, capture_output=True, text=True)
            assert (result.returncode, list(result.changes)) == (0, ["/d"] if instantiate is keeping else [])
            counts.append(len(proxy.requests()))
            s3_server.file_system().rm_file(f"{bucket}/n")
    assert counts[0] == counts[1]
