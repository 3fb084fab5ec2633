"""A store whose handles are counted, and which fails or lies at one call.

    Liar(Faulty(Books(store)))

`Faulty` counts and fails; `Books`, below it, sees what reaches the store; `Liar`, above it, changes one answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vfswasi.fs_backends.base import Backend, Handle, Key
from vfswasi.fs_backends.layers.faulty import CALL_NAMES, Call, Faulty

_HANDLE_CALLS = sorted(name.removeprefix("handle.") for name in CALL_NAMES if name.startswith("handle."))
_BACKEND_CALLS = sorted(name for name in CALL_NAMES if not name.startswith("handle."))


class _Through(Backend):
    """`inner`, with every answer going through `answer`."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.caps = inner.caps

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def answer(self, name: str, answer: Any) -> Any:
        return answer


class _ThroughHandle(Handle):
    def __init__(self, store: _Through, inner: Handle) -> None:
        self.store = store
        self.inner = inner

    def called(self, name: str) -> None:
        pass


def _backend_method(name: str) -> Callable[..., Any]:
    def method(self: _Through, *args: Any) -> Any:
        return self.answer(name, getattr(self.inner, name)(*args))

    return method


def _handle_method(name: str) -> Callable[..., Any]:
    def method(self: _ThroughHandle, *args: Any) -> Any:
        self.called(name)
        return self.store.answer(f"handle.{name}", getattr(self.inner, name)(*args))

    return method


for _name in (*_BACKEND_CALLS, "take_uncommitted", "traffic"):
    setattr(_Through, _name, _backend_method(_name))
for _name in _HANDLE_CALLS:
    setattr(_ThroughHandle, _name, _handle_method(_name))


class _Booked(_ThroughHandle):
    ends = 0
    late = 0

    def called(self, name: str) -> None:
        if name in ("close", "discard"):
            self.ends += 1
        elif self.ends:
            self.late += 1


class Books(_Through):
    """Keeps a book of the handles that it gave out."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.handles: list[_Booked] = []

    def answer(self, name: str, answer: Any) -> Any:
        if name in ("open", "create"):
            answer = _Booked(self, answer)
            self.handles.append(answer)
        return answer

    def complaints(self) -> list[str]:
        """Handles that were not closed exactly once, or used afterwards."""
        return [
            f"handle {number} of {len(self.handles)}: closed {handle.ends} times, used {handle.late} times afterwards"
            for number, handle in enumerate(self.handles, 1)
            if handle.ends != 1 or handle.late
        ]


class Liar(_Through):
    """A store of these tests: `store` is the real one, `faulty` fails. The answer to call number `at` is what `lie`
    makes of the true one."""

    faulty: Faulty
    books: Books

    def __init__(self, store: Backend) -> None:
        self.put(store)
        super().__init__(self.faulty)

    def put(self, store: Backend) -> None:
        """Another store, for the next run; no faults and no lies."""
        self.books = Books(store)
        self.inner = self.faulty = Faulty(self.books)
        self.be_good()

    def be_good(self) -> None:
        """Nothing fails from now on, and the handles of before are forgotten."""
        self.names: list[str] = []
        self.faulty.fail = self._note
        self.faulty.total = 0
        self.books.handles.clear()
        self.at = 0
        self.lie: Callable[[Any], Any] | None = None
        self.struck: str | None = None

    def _note(self, call: Call) -> None:
        self.names.append(call.name)

    def fail(self, number: int, fault: BaseException, lasting: bool = False) -> None:
        """Call `number` fails; `lasting`: and all that follow."""

        def plan(call: Call) -> BaseException | None:
            if call.number < number or (call.number > number and not lasting):
                return None
            self.struck = self.struck or call.name
            return fault

        self.faulty.fail = plan

    def answer(self, name: str, answer: Any) -> Any:
        if self.lie is not None and self.faulty.total == self.at and self.struck is None and name in CALL_NAMES:
            self.struck = name
            lie = self.lie(answer)
            if name in ("open", "create") and lie is not answer:
                answer.close()
            return lie
        return _ThroughHandle(self, answer) if name in ("open", "create") else answer
