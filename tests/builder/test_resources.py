"""What a flow needs in AWS: which functions and jobs, under which names and limits, and what is refused."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from built_flows import (
    FLOWS,
    batch_inside_flow,
    config,
    double,
    fetched,
    linear_flow,
    loaded,
    map_flow,
    negate,
    numbers,
    pair,
    slow,
    total,
    train,
    wide,
)

from lokki import RetryConfig, flow, step
from lokki.builder.resources import Deployment, Function, Job, describe
from lokki.decorators import Flow, StepNode
from lokki.errors import BuildError, ConfigurationError
from lokki.frozen import replace
from lokki.graph import ITEM, Call, FlowGraph, Map, Ref
from lokki.settings import BatchConfig, LokkiConfig


def named(name: str, **options: Any) -> StepNode:
    """A step of this name."""

    def function(x: Any = None) -> Any:
        return x

    function.__name__ = function.__qualname__ = name
    return step(**options)(function)


def chained(*steps: StepNode, name: str = "chained_flow") -> Flow:
    """A flow of these steps, one after the other."""

    def function() -> Any:
        chain = steps[0]()
        for each in steps[1:]:
            chain = chain.next(each)
        return chain

    function.__name__ = name
    return Flow(function)


def made(flow: Flow, settings: LokkiConfig | None = None) -> Deployment:
    return describe(flow(), settings or config())


def worker(flow: Flow, key: str, settings: LokkiConfig | None = None) -> Function | Job:
    """What runs under this key."""
    deployment = made(flow, settings)
    (found,) = (each for each in workers(deployment) if each.key == key)
    return found


def workers(deployment: Deployment) -> list[Function | Job]:
    return [*deployment.functions, *deployment.jobs]


# --- who runs what


def test_each_step_has_one_function_however_often_it_is_used() -> None:
    deployment = made(FLOWS["two-maps"])
    assert [each.key for each in deployment.functions] == ["numbers", "double", "total", "rows", "increment"]
    assert deployment.workers["total"] is deployment.workers["total-2"]
    assert deployment.jobs == ()
    assert deployment.functions[1] == Function(
        "double", "DoubleFunction", "${FlowName}-double", 60, 512, "The step double of the flow two-maps-flow"
    )


def test_steps_of_one_name_that_are_not_the_same_have_functions_of_their_own() -> None:
    one, other = named("double"), named("double")
    deployment = made(chained(numbers, one, other, one))
    assert [(each.key, each.logical, each.name) for each in deployment.functions[1:]] == [
        ("double", "DoubleFunction", "${FlowName}-double"),
        ("double-2", "Double2Function", "${FlowName}-double-2"),
    ]
    assert deployment.workers["double-3"] is deployment.workers["double"]


def test_a_body_in_one_place_has_one_function_with_room_for_all_its_steps() -> None:
    deployment = made(FLOWS["direct"])
    assert [each.key for each in deployment.functions] == ["numbers", "numbers-map", "total"]
    assert deployment.functions[1] == Function(
        *("numbers-map", "NumbersMapFunction", "${FlowName}-numbers-map", 180, 512),
        "All steps of numbers-map of the flow direct-flow",
    )


def test_a_body_in_one_place_takes_the_most_that_one_of_its_steps_wants_and_no_more_than_there_is() -> None:
    @flow
    def heavy_flow() -> Any:
        return numbers(3).map([double, slow, negate], direct_pass=True).agg(total)

    found = worker(heavy_flow, "numbers-map")
    assert (found.timeout, found.memory) == (900, 2048)


def test_a_job_takes_what_its_step_says_and_else_what_the_configuration_says() -> None:
    assert worker(batch_inside_flow, "train") == Job(
        *("train", "TrainJobDefinition", "${FlowName}-train", 7200, 8192, 4),
        "The step train of the flow batch-inside-flow",
    )
    found = worker(FLOWS["batch-first"], "loaded", config(batch={"vcpu": 8, "memory_mb": 100, "timeout_seconds": 61}))
    assert isinstance(found, Job)
    assert (found.timeout, found.memory, found.vcpu) == (61, 100, 8)


def test_a_body_in_one_place_with_a_job_in_it_is_a_job() -> None:
    found = worker(FLOWS["batch-direct"], "numbers-map")
    assert isinstance(found, Job)
    assert (found.timeout, found.memory, found.vcpu) == (3600 + 7200, 8192, 4)


def test_a_job_that_comes_first_gets_a_function_that_evaluates_the_flow() -> None:
    deployment = made(FLOWS["batch-first"])
    assert deployment.starts_alone
    assert deployment.functions[0] == Function(
        *("start", "StartFunction", "${FlowName}-start", 60, 512),
        "Evaluates the flow batch-first-flow before its first step, a Batch job",
    )
    assert not made(FLOWS["batch-before"]).starts_alone


@pytest.mark.parametrize(
    ("name", "count"),
    [("single", 1), ("map", 4), ("direct", 4), ("nested", 7), ("batch-first", 5), ("long-body", 6), ("open-map", 3)],
)
def test_the_states_are_counted(name: str, count: int) -> None:
    assert made(FLOWS[name]).state_count == count


# --- names


@pytest.mark.parametrize(
    ("flow_name", "step_name"),
    [
        ("birds_flow", "x" * 300),
        ("f" * 60, "flap_bird"),
        ("f" * 200, "x" * 200),
        ("größe", "flap_bird"),
        ("birds_flow", "größe"),
        ("鳥", "鳥を数える"),
        ("f", "_"),
    ],
)
def test_names_are_what_aws_takes(flow_name: str, step_name: str) -> None:
    steps = [named(step_name), named(f"{step_name}_2"), named(step_name), named(step_name, job_type="batch")]
    deployment = made(chained(*steps, name=flow_name))
    names = [each.name.replace("${FlowName}", deployment.graph.name) for each in deployment.functions]
    assert all(re.fullmatch(r"[A-Za-z0-9-_]{1,64}", name) for name in names)
    assert all(re.fullmatch(r"[A-Za-z0-9-_]{1,128}", each.name.removeprefix("${FlowName}")) for each in deployment.jobs)
    every = workers(deployment)
    assert all(re.fullmatch("[A-Za-z0-9]{1,246}", each.logical) for each in every)  # and room for LogGroup
    for kind in ("key", "logical", "name"):
        assert len({getattr(each, kind) for each in every}) == len(every) == 4


def test_names_are_the_same_in_every_build() -> None:
    first, second = (made(chained(named("größe"), named("y" * 100))) for _ in range(2))
    assert [each.name for each in first.functions] == [each.name for each in second.functions]


def test_jobs_may_have_a_name_of_their_own_in_front() -> None:
    assert worker(batch_inside_flow, "train", config(batch={"job_definition_name": "ml"})).name == "ml-train"


@pytest.mark.parametrize("prefix", ["a b", "team'", "{}", "ü", "${x}"])
def test_a_prefix_that_would_break_a_key_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=r"aws\.prefix may hold letters, digits") as caught:
        made(map_flow, config(aws={"prefix": prefix}))
    assert caught.value.field == "aws.prefix"


# --- what Lambda and Batch do not take


def test_a_step_that_takes_too_long_for_lambda_is_refused() -> None:
    long = named("long", timeout_seconds=901)
    with pytest.raises(BuildError) as caught:
        made(chained(numbers, long))
    assert caught.value.step == "long"
    assert str(caught.value) == (
        "Step 'long' has timeout_seconds=901, and AWS Lambda allows 900: lower it, or use @step(job_type=\"batch\")."
    )
    assert worker(chained(numbers, named("long", timeout_seconds=900)), "long").timeout == 900


def test_a_long_step_in_a_body_in_one_place_is_refused_too() -> None:
    long = named("long", timeout_seconds=901)

    @flow
    def direct_flow() -> Any:
        return numbers(3).map([double, long], direct_pass=True).agg(total)

    with pytest.raises(BuildError, match=r"'numbers-map' has timeout_seconds=901"):
        made(direct_flow)


@pytest.mark.parametrize("memory", [1, 127, 10_241])
def test_memory_that_lambda_does_not_have_is_refused(memory: int) -> None:
    with pytest.raises(BuildError, match=rf"Step 'wrong' has memory_mb={memory}, and AWS Lambda allows 128 to 10240"):
        made(chained(numbers, named("wrong", memory_mb=memory)))


@pytest.mark.parametrize("memory", [128, 10_240])
def test_memory_that_lambda_has_is_taken(memory: int) -> None:
    assert worker(chained(numbers, named("right", memory_mb=memory)), "right").memory == memory


def test_a_job_needs_a_queue() -> None:
    settings = LokkiConfig(batch=BatchConfig())
    with pytest.raises(
        ConfigurationError, match=r"batch\.job_queue is not set, and 'train' runs on AWS Batch"
    ) as caught:
        made(batch_inside_flow, settings)
    assert caught.value.field == "batch.job_queue"
    assert made(map_flow, settings).jobs == ()


def test_a_job_that_batch_would_end_at_once_is_refused() -> None:
    with pytest.raises(BuildError, match="Step 'brief' has timeout_seconds=59; AWS Batch allows 60 or more"):
        made(chained(numbers, named("brief", job_type="batch", timeout_seconds=59)))


def test_more_than_one_stack_holds_is_refused() -> None:
    assert len(made(wide(240)).functions) == 240
    with pytest.raises(
        BuildError, match=r"Flow 'wide-flow' has 245 different steps, .* one CloudFormation stack holds"
    ):
        made(wide(245))


# --- what cannot be compiled


def test_a_flow_that_was_found_by_running_it_is_refused() -> None:
    graph = replace(linear_flow(), traced=True)
    with pytest.raises(BuildError, match=r"Flow 'linear-flow' was traced by running it.*Write it with @flow"):
        describe(graph, config())


def test_a_step_inside_a_function_is_refused() -> None:
    @step
    def inner(x: list[int]) -> int:
        return len(x)

    with pytest.raises(BuildError, match=r"Step 'inner' is defined inside a function.*top of its module") as caught:
        made(chained(numbers, inner))
    assert caught.value.step == "inner"


def test_a_retry_on_an_exception_from_inside_a_function_is_refused() -> None:
    class Hiccup(Exception):
        pass

    retried = named("retried", retry=RetryConfig(retries=1, exceptions=(TimeoutError, Hiccup)))
    with pytest.raises(BuildError, match="Step 'retried' retries on Hiccup, which is defined inside a function"):
        made(chained(numbers, retried))


CALLS = {each.name: partial(Call, step=each.step) for each in (numbers, double, total, pair, fetched, train, loaded)}


def called(name: str, *inputs: Ref, id_: str = "") -> Call:
    return CALLS[name](id_ or name, inputs=inputs)


def body(*nodes: Call | Map, output: Ref | None = None) -> FlowGraph:
    return FlowGraph("body", nodes, output or Ref(nodes[-1].id))


def doubling(id_: str = "double") -> FlowGraph:
    return body(called("double", Ref(ITEM), id_=id_))


REFUSED: dict[str, tuple[FlowGraph, str]] = {
    "two maps over one result": (
        body(
            called("numbers"),
            Map("one", Ref("numbers"), doubling()),
            Map("two", Ref("numbers"), doubling("double-2")),
        ),
        "Two maps run over the result of 'numbers': call the step once for each",
    ),
    "two maps over one result, inside": (
        body(
            called("numbers"),
            Map(
                "outer",
                Ref("numbers"),
                body(
                    called("pair", Ref(ITEM)),
                    Map("one", Ref("pair"), doubling()),
                    Map("two", Ref("pair"), doubling("double-2")),
                ),
            ),
        ),
        "Two maps run over the result of 'pair'",
    ),
    "a map over a map's result": (
        body(called("numbers"), Map("one", Ref("numbers"), doubling()), Map("two", Ref("one"), doubling("double-2"))),
        "Map 'two' is not over the result of a step",
    ),
    "a map over the item": (
        body(called("numbers"), Map("one", Ref("numbers"), body(Map("two", Ref(ITEM), doubling())))),
        "Map 'two' is not over the result of a step",
    ),
    "a part of the flow's result": (
        body(called("numbers"), output=Ref("numbers", (0,))),
        "ends in a part of 'numbers', which is not the whole result of its last step",
    ),
    "an earlier result": (
        body(called("numbers"), called("total", Ref("numbers")), output=Ref("numbers")),
        "ends in 'numbers', which is not the whole result of its last step",
    ),
    "a part of a body's result": (
        body(called("numbers"), Map("one", Ref("numbers"), body(called("pair", Ref(ITEM)), output=Ref("pair", (1,))))),
        "The body of map 'one' ends in a part of 'pair', which no step of it has returned as it is",
    ),
    "a body that ends in its item": (
        body(called("numbers"), Map("one", Ref("numbers"), body(called("double", Ref(ITEM)), output=Ref(ITEM)))),
        "The body of map 'one' ends in its item",
    ),
    "a part of what a body in one place gives": (
        body(
            called("numbers"),
            Map("one", Ref("numbers"), body(called("pair", Ref(ITEM)), output=Ref("pair", (1,))), direct_pass=True),
        ),
        "The body of map 'one' ends in a part of 'pair'",
    ),
    "a body in one place that ends in its item": (
        body(
            called("numbers"),
            Map("one", Ref("numbers"), body(called("double", Ref(ITEM)), output=Ref(ITEM)), direct_pass=True),
        ),
        "The body of map 'one' ends in its item",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_shape_that_no_machine_has_is_refused(name: str) -> None:
    graph, why = REFUSED[name]
    with pytest.raises(BuildError, match=re.escape(why)):
        describe(graph, config())


def test_maps_in_memory_may_run_over_anything() -> None:
    inner = body(
        called("pair", Ref(ITEM)),
        Map("one", Ref("pair"), doubling()),
        Map("two", Ref("pair"), doubling("double-2")),
        Map("three", Ref("two"), doubling("double-3")),
    )
    graph = body(called("numbers"), Map("outer", Ref("numbers"), inner, direct_pass=True))
    assert [each.key for each in describe(graph, config()).functions] == ["numbers", "outer"]


def test_a_step_may_take_parts_of_several_results() -> None:
    graph = body(
        called("numbers"),
        Map("one", Ref("numbers", ("birds",)), doubling()),
        called("total", Ref("one")),
        called("double", Ref("numbers", (0,)), id_="double-2"),
    )
    assert [each.key for each in describe(graph, config()).functions] == ["numbers", "double", "total"]
