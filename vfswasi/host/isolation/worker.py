"""The program of a worker process: it makes a `Sandbox` of what it is told, and runs guests in it, one at a time.

Nothing here is trusted by the caller (see `wire.py`). What this program does for its caller's safety is done before
the first byte that nobody trusts is looked at: its memory has a limit, it leaves no core files with secrets in them,
and it ends when its caller does, also if it hangs.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import threading
from typing import Any, Final

from ...errors import FsError, GuestError, SandboxError, Uncommitted, UncommittedError
from ...fs_backends.base import Traffic
from ...limits import Usage
from ..results.result import Result
from ..runs.asked import Asked, Own
from ..runs.run import Run
from ..sandbox import Sandbox
from . import trees
from .wire import MOUNTS_MAX, SHORT, TEXT_MAX, receive_request, send_answer

_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS of prctl(2)
_COPY_BYTES: Final = 1 << 20


def main(sock_fd: int, lifeline: int) -> None:
    """Answer requests until there are no more."""
    _end_with(lifeline)
    sys.argv = ["vfswasi-worker"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    sock = socket.socket(fileno=sock_fd)
    os.set_inheritable(sock_fd, False)
    os.set_inheritable(lifeline, False)
    desk = _Desk(sock)
    while (received := _received(sock)) is not None:
        content, descriptors = received
        try:
            desk.serve(content, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)
    os._exit(0)  # threads may hang in stores


def _received(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    try:
        return receive_request(sock)
    except MemoryError as error:
        send_answer(sock, {"error": _error(error)})
        return None


def _end_with(lifeline: int) -> None:
    """End this process when nobody has the other end of `lifeline` any more."""
    if hasattr(fcntl, "F_SETSIG"):  # the system does it, whatever Python is in the middle of
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        poll = select.poll()
        poll.register(lifeline, select.POLLIN)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


class _Passed:
    """A module behind a descriptor, with the name that messages use."""

    def __init__(self, fd: int, module_name: str) -> None:
        self.module_name = module_name
        self._path = f"/dev/fd/{fd}"

    def __fspath__(self) -> str:
        return self._path


class _Desk:
    """What this worker has been told."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._module: Any = None
        self._options: dict[str, Any] = {}
        self._sandbox: Sandbox | None = None
        self._changes: dict[str, Any] = {}  # of the last run, until the caller has them
        self._overlays: list[str] = []

    def serve(self, content: dict[str, Any], descriptors: list[int]) -> None:
        """Do one request and answer it."""
        what = content.pop("do")
        if what == "kill":  # of a run that had ended
            return
        if content.get("here") is not None:
            try:
                os.chdir(content["here"])
            except OSError:  # relative paths are not found, and say so
                pass
        content.pop("here", None)
        blobs: list[bytes | bytearray] = []
        try:
            if what == "hello":
                answer: dict[str, Any] = {}
            elif what == "compile":
                answer = self._compile(descriptors, **content)
            elif what == "mount":
                answer = self._mount(**content)
            elif what == "changes":
                answer = self._save_changes(descriptors[0], **content)
            else:
                answer = self._run(blobs, descriptors, **content)
        except UncommittedError as error:
            answer = self._told(error, blobs, descriptors, content)
        except GuestError as error:
            answer = {"error": _error(error)}
            if error.result is not None:
                answer["result"] = self._result(error.result, blobs)
        except Exception as error:
            answer = {"error": _error(error)}
        send_answer(self._sock, answer, blobs)

    def _compile(self, descriptors: list[int], data_bytes: int, name: str, options: dict[str, Any]) -> dict[str, Any]:
        if data_bytes:
            _, most = resource.getrlimit(resource.RLIMIT_DATA)
            least = data_bytes if most == resource.RLIM_INFINITY else min(data_bytes, most)
            resource.setrlimit(resource.RLIMIT_DATA, (least, least))
        self._module = _Passed(os.dup(descriptors[0]), name)
        self._options = options
        Sandbox(self._module, **options).close()
        return {}

    def _mount(self, preopens: dict[str, Any] | None, timeout: float | None) -> dict[str, Any]:
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = Sandbox(self._module, preopens=preopens, timeout=timeout, **self._options)
        return {"traffic": _traffic(self._sandbox.traffic())}

    def _run(
        self,
        blobs: list[bytes | bytearray],
        descriptors: list[int],
        args: list[str],
        stdio: tuple[Any, Any, Any],
        seed: int | None,
        own: tuple[Any, ...],
        timeout: float | None,
        opening: bool,
        spill: int | None,
        overlays: list[str],
    ) -> dict[str, Any]:
        assert self._sandbox is not None
        self._changes, self._overlays = {}, overlays
        stdin, stdout, stderr = (descriptors[given[0]] if isinstance(given, tuple) else given for given in stdio)
        asked = Asked.of(stdin=stdin, stdout=stdout, stderr=stderr, seed=seed)
        run = self._sandbox._prepared(args, asked, Own(*own), timeout, opening=opening)
        while descriptors and spill is None:  # the run has duplicates: who reads a pipe sees its end when the run ends
            os.close(descriptors.pop())
        if spill is not None:
            for fd in descriptors[:spill] + descriptors[spill + 1 :]:
                os.close(fd)
            descriptors[:] = [descriptors[spill]]
        self._to_its_end(run)
        return {"result": self._result(run.answer(False), blobs)}

    def _result(self, result: Result[Any], blobs: list[bytes | bytearray]) -> dict[str, Any]:
        told = _result(result, blobs)
        self._changes = {name: result.changes[name] for name in self._overlays if name in result.changes}
        if self._changes:
            told["changed"] = {name: bool(changes.entries) for name, changes in self._changes.items()}
        return told

    def _save_changes(self, fd: int, mount: str) -> dict[str, Any]:
        from .overlays import save_into

        save_into(self._changes.pop(mount), fd)
        return {}

    def _to_its_end(self, run: Run[Any]) -> None:
        """Run it, and listen to the caller meanwhile."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)

        def changed() -> None:
            try:
                os.write(wake, b"!")
            except BlockingIOError:
                pass

        run.tell(changed)
        try:
            run.begin()
            poll = select.poll()
            poll.register(woken, select.POLLIN)
            poll.register(self._sock, select.POLLIN)
            while not run.settled:
                left_s = run.seconds_to_look()
                for fd, _ in poll.poll(None if left_s is None else -(-left_s * 1000 // 1)):
                    if fd == woken:
                        os.read(fd, 4096)
                        continue
                    if receive_request(self._sock) is None:
                        os._exit(0)
                    run.kill()
        finally:
            run.tell_no_more(changed)
            os.close(wake)
            os.close(woken)

    def _told(
        self,
        error: UncommittedError,
        blobs: list[bytes | bytearray],
        descriptors: list[int],
        content: dict[str, Any],
    ) -> dict[str, Any]:
        """Files that could not be stored: their contents go into the caller's own file."""
        files, at = [], 0
        for file in error.files:
            files.append([file.path, int(file.error.errno), file.error.detail[:TEXT_MAX], at, file.size])
            at += _spilled(file, descriptors[0], at) if content.get("spill") is not None else 0
        return {"error": _error(error), "files": files, "result": self._result(error.result, blobs)}


def _spilled(file: Uncommitted, fd: int, at: int) -> int:
    for offset in range(0, file.size, _COPY_BYTES):
        piece = memoryview(file.read(offset, min(_COPY_BYTES, file.size - offset)))
        while piece:
            done = os.pwrite(fd, piece, at + offset)
            piece, offset = piece[done:], offset + done
    return file.size


def _error(error: BaseException) -> dict[str, Any]:
    kind = type(error).__name__
    told: dict[str, Any] = {"type": kind, "message": Exception.__str__(error)[:TEXT_MAX]}
    if isinstance(error, FsError):
        told |= {"type": "FsError", "errno": int(error.errno), "message": error.detail[:TEXT_MAX]}
    elif isinstance(error, MemoryError):
        told["type"] = "MemoryError"
    elif isinstance(error, OSError) and not isinstance(error, SandboxError):
        told |= {"type": "OSError", "errno": error.errno or 0, "message": (error.strerror or str(error))[:TEXT_MAX]}
        told["filename"] = str(error.filename)[:TEXT_MAX] if error.filename is not None else None
    return told


def _traffic(traffic: Any) -> dict[str, list[int]]:
    return {name: [getattr(each, part) for part in Traffic.__annotations__] for name, each in traffic.items()}


def _refusal(each: Any) -> list[Any]:
    """Briefly: all of them have to be in one answer."""
    path, mount, detail = (None if text is None else text[:SHORT] for text in (each.path, each.mount, each.detail))
    mounts = [name[:SHORT] for name in each.mounts[:MOUNTS_MAX]]
    return [each.call, path, each.errno, mount, each.readonly, each.devices, each.outside, detail, mounts]


def _result(result: Result[Any], blobs: list[bytes | bytearray]) -> dict[str, Any]:
    """What a caller cannot know of it itself; captured output and trees are `blobs`."""
    outputs = [result.stdout, result.stderr]
    blobs += [raw for raw in outputs if raw is not None]
    names = list(result._trees)
    blobs += [trees.packed(result._trees[name].export()) for name in names]
    return {
        "returncode": result.returncode,
        "captured": [raw is not None for raw in outputs],
        "trap": None if result.trap is None else result.trap[:TEXT_MAX],
        "limit": result.limit,
        "usage": {name: getattr(result.usage, name) for name in Usage.__annotations__},
        "fast_calls": dict(result.fast_calls),
        "traffic": _traffic(result.traffic),
        "interruption": result.interruption,
        "truncated": result.truncated,
        "interrupted": result._interrupted,
        "refusals": [_refusal(each) for each in result.refusals],
        "trees": names,
    }
