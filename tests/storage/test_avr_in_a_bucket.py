"""The main job where everything lies in a bucket: headers in a zip archive there, sources, and what is built."""

from __future__ import annotations

from typing import Any

import vfswasi
from vfswasi import Mount

from .. import avr_build
from .servers import Server


def build(preopens: dict[str, Any]) -> list[vfswasi.Result]:
    results = []
    for name, arguments in avr_build.STEPS:
        result = vfswasi.run(avr_build.program(name), arguments, preopens=preopens, capture_output=True, check=True)
        results.append(result)
    return results


def test_firmware_built_from_a_bucket_into_it(s3_server: Server) -> None:
    bucket = s3_server.new_bucket()
    fs = s3_server.file_system()
    fs.pipe_file(f"{bucket}/sdk/headers.zip", avr_build.headers_zip())
    for path in avr_build.SOURCE.iterdir():
        if path.is_file():
            fs.pipe_file(f"{bucket}/src/{path.name}", path.read_bytes())
    local = vfswasi.MemoryBackend({})
    build({"/inc": _tree(avr_build.headers()), "/src": avr_build.SOURCE, "/lib": avr_build.libraries(),
           "/out": local})  # fmt: skip

    def at(where: str, **options: Any) -> Mount:
        return Mount(where, endpoint=s3_server.endpoint, **options)

    results = build(
        {
            "/inc": at(f"zip://*::s3://{bucket}/sdk/headers.zip"),
            "/src": at(f"s3://{bucket}/src"),
            "/lib": avr_build.libraries(),
            "/out": at(f"s3://{bucket}/build/run-7", rw=True),
        }
    )
    for name, contents in local.export().items():
        assert fs.cat_file(f"{bucket}/build/run-7/{name}") == contents, name
    traffic = results[0].traffic["/inc"]
    assert 0 < traffic.bytes_received < 2 * len(avr_build.headers_zip())


def _tree(files: dict[str, bytes]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, data in files.items():
        *directories, name = path.split("/")
        below = tree
        for directory in directories:
            below = below.setdefault(directory, {})
        below[name] = data
    return tree
