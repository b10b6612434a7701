"""Two executions under one run id: what is reused, what runs again, and what a killed execution leaves to the next."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import invoked_flows as flows
import pytest

from lokki.store import MemoryStore
from tests.builder.projects import write
from tests.runtime.machine import Machine
from tests.runtime.packaged import Calls, put_in_the_way

RUN = "sized-flow/runs/mine"

Execute = Callable[..., Any]


@pytest.fixture
def execute(store: MemoryStore) -> Execute:
    """Runs an execution of a flow under one run id; each of them is another execution in another process."""
    count = iter(range(99))

    def execute(made: Any, **given: Any) -> Any:
        return Machine(made(**given), store=store).execute(f"e{next(count)}", run_id="mine", **given)

    return execute


def flaps(*items: int) -> dict[str, int]:
    return {f"flap:{at}": 1 for at in items}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (flows.chain_flow, 6),
        (flows.map_flow, 60),
        (flows.sized_flow, 210),
        (flows.direct_flow, 600),
        (flows.nested_flow, [0, 10, 50, 120]),
        (flows.open_nested_flow, [[], [10], [20, 30], [30, 40, 50]]),
        (flows.glide_gathered_flow, 30),
    ],
    ids=lambda each: str(getattr(each, "name", "")),
)
def test_the_same_input_runs_nothing_again(execute: Execute, ran: Calls, made: Any, expected: Any) -> None:
    assert execute(made) == expected
    assert ran() != {}
    for _ in range(2):
        assert execute(made) == expected
        assert ran() == {}


def test_without_a_run_id_everything_runs_again(store: MemoryStore, ran: Calls) -> None:
    machine = Machine(flows.map_flow(), store=store)
    counts = []
    for execution in ("e1", "e2"):
        machine.execute(execution, cache_enabled=True)
        counts.append(ran())
    assert counts[0] == counts[1] == {"numbers": 1, "total": 1, **flaps(0, 1, 2, 3)}


def test_other_run_ids_share_nothing(store: MemoryStore, ran: Calls) -> None:
    machine = Machine(flows.map_flow(), store=store)
    assert [machine.execute(name, run_id=name) for name in ("a", "b")] == [60, 60]
    assert ran() == {"numbers": 2, "total": 2, **{f"flap:{at}": 2 for at in range(4)}}


def test_a_changed_argument_runs_its_step_again_and_what_follows(execute: Execute, ran: Calls) -> None:
    execute(flows.times_flow)
    ran()
    assert execute(flows.times_flow, times=3) == 18
    assert ran() == {"total": 1, **flaps(0, 1, 2, 3)}
    assert execute(flows.times_flow, times=3) == 18
    assert ran() == {}


def test_a_longer_list_runs_the_new_items_only(execute: Execute, ran: Calls) -> None:
    execute(flows.map_flow, n=4)
    ran()
    assert execute(flows.map_flow, n=6) == 150
    assert ran() == {"numbers": 1, "total": 1, **flaps(4, 5)}
    assert execute(flows.map_flow, n=2) == 10
    assert ran() == {"numbers": 1, "total": 1}


def test_a_step_that_gives_the_same_again_stops_the_change_there(execute: Execute, ran: Calls) -> None:
    execute(flows.parity_flow, n=3)
    ran()
    assert execute(flows.parity_flow, n=5) == "odd"
    assert ran() == {"parity": 1}
    assert execute(flows.parity_flow, n=4) == "even"
    assert ran() == {"parity": 1, "named": 1}


def test_a_body_in_one_place_is_reused_as_a_whole(execute: Execute, ran: Calls, store: MemoryStore) -> None:
    execute(flows.direct_flow)
    ran()
    assert execute(flows.direct_flow, times=2) == 120
    assert ran() == {"total": 1, **{f"glide:{at}": 1 for at in range(4)}, **flaps(0, 10, 20, 30)}
    store._delete("direct-flow/runs/mine/flap/2/")
    assert execute(flows.direct_flow, times=2) == 120
    assert ran() == {"glide:2": 1, "flap:20": 1}


# How items are cut up


def test_another_batch_size_cuts_the_same_items_anew(execute: Execute, ran: Calls, store: MemoryStore) -> None:
    packs = []
    for size, children in ((3, 3), (7, 1), (1, 7), (2, 4), (3, 3)):
        assert execute(flows.sized_flow, size=size) == 210
        manifest = json.loads(store.blob(f"{RUN}/numbers/map_manifest.json"))
        assert [entry["first"] for entry in manifest] == list(range(0, 7, size))
        assert len(manifest) == children
        packs.append(store.blob(f"{RUN}/numbers/items.pack"))
    assert len(set(packs)) == 1
    assert ran()["numbers"] == 1


def test_batches_of_another_place_are_no_results_of_this_one(execute: Execute, ran: Calls) -> None:
    assert execute(flows.sized_flow, n=6, size=2) == 150
    assert execute(flows.sized_flow, n=6, size=3) == 150
    ran()
    assert execute(flows.sized_flow, n=6, size=3) == 150
    assert ran() == {}


@pytest.mark.parametrize("inner", [1, 2])
def test_maps_within_maps_are_cut_anew_too(execute: Execute, ran: Calls, inner: int) -> None:
    for outer in (1, 3, 2, 4):
        assert execute(flows.nested_flow, outer=outer, inner=inner) == [0, 10, 50, 120]
    ran()
    assert execute(flows.nested_flow, outer=4, inner=inner) == [0, 10, 50, 120]
    assert ran() == {}


def test_a_changed_item_of_a_batch_runs_alone(execute: Execute, ran: Calls) -> None:
    execute(flows.picked_flow, items=[1, 2, 3, 4])
    ran()
    assert execute(flows.picked_flow, items=[1, 7, 3, 4]) == 150
    assert ran() == {"total": 1, **flaps(7)}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_items_and_results_stay_as_they_were_first_written(execute: Execute, ran: Calls, size: int) -> None:
    for made in (flows.nests_flow, flows.woven_flow):
        assert execute(made, size=size) == 6
        ran()
        assert execute(made, size=size) == 6
        assert ran() == {}
    assert execute(flows.woven_flow, size=size, xs=[1, 7, 3]) == 11
    assert ran() == {"woven:7": 1, "weighed:7": 1, "total": 1}


# What a killed execution leaves


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        (["numbers/items.pack", "numbers/map_manifest.json"], {}),
        (["numbers/map_manifest.json"], {}),
        (["numbers/items.pack"], {}),
        (["numbers/output.pkl.gz"], {"numbers": 1}),
        (["numbers/"], {"numbers": 1}),
        (["flap/0/results.pack"], flaps(0, 1, 2)),
        (["flap/6/output.pkl.gz"], flaps(6)),
        (["flap/"], flaps(*range(7))),
        (["total/output.pkl.gz"], {"total": 1}),
        (["plan.pkl.gz"], {}),
        ([""], {"numbers": 1, "total": 1, **flaps(*range(7))}),
    ],
    ids=str,
)
def test_whatever_is_missing_is_made_again_and_nothing_else(
    execute: Execute, ran: Calls, store: MemoryStore, lost: list[str], again: dict[str, int]
) -> None:
    assert execute(flows.sized_flow) == 210
    ran()
    for each in lost:
        store._delete(f"{RUN}/{each}")
    assert execute(flows.sized_flow) == 210
    assert ran() == again


def test_a_run_that_failed_goes_on_where_it_stopped(execute: Execute, ran: Calls) -> None:
    put_in_the_way(4, ValueError("wrong"))
    with pytest.raises(Exception, match="wrong"):
        execute(flows.sized_flow)
    ran()
    assert execute(flows.sized_flow) == 210
    assert ran() == {"total": 1, **flaps(4, 5, 6)}


def test_what_an_execution_without_reuse_left_is_not_taken(store: MemoryStore, ran: Calls) -> None:
    machine = Machine(flows.map_flow(), store=store)
    machine.execute("mine")
    ran()
    assert machine.execute("e2", run_id="mine") == 60
    assert ran() == {"numbers": 1, "total": 1, **flaps(0, 1, 2, 3)}


# Code that changed

FINCHES = """
    from lokki import flow, step
    from ticking_flows import tick

    WINGS = 2

    def beats(x):
        return x * WINGS

    @step
    def hatch():
        tick("hatch")
        return [1, 2, 3]

    @step
    def flutter(x):
        tick("flutter")
        return beats(x)

    @step
    def count(xs):
        tick("count")
        return sum(xs)

    @flow
    def finch_flow():
        return hatch().map([flutter], direct_pass=DIRECT).agg(count)
"""


@pytest.fixture
def finches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """The flow of a file that is written and imported anew, as a deployed package would be."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(text: str) -> Any:
        write(tmp_path, {"finches.py": text})
        sys.modules.pop("finches", None)
        importlib.invalidate_caches()
        return importlib.import_module("finches").finch_flow

    yield load
    sys.modules.pop("finches", None)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "result", "again"),
    [
        ("return [1, 2, 3]", "return [1, 2, 3]  # the same", 12, {}),
        ("WINGS = 2", "WINGS = 3", 18, {"flutter": 3, "count": 1}),
        ("return x * WINGS", "return x * WINGS + 1", 15, {"flutter": 3, "count": 1}),
        ("return sum(xs)", "return -sum(xs)", -12, {"count": 1}),
        ("return [1, 2, 3]", "return list(range(1, 4))", 12, {"hatch": 1}),
        ("return [1, 2, 3]", "return [1, 5, 3]", 18, {"hatch": 1, "flutter": 1, "count": 1}),
    ],
    ids=["comment", "constant", "helper", "last", "first", "items"],
)
def test_changed_code_runs_again_and_what_follows_from_it(
    finches: Callable[[str], Any],
    execute: Execute,
    ran: Calls,
    direct: bool,
    old: str,
    new: str,
    result: int,
    again: dict[str, int],
) -> None:
    text = FINCHES.replace("DIRECT", str(direct))
    assert execute(finches(text)) == 12
    ran()
    assert execute(finches(text.replace(old, new))) == result
    assert ran() == again
