"""A component that the adapter for preview1 made runs; what only looks like one is refused, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi import cli
from vfswasi.engine.compiling import modules
from vfswasi.engine.compiling.features import NONE
from vfswasi.engine.components import adapted, mains, validating
from vfswasi.engine.interruption.ways import EPOCH, PAGE

from .building import part, small, text

LOOP = part("main", ("(call $exit (i32.const 7))", "(loop (br 0))"))


# What runs


def test_the_main_module_runs_on_our_own_preview1() -> None:
    """As a component it could only have succeeded or failed."""
    assert vfswasi.run(small()).returncode == 7


@pytest.mark.parametrize("form", ["text", "text with a comment first", "binary"])
def test_both_formats_run(form: str) -> None:
    component = {"text": text().encode(), "text with a comment first": f";; made\n{text()}".encode(), "binary": small()}
    assert vfswasi.run(component[form]).returncode == 7


def test_a_sandbox_runs_it_many_times_and_so_does_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "c.wasm"
    path.write_bytes(small())
    with vfswasi.Sandbox(path) as sandbox:
        assert [sandbox.run().returncode for _ in range(3)] == [7, 7, 7]
    assert cli.main(["run", str(path)]) == 7


@pytest.mark.parametrize("way", [PAGE, EPOCH])
def test_a_main_module_that_computes_is_interrupted_as_any_program(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_INTERRUPT", way)
    with vfswasi.Sandbox(small(LOOP)) as sandbox:
        assert sandbox._programs.program.compiled.interruption == way
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=0.1)


def test_its_instructions_are_counted() -> None:
    with pytest.raises(vfswasi.GuestLimitError, match="fuel"):
        vfswasi.run(small(LOOP), limits=vfswasi.Limits(fuel=1000))


@pytest.mark.parametrize("version", ["0.2.0", "0.2.6", "0.2.12"])
def test_every_version_of_wasi_0_2_is_taken(version: str) -> None:
    component = text().replace("@0.2.3", f"@{version}").encode()
    assert vfswasi.run(component).returncode == 7


DIFFERENT = {
    "custom sections between all others": {
        name: f'(@custom "noise" "\\00\\ff\\1b[31m") {written}'
        for name, written in part("main").items() | part("fixup").items() | part("export").items()
    },
    "the exported instance is a list of names": {"run instance": '(instance $run (export "run" (func $run)))'},
    "preview1 straight from an instance of a module": {
        "shim instance": "(core instance $shim (instantiate $shim))",
        **part("shim", ('(export "0")', '(export "proc_exit")')),
        **part("main instance", ("(instance $preview1)", "(instance $shim)")),
    },
    "a main module without imports": {
        "main": '(core module $main (memory (export "memory") 1) (func (export "_start") unreachable))',
        **part("main instance", ('(with "wasi_snapshot_preview1" (instance $preview1))', "")),
    },
    "more is exported": part("export", ("(export", '(export "more" (func $run)) (export')),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_makes_no_difference_makes_none(name: str) -> None:
    component = bytes(wasmtime.wat2wasm(text(DIFFERENT[name])))
    assert adapted.find(component).interface == "wasi:cli/run@0.2.3"
    if "without imports" in name:
        with pytest.raises(vfswasi.GuestTrapError, match="unreachable"):
            vfswasi.run(component, check=True)
    else:
        assert vfswasi.run(component).returncode == 7


# What does not

GO = '(func (export "go") (result i32) (i32.const 0))'
MAIN_AND_MORE = '(import "env" "log" (func)) (import "wasi_snapshot_preview1" "proc_exit"'
SECOND = part(
    "fixup",
    (
        "(core module $fixup",
        """
  (core module $second (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))
  (core module $fixup""",
    ),
)
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "main imports something else too": (
        {
            **part("main", ('(import "wasi_snapshot_preview1" "proc_exit"', MAIN_AND_MORE)),
            **part(
                "main instance",
                ("(instantiate $main", """(instantiate $main (with "env" (instance $log))"""),
                (
                    "(core instance $main",
                    """
                     (core module $logger (func (export "log")))
                     (core instance $log (instantiate $logger)) (core instance $main""",
                ),
            ),
        },
        r"its main module imports env\.log itself",
    ),
    "main imports a memory from preview1": (
        {
            **part("main", ("(memory (export", '(import "wasi_snapshot_preview1" "m" (memory 1)) (memory (export')),
            **part("shim", ("(table", '(memory (export "m") 1) (table')),
            **part(
                "shim instance",
                (
                    "(core instance $preview1",
                    """
              (alias core export $shim "m" (core memory $m)) (core instance $preview1 (export "m" (memory $m))""",
                ),
            ),
        },
        r"its main module imports wasi_snapshot_preview1\.m itself",
    ),
    "two main modules": (SECOND, "several modules that could be its main one"),
    "no adapter: the host's functions are preview1": (
        {
            "imports": """
              (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))
                (export "code" (func (param "code" u32)))))""",
            "shim instance": """
              (core instance $shim (instantiate $shim))
              (alias export $exit "code" (func $code)) (core func $lowered (canon lower (func $code)))
              (core instance $preview1 (export "proc_exit" (func $lowered)))""",
        },
        "its preview1 does not come from an adapter",
    ),
    "no adapter: the main module is started without one": (
        {
            "adapter": "",
            "fixup": "",
            "fixup instance": "",
            "adapter instance": "",
            **part("main", ('(func (export "_start")', f'{GO} (func (export "_start")')),
            **part("run", ('$adapter "wasi:cli/run@0.2.3#run"', '$main "go"')),
        },
        "calls WASI 0.2 itself, and not through the adapter",
    ),
    "the adapter does not have what the main module calls": (
        {
            **part("adapter", ('(export "proc_exit")', '(export "proc_end")')),
            **part("fixup instance", ('$adapter "proc_exit"', '$adapter "proc_end"')),
        },
        "its adapter does not provide proc_exit",
    ),
    "the adapter needs something else": (
        {
            **part("adapter", ('(import "env"', '(import "other" "f" (func)) (import "env"')),
            **part(
                "adapter instance",
                (
                    "(core instance $adapter (instantiate $adapter",
                    """
              (core module $more (func (export "f"))) (core instance $more (instantiate $more))
              (core instance $adapter (instantiate $adapter (with "other" (instance $more))""",
                ),
            ),
        },
        r"its adapter imports other\.f",
    ),
    "the adapter exports _start too": (
        part("adapter", ('(func (export "proc_exit")', '(func (export "_start")) (func (export "proc_exit")')),
        "several modules that could be its main one",
    ),
    "main is instantiated twice": (
        part(
            "main instance",
            (
                "(core instance $main",
                """
          (core instance (instantiate $main (with "wasi_snapshot_preview1" (instance $preview1))))
          (core instance $main""",
            ),
        ),
        "instantiated several times",
    ),
    "another module starts by itself": (
        part("fixup", ("(elem", "(func $do) (start $do) (elem")),
        "does something when it is instantiated",
    ),
    "an interface of somebody else": (
        part("imports", ("(import", '(import "acme:robots/arm@1.0.0" (instance)) (import')),
        "it imports acme:robots/arm@1.0.0 beside what the adapter needs",
    ),
    "a function": (part("imports", ("(import", '(import "beep" (func)) (import')), "it imports beep beside"),
    "an interface that no adapter uses": (
        part("imports", ("(import", '(import "wasi:http/types@0.2.3" (instance)) (import')),
        "it imports wasi:http/types@0.2.3 beside",
    ),
    "no wasi:cli/run": (part("export", ("wasi:cli/run@0.2.3", "wasi:http/incoming-handler@0.2.3")), "it is no command"),
    "wasi:cli/run of a draft": (part("export", ("@0.2.3", "@0.2.0-rc-2023-11-10")), "it is no command"),
    "wasi:cli/run of WASI 0.3": (part("export", ("@0.2.3", "@0.3.0")), "it is no command"),
    "wasi:cli/run twice": (
        {"another": '(export "wasi:cli/run@0.2.4" (instance $run))'},
        "exports wasi:cli/run several times",
    ),
    "wasi:cli/run of the host's": (
        {
            **part("imports", ("(import", '(import "wasi:cli/run@0.2.3" (instance $theirs)) (import')),
            **part("export", ("(instance $run)", "(instance $theirs)")),
        },
        "its wasi:cli/run comes from elsewhere",
    ),
    "run goes through a component that does something": (
        part("run instance", ("(component $with_type", "(component $with_type (core module)")),
        "comes from a component inside of it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_looks_like_one_is_refused(name: str) -> None:
    parts, why = REFUSED[name]
    component = bytes(wasmtime.wat2wasm(text(parts)))
    config = wasmtime.Config()
    config.wasm_component_model = True
    wasmtime.component.Component(wasmtime.Engine(config), component)  # it is valid
    with pytest.raises(vfswasi.InvalidModuleError, match=why) as caught:
        vfswasi.run(component)
    assert str(caught.value).startswith("module.wasm: this is a WebAssembly component")
    assert "wasm32-wasip1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_which_interfaces_and_versions_are_not_there_is_told() -> None:
    wat = """(component
      (import "wasi:cli/environment@0.2.3" (instance)) (import "wasi:cli/exit@0.2.3" (instance))
      (import "wasi:io/streams@0.2.6" (instance)) (import "acme:robots/arm" (instance)))"""
    with pytest.raises(vfswasi.InvalidModuleError) as caught:
        vfswasi.run(wat.encode())
    assert (
        "component for WASI 0.2; it imports wasi:cli@0.2.3 (environment, exit), wasi:io@0.2.6 (streams), "
        "acme:robots (arm), which are not there yet; "
    ) in str(caught.value)


def test_of_wasi_0_3_it_is_said_that_nothing_of_it_runs() -> None:
    with pytest.raises(vfswasi.InvalidModuleError, match=r"wasi:cli@0\.3\.0 \(run\).*WASI 0\.3 is not supported"):
        vfswasi.run(b'(component (import "wasi:cli/run@0.3.0" (instance)))')


def test_a_mistake_in_the_text_of_a_component_is_told_with_its_place() -> None:
    with pytest.raises(vfswasi.InvalidModuleError, match=r"not valid WebAssembly text: [^\n]*; at 2:3$"):
        vfswasi.run(b"(component\n (frob))")


# What wasmtime says of it

INVALID = {
    "the adapter": part("adapter", ("(i32.const 0))", "(i64.const 0))")),
    "another module": part("shim", ("(i32.const 0))", "(f32.const 0))")),
    "the main module": part("main", ("(i32.const 7)", "(i64.const 7)")),
    "what the main module is given": part("shim", ("(param i32)", "(param i64)")),
    "how a function is lifted": part("run", ("(func (result (result)))", "(func (result string))")),
}


@pytest.mark.parametrize("name", INVALID)
def test_all_of_it_is_validated(name: str) -> None:
    component = bytes(wasmtime.wat2wasm(text(INVALID[name])))
    assert adapted.find(component)
    with pytest.raises(vfswasi.InvalidModuleError, match=r"not a valid WebAssembly (component|module)") as caught:
        vfswasi.run(component)
    assert "\n" not in str(caught.value)


def test_a_valid_main_module_that_is_known_does_not_make_the_component_around_it_valid() -> None:
    for _ in range(2):
        assert vfswasi.run(small()).returncode == 7
        with pytest.raises(vfswasi.InvalidModuleError, match="not a valid WebAssembly component"):
            vfswasi.run(bytes(wasmtime.wat2wasm(text(INVALID["the adapter"]))))


def test_wasmtime_is_asked_about_the_whole_component_but_for_what_its_functions_do() -> None:
    also = '(func (param i64)) (func (export "also") (param f32) (result i64) (i64.const 0)) (func $not_seen)'
    found = adapted.find(small(part("main", ("(memory", f"{also} (memory"))))
    hollow = adapted.find(validating.hollow(found))
    assert len(hollow.structure.modules) == len(found.structure.modules)
    assert hollow.structure.exports == found.structure.exports
    for of_both in (lambda module: module.imports, lambda module: module.exports):
        expected = of_both(wasmtime.Module(wasmtime.Engine(), found.main))
        got = of_both(wasmtime.Module(wasmtime.Engine(), hollow.main))
        assert sorted(map(_told, got)) == sorted(map(_told, expected))


def _told(each: Any) -> tuple[str, str]:
    of_it = each.type
    if isinstance(of_it, wasmtime.FuncType):
        return each.name, f"{[*map(str, of_it.params)]} {[*map(str, of_it.results)]}"
    return each.name, str(of_it.limits.min)


# What it costs the second time


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(directory))
    return directory


def large() -> bytes:
    """One that takes so long to compile that it is kept on disk."""
    functions = "".join(
        f"(func (param i32) (result i32) {'(local.set 0 (i32.mul (local.get 0) (i32.const 3)))' * 40} (local.get 0))"
        for _ in range(400)
    )
    return small(part("main", ("(memory", f"{functions} (memory")))


def _nothing_is_checked(*_: object) -> None:
    raise AssertionError("the component is validated again")


def test_the_second_run_compiles_nothing_and_validates_nothing(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = large()
    assert vfswasi.run(component).returncode == 7
    kept = sorted(own_cache.iterdir())
    assert kept
    monkeypatch.setattr(validating, "check", _nothing_is_checked)
    monkeypatch.setattr(modules, "_compile", _nothing_is_checked)
    monkeypatch.setattr(modules, "_compile_rewritten", _nothing_is_checked)
    monkeypatch.setattr(adapted, "find", _nothing_is_checked)
    assert vfswasi.run(component).returncode == 7  # out of memory
    modules._remembered.clear()
    assert vfswasi.run(component).returncode == 7  # from the disk, as in another process
    assert sorted(own_cache.iterdir()) == kept


def test_what_is_remembered_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    component = small()
    first = modules.load(component, "c.wasm")
    monkeypatch.setattr(adapted, "find", _nothing_is_checked)
    assert modules.load(component, "c.wasm") is first


# inspect


def _inspected(wasm: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    (tmp_path / "m.wasm").write_bytes(wasm)
    assert cli.main(["inspect", "--json", str(tmp_path / "m.wasm")]) == 0
    description = json.loads(capfd.readouterr().out)
    assert cli.main(["inspect", str(tmp_path / "m.wasm")]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return description, out


@pytest.mark.parametrize("form", ["text", "binary"])
def test_inspect_shows_that_it_runs_and_how(form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    description, told = _inspected(text().encode() if form == "text" else small(), tmp_path, capfd)
    assert (description["kind"], description["problems"], description["wasi"]) == ("component", [], ["0.2"])
    assert description["main"] == {
        "bytes": len(adapted.find(small()).main),
        "entry": "wasi:cli/run@0.2.3",
        "imports": {"wasi_snapshot_preview1": ["proc_exit"]},
    }
    assert description["memory"] == "64 KiB at start, no maximum"
    assert "runs here: its main module, " in told
    assert "its main module imports from wasi_snapshot_preview1:\n    proc_exit\n" in told
    assert "imports wasi:cli/exit@0.2.3 (instance)" in told


@pytest.mark.parametrize("name", REFUSED)
def test_inspect_says_what_run_says(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parts, why = REFUSED[name]
    component = small(parts)
    description, told = _inspected(component, tmp_path, capfd)
    assert description["main"] is None
    with pytest.raises(vfswasi.InvalidModuleError, match=why) as caught:
        vfswasi.run(component)
    assert [f"module.wasm: {problem}" for problem in description["problems"]] == [str(caught.value)]
    assert "not as it is: this is a WebAssembly component" in told
    assert "runs here" not in told


@pytest.mark.parametrize("name", INVALID)
def test_inspect_says_that_it_is_not_valid(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    description, told = _inspected(small(INVALID[name]), tmp_path, capfd)
    assert any("not a valid WebAssembly" in problem for problem in description["problems"])
    assert "runs here" not in told


def test_validating_uses_the_features_that_were_asked_for() -> None:
    """`gc` is off: the adapter may use it as little as the program."""
    component = small(part("adapter", ('(import "env"', '(type (struct)) (import "env"')))
    with pytest.raises(vfswasi.InvalidModuleError, match="not a valid WebAssembly component"):
        vfswasi.run(component)
    assert mains.wrong_with(adapted.find(component), NONE)
    assert vfswasi.run(component, features=["gc"]).returncode == 7
