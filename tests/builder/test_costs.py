"""What a flow costs: arithmetic against the price list, the model against what the runtime does, and the bars."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from built_flows import FLOWS, config

from lokki import flow, step
from lokki.builder.costs import (
    ASSUMED,
    RESULT_WRITER_PUTS,
    Load,
    Prices,
    Usage,
    bill,
    dollars,
    estimate,
    longest_calls,
    measured,
    per_thousand,
)
from lokki.builder.resources import Deployment, describe
from lokki.codec import NO_TAG, Bytes, encode, seal
from lokki.decorators import Flow
from lokki.frozen import replace
from lokki.graph import Map
from lokki.runtime.event import State
from lokki.runtime.handler import Worker
from lokki.simulate.machine import Counts
from lokki.store import MemoryStore
from lokki.store.packing import Items
from lokki.store.protocol import Index, output_key
from tests.runtime.machine import Machine

ALONE = Load(processes=1)


def described(name: str, *, batch_size: int, limit: int | None = None) -> Deployment:
    """A flow, its outermost maps with another batch size and limit."""
    graph = FLOWS[name]()
    changes = {"batch_size": batch_size, "concurrency_limit": limit}
    nodes = (replace(node, **changes) if isinstance(node, Map) else node for node in graph.nodes)
    return describe(replace(graph, nodes=tuple(nodes)), config())


@step
def lines_of_text(n: int) -> list[str]:
    return ["-" * 80] * n


@step
def length(text: str) -> int:
    return len(text)


@flow
def wide_flow(n: int = 0) -> Any:
    return lines_of_text(n).map(length, batch_size=500)


# --- prices


def test_each_service_costs_what_its_price_list_says() -> None:
    usage = Usage(
        transitions=4_000,
        express_executions=1_000_000,
        express_gb_seconds=100_000,
        lambda_requests=5_000_000,
        lambda_gb_seconds=600_000,
        s3_get=10_000_000,
        s3_put=1_000_000,
        batch_jobs=1,
        fargate_vcpu_seconds=7_200,
        fargate_gb_seconds=36_000,
        log_bytes=2_000_000_000,
    )
    cost = usage.cost()
    assert cost.step_functions == pytest.approx(0.10 + 1.00 + 1.667)
    assert cost.lambda_ == pytest.approx(1.00 + 10.00002)
    assert cost.s3 == pytest.approx(4.00 + 5.00)
    assert cost.batch == pytest.approx(2 * 0.04048 + 10 * 0.004445)
    assert cost.logs == pytest.approx(1.00)
    assert cost.total == pytest.approx(sum((2.767, 11.00002, 9.00, 0.12541, 1.00)))


def test_arm_is_cheaper_for_functions_and_for_jobs() -> None:
    usage = Usage(lambda_gb_seconds=1_000_000, fargate_vcpu_seconds=3_600, fargate_gb_seconds=3_600)
    cost = usage.cost(architecture="arm64", batch_architecture="arm64")
    assert cost.lambda_ == pytest.approx(13.3334)
    assert cost.batch == pytest.approx(0.03594)


def test_the_start_of_each_child_can_be_a_transition() -> None:
    usage = Usage(transitions=3, child_executions_standard=10, express_executions=90)
    prices = Prices(transitions=1_000, express_requests=0)
    assert usage.cost(prices).total == 3
    assert usage.cost(prices, child_starts=True).total == 103


def test_usages_add_up() -> None:
    one, other = Usage(transitions=1, s3_get=2), Usage(s3_get=3, lambda_gb_seconds=0.5)
    assert one + other == Usage(transitions=1, s3_get=5, lambda_gb_seconds=0.5)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "$0.00"), (0.0000123, "$0.000012"), (0.0309, "$0.031"), (0.5, "$0.50"), (1, "$1.00"), (1234.5, "$1,234.50")],
)
def test_small_amounts_keep_two_digits(amount: float, shown: str) -> None:
    assert dollars(amount) == shown


# --- the model against the runtime


class Counting(MemoryStore):
    """Counts what would be a request to S3, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self._free = threading.local()

    def write(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> str:
        key = output_key(flow_name, run_id, step_name, index)
        with self._writing(key) as write:
            seal(value, write, tag)
        return self.location(key)

    @contextmanager
    def _writing(self, key: str) -> Iterator[Callable[[Bytes], Any]]:
        self.requests.append("PUT")
        with super()._writing(key) as write:
            yield write

    def _blob(self, key: str) -> bytes:
        if not getattr(self._free, "of_charge", False):
            self.requests.append("GET")
        return super()._blob(key)

    def _written(self, key: str, offsets: array[int], tag: bytes) -> Items:
        self._free.of_charge = True  # the store in S3 reads what it has just packed when it is asked for, if ever
        try:
            return super()._written(key, offsets, tag)
        finally:
            self._free.of_charge = False


class Fleet:
    """A process for every function, and one for every job."""

    def __init__(self, machine: Machine) -> None:
        self.program = machine.worker.program
        self._deployment = machine.deployment
        self._store = machine.store
        self._processes: dict[str, Worker] = {}
        self.functions = self.jobs = 0

    def answer(self, event: Mapping[str, Any], step: str) -> dict[str, Any]:
        self.functions += 1
        workers, node = self._deployment.workers, event["lokki"]
        key = workers[node].key if node else ""
        process = self._processes.setdefault(key, Worker(self.program, self._store))
        return process.answer(event, step)

    def run(self, node: str, state: State, facts: dict[str, Any], *, here: bool) -> dict[str, Any]:
        self.jobs += 1
        return Worker(self.program, self._store).run(node, state, facts, here=here)


def executed(flow: Flow, **given: Any) -> tuple[Deployment, Usage]:
    """What an execution of a flow comes to when the runtime really does its work."""
    store = Counting()
    machine = Machine(flow(), config(), store)
    fleet = machine.worker = Fleet(machine)  # type: ignore[assignment]
    machine.execute(**given)
    requests = store.requests
    while requests[-1] == "GET":  # of who looks at the result: the last state ends with a PUT
        requests.pop()
    counts = Counts(states=machine.states, requests={"functions": {each: requests.count(each) for each in requests}})
    done = measured(machine.deployment, counts).usage
    writers = Usage(s3_put=done.map_runs * RESULT_WRITER_PUTS)
    return machine.deployment, done + writers + Usage(lambda_requests=fleet.functions, batch_jobs=fleet.jobs)


COUNTED = ("transitions", "map_runs", "children", "express_executions", "lambda_requests", "batch_jobs")
ITEMS: dict[str, int | dict[str, int]] = {
    "map": 5,
    "two-maps": {"numbers-map": 3, "rows-map": 6},
    "nested": {"numbers-map": 3, "pair-map": 6},
    "open-map": 4,
    "long-body": 4,
    "direct": 4,
    "batched": 20,
    "params": 3,
    "retried": 3,
    "slow-map": 3,
    "batch-before": 3,
    "batch-inside": 3,
    "batch-direct": 3,
    "batch-after": 3,
    "batch-first": 3,
}


def counted(usage: Usage) -> dict[str, int]:
    return {each: getattr(usage, each) for each in (*COUNTED, "s3_get", "s3_put")}


@pytest.mark.parametrize("name", sorted(FLOWS))
def test_the_model_counts_what_the_runtime_does(name: str) -> None:
    deployment, done = executed(FLOWS[name])
    assert counted(estimate(deployment, ITEMS.get(name, 0), ALONE)) == counted(done)


@pytest.mark.parametrize("n", [0, 1, 400])
def test_the_model_counts_what_the_runtime_does_for_any_number_of_items(n: int) -> None:
    deployment, done = executed(FLOWS["params"], n=n)
    assert counted(estimate(deployment, n, ALONE)) == counted(done)


def test_the_model_counts_what_the_runtime_does_with_more_items_than_a_process_keeps() -> None:
    deployment, done = executed(wide_flow, n=15_000)
    load = Load(processes=1, bytes_per_item=len(encode("-" * 80)))
    assert counted(estimate(deployment, 15_000, load)) == counted(done)


def test_a_job_takes_the_processors_and_memory_of_its_definition_for_a_minute_at_least() -> None:
    deployment = describe(FLOWS["batch-direct"](), config())
    told = [estimate(deployment, 5, Load(seconds_per_job=seconds)) for seconds in (10, 120)]
    assert [each.fargate_vcpu_seconds for each in told] == [5 * 60 * 4, 5 * 120 * 4]
    assert [each.fargate_gb_seconds for each in told] == [5 * 60 * 8, 5 * 120 * 8]


def test_a_process_reads_small_items_once_and_a_limit_makes_processes_fewer() -> None:
    free, limited = (estimate(described("map", batch_size=1, limit=limit), 1_000) for limit in (None, 2))
    assert free.s3_get - limited.s3_get == 998
    assert free.lambda_gb_seconds - limited.lambda_gb_seconds == pytest.approx(998 * 0.5 * 0.5)  # loading the code


def test_large_values_take_a_request_for_each_8_mib() -> None:
    small, large = (estimate(described("map", batch_size=10), 10, Load(bytes_per_item=n)) for n in (1, 10 << 20))
    # 100 MiB go up three times in 13 parts with a start and an end: the list, the items, what the child made of them;
    # and 10 MiB once: what is made of all
    assert large.s3_put - small.s3_put == 3 * 14 + 3
    assert large.s3_get - small.s3_get == 12  # what the child made, to gather it


def test_who_gathers_many_results_takes_longer() -> None:
    few, many = (estimate(described("map", batch_size=each), 10_000, ALONE) for each in (100, 10))
    reads = 900 * 0.0015 * 1769 / 512
    assert many.lambda_gb_seconds - few.lambda_gb_seconds == pytest.approx((reads + 900 * 0.05) * 0.5)
    longest = longest_calls(described("map", batch_size=10), 10_000, ALONE)
    assert longest == {"numbers": 0.05, "double": 0.05, "total": pytest.approx(0.05 + 1_000 * 0.0015 * 1769 / 512)}


def test_express_children_are_billed_in_steps_of_100_ms_and_64_mb() -> None:
    deployment = described("long-body", batch_size=1)
    told = estimate(deployment, 1_000, Load(seconds_per_item=0.001))
    assert (told.express_executions, told.child_executions_standard) == (1_000, 0)
    assert told.express_gb_seconds == pytest.approx(1_000 * 0.2 * 64 / 1024)  # three calls of 51 ms


def test_the_items_of_a_nested_map_are_spread_over_those_of_the_outer_one() -> None:
    deployment = describe(FLOWS["nested"](), config())
    told = estimate(deployment, {"numbers-map": 10, "pair-map": 25})
    assert (told.child_executions_standard, told.express_executions, told.map_runs) == (10, 25, 11)
    assert told.transitions == 3 + 10 * 3  # outside; the step, the map and the join of each item


# --- measured in a simulation


def test_a_simulation_is_priced_as_aws_would_bill_it() -> None:
    deployment = describe(FLOWS["batch-after"](), config())
    counts = Counts(
        states={"Numbers": 1, "NumbersMap": 1, "Double": 3, "Total": 1, "Train": 1},
        retries=2,
        children=3,
        invocations={"batch-after-flow-numbers": 1, "batch-after-flow-double": 4, "batch-after-flow-total": 1},
        billed_ms={"batch-after-flow-double": 600},
        init_ms={"batch-after-flow-double": 1_400},
        jobs={"batch-after-flow-train": 1},
        job_ms={"batch-after-flow-train": 90_000},
        requests={"functions": {"GET range": 5, "PUT": 6, "multipart": 4}, "interpreter": {"GET": 1, "DELETE": 9}},
    )
    assert measured(deployment, counts).usage == Usage(
        transitions=4 + 2,
        map_runs=1,
        express_executions=3,
        express_gb_seconds=3 * 0.2 * (64 / 1024),  # 150 ms a call
        lambda_requests=6,
        lambda_gb_seconds=2 * 0.5,
        s3_get=6,
        s3_put=10,
        batch_jobs=1,
        fargate_vcpu_seconds=90 * 4,
        fargate_gb_seconds=90 * 8,
        log_bytes=7 * 750,
    )


# --- the bars


@pytest.mark.parametrize("batch_size", [1, 10, 100])
@pytest.mark.parametrize("items", [1, 10, 1_000, 70_000])
def test_a_fan_out_takes_two_requests_a_child_and_eight(items: int, batch_size: int) -> None:
    told = estimate(described("open-map", batch_size=batch_size), items)
    own_result = 1  # of the step that makes the list
    assert told.s3_get + told.s3_put - own_result <= 2 * told.children + 8


def test_a_fan_out_of_many_bytes_takes_a_request_more_for_each_8_mib() -> None:
    told = estimate(described("open-map", batch_size=100), 1_000_000)
    parts = (12 + 2) + (13 + 2)  # the list and the items, of 100 and 108 MB
    assert told.s3_get + told.s3_put <= 2 * 10_000 + 8 + parts


@pytest.mark.parametrize("items", [1, 10, 1_000])
def test_gathering_the_results_reads_the_manifest_and_each_childs_part(items: int) -> None:
    whole, fan_out = (estimate(described(name, batch_size=1), items) for name in ("map", "open-map"))
    assert (whole.s3_get - fan_out.s3_get, whole.s3_put - fan_out.s3_put) == (items + 1, 1)


def test_a_million_trivial_items_cost_less_than_15_cents() -> None:
    deployment = described("map", batch_size=100)
    told = bill("A million", estimate(deployment, 1_000_000), deployment)
    assert told.usage.express_executions == 10_000
    assert told.cost.total <= 0.15
    assert told.more.total == pytest.approx(told.cost.total + 10_000 * 0.025 / 1_000)


# --- in words


def test_a_build_tells_what_a_thousand_items_take() -> None:
    assert list(per_thousand(described("map", batch_size=10))) == [
        "Estimate for 1,000 items through each map, 50 ms a call:",
        "  state transitions  3 (103 if the start of a child execution is one)",
        "  child executions   100 EXPRESS",
        "  Lambda             102 invocations, 28.3 GB-s",
        "  S3 requests        202 GET, 108 PUT",
        "  cost               $0.0013 (Step Functions $0.00019, Lambda $0.00049, S3 $0.00062, logs $0.000038)",
        "                     $0.0038 if AWS bills the start of a child as a transition",
        f"  {ASSUMED}",
    ]


def test_a_flow_without_maps_is_told_as_one_execution() -> None:
    told = list(per_thousand(describe(FLOWS["linear"](), config())))
    assert told[0] == "Estimate for one execution, 50 ms a call:"
    assert told[1] == "  state transitions  4"
    assert not any("child" in line for line in told)


def test_jobs_are_told_with_the_processors_that_they_take() -> None:
    told = list(per_thousand(describe(FLOWS["batch-after"](), config())))
    assert "  Batch jobs         1, 4.0 vCPU-minutes" in told
