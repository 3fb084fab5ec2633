"""The main job in small: a C program compiled to WebAssembly reads a zip archive and writes to memory."""

from pathlib import Path

import vfswasi

here = Path(__file__).parent

result = vfswasi.run(
    here / "wordcount.wasm",
    ["/out/report.txt", "/data"],
    preopens={"/data": here / "corpus.zip", "/out": {}},
    capture_output=True,
    text=True,
    timeout=30,
    check=True,
)
print(result.stdout, end="")
print(result.files["/out"]["report.txt"].decode(), end="")
