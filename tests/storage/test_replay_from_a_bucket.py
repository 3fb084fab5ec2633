"""What was recorded over S3 is replayed where there is no network, on a machine that has nothing but the file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Mount

from .. import avr_build
from ..guest_programs import compile_guest
from ..observe.recording.made import told
from ..programs import cpython
from . import offline
from .servers import Moto, Server


@pytest.fixture
def server() -> Iterator[Server]:
    """One of its own, which a test stops."""
    made = Moto()
    yield made
    made.stop()


def stored(server: Server, objects: dict[str, bytes]) -> str:
    bucket = server.new_bucket()
    store = server.file_system()
    for name, data in objects.items():
        store.pipe_file(f"{bucket}/{name}", data)
    return bucket


CODE = """
import json, os, sys, time, random, zlib
rows = [json.loads(line) for line in open("/data/rows.jsonl")]
print(len(rows), sum(row["n"] for row in rows), sorted(os.listdir("/data")))
with open("/data/big", "rb") as big:
    big.seek(3_000_000)
    print(zlib.crc32(big.read(100_000)))
for name in "none", "sub/none", "sub/x":
    print(name, os.path.exists(f"/data/{name}"))
print(time.time_ns(), time.monotonic_ns(), random.random(), os.environ["WHO"], sys.argv[1:])
"""


def test_python_over_s3(server: Server, tmp_path: Path) -> None:
    interpreter = cpython.program()
    if interpreter is None:
        pytest.skip("the interpreter's package is not installed")
    rows = b"".join(b'{"n": %d}\n' % number for number in range(20_000))
    bucket = stored(server, {"rows.jsonl": rows, "big": bytes(range(256)) * 16_000, "sub/x": b"x"})
    recording = tmp_path / "r"
    result = vfswasi.run(
        interpreter,
        ["-c", CODE, "an argument"],
        preopens={"/data": Mount(f"s3://{bucket}", endpoint=server.endpoint)},
        env={"WHO": "me"},
        capture_output=True,
        record=recording,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout is not None
    assert result.stdout.startswith(b"20000 199990000 ['big', 'rows.jsonl', 'sub']")
    server.stop()
    again = offline.replay(recording, tmp_path / "elsewhere")
    assert again.returncode == 0, again.stderr
    assert again.stdout == result.stdout
    assert b"the replay is the same" in again.stderr


def test_a_compiler_with_everything_in_a_bucket(server: Server, tmp_path: Path) -> None:
    """Sources, headers in a zip there, and what it writes there too."""
    bucket = stored(server, {"sdk/headers.zip": avr_build.headers_zip()})
    store = server.file_system()
    for path in avr_build.SOURCE.iterdir():
        if path.is_file():
            store.pipe_file(f"{bucket}/src/{path.name}", path.read_bytes())

    def at(where: str, **options: Any) -> Mount:
        return Mount(where, endpoint=server.endpoint, **options)

    preopens = {
        "/inc": at(f"zip://*::s3://{bucket}/sdk/headers.zip"),
        "/src": at(f"s3://{bucket}/src"),
        "/lib": avr_build.libraries(),
        "/out": at(f"s3://{bucket}/build", rw=True),
    }
    results = []
    for number, (name, arguments) in enumerate(avr_build.STEPS):
        program = avr_build.program(name)
        results.append(
            vfswasi.run(program, arguments, preopens=preopens, capture_output=True, record=tmp_path / f"{number}")
        )
        assert results[-1].returncode == 0, results[-1].stderr
    built = {path.rpartition("/")[2]: store.cat_file(path) for path in store.find(f"{bucket}/build")}
    expected = [told(result, "/out") for result in results]
    server.stop()
    made: dict[str, bytes] = {}
    for number, result in enumerate(results):
        again = vfswasi.replay(tmp_path / f"{number}", capture_output=True)
        assert again.same, again.difference
        assert again.result is not None
        assert (again.result.stdout, again.result.stderr) == (result.stdout, result.stderr)
        assert told(again.result, "/out") == expected[number]
        for entry in again.result.changes["/out"].entries:
            if entry.content is not None:
                handle = entry.content.open()
                data = bytearray(entry.content.size)
                handle.read_into(0, data)
                handle.close()
                made[entry.path] = bytes(data)
    assert made == built
    assert set(made) >= {"firmware.s", "firmware.o", "firmware.elf"}


def test_looking_and_changing_in_a_bucket(s3_server: Server, tmp_path: Path) -> None:
    bucket = stored(s3_server, {"a": b"contents", "sub/x": b"x" * 100_000, "sub/deep/y": b"y"})
    text = (
        "ls /d\nls /d/sub\ncat /d/sub/x 70000 10\nstat /d/none\nnew /d/n text\ncat /d/n\nwrite /d/a other\ncat /d/a\n"
        "rm /d/sub/deep/y\nls /d/sub\nmv /d/sub/x /d/moved\ncat /d/moved\nln /d/a /d/b\nsymlink a /d/l\nls /d\n"
    )
    for mount in ({"rw": True}, {"overlay": True}, {}):
        source = Mount(f"s3://{bucket}", endpoint=s3_server.endpoint, **mount)
        result = vfswasi.run(
            compile_guest("explore"),
            input=text,
            preopens={"/d": source},
            capture_output=True,
            record=tmp_path / "r",
        )
        changes = told(result)
        done = vfswasi.replay(tmp_path / "r", capture_output=True)
        assert done.same, done.difference
        assert done.result is not None
        assert done.result.stdout == result.stdout
        assert told(done.result) == changes


def test_neither_credentials_nor_the_server_are_in_the_file(s3_server: Server, tmp_path: Path) -> None:
    bucket = stored(s3_server, {"a": b"contents"})
    options = {"key": Server.key, "secret": Server.secret}
    source = Mount(f"s3://{bucket}", endpoint=s3_server.endpoint, storage_options=options)
    vfswasi.run(
        compile_guest("explore"),
        input="cat /d/a\n",
        preopens={"/d": source},
        capture_output=True,
        record=tmp_path / "r",
    )
    with vfswasi.Recording.load(tmp_path / "r") as recording:
        text = repr(recording)
    raw = (tmp_path / "r").read_bytes()
    with zipfile.ZipFile(tmp_path / "r") as archive:
        raw += archive.read("manifest.jsonl")
    for secret in (Server.secret, str(s3_server.port)):
        assert secret.encode() not in raw
        assert secret not in text


def test_the_process_in_which_it_is_replayed_has_no_network() -> None:
    """What the tests above rely on."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import offline, socket\n"
        "sys.addaudithook(offline._forbid); socket.create_connection(('127.0.0.1', 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 99, done.stderr
