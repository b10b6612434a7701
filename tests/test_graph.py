"""What a flow function's chain becomes, and how each mistake in writing one is answered."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lokki.decorators import Flow, MapBlock, RetryConfig, StepNode, flow, step
from lokki.errors import GraphValidationError, LokkiError, ParameterError
from lokki.graph import (
    ITEM,
    Call,
    Const,
    Entry,
    FlowGraph,
    Input,
    Map,
    MapCloseEntry,
    MapOpenEntry,
    Node,
    Param,
    Ref,
    TaskEntry,
)
from lokki.policy import NO_RETRY, Resources


@step
def get() -> Any:
    """The numbers."""
    return [1, 2, 3]


@step
def inc(n: Any) -> Any:
    return n + 1


@step
def scale(n: Any, factor: int = 2, *, offset: int = 0) -> Any:
    return n * factor + offset


@step
def split(n: Any) -> list[Any]:
    return list(range(n))


@step
def total(ns: Any) -> Any:
    return sum(ns)


@step(retry={"retries": 2, "exceptions": [ConnectionError, LookupError]}, job_type="batch", vcpu=2, memory_mb=4096)
def fetch(url: Any, day: Any = None, **others: Any) -> Any:
    return [url, day, others]


GET, ITEM_REF = Ref("get"), Ref(ITEM)


def call(node: StepNode, *inputs: Input, id: str = "", **kwargs: Input) -> Call:  # noqa: A002 - it is an id
    return Call(id or node.name, node.step, inputs, kwargs)


def each(over: str, *body: Node, id: str = "", **options: Any) -> Map:  # noqa: A002 - it is an id
    return Map(id or f"{over}-map", Ref(over), FlowGraph(id or f"{over}-map", body, Ref(body[-1].id)), **options)


def graph_of(chain: StepNode | MapBlock) -> FlowGraph:
    @flow
    def my_Flow() -> StepNode | MapBlock:  # noqa: N802 - the name is lowered
        return chain

    return my_Flow()


def expected(*nodes: Node) -> FlowGraph:
    return FlowGraph("my-flow", nodes, Ref(nodes[-1].id))


INC, TOTAL = call(inc, ITEM_REF), call(total, Ref("get-map"))


@pytest.mark.parametrize(
    ("chain", "nodes"),
    [
        pytest.param(get(), [call(get)], id="single"),
        pytest.param(get, [call(get)], id="uncalled"),
        pytest.param(scale(1, 2, offset=3), [call(scale, Const(1), Const(2), offset=Const(3))], id="arguments"),
        pytest.param(
            get().next(total).next(inc), [call(get), call(total, GET), call(inc, Ref("total"))], id="chain of steps"
        ),
        pytest.param(
            get().next(scale(7), offset=1),
            [call(get), call(scale, GET, Const(7), offset=Const(1))],
            id="place and name",
        ),
        pytest.param(
            get().next(scale(factor=1, offset=5), factor=4),
            [call(get), call(scale, GET, factor=Const(4), offset=Const(5))],
            id="what the chain says counts more",
        ),
        pytest.param(get().map(inc).agg(total), [call(get), each("get", INC), TOTAL], id="map and agg"),
        pytest.param(
            get().map(scale, 4, batch_size=10, direct_pass=True, factor=3).agg(scale, offset=1),
            [
                call(get),
                each(
                    "get",
                    call(scale, ITEM_REF, factor=Const(3)),
                    concurrency_limit=4,
                    batch_size=10,
                    direct_pass=True,
                ),
                call(scale, Ref("get-map"), id="scale-2", offset=Const(1)),
            ],
            id="options and arguments",
        ),
        pytest.param(
            get().map(inc).agg(split).map(inc, concurrency_limit=2).agg(total),
            [
                call(get),
                each("get", INC),
                call(split, Ref("get-map")),
                each("split", call(inc, ITEM_REF, id="inc-2"), concurrency_limit=2),
                call(total, Ref("split-map")),
            ],
            id="two maps in a row",
        ),
        pytest.param(get().map(inc), [call(get), each("get", INC)], id="open map"),
        pytest.param(
            get().map(split.map(inc).agg(total)).agg(total),
            [
                call(get),
                each("get", call(split, ITEM_REF), each("split", INC), call(total, Ref("split-map"))),
                call(total, Ref("get-map"), id="total-2"),
            ],
            id="map in a map",
        ),
        pytest.param(
            get().map([inc, split.map(inc, 2)], direct_pass=True),
            [
                call(get),
                each(
                    "get",
                    INC,
                    call(split, Ref("inc")),
                    each("split", call(inc, ITEM_REF, id="inc-2"), concurrency_limit=2),
                    direct_pass=True,
                ),
            ],
            id="open map in a list",
        ),
        pytest.param(
            get().map(split).map(scale.map(inc).agg(total)),
            [
                call(get),
                each(
                    "get",
                    call(split, ITEM_REF),
                    call(scale, Ref("split")),
                    each("scale", INC),
                    call(total, Ref("scale-map")),
                ),
            ],
            id="a chain after a step in the body",
        ),
    ],
)
def test_a_chain_becomes_a_graph(chain: StepNode | MapBlock, nodes: list[Node]) -> None:
    assert graph_of(chain) == expected(*nodes)


@pytest.mark.parametrize(
    "chain",
    [
        get().map([inc, scale]),
        get().map((inc, scale)),
        get().map(inc).map(scale),
        get().map(inc).next(scale),
        get().map(inc).map([scale]),
        get().map(inc.next(scale)),
        get().map([inc.next(scale)]),
    ],
)
def test_a_body_of_several_steps_can_be_written_in_several_ways(chain: MapBlock) -> None:
    both = (INC, call(scale, Ref("inc")))
    assert graph_of(chain) == expected(call(get), each("get", *both))
    assert graph_of(chain.agg(total)) == expected(call(get), each("get", *both), TOTAL)


def test_a_keyword_for_a_list_of_steps_goes_to_those_that_take_it() -> None:
    body = graph_of(get().map([inc, scale, fetch], factor=3, day="monday")).nodes[1]
    assert body == each(
        "get",
        INC,
        call(scale, Ref("inc"), factor=Const(3)),
        call(fetch, Ref("scale"), factor=Const(3), day=Const("monday")),
    )


def test_the_limit_of_an_open_map_stays_unless_a_later_map_sets_another() -> None:
    assert graph_of(get().map(inc, 4).map(scale).next(total)).nodes[1].concurrency_limit == 4  # type: ignore[union-attr]
    assert graph_of(get().map(inc, 4).map(scale, 2)).nodes[1].concurrency_limit == 2  # type: ignore[union-attr]


def test_a_step_used_again_gets_an_id_of_its_own() -> None:
    graph = graph_of(inc(1).next(inc).next(split).map(inc).agg(total).next(split).map(inc))
    assert [node.id for node in graph.walk()] == [
        *("inc", "inc-2", "split", "split-map", "inc-3", "total", "split-2", "split-2-map", "inc-4"),
    ]
    assert graph.step_names == ("inc", "split", "total")
    assert [node.id for node in graph.calls()] == ["inc", "inc-2", "split", "inc-3", "total", "split-2", "inc-4"]


def test_a_node_is_found_by_its_id_wherever_it_is() -> None:
    graph = graph_of(get().map(inc).agg(total))
    assert graph.node("inc") == INC
    assert graph.node("get-map") == graph.nodes[1]
    with pytest.raises(GraphValidationError) as caught:
        graph.node("ink")
    assert str(caught.value) == "No node named 'ink' in flow 'my-flow'; it has get, get-map, inc, total."


def test_a_map_is_known_by_the_first_step_inside() -> None:
    graph = graph_of(get().map(split.map(inc).agg(total)))
    assert [node.label for node in graph.walk() if isinstance(node, Map)] == ["split", "inc"]


def test_chaining_leaves_what_it_starts_from_as_it_was() -> None:
    start = get()
    opened = start.map(inc)
    one, other = opened.agg(total), opened.map(scale).agg(total)
    assert graph_of(one) == expected(call(get), each("get", INC), TOTAL)
    assert graph_of(other) == expected(call(get), each("get", INC, call(scale, Ref("inc"))), TOTAL)
    assert graph_of(opened) == expected(call(get), each("get", INC))
    assert graph_of(start.next(total)) == expected(call(get), call(total, GET))
    assert graph_of(start) == expected(call(get))
    scale(5, offset=1)
    assert (scale.args, scale.kwargs, scale.after) == ((), {}, None)


@pytest.mark.parametrize(
    ("value", "attribute"),
    [(get, "step"), (get().map(inc), "body"), (graph_of(get()), "name"), (graph_of(get()).nodes[0], "id")],
)
def test_nothing_can_be_changed_afterwards(value: Any, attribute: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, attribute, None)


def test_many_threads_may_use_the_same_steps() -> None:
    def made(n: int) -> FlowGraph:
        chain = get().map(scale, factor=n).agg(total)
        for _ in range(n):
            chain = chain.next(inc)
        return graph_of(chain)

    with ThreadPoolExecutor(8) as pool:
        graphs = list(pool.map(made, range(40)))
    for n, graph in enumerate(graphs):
        assert len(graph.nodes) == n + 3
        assert graph.node("scale") == call(scale, ITEM_REF, factor=Const(n))


def test_a_step_is_still_its_function() -> None:
    assert get.fn() == [1, 2, 3]
    assert (get.name, get.__doc__, get.__wrapped__) == ("get", "The numbers.", get.fn)  # type: ignore[attr-defined]
    assert (get.retry, get.job_type, get.step.resources) == (NO_RETRY, "lambda", Resources())
    assert (fetch.retry, fetch.job_type) == (RetryConfig(2, exceptions=(ConnectionError, LookupError)), "batch")
    assert fetch.step.resources == Resources("batch", 2, 4096, None)
    assert step(timeout_seconds=5)(get.fn).step.resources.timeout_seconds == 5


def forecast(days: int) -> StepNode:
    return scale(days)


class Doubling:
    def __call__(self, n: int) -> int:
        return 2 * n


def test_any_callable_with_a_name_can_be_a_step() -> None:
    assert step(Doubling()).name == "Doubling"
    assert step(functools.partial(pow, 2)).name == "partial"
    assert flow(functools.partial(forecast, 1))().name == "partial"
    assert step(len).name == "len"


def test_one_use_of_a_step_may_have_its_own_retry() -> None:
    often = RetryConfig(retries=9)
    graph = graph_of(get().next(scale(retry=often, factor=3)).next(scale))
    assert [node.step.retry for node in graph.calls()] == [NO_RETRY, often, NO_RETRY]
    assert graph.nodes[1] == dataclasses.replace(
        call(scale, GET, factor=Const(3)), step=dataclasses.replace(scale.step, retry=often)
    )


def test_a_step_with_a_parameter_named_retry_gets_the_argument() -> None:
    @step
    def again(n: Any, retry: Any = None) -> Any:
        return n

    often = RetryConfig(retries=9)
    assert graph_of(get().next(again(retry=often))).nodes[1] == call(again, GET, retry=Const(often))


# What the documents call the flat view.


def entry_names(entry: Entry) -> tuple[Any, ...]:
    match entry:
        case TaskEntry(node):
            return "task", node.step.name
        case MapOpenEntry(_, source, inner, limit):
            return "open", source, [each.name for each in inner], limit
        case MapCloseEntry(_, last):
            return "close", last and last.name


@pytest.mark.parametrize(
    ("chain", "entries"),
    [
        (get(), [("task", "get")]),
        (get().next(total), [("task", "get"), ("task", "total")]),
        (
            get().map([inc, scale], 3).agg(total),
            [("task", "get"), ("open", "get", ["inc", "scale"], 3), ("close", "total")],
        ),
        (
            get().map(inc).agg(split).map(inc).agg(total).next(inc),
            [
                *[("task", "get"), ("open", "get", ["inc"], None), ("close", "split")],
                *[("open", "split", ["inc"], None), ("close", "total"), ("task", "inc")],
            ],
        ),
        (get().map(inc), [("task", "get"), ("open", "get", ["inc"], None), ("close", None)]),
        (
            get().map(split.map(inc).agg(total)),
            [
                *[("task", "get"), ("open", "get", ["split", "total"], None)],
                *[("open", "split", ["inc"], None), ("close", "total"), ("close", None)],
            ],
        ),
    ],
)
def test_the_flat_view_names_tasks_and_where_maps_open_and_close(
    chain: StepNode | MapBlock, entries: list[tuple[Any, ...]]
) -> None:
    assert [entry_names(entry) for entry in graph_of(chain).entries] == entries


def test_a_step_behind_a_map_that_does_not_take_its_results_is_a_task() -> None:
    graph = expected(call(get), each("get", INC), call(total, GET))
    assert [entry_names(entry) for entry in graph.entries[-2:]] == [("close", None), ("task", "total")]


# Parameters of flows.


@flow(schedule="cron(0 12 * * 1-5)")
def weather_flow(url: str, day: Any = None, factor: int = 2) -> StepNode:
    return fetch(f"{url}/today").map(scale).agg(total)


def test_flow_parameters_go_to_the_steps_that_name_them_or_take_any() -> None:
    graph = weather_flow("a.test", factor=5)
    assert graph.params == {"url": "a.test", "day": None, "factor": 5}
    assert graph.schedule == "cron(0 12 * * 1-5)"
    assert graph.nodes == (
        call(fetch, Const("a.test/today"), day=Param("day"), factor=Param("factor")),
        each("fetch", call(scale, ITEM_REF, factor=Param("factor"))),
        call(total, Ref("fetch-map")),
    )
    assert weather_flow(url="a.test", factor=5, day=None) == graph
    assert weather_flow("a.test", None, 5) == graph


def test_a_flow_made_with_other_parameters_computes_its_arguments_again() -> None:
    graph = weather_flow("a.test", factor=5)
    changed = graph.with_params({"url": "b.test", "day": "monday"})
    assert changed == weather_flow("b.test", "monday", 5)
    assert changed.nodes[0].inputs == (Const("b.test/today"),)  # type: ignore[union-attr]
    assert graph.with_params({"factor": 5}) is graph
    assert graph.with_params({}) is graph
    with pytest.raises(ParameterError, match="--dya"):
        graph.with_params({"dya": 1})


def test_a_graph_without_a_flow_function_takes_other_parameters_too() -> None:
    graph = FlowGraph("by-hand", (call(inc, Param("n")),), Ref("inc"), {"n": 1, "m": 2})
    assert graph.with_params({"n": 3}).params == {"n": 3, "m": 2}
    assert graph.params == {"n": 1, "m": 2}


def test_each_call_of_a_flow_gets_its_own_default() -> None:
    @flow
    def collecting(found: list[int] = []) -> StepNode:  # noqa: B006 - the default is what is tested
        found.append(1)
        return get()

    assert collecting().params == collecting().params == {"found": [1]}


def test_a_flow_may_take_parameters_in_any_way_but_by_star() -> None:
    @flow
    def every_kind(first: int, /, second: int, *, third: int = 3, **more: Any) -> StepNode:
        return fetch(first + second)

    graph = every_kind(1, 2, fourth=4)
    assert graph.params == {"first": 1, "second": 2, "third": 3, "fourth": 4}
    passed: dict[str, Any] = {name: Param(name) for name in ("first", "second", "third", "fourth")}
    assert graph.nodes == (call(fetch, Const(3), **passed),)
    assert every_kind.graph({"second": 2, "first": 1, "third": 3}).nodes[0].inputs == (Const(3),)  # type: ignore[union-attr]


def test_a_flow_keeps_its_functions_name_and_words() -> None:
    assert (weather_flow.name, weather_flow.__name__, weather_flow.schedule) == (
        *("weather-flow", "weather_flow"),
        "cron(0 12 * * 1-5)",
    )
    assert flow(get.fn).__doc__ == "The numbers."


@pytest.mark.parametrize("check_types", [True, False])
def test_steps_that_do_not_fit_each_other_are_refused_unless_the_flow_says_otherwise(check_types: bool) -> None:
    @step
    def count(words: dict[str, int]) -> int:
        return len(words)

    @flow(check_types=check_types)
    def mismatched() -> StepNode:
        return inc(1).next(split).next(count)

    if check_types:
        with pytest.raises(TypeError, match="split"):
            mismatched()
    else:
        assert mismatched().step_names == ("inc", "split", "count")


# Fingerprints.

SHAPE = """
from lokki.decorators import flow, step

@step
def load(*, a, b, **others): ...

@step
def work(n, a=1): ...

@flow
def shaped(a=1, b={"x", "y", "z"}):
    return load(c={"one", "two", "three"}, d=2).map([work(a=2), work], 3).agg(work)

print(shaped().fingerprint)
"""


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    def printed(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = [sys.executable, "-c", SHAPE]
        return subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    first = printed("1")
    assert len(first.strip()) == 64
    assert printed("2") == first


BASE = scale(1, factor=2).map(inc, 2).agg(total)


def test_a_fingerprint_is_of_the_shape_and_not_of_the_values() -> None:
    other = scale(9, factor=[9]).map(inc, 2).agg(total)
    assert graph_of(other).fingerprint == graph_of(BASE).fingerprint
    assert weather_flow("a", 1, 2).fingerprint == weather_flow("b", 2, 3).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        scale(1, factor=2).map(inc, 2),
        scale(1, factor=2).map(inc, 3).agg(total),
        scale(1, factor=2).map(inc, 2, batch_size=2).agg(total),
        scale(1, factor=2).map(inc, 2, direct_pass=True).agg(total),
        scale(1, factor=2).map([inc, inc], 2).agg(total),
        scale(1, factor=2).map(inc, 2).agg(total).next(inc),
        scale(1, factor=2).map(inc, 2).agg(inc),
        scale(1, 2).map(inc, 2).agg(total),
        scale(1, offset=2).map(inc, 2).agg(total),
    ],
)
def test_another_shape_has_another_fingerprint(other: StepNode | MapBlock) -> None:
    assert graph_of(other).fingerprint != graph_of(BASE).fingerprint


def test_a_flow_parameter_is_another_shape_than_a_value() -> None:
    @flow
    def my_flow(factor: int = 2) -> StepNode | MapBlock:
        return scale(1).map(inc, 2).agg(total)

    assert my_flow().fingerprint != graph_of(BASE).fingerprint


# As data, and as a drawing.


def test_a_graph_goes_through_json_and_comes_back_as_it_was() -> None:
    @flow(schedule="rate(1 hour)")
    def every_part(day: Any = date(2024, 1, 15), factor: Any = (1, 2)) -> StepNode:
        start = fetch(("a", b"\x00"), timedelta(1), at=datetime(2024, 1, 1, tzinfo=UTC), tags={"x"}, path=Path("a/b"))
        inner = split.map([scale(offset=1), inc], 2, batch_size=5).agg(total)
        return start.map(inner, 3, direct_pass=True).agg(fetch(retry=RetryConfig(1)))

    graph = every_part()
    written = json.dumps(graph.to_dict(), allow_nan=False)
    assert FlowGraph.from_dict(json.loads(written)) == graph
    assert FlowGraph.from_dict(json.loads(written)).fingerprint == graph.fingerprint


def test_a_graph_that_is_no_chain_goes_through_json_too() -> None:
    nodes = (call(get), call(fetch, Ref("get", ("rows", 0)), day=Param("day")), call(inc, GET))
    graph = FlowGraph("by-hand", nodes, Ref("fetch", (1,)), {"day": None}, traced=True)
    assert FlowGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


def test_steps_that_cannot_be_imported_are_given_by_name() -> None:
    @step
    def local(n: Any) -> Any:
        return n

    graph = graph_of(get().next(local))
    assert FlowGraph.from_dict(graph.to_dict(), {"local": local}) == graph
    assert FlowGraph.from_dict(graph.to_dict(), {"local": local.fn}) == graph
    with pytest.raises(
        GraphValidationError, match=r"local cannot be imported \(.*\). Pass the steps by name: FlowGraph"
    ):
        FlowGraph.from_dict(graph.to_dict())


def test_the_module_of_a_step_must_exist() -> None:
    data = graph_of(get()).to_dict()
    data["nodes"][0]["step"]["function"] = "no_such_module:get"
    with pytest.raises(GraphValidationError, match="no_such_module:get cannot be imported"):
        FlowGraph.from_dict(data)


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_graph_of_another_version_is_not_guessed_at(version: Any) -> None:
    data = {**graph_of(get()).to_dict(), "version": version}
    with pytest.raises(GraphValidationError) as caught:
        FlowGraph.from_dict(data)
    assert str(caught.value) == f"This graph has version {version!r}; this lokki reads version 1."


def test_a_value_that_json_cannot_hold_is_named_with_its_step() -> None:
    with pytest.raises(TypeError) as caught:
        graph_of(get().next(scale, factor=object())).to_dict()
    assert str(caught.value).startswith(
        "The graph cannot be written as JSON: in an argument of step 'scale', "
        "a value of type object cannot be written as JSON: <object object at "
    )
    with pytest.raises(TypeError, match="in the parameters of flow 'weather-flow', a value of type type cannot be"):
        weather_flow("a.test", day=int).to_dict()


def test_mermaid_shows_maps_as_boxes_around_their_steps() -> None:
    assert graph_of(get().map(split.map(inc).agg(total)).agg(total)).to_mermaid().splitlines() == [
        "flowchart TD",
        '    n_get["get"]',
        '    subgraph n_get-map["each item of get"]',
        '        n_split["split"]',
        '        subgraph n_split-map["each item of split"]',
        '            n_inc["inc"]',
        "        end",
        "        n_split --> n_split-map",
        '        n_total["total"]',
        "        n_split-map --> n_total",
        "    end",
        "    n_get --> n_get-map",
        '    n_total-2["total-2"]',
        "    n_get-map --> n_total-2",
    ]


def test_mermaid_gives_every_node_an_id_of_its_own() -> None:
    get_map = dataclasses.replace(inc, step=dataclasses.replace(inc.step, name="get_map"))
    lines = graph_of(get().map(get_map).next(get_map)).to_mermaid().splitlines()
    assert '    subgraph n_get-map["each item of get"]' in lines
    assert '        n_get_map["get_map"]' in lines
    named_freely = FlowGraph(
        "x", (call(get, id='a "b"'), each('a "b"', each(ITEM, INC, id="a_b"), id="a-b")), Ref("a-b")
    )
    assert named_freely.to_mermaid().splitlines()[1:4] == [
        '    n_a_20__22_b_22_["a #quot;b#quot;"]',
        '    subgraph n_a-b["each item of a #quot;b#quot;"]',
        '        subgraph n_a_b["each item of the item"]',
    ]


# Graphs made by hand.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlowGraph("bare", (), Ref("x")), "Flow 'bare' has no step."),
        (
            lambda: expected(call(get), call(inc, Ref("got"))),
            "In flow 'my-flow', 'inc' uses the result of 'got', which does not come before it.",
        ),
        (
            lambda: expected(call(inc, n=Ref("get")), call(get)),
            "In flow 'my-flow', 'inc' uses the result of 'get', which does not come before it.",
        ),
        (
            lambda: expected(each("get", INC), call(get)),
            "In flow 'my-flow', 'get-map' uses the result of 'get', which does not come before it.",
        ),
        (
            lambda: expected(call(get), each("get", call(inc, GET))),
            "In flow 'get-map', 'inc' uses the result of 'get', which does not come before it.",
        ),
        (lambda: expected(call(get), call(get)), "Flow 'my-flow' has two nodes with the id 'get'."),
        (lambda: expected(call(inc, Const(1)), each("inc", INC)), "Flow 'my-flow' has two nodes with the id 'inc'."),
        (
            lambda: expected(call(get), each("get", INC), each("get", INC, id="again")),
            "Flow 'my-flow' has two nodes with the id 'inc'.",
        ),
        (lambda: FlowGraph("f", (call(get),), Ref("inc")), "Flow 'f' ends in 'inc', which it does not have."),
    ],
)
def test_a_graph_that_does_not_hold_together_is_refused(make: Callable[[], FlowGraph], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        make()
    assert str(caught.value) == message
    assert isinstance(caught.value, LokkiError)


# Every mistake in writing steps and flows.


def plain(n: Any) -> Any:
    return n


@step
def nothing_taken() -> None: ...


@step
def both_needed(first: Any, second: Any) -> Any: ...


def returning(value: Any) -> Callable[[], FlowGraph]:
    def forecast() -> Any:
        return value

    return flow(forecast)


ANY_GET: Any = get  # for calls that the type checker would refuse
ANY_STEP: Any = step
ANY_WEATHER: Any = weather_flow
ANY_FLOW: Any = flow


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        # Flow functions.
        (
            returning(None),
            ValueError,
            "Flow function 'forecast' returned None. Did you forget to return the chain?",
        ),
        (
            returning([get]),
            TypeError,
            "Flow function 'forecast' must return a step chain such as first().next(second), not list.",
        ),
        (returning(plain), ValueError, "Flow function 'forecast' must return a step chain such as"),
        (lambda: ANY_FLOW(get), TypeError, "@flow goes on a plain function, not on <step "),
        (lambda: ANY_FLOW(weather_flow), TypeError, "@flow goes on a plain function, not on <flow "),
        (lambda: ANY_FLOW("rate(1 hour)"), TypeError, "@flow goes on a plain function, not on 'rate(1 hour)'."),
        (lambda: flow(lambda: get), ValueError, "A flow needs a name, and '<lambda>' is none: define it with def."),
        (lambda: flow(schedule="hourly")(plain), ValueError, "The schedule 'hourly' cannot be used:"),
        (lambda: ANY_FLOW(schedule=5)(plain), TypeError, "schedule= takes text, not int."),
        (lambda: flow(reserved_run_id), ValueError, "Flow 'reserved_run_id' has a parameter 'run_id'"),
        (lambda: flow(reserved_cache), ValueError, "Flow 'reserved_cache' has a parameter 'cache_enabled'"),
        (lambda: flow(starred), ValueError, "Flow 'starred' takes *days"),
        (ANY_WEATHER, ValueError, "Missing required parameter: '--url'"),
        (lambda: weather_flow("a", dya=1), ValueError, "Unexpected parameter: '--dya'; did you mean '--day'?"),
        (lambda: weather_flow("a", 1, 2, 3), TypeError, "Flow 'weather_flow' takes 3 parameter(s), but 4 are given."),
        (lambda: weather_flow("a", url="b"), TypeError, "Flow 'weather_flow' got 'url' twice."),
        (lambda: flow(any_names)(1, 2), TypeError, "Flow 'any_names' takes 1 parameter(s), but 2 are given."),
        # Steps.
        (lambda: step(lambda n: n), ValueError, "A step needs a name, and '<lambda>' is none: define it with def."),
        (lambda: ANY_STEP(get), TypeError, "@step goes on a plain function, not on <step "),
        (lambda: ANY_STEP(weather_flow), TypeError, "@step goes on a plain function, not on <flow "),
        (lambda: ANY_STEP("batch"), TypeError, "@step goes on a plain function, not on 'batch'."),
        (lambda: ANY_STEP(retry=3)(plain), TypeError, "Step 'plain': retry= takes a RetryConfig, a dict such as"),
        (lambda: step(retry={"retry": 3})(plain), ValueError, "Step 'plain': retry= has no key 'retry'; did you mean"),
        (lambda: step(retry={"retries": -1})(plain), ValueError, "RetryConfig.retries must be 0 or more, not -1."),
        (lambda: step(job_type="gpu"), ValueError, "job_type must be 'lambda' or 'batch', not 'gpu'."),
        (lambda: step(job_type="batch", vcpu=0), ValueError, "vcpu must be more than 0, not 0."),
        # Chains.
        (
            lambda: ANY_GET().agg(total),
            TypeError,
            ".agg() must be called on the result of .map(), not directly on a step: write get.map(...).agg(...), or",
        ),
        (lambda: get.map(inc).agg(total).agg(total), TypeError, ".agg() must be called on the result of .map(), not"),
        (lambda: get.map([]), ValueError, "The step list cannot be empty: write .map(step) or .map([first, second])."),
        (lambda: get.map(inc).map(()), ValueError, "The step list cannot be empty"),
        (lambda: ANY_GET.map(plain), TypeError, ".map() takes a step, not function. Is plain missing its @step?"),
        (
            lambda: ANY_GET.map([inc, plain]),
            TypeError,
            ".map() takes a step, not function. Is plain missing its @step?",
        ),
        (lambda: ANY_GET.next(plain), TypeError, ".next() takes a step, not function. Is plain missing its @step?"),
        (lambda: ANY_GET.map(inc).agg(plain), TypeError, ".agg() takes a step, not function. Is plain missing its"),
        (lambda: ANY_GET.next("inc"), TypeError, ".next() takes a step, not str."),
        (lambda: ANY_GET.map(None), TypeError, ".map() takes a step, not NoneType."),
        (
            lambda: get.next(inc.next(scale)),
            TypeError,
            ".next() takes one step, not a chain: put the chain's own steps",
        ),
        (lambda: ANY_GET.next(split.map(inc)), TypeError, ".next() takes one step, not a chain:"),
        (lambda: get.map(inc).agg(split.map(inc).agg(total)), TypeError, ".agg() takes one step, not a chain:"),
        (
            lambda: get.map(split.map(inc).agg(total), factor=1),
            TypeError,
            ".map() cannot tell which step of a chain gets 'factor': give it where that step is used in the chain.",
        ),
        (
            lambda: get.map([inc, total, split.map(fetch)], factor=1),
            TypeError,
            "None of the steps inc, total takes an argument 'factor'",
        ),
        (lambda: get.map(inc, 0), ValueError, "concurrency_limit must be 1 or more, not 0."),
        (lambda: get.map(inc).map(inc, -1), ValueError, "concurrency_limit must be 1 or more, not -1."),
        (lambda: ANY_GET.map(inc, "4"), TypeError, "concurrency_limit takes a whole number, not '4'."),
        (lambda: get.map(inc, True), TypeError, "concurrency_limit takes a whole number, not True."),
        (lambda: get.map(inc, batch_size=0), ValueError, "batch_size must be 1 or more, not 0."),
        (lambda: ANY_GET.map(inc, batch_size=2.0), TypeError, "batch_size takes a whole number, not 2.0."),
        (lambda: ANY_GET.map(inc, batch_size=None), TypeError, "batch_size takes a whole number, not None."),
        # Arguments; they are looked at when the flow is called and its parameters are known.
        (
            lambda: graph_of(get().next(both_needed)),
            ValueError,
            "Step 'both_needed' needs 'second', and nothing fills it. Give it where the step is used (for example",
        ),
        (lambda: graph_of(inc()), ValueError, "Step 'inc' needs 'n', and nothing fills it."),
        (
            lambda: graph_of(get().next(nothing_taken)),
            TypeError,
            "Step 'nothing_taken' takes no positional argument, but",
        ),
        (lambda: graph_of(scale(1, 2, 3)), TypeError, "Step 'scale' takes 2 positional argument(s), but 3 are given."),
        (
            lambda: graph_of(get().next(inc, n=1)),
            TypeError,
            "Step 'inc' gets 'n' twice: its place already receives the",
        ),
        (lambda: graph_of(scale(1, 2, factor=3)), TypeError, "Step 'scale' gets 'factor' twice: its place already"),
        (
            lambda: graph_of(get().map(scale, facto=3)),
            TypeError,
            "Step 'scale' takes no argument 'facto'; did you mean 'factor'?",
        ),
        (lambda: graph_of(get().map(scale, colour="red")), TypeError, "Step 'scale' takes no argument 'colour'."),
    ],
)
def test_a_mistake_is_answered_where_it_is_made(
    mistake: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        mistake()
    assert isinstance(caught.value, LokkiError)
    assert str(caught.value).startswith(message)
    assert ".." not in str(caught.value).replace("...", "")
    assert "?." not in str(caught.value)


def reserved_run_id(run_id: str) -> StepNode:
    return get()


def reserved_cache(cache_enabled: bool = True) -> StepNode:
    return get()


def starred(*days: str) -> StepNode:
    return get()


def any_names(day: str, **others: Any) -> StepNode:
    return get()


def test_an_error_in_a_flow_function_is_the_authors_own() -> None:
    @flow
    def broken() -> StepNode:
        raise KeyError("config")

    with pytest.raises(KeyError, match="config"):
        broken()


def test_flow_and_step_take_their_options_with_and_without_brackets() -> None:
    assert isinstance(flow()(returning), Flow)
    assert step()(plain).step == step(plain).step
