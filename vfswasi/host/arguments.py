"""What a caller gives to a program: its arguments, its environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..limits import Limits
from ..printing import counted

if TYPE_CHECKING:
    from .types import Args


def checked_args(args: Args) -> Args:
    """Raises TypeError: one string, which is an iterable of its characters too."""
    if isinstance(args, str | bytes):
        raise TypeError("args must be a sequence of str, not one string")
    return args


def encode_argv(args: Args) -> list[bytes]:
    """Arguments as the guest gets them. Raises TypeError, ValueError (NUL)."""
    encoded = []
    for arg in args:
        if not isinstance(arg, str):
            raise TypeError(f"args must be str, not {type(arg).__name__}: {arg!r}")
        if "\0" in arg:
            raise ValueError(f"an argument contains a NUL character: {arg!r}")
        encoded.append(arg.encode("utf-8", "surrogateescape"))
    return encoded


def check_args_bytes(argv: Sequence[bytes], environ: Sequence[bytes], limits: Limits) -> None:
    """Raises ValueError for more than `Limits.args_bytes`."""
    count = len(argv) + sum(map(len, argv)) + len(environ) + sum(map(len, environ))
    if count > limits.args_bytes:
        raise ValueError(
            f"arguments and environment have {counted(count, 'byte')}, and Limits.args_bytes is {limits.args_bytes:,}"
        )


def encode_environ(env: Mapping[str, str] | None) -> list[bytes]:
    """ "NAME=value" strings. Raises TypeError, ValueError (NUL, an empty name, "=" in a name)."""
    if env is None:
        return []
    if not isinstance(env, Mapping):
        raise TypeError(f"env must map str to str, not {type(env).__name__}")
    encoded = []
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env must map str to str: {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(f"env: {name!r} is not a name, or it or its value contains a NUL character")
        encoded.append(f"{name}={value}".encode("utf-8", "surrogateescape"))
    return encoded


def checked_cwd(cwd: str) -> str:
    """An absolute path of the guest's. Raises TypeError, ValueError."""
    if not isinstance(cwd, str):
        raise TypeError(f"cwd must be a str, a directory of the guest's, not {type(cwd).__name__}")
    if not cwd.startswith("/") or "\0" in cwd:
        raise ValueError(f"cwd must be an absolute path of the guest's without NUL, not {cwd!r}")
    return cwd


def checked_isolation(isolation: object) -> bool:
    """Whether guests run in processes of their own. Raises ValueError."""
    if isolation not in (None, "none", "process"):
        raise ValueError(f"isolation must be 'none' or 'process', not {isolation!r}")
    return isolation == "process"
