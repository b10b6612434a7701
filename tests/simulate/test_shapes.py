"""Flows of every shape, built and executed: what was built computes what a local run computes, in the same order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lokki import LocalRunner
from lokki.builder import samples
from lokki.config import LokkiConfig
from lokki.decorators import Flow
from lokki.events import silent
from lokki.graph import Map
from lokki.runtime.event import Slice
from lokki.runtime.keeping import Output
from lokki.runtime.parts import Earlier, Parts
from lokki.simulate.engine import Engine
from lokki.simulate.simulation import Outcome, Simulation, same
from lokki.store.s3 import S3Store
from tests.builder.flows import BUCKET, config
from tests.simulate import flows

LARGEST_STATE = 32 * 1024
PLAIN = config()


class Stage:
    """An engine, and what is deployed to it: a flow that several tests execute is deployed once."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        self._deployed: dict[str, tuple[Any, Simulation]] = {}

    def simulation(
        self, flow: Flow, settings: LokkiConfig = PLAIN, *, items_limit: int = 0, **built: Any
    ) -> Simulation:
        """The flow, deployed with these values as the defaults of its parameters."""
        key = (settings, items_limit, repr(built))
        known = self._deployed.get(flow.name)
        if known is None or known[0] != key:
            graph = samples.sampled(flow, built)
            folder = self._folder / str(len(list(self._folder.iterdir())))
            folder.mkdir()
            made = Simulation(graph, settings, self.engine, str(folder), defaults=built, items_limit=items_limit)
            self._deployed[flow.name] = known = (key, made)
        return known[1]

    def execute(self, flow: Flow, given: Mapping[str, Any] | None = None, **deployment: Any) -> Outcome:
        """Execute the flow with this input."""
        outcome = self.simulation(flow, **deployment).execute(given, timeout=60)
        assert outcome.execution.counts.payload < LARGEST_STATE
        return outcome

    def value(self, flow: Flow, given: Mapping[str, Any] | None = None, **deployment: Any) -> Any:
        """The result of an execution that has to succeed."""
        outcome = self.execute(flow, given, **deployment)
        execution = outcome.execution
        assert outcome.succeeded, (execution.error, execution.cause, outcome.errors, execution.logs[-5:])
        return outcome.value

    def keys(self, under: str) -> list[str]:
        """What lies in the bucket."""
        pages = self.engine.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=under)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack.enter_context(Engine()), tmp_path_factory.mktemp("packages"))


Marks = Callable[[], dict[str, int]]


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    """What ran since the last call of this, and how often."""
    (tmp_path / "marks").mkdir()

    def read() -> dict[str, int]:
        found = {each.name: len(each.read_bytes()) for each in (tmp_path / "marks").iterdir() if each.name != "open"}
        for name in found:
            (tmp_path / "marks" / name).unlink()
        return found

    return read


@pytest.fixture
def folder(marks: Marks, tmp_path: Path) -> str:
    """Where steps leave their marks."""
    return str(tmp_path / "marks")


def local(flow: Flow, items_limit: int = 0, **params: Any) -> Any:
    """What a local run computes."""
    return LocalRunner(store_type="local", listen=silent, items_limit=items_limit).run(flow(**params))


def definition(simulation: Simulation) -> dict[str, Any]:
    machine: dict[str, Any] = json.loads(simulation.bundle.files["statemachine.json"])
    return machine


# --- shapes

SHAPES: list[tuple[Flow, dict[str, Any]]] = [
    (flows.chain_flow, {}),
    (flows.map_flow, {}),
    (flows.two_maps_flow, {}),
    *((flows.nested_flow, {"outer": outer, "inner": inner}) for outer, inner in ((1, 1), (3, 1), (1, 2), (3, 2))),
    (flows.deep_flow, {}),
    (flows.deep_flow, {"a": 2, "b": 2, "c": 2}),
    (flows.twice_nested_flow, {"outer": 3}),
    (flows.open_flow, {}),
    (flows.open_flow, {"size": 3}),
    (flows.open_nested_flow, {}),
    (flows.open_nested_flow, {"outer": 3, "inner": 2}),
    (flows.inner_open_flow, {"outer": 2}),
    *((flows.body_flow, {"direct": direct, "size": size}) for direct in (False, True) for size in (1, 2)),
    (flows.direct_nested_flow, {}),
    (flows.direct_nested_flow, {"size": 3}),
    (flows.arguments_flow, {}),
    (flows.none_flow, {}),
    (flows.job_first_flow, {}),
    (flows.jobs_flow, {}),
    (flows.jobs_flow, {"size": 2}),
    (flows.job_nested_flow, {}),
    (flows.job_direct_flow, {}),
]


@pytest.mark.parametrize(
    ("flow", "built"), SHAPES, ids=[f"{flow.name}-{'-'.join(map(str, built.values()))}" for flow, built in SHAPES]
)
def test_a_flow_computes_what_its_local_run_computes(stage: Stage, flow: Flow, built: dict[str, Any]) -> None:
    assert same(stage.value(flow, **built), local(flow, **built))


@pytest.mark.parametrize("size", [1, 7])
def test_400_items_keep_their_order(stage: Stage, size: int) -> None:
    outcome = stage.execute(flows.many_flow, size=size)
    assert outcome.value == [2 * each for each in range(400)]
    assert outcome.execution.counts.children == -(-400 // size)


@pytest.mark.parametrize("size", [1, 10])
def test_a_fan_out_takes_few_requests_and_transitions(stage: Stage, size: int) -> None:
    children = 200 // size
    counts = stage.execute(flows.many_flow, {"n": 200}, size=size).execution.counts
    assert counts.states == {"Numbers": 1, "NumbersMap": 1, "Double": children, "Collected": 1}
    assert counts.transitions == children + 3
    assert counts.invocations == {"many-flow-numbers": 1, "many-flow-double": children, "many-flow-collected": 1}
    assert sum(counts.requests["interpreter"].values()) == 2
    functions = sum(counts.requests["functions"].values())
    assert functions + 2 <= 2 * children + 8 + children, "a child takes two, and one more to be gathered"
    assert counts.requests["functions"]["PUT"] == children + 4, "items, their manifest, and two results outside the map"
    assert counts.requests["functions"]["GET range"] <= children + 8, "each process reads the items once"


@pytest.mark.parametrize(("timeout", "kind"), [(60, "EXPRESS"), (900, "STANDARD")])
def test_children_are_express_where_they_are_short(stage: Stage, timeout: int, kind: str) -> None:
    outcome = stage.execute(flows.two_maps_flow, settings=config(functions={"timeout": timeout}))
    kinds = re.findall(r'"ExecutionType": "(\w+)"', outcome.bundle.files["statemachine.json"].decode())
    assert kinds == [kind, kind]
    assert outcome.value == local(flows.two_maps_flow)
    assert any("EXPRESS" in each for each in outcome.substitutions) == (kind == "EXPRESS")


def test_only_the_innermost_of_nested_maps_is_express(stage: Stage) -> None:
    maps = re.findall(r'"ExecutionType": "(\w+)"', json.dumps(definition(stage.simulation(flows.deep_flow, n=3))))
    assert maps == ["STANDARD", "STANDARD", "EXPRESS"]


# --- values

KINDS = ["empty", "nones", "addresses", "texts", "types", "tuple", "range", "set", "generator"]


@pytest.mark.parametrize("size", [1, 4])
def test_values_arrive_as_they_are(stage: Stage, size: int) -> None:
    for kind in KINDS:
        params = {"kind": kind}
        assert same(stage.value(flows.values_flow, params, size=size), local(flows.values_flow, size=size, **params))


def test_text_that_is_the_address_of_a_result_stays_text(stage: Stage) -> None:
    run_id = "addressed"
    addresses = [f"s3://{BUCKET}/values-flow/runs/{run_id}/made/{name}" for name in ("output.pkl.gz", "items.pack")]
    value = stage.value(flows.values_flow, {"given": addresses, "run_id": run_id}, size=1)
    assert value == local(flows.values_flow, given=addresses)
    assert {address.removeprefix(f"s3://{BUCKET}/") for address in addresses} <= set(stage.keys("values-flow/"))


def test_an_image_package_has_what_is_installed(stage: Stage) -> None:
    value, kind, _ = stage.value(flows.values_flow, {"kind": "array"}, settings=config("image"))
    ((array, array_kind, shown), (number, _, _)) = value
    assert (kind, array_kind, number) == ("list", "ndarray", 1.5)
    assert (array.dtype, array.tolist()) == ("int16", [[0, 1, 2], [3, 4, 5]])
    assert "int16" in shown


def test_a_hundred_thousand_items_are_one_pack_and_one_manifest(stage: Stage) -> None:
    simulation = stage.simulation(flows.many_flow, size=7)
    (reader,) = (state["ItemReader"] for state in definition(simulation)["States"].values() if "ItemReader" in state)
    _, path, run = re.split(r"'(.*)', ", reader["Parameters"]["Key.$"].removesuffix(")"))
    assert run == "$.run_id"
    items = range(100_000)
    store = S3Store(stage.engine.endpoint, bucket=BUCKET, client=stage.engine.client("s3"))
    (node,) = (each for each in simulation.bundle.deployment.graph.nodes if isinstance(each, Map))
    parts = Parts(store, "many-flow", "large", cache=False)
    store.write_items("many-flow", "large", "numbers", items, batch_size=1)
    key = path.replace("${FlowName}", "many-flow").format("large")
    entries = [Slice.from_dict(each) for each in json.loads(store.blob(key))]
    assert [each.first for each in entries] == list(items)
    for at in (0, 1, 54_321, 99_999):
        assert [each.value for each in parts.items(node, entries[at], None)] == [at]
    parts.write_items(node, None, [items], [b"mark"])
    batched = [Slice.from_dict(each) for each in json.loads(store.blob(key))]
    assert len(batched) == -(-100_000 // 7)
    store.write_items("many-flow", "large", "numbers", items, batch_size=25_000)
    for child in (Slice.from_dict(each) for each in json.loads(store.blob(key))):
        found = parts.items(node, child, None)
        parts.write("double", child, [Earlier(b"", Output(2 * each.value)) for each in found])
    (gathered,) = parts.gathered(node, None)
    assert gathered.value == list(range(0, 200_000, 2))


# --- parameters

TYPED = {"n": 3, "day": date(2024, 2, 28), "names": ["a", "b,c"]}
AS_JSON = {**TYPED, "day": "2024-02-28"}


def test_parameters_are_given_by_signature_build_and_input(stage: Stage) -> None:
    assert stage.value(flows.typed_flow, AS_JSON) == local(flows.typed_flow, **TYPED)
    other = {"limit": 4, "rate": 2, "mode": "fast", "colour": "blue", "text": "$.x ${FlowName} \u00fc"}
    typed = {**other, "rate": 2.0, "colour": flows.Colour.BLUE}
    assert stage.value(flows.typed_flow, {**AS_JSON, **other}) == local(flows.typed_flow, **TYPED, **typed)


def test_values_given_to_a_build_are_defaults_that_the_input_replaces(stage: Stage) -> None:
    built = {**TYPED, "limit": 7, "text": "${S3Bucket} {{resolve:x}} $.n States.Format('{}') \"\\ \u2028"}
    assert stage.value(flows.typed_flow, **built) == local(flows.typed_flow, **built)
    given = {"n": 10, "limit": None, "names": []}
    assert stage.value(flows.typed_flow, given, **built) == local(flows.typed_flow, **{**built, **given})


def test_a_first_step_that_is_a_job_takes_parameters(stage: Stage) -> None:
    given = {"n": 2, "by": 40}
    assert stage.value(flows.job_first_flow, given) == local(flows.job_first_flow, **given) == [40, 41]


def test_a_flow_may_take_any_parameter(stage: Stage) -> None:
    given = {"a": 2, "b": [1], "Comment": "the console's"}
    assert stage.value(flows.loose_flow, given) == local(flows.loose_flow, a=2, b=[1])


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({**AS_JSON, "n": "abc"}, "ParameterError", "'--n': 'abc' is not a valid integer"),
        ({**AS_JSON, "day": "yesterday"}, "ParameterError", "'--day'"),
        ({**AS_JSON, "colour": "green"}, "ParameterError", "'--colour'"),
        ({"n": 3}, "ParameterError", "Missing required parameter: '--day', '--names'"),
        ({**AS_JSON, "nmaes": []}, "ParameterError", "did you mean '--names'?"),
        ({**AS_JSON, "run_id": 5}, "ParameterError", "run_id must be text"),
    ],
)
def test_a_wrong_input_is_told(stage: Stage, given: dict[str, Any], error: str, told: str) -> None:
    outcome = stage.execute(flows.typed_flow, given)
    assert (outcome.execution.status, outcome.execution.error) == ("FAILED", error)
    assert told in outcome.execution.cause
    assert outcome.execution.counts.transitions == 1


@pytest.mark.parametrize("given", [{"longer": True}, {"limit": 3}])
def test_a_parameter_that_changes_the_shape_asks_for_a_build(stage: Stage, given: dict[str, Any]) -> None:
    outcome = stage.execute(flows.shaped_flow, given)
    assert outcome.execution.error == "GraphValidationError"
    assert "another shape with these parameters" in outcome.execution.cause
    assert "Build and deploy it again" in outcome.execution.cause


def test_the_shape_follows_the_values_given_to_the_build(stage: Stage) -> None:
    assert stage.value(flows.shaped_flow, longer=True) == local(flows.shaped_flow, longer=True) == 4


def test_arguments_are_computed_once_per_execution(stage: Stage, folder: str, marks: Marks) -> None:
    tokens = []
    for _ in range(2):
        (gathered, *last), *_ = [stage.value(flows.stamped_flow, {"folder": folder})]
        items, *after_map = gathered
        assert [after_map, *[each[1:] for (each, *_) in items]].count(after_map) == 4
        assert {(token, at) for _, token, at in items} == {tuple(last)}
        assert {marked for marked in marks() if marked.startswith("stamp-")} == {f"stamp-{last[0]}"}
        tokens.append(last[0])
    assert tokens[0] != tokens[1]
