"""`vfswasi run --invoke FUNC MODULE ARGS...`: one call of a function, with numbers, as with `wasmtime run --invoke`."""

from __future__ import annotations

import struct
import sys
from typing import Any, Final, NamedTuple

from ...engine.compiling import exported, modules, outline
from ...engine.compiling.outline import Signature
from ...errors import GuestExitError, GuestTrapError, InvalidModuleError
from ...host.module_source import read_module
from ...host.sandbox import Sandbox
from ...limits import Limits
from ...printing import counted, did_you_mean, printable
from ..messages import EXIT_OURS, status_of, tell_refusals
from .noted.options import Observing
from .overlays import Overlays

_BITS: Final = {"i32": 32, "i64": 64}


class Call(NamedTuple):
    """A function and what it is called with."""

    function: str
    signature: Signature
    numbers: tuple[int | float, ...]
    in_command: bool  # of a module that has `_start` too, which is not called

    @classmethod
    def of(cls, module: str | bytes, function: str, words: list[str]) -> tuple[str | bytes, Call]:
        """(the module, to be run; the call). Raises ValueError, InvalidModuleError, OSError."""
        wasm, name = read_module(module)
        binary = modules.binary(wasm, name)
        names = outline.read(binary).exported("func")
        if function not in names:
            near = did_you_mean(function, names) or f"; vfswasi inspect {name} shows what there is"
            raise ValueError(f"--invoke {function}: the module exports no such function{near}")
        try:
            signature = exported.signature_of(binary, function)
        except outline.Unreadable:
            raise InvalidModuleError(f"{name}: not a valid WebAssembly module") from None
        if signature is None:
            raise ValueError(f"--invoke {function}: it takes or gives other values than numbers")
        if len(words) != len(signature.params):
            wanted = f" ({', '.join(signature.params)})" if signature.params else ""
            count = f"{counted(len(signature.params), 'number')}{wanted}"
            given = f"{len(words):,} {'is' if len(words) == 1 else 'are'}"
            raise ValueError(f"--invoke {function}: it takes {count}, and {given} given")
        numbers = tuple(map(_number, words, signature.params))
        # What was fetched is not fetched again; a file is, so that messages have its name.
        again = isinstance(module, str) and "://" not in module and "::" not in module
        return module if again else binary, cls(function, signature, numbers, "_start" in names)

    def limits(self, limits: Limits, timeout: float | None) -> Limits:
        """A call has the time that `--timeout` gives to a run."""
        if timeout is None:
            return limits
        from dataclasses import replace

        return replace(limits, wall_seconds=timeout)

    def made(self, sandbox: Sandbox, asked: dict[str, Any], kept: Overlays, noted: Observing) -> int:
        """Call it and print what it returns, a line for each value; the exit status. asked: options of a session.
        kept: is told what has changed, and noted what there is to tell of the calls."""
        holder: Any = sandbox
        try:
            session = holder.session(command=self.in_command, **asked)
            try:
                with session:
                    result = session.call(self.function, *self.numbers)
                self._print(result)
            finally:
                try:
                    kept.tell(session.changes)
                finally:
                    noted.tell(session)
        except GuestTrapError as error:
            print(f"vfswasi: {GuestTrapError.__name__}: {printable(str(error))}", file=sys.stderr)
            tell_refusals(error.result)
            return EXIT_OURS if noted.failed else status_of(-6 if error.returncode is None else error.returncode)
        except GuestExitError as error:
            if error.returncode:
                tell_refusals(error.result)
            return EXIT_OURS if noted.failed else status_of(error.returncode or 0)
        return EXIT_OURS if noted.failed else 0

    def _print(self, result: Any) -> None:
        values = () if result is None else result if isinstance(result, tuple | list) else (result,)
        for value, kind in zip(values, self.signature.results, strict=True):
            print(shown(value, kind))


def _number(text: str, kind: str) -> int | float:
    """Raises ValueError. An integer may be signed or unsigned, decimal or hexadecimal."""
    plain = text.replace("_", "x")  # which int() and float() would take
    try:
        if kind not in _BITS:
            return _rounded(float(plain), kind)
        bits = _BITS[kind]
        value = int(plain, 16 if plain.lower().lstrip("+-").startswith("0x") else 10)
        if not -(1 << (bits - 1)) <= value < 1 << bits:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"--invoke: {text[:60]!r} is not a number of type {kind}") from None
    return value - (1 << bits) if value >= 1 << (bits - 1) else value


def _rounded(value: float, kind: str) -> float:
    """Raises OverflowError."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) if kind == "f32" else value


def shown(value: float, kind: str) -> str:
    """A result as wasmtime prints it: integers signed; of floats the fewest digits that mean this one, no exponent."""
    if kind in _BITS:
        bits = _BITS[kind]
        whole = int(value) & ((1 << bits) - 1)
        return str(whole - (1 << bits) if whole >= 1 << (bits - 1) else whole)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    from decimal import Decimal

    text = repr(float(value))
    if kind == "f32":
        shorter = (f"{value:.{digits}g}" for digits in range(1, 10))
        text = next((each for each in shorter if _means(each, value)), text)
    plain = format(Decimal(text), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _means(text: str, value: float) -> bool:
    try:
        return _rounded(float(text), "f32") == value
    except OverflowError:  # rounded up beyond the largest
        return False
