"""Why a module cannot be run here, in one line that names the thing and says what to do."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

import wasmtime

from ...abi.layouts import ABI_BY_MODULE
from ...printing import printable
from . import features as wasm_features
from . import outline as outlines
from .features import Features
from .outline import Outline, read

_TEXT_MAX: Final = 600  # characters of what wasmtime says
_NAMES_MAX: Final = 8
_NAME_MAX: Final = 80

_COMPONENT: Final = "build the program as a core module for WASI preview1 (target wasm32-wasip1)"

# What wasmtime's message has in it -> what the module uses, and what to do.
_NEVER: Final = (
    (
        "legacy_exceptions",
        "exceptions in their old form, which wasmtime does not know: translate it with Binaryen's "
        "`wasm-opt --all-features --translate-to-exnref old.wasm -o new.wasm`, or build it with "
        "`-mllvm -wasm-use-legacy-eh=false`",
    ),
    ("memory64", "64-bit memory (memory64), and WASI preview1 has 32-bit pointers: build it for wasm32"),
    ("wide arithmetic", "wide arithmetic, which is off here: build it without -mwide-arithmetic"),
    ("custom page sizes", "custom page sizes, which are off here: build it with pages of 64 KiB"),
    ("stack switching", "stack switching, which is off here: build it without"),
)


def causes(error: BaseException) -> str:
    """All that wasmtime says, on one line, up to a length."""
    lines = [line.strip() for line in str(error)[: 20 * _TEXT_MAX].splitlines()]
    if "Caused by:" in lines:
        told = [re.sub(r"^\d+: ", "", line) for line in lines if line and line != "Caused by:"]
    else:  # an error in the text format comes with an excerpt, of which the place is enough
        places = [line.partition("<anon>:")[2] for line in lines if line.startswith("-->")]
        told = lines[:1] + [f"at {place}" for place in places[:1]]
    text = printable("; ".join(told))
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "..."


def _error(wasm: bytes, on: Features) -> wasmtime.WasmtimeError | None:
    return _error_with(wasm, wasm_features.wanted(on))


def _error_with(wasm: bytes, settings: frozenset[str]) -> wasmtime.WasmtimeError | None:
    """What wasmtime has against a module; nothing is compiled."""
    config = wasmtime.Config()
    wasm_features.switch(config, settings)
    try:
        wasmtime.Module.validate(wasmtime.Engine(config), wasm)
    except wasmtime.WasmtimeError as error:
        return error
    return None


def _missing(wasm: bytes, on: Features) -> tuple[list[str], wasmtime.WasmtimeError | None]:
    """(what features would have to be switched on, what is wrong even so)."""
    without = sorted(name for name in on if name.startswith("no-"))
    everything = on.union(wasm_features.ON_REQUEST).difference(without)
    error = _error(wasm, everything)
    if error is not None:
        return [], error
    needed = set(everything - on)
    allowed = on.difference(without)
    for name in sorted(needed):
        if _error(wasm, allowed | (needed - {name})) is None:
            needed.discard(name)
    for name in without:
        if _error(wasm, allowed | needed | {name}) is not None:
            needed.add(name)
    return sorted(needed), None


def why(wasm: bytes, error: BaseException, on: Features) -> str:
    """Why wasmtime refuses to compile a core module. `on`: the features that were switched."""
    needed, rest = _missing(wasm, on)
    if needed:
        asked = [name for name in needed if not name.startswith("no-")]
        excluded = [name for name in needed if name.startswith("no-")]
        names = " and ".join(name.removeprefix("no-") for name in needed)
        advice = []
        if asked:
            given = ", ".join(f'"{name}"' for name in asked)
            options = " ".join(f"--feature {name}" for name in asked)
            advice.append(f"pass features=[{given}] ({options}) if you accept what docs/security.md says of it")
        if excluded:
            advice.append(f"do not pass {' and '.join(excluded)}")
        off = f"{'are' if len(needed) > 1 else 'is'} switched off"
        return f"it uses {names}, which {off}: {', and '.join(advice)} (wasmtime: {causes(error)})"
    text = causes(rest or error)
    for words, what in _NEVER:
        if words in text:
            return f"it uses {what} (wasmtime: {text})"
    return f"not a valid WebAssembly module: {text}"


# A setting of wasmtime's that inspecting tells of -> the settings that need it. What every compiler uses is left out.
_TOLD: Final[dict[str, set[str]]] = {
    "simd": {"relaxed_simd"},
    "relaxed_simd": set(),
    "tail_call": set(),
    "threads": set(),
    "multi_memory": set(),
    "exceptions": set(),
    "function_references": {"gc"},
    "gc": set(),
    "memory64": set(),
    "wide_arithmetic": set(),
    "custom_page_sizes": set(),
}
_UNTOLD: Final = frozenset({"bulk_memory", "multi_value", "reference_types"})


def uses(wasm: bytes) -> list[str]:
    """The features beyond what every compiler uses that a core module cannot do without; none if it is not valid."""
    if _error_with(wasm, _UNTOLD) is None:
        return []
    everything = _UNTOLD.union(_TOLD)
    error = _error_with(wasm, everything)
    if error is not None:
        return ["legacy-exceptions"] if "legacy_exceptions" in str(error) else []
    used = [name for name, needing in _TOLD.items() if _error_with(wasm, everything - needing - {name}) is not None]
    if "gc" in used:  # which is built upon it
        used.remove("function_references")
    return [name.replace("_", "-") for name in used]


def verdict(wasm: bytes, on: Features) -> str | None:
    """Why wasmtime would refuse to compile a core module, without compiling it; None if it would not."""
    error = _error(wasm, on)
    return None if error is None else why(wasm, error, on)


def unfit(wasm: bytes) -> str | None:
    """Why a core module is not even looked at by wasmtime: it has too much of something, or lists that nobody here can
    count."""
    excess = outlines.too_many(wasm)
    if excess is not None:
        return _excess(excess)
    if outlines.has_compact_imports(wasm):
        return "its imports are in the compact form, which is not known here: build it without compact imports"
    return None


def _excess(what: str) -> str:
    """What is to be said of a module that has too much of something, see `outline.too_many`."""
    advice = "; link it without --export-all" if what.endswith("exports") else ""
    return f"it has {what}, which is more than a program needs{advice}"


def component(wasm: bytes, why: str) -> str:
    """What is to be said of a component that does not run. `why`: the adapter for preview1 did not make it, as the end
    of a sentence."""
    found = read(wasm)
    versions = wasi_versions(found)
    for_wasi = f" for WASI {' and '.join(versions)}" if versions else ""
    asked = interfaces([name for name, _, _ in found.imports])
    imports = f"; it imports {asked}, which {'is' if len(found.imports) == 1 else 'are'} not there yet" if asked else ""
    newer = "; WASI 0.3 is not supported in any form" if "0.3" in versions else ""
    return (
        f"this is a WebAssembly component{for_wasi}{imports}{newer}; components run here if the adapter for preview1 "
        f"made them, and this one is different: {printable(why)}; {_COMPONENT}"
    )


def interfaces(names: Sequence[str]) -> str:
    """The imports of a component on one line, those of a package and version together: "wasi:io@0.2.3 (error,
    streams)". A few of them, if there are many."""
    packages: dict[str, list[str]] = {}
    for name in names:
        package, _, rest = name.partition("/")
        interface, _, version = rest.partition("@")
        packages.setdefault(f"{package}@{version}" if version else package, []).append(interface)
    told = []
    for package, of_it in list(packages.items())[:_NAMES_MAX]:
        named = [interface for interface in of_it if interface]
        told.append(listed([package]) + (f" ({listed(named)})" if named else ""))
    more = sum(map(len, packages.values())) - sum(map(len, list(packages.values())[:_NAMES_MAX]))
    text = ", ".join(told) + (f" and {more:,} more" if more else "")
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "..."


def wasi_versions(outline: Outline) -> list[str]:
    """The versions of WASI that a component's imports and exports name, such as "0.2"; at most three."""
    names = [name for name, _, _ in (*outline.imports, *outline.exports)]
    return sorted({found[1] for name in names if (found := re.match(r"wasi:[^@]*@(\d+\.\d+)", name))})[:3]


def listed(names: Sequence[str]) -> str:
    """A few of the names, on one line."""
    shown = [printable(name[:_NAME_MAX]) + ("..." if len(name) > _NAME_MAX else "") for name in names[:_NAMES_MAX]]
    return ", ".join(shown) + (f" and {len(names) - _NAMES_MAX:,} more" if len(names) > _NAMES_MAX else "")


def foreign(imports: Sequence[tuple[str, str]]) -> str | None:
    """What a module is that imports these (module, name), if it was built for something other than WASI."""
    for fits, what in _FOREIGN:
        if any(re.fullmatch(fits, f"{module}.{name}"[:200]) for module, name in imports[:_FOREIGN_LOOKED_AT]):
            return what
    return None


_FOREIGN_LOOKED_AT: Final = 1000
_FOREIGN: Final = (
    (
        r"(wbg|__wbindgen_\w+|.*_bg\.js)\..*",
        "it was built by wasm-bindgen and needs JavaScript: build it for wasm32-wasip1, without wasm-bindgen and "
        "what depends on it",
    ),
    (
        r"(gojs|go)\..*",
        "it was built by Go for JavaScript: build it with GOOS=wasip1 GOARCH=wasm",
    ),
    (
        r"(napi|emnapi|env)\.(napi|node_api|_?emnapi)_\w*|(napi|emnapi)\..*",
        "it is an add-on for Node (napi) and needs JavaScript: build the program behind it for wasm32-wasip1",
    ),
    (
        r"wasi\.thread-spawn",
        "it starts threads (wasi-threads), which are not supported: build it for wasm32-wasip1, without threads",
    ),
    (
        r"wasix_\w+\..*",
        "it was built for WASIX: build it for wasm32-wasip1",
    ),
    (
        r"(wasi:|cm32p2|\[export\]|\$root).*",
        "it is the inside of a component: build the program as a core module for WASI preview1 (target wasm32-wasip1)",
    ),
    (
        r"(GOT\.mem|GOT\.func)\..*",
        "it is a library for a dynamic linker: link the program as one module",
    ),
    (
        r"env\.(_?emscripten_\w+|invoke_\w+|__syscall_\w+|__asyncjs__\w+|__cxa_\w+|_embind_\w+|_emval_\w+|"
        r"_abort_js|_localtime_js|_mktime_js|_tzset_js|_mmap_js|_munmap_js|__assert_fail|__main_argc_argv|setTempRet0)"
        r"|a\.[A-Za-z_$]{1,3}",
        "it was built by Emscripten and needs JavaScript: build it with wasi-sdk, or with -sSTANDALONE_WASM",
    ),
    (
        r"env\.(abort|seed|trace|console\..*|Date\..*|Math\..*|process\..*)",
        "it imports what AssemblyScript's programs take from JavaScript: build it with @assemblyscript/wasi-shim",
    ),
    (
        r"(js_code|wasm:js-string|teavm\w*|dart2wasm|_?kotlin\w*|hostFunctions|Math|Date)\..*",
        "it needs JavaScript: build it for WASI preview1",
    ),
)


def missing_imports(missing: Sequence[tuple[str, str, str]]) -> str:
    """What is to be said of imports (module, name, kind) that nobody provides."""
    names = listed([f"{module}.{name} ({kind})" for module, name, kind in missing])
    what = foreign([(module, name) for module, name, _ in missing])
    if what is not None:
        return f"{what} (nobody provides {names})"
    if all(module in ABI_BY_MODULE for module, _, _ in missing):
        return f"imports that WASI does not have: {names}; build it for WASI preview1 (target wasm32-wasip1)"
    if any(kind != "func" for _, _, kind in missing):
        return (
            f"imports that nobody provides: {names}; only functions can be given, so link it with a memory of its own"
        )
    return f'imports that nobody provides: {names}; pass host functions with imports={{"module": {{"name": function}}}}'


# Calls that work without a memory: they take no pointers.
_WITHOUT_POINTERS: Final = frozenset(
    "proc_exit proc_raise sched_yield fd_close fd_sync fd_datasync fd_renumber fd_advise fd_allocate "
    "fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_set_size fd_filestat_set_times sock_shutdown".split()
)


def memory(exported: Mapping[str, tuple[bool, bool]], imports: Iterable[tuple[str, str]]) -> str | None:
    """What is wrong with a module's memory. `exported`: by name, whether it is 64-bit and whether it is shared.
    `imports`: (module, name) of its functions."""
    if len(exported) > 1:
        return "exports several memories; WASI uses exactly one, named memory"
    if "memory" in exported:
        is_64, is_shared = exported["memory"]
        if is_64:
            return "its memory is 64-bit; WASI preview1 has 32-bit pointers"
        return "its memory is shared between threads, which is not supported" if is_shared else None
    for module, name in imports:
        if module in ABI_BY_MODULE and name not in _WITHOUT_POINTERS:
            return f'it imports {name} but exports no memory; link it so that its memory is exported as "memory"'
    return None


def entry(exports: Container[str]) -> str | None:
    """What is wrong with the names that a module exports, if it is to be run."""
    if "_start" in exports:
        return None
    if "_initialize" in exports:
        return (
            "this is a reactor (it exports _initialize, not _start), of which functions are called: with "
            "Sandbox.session(), or vfswasi run --invoke FUNC"
        )
    return (
        "no entry point: the module does not export _start; functions of a library are called with Sandbox.session(), "
        "or vfswasi run --invoke FUNC"
    )


def session(exports: Container[str], command: bool) -> str | None:
    """What is wrong with the names that a module exports, if an instance of it is to be kept. `command`: the caller
    knows that it is one."""
    if "_start" in exports and "_initialize" not in exports and not command:
        return "this is a command, which runs once (it exports _start); run() it, or open a session with command=True"
    return None
