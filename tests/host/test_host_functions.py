"""Host functions of the user's: a mistake is told with the import's name, before the run wherever it can be known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import vfswasi


def _calling(type_: str, call: str) -> bytes:
    return f"""(module (import "env" "f" (func $f {type_})) (memory (export "memory") 1)
      (func (export "_start") {call}))""".encode()


TWO = _calling("(param i32 i64) (result i32)", "(drop (call $f (i32.const 1) (i64.const 2)))")


class _Object:
    def __call__(self, memory: Any, one: int) -> int:
        return one

    def method(self, memory: Any) -> int:
        return 0


@pytest.mark.parametrize(
    "function",
    [
        lambda memory, one: 0,
        lambda: 0,
        lambda memory, one, two, three: 0,
        lambda memory, one, *, two: 0,
        _Object(),
        _Object().method,
        functools.partial(lambda memory, one, two: 0, None),
    ],
)
def test_a_function_that_cannot_take_its_arguments_is_told_before_the_run(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"host function env\.f is called as \(memory, i32, i64\) -> i32, and .+"):
        vfswasi.Sandbox(TWO, imports={"env": {"f": function}})


@pytest.mark.parametrize(
    "function",
    [
        lambda memory, one, two: 0,
        lambda *anything: 0,
        lambda memory, one, two=0, three=0: 0,
        functools.partial(lambda more, memory, one, two: 0, None),
    ],
)
def test_one_that_can_is_called(function: Callable[..., Any]) -> None:
    assert vfswasi.run(TWO, imports={"env": {"f": function}}).returncode == 0


def test_what_does_not_tell_its_arguments_is_told_when_it_is_called() -> None:
    """As some functions written in C."""
    with pytest.raises(TypeError, match=r"host function env\.f, called as \(memory, i32, i64\) -> i32: "):
        vfswasi.run(TWO, imports={"env": {"f": dict}})


def test_a_type_error_of_the_function_itself_arrives_unchanged() -> None:
    def function(memory: Any, one: int, two: int) -> int:
        return len(one)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        vfswasi.run(TWO, imports={"env": {"f": function}})


@pytest.mark.parametrize(
    ("imports", "words"),
    [
        ({"env": {"f": 7}}, r"imports: env\.f must be a function, not 7"),
        ({"env": {"f": None}}, r"imports: env\.f must be a function, not None"),
        ({"env": {"f": lambda *_: 0, "g": "text"}}, r"imports: env\.g must be a function"),
        ({"other": {"f": 7}}, r"imports: other\.f must be a function"),
        ({"env": lambda *_: 0}, "'env' must be a str that leads to functions by name"),
        ({7: {}}, "7 must be a str"),
        ([], "imports must be .*, not list"),
    ],
)
def test_what_is_no_function_is_told_before_the_run(imports: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        vfswasi.Sandbox(TWO, imports=imports)


def test_functions_that_nothing_imports_are_no_mistake() -> None:
    """One set of them serves many programs."""
    imports = {"env": {"f": lambda *_: 0, "unused": lambda: 0}, "elsewhere": {"g": print}}
    assert vfswasi.run(TWO, imports=imports).returncode == 0


RESULTS = {
    "nothing": ("i32", None, TypeError, "None instead of a number"),
    "text": ("i64", "7", TypeError, "'7' instead of a number"),
    "a fraction": ("i32", 1.5, TypeError, "1.5 instead of an integer, for i32"),
    "a whole fraction": ("i64", 2.0, TypeError, "2.0 instead of an integer, for i64"),
    "too large": ("f64", 10**400, OverflowError, "too large for f64"),
    "one of two": ("i32 i32", 1, TypeError, "returned 1, its type has 2 results"),
    "three of two": ("i32 i32", (1, 2, 3), TypeError, "returned 3 values, its type has 2"),
    "something for nothing": ("", 5, TypeError, "returned 5, but its type has no result"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_does_not_fit_is_told(name: str) -> None:
    types, returned, error, words = RESULTS[name]
    drops = "drop " * len(types.split())
    wasm = _calling(f"(result {types})" if types else "", f"call $f {drops}")
    with pytest.raises(error, match=r"host function env\.f returned .*") as caught:
        vfswasi.run(wasm, imports={"env": {"f": lambda memory: returned}})
    assert words in str(caught.value)


@pytest.mark.parametrize(("type_", "returned"), [("i32", True), ("i32", -1), ("i64", 2**63), ("f32", 3), ("f64", 0.5)])
def test_results_that_fit(type_: str, returned: Any) -> None:
    wasm = _calling(f"(result {type_})", "(drop (call $f))")
    assert vfswasi.run(wasm, imports={"env": {"f": lambda memory: returned}}).returncode == 0
