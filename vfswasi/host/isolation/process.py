"""One worker process, as its caller sees it: started, asked, and ended whatever it does."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from ...printing import printable
from .wire import ANSWER_HEAD, NoAnswerError, content_of, lengths, request

# How long after its time a worker may take to say how its guest ended, before it is killed.
GRACE_S: Final = 0.07
# An answer that has begun has to be there as a whole.
_TRANSFER_S: Final = 30.0
_PIECE_BYTES: Final = 1 << 18
_SAID_BYTES: Final = 2000

# Isolated mode would leave out the user's site directory, whose .pth files may be what makes our own package one that
# can be imported. Only `sys` is used before the path is there: it is built in.
_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[3:]; from vfswasi.host.isolation.worker import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)


class WorkerGoneError(Exception):
    """A worker crashed, was killed, or sent something that is no answer. `signal`: the number, 0 if it was none."""

    def __init__(self, message: str, signal_number: int = 0) -> None:
        super().__init__(message)
        self.signal = signal_number


class TimeOverError(Exception):
    """The time was over, and the worker had to be killed."""


class StoppedError(Exception):
    """The caller wants no answer any more, or had none in time; the worker is killed if it had begun."""


class Pump(Protocol):
    """What a worker's guest writes to objects of this process."""

    def descriptors(self) -> Sequence[int]: ...
    def take(self, fd: int) -> None: ...


class Stop:
    """How a caller ends what goes on in a worker. Any thread may ask, and a signal handler."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._wake: int | None = None
        self.asked_ns: int | None = None  # when
        self.at_once = False

    def ask(self, at_once: bool = False) -> None:
        """at_once: nobody waits for how it ended."""
        with self._lock:
            if self.asked_ns is None:
                self.asked_ns = time.monotonic_ns()
            self.at_once = self.at_once or at_once
            if self._wake is not None:
                try:
                    os.write(self._wake, b"!")
                except BlockingIOError:  # it is awake
                    pass

    def wakes(self, fd: int | None) -> None:
        """Which descriptor is written to from now on."""
        with self._lock:
            self._wake = fd


class Answer(NamedTuple):
    """What a worker said, not looked at."""

    content: dict[str, Any]
    parts: list[memoryview]


class Worker:
    """A process that has the guests of one owner."""

    def __init__(self) -> None:
        """Raises OSError, ValueError: there is no interpreter to start."""
        if not sys.executable or getattr(sys, "frozen", False):
            raise ValueError("isolation='process' needs the Python interpreter that runs this, and there is none")
        self.loaded: set[str] = set()  # what it has been told already
        self.data_bytes = 0  # how much memory of its own it may have; 0: nobody has said yet
        self._ended = False
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        lifeline, self._life = os.pipe()
        self._said, said = os.pipe()
        self._woken, self._wake = os.pipe()
        for fd in (self._said, said, self._woken, self._wake):
            os.set_blocking(fd, False)
        ours.setblocking(False)
        self._sock = ours
        path = [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]
        options = ["-X", "utf8"] if sys.flags.utf8_mode else []
        options += ["-I"] if sys.flags.isolated else []
        command = [sys.executable, *options, "-c", _PROGRAM, str(theirs.fileno()), str(lifeline), *path]
        try:
            # A session of its own: Ctrl-C on the terminal is for the caller, who decides what becomes of the workers.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=(theirs.fileno(), lifeline),
                start_new_session=True,
            )
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
            os.close(lifeline)
            os.close(said)
        self.pid = self._process.pid

    def ask(
        self,
        content: dict[str, Any],
        descriptors: Sequence[int] = (),
        *,
        stop: Stop,
        seconds: float | None = None,
        blobs_max: int = 0,
        pump: Pump | None = None,
        sent: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a request and wait for its answer, `seconds` and a little at most (None: for ever). sent: called when
        the worker has `descriptors`.

        Raises WorkerGoneError, TimeOverError, StoppedError; the worker has ended then.
        """
        until = None if seconds is None else time.monotonic() + seconds + GRACE_S
        try:
            stop.wakes(self._wake)
            return _Exchange(self, stop, until, blobs_max, pump).whole(request(content), list(descriptors), sent)
        except NoAnswerError as error:
            self.end()
            raise WorkerGoneError(f"its worker process was ended, because {error}") from None
        except (ConnectionError, EOFError):
            raise self._gone() from None
        except BaseException:
            self.end()
            raise
        finally:
            stop.wakes(None)

    def _gone(self) -> WorkerGoneError:
        """It closed its end: say why."""
        code: int | None = None
        try:
            code = self._process.wait(1)  # it is about to end, if it has not
        except subprocess.TimeoutExpired:
            pass
        said = self._last_words()
        self.end()
        if code is None:
            return WorkerGoneError("its worker process closed its connection")
        if code >= 0:
            return WorkerGoneError(f"its worker process ended with exit status {code}{said}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if code == -signal.SIGKILL:
            name += ", which the system sends when memory is short"
        return WorkerGoneError(f"its worker process was ended by {name}{said}", -code)

    def _last_words(self) -> str:
        """What it wrote to its standard error, in one line for a message."""
        said = b""
        try:
            for _ in range(4):  # it may write faster than this reads
                said = (said + os.read(self._said, 1 << 16))[-_SAID_BYTES:]
        except OSError:
            pass
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {printable(' / '.join(lines[-3:]))[-_SAID_BYTES:]}" if lines else ""

    def hush(self) -> None:
        """Let go of what it wrote to its standard error, so that there is room for what matters."""
        self._last_words()

    def alive(self) -> bool:
        return not self._ended and self._process.poll() is None

    def end(self) -> None:
        """End it, whatever it does, and wait for that. Any thread may call this, any number of times."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._process.kill()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # inside a call of the system's that cannot be ended, such as of a dead NFS
            pass
        self._close()

    def _close(self) -> None:
        self._sock.close()
        for fd in (self._life, self._said, self._woken, self._wake):
            os.close(fd)

    def forget(self) -> None:
        """In a process that was forked from its caller's: it is not this one's."""
        if not self._ended:
            self._ended = True
            self._process.returncode = 0
            self._close()


class _Exchange:
    """One request and its answer."""

    def __init__(self, worker: Worker, stop: Stop, until: float | None, blobs_max: int, pump: Pump | None) -> None:
        self._sock: socket.socket = worker._sock
        self._woken: int = worker._woken
        self._stop = stop
        self._until = until
        self._blobs_max = blobs_max
        self._pump = pump
        self._asked = False  # whether the worker knows that it should stop
        self._answering = False

    def whole(self, message: bytes, descriptors: list[int], sent: Callable[[], None] | None) -> Answer:
        self._send(message, descriptors)
        if sent is not None:
            sent()
        head = self._receive(ANSWER_HEAD.size)
        text, blobs = lengths(head, self._blobs_max)
        self._until = time.monotonic() + _TRANSFER_S
        self._answering = True
        raw = self._receive(text)
        answer = Answer(*content_of(raw, self._receive(blobs)))
        self._drain()
        return answer

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        view = memoryview(message)
        while view:
            try:
                if descriptors:
                    sent = socket.send_fds(self._sock, [view[:_PIECE_BYTES]], descriptors)
                    descriptors = []
                else:
                    sent = self._sock.send(view[:_PIECE_BYTES])
                view = view[sent:]
            except BlockingIOError:
                self._wait(select.POLLOUT, begun=False)

    def _receive(self, count: int) -> bytearray:
        found = bytearray()
        while len(found) < count:
            try:
                piece = self._sock.recv(min(count - len(found), _PIECE_BYTES))
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            if not piece:
                raise EOFError
            found += piece
        return found

    def _wait(self, mask: int, begun: bool = True) -> None:
        """Until the worker's socket is ready, or something else is to be done."""
        poll = select.poll()
        poll.register(self._sock, mask)
        poll.register(self._woken, select.POLLIN)
        for fd in () if self._pump is None else self._pump.descriptors():
            poll.register(fd, select.POLLIN)
        left_s = self._left_s(begun)
        for fd, _ in poll.poll(None if left_s is None else -(-left_s * 1000 // 1)):
            if fd == self._woken:
                os.read(fd, 4096)
            elif fd != self._sock.fileno() and self._pump is not None:
                self._pump.take(fd)

    def _left_s(self, begun: bool) -> float | None:
        """Seconds until something has to be done. Raises TimeOverError, StoppedError."""
        now = time.monotonic()
        stopped = self._stop.asked_ns is not None
        if stopped and not self._asked and not self._answering:
            if self._stop.at_once or not begun:
                raise StoppedError
            self._asked = True
            try:
                self._sock.send(request({"do": "kill"}))
            except BlockingIOError:  # it does not listen, and will be killed
                pass
            until = now + GRACE_S
            self._until = until if self._until is None else min(self._until, until)
        if stopped and self._stop.at_once:
            raise StoppedError
        if self._until is None:
            return None
        if now >= self._until and self._answering:
            raise NoAnswerError("it did not send all of its answer")
        if now >= self._until:
            raise StoppedError if stopped else TimeOverError
        return self._until - now

    def _drain(self) -> None:
        while self._pump is not None and (fds := self._pump.descriptors()):
            poll = select.poll()
            for fd in fds:
                poll.register(fd, select.POLLIN)
            ready = poll.poll(0)
            if not ready:
                return
            for fd, _ in ready:
                self._pump.take(fd)
