"""Components in the text format, of the parts that wit-component makes them of; and those of real programs."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import wasmtime

DATA = Path(__file__).parents[1] / "data" / "components"
EXAMPLES = Path(__file__).parents[2] / "examples"
ADAPTER = DATA / "wasi_snapshot_preview1.command.wasm"
WASM_TOOLS = Path(sys.executable).with_name("wasm-tools")

# Part of the component -> its text. `small` takes others in their place.
PARTS = {
    "imports": """
      (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))""",
    "main": """
      (core module $main
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 7))))""",
    "shim": """
      (core module $shim
        (type $call (func (param i32)))
        (table (export "table") 1 1 funcref)
        (func (export "0") (param i32) (call_indirect (type $call) (local.get 0) (i32.const 0))))""",
    "adapter": """
      (core module $adapter
        (import "env" "memory" (memory 0))
        (import "__main_module__" "_start" (func $start))
        (import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))
        (func (export "proc_exit") (param i32) (call $exit (i32.ne (local.get 0) (i32.const 0))))
        (func (export "wasi:cli/run@0.2.3#run") (result i32) (call $start) (i32.const 0)))""",
    "fixup": """
      (core module $fixup
        (import "" "0" (func (param i32)))
        (import "" "table" (table 1 1 funcref))
        (elem (i32.const 0) func 0))""",
    "shim instance": """
      (core instance $shim (instantiate $shim))
      (alias core export $shim "0" (core func $trampoline))
      (core instance $preview1 (export "proc_exit" (func $trampoline)))""",
    "main instance": """
      (core instance $main (instantiate $main (with "wasi_snapshot_preview1" (instance $preview1))))""",
    "adapter instance": """
      (alias core export $main "memory" (core memory $memory))
      (alias core export $main "_start" (core func $start))
      (core instance $env (export "memory" (memory $memory)))
      (core instance $of_main (export "_start" (func $start)))
      (alias export $exit "exit" (func $exit_of_host))
      (core func $exit_lowered (canon lower (func $exit_of_host)))
      (core instance $exit_of_host (export "exit" (func $exit_lowered)))
      (core instance $adapter (instantiate $adapter
        (with "env" (instance $env)) (with "__main_module__" (instance $of_main))
        (with "wasi:cli/exit@0.2.3" (instance $exit_of_host))))""",
    "fixup instance": """
      (alias core export $adapter "proc_exit" (core func $proc_exit))
      (alias core export $shim "table" (core table $table))
      (core instance $actual (export "0" (func $proc_exit)) (export "table" (table $table)))
      (core instance (instantiate $fixup (with "" (instance $actual))))""",
    "run": """
      (type $run (func (result (result))))
      (alias core export $adapter "wasi:cli/run@0.2.3#run" (core func $core_run))
      (func $run (type $run) (canon lift (core func $core_run)))""",
    "run instance": """
      (component $with_type
        (type $run (func (result (result))))
        (import "import-func-run" (func $given (type $run)))
        (export "run" (func $given) (func (type $run))))
      (instance $run (instantiate $with_type (with "import-func-run" (func $run))))""",
    "export": """
      (export "wasi:cli/run@0.2.3" (instance $run))""",
}


def text(parts: dict[str, str] | None = None) -> str:
    """The component of `PARTS`, with these in place of some, or beside them."""
    return f"(component {''.join({**PARTS, **(parts or {})}.values())})"


def small(parts: dict[str, str] | None = None) -> bytes:
    """Exits with 7 here, and with 1 as a component: WASI 0.2 has only success and failure."""
    return bytes(wasmtime.wat2wasm(text(parts)))


def part(name: str, *changes: tuple[str, str]) -> dict[str, str]:
    """A part in which some text stands in place of other text, which must be there."""
    changed = PARTS[name]
    for old, new in changes:
        assert old in changed, (name, old)
        changed = changed.replace(old, new)
    return {name: changed}


@cache
def adapted(module: Path) -> bytes:
    """The component that wasm-tools makes of a program and the adapter."""
    command = [WASM_TOOLS, "component", "new", module, "--adapt", ADAPTER]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module.name}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def run_by_wasmtime(component: bytes, args: list[str], preopens: dict[str, Path], out: Path) -> tuple[bool, bytes]:
    """(whether it succeeded, what it wrote to its standard output) as a component under wasmtime's own WASI 0.2.
    `out`: a file to be made."""
    from wasmtime.component import Component, Linker

    config = wasmtime.Config()
    config.wasm_component_model = True
    engine = wasmtime.Engine(config)
    linker = Linker(engine)
    linker.add_wasip2()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = args
    wasi.stdout_file = str(out)
    for guest, host in preopens.items():
        wasi.preopen_dir(str(host), guest)
    store.set_wasi(wasi)
    instance = linker.instantiate(store, Component(engine, component))
    interface = instance.get_export_index(store, "wasi:cli/run@0.2.0")  # or one that is compatible with it
    function = instance.get_func(store, instance.get_export_index(store, "run", interface))
    assert function is not None
    try:
        function(store)
    except wasmtime.ExitTrap as end:
        return end.code == 0, out.read_bytes()
    return True, out.read_bytes()
