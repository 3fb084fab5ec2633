"""Numbers in messages, with their units."""

from __future__ import annotations

import pytest

import vfswasi
from vfswasi.printing import counted

from .wat_programs import program


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "byte", "0 bytes"),
        (1, "byte", "1 byte"),
        (2, "byte", "2 bytes"),
        (12_345_678, "byte", "12,345,678 bytes"),
        (1.0, "second", "1 second"),
        (0.5, "second", "0.5 seconds"),
        (3600.0, "second", "3,600 seconds"),
        (0.05, "second", "0.05 seconds"),
        (1, "entry", "1 entry"),
        (3, "entry", "3 entries"),
    ],
)
def test_a_number_and_its_unit_agree(number: float, unit: str, text: str) -> None:
    assert counted(number, unit) == text


def test_messages_of_time_say_it_as_people_do() -> None:
    wasm = program("(loop (br 0))")
    for seconds, said in ((1, "1 second"), (1.0, "1 second"), (0.25, "0.25 seconds")):
        with pytest.raises(vfswasi.GuestTimeoutError) as caught:
            vfswasi.run(wasm, timeout=seconds)
        assert str(caught.value) == f"module.wasm was still running after {said}"
    with vfswasi.Sandbox(wasm).start() as run:
        with pytest.raises(TimeoutError, match=r"module\.wasm is still running after 1 second$"):
            run.wait(1)
        run.kill()
