"""An execution that goes on with what an earlier one left: what is there stays, and what is missing runs."""

from __future__ import annotations

from typing import Any

import invoked_flows as flows
import pytest

from lokki.store import MemoryStore
from tests.runtime.machine import Machine, TaskFailed
from tests.runtime.packaged import Calls, put_in_the_way

SUM = 210  # of 10 times 0 to 6


def broken(store: MemoryStore, ran: Calls, size: int, *items: int) -> None:
    """A first execution, `e1`, in which items fail for good."""
    for item in items:
        put_in_the_way(item, ValueError("wrong"))
    with pytest.raises(TaskFailed, match="ValueError: wrong"):
        Machine(flows.glide_flow(size=size), store=store).execute("e1", size=size)
    ran()


def mended(store: MemoryStore, size: int, name: str = "e2") -> Any:
    machine = Machine(flows.glide_flow(size=size), store=store)
    return machine, machine.execute(name, run_id="e1", lokki_redrive=True, size=size)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_what_failed_or_did_not_run_runs_and_nothing_else(store: MemoryStore, ran: Calls, size: int) -> None:
    broken(store, ran, size, 4)
    machine, value = mended(store, size)
    assert value == SUM
    assert set(ran()) <= {"glide:4", "glide:5", "glide:6", "total"}
    assert machine.calls["glide"] == len({item // size for item in (4, 5, 6)})


@pytest.mark.parametrize("after", [1, 2, 4, 7])
@pytest.mark.parametrize("before", [1, 3, 7])
def test_children_of_another_size_find_what_is_there(store: MemoryStore, ran: Calls, before: int, after: int) -> None:
    broken(store, ran, before, 4)
    _, value = mended(store, after)
    assert value == SUM
    again = ran()
    assert all(times == 1 for times in again.values())
    assert {each for each in again if each.startswith("glide")} <= {"glide:4", "glide:5", "glide:6"}


def test_mending_twice_and_with_sizes_in_turn(store: MemoryStore, ran: Calls) -> None:
    broken(store, ran, 3, 4)
    put_in_the_way(6, ValueError("wrong"))
    with pytest.raises(TaskFailed):
        mended(store, 2)
    ran()
    assert mended(store, 5, "e3")[1] == SUM
    assert set(ran()) <= {"glide:6", "total"}
    machine, value = mended(store, 1, "e4")
    assert value == SUM
    assert ran() == {}
    assert machine.calls["glide"] <= 7
