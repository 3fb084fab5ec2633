"""Keys that no file system would have: unreachable, harmless to their neighbours, and no way out of the mount."""

from __future__ import annotations

from typing import Any

import pytest

import vfswasi
from vfswasi import Errno, FsspecBackend, Mount, MountError
from vfswasi.fs_backends.base import FileType
from vfswasi.testing.ground import contents, errno_of

from ..guest_programs import compile_guest
from .servers import Server

HOSTILE = (
    "m/../secret",
    "m/./here",
    "m//double",
    "m/d//double",
    "m/d/",
    "m/trailing//",
    "m//",
    "m/..",
    "m/" + "n" * 300,
)
GOOD = {"m/a": b"a", "m/d/b": b"b", "m/e/f/g": b"g", "mm/other": b"of another prefix", "secret": b"secret"}


def bucket_of(server: Server, objects: dict[str, bytes]) -> str:
    """A bucket of as many of the objects as the server takes."""
    bucket = server.new_bucket()
    fs = server.file_system()
    for key, data in objects.items():
        try:
            fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data)
        except OSError:
            assert key not in GOOD
    return bucket


def tree_of(backend: Any, key: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in backend.list(key):
        assert entry.name not in found
        below = (*key, entry.name)
        found[entry.name] = (
            tree_of(backend, below) if entry.filetype is FileType.DIRECTORY else contents(backend, below)
        )
    return found


def test_hostile_keys_are_invisible_and_harm_nobody(s3_server: Server) -> None:
    bucket = bucket_of(s3_server, GOOD | dict.fromkeys(HOSTILE, b"hostile"))
    backend = FsspecBackend(s3_server.file_system(), f"{bucket}/m")
    tree = tree_of(backend)
    for name in ("", ".", "..", "n" * 300):
        assert name not in tree
    # SeaweedFS makes "d/double" of "d//double", and "trailing/" of "trailing//": then it is an ordinary name.
    assert tree["a"] == b"a"
    assert tree["e"] == {"f": {"g": b"g"}}
    assert tree["d"].pop("double", b"hostile") == b"hostile"
    assert tree["d"] == {"b": b"b"}
    assert set(tree) <= {"a", "d", "e", "trailing", "double", "here"}
    backend.close()


def test_a_prefix_is_no_beginning_of_a_name(s3_server: Server) -> None:
    bucket = bucket_of(s3_server, GOOD)
    backend = FsspecBackend(s3_server.file_system(), f"{bucket}/m")
    assert set(tree_of(backend)) == {"a", "d", "e"}
    assert errno_of(backend.open, ("m",), False) is Errno.NOENT
    with pytest.raises(MountError, match="bucket"):
        FsspecBackend(s3_server.file_system(), "")
    with pytest.raises(MountError, match="prefix"):
        FsspecBackend(s3_server.file_system(), f"{bucket}/m/../secret")
    backend.close()


def test_a_key_that_is_file_and_directory_is_the_directory(s3_server: Server) -> None:
    bucket = bucket_of(s3_server, {"both/inner": b"inner", "after": b"x"})
    try:
        s3_server.file_system().call_s3("put_object", Bucket=bucket, Key="both", Body=b"file")
    except OSError:
        return  # SeaweedFS has directories, and refuses
    for fresh in (("list",), ("stat",)):
        backend = FsspecBackend(s3_server.file_system(), bucket)
        if fresh == ("list",):
            assert sorted(entry.name for entry in backend.list(())) == ["after", "both"]
        assert backend.stat(("both",)).filetype is FileType.DIRECTORY
        assert errno_of(backend.open, ("both",), False) is Errno.ISDIR
        assert contents(backend, ("both", "inner")) == b"inner"
        backend.close()


@pytest.mark.parametrize("name", ["*", "?", "[a-z]*", "a*", "?versionId=1", "s3:", "%61", "~", "$HOME"])
def test_names_mean_one_object_whatever_they_look_like(s3_server: Server, name: str) -> None:
    bucket = bucket_of(s3_server, {"a": b"a", "b": b"b"})
    backend = FsspecBackend(s3_server.file_system(), bucket)
    assert errno_of(backend.open, (name,), False) is Errno.NOENT
    assert errno_of(backend.remove, (name,)) is Errno.NOENT
    backend.create((name,)).close()
    assert contents(backend, (name,)) == b""
    backend.remove((name,))
    assert tree_of(backend) == {"a": b"a", "b": b"b"}
    backend.close()


def test_a_guest_cannot_leave_the_prefix(s3_server: Server) -> None:
    bucket = bucket_of(s3_server, GOOD)
    preopens = {"/d": Mount(f"s3://{bucket}/m", endpoint=s3_server.endpoint, rw=True)}
    with vfswasi.Sandbox(compile_guest("seqread"), preopens=preopens) as sandbox:
        for path in ("/d/../secret", "/d/d/../../secret", "/d/../mm/other", "/d//../secret", "/secret"):
            assert sandbox.run([path, "16"], capture_output=True).returncode == 1
        assert sandbox.run(["/d/d/../a", "16"], capture_output=True).returncode == 0


def test_secrets_are_in_no_message(s3_server: Server) -> None:
    options = {"key": "AKIA-VISIBLE", "secret": "hush-hush"}
    with pytest.raises(MountError) as caught:
        vfswasi.run(
            compile_guest("seqread"),
            preopens={"/d": Mount("s3://no-such-bucket-here/x", endpoint=s3_server.endpoint, storage_options=options)},
        )
    assert "hush" not in str(caught.value)
    assert "AKIA" not in repr(Mount("s3://b", storage_options=options))
    for url in ("https://user:pass-word@127.0.0.1:1/x?token=geheim", "ftp://user:pass-word@127.0.0.1:1/"):
        with pytest.raises(MountError) as caught:
            vfswasi.run(compile_guest("seqread"), preopens={"/d": url})
        assert "pass-word" not in str(caught.value)
        assert "geheim" not in str(caught.value)
