"""What a guest may use up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on one run. What meets each is named in brackets.

    memory_bytes: linear memory of the guest [`memory.grow` gives -1; a larger minimum is a ModuleError].
    table_elements: entries of its tables [`table.grow` gives -1].
    descriptors: open at once, standard streams and preopens included [MFILE].
    output_bytes: captured per stream [NOSPC].
    window_bytes: memory that the fast path may use for parts of open files [nothing: files are then read less far
        ahead, or by Python alone; 0 switches the fast path off].
    """

    memory_bytes: int = 4 << 30
    table_elements: int = 1_000_000
    descriptors: int = 1024
    output_bytes: int = 256 << 20
    window_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Limits.{name} must be an int, not {type(value).__name__}")
            if value < 0:
                raise ValueError(f"Limits.{name} must not be negative")
