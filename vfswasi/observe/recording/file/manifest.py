"""The manifest of a recording: lines of JSON. docs/replay.md has them in order."""

from __future__ import annotations

from typing import Any, Final

from ....clock import KINDS, Clock
from ....errors import Errno
from ....fs_backends.base import Device, FileType
from ....limits import LIMIT_NAMES, OPTIONAL, SECONDS, Limits
from ...saved.fields import Wrong, brief, is_digest, number_of, only, required_text, text_of
from ..facts import Answer
from ..told import EndingTold, MountTold

FORMAT: Final = "vfswasi recording"
VERSION: Final = 1
MANIFEST: Final = "manifest.jsonl"
MODULE: Final = "module.wasm"
CALLS: Final = "calls"
STREAMS: Final = ("stdin", "stdout", "stderr")
PAGES: Final = "pages"
SEGMENT_BYTES: Final = 4 << 20
SIZE: Final = range(1 << 63)
_TIMES: Final = range(-(1 << 63), 1 << 64)
_RUN: Final = frozenset(
    "run args env cwd seed clock deterministic features limits timeout module sha256 module_bytes has_module ending "
    "calls seconds joined cut when vfswasi wasmtime machine".split()
)
_TEXT_MAX: Final = 1 << 20


def run_line(told: Any) -> dict[str, Any]:
    """told: a `Recording`."""
    ending = told.ending
    return {
        "run": FORMAT,
        "args": list(told.args),
        "env": [[name, value] for name, value in told.env.items()],
        "cwd": told.cwd,
        "seed": None if told.seed is None else str(told.seed),
        "clock": None if told.clock is None else [told.clock.kind, told.clock.start_ns, told.clock.step_ns],
        "deterministic": told.deterministic,
        "features": list(told.features),
        "limits": {name: getattr(told.limits, name) for name in LIMIT_NAMES},
        "timeout": told.timeout,
        "module": told.module,
        "sha256": told.module_sha256,
        "module_bytes": told.module_bytes,
        "has_module": told.has_module,
        "ending": [ending.returncode, ending.limit, ending.trap, ending.interrupted, ending.failed],
        "calls": told.calls,
        "seconds": told.seconds,
        "joined": told.joined,
        "cut": told.cut,
        "when": told.when,
        "vfswasi": told.vfswasi,
        "wasmtime": told.wasmtime,
        "machine": told.machine,
    }


def read_run(fields: dict[str, Any]) -> dict[str, Any]:
    """What `Recording` is made with. Raises Wrong."""
    only(fields, _RUN)
    digest = required_text(fields, "sha256")
    if not is_digest(digest):
        raise Wrong(f"{brief(digest)} is no SHA-256")
    seed = text_of(fields, "seed")
    if seed is not None and (len(seed) > 4000 or not seed.lstrip("-").isdecimal()):
        raise Wrong(f"{brief(seed)} is no seed")
    env = {}
    for pair in items(fields, "env"):
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_text(part) for part in pair):
            raise Wrong(f"{brief(pair)} is no environment variable")
        env[pair[0]] = pair[1]
    args = texts(fields, "args")
    if not args:
        raise Wrong("it has no arguments, not even the program's name")
    for text in (*args, *env, *env.values()):
        if "\0" in text:
            raise Wrong("an argument or environment variable has a NUL in it")
    return {
        "args": args,
        "env": env,
        "cwd": text_of(fields, "cwd"),
        "seed": None if seed is None else int(seed),
        "clock": _clock(fields.get("clock")),
        "deterministic": flag(fields, "deterministic"),
        "features": texts(fields, "features"),
        "limits": _limits(fields.get("limits")),
        "timeout": seconds(fields, "timeout"),
        "module": required_text(fields, "module"),
        "module_sha256": digest,
        "module_bytes": number_of(fields, "module_bytes", SIZE),
        "has_module": flag(fields, "has_module"),
        "ending": _ending(fields.get("ending")),
        "calls": number_of(fields, "calls", SIZE),
        "seconds": seconds(fields, "seconds") or 0.0,
        "joined": flag(fields, "joined"),
        "cut": text_of(fields, "cut"),
        **{name: required_text(fields, name) for name in ("when", "vfswasi", "wasmtime", "machine")},
    }


def _clock(told: Any) -> Clock | None:
    if told is None:
        return None
    if not isinstance(told, list) or len(told) != 3 or told[0] not in KINDS or not all(map(is_size, told[1:])):
        raise Wrong(f"{brief(told)} is no clock")
    return Clock(*told)


def _limits(told: Any) -> Limits:
    if not isinstance(told, dict) or set(told) - set(LIMIT_NAMES):
        raise Wrong(f"{brief(told)} are no limits")
    for name, value in told.items():
        whole = is_size(value) or (value is None and name in OPTIONAL)
        if not whole and not (name in SECONDS and isinstance(value, float)):
            raise Wrong(f"the limit {name} is {brief(value)}")
    try:
        return Limits(**told)
    except (TypeError, ValueError) as error:
        raise Wrong(f"a limit is none: {error}") from error


def _ending(told: Any) -> EndingTold:
    if not isinstance(told, list) or len(told) != 5:
        raise Wrong(f"{brief(told)} is no ending")
    code, limit, trap, interrupted, failed = told
    fits = code is None or (type(code) is int and -256 < code < 1 << 32)
    fits = fits and all(text is None or _is_text(text) for text in (limit, trap, failed))
    if not fits or not isinstance(interrupted, bool):
        raise Wrong(f"{brief(told)} is no ending")
    return EndingTold(code, limit, trap, interrupted, failed)


def mount_line(told: MountTold) -> dict[str, Any]:
    return {
        "mount": told.name,
        "manner": told.manner,
        "what": told.what,
        "times": told.times,
        "caps": told.caps,
        "identity": told.identity,
    }


def read_mount(fields: dict[str, Any]) -> MountTold:
    """Raises Wrong."""
    only(fields, frozenset({"mount", "manner", "what", "times", "caps", "identity"}))
    manner, times = required_text(fields, "manner"), text_of(fields, "times")
    if manner not in ("ro", "rw", "overlay"):
        raise Wrong(f"{brief(manner)} is no manner of mounting")
    if times not in (None, "keep"):
        raise Wrong(f"{brief(times)} is nothing that times can be")
    caps = number_of(fields, "caps", range(1 << 13))
    return MountTold(
        required_text(fields, "mount"),
        manner,
        required_text(fields, "what"),
        times,
        caps,
        number_of(fields, "identity", range(1 << 32)),
    )


def check_answer(what: str, answer: Any) -> Answer:
    """One that can have been given. Raises Wrong."""
    if not isinstance(answer, dict):
        raise Wrong(f"{brief(answer)} is no answer")
    (field, value), *more = [*answer.items()] or [(None, None)]
    whole = answer.get("whole")
    if what == "list" and field == "list" and isinstance(whole, bool) and len(answer) == 2:
        fits = isinstance(value, list) and all(map(is_size, value))
    elif more:
        fits = False
    elif field == "errno":
        fits = is_errno(value)
    elif field == "stat":
        fits = what in ("stat", "fstat") and is_stat(value)
    elif field == "walk":
        fits = what == "walk" and isinstance(value, list) and len(value) == 2 and is_size(value[0])
        fits = fits and ((value[1] is None) == (value[0] == 0)) and (value[1] is None or is_stat(value[1]))
    elif field == "version":
        fits = what == "listing_version" and (value is None or type(value) is int)
    elif field == "target":
        fits = what == "readlink" and _is_text(value)
    elif field == "device":
        fits = what == "device" and (value is None or value in Device.__members__)
    elif field == "size":
        fits = what == "size" and is_size(value)
    elif field == "ident":
        fits = what == "ident" and (value is None or _is_ident(value))
    else:
        fits = False
    if not fits:
        raise Wrong(f"{brief(answer)} is no answer to {what!r}")
    return answer


def is_stat(told: Any) -> bool:
    if not isinstance(told, list) or len(told) != 7:
        return False
    kind, size, *times, nlink, ident = told
    if type(kind) is not int or kind not in {int(each) for each in FileType} or not is_size(size):
        return False
    if not all(time is None or (type(time) is int and -(1 << 127) <= time < 1 << 127) for time in times):
        return False
    return type(nlink) is int and 0 <= nlink < 1 << 64 and (ident is None or _is_ident(ident))


def _is_ident(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 64


def is_errno(value: Any) -> bool:
    return isinstance(value, str) and value in Errno.__members__ and value not in ("SUCCESS", "CANCELED")


def is_size(value: Any) -> bool:
    return type(value) is int and value in SIZE


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _TEXT_MAX


def items(fields: dict[str, Any], name: str) -> list[Any]:
    """Raises Wrong."""
    value = fields.get(name)
    if not isinstance(value, list):
        raise Wrong(f"{name!r} is {brief(value)}, no list")
    return value


def texts(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    """Raises Wrong."""
    found = items(fields, name)
    if not all(map(_is_text, found)):
        raise Wrong(f"{name!r} has something that is no text")
    return tuple(found)


def flag(fields: dict[str, Any], name: str) -> bool:
    """Raises Wrong."""
    value = fields.get(name)
    if not isinstance(value, bool):
        raise Wrong(f"{name!r} is {brief(value)}, and not true or false")
    return value


def seconds(fields: dict[str, Any], name: str) -> float | None:
    """Raises Wrong."""
    value = fields.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1e10:
        raise Wrong(f"{name!r} is {brief(value)}, no seconds")
    return float(value)


def runs(fields: dict[str, Any], name: str) -> list[list[int]]:
    """[how often, value] or [number, value]. Raises Wrong."""
    found = items(fields, name)
    for pair in found:
        if not isinstance(pair, list) or len(pair) != 2 or not is_size(pair[0]) or type(pair[1]) is not int:
            raise Wrong(f"{name!r} has {brief(pair)}")
    return found
