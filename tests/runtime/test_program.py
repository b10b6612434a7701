"""The first state of an execution: what its input may be, what it evaluates, and what later states see of that."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import invoked_flows as flows
import pytest

from lokki.errors import GraphValidationError, LokkiError, MissingError, ParameterError, StoreError
from lokki.graph import Const
from lokki.jsonable import plain
from lokki.runtime.program import Plan
from lokki.store import MemoryStore
from tests.runtime.machine import Machine, TaskFailed
from tests.runtime.packaged import Calls, Lines, failure_of, is_retryable, put_in_the_way, worker_of

DAY = dt.date(2026, 1, 2)


class Reading(MemoryStore):
    """A store that notes which blobs were read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def _blob(self, key: str) -> bytes:
        self.reads.append(key)
        return super()._blob(key)


def first(node: str | None, execution: str = "e1", attempt: int = 0, **params: Any) -> dict[str, Any]:
    return {"lokki": node, "execution": execution, "params": params, "attempt": attempt}


def later(node: str, run_id: str = "e1", cache: bool = False) -> dict[str, Any]:
    return {"lokki": node, "state": {"run_id": run_id, "cache": cache}, "attempt": 0}


def plan_of(store: MemoryStore, run: str) -> Plan:
    return Plan.read(store.blob(f"computed-flow/runs/{run}/plan.pkl.gz"))


# The input of an execution


@pytest.mark.parametrize("given", [{}, {"Comment": "Insert your JSON here"}])
def test_an_execution_without_parameters_has_the_defaults(store: MemoryStore, given: dict[str, Any]) -> None:
    assert Machine(flows.times_flow(), store=store).execute(**given) == 60
    assert Machine(flows.times_flow(), store=store).execute("e2", n=3, times=2, **given) == 6


def test_no_input_at_all_is_one_without_parameters(tmp_path: Path, store: MemoryStore) -> None:
    answer = worker_of(flows.chain_flow(), tmp_path, store).answer({**first("numbers"), "params": None}, "numbers")
    assert answer["run_id"] == "e1"
    assert store.load("chain-flow", "e1", "numbers") == [0, 1, 2, 3]


def test_defaults_of_the_build_come_between(tmp_path: Path, store: MemoryStore) -> None:
    worker = worker_of(flows.computed_flow(), tmp_path, store)
    defaults = json.dumps(plain({"n": 3, "since": dt.date(2026, 3, 1)}))
    worker.answer({**first("numbers"), "defaults": defaults}, "numbers")
    assert plan_of(store, "e1").params == {"n": 3, "since": dt.date(2026, 3, 1)}
    worker.answer({**first("numbers", "e2", since="2026-05-01"), "defaults": defaults}, "numbers")
    assert plan_of(store, "e2").params == {"n": 3, "since": dt.date(2026, 5, 1)}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ([3], "The input of an execution is a JSON object with the parameters of the flow"),
        ("n", "The input of an execution is a JSON object with the parameters of the flow"),
        ({"nn": 3}, "Unexpected parameter: '--nn'"),
        ({"n": "many"}, "Invalid value for '--n'"),
        ({"since": "soon"}, "Invalid value for '--since'"),
        ({"run_id": 3}, "run_id must be text of at most 200 characters, not 3."),
        ({"run_id": ""}, "run_id must be text of at most 200 characters, not ''."),
        ({"run_id": "x" * 300_000}, "run_id must be text of at most 200 characters, not 'xxx"),
        ({"run_id": "../e1"}, "'../e1' cannot be part of a key"),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_another_input_is_refused_before_anything_runs(
    tmp_path: Path, store: MemoryStore, lines: Lines, ran: Calls, params: Any, said: str
) -> None:
    worker = worker_of(flows.computed_flow(), tmp_path, store)
    with pytest.raises((ParameterError, StoreError)) as caught:
        worker.answer({**first("numbers"), "params": params}, "numbers")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1_000
    (line,) = lines()
    assert (line["level"], line["event"], line["step"]) == ("ERROR", "step_fail", "numbers")
    assert ran() == {}
    assert list(store.keys("")) == []


def test_a_missing_parameter_is_named(tmp_path: Path, store: MemoryStore) -> None:
    machine = Machine(flows.needy_flow(n=1), store=store)
    with pytest.raises(TaskFailed, match="ParameterError: Missing required parameter: '--n'"):
        machine.execute()
    assert machine.execute("e2", n=5) == 10


# The run id


def test_the_run_is_known_by_the_name_of_its_execution(tmp_path: Path, store: MemoryStore) -> None:
    answer = worker_of(flows.chain_flow(), tmp_path, store).answer(first("numbers", "e7"), "numbers")
    context = {"run_id": "e7", "cache_enabled": False, "params": {}}
    location = "chain-flow/runs/e7/numbers/output.pkl.gz"
    assert answer == {"input": location, "result_url": location, "run_id": "e7", "flow": context}


def test_a_run_id_of_ones_own_reuses_results(tmp_path: Path, store: MemoryStore, ran: Calls) -> None:
    worker = worker_of(flows.chain_flow(), tmp_path, store)
    for execution in ("e1", "e2"):
        answer = worker.answer(first("numbers", execution, run_id="mine"), "numbers")
        assert answer["flow"] == {"run_id": "mine", "cache_enabled": True, "params": {}}
    assert ran() == {"numbers": 1}


def test_an_execution_that_is_to_reuse_nothing_keeps_to_itself(store: MemoryStore, ran: Calls) -> None:
    machine = Machine(flows.sized_flow(), store=store)
    assert [machine.execute("e1", n=n, run_id="mine") for n in (7, 7)] == [210, 210]
    ran()
    for execution, n in (("e2", 7), ("e3", 5)):
        expected = 10 * sum(range(n))
        assert machine.execute(execution, n=n, run_id="mine", cache_enabled=False) == expected
        assert ran() == {"numbers": 1, "total": 1, **{f"flap:{at}": 1 for at in range(n)}}
    assert machine.execute("e4", n=7, run_id="mine") == 210
    assert ran() == {}


# The plan


@pytest.mark.parametrize(
    ("made", "node", "kept"),
    [
        (flows.fixed_flow, "numbers", False),
        (flows.chain_flow, "numbers", False),
        (flows.map_flow, "numbers", False),
        (flows.times_flow, "numbers", True),
        (flows.computed_flow, "numbers", True),
        (flows.stubborn_flow, "stubborn", True),
        (flows.soar_first_flow, None, True),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_plan_is_kept_only_where_somebody_needs_it(
    tmp_path: Path, store: MemoryStore, made: Any, node: str | None, kept: bool
) -> None:
    worker_of(made(), tmp_path, store).answer(first(node), "start")
    plans = [key for key in store.keys("") if key.endswith("plan.pkl.gz")]
    assert plans == ([f"{made.name}/runs/e1/plan.pkl.gz"] if kept else [])


def test_later_states_see_what_the_first_one_computed(tmp_path: Path, store: MemoryStore) -> None:
    worker_of(flows.computed_flow(), tmp_path, store).answer(first("numbers"), "numbers")
    call = plan_of(store, "e1").arguments["stamped"][1]["call"]
    assert isinstance(call, Const)
    for _ in range(2):
        worker = worker_of(flows.computed_flow(), tmp_path, store)  # another process
        worker.answer(later("stamped"), "stamped")
        assert store.load("computed-flow", "e1", "stamped") == ([0, 1], DAY, call.value)


def test_the_plan_is_read_once_per_process_and_execution(tmp_path: Path) -> None:
    store = Reading()
    worker = worker_of(flows.computed_flow(), tmp_path, store)
    for execution in ("e1", "e2"):
        worker.answer(first("numbers", execution), "numbers")
    store.reads.clear()
    for execution in ("e1", "e1", "e2", "e2"):
        worker.answer(later("stamped", execution), "stamped")
    assert [key for key in store.reads if "plan" in key] == [
        f"computed-flow/runs/{e}/plan.pkl.gz" for e in ("e1", "e2")
    ]


def test_where_results_are_reused_the_plan_is_read_each_time(tmp_path: Path, store: MemoryStore) -> None:
    starting, working = (worker_of(flows.computed_flow(), tmp_path, store) for _ in range(2))
    for execution, since in (("e1", "2026-01-01"), ("e2", "2027-01-01")):
        starting.answer(first("numbers", execution, run_id="mine", since=since), "numbers")
        working.answer(later("stamped", "mine", cache=True), "stamped")
        expected = dt.date.fromisoformat(since) + dt.timedelta(days=1)
        assert store.load("computed-flow", "mine", "stamped")[1] == expected


def test_another_attempt_of_an_execution_sees_the_same_values(tmp_path: Path, store: MemoryStore) -> None:
    plans = []
    for execution, attempt in (("e1", 0), ("e1", 1), ("e1", 2), ("e2", 1)):
        worker = worker_of(flows.computed_flow(), tmp_path, store)
        worker.answer(first("numbers", execution, attempt, run_id="mine"), "numbers")
        plans.append(plan_of(store, "mine").arguments)
    assert plans[0] == plans[1] == plans[2]
    assert plans[3] != plans[0], "another execution under this run id evaluates the flow itself"


def test_a_first_step_that_is_tried_again_gets_the_same_arguments(tmp_path: Path, store: MemoryStore) -> None:
    put_in_the_way("stubborn", ConnectionError("gone"), ConnectionError("gone"))
    plans = []
    for attempt in range(3):
        worker = worker_of(flows.stubborn_flow(), tmp_path, store)
        if attempt < 2:
            error = failure_of(lambda: worker.answer(first("stubborn", attempt=attempt), "stubborn"))  # noqa: B023
            assert is_retryable(error)
        else:
            worker.answer(first("stubborn", attempt=attempt), "stubborn")
        plans.append(Plan.read(store.blob("stubborn-flow/runs/e1/plan.pkl.gz")).arguments)
    assert plans[0] == plans[1] == plans[2]
    (count,), _ = plans[0]["stubborn"]
    assert isinstance(count, Const)
    assert store.load("stubborn-flow", "e1", "stubborn") == list(range(count.value))


def test_an_attempt_that_failed_before_there_was_a_plan_is_no_hindrance(tmp_path: Path, store: MemoryStore) -> None:
    worker_of(flows.computed_flow(), tmp_path, store).answer(first("numbers", attempt=1), "numbers")
    assert store.load("computed-flow", "e1", "numbers") == [0, 1]


def test_a_plan_that_is_gone_or_damaged_is_named(tmp_path: Path, store: MemoryStore, lines: Lines) -> None:
    key = "computed-flow/runs/e1/plan.pkl.gz"
    with pytest.raises(MissingError, match=f"Nothing is stored at {key}"):
        worker_of(flows.computed_flow(), tmp_path, store).answer(later("stamped"), "stamped")
    store.put_blob(key, b"owl")
    with pytest.raises(StoreError, match=rf"{key} is damaged \("):
        worker_of(flows.computed_flow(), tmp_path, store).answer(later("stamped"), "stamped")
    told = lines()
    assert [(line["level"], line["step"], line["run_id"]) for line in told] == [("ERROR", "stamped", "e1")] * 2
    assert all(key in line["error"] for line in told)


def test_arguments_that_cannot_be_kept_are_told_as_such(tmp_path: Path, store: MemoryStore) -> None:
    with pytest.raises(
        StoreError, match=r"The arguments that the flow gives to its steps cannot be kept for them: .*lock"
    ):
        worker_of(flows.locked_in_flow(), tmp_path, store).answer(first("numbers", lock=True), "numbers")


# The shape of the flow


def test_parameters_that_make_another_flow_are_refused(tmp_path: Path, store: MemoryStore, lines: Lines) -> None:
    worker = worker_of(flows.shifty_flow(), tmp_path, store)
    worker.answer(first("numbers"), "numbers")
    lines()
    with pytest.raises(GraphValidationError) as caught:
        worker.answer(first("numbers", "e2", twice=True), "numbers")
    assert str(caught.value) == (
        "Flow 'shifty-flow' has another shape with these parameters than the one that was built: its chain of steps, "
        "its maps or their options differ. Build and deploy it again (with these parameters given to `build` if they "
        "decide the shape)."
    )
    (line,) = lines()
    assert line["error"] == f"GraphValidationError: {caught.value}"


def test_what_is_no_flow_any_more_is_told(tmp_path: Path, store: MemoryStore) -> None:
    worker = worker_of(flows.chain_flow(), tmp_path, store)
    program = worker.program._replace(flow=f"{flows.__name__}:numbers")
    with pytest.raises(LokkiError, match=r"invoked_flows:numbers is not a flow any more\. Build and deploy again"):
        program.evaluate("e1", {})


def test_an_error_in_the_flow_function_keeps_its_type(tmp_path: Path, store: MemoryStore, lines: Lines) -> None:
    worker = worker_of(flows.divided_flow(), tmp_path, store)
    error = failure_of(lambda: worker.answer(first("numbers", parts=0), "numbers"))
    assert type(error) is ZeroDivisionError
    assert not is_retryable(error)
    (line,) = lines()
    assert (line["step"], line["error"]) == ("numbers", "ZeroDivisionError: integer division or modulo by zero")
    assert "divided_flow" in line["traceback"]


def test_a_state_that_the_flow_does_not_have_is_told(tmp_path: Path, store: MemoryStore) -> None:
    with pytest.raises(LokkiError, match="No node named 'peck' in flow 'chain-flow'"):
        worker_of(flows.chain_flow(), tmp_path, store).answer(later("peck"), "peck")
