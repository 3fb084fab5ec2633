"""Recordings that were changed by somebody."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Lines = list[dict[str, Any]]


def changed(path: Path, lines: Callable[[Lines], Any] = lambda _: None, **members: bytes | None) -> None:
    """With other lines in its manifest, and other members (None: without it), whose digests the manifest is given."""
    with zipfile.ZipFile(path) as archive:
        contents: dict[str, bytes] = {name: archive.read(name) for name in archive.namelist()}
    told = [json.loads(line) for line in contents.pop("manifest.jsonl").split(b"\n") if line]
    for name, data in members.items():
        member = name.replace("__", "/").replace("_wasm", ".wasm")
        told = [line for line in told if line.get("member") != member]
        contents.pop(member, None)
        if data is not None:
            contents[member] = data
            digest = hashlib.sha256(data).hexdigest()
            told.insert(2, {"member": member, "size": len(data), "sha256": digest})
    lines(told)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        archive.writestr("manifest.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in told))


def with_module(path: Path, wasm: bytes) -> None:
    def name_it(lines: Lines) -> None:
        lines[1] |= {"sha256": hashlib.sha256(wasm).hexdigest(), "module_bytes": len(wasm)}

    changed(path, name_it, module_wasm=wasm)
