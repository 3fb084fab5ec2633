"""What can be sent to a worker: plain data. Everything else is refused at once, with what to use instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ...fs_backends.base import Backend
from ...fs_backends.memory.literal import Symlink
from ...mounts.options import Mount, guest_name

_PLAIN: Final = (str, bytes, int, float, bool, type(None))
_DEPTH_MAX: Final = 300
_HERE: Final = "with isolation='process'"


def text(value: str) -> str:
    """The same text, of a subclass that is not there in a worker."""
    return str.__str__(value)


def sent_preopens(preopens: object) -> dict[str, Any] | None:
    """Preopens as plain data. Raises TypeError."""
    if preopens is None:
        return None
    if not isinstance(preopens, Mapping):
        raise TypeError(f"preopens must map guest directories to sources, not {type(preopens).__name__}")
    found: dict[str, Any] = {}
    for name, source in preopens.items():
        guest_name(name)
        found[text(name)] = _sent_mount(name, source) if isinstance(source, Mount) else _sent_source(name, source)
    return found


def _sent_mount(name: str, mount: Mount) -> Mount:
    from dataclasses import replace

    if mount.overlay is not False:
        from .overlays import sent_overlay  # few mounts have one

        mount = sent_overlay(name, mount)
    if mount.cache is not None and not isinstance(mount.cache, int):
        raise TypeError(
            f"mount {name!r}: a ReadCache cannot be shared {_HERE}; give cache= as a number of bytes, for each worker"
        )
    options = mount.storage_options
    if options is not None:
        options = _plain(options, f"mount {name!r}: storage_options")
    return replace(mount, source=_sent_source(name, mount.source), storage_options=options)


def _sent_source(name: str, source: Any) -> Any:
    if isinstance(source, Backend):
        raise TypeError(
            f"mount {name!r}: a {type(source).__name__} lives in this process and cannot be mounted {_HERE}; give a "
            "tree as a dict (Result.files has what became of it), a path, or a URL"
        )
    if isinstance(source, str):
        return text(source)
    if isinstance(source, Mapping):
        return _tree(source, f"mount {name!r}")
    if isinstance(source, os.PathLike) and not hasattr(source, "fs"):
        path = os.fspath(source)
        return Path(os.fsdecode(path))
    raise TypeError(
        f"mount {name!r}: a {type(source).__name__} cannot be mounted {_HERE}; give a path, a dict, or the URL of the "
        "store, with Mount(URL, storage_options=...)"
    )


def _tree(tree: Mapping[Any, Any], where: str) -> dict[Any, Any]:
    """A literal as plain data; mistakes in it are found in the worker, in the words of all literals."""
    top: dict[Any, Any] = {}
    todo: list[tuple[Mapping[Any, Any], dict[Any, Any], int]] = [(tree, top, 1)]
    while todo:
        given, made, depth = todo.pop()
        if depth > _DEPTH_MAX:
            raise ValueError(f"{where}: the tree is more than {_DEPTH_MAX} directories deep")
        for name, value in given.items():
            if not isinstance(name, str):
                raise TypeError(f"{where}: a name must be a str, not {type(name).__name__}")
            name = text(name)
            if isinstance(value, Mapping):
                made[name] = {}
                todo.append((value, made[name], depth + 1))
            elif isinstance(value, bytes | bytearray | memoryview):
                made[name] = bytes(value)
            elif isinstance(value, str):
                made[name] = text(value)
            elif isinstance(value, Symlink) or type(value).__module__ == Symlink.__module__:
                made[name] = value
            else:
                raise TypeError(
                    f"{where}/{name}: a file must be bytes or str, a directory a dict, not {type(value).__name__}"
                )
    return top


def _plain(value: Any, where: str) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {_plain(name, where): _plain(each, f"{where}[{name!r}]") for name, each in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_plain(each, where) for each in value)
    raise TypeError(f"{where}: a {type(value).__name__} cannot be sent to another process; {_HERE} give plain data")


def sent_environ(env: Mapping[str, str] | None) -> dict[str, str] | None:
    """An environment that was checked."""
    return None if env is None else {text(name): text(value) for name, value in env.items()}


def refuse_imports(imports: object) -> None:
    """Raises TypeError."""
    if imports:
        raise TypeError(
            f"imports= are functions of this process, which a guest in another one cannot call {_HERE}; leave them "
            "out, or run without isolation"
        )


def refuse_trace(trace: object) -> None:
    """Raises ValueError."""
    if trace is not None:
        raise ValueError(
            f"trace= tells of calls in this process, and a guest in another one makes them there {_HERE}; leave it "
            "out, or run without isolation"
        )
