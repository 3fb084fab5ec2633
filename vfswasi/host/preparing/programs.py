"""The module of a sandbox, compiled: as the sandbox was asked for, and with what one run has for itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...engine.compiling import modules
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
        """bounds: of reading the module. Raises what `read_module`, `modules.load` and `Program` raise."""
        self._features = checked_features(features)
        self._limits, self._imports, self._deterministic = limits, imports, deterministic
        wasm, self.name = read_module(module, bounds, limits.module_bytes)
        self._again = Again(module, wasm)
        self.program = self._made(wasm, limits, imports, None)
        self._kept: Program | None = None

    def wanted(self, limits: Limits, imports: HostFunctions | None, deterministic: bool) -> Program:
        """The program for a run with these limits, and with these functions of the host added. Raises OSError,
        InvalidModuleError (the module has changed since), and what the constructor raises."""
        if limits is self._limits and imports is None:
            return self.program
        every = {name: dict(functions) for name, functions in checked_imports(self._imports).items()}
        for name, functions in checked_imports(imports).items():
            every.setdefault(name, {}).update(functions)
        if _compiled_for(limits) != _compiled_for(self._limits):
            return self._made(self._again.read(), limits, every, None)
        program = self.program if imports is None else Program(self.program.compiled, self.name, every)
        program.check_counts(limits)
        return program

    def kept(self) -> Program:
        """The program for sessions, whose instances stay and can be copied. Raises as `wanted`."""
        if self.program.compiled.inside is not None:
            return self.program
        if self._kept is None:
            self._kept = self._made(self._again.read(), self._limits, self._imports, True)
        return self._kept

    def _made(self, wasm: bytes, limits: Limits, imports: HostFunctions | None, kept: bool | None) -> Program:
        fuel, stack_bytes, way = _compiled_for(limits)
        compiled = modules.load(wasm, self.name, fuel, self._features, stack_bytes, way, limits, kept)
        program = Program(compiled, self.name, imports)
        program.check_counts(limits)
        return program

    def origin(self) -> tuple[bytes, bool]:
        """(the module's bytes, whether it has functions of the caller's). Raises as `wanted`."""
        return self._again.read(), bool(checked_imports(self._imports))


def _compiled_for(limits: Limits) -> tuple[bool, int, ways.Way]:
    """What of the limits a module is compiled for."""
    return limits.fuel is not None, stacks.rounded(limits.stack_bytes), ways.wanted(limits)
