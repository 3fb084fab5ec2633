"""The only room that knows wasmtime: compiles modules, binds system calls as raw callbacks, runs guests."""
