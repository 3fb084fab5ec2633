"""The code of deterministic runs: NaNs have one pattern of bits, relaxed SIMD has one result; it is compiled apart from
other code, wherever that is done."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Limits
from vfswasi.engine.compiling import engines, features, modules
from vfswasi.engine.compiling.apart import parent
from vfswasi.engine.interruption import ways

from ..wat_programs import program

CANONICAL = struct.pack("<d", float("nan"))
# Writes eight bytes: what becomes of a NaN of a machine's own, with something in it, when it is computed with.
WITH_PAYLOAD = 0x7FF4_0000_0000_0123
NAN = program(
    f"""(i64.store (i32.const 32) (i64.const {WITH_PAYLOAD}))
    (f64.store (i32.const 16) (f64.add (f64.load (i32.const 32)) (f64.const 1)))
    (i32.store (i32.const 4) (i32.const 8)) (call $say (i32.const 1))"""
)
# Sixteen bytes: indexes that are out of range, with the highest bit and without.
SWIZZLE = program(
    """(v128.store (i32.const 16) (i8x16.relaxed_swizzle
      (v128.const i8x16 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16) (v128.load (i32.const 32))))
    (i32.store (i32.const 4) (i32.const 16)) (call $say (i32.const 1))""",
    functions="""(data (i32.const 32) "\\00\\0f\\10\\11\\1f\\20\\7f\\80\\81\\8f\\ff\\05\\15\\25\\35\\45")""",
)
IN_RANGE = bytes([1, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0])


def out(wasm: bytes, **options: Any) -> bytes:
    return bytes(vfswasi.run(wasm, stdout=vfswasi.PIPE, stderr=vfswasi.DEVNULL, check=True, **options).stdout)


LIMITS = {"here": Limits(), "apart": Limits(compile_memory_bytes=200 << 20), "fuel": Limits(fuel=10_000)}


@pytest.mark.parametrize("where", LIMITS)
def test_a_nan_has_one_pattern_of_bits(where: str, interruption: ways.Way, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = []
    compiled = parent.compiled
    monkeypatch.setattr(parent, "compiled", lambda *args: (apart.append(args), compiled(*args))[1])
    monkeypatch.setattr(modules, "_recall", lambda *_: None)  # of another of these tests
    assert out(NAN, deterministic=True, limits=LIMITS[where]) == CANONICAL
    assert bool(apart) is (where == "apart")
    assert out(NAN, limits=LIMITS[where]) == (WITH_PAYLOAD | 1 << 51).to_bytes(8, "little")


def test_relaxed_simd_has_the_result_that_the_specification_calls_deterministic() -> None:
    assert out(SWIZZLE, deterministic=True, features=["relaxed-simd"]) == IN_RANGE


def test_relaxed_simd_stays_a_feature_that_has_to_be_asked_for() -> None:
    with pytest.raises(vfswasi.InvalidModuleError, match=r"relaxed-simd"):
        vfswasi.run(SWIZZLE, deterministic=True)
    with pytest.raises(ValueError, match="no feature 'deterministic'"):
        vfswasi.run(NAN, features=["deterministic"])


def test_such_code_has_its_own_place_in_the_cache_and_its_own_engine() -> None:
    digest = hashlib.sha256(b"")
    for way in ways.PAGE, ways.EPOCH:
        for fuel in True, False:
            keys = {modules.key_of(digest, way, fuel, on) for on in (features.NONE, features.DETERMINISTIC)}
            assert len(keys) == 2
    assert engines.engine() is not engines.engine(features=features.DETERMINISTIC)
    assert engines.engine(features=features.DETERMINISTIC) is engines.engine(features=features.DETERMINISTIC)


def test_a_run_that_is_deterministic_has_the_module_compiled_once_more_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = []
    load = modules.load
    monkeypatch.setattr(modules, "load", lambda *args, **more: (made.append(args[3]), load(*args, **more))[1])
    path = tmp_path / "nan.wasm"
    path.write_bytes(NAN)

    def run(sandbox: vfswasi.Sandbox, **options: Any) -> bytes:
        return bytes(sandbox.run(stdout=vfswasi.PIPE, stderr=vfswasi.DEVNULL, **options).stdout)

    with vfswasi.Sandbox(path) as sandbox:
        plain = run(sandbox)
        assert [run(sandbox, deterministic=True) for _ in range(3)] == [CANONICAL] * 3
        assert run(sandbox) == run(sandbox, deterministic=False) == plain != CANONICAL
        assert made == [features.NONE, features.DETERMINISTIC]
        assert run(sandbox, deterministic=True, limits=Limits(fuel=10_000)) == CANONICAL
        assert run(sandbox, deterministic=True, limits=Limits(inodes=5)) == CANONICAL
        assert run(sandbox, deterministic=True, imports={"env": {}}) == CANONICAL
    made.clear()
    with vfswasi.Sandbox(path, deterministic=True) as sandbox:
        assert run(sandbox) == run(sandbox, deterministic=True) == CANONICAL
        assert made == [features.DETERMINISTIC]
        assert run(sandbox, deterministic=False) == plain
