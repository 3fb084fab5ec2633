"""What a worker process says of accesses is looked at before it is believed."""

from __future__ import annotations

import textwrap

import pytest

import vfswasi
from vfswasi import Accesses
from vfswasi.host.isolation import process

from ..wat_programs import SAY, program
from .test_hostile_workers import LIAR


def ask(monkeypatch: pytest.MonkeyPatch, body: str) -> Accesses | None:
    """body: what the worker does with `_[0]`, the file that it is to write accesses to."""
    both = f"if asked['do'] == 'accesses':\n    {body}\nelse: answer({{'result': result}}, b'output')"
    monkeypatch.setattr(process, "_PROGRAM", LIAR.replace("        BODY", textwrap.indent(both, "        ")))
    options = {"preopens": {"/d": "dev:"}, "stdout": vfswasi.PIPE, "timeout": 5, "accesses": True}
    return vfswasi.run(program(SAY), isolation="process", **options).accesses  # type: ignore[call-overload,no-any-return]


def wrote(text: bytes) -> str:
    return f"os.pwrite(_[0], {text!r}, 0); answer({{}}, sizes=[])"


TRUE = vfswasi.run(program(SAY), preopens={"/d": "dev:"}, stdout=vfswasi.PIPE, accesses=True).accesses


def test_the_liar_can_tell_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TRUE is not None
    assert ask(monkeypatch, wrote(TRUE.to_json().encode())) == TRUE


LIES = {
    "nothing": "answer({}, sizes=[])",
    "an error": "answer({'error': {'type': 'ValueError', 'message': 'x'}}, sizes=[])",
    "garbage": wrote(b"garbage" * 1000),
    "nests": wrote(b"[" * 100_000),
    "another mount": wrote((TRUE or Accesses({})).to_json().replace('"/d"', '"/etc"').encode()),
    "too much": "os.ftruncate(_[0], 1 << 40); answer({}, sizes=[])",
    "its end": "os._exit(0)",
}


@pytest.mark.parametrize("lie", LIES)
def test_accesses_that_cannot_be_are_a_crash_of_that_run(monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    with pytest.raises(vfswasi.GuestCrashError):
        ask(monkeypatch, LIES[lie])
