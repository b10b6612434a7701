"""`@pipeline`: what runs in which order, what a failure means, and when it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.twingraph.conftest import Heard
from twingraph import (
    ComponentError,
    Execution,
    Failure,
    PipelineTimeoutError,
    UpstreamFailedError,
    component,
    pipeline,
    register_error_handler,
)
from twingraph.events import (
    ExecutionFinished,
    ExecutionStarted,
    NodeFailed,
    NodeFinished,
    NodeRetried,
    NodeStarted,
    NodeSubmitted,
)


@component
def load(source: str = "here") -> dict[str, Any]:
    return {"chunks": [[1], [2], [3]], "source": source}


@component
def total(data: list[int]) -> dict[str, int]:
    return {"data": sum(data)}


@component
def add(results: list[int]) -> int:
    return sum(results)


@component
def broken(*_: Any, **__: Any) -> None:
    raise ValueError("boo")


@component
def fallback() -> int:
    return 7


def test_the_pipeline_of_the_documentation_runs_its_chunks_side_by_side(heard: Heard) -> None:
    together = threading.Barrier(3, timeout=30)

    @component
    def process_chunk(data: list[int]) -> dict[str, int]:
        together.wait()
        return {"data": sum(data)}

    @pipeline(name="data_processing_pipeline", schedule="0 */6 * * *", max_parallel=10, error_handler="continue")
    def process_pipeline() -> Any:
        raw_data = load(source="s3://bucket/data.csv")
        results = []
        for chunk in raw_data["outputs"]["chunks"]:
            result = process_chunk(data=chunk, parent_hash=raw_data["hash"])
            results.append(result)
        return add(
            results=[r["outputs"]["data"] for r in results],
            parent_hashes=[r["hash"] for r in results],
        )

    execution = process_pipeline.run(listen=heard)
    assert execution.result().value == 6
    started = {each.node: each for each in heard.of(NodeStarted)}
    chunks = ["process_chunk", "process_chunk#2", "process_chunk#3"]
    assert [min(started, key=list(started).index), *sorted(started)] == ["load", "add", "load", *chunks]
    assert started["process_chunk#2"].parents == (started["load"].hash,)
    assert started["add"].parents == tuple(started[each].hash for each in chunks)
    assert [each.status for each in heard.of(ExecutionFinished)] == ["completed"]
    assert process_pipeline.schedule is not None


def test_calls_that_name_no_parent_run_in_the_order_of_the_body() -> None:
    order: list[int] = []

    @component
    def note(x: int) -> None:
        order.append(x)

    @pipeline
    def steps() -> None:
        for each in range(20):
            note(each)

    steps()
    assert order == list(range(20))


def test_a_result_that_is_handed_on_is_a_parent_and_its_value(heard: Heard) -> None:
    @pipeline
    def chain() -> Any:
        first = total([1, 2])
        return add(results=[first["data"], total([3])["data"]]), broken_value(first)

    @component
    def broken_value(got: Any) -> str:
        return type(got).__name__

    _, kind = chain.run(listen=heard).result()
    assert kind.value == "dict"
    hashes = {each.node: each.hash for each in heard.of(NodeFinished)}
    parents = {each.node: each.parents for each in heard.of(NodeStarted)}
    assert parents["broken_value"] == (hashes["total"],)


def test_parents_are_found_by_the_values_that_are_handed_on(heard: Heard) -> None:
    @component
    def use(rows: Any) -> int:
        return len(rows)

    @pipeline
    def found() -> None:
        chunks = load()["outputs"]["chunks"]
        use(chunks)
        use([chunks[1], "other"])
        use([1, 2])
        use(chunks, parent_hash="by hand")

    found.run(listen=heard)
    source, *parents = [each.parents for each in heard.of(NodeStarted)]
    loaded = heard.of(NodeFinished)[0].hash
    assert source == ()
    assert parents == [(loaded,), (loaded,), (), ("by hand",)]


def test_no_more_than_max_parallel_run_at_once() -> None:
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=30)

    @component
    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1
        both.wait()

    @pipeline(max_parallel=2)
    def wide() -> None:
        first = load()
        for each in range(8):
            work(each, parent_hash=first)

    wide()
    assert most == 2


def test_a_failure_is_raised_where_it_is_read_or_at_the_end() -> None:
    @pipeline
    def read() -> Any:
        return broken(parent_hash=load())["outputs"]

    @pipeline
    def unread() -> str:
        broken(parent_hash=load())
        return "went on"

    @pipeline
    def downstream() -> Any:
        return add(results=broken(parent_hash=load()))

    for each in (read, unread, downstream):
        with pytest.raises(ValueError, match="boo"):
            each()


def test_what_follows_a_failure_is_skipped(heard: Heard) -> None:
    @pipeline
    def steps() -> None:
        failed = broken(parent_hash=load())
        add([1], parent_hash=failed)

    execution = steps.run(listen=heard)
    assert execution.status == "failed"
    assert [(each.node, each.status) for each in heard.of(NodeFailed)] == [("broken", "failed"), ("add", "skipped")]


def test_an_argument_that_a_pipeline_does_not_take_is_named_and_the_nearest_told() -> None:
    @pipeline
    def counted(birds: int) -> int:
        return birds

    with pytest.raises(
        TypeError, match=r"counted\(\) got an unexpected keyword argument 'brids'; did you mean 'birds'"
    ):
        counted(brids=1)
    with pytest.raises(TypeError, match=r"counted\(\) missing a required argument: 'birds'"):
        counted()


def test_continue_gives_a_failed_result_and_goes_on(heard: Heard) -> None:
    @pipeline(error_handler="continue")
    def steps() -> Any:
        failed = broken()
        skipped = add(results=failed)
        with pytest.raises(KeyError, match=r"no output 'x': component 'broken' \(broken\) failed: boo"):
            failed["outputs"]["x"]
        return failed, skipped, total([4])

    execution = steps.run(listen=heard)
    failed, skipped, good = execution.result()
    assert failed == {"outputs": {}, "hash": failed.hash, "status": "failed", "error": failed["error"]}
    assert failed["outputs"].get("x") is None
    assert isinstance(skipped.error, UpstreamFailedError)
    assert (skipped.status, good["data"]) == ("skipped", 4)
    assert (execution.status, execution.failed_nodes, execution.success) == ("completed", 1, False)


def test_retry_tries_in_place_what_has_no_policy_of_its_own(heard: Heard) -> None:
    left = [ValueError("one"), ValueError("two")]

    @component
    def flaky() -> str:
        if left:
            raise left.pop(0)
        return "done"

    @pipeline(error_handler="retry", error_config={"initial_delay": 0})
    def steps() -> Any:
        return flaky()

    assert steps.run(listen=heard).result().value == "done"
    assert len(heard.of(NodeRetried)) == 2
    with pytest.raises(ValueError, match="boo"):
        pipeline(error_handler="retry", error_config={"initial_delay": 0, "max_attempts": 2})(broken)()


def test_the_fault_tolerant_pipeline_of_the_documentation_falls_back() -> None:
    @pipeline(error_handler="custom", error_config={"handler": "error_notification", "continue_on_error": True})
    def fault_tolerant_pipeline() -> Any:
        try:
            result = broken()
        except Exception:
            result = fallback()
        return result

    assert fault_tolerant_pipeline().value == 7


@pytest.mark.parametrize("handler", ["fail", "continue", "custom"])
def test_a_call_inside_a_try_raises_there_also_with_parents(handler: str) -> None:
    @pipeline(error_handler=handler)
    def steps() -> Any:
        first = load()
        try:
            made = [broken(parent_hash=first) for _ in range(1)]
        except ValueError:
            made = [fallback()]
        return made[0]

    assert steps().value == 7


def handler_of_this_module(failure: Failure) -> None:
    TOLD.append(failure)


TOLD: list[Failure] = []


@pytest.mark.parametrize(
    "handler", ["handler_of_this_module", handler_of_this_module, "registered", f"{__name__}:handler_of_this_module"]
)
def test_a_handler_is_told_once_of_each_failure(handler: Any, heard: Heard) -> None:
    register_error_handler("registered", handler_of_this_module)
    TOLD.clear()

    @pipeline(error_handler="custom", error_config={"handler": handler, "continue_on_error": True})
    def steps() -> Any:
        return broken(), broken(parent_hash=load())

    execution = steps.run(listen=heard)
    assert execution.status == "completed"
    assert sorted((each.node, each.pipeline, each.attempts) for each in TOLD) == [
        ("broken", "steps", 1),
        ("broken#2", "steps", 1),
    ]
    assert "ValueError: boo" in TOLD[0].traceback
    assert TOLD[0].execution == execution.id


def test_a_handler_that_fails_or_is_not_there_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @pipeline(error_handler="custom", error_config={"handler": "nowhere"})
    def steps() -> Any:
        return broken()

    with pytest.raises(ValueError, match="boo"):
        steps()
    assert "There is no error handler 'nowhere'" in caplog.text


def test_after_its_timeout_nothing_begins_and_what_runs_is_ended(heard: Heard) -> None:
    never = threading.Event()

    @component
    def hang() -> None:
        never.wait(60)

    @pipeline(timeout=0.3)
    def slow() -> None:
        total([1])
        try:
            hang()
        except Exception:
            total([2])

    execution = slow.run(listen=heard)
    never.set()
    assert isinstance(execution.error, PipelineTimeoutError)
    assert str(execution.error) == "Pipeline 'slow' took longer than its timeout of 0.3 s."
    assert [each.node for each in heard.of(NodeStarted)] == ["total", "hang"]
    assert [(each.node, each.status) for each in heard.of(NodeFailed)] == [("hang", "stopped")]
    assert execution.status == "failed"


def test_a_body_that_fails_ends_what_it_started(heard: Heard) -> None:
    never, begun = threading.Event(), threading.Event()

    @component
    def hang() -> None:
        begun.set()
        never.wait(60)

    @pipeline
    def failing() -> None:
        hang(parent_hash=load())
        begun.wait(30)
        raise LookupError("the body's own")

    execution = failing.run(listen=heard)
    never.set()
    assert isinstance(execution.error, LookupError)
    assert [(each.node, each.status) for each in heard.of(NodeFailed)] == [("hang", "stopped")]


def test_a_nested_pipeline_is_a_part_of_the_graph(heard: Heard) -> None:
    @pipeline(error_handler="continue", max_parallel=1)
    def inner(x: int) -> Any:
        broken()
        first = total([x])
        return add([1], parent_hash=first), first["data"]

    @pipeline(max_parallel=1)
    def outer() -> Any:
        return inner(3), total([1])

    (made, data), _ = outer.run(listen=heard).result()
    assert (made.value, data) == (1, 3)
    assert [(each.node, each.within, each.kind) for each in heard.of(NodeStarted)] == [
        ("inner", "", "pipeline"),
        ("broken", "inner", "component"),
        ("total", "inner", "component"),
        ("add", "inner", "component"),
        ("total#2", "", "component"),
    ]
    assert len(heard.of(ExecutionStarted)) == 1


def test_loops_and_conditions_over_results_decide_the_graph(heard: Heard) -> None:
    @component
    def halve(x: int) -> int:
        return x // 2

    @pipeline
    def until_small(x: int) -> int:
        while x > 1:
            x = halve(x).value
        return x

    assert until_small.run(20, listen=heard).result() == 1
    assert len(heard.of(NodeFinished)) == 4


def test_a_component_may_wait_for_what_it_submits_in_the_last_place() -> None:
    @component
    def parts(n: int) -> int:
        return sum(each.value for each in add.map([[each] for each in range(n)]))

    @pipeline(max_parallel=1)
    def steps() -> Any:
        return parts(4), add.map(load.submit()["chunks"])

    made, sums = steps()
    assert (made.value, [each.value for each in sums]) == (6, [1, 2, 3])


def test_methods_coroutines_and_generators_can_be_pipelines(heard: Heard) -> None:
    class Shop:
        rate = 2

        @pipeline
        def sold(self, x: int) -> Any:
            return total([x * self.rate])

    @pipeline
    async def later() -> Any:
        await asyncio.sleep(0)
        try:
            return broken()
        except ValueError:
            return total([3])

    @pipeline
    def one_by_one() -> Any:
        yield from (total([each]) for each in (1, 2))

    async def in_a_loop() -> Any:
        return later.run(listen=heard).result()

    assert Shop().sold(4)["data"] == 8
    assert Shop.sold.run(Shop(), x=1).result()["data"] == 2
    assert [each["data"] for each in one_by_one()] == [1, 2]
    assert asyncio.run(in_a_loop())["data"] == later()["data"] == 3
    assert [each.node for each in heard.of(NodeStarted)] == ["broken", "total"]


def test_submitted_calls_tell_that_they_wait(heard: Heard) -> None:
    @pipeline
    def steps() -> None:
        add([1], parent_hash=load())

    steps.run(listen=heard)
    assert [each.node for each in heard.of(NodeSubmitted)] == ["add"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule": "61 * * * *"}, "cannot be used"),
        ({"schedule": "* * *"}, "five fields"),
        ({"schedule": "0 0 30 2 *"}, "cannot be used|never fires"),
        ({"schedule": 5}, "takes a cron expression"),
        ({"max_parallel": 0}, "1 or more"),
        ({"max_parallel": "many"}, "whole number"),
        ({"timeout": -1}, "no limit"),
        ({"error_handler": "contine"}, "fail, continue, retry, custom"),
        ({"error_handler": "custom", "error_config": {"handle": "x"}}, "no key 'handle'"),
        ({"error_handler": "custom", "error_config": {"handler": 3}}, "function or its name"),
        ({"graph_config": {"endpoint": "ws://x"}}, "no key 'endpoint'; did you mean 'graph_endpoint'"),
        ({"graph_config": {"graph_endpoint": "localhost:8182"}}, "an address such as ws://localhost:8182"),
        ({"graph_config": {"record": "off"}}, "is True or False, not 'off'"),
        ({"graph_config": {"database": 5}}, "is a URL, not 5"),
        ({"notifications": {"on_fail": "https://x"}}, "no moment 'on_fail'"),
        ({"notifications": {"on_failure": "x"}}, "a notification is a URL"),
        ({"notifications": {"on_failure": {"type": "email"}}}, "needs 'host'"),
        ({"name": "a/b"}, "needs a name"),
    ],
)
def test_a_mistake_is_told_where_it_is_made(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        pipeline(**wrong)(lambda: None)


@pytest.mark.parametrize("schedule", ["0 */6 * * *", "15,45 9-17 * * MON-FRI", "@hourly", "@Daily", "0 0 1 1 0"])
def test_schedules_that_can_be_used(schedule: str) -> None:
    assert pipeline(schedule=schedule)(lambda: None).schedule is not None


def test_an_execution_tells_what_became_of_it() -> None:
    @pipeline
    def named(x: int = 1) -> int:
        return x

    execution = named.run(execution_id="mine")
    assert isinstance(execution, Execution)
    assert (execution.id, execution.status, execution.outputs, execution.error) == ("mine", "completed", 1, None)
    with pytest.raises(TypeError, match="named"):
        named(y=2)
