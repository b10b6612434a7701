"""What a package knows of its flow: its shape, no value, and where its parts are imported from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from built_flows import FLOWS, config

from lokki.builder.program import program_of
from lokki.builder.resources import describe
from lokki.decorators import Flow
from lokki.errors import BuildError
from lokki.frozen import replace
from lokki.graph import Call, Const, FlowGraph, Map, Ref
from lokki.runtime.program import FILE, Program
from tests.builder.modules import imported

FLOWS_MODULE = "built_flows"


def program(flow: Flow, module: str = "", **params: Any) -> dict[str, Any]:
    """The program of a flow whose functions know its file under this name."""
    deployment = describe(flow(**params), config())
    read: dict[str, Any] = json.loads(program_of(deployment, flow, module or flow.fn.__module__))
    return read


def emptied(graph: FlowGraph) -> FlowGraph:
    """The graph with nothing for every value in it."""

    def empty(node: Call | Map) -> Call | Map:
        if isinstance(node, Map):
            return replace(node, body=emptied(node.body))
        given = [each if isinstance(each, Ref) else Const(None) for each in node.inputs]
        kwargs = {name: Const(None) if isinstance(each, Const) else each for name, each in node.kwargs.items()}
        return replace(node, inputs=tuple(given), kwargs=kwargs)

    return replace(graph, nodes=tuple(map(empty, graph.nodes)), params={})


@pytest.mark.parametrize("name", FLOWS)
def test_a_package_reads_the_shape_that_was_built(name: str, tmp_path: Path) -> None:
    flow = FLOWS[name]
    graph = flow()
    (tmp_path / FILE).write_bytes(program_of(describe(graph, config()), flow, FLOWS_MODULE))
    read = Program.load(str(tmp_path))
    assert read.graph == emptied(graph)
    assert read.graph.fingerprint == read.fingerprint == graph.fingerprint
    assert read.flow == f"{FLOWS_MODULE}:{name.replace('-', '_')}_flow"
    plan = read.evaluate("e", {})
    assert read.filled(plan.arguments) == replace(graph, params={}, remake=None)


def test_no_value_is_in_it() -> None:
    told = program(FLOWS["params"], n=123_454_321)
    assert "123454321" not in json.dumps(told)
    assert told["graph"]["params"] == {}
    assert told == program(FLOWS["params"])


def test_each_function_is_told_its_step() -> None:
    assert program(FLOWS["batch-inside"])["steps"] == {
        each: f"{FLOWS_MODULE}:{each}" for each in ("double", "numbers", "total", "train")
    }
    assert set(program(FLOWS["direct"])["steps"]) == {"numbers", "total"}
    assert set(program(FLOWS["batch-first"])["steps"]) == {"loaded", "double", "total"}


@pytest.mark.parametrize(
    ("name", "planned"),
    [("map", False), ("linear", True), ("params", True), ("single", False), ("batch-first", True), ("nested", False)],
)
def test_it_says_whether_later_states_need_the_arguments(name: str, planned: bool) -> None:
    assert program(FLOWS[name])["planned"] is planned


def test_parts_of_the_flows_file_are_named_as_functions_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    class Hiccup(Exception):
        class Long(Exception): ...

    class Nest:
        @step(retry=RetryConfig(retries=1, exceptions=(Hiccup, Hiccup.Long, TimeoutError)))
        def lay(x: int = 1) -> int: return x

    @flow
    def nest_flow() -> Any: return Nest.lay()
    """
    module = imported(monkeypatch, tmp_path, "started_as", text)
    told = program(module.nest_flow, "nests.blue")
    assert (told["flow"], told["steps"]) == ("nests.blue:nest_flow", {"lay": "nests.blue:Nest.lay"})
    (call,) = told["graph"]["nodes"]
    assert call["step"]["function"] == "nests.blue:Nest.lay"
    assert call["step"]["retry"]["exceptions"] == [
        "nests.blue:Hiccup",
        "nests.blue:Hiccup.Long",
        "builtins:TimeoutError",
    ]
    assert "started_as" not in json.dumps(told)


def test_a_step_under_another_name_than_its_functions_is_found_by_its_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    def fly(x: int = 1) -> int: return x
    flying = step(fly)

    @flow
    def fly_flow() -> Any: return flying()
    """
    module = imported(monkeypatch, tmp_path, "wings", text)
    assert program(module.fly_flow)["steps"] == {"fly": "wings:fly"}


UNREACHABLE = {
    "rebound": (
        """
        @step
        def fly(x: int = 1) -> int: return x
        flying, fly = fly, None

        @flow
        def bird_flow() -> Any: return flying()
        """,
        "Step 'fly' is not what birdhouse.fly names",
    ),
    "defined twice": (
        """
        @step
        def fly() -> int: return 1
        first = fly
        @step
        def fly(x: int) -> int: return x

        @flow
        def bird_flow() -> Any: return first().next(fly)
        """,
        "Step 'fly' is not what birdhouse.fly names",
    ),
    "an object that can be called": (
        """
        class Flier:
            def __call__(self, x: int = 1) -> int: return x
        flier = step(Flier())

        @flow
        def bird_flow() -> Any: return flier()
        """,
        "Step 'Flier' is not what birdhouse.Flier names",
    ),
    "a partial": (
        """
        from functools import partial
        flier = step(partial(pow, 2))

        @flow
        def bird_flow() -> Any: return flier(3)
        """,
        "Step 'partial' is not what functools.partial names",
    ),
    "a method of an object": (
        """
        class Bird:
            def fly(self) -> int: return 1
        flier = step(Bird().fly)

        @flow
        def bird_flow() -> Any: return flier()
        """,
        "Step 'fly' is not what birdhouse.Bird.fly names",
    ),
    "an exception that nothing names": (
        """
        Lost = type("Lost", (Exception,), {})
        Found = type("Found", (Exception,), {})
        @step(retry=RetryConfig(retries=1, exceptions=(Lost,)))
        def fly() -> int: return 1
        Lost = Found

        @flow
        def bird_flow() -> Any: return fly()
        """,
        "Step 'fly' retries on Lost, which is not what birdhouse.Lost names",
    ),
    "a flow inside a function": (
        """
        @step
        def fly() -> int: return 1

        def make() -> Any:
            @flow
            def bird_flow() -> Any: return fly()
            return bird_flow

        class Nest: bird_flow = make()
        """,
        "Flow 'bird-flow' is not at the top of its module 'birdhouse'",
    ),
    "an argument that no plan can hold": (
        """
        @step
        def fly() -> int: return 1

        @step
        def judge(height: int, by: Any) -> Any: return by(height)

        @flow
        def bird_flow() -> Any: return fly().next(judge, by=lambda height: height > 1)
        """,
        "In argument 'by' of step 'judge', a value of type function cannot be stored",
    ),
}


@pytest.mark.parametrize("name", UNREACHABLE)
def test_what_no_function_could_import_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, why = UNREACHABLE[name]
    module = imported(monkeypatch, tmp_path, "birdhouse", text)
    flow = module.Nest.bird_flow if "Nest" in vars(module) else module.bird_flow
    with pytest.raises(BuildError) as caught:
        program(flow)
    assert str(caught.value).startswith(why)


def test_a_flow_under_another_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    @step
    def fly() -> int: return 1

    def make() -> Any:
        @flow
        def bird_flow() -> Any: return fly()
        return bird_flow

    made = make()
    """
    module = imported(monkeypatch, tmp_path, "birdhouse", text)
    assert program(module.made)["flow"] == "birdhouse:made"
