"""Options of wasmtime, docker, node and others that `vfswasi run` has under another name, or does not need: what to
write here. Looked at only when an option is not known.

Sources: `wasmtime run --help`, `-W help` and `-S help`, docker-run(1), node(1), `wazero run -h`, `wasmer run --help`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_LEAVE: Final = "leave it out"
_NO_NETWORK: Final = f"programs have no network here; {_LEAVE}"
_COMPILING: Final = f"how a module is compiled cannot be changed here; {_LEAVE}"
_INHERITED: Final = f"standard input is inherited, terminals too; {_LEAVE}"
_NOTHING_KEPT: Final = f"nothing is left of a run; {_LEAVE}"
_ENV: Final = "write --env NAME for each variable that it needs"
_THERE: Final = f"it is there without asking; {_LEAVE}"
_NO_USER: Final = f"a program has no user here, only what it is given; {_LEAVE}"
_READ_ONLY: Final = f"mounts are read-only unless rw is said; {_LEAVE}"

# {} stands for the value that was given.
_OPTIONS: Final[dict[str, str]] = {
    # wasmtime
    "-C": _COMPILING,
    "--codegen": _COMPILING,
    "-O": _COMPILING,
    "--optimize": _COMPILING,
    "-D": f"there is nothing to debug wasmtime with here; {_LEAVE}",
    "--debug": f"there is nothing to debug wasmtime with here; {_LEAVE}",
    "--fuel": "write --limit fuel={N}",
    "--mapdir": "write --mount GUEST=HOST",
    "--map-dir": "write --mount GUEST=HOST",
    "--wasm-timeout": "write --timeout {TIME}",
    "--max-wasm-stack": "write --limit stack_bytes={SIZE}",
    "--max-memory-size": "write --limit memory_bytes={SIZE}",
    "--wasm-features": "write --feature NAME",
    "--wasi-modules": f"WASI is there without asking; {_LEAVE}",
    "--preload": "modules are not linked here; in Python, imports= gives a program functions",
    "--allow-precompiled": "compiled modules are not run; give the .wasm file, and the cache has the compiled one",
    "--listenfd": _NO_NETWORK,
    "--tcplisten": _NO_NETWORK,
    "--addr-pool": _NO_NETWORK,
    "--config": f"there are no configuration files; {_LEAVE}",
    "--profile": f"there is no profiler; {_LEAVE}",
    "--target": _COMPILING,
    # docker, podman
    "--rm": _NOTHING_KEPT,
    "-i": _INHERITED,
    "-t": _INHERITED,
    "-it": _INHERITED,
    "-ti": _INHERITED,
    "--interactive": _INHERITED,
    "--tty": _INHERITED,
    "-d": "put & behind the command, or use a service manager",
    "--detach": "put & behind the command, or use a service manager",
    "-w": "write --cwd {DIR}",
    "--workdir": "write --cwd {DIR}",
    "--network": _NO_NETWORK,
    "--net": _NO_NETWORK,
    "-p": _NO_NETWORK,
    "-P": _NO_NETWORK,
    "--publish": _NO_NETWORK,
    "--expose": _NO_NETWORK,
    "--dns": _NO_NETWORK,
    "--add-host": _NO_NETWORK,
    "--hostname": _NO_NETWORK,
    "-m": "write --limit memory_bytes={SIZE}",
    "--memory": "write --limit memory_bytes={SIZE}",
    "--read-only": _READ_ONLY,
    "--tmpfs": "write --mount {DIR}=mem:, or --tmp for /tmp",
    "-u": _NO_USER,
    "--user": _NO_USER,
    "--privileged": _NO_USER,
    "--cap-add": _NO_USER,
    "--cap-drop": _NO_USER,
    "--security-opt": _NO_USER,
    "--device": "write --dev for /dev/null, /dev/urandom and the like; there are no others",
    "--entrypoint": "write --invoke FUNC for another function of the module",
    "--name": f"runs have no names; for the name that the program sees, write --argv0 {{NAME}}; or {_LEAVE}",
    "--ulimit": "write --limit NAME=VALUE",
    "--pids-limit": f"a program cannot start others; {_LEAVE}",
    "--cpus": "write --limit fuel=N, or --timeout TIME",
    "--init": f"there are no processes to look after; {_LEAVE}",
    "--pull": f"there are no images; {_LEAVE}",
    "--platform": f"WebAssembly is the same everywhere; {_LEAVE}",
    "--restart": "a run ends when the program does; use a loop of the shell",
    "-l": f"runs have no labels; {_LEAVE}",
    "--label": f"runs have no labels; {_LEAVE}",
    # node
    "--experimental-wasi-unstable-preview1": _THERE,
    "--stack-size": "write --limit stack_bytes={SIZE}",
    "--max-old-space-size": "write --limit memory_bytes={N}M",
    "--preopens": "write --mount GUEST=SOURCE",
    "--preopen": "write --mount GUEST=SOURCE",
    # wasmer, wazero, iwasm
    "-mount": "write --mount GUEST=SOURCE, or -v HOST:GUEST",
    "-env": "write --env {NAME}",
    "-env-inherit": _ENV,
    "-timeout": "write --timeout {TIME}",
    "-cachedir": "set VFSWASI_CACHE_DIR",
    "-listen": _NO_NETWORK,
    "-interpreter": _COMPILING,
    "--cache-dir": "set VFSWASI_CACHE_DIR",
    "--disable-cache": f"set VFSWASI_CACHE_DIR to an empty directory; or {_LEAVE}",
    "--cranelift": _COMPILING,
    "--llvm": _COMPILING,
    "--singlepass": _COMPILING,
    "--enable-all": "write --feature NAME for those that it needs",
    "--heap-size": "write --limit memory_bytes={SIZE}",
    "--allow-multiple-wasi-versions": _THERE,
    # others' habits
    "--overlay": "write overlay behind the mount that it is for: --mount /data=DIR,overlay, or -v DIR:/data:O",
    "--overlay-src": "write --mount GUEST={DIR},overlay",
    "--tmp-overlay": "write --mount {GUEST}=DIR,overlay",
    "--commit": "write --apply, which makes the changes where the overlay's source is",
    "--time-limit": "write --timeout {TIME}",
    "--memory-limit": "write --limit memory_bytes={SIZE}",
    "--inherit-env": _ENV,
    "--allow-read": "write --mount GUEST=SOURCE",
    "--allow-write": "write --mount GUEST=SOURCE,rw",
    "--allow-env": _ENV,
    "--allow-net": _NO_NETWORK,
    "-A": "say what the program may have: --mount, --env",
    "--allow-all": "say what the program may have: --mount, --env",
}

# Keys of -W, --wasm.
_WASM: Final[dict[str, str]] = {
    "max-memory-size": "write --limit memory_bytes={N}",
    "timeout": "write --timeout {TIME}",
    "fuel": "write --limit fuel={N}",
    "max-wasm-stack": "write --limit stack_bytes={N}",
    "max-table-elements": "write --limit table_elements={N}",
    "max-memories": "write --limit memories={N}",
    "max-tables": "write --limit tables={N}",
    "gc": "write --feature gc",
    "function-references": "write --feature gc",
    "relaxed-simd": "write --feature relaxed-simd",
    "tail-call": "write --feature tail-call",
    "exceptions": f"exceptions are on, and --feature no-exceptions switches them off; or {_LEAVE}",
    "all-proposals": "write --feature NAME for those that it needs",
}
_WASM_ON: Final = frozenset(
    "simd bulk-memory multi-value multi-memory reference-types threads epoch-interruption".split()
)
# Keys of -S, --wasi.
_WASI: Final[dict[str, str]] = {
    "inherit-env": _ENV,
    "inherit-network": _NO_NETWORK,
    "tcp": _NO_NETWORK,
    "udp": _NO_NETWORK,
    "http": _NO_NETWORK,
    "tcplisten": _NO_NETWORK,
    "listenfd": _NO_NETWORK,
    "allow-ip-name-lookup": _NO_NETWORK,
    "threads": f"programs have one thread here; build it without threads, or {_LEAVE}",
    "preview2": f"WASI preview1 is what there is; {_LEAVE}",
    "p3": f"WASI preview1 is what there is; {_LEAVE}",
    "cli": _THERE,
    "common": _THERE,
    "preview1": _THERE,
}
_KEYED: Final = {"-W": _WASM, "--wasm": _WASM, "-S": _WASI, "--wasi": _WASI}

# Commands of other runtimes.
_COMMANDS: Final[dict[str, str]] = {
    "serve": "programs have no network here; vfswasi run runs a program",
    "exec": "write vfswasi run",
    "start": "write vfswasi run",
    "validate": "write vfswasi inspect",
    "explore": "write vfswasi inspect",
    "objdump": "write vfswasi inspect",
    "ls": "write vfswasi mounts",
    "version": "write vfswasi --version",
}


def command_advice(word: str) -> str | None:
    """What to write in place of a command of another runtime."""
    return _COMMANDS.get(word)


def advice(words: Sequence[str]) -> str | None:
    """What to write in place of `words[0]`, an option that is not known, and its value, which may be in it or in
    `words[1]`; None: nobody has such an option."""
    word = words[0]
    name, equals, value = word.partition("=")
    if name in _OPTIONS and name not in _KEYED:
        return _said(name, _OPTIONS[name], value if equals else _next(words))
    if name.startswith("--"):
        keyed, value = _KEYED.get(name), value if equals else _next(words)
    else:
        name, glued = word[:2], word[2:].removeprefix("=")
        keyed, value = _KEYED.get(name), glued or _next(words)
        if keyed is None and name in _OPTIONS:
            return _said(name, _OPTIONS[name], glued)
    if keyed is not None:
        return "; ".join(_of_key(name, keyed, part) for part in value.split(",")[:8]) or None
    if name.startswith(("--experimental-", "--harmony")):
        return _said(name, f"there are no such switches; --feature has those of WebAssembly; or {_LEAVE}", "")
    return None


def _next(words: Sequence[str]) -> str:
    return words[1] if len(words) > 1 and not words[1].startswith("-") else ""


def _of_key(option: str, known: dict[str, str], part: str) -> str:
    key, equals, value = part.partition("=")
    name = f"{option} {key}" if re.fullmatch(r"[\w-]{1,40}", key, re.ASCII) else option
    if key in known:
        return _said(name, known[key], value if equals else "")
    if known is _WASM and key in _WASM_ON:
        return _said(name, _THERE, "")
    if not key:
        return f"{option}: there is no such option here; see --limit, --feature, --env and --timeout"
    return _said(name, f"there is nothing like it here; {_LEAVE}", "")


def _said(name: str, text: str, value: str) -> str:
    """With the value in its place if it is a plain one: another may be a secret, or mean something else here."""
    plain = re.fullmatch(r"[0-9A-Za-z/][\w./]{0,40}", value, re.ASCII)
    return f"{name}: " + re.sub(r"\{(\w+)\}", lambda match: value if plain else match[1], text)
