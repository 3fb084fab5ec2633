"""Budgets: what is taken is charged at every level, what is given back comes back, and a refusal charges nothing."""

from __future__ import annotations

import gc
import threading

import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.budget import Budget
from vfswasi.fs_backends.charge import Charge


def test_what_is_too_much_is_nomem_with_the_budgets_name_and_charges_nothing() -> None:
    budget = Budget("Limits.index_bytes", 100)
    budget.take(60)
    with pytest.raises(FsError) as caught:
        budget.take(41)
    assert caught.value.errno is Errno.NOMEM
    assert str(caught.value.detail) == "Limits.index_bytes (100 bytes)"
    assert budget.used == 60
    budget.take(40)
    budget.give(100)
    assert budget.used == 0


def test_the_larger_budget_is_charged_as_well_and_names_itself() -> None:
    process = Budget("the process", 100)
    one, other = Budget("one", 80, process), Budget("other", 80, process)
    one.take(70)
    with pytest.raises(FsError, match="the process"):
        other.take(31)
    assert (one.used, other.used, process.used) == (70, 0, 70)
    assert other.try_take(30)
    one.give(70)
    assert (one.used, other.used, process.used) == (0, 30, 30)


def test_a_charge_is_given_back_once_when_it_is_closed_or_collected() -> None:
    budget = Budget("Limits.buffer_bytes", 1000)
    charge = Charge.tried(budget, 900)
    assert charge is not None
    assert (charge.used, budget.used) == (900, 900)
    assert Charge.tried(budget, 101) is None
    assert budget.used == 900
    charge.close()
    charge.close()
    del charge
    assert budget.used == 0
    charge = Charge(budget, 1000)
    with pytest.raises(FsError, match=r"Limits\.buffer_bytes"):
        Charge(budget, 1)
    del charge
    gc.collect()
    assert budget.used == 0


def test_a_finalizer_may_give_in_the_middle_of_anything() -> None:
    budget = Budget("budget", 1 << 40)

    class Holder:
        def __init__(self) -> None:
            budget.take(3)
            self.me = self

        def __del__(self) -> None:
            budget.give(3)

    def hold() -> None:
        for _ in range(500):
            Holder()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert budget.used == 0
