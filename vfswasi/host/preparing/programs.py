"""The module of a sandbox, compiled: as the sandbox was asked for, and with what one run has for itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...engine.compiling import modules
from ...engine.compiling.features import DETERMINISTIC, Features
from ...engine.compiling.features import checked as checked_features
from ...engine.interruption import ways
from ...engine.runner import Program
from ...engine.threads import stacks
from ...engine.user_functions import checked_imports
from ...limits import Limits
from ..module_source import Again, read_module
from .mounting import Bounds

if TYPE_CHECKING:
    from ..types import HostFunctions, Module


class Programs:
    """`name`: of the module, for messages and argv[0]."""

    def __init__(
        self,
        module: Module,
        bounds: Bounds,
        limits: Limits,
        features: Iterable[str],
        imports: HostFunctions | None,
        deterministic: bool = False,
    ) -> None:
        """bounds: of reading the module. deterministic: compiled so that it computes the same on every machine.
        Raises what `read_module`, `modules.load` and `Program` raise."""
        self._asked = checked_features(features)
        self._limits, self._imports, self._deterministic = limits, imports, deterministic
        wasm, self.name = read_module(module, bounds, limits.module_bytes)
        self._again = Again(module, wasm)
        self.program = self._made(wasm, limits, imports, None, deterministic)
        self._kept: dict[bool, Program] = {}  # by whether they are deterministic
        self._other: Program | None = None  # as `program`, which is deterministic if that is not

    def wanted(self, limits: Limits, imports: HostFunctions | None, deterministic: bool) -> Program:
        """The program for a run with these limits, and with these functions of the host added. Raises OSError,
        InvalidModuleError (the module has changed since), and what the constructor raises."""
        if limits is self._limits and imports is None:
            return self.program if deterministic is self._deterministic else self._of(deterministic)
        every = {name: dict(functions) for name, functions in checked_imports(self._imports).items()}
        for name, functions in checked_imports(imports).items():
            every.setdefault(name, {}).update(functions)
        if _compiled_for(limits) != _compiled_for(self._limits):
            return self._made(self._again.read(), limits, every, None, deterministic)
        program = self._of(deterministic)
        program = program if imports is None else Program(program.compiled, self.name, every)
        program.check_counts(limits)
        return program

    def _of(self, deterministic: bool) -> Program:
        """The program with the sandbox's limits. The first run that wants it compiled the other way has it compiled."""
        if deterministic is self._deterministic:
            return self.program
        if self._other is None:
            self._other = self._made(self._again.read(), self._limits, self._imports, None, deterministic)
        return self._other

    def kept(self, deterministic: bool) -> Program:
        """The program for sessions, whose instances stay and can be copied. Raises as `wanted`."""
        program = self._of(deterministic)
        if program.compiled.inside is not None:
            return program
        if deterministic not in self._kept:
            self._kept[deterministic] = self._made(self._again.read(), self._limits, self._imports, True, deterministic)
        return self._kept[deterministic]

    def _made(
        self, wasm: bytes, limits: Limits, imports: HostFunctions | None, kept: bool | None, deterministic: bool
    ) -> Program:
        fuel, stack_bytes, way = _compiled_for(limits)
        features: Features = self._asked | DETERMINISTIC if deterministic else self._asked
        compiled = modules.load(wasm, self.name, fuel, features, stack_bytes, way, limits, kept)
        program = Program(compiled, self.name, imports)
        program.check_counts(limits)
        return program

    def origin(self) -> tuple[bytes, bool]:
        """(the module's bytes, whether it has functions of the caller's). Raises as `wanted`."""
        return self._again.read(), bool(checked_imports(self._imports))


def _compiled_for(limits: Limits) -> tuple[bool, int, ways.Way]:
    """What of the limits a module is compiled for."""
    return limits.fuel is not None, stacks.rounded(limits.stack_bytes), ways.wanted(limits)
