"""From whatever a storage library raises to `FsError`.

Libraries raise OSErrors without an errno, exceptions of their own, and of libraries below them: the most specific class
counts first, then the errno, then the chain of causes for an HTTP status; what remains is IO.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator

from ...errors import Errno, FsError

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
_CHAIN_MAX = 8


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
            code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(code, int):
                return code
        code = getattr(response, "status_code", None)
        if isinstance(code, int):
            return code
    return None


def _is_connection(error: BaseException) -> bool:
    """fsspec's HTTP file system says FileNotFoundError when the server cannot be reached."""
    causes = list(chain(error))[1:]
    return any(isinstance(link, ConnectionError | TimeoutError | asyncio.TimeoutError) for link in causes) or any(
        type(link).__module__.startswith("aiohttp") and getattr(link, "status", None) is None for link in causes
    )


def translated(error: BaseException, what: str) -> FsError:
    """`what` was being done; the text of the error, which may hold secrets, is only in the chain."""
    for link in chain(error):  # raised by us from within a library
        if isinstance(link, FsError):
            return link
    detail = f"{what}: {type(error).__name__}"
    status = http_status(error)
    if status in STATUSES:
        return FsError(STATUSES[status], f"{detail}, HTTP status {status}")
    if (status is not None and status >= 400) or _is_connection(error):
        return FsError(Errno.IO, detail if status is None else f"{detail}, HTTP status {status}")
    for kind, number in _CLASSES:
        if isinstance(error, kind):
            return FsError(number, detail)
    if isinstance(error, OSError) and not isinstance(error, TimeoutError | asyncio.TimeoutError):
        number = _ERRNOS.get(error.errno or 0, Errno.IO)
        return FsError(number, detail)
    return FsError(Errno.IO, detail if status is None else f"{detail}, HTTP status {status}")
