"""Who asks a store: what the cache of blocks is keyed by, beside what was asked for.

What one user may read, another may only be able to list. So a block is found again by those who ask with the same
credentials, options and session, and by nobody else. Secrets are in the key only as a digest, made with a random key of
this process. Whatever is not plain data stands for itself alone: of an object nobody knows what it signs with.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import weakref
from collections.abc import Mapping
from typing import Any

_KEY = secrets.token_bytes(32)
_PLAIN = (str, bytes, bool, int, float, type(None))
_DEPTH_MAX = 16

# Protocols whose files are told apart by the options below and the path, and what else the protocol is called.
_NAMED = {name: name for name in ("memory", "ftp", "hdfs", "webhdfs", "oci", "oss", "cos", "tos", "b2")}
_NAMED |= {"gs": "gs", "gcs": "gs", "abfs": "az", "abfss": "az", "az": "az", "sftp": "ssh", "ssh": "ssh", "smb": "smb"}
_WHERE = ("host", "port", "endpoint", "endpoint_url", "account_name", "account_host")

# id -> (the object, a text that no other object ever has): ids are used again, and `==` of file systems looks at
# their arguments only.
_tokens: dict[int, tuple[weakref.ref[Any], str]] = {}
_lock = threading.RLock()  # an object may be collected wherever this thread holds it


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


def digest(value: object) -> str:
    """Of a text or bytes, and of any `repr` that is as unique; nobody outside of this process can make or undo it."""
    data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, key=_KEY, digest_size=24).hexdigest()


def token_of(thing: object) -> str:
    """A text for this very object, as long as it lives. For what cannot be watched, another one each time."""
    with _lock:
        found = _tokens.get(id(thing))
        if found is not None and found[0]() is thing:
            return found[1]
        token = secrets.token_hex(16)
        number = id(thing)

        def gone(ref: weakref.ref[Any]) -> None:
            with _lock:
                if (kept := _tokens.get(number)) is not None and kept[0] is ref:
                    del _tokens[number]

        try:
            _tokens[number] = weakref.ref(thing, gone), token
        except TypeError:
            pass
        return token


def asker_of(*parts: object) -> str:
    """The digest of options, credentials and sessions. Equal for those that are equal as plain data (numbers, texts,
    and mappings and sequences of them), with the same objects in the same places."""
    return digest(_spelled(parts, 0))


def _spelled(value: object, depth: int) -> str:
    kind = type(value)
    if kind in _PLAIN:
        return f"{kind.__name__} {value!r}"
    if depth < _DEPTH_MAX:
        if kind is dict:
            assert isinstance(value, Mapping)
            pairs = sorted(f"{_spelled(name, depth + 1)}: {_spelled(item, depth + 1)}" for name, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        # A tuple with names, such as aiohttp's BasicAuth, is as plain if it has nothing beside.
        named = isinstance(value, tuple) and hasattr(kind, "_fields") and not getattr(value, "__dict__", None)
        if kind in (list, tuple) or named:
            assert isinstance(value, list | tuple)
            return f"{kind.__module__}.{kind.__qualname__}({', '.join(_spelled(item, depth + 1) for item in value)})"
    return f"object {token_of(value)}"


def place_of(fs: Any, protocol: str) -> str:
    """Equal for file systems of one server or account, whoever asks; where that cannot be told, for equal options."""
    if protocol not in _NAMED:
        return digest(getattr(fs, "_fs_token", None) or token_of(fs))
    options = getattr(fs, "storage_options", {})
    named = [(name, str(value)) for name in _WHERE if (value := getattr(fs, name, None) or options.get(name))]
    return f"{_NAMED[protocol]} {digest(named)}"
