"""From whatever a storage library raises to `FsError`.

Libraries raise OSErrors without an errno, exceptions of their own, and of libraries below them: the most specific class
counts first, then the errno, then the chain of causes for an HTTP status; what remains is IO.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import TypeVar

from ...errors import Errno, FsError, SandboxError

_CLASSES: tuple[tuple[type[BaseException], Errno], ...] = (
    (FileNotFoundError, Errno.NOENT),
    (PermissionError, Errno.ACCES),
    (FileExistsError, Errno.EXIST),
    (IsADirectoryError, Errno.ISDIR),
    (NotADirectoryError, Errno.NOTDIR),
    (NotImplementedError, Errno.NOTSUP),
)
_ERRNOS = {
    errno.ENOSPC: Errno.NOSPC,
    errno.EDQUOT: Errno.DQUOT,
    errno.EFBIG: Errno.FBIG,
    errno.ENOTEMPTY: Errno.NOTEMPTY,
    errno.ENOENT: Errno.NOENT,
    errno.EACCES: Errno.ACCES,
    errno.EPERM: Errno.ACCES,
    errno.EEXIST: Errno.EXIST,
    errno.EISDIR: Errno.ISDIR,
    errno.ENOTDIR: Errno.NOTDIR,
    errno.EROFS: Errno.ROFS,
    errno.ENAMETOOLONG: Errno.NAMETOOLONG,
}
STATUSES = {
    401: Errno.ACCES,
    403: Errno.ACCES,
    404: Errno.NOENT,
    410: Errno.NOENT,
    412: Errno.STALE,
    413: Errno.FBIG,
    507: Errno.NOSPC,
}
# What libraries of stores raise before they have asked anybody, since they have nothing to show.
_WITHOUT_CREDENTIALS = {
    "botocore": (
        "NoCredentialsError PartialCredentialsError CredentialRetrievalError NoAuthTokenError TokenRetrievalError "
        "SSOTokenLoadError UnauthorizedSSOTokenError"
    ).split(),
    "google": ["DefaultCredentialsError", "RefreshError"],
    "azure": ["CredentialUnavailableError", "ClientAuthenticationError"],
}
_CHAIN_MAX = 8
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


class StoreError(Exception):
    """What a library raised, without its words: those may hold URLs, keys and answers of servers.

    kind: its class. status: of an HTTP answer. errno: of the system. code: the store's own word for it, such as
    NoSuchBucket. None where there is none.
    """

    def __init__(self, kind: str, status: int | None = None, errno: int | None = None, code: str | None = None) -> None:
        super().__init__(kind, status, errno, code)
        self.kind = kind
        self.status = status
        self.errno = errno
        self.code = code

    def __str__(self) -> str:
        more = [f"HTTP status {self.status}"] * (self.status is not None)
        more += [self.code] if self.code is not None else []
        more += [os.strerror(self.errno)] if self.errno is not None else []
        return f"{self.kind} ({', '.join(more)})" if more else self.kind


def stand_in(error: BaseException) -> StoreError:
    """For the chain of one of our errors, in place of somebody else's."""
    if isinstance(error, StoreError):
        return error
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    number = error.errno if isinstance(error, OSError) and isinstance(error.errno, int) else None
    return StoreError(name, http_status(error), number, store_code(error))


Ours = TypeVar("Ours", bound=BaseException)


def scrubbed(error: Ours) -> Ours:
    """The error, with stand-ins for whatever others raised in its chain of causes and contexts: before it leaves the
    package."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        here = todo.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        suppressed = here.__suppress_context__
        cause, context = _of_ours(here.__cause__), _of_ours(here.__context__)
        here.__cause__, here.__context__, here.__suppress_context__ = cause, context, suppressed
        todo += [link for link in (cause, context) if link is not None]
    return error


def _of_ours(error: BaseException | None) -> BaseException | None:
    return error if error is None or isinstance(error, FsError | SandboxError) else stand_in(error)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it."""
    for _ in range(_CHAIN_MAX):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def http_status(error: BaseException) -> int | None:
    """The status of the answer behind an error of aiohttp, requests or botocore, or None."""
    for link in chain(error):
        status = getattr(link, "status", None)
        if isinstance(status, int):
            return status
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            told = response.get("ResponseMetadata")
            code = told.get("HTTPStatusCode") if isinstance(told, dict) else None
            if isinstance(code, int):
                return code
        code = getattr(response, "status_code", None)
        if isinstance(code, int):
            return code
    return None


def store_code(error: BaseException) -> str | None:
    """The store's own word for what was wrong, such as AccessDenied, or None."""
    for link in chain(error):
        code = getattr(link, "code", None) if isinstance(link, StoreError) else None
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            told = response.get("Error")
            code = told.get("Code") if isinstance(told, dict) else None
        if isinstance(code, str) and _CODE.fullmatch(code):
            return code
    return None


def _is_connection(error: BaseException) -> bool:
    """fsspec's HTTP file system says FileNotFoundError when the server cannot be reached."""
    causes = list(chain(error))[1:]
    return any(isinstance(link, ConnectionError | TimeoutError) for link in causes) or any(
        type(link).__module__.startswith("aiohttp") and getattr(link, "status", None) is None for link in causes
    )


def _has_no_credentials(error: BaseException) -> bool:
    return any(
        type(link).__name__ in _WITHOUT_CREDENTIALS.get(type(link).__module__.partition(".")[0], ())
        for link in chain(error)
    )


def translated(error: BaseException, what: str) -> FsError:
    """`what` was being done. Raise it outside of the `except`: of the error's own text, which may hold secrets, nothing
    is kept, not even in the chain."""
    for link in chain(error):  # raised by us from within a library
        if isinstance(link, FsError):
            return link
    made = _translated(error, what)
    made.__cause__ = stand_in(error)
    return made


def _translated(error: BaseException, what: str) -> FsError:
    code = store_code(error)
    detail = f"{what}: {type(error).__name__}" + (f", {code}" if code is not None and not code.isdigit() else "")
    status = http_status(error)
    if status is None and _has_no_credentials(error):
        return FsError(
            Errno.ACCES,
            f"{detail}: no credentials were found, or a part of them; give them in storage_options, in the "
            "environment or in the store's own files, or say anon if it is open to everybody",
        )
    if status in STATUSES:
        return FsError(STATUSES[status], f"{detail}, HTTP status {status}")
    if (status is not None and status >= 400) or _is_connection(error):
        return FsError(Errno.IO, detail if status is None else f"{detail}, HTTP status {status}")
    for kind, number in _CLASSES:
        if isinstance(error, kind):
            return FsError(number, detail)
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        number = _ERRNOS.get(error.errno or 0, Errno.IO)
        return FsError(number, detail)
    return FsError(Errno.IO, detail if status is None else f"{detail}, HTTP status {status}")
