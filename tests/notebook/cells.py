"""A notebook that uses vfswasi, and what its cells have to show."""

from __future__ import annotations

from typing import Any, NamedTuple

import nbformat

# Writes "out" and "err" in turns, a line each 0.1 s, `args` times.
PROGRAM = r'''
PROGRAM = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\04\\00\\00\\00\\14\\00\\00\\00\\04\\00\\00\\00")
  (data (i32.const 16) "out\\nerr\\n")
  (func (export "_start") (local $left i32)
    (drop (call $sizes (i32.const 64) (i32.const 68)))
    (i64.store (i32.const 1048) (i64.const 100000000)) (i32.store (i32.const 1040) (i32.const 1))
    (local.set $left (i32.load (i32.const 64)))
    (loop $again
      (if (i32.gt_u (local.tee $left (i32.sub (local.get $left) (i32.const 1))) (i32.const 0)) (then
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
        (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 32)))
        (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))
        (br $again))))))""".encode()
import sys, threading, time
import vfswasi
'''
EVIL = (
    "<script>document.title = 'broken'</script><img src=x onerror=\\\"document.title = 'broken'\\\">$x^2$ \\x1b[31mred"
)


class Cell(NamedTuple):
    """stdout, stderr: all that stands below the cell. view: words of the view of its value, None if it has none."""

    code: str
    stdout: str = ""
    stderr: str = ""
    view: tuple[str, ...] | None = None


CELLS = [
    Cell(PROGRAM + "assert not hasattr(sys.stdout, 'getvalue')"),
    Cell("result = vfswasi.run(PROGRAM, ['x'] * 2)", "out\n" * 2, "err\n" * 2),
    Cell("_ = vfswasi.run(PROGRAM, ['x'], stdout=sys.stdout, stderr=vfswasi.STDOUT)", "out\nerr\n"),
    Cell("_ = vfswasi.run(PROGRAM, ['x'], stdout=sys.stderr, stderr=sys.stdout)", "err\n", "out\n"),
    Cell("_ = vfswasi.run(PROGRAM, ['x'], stdout=print)", "b'out\\n'\n", "err\n"),
    # Two runs at once, each on a thread of its own, begun in this cell and awaited here.
    Cell(
        """import concurrent.futures
with vfswasi.Sandbox(PROGRAM) as sandbox, concurrent.futures.ThreadPoolExecutor(2) as pool:
    _ = list(pool.map(sandbox.run, [['x'] * 3, ['x'] * 3]))""",
        "out\n" * 6,
        "err\n" * 6,
    ),
    Cell("result", view=("module.wasm", "exit status 0", "MiB of memory")),
    Cell(
        f"""evil = "{EVIL}"
source = {{"main.c": "int main;", "link": vfswasi.Symlink("main.c")}}
tree = vfswasi.MemoryBackend({{"src": source, evil.replace("/", "|"): evil}})
tree""",
        view=("src/", "main.c", "9 bytes", "link -&gt; main.c", "&lt;img src=x"),
    ),
    Cell(
        """limits = vfswasi.Limits(fuel=10**9)
sandbox = vfswasi.Sandbox(PROGRAM, preopens={"/work": tree, "/tmp": {}}, limits=limits)
sandbox""",
        view=("/work", "MemoryBackend", "memory, new for each run", "fuel=1000000000"),
    ),
    Cell(
        "sandbox.run(['x'] * 2, capture_output=True, text=True)", view=("stdout", "out\nout", "stderr", "err", "/work")
    ),
    Cell(
        """from vfswasi.fs_backends.layers.overlay.entries import Entry
made = [Entry("added", name, vfswasi.fs_backends.base.FileType.DIRECTORY) for name in (evil, "made")]
vfswasi.Changes(made)""",
        view=("2 changes", "A made/", "&lt;img src=x"),
    ),
    Cell(
        "vfswasi.Result(['p.wasm', evil], 1, evil + '\\n' * 100 + 'the end', None, trap='wasm trap: ' + evil)",
        view=("trapped", "&lt;script&gt;", "the end", "characters in all"),
    ),
    Cell(
        "try:\n    sandbox.run(['x'] * 50, timeout=0.35)\nexcept vfswasi.GuestTimeoutError as error:\n    print(error)",
        "out\nout\nout\nout\nmodule.wasm was still running after 0.35 seconds\n",
        "err\n" * 4,
    ),
]


# A command in a cell, which is on a terminal there; it moves something for longer than a second.
COMMAND = """code = '''
import time
from vfswasi import Traffic
from vfswasi.cli import progress
with progress.shown(lambda: {"/d": Traffic(int(time.monotonic() * 100), 0, 0)}):
    time.sleep(1.5)
print("done")
'''
open("command.py", "w").write(code)
!{sys.executable} command.py
!{sys.executable} -m vfswasi run zip://none.wasm::none.zip"""


def notebook(cells: list[Cell] | None = None) -> Any:
    made = [nbformat.v4.new_code_cell(cell.code) for cell in (CELLS if cells is None else cells)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel})


def text_of(cell: Any, name: str) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == name)
