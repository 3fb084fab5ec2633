"""`Wasm`: what the fixture `wasm` is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack, overload

import pytest

import vfswasi

from ...printing import did_you_mean, printable
from .defaults import memory_bytes
from .programs import found
from .session import OF_SANDBOXES, Session
from .snapshots.trees import FromDisk
from .told import Ran, Told

TIMEOUT_S: Final = 60.0
_TITLE = 100
_HINT: Final = "wasm(..., check=False) gives the Result of a program that fails"


class WasmOptions(TypedDict, total=False):
    """What `wasm` takes beside the program and its arguments; see docs/pytest.md."""

    args: vfswasi.Args
    files: Mapping[str, Any] | os.PathLike[str] | None
    preopens: Mapping[str, vfswasi.Source] | None
    env: Mapping[str, str] | None
    cwd: str | None
    input: str | bytes | bytearray | memoryview | None
    stdin: vfswasi.Stdin
    stdout: vfswasi.Stdout
    stderr: vfswasi.Stdout
    encoding: str
    errors: str
    check: bool
    timeout: float | None
    limits: vfswasi.Limits | None
    memory: int | str | None
    fuel: int | None
    deterministic: bool
    clock: vfswasi.Clock | None
    seed: int | None
    accesses: bool | Literal["digest"]
    trace: Any
    argv0: str | None
    imports: vfswasi.HostFunctions | None
    features: Iterable[str]
    vdso: bool | None
    isolation: Literal["none", "process"] | None


_NAMES: Final = frozenset(WasmOptions.__annotations__) | {"text"}


class Wasm:
    """Runs programs; one for each test."""

    def __init__(
        self, session: Session, told: Told, config: pytest.Config, path: Path, defaults: Mapping[str, Any]
    ) -> None:
        """path: of the test's file. defaults: what its markers say."""
        self._session, self._told, self._defaults = session, told, defaults
        self._places = [path.parent, *config.getini("wasm_programs"), config.rootpath]

    def __repr__(self) -> str:
        return "<wasm>"

    @overload
    def __call__(
        self,
        program: vfswasi.Module,
        *words: str | list[str] | tuple[str, ...],
        text: Literal[True] = ...,
        **options: Unpack[WasmOptions],
    ) -> vfswasi.Result[str]: ...
    @overload
    def __call__(
        self,
        program: vfswasi.Module,
        *words: str | list[str] | tuple[str, ...],
        text: Literal[False],
        **options: Unpack[WasmOptions],
    ) -> vfswasi.Result[bytes]: ...
    def __call__(self, program: Any, *words: Any, text: bool = True, **options: Any) -> vfswasi.Result[Any]:
        """Run a program on files in memory and give its Result, with what it printed as text.

        program: a path, relative to the directory of the test's file, to those of the ini option `wasm_programs`, or to
        pytest's root; or whatever `vfswasi.run` takes. words: its arguments; or `args=[...]`.
        files: what the guest has at "/": a dict, or a directory of this machine, which is read and stays as it is.
        Afterwards it is in `result.files`. preopens: further directories of the guest, as in `vfswasi.run`.
        check: the test fails unless the guest ends with status 0. deterministic: see docs/hermetic.md.
        timeout: seconds, 60 unless a marker says otherwise. memory, fuel: those of `limits` (memory_bytes, fuel).
        All else is as in `vfswasi.run`, whose errors are raised.
        """
        given: dict[str, Any] = {"text": text, **options}
        for name in given:
            if name not in _NAMES:
                raise TypeError(f"wasm() has no option {name!r}{did_you_mean(name, sorted(_NAMES))}")
        options = {"check": True, "deterministic": True, "trace": True, **self._defaults, **given}
        args = _args(words, options.pop("args", None))
        preopens = _preopens(options.pop("files", None), options.pop("preopens", None))
        limits = _limits(options)
        if limits is not None:
            options["limits"] = limits
        if options.get("timeout") is None:
            own = limits is not None and limits.wall_seconds != vfswasi.Limits().wall_seconds
            options["timeout"] = None if own else TIMEOUT_S
        check = options.pop("check")
        options = {"stdout": vfswasi.PIPE, "stderr": vfswasi.PIPE, **options}
        program = found(program, self._places, self._session.rootpath)
        of_sandbox: dict[str, Any] = {name: options.pop(name) for name in OF_SANDBOXES if name in options}
        options["trace"] = self._trace(options["trace"], of_sandbox.get("isolation"))
        with self._session.sandbox(program, of_sandbox) as sandbox:
            ran = Ran(_title(program, args))
            self._told.runs.append(ran)
            try:
                ran.result = result = sandbox.run(args, preopens=preopens, **options)
            except (vfswasi.GuestError, vfswasi.UncommittedError) as error:
                ran.result = error.result
                raise
        if check and result.returncode != 0:
            try:
                result.check_returncode()
            except vfswasi.GuestError as error:
                error.add_note(_HINT)
                raise
        return result

    def _trace(self, asked: Any, isolation: str | None) -> Any:
        """What the run is asked to trace: with what is to fail in it."""
        injecting = [failure.of_run() for failure in self._told.failures if failure.active]
        if not injecting:
            return None if isolation == "process" and asked is True else asked
        if isolation == "process":
            raise ValueError("wasm_fail works in this process alone: leave out isolation")

        def traced(call: vfswasi.Call) -> Any:
            errno = asked(call) if callable(asked) else None
            for failing in injecting:
                errno = failing(call) if errno is None else errno
            return errno

        if hasattr(asked, "over"):
            traced.over = asked.over  # type: ignore[attr-defined]
        return traced


def _args(words: tuple[Any, ...], args: Any) -> Any:
    """Raises TypeError."""
    if args is not None:
        if words:
            raise TypeError("give the program's arguments one by one, or as args=[...], not both")
        return args
    if len(words) == 1 and isinstance(words[0], Iterable) and not isinstance(words[0], str | bytes | Mapping):
        return words[0]  # a list, as `vfswasi.run` takes it
    for word in words:
        if not isinstance(word, str):
            hint = "; files are given as files={...}" if isinstance(word, Mapping) else ""
            raise TypeError(f"an argument of the program must be a str, not {type(word).__name__}{hint}")
    return list(words)


def _preopens(files: Any, preopens: Any) -> dict[str, Any]:
    """Raises TypeError, ValueError."""
    if preopens is not None and not isinstance(preopens, Mapping):
        raise TypeError(f"preopens must be a dict of guest directory -> source, not {type(preopens).__name__}")
    every = dict(preopens or {})
    if any(isinstance(name, str) and name.rstrip("/") == "" for name in every):
        if files is not None:
            raise ValueError('files are what the guest has at "/": give either files or a preopen "/"')
        return every
    if isinstance(files, os.PathLike):
        files = FromDisk(Path(files)).literal()
    elif files is not None and not isinstance(files, Mapping):
        raise TypeError(f"files must be a dict such as {{'in.txt': 'text'}}, not {type(files).__name__}")
    return {"/": _nested(files or {}), **every}


def _nested(files: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """With the paths among its names as directories: {"in/a.txt": ...} is {"in": {"a.txt": ...}}. Raises ValueError."""
    if not any(isinstance(name, str) and "/" in name for name in files):
        return files
    made: dict[Any, Any] = {}
    for name, value in files.items():
        *above, last = [part for part in name.split("/") if part] if isinstance(name, str) else [name]
        tree = made
        for part in above:
            tree = tree.setdefault(part, {})
            if not isinstance(tree, dict):
                raise ValueError(f"files: {name!r} lies below what is a file")
        if last in tree:
            raise ValueError(f"files: {name!r} is there twice")
        tree[last] = dict(value) if isinstance(value, dict) else value
    return made


def _limits(options: dict[str, Any]) -> vfswasi.Limits | None:
    """Takes those options out. Raises TypeError, ValueError."""
    limits: vfswasi.Limits | None = options.pop("limits", None)
    memory, fuel = options.pop("memory", None), options.pop("fuel", None)
    if memory is not None:
        limits = replace(limits or vfswasi.Limits(), memory_bytes=memory_bytes(memory))
    if fuel is not None:
        limits = replace(limits or vfswasi.Limits(), fuel=fuel)
    return limits


def _title(program: Any, args: Any) -> str:
    name = program.name if isinstance(program, Path) else program if isinstance(program, str) else "program"
    words = [name, *args] if isinstance(args, list | tuple) else [name]
    text = printable(" ".join(map(str, words)))
    return text if len(text) <= _TITLE else f"{text[:_TITLE]}..."
