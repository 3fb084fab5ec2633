"""The guest that does what its arguments say, and prints all that it sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import vfswasi
from vfswasi import Access, Accesses

from ...guest_programs import compile_guest


@cache
def sandbox(fast: bool = True) -> vfswasi.Sandbox:
    return vfswasi.Sandbox(compile_guest("looks"), vdso=fast)


def run(preopens: Mapping[str, Any], *words: str, fast: bool = True, **options: Any) -> vfswasi.Result[bytes]:
    return sandbox(fast).run(words, preopens=preopens, capture_output=True, timeout=60, **options)


def looked(preopens: Mapping[str, Any], *words: str, fast: bool = True, how: Any = True) -> Accesses:
    """What the guest looked at on the way."""
    result = run(preopens, *words, fast=fast, accesses=how)
    assert result.returncode == 0, result.stderr
    assert result.accesses is not None
    return result.accesses


def found(accesses: Accesses, name: str = "/d") -> dict[str, str]:
    """Path -> what was there, and what was done with it, in words."""
    return {access.path: words(access) for access in accesses[name]}


def words(access: Access) -> str:
    told = [access.found]
    if access.listed:
        told.append("listed")
    if access.read:
        told.append("read" if access.read == "whole" else f"read {access.read}")
    if access.written:
        told.append("written")
    return ", ".join(told)
