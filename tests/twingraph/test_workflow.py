"""`Workflow`: put together by name, validated, run, written as JSON, and one thing with flows of lokki."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from examples import birds, nested

from lokki import LocalRunner, LokkiConfig, flow, step
from lokki.config import LoggingConfig
from lokki.graph import Call
from tests.twingraph.conftest import Heard
from tests.twingraph.test_component import CustomProcessor
from twingraph import ComponentError, TransientError, UpstreamFailedError, Workflow, component, register_component
from twingraph.events import ExecutionStarted, NodeFailed, NodeStarted


@component
def load_data(source: str, n: int = 3) -> dict[str, Any]:
    return {"rows": list(range(n)), "source": source}


@component
def process_data(rows: list[int], threshold: int = 0) -> dict[str, Any]:
    return {"kept": [each for each in rows if each > threshold]}


@component
def report(kept: list[int], source: str) -> str:
    return f"{len(kept)} of {source}"


@component
def broken() -> None:
    raise ValueError("boo")


def my_pipeline() -> Workflow:
    wf = Workflow(name="My Pipeline")
    wf.add_component("load", load_data)
    wf.add_component("process", process_data)
    wf.connect("load", "process")
    return wf


def test_the_workflow_of_the_documentation_runs(heard: Heard) -> None:
    execution = my_pipeline().run({"source": "s3://bucket/data.csv"}, listen=heard)
    assert execution.result() == {"kept": [1, 2]}
    assert execution.node_outputs["load"]["source"] == "s3://bucket/data.csv"
    started = heard.of(NodeStarted)
    assert [each.node for each in started] == ["load", "process"]
    assert started[1].parents == (started[0].hash,)
    assert heard.of(ExecutionStarted)[0].kind == "workflow"


def test_inputs_reach_every_node_and_one_node_by_its_name() -> None:
    wf = my_pipeline()
    assert wf.run(source="x", threshold=1).outputs == {"kept": [2]}
    assert wf.run({"source": "x", "load.n": 5, "process.threshold": 3}).outputs == {"kept": [4]}
    with pytest.warns(UserWarning, match=r"no node takes an input 'treshold'; did you mean 'threshold'\?"):
        assert wf.run({"source": "x", "treshold": 9}).outputs == {"kept": [1, 2]}


def test_what_fills_a_parameter_comes_in_this_order() -> None:
    wf = Workflow("order").add_component("a", component(name="a")(lambda: {"x": "edge", "y": "unused"}))
    wf.add_component("b", component(name="b")(lambda x, y, z="default": (x, y, z)), {"x": "config", "y": "config"})
    wf.connect("a", "b", output="x")
    assert wf.run().outputs == {"result": ("edge", "config", "default")}
    assert wf.run(x="input", y="input").outputs == {"result": ("edge", "input", "default")}
    assert wf.run({"y": "input", "b.y": "own"}).outputs == {"result": ("edge", "own", "default")}


def test_handles_join_an_output_and_a_parameter() -> None:
    wf = my_pipeline().add_component("report", report)
    wf.connect("process", "report", output="kept", input="kept").connect("load", "report", output="source")
    assert wf.run(source="here").outputs == {"result": "2 of here"}
    lone = Workflow("lone").add_component("a", component(name="a")(lambda: [3, 4]))
    lone.add_component("b", component(name="b")(lambda rows, limit=1: len(rows) + limit)).connect("a", "b")
    assert lone.run().outputs == {"result": 3}
    whole = Workflow("whole").add_component("a", component(name="a")(lambda: {"p": 1, "q": 2}))
    whole.add_component("b", component(name="b")(lambda both: [*both])).connect("a", "b", input="both")
    assert whole.run().outputs == {"result": ["p", "q"]}


def test_outputs_of_several_ends_are_merged() -> None:
    wf = Workflow("ends")
    for name in ("left", "right"):
        wf.add_component(name, component(name=name)(lambda name=name: {"same": name, f"of_{name}": 1}))
    assert wf.run().outputs == {
        "of_left": 1,
        "of_right": 1,
        "left": {"same": "left"},
        "right": {"same": "right"},
    }


def test_a_failure_keeps_what_needs_it_from_running(heard: Heard) -> None:
    wf = Workflow("failing", error_handler="continue").add_component("a", broken).add_component("b", report)
    wf.add_component("c", component(name="c")(lambda: 1))
    wf.connect("a", "b")
    execution = wf.run(listen=heard)
    assert (execution.status, execution.outputs, execution.failed_nodes) == ("completed", {"result": 1}, 1)
    assert [(each.node, each.status) for each in heard.of(NodeFailed)] == [("a", "failed"), ("b", "skipped")]
    strict = Workflow("strict").add_component("a", broken).add_component("b", report).connect("a", "b").run()
    with pytest.raises(ValueError, match="boo"):
        strict.result()
    assert not isinstance(strict.error, UpstreamFailedError)


def test_a_definition_survives_json() -> None:
    register_component("load_data", load_data)
    register_component("custom_processor", CustomProcessor)
    wf = Workflow("kept", description="what for", tags=["etl"], max_parallel=3, timeout=60)
    wf.add_component("load", "load_data", {"n": 4})
    wf.add_component("keep", "custom_processor", {"threshold": 2}).connect("load", "keep", output="rows", input="data")
    data = json.loads(json.dumps(wf.to_dict()))
    again = Workflow.from_dict(data)
    assert (
        again.to_dict()
        == data
        == {
            "name": "kept",
            "definition": {
                "nodes": [
                    {"id": "load", "type": "component", "component": "load_data", "config": {"n": 4}},
                    {"id": "keep", "type": "component", "component": "custom_processor", "config": {"threshold": 2}},
                ],
                "edges": [{"source": "load", "target": "keep", "sourceHandle": "rows", "targetHandle": "data"}],
            },
            "metadata": {"description": "what for", "tags": ["etl"], "max_parallel": 3, "timeout": 60},
        }
    )
    assert again.run(source="x").outputs == {"filtered": [3], "count": 1, "threshold": 2}


def test_what_a_failure_means_survives_json() -> None:
    wf = Workflow("lenient", error_handler="retry", error_config={"max_attempts": 2, "initial_delay": 0})
    metadata = json.loads(json.dumps(wf.to_dict()))["metadata"]
    assert (metadata["error_handler"], metadata["error_config"]["max_attempts"]) == ("retry", 2)
    going_on = Workflow("on", error_handler="continue").add_component("a", "broken").to_dict()
    assert Workflow.from_dict(going_on, {"broken": broken}).run().status == "completed"
    told = Workflow("told", error_handler="custom", error_config={"handler": print})
    with pytest.raises(TypeError, match="Workflow 'told' cannot be written as JSON"):
        told.to_dict()


def test_what_a_definition_says_besides_is_kept() -> None:
    node = {"id": "a", "type": "component", "component": "x", "config": {}, "position": {"x": 1, "y": 2}}
    wf = Workflow.from_dict({"name": "drawn", "definition": {"nodes": [node], "edges": []}})
    assert wf.to_dict()["definition"]["nodes"] == [node]


def test_a_node_may_bring_its_code() -> None:
    code = "def helper(x):\n    return x + 1\n\ndef grow(x):\n    return {'x': helper(x)}\n"
    nodes = [{"id": "a", "component": "grow", "code": code, "language": "python", "config": {"x": 1}}]
    assert Workflow.from_dict({"name": "coded", "nodes": nodes}).run().outputs == {"x": 2}
    with pytest.raises(ComponentError, match="its code cannot be run: SyntaxError"):
        Workflow.from_dict({"name": "bad", "nodes": [{"id": "a", "code": "def"}]})


def test_a_draft_can_be_kept_and_says_what_is_wrong_with_it() -> None:
    wf = Workflow.from_dict(
        {
            "name": "Data Processing Pipeline",
            "definition": {
                "nodes": [{"id": "node-1", "type": "component", "component": "load_dat", "config": {}}],
                "edges": [{"source": "node-1", "target": "node-2", "sourceHandle": "output", "targetHandle": "input"}],
            },
            "metadata": {"description": "Processes daily data feeds", "tags": ["production", "etl"]},
        }
    )
    assert wf.tags == ("production", "etl")
    problems = wf.validate()
    assert problems[0] == "A connection names node 'node-2', which it does not have; did you mean 'node-1'?"
    assert problems[1].startswith("Node 'node-1': There is no component 'load_dat'")
    with pytest.warns(UserWarning, match="'Data Processing Pipeline': A connection names node 'node-2', which it"):
        execution = wf.run()
    assert execution.status == "failed"
    assert "There is no component 'load_dat'" in str(execution.error)


def test_a_wrong_graph_is_refused() -> None:
    wf = my_pipeline()
    with pytest.raises(ComponentError, match="load, process wait for each other in a circle"):
        wf.connect("process", "load")
    with pytest.raises(ComponentError, match="cannot be connected to itself"):
        wf.connect("load", "load")
    with pytest.raises(ComponentError, match="has a node 'load' already"):
        wf.add_component("load", load_data)
    with pytest.raises(ComponentError, match="has no node"):
        Workflow("empty").run()
    with pytest.raises(ComponentError, match="Workflow 'wide': max_parallel is 1 or more, not 0"):
        Workflow("wide", max_parallel=0)
    with pytest.raises(ComponentError, match="Workflow 'long': timeout takes seconds, not '5'"):
        Workflow("long", timeout="5")  # type: ignore[arg-type]
    with pytest.raises(ComponentError, match="tags takes a list of texts, not 'etl'"):
        Workflow("tagged", tags="etl")  # type: ignore[arg-type]
    with pytest.raises(ComponentError, match="map 'all': concurrency_limit is 1 or more, not 0"):
        Workflow("wide").add_map("all", load_data, concurrency_limit=0)
    assert Workflow("set").add_component("load", load_data, {"limt": 3, "n": 2}).validate() == [
        "Node 'load': 'load_data' has no parameter 'limt'."
    ]
    with pytest.raises(ComponentError, match="'edges' of a workflow's definition is a list"):
        Workflow.from_dict({"name": "x", "edges": {"a": "b"}})
    with pytest.raises(ComponentError, match="edge needs 'target'"):
        Workflow.from_dict({"name": "x", "edges": [{"source": "a"}]})
    assert wf.connect("load", "process", input="rowz").validate() == [
        "Node 'process': 'process_data' has no parameter 'rowz'; did you mean 'rows'?"
    ]


def test_a_flow_is_a_workflow(heard: Heard) -> None:
    workflow = Workflow.from_flow(birds.birds_flow)
    assert workflow.run(listen=heard).outputs == {"result": "flappy goose, flappy duck, flappy seagull"}
    within = [each.node for each in heard.of(NodeStarted) if each.within == "get_birds-map"]
    assert sorted(within) == ["flap_bird", "flap_bird#2", "flap_bird#3"]
    assert workflow.to_flow() is birds.birds_flow


def test_maps_within_maps_give_what_they_give_in_a_flow() -> None:
    quiet = LokkiConfig(logging=LoggingConfig(level="ERROR"))
    expected = LocalRunner(config=quiet).run(nested.harvest())
    for limit in (1, 10):
        workflow = Workflow.from_flow(nested.harvest)
        workflow.max_parallel = limit
        assert workflow.run().outputs == {"result": expected}


@step(retry={"retries": 1, "delay": 0, "exceptions": [KeyError]})
def start(n: int, **kwargs: Any) -> list[int]:
    return list(range(n + kwargs.get("more", 0)))


@step
def double(x: int, by: int = 2) -> int:
    return x * by


@flow
def numbers(n: int, more: int = 1) -> Any:
    return start(n).map(double, by=3).agg(step(sum))


def test_parameters_of_a_flow_are_inputs_of_the_workflow() -> None:
    workflow = Workflow.from_flow(numbers, n=1)
    assert workflow.run().outputs == {"result": 3}
    assert workflow.run(n=3).outputs == {"result": 18}
    assert workflow.run({"n": 3, "more": 0}).outputs == {"result": 9}


def test_what_is_added_to_a_flow_stays() -> None:
    workflow = Workflow.from_flow(numbers, n=1).add_component("say", report, {"source": "numbers"})
    workflow.max_parallel = 1
    with pytest.raises(ComponentError, match="is not a chain"):
        workflow.to_flow()
    workflow.connect("sum", "say", input="kept")
    execution = workflow.run(n=3)
    assert isinstance(execution.error, TypeError)
    assert execution.node_outputs["sum"] == {"result": 18}


@component
def get_birds() -> list[str]:
    return ["goose", "duck"]


@component
def flap(bird: str) -> str:
    return f"flappy {bird}"


@component(retry_policy={"max_attempts": 2})
def join(birds: list[str], by: str = ", ") -> str:
    return by.join(birds)


def bird_workflow() -> Workflow:
    wf = Workflow("birds").add_component("get", get_birds).add_map("flap", [flap, flap], concurrency_limit=1)
    wf.add_component("join", join, {"by": "; "})
    return wf.connect("get", "flap", input="items").connect("flap", "join", input="birds")


def test_a_chain_with_maps_is_a_flow() -> None:
    wf = bird_workflow()
    made = wf.to_flow()
    expected = "flappy flappy goose; flappy flappy duck"
    assert wf.run().outputs == {"result": expected}
    assert LocalRunner(config=LokkiConfig(logging=LoggingConfig(level="ERROR"))).run(made()) == expected
    components = {"get_birds": get_birds, "flap": flap, "join": join}
    assert Workflow.from_dict(json.loads(json.dumps(wf.to_dict())), components).run().outputs == {"result": expected}


def test_what_is_not_a_chain_is_no_flow() -> None:
    with pytest.raises(ComponentError, match=r"write connect\('load', 'process', input='rows'\)"):
        my_pipeline().to_flow()
    wide = Workflow("wide").add_component("a", get_birds).add_component("b", get_birds)
    with pytest.raises(ComponentError, match="is not a chain"):
        wide.to_flow()


def test_retries_come_along_into_a_flow() -> None:
    def step_of(**policy: Any) -> Any:
        runs = component(retry_policy={"max_attempts": 3, **policy})(get_birds.fn)
        (node,) = Workflow("one").add_component("get", runs).to_flow()().nodes
        assert isinstance(node, Call)
        return node.step.retry

    names = ["ConnectionError", "UpstreamFailedError", json.JSONDecodeError, "twingraph.errors.TransientError"]
    made = step_of(exceptions=names, backoff="fixed", initial_delay=2)
    assert (made.retries, made.delay, made.backoff) == (2, 2, 1.0)
    assert made.exceptions == (ConnectionError, UpstreamFailedError, json.JSONDecodeError, TransientError)
    assert (step_of().exceptions, step_of().backoff) == ((Exception,), 2.0)
    with pytest.raises(ComponentError, match="'FarAwayError' is none that can be found"):
        step_of(exceptions=["FarAwayError"])
    with pytest.raises(ComponentError, match="not 'linear'"):
        step_of(backoff="linear")


def test_the_calls_of_a_map_have_other_ids_than_the_nodes(heard: Heard) -> None:
    wf = Workflow("ids").add_component("items", component(name="items")(lambda: [1, 2]))
    wf.add_map("double", component(name="double")(lambda x: 2 * x)).connect("items", "double", input="items")
    wf.add_component("double#3", component(name="last")(lambda: 0))
    assert wf.run(listen=heard).outputs["double"] == {"result": [2, 4]}
    nodes = [each.node for each in heard.of(NodeStarted)]
    assert sorted(nodes) == ["double", "double#2", "double#3", "double#4", "items"]


def test_ten_thousand_nodes_in_a_chain_are_put_in_order() -> None:
    ids = [f"n{number}" for number in range(10_000)]
    edges = [{"source": before, "target": after} for before, after in pairwise(ids)]
    definition = {"nodes": [{"id": each, "component": "x"} for each in reversed(ids)], "edges": edges}
    made = Workflow.from_dict({"name": "long", "definition": definition})
    assert len(made.wires) == 9_999
    with pytest.raises(ComponentError, match="n0 wait for each other in a circle"):
        made.connect(ids[-1], ids[0])
