"""Flows of every shape, built and executed: what was built computes what a local run computes, in the same order."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import simulated_flows as flows
from built_flows import BUCKET, config

from lokki import LocalRunner
from lokki.builder import samples
from lokki.config import LokkiConfig
from lokki.decorators import Flow
from lokki.events import silent
from lokki.graph import Map
from lokki.runtime.event import Slice
from lokki.runtime.keeping import Output
from lokki.runtime.parts import Earlier, Parts
from lokki.simulate import Outcome, Simulation, same
from lokki.simulate.engine import Engine
from lokki.store.s3 import S3Store

LARGEST_STATE = 32 * 1024
AT_ONCE = 3
PLAIN = config()
NOTHING: Mapping[str, Any] = {}


class Stage:
    """An engine, and what is deployed to it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        self._deployed: dict[str, tuple[Any, Simulation]] = {}

    def simulation(
        self, flow: Flow, built: Mapping[str, Any] = NOTHING, settings: LokkiConfig = PLAIN, items_limit: int = 0
    ) -> Simulation:
        """The flow, deployed with these values as the defaults of its parameters, unless it is already."""
        key = (settings, items_limit, repr(built))
        known = self._deployed.get(flow.name)
        if known is None or known[0] != key:
            graph = samples.sampled(flow, built)
            folder = str(self._folder / flow.name)
            made = Simulation(graph, settings, self.engine, folder, defaults=built, items_limit=items_limit)
            self._deployed[flow.name] = known = (key, made)
        return known[1]

    def execute(self, flow: Flow, given: Mapping[str, Any] = NOTHING, *deployment: Any) -> Outcome:
        """Execute the flow with this input."""
        return executed(self.simulation(flow, *deployment), given)

    def value(self, flow: Flow, given: Mapping[str, Any] = NOTHING, *deployment: Any) -> Any:
        """The result of an execution that has to succeed."""
        return valued(self.execute(flow, given, *deployment))

    def stored(self) -> list[str]:
        """What lies in the bucket."""
        pages = self.engine.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]


@dataclass(frozen=True, eq=False)
class Case:
    """An execution: of what, built with which values, with which input, and how it is configured."""

    flow: Flow
    built: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    settings: LokkiConfig = PLAIN

    def __str__(self) -> str:
        return "-".join([self.flow.name, *(f"{name}={each}" for name, each in {**self.built, **self.given}.items())])

    def input(self, folder: str) -> dict[str, Any]:
        """The execution's input; steps that leave marks are told where."""
        return {
            **self.given,
            **({"folder": folder} if "folder" in [each.name for each in self.flow.parameters] else {}),
        }

    def local(self, folder: str = "") -> Any:
        """What a local run computes."""
        return local(self.flow, {**self.built, **self.input(folder)})


@dataclass(frozen=True)
class Done:
    """What a case came to: its outcome, and what ran how often."""

    outcome: Outcome
    marks: dict[str, int]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Engine() as engine:
        yield Stage(engine, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def under_way(
    stage: Stage, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Case, Future[Done]]]:
    """The executions of all cases that are tested. Some run at once; deployment waits for those of the same flow."""

    def execute(case: Case, simulation: Simulation) -> Done:
        folder = tmp_path_factory.mktemp("marks")
        return Done(executed(simulation, case.input(str(folder))), marks_in(folder))

    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    cases = dict.fromkeys(each["case"] for each in parameters if isinstance(each.get("case"), Case))
    begun: dict[Case, Future[Done]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for case in sorted(cases, key=lambda each: (repr(each.built), repr(each.settings))):
            wait([begun[each] for each in begun if each.flow is case.flow and each.built != case.built])
            begun[case] = pool.submit(execute, case, stage.simulation(case.flow, case.built, case.settings))
        yield begun


@pytest.fixture
def done(case: Case, under_way: dict[Case, Future[Done]]) -> Done:
    return under_way[case].result()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where steps leave their marks."""
    made = tmp_path / "marks"
    made.mkdir()
    return made


def marks_in(folder: Path) -> dict[str, int]:
    """What ran since this was last asked, and how often."""
    found = {each.name: len(each.read_bytes()) for each in folder.iterdir() if not each.name.startswith("closed")}
    for name in found:
        (folder / name).unlink()
    return found


def executed(simulation: Simulation, given: Mapping[str, Any]) -> Outcome:
    """What an execution came to; its states never hold much."""
    outcome = simulation.execute(given, timeout=60)
    assert outcome.execution.counts.payload < LARGEST_STATE
    return outcome


def valued(outcome: Outcome) -> Any:
    """The result of an execution that has to have succeeded."""
    execution = outcome.execution
    assert outcome.succeeded, (execution.error, execution.cause, outcome.errors, execution.logs[-5:])
    return outcome.value


def local(flow: Flow, params: Mapping[str, Any] = NOTHING, items_limit: int = 0) -> Any:
    """What a local run computes."""
    return LocalRunner(store_type="local", listen=silent, items_limit=items_limit).run(flow(**params))


# --- numbers; first, while nothing else is under way


@pytest.mark.parametrize("size", [1, 7])
def test_400_items_keep_their_order_at_few_requests(stage: Stage, size: int) -> None:
    children = -(-400 // size)
    outcome = stage.execute(flows.many_flow, NOTHING, {"size": size})
    assert outcome.value == [2 * each for each in range(400)]
    counts = outcome.execution.counts
    assert counts.states == {"Numbers": 1, "NumbersMap": 1, "Double": children, "Collected": 1}
    assert (counts.transitions, counts.children) == (children + 3, children)
    assert counts.invocations == {"many-flow-numbers": 1, "many-flow-double": children, "many-flow-collected": 1}
    functions, interpreter = counts.requests["functions"], counts.requests["interpreter"]
    assert interpreter == {"GET": 1, "PUT": 1}, "the manifest is read and the map's own result written"
    assert functions["PUT"] == children + 4, "each child's result; items, their manifest, two results outside the map"
    assert functions["GET range"] <= children + 8, "each result to be gathered; a process reads the items once"
    assert functions.keys() == {"PUT", "GET range"}


def test_a_hundred_thousand_items_are_one_pack_and_one_manifest(stage: Stage) -> None:
    simulation = stage.simulation(flows.many_flow, {"size": 7})
    states = json.loads(simulation.bundle.files["statemachine.json"])["States"]
    formatted = re.fullmatch(
        r"States.Format\('(.*)', \$.run_id\)", states["NumbersMap"]["ItemReader"]["Parameters"]["Key.$"]
    )
    assert formatted
    key = formatted[1].replace("${FlowName}", "many-flow").format("large")
    store = S3Store(stage.engine.endpoint, bucket=BUCKET, client=stage.engine.client("s3"))
    parts = Parts(store, "many-flow", "large", cache=False)
    (node,) = (each for each in simulation.bundle.deployment.graph.nodes if isinstance(each, Map))
    items = range(100_000)

    def children() -> list[Slice]:
        return [Slice.from_dict(each) for each in json.loads(store.blob(key))]

    store.write_items("many-flow", "large", "numbers", items, batch_size=1)
    entries = children()
    assert [each.first for each in entries] == list(items)
    for at in (0, 1, 54_321, 99_999):
        assert [each.value for each in parts.items(node, entries[at], None)] == [at]
    store.write_items("many-flow", "large", "numbers", items, batch_size=30_000)
    for child in children():
        found = parts.items(node, child, None)
        parts.write("double", child, [Earlier(bytes(16), Output(2 * each.value)) for each in found])
    (gathered,) = parts.gathered(node, None)
    assert gathered.value == list(range(0, 200_000, 2))


# --- shapes

TWO_MAPS = Case(flows.two_maps_flow)
LONG_MAPS = Case(flows.two_maps_flow, settings=config(functions={"timeout": 900}))
DEEP_MAPS = Case(flows.deep_flow, {"a": 2, "b": 2, "c": 2})
SHAPES = [
    Case(flows.chain_flow),
    Case(flows.map_flow),
    TWO_MAPS,
    Case(flows.nested_flow),
    Case(flows.nested_flow, {"outer": 3, "inner": 2}),
    DEEP_MAPS,
    Case(flows.twice_nested_flow, {"outer": 3}),
    Case(flows.open_flow, {"size": 3}),
    Case(flows.open_nested_flow, {"outer": 3, "inner": 2}),
    Case(flows.inner_open_flow),
    Case(flows.body_flow),
    Case(flows.body_flow, {"direct": True, "size": 2}),
    Case(flows.direct_nested_flow, {"size": 3}),
    Case(flows.arguments_flow),
    Case(flows.none_flow),
    Case(flows.job_first_flow, given={"n": 2, "by": 40}),
    Case(flows.jobs_flow, {"size": 2}),
    Case(flows.job_nested_flow),
    Case(flows.job_direct_flow),
]


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_a_flow_computes_what_its_local_run_computes(case: Case, done: Done, folder: Path) -> None:
    assert same(valued(done.outcome), case.local(str(folder)))
    assert done.marks == marks_in(folder), "the same steps ran, as often"


FAILURES = [
    (Case(flows.chain_flow, given={"bad": 3}), "double", (), "", "ValueError: 3 is bad"),
    (Case(flows.map_flow, given={"bad": 3}), "double", (3,), "3", "ValueError: 3 is bad"),
    (Case(flows.map_flow, given={"worst": 70}), "total", (), "", "OverflowError: 70 is the worst"),
    (Case(flows.nested_flow, {"outer": 3, "inner": 2}, {"bad": 2}), "double", (3, 2), "2", "ValueError: 2 is bad"),
    (Case(flows.deep_flow, {"a": 2, "b": 2, "c": 2}, {"bad": 1}), "double", (3, 2, 1), "1", "ValueError: 1 is bad"),
    (Case(flows.body_flow, {"direct": True, "size": 2}, {"bad": 3}), "double", (3,), "3", "ValueError: 3 is bad"),
    (Case(flows.direct_nested_flow, {"size": 3}, {"bad": 2}), "double", (3, 2), "2", "ValueError: 2 is bad"),
    (Case(flows.job_nested_flow, given={"bad": 1}), "trained", (2, 1), "1", "ValueError: 1 is bad"),
    (Case(flows.job_direct_flow, given={"bad": 2}), "trained", (1,), "1", "ValueError: 2 is bad"),
]


@pytest.mark.parametrize(("case", "step", "index", "item", "error"), FAILURES, ids=[str(each[0]) for each in FAILURES])
def test_a_failure_names_step_item_and_cause(
    case: Case, done: Done, step: str, index: tuple[int, ...], item: str, error: str, folder: Path
) -> None:
    assert done.outcome.execution.status == "FAILED"
    (told,) = done.outcome.errors
    assert (told.step, told.index, told.item, told.error) == (step, index, item, error)
    assert "in double" in told.traceback or f"in {step}" in told.traceback
    assert told.traceback.rstrip().endswith(error)
    assert "lokki/runtime" not in told.traceback
    logged = [json.loads(line) for _, line in done.outcome.execution.logs if '"step_fail"' in line]
    assert [(each["step"], tuple(each.get("index", ())), each["error"]) for each in logged] == [(step, index, error)]
    if index:
        failure = done.outcome.execution.failures[0]
        assert done.outcome.execution.error == "States.ExceedToleratedFailureThreshold"
        assert failure.error in (error.partition(":")[0], "States.TaskFailed", "States.ExceedToleratedFailureThreshold")
    else:
        assert done.outcome.execution.error == error.partition(":")[0]
        assert error in done.outcome.execution.cause
    with pytest.raises((ValueError, OverflowError)) as raised:
        case.local(str(folder))
    assert raised.value.__notes__ == [
        f"in step {step!r}" + (f", item {'.'.join(map(str, index))}: {item}" if index else "")
    ]


RETRIES = [
    (Case(flows.retried_flow), 10),
    (Case(flows.retried_batch_flow), 2),
    (Case(flows.retried_nested_flow), None),
    (Case(flows.retried_direct_flow, {"size": 3}), 0),
    (Case(flows.retried_job_flow, {"size": 2}), 0),
    (Case(flows.retried_use_flow), 6),
]


@pytest.mark.parametrize(("case", "retries"), RETRIES, ids=[str(case) for case, _ in RETRIES])
def test_what_may_pass_is_tried_again_as_often_as_in_a_local_run(
    case: Case, done: Done, retries: int | None, folder: Path
) -> None:
    assert same(valued(done.outcome), case.local(str(folder)))
    assert done.marks == marks_in(folder)
    assert max(done.marks.values()) >= 3
    if retries is not None:
        assert done.outcome.execution.counts.retries == retries, "those of the state machine; others happen in place"


@pytest.mark.parametrize(
    ("case", "error", "ran"),
    [
        (Case(flows.refused_flow), "PermissionError: 0 may not", {"numbers": 1, "refused": 1}),
        (Case(flows.exhausted_flow), "ConnectionResetError: no answer for 0", {"numbers": 1, "item-0": 3}),
    ],
    ids=["refused", "exhausted"],
)
def test_what_is_not_retried_or_no_more_fails(done: Done, case: Case, error: str, ran: dict[str, int]) -> None:
    assert done.outcome.execution.status == "FAILED"
    assert [each.error for each in done.outcome.errors] == [error]
    assert done.marks == ran


@pytest.mark.parametrize(
    ("case", "told"),
    [
        (
            Case(flows.unsendable_flow),
            "The result of step 'whole' for item 0: a value of type function cannot be stored",
        ),
        (Case(flows.unmappable_flow), "Step 'plain_text' returned 'goose' of type str, which is not a list of items"),
    ],
    ids=["unsendable", "unmappable"],
)
def test_a_result_that_cannot_go_on_is_told(done: Done, case: Case, told: str) -> None:
    assert done.outcome.execution.status == "FAILED"
    logged = [json.loads(line) for _, line in done.outcome.execution.logs if '"step_fail"' in line]
    assert any(told in each["error"] for each in logged)
    with pytest.raises(Exception, match=re.escape(told)):
        case.local()


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        (TWO_MAPS, ["EXPRESS", "EXPRESS"]),
        (LONG_MAPS, ["STANDARD", "STANDARD"]),
        (DEEP_MAPS, ["STANDARD", "STANDARD", "EXPRESS"]),
    ],
    ids=["short", "long", "deep"],
)
def test_children_are_express_where_they_are_short(done: Done, case: Case, kinds: list[str]) -> None:
    machine = done.outcome.bundle.files["statemachine.json"].decode()
    assert re.findall(r'"ExecutionType": "(\w+)"', machine) == kinds
    assert valued(done.outcome) == case.local()
    assert any("EXPRESS" in each for each in done.outcome.substitutions) == ("EXPRESS" in kinds)


# --- values


@pytest.mark.parametrize(
    ("size", "kinds"), [(1, ["items", "empty"]), (4, ["items", "empty", "tuple", "range", "set", "generator"])]
)
def test_values_arrive_as_they_are(stage: Stage, size: int, kinds: list[str]) -> None:
    for kind in kinds:
        value = stage.value(flows.values_flow, {"kind": kind}, {"size": size})
        assert same(value, local(flows.values_flow, {"kind": kind})), kind


def test_text_that_is_the_address_of_a_result_stays_text(stage: Stage) -> None:
    keys = [f"values-flow/runs/addressed/made/{name}" for name in ("output.pkl.gz", "items.pack")]
    addresses = [f"s3://{BUCKET}/{key}" for key in keys]
    value = stage.value(flows.values_flow, {"given": addresses, "run_id": "addressed"}, {"size": 4})
    assert value == local(flows.values_flow, {"given": addresses})
    assert set(keys) <= set(stage.stored())


def test_an_image_has_what_is_installed(stage: Stage) -> None:
    value, kind, _ = stage.value(flows.values_flow, {"kind": "array"}, NOTHING, config("image"))
    ((array, array_kind, shown), (number, _, _), *others) = value
    assert (kind, array_kind, number, len(others)) == ("list", "ndarray", 1.5, 6)
    assert (array.dtype, array.tolist()) == ("int16", [[0, 1, 2], [3, 4, 5]])
    assert "int16" in shown


# --- parameters

TYPED = {"n": 3, "day": date(2024, 2, 28), "names": ["a", "b,c"]}
AS_JSON = {**TYPED, "day": "2024-02-28"}


def test_parameters_have_the_types_of_the_signature(stage: Stage) -> None:
    assert stage.value(flows.typed_flow, AS_JSON) == local(flows.typed_flow, TYPED)
    other = {"limit": 4, "rate": 2, "mode": "fast", "colour": "blue", "text": "$.x ${FlowName} \u00fc"}
    typed = {**TYPED, **other, "rate": 2.0, "colour": flows.Colour.BLUE}
    assert stage.value(flows.typed_flow, {**AS_JSON, **other}) == local(flows.typed_flow, typed)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({**AS_JSON, "n": "abc"}, "Invalid value for '--n': 'abc' is not a valid integer"),
        ({**AS_JSON, "day": "yesterday"}, "Invalid value for '--day'"),
        ({**AS_JSON, "colour": "green"}, "Invalid value for '--colour'"),
        ({"n": 3}, "Missing required parameter: '--day', '--names'"),
        ({**AS_JSON, "nmaes": []}, "Unexpected parameter: '--nmaes'; did you mean '--names'?"),
        ({**AS_JSON, "run_id": 5}, "run_id must be text"),
    ],
)
def test_a_wrong_input_is_told(stage: Stage, given: dict[str, Any], told: str) -> None:
    execution = stage.execute(flows.typed_flow, given).execution
    assert (execution.status, execution.error) == ("FAILED", "ParameterError")
    assert told in json.loads(execution.cause)["errorMessage"]
    assert execution.counts.transitions == 1


def test_values_given_to_a_build_are_defaults_that_the_input_replaces(stage: Stage) -> None:
    text = "${S3Bucket} {{resolve:x}} $.n States.Format('{}') \"\\ \u2028"
    built = {**TYPED, "limit": 7, "text": text, "colour": flows.Colour.BLUE.value}
    typed = {**built, "colour": flows.Colour.BLUE}
    assert stage.value(flows.typed_flow, NOTHING, built) == local(flows.typed_flow, typed)
    given: dict[str, Any] = {"n": 10, "limit": None, "names": []}
    assert stage.value(flows.typed_flow, given, built) == local(flows.typed_flow, {**typed, **given})


def test_a_flow_may_take_any_parameter(stage: Stage) -> None:
    given = {"a": 2, "b": [1]}
    value = stage.value(flows.loose_flow, {**given, "Comment": "Insert your JSON here"})
    assert value == local(flows.loose_flow, given)


def test_a_shape_follows_what_is_given_to_the_build(stage: Stage) -> None:
    longer = {"longer": True}
    assert stage.value(flows.shaped_flow, NOTHING, longer) == local(flows.shaped_flow, longer) == 4


@pytest.mark.parametrize("given", [{"longer": False}, {"limit": 3}, {"retries": 1}], ids=str)
def test_a_parameter_that_changes_the_shape_asks_for_a_build(stage: Stage, given: dict[str, Any]) -> None:
    execution = stage.execute(flows.shaped_flow, given, {"longer": True}).execution
    assert (execution.status, execution.error) == ("FAILED", "GraphValidationError")
    assert "has another shape with these parameters" in execution.cause
    assert "Build and deploy it again" in execution.cause


def test_arguments_are_computed_once_per_execution(stage: Stage, folder: Path) -> None:
    """Also where the first step, which comes with the computing, is tried again."""
    tokens = []
    for _ in range(2):
        gathered, *last = stage.value(flows.stamped_flow, {"folder": str(folder)})
        items, *after = gathered
        everywhere = [last, after, *(each[1:] for each in items), *(each[0][1:] for each in items)]
        assert [list(each) for each in everywhere] == [last] * 8
        assert [each[0][0] for each in items] == [last[0]] * 3
        assert marks_in(folder) == {"stamped": 2, f"stamp-{last[0]}": 2}
        tokens.append(last[0])
    assert tokens[0] != tokens[1]


# --- results of earlier executions


def ran(stage: Stage, folder: Path, size: int, **given: Any) -> dict[str, int]:
    """What an execution ran; its value is that of a local run."""
    value = stage.value(flows.cached_flow, {"folder": str(folder), **given}, {"size": size})
    params = {name: each for name, each in given.items() if name not in ("run_id", "cache_enabled")}
    assert value == local(flows.cached_flow, params)
    return marks_in(folder)


WHOLE = dict.fromkeys(["drawn", *(f"double-{each}" for each in range(10)), "total", "add-90"], 1)
CHANGED = dict.fromkeys(["drawn", "double-1000", "total", "add-2084"], 1)


def test_a_run_id_keeps_what_came_from_the_same(stage: Stage, folder: Path) -> None:
    assert ran(stage, folder, 4, run_id="kept") == WHOLE
    assert ran(stage, folder, 4, run_id="kept") == {}
    assert ran(stage, folder, 4, run_id="kept", by=5) == {"add-90": 1}
    assert ran(stage, folder, 4, run_id="kept", by=5, replaced=3) == CHANGED
    assert ran(stage, folder, 4, run_id="kept", by=5, replaced=3) == {}
    assert ran(stage, folder, 4, run_id="kept", cache_enabled=False) == WHOLE
    assert ran(stage, folder, 4) == WHOLE


def test_executions_without_a_run_id_share_nothing(stage: Stage, folder: Path) -> None:
    """Three at once, in the same processes of the same functions."""
    simulation = stage.simulation(flows.cached_flow, {"size": 4})
    inputs = [{"by": 10**each, "replaced": each, "folder": str(folder)} for each in range(3)]
    with ThreadPoolExecutor(3) as pool:
        values = [valued(each) for each in pool.map(executed, [simulation] * 3, inputs)]
    marks = marks_in(folder)
    assert values == [local(flows.cached_flow, each) for each in inputs]
    assert marks == marks_in(folder)


def test_another_batch_size_keeps_what_lies_outside_the_map(stage: Stage, folder: Path) -> None:
    """Results of a map are kept by child: another cut of the items is another child."""
    assert ran(stage, folder, 4, run_id="resized") == WHOLE
    assert ran(stage, folder, 1, run_id="resized") == {name: 1 for name in WHOLE if name.startswith("double")}
    assert ran(stage, folder, 1, run_id="resized", replaced=3) == CHANGED


@pytest.mark.parametrize(
    ("flow", "built"),
    [
        (flows.nested_flow, {"outer": 3, "inner": 2}),
        (flows.direct_nested_flow, {"size": 3}),
        (flows.jobs_flow, {"size": 2}),
    ],
    ids=["nested", "direct", "jobs"],
)
def test_nothing_of_any_shape_runs_again(stage: Stage, flow: Flow, built: Mapping[str, Any], folder: Path) -> None:
    given = {"run_id": "kept", "folder": str(folder)}
    first = stage.value(flow, given, built)
    assert marks_in(folder)
    assert stage.value(flow, given, built) == first
    assert marks_in(folder) == {}


@pytest.mark.parametrize("size", [1, 4])
def test_an_execution_goes_on_where_one_failed(stage: Stage, folder: Path, size: int) -> None:
    def attempt(closed: str) -> tuple[Outcome, dict[str, int]]:
        (folder / f"closed-gated-{closed}").touch()
        outcome = stage.execute(flows.gated_flow, {"folder": str(folder), "run_id": f"gated-{size}"}, {"size": size})
        (folder / f"closed-gated-{closed}").unlink()
        return outcome, marks_in(folder)

    first, early = attempt("7")
    second, middle = attempt("all")
    third, late = attempt("nothing")
    assert [(each.step, each.index) for each in first.errors] == [("gated", (7,))]
    assert [(each.step, each.index) for each in second.errors] == [("gated-2", ())]
    assert valued(third) == 45
    assert early.keys() & middle.keys() == {"gated-7"}
    assert early.keys() | middle.keys() == {"drawn", "gated-all", *(f"gated-{each}" for each in range(10))}
    assert late == {"gated-all": 1, "total": 1}


# --- configuration


def test_a_prefix_is_before_every_key(stage: Stage) -> None:
    prefixed = (NOTHING, config(aws={"prefix": "team/a"}))
    assert stage.value(flows.prefixed_flow, NOTHING, *prefixed) == local(flows.prefixed_flow)
    failed = stage.execute(flows.prefixed_flow, {"bad": 1}, *prefixed)
    assert [(each.step, each.index) for each in failed.errors] == [("double", (2, 1))]
    mine = [key for key in stage.stored() if "prefixed-flow" in key]
    assert len(mine) > 20
    assert [key for key in mine if not key.startswith("team/a/prefixed-flow/runs/")] == []


def test_secrets_are_there_before_the_flow_is_imported(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPES_TOKEN", "t0ken")
    monkeypatch.setenv("SHAPES_PASSWORD", "pa$$ \u00fc")
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
    plain = {"env": {"SHAPES_PLAIN": "plain"}}
    arns = {"SHAPES_TOKEN": f"{arn}token-AbCdEf", "SHAPES_PASSWORD": f"{arn}db-AbCdEf:SecretString:password"}
    settings = config(functions=plain, batch=plain, secrets={"secret_arns": arns})
    seen = {"SHAPES_TOKEN": "t0ken", "SHAPES_PASSWORD": "pa$$ \u00fc", "SHAPES_PLAIN": "plain"}
    outcome = stage.execute(flows.secrets_flow, NOTHING, NOTHING, settings)
    assert valued(outcome) == [seen, seen]
    assert "t0ken" not in outcome.bundle.files["template.yaml"].decode()


def test_few_items_of_each_map_may_be_enough(stage: Stage) -> None:
    value = stage.value(flows.nested_flow, {"n": 6}, NOTHING, PLAIN, 3)
    assert value == local(flows.nested_flow, {"n": 6}, items_limit=3)
    assert value == [[], [0], [0, 2]]


# --- the command


def test_the_command_simulates_and_compares(tmp_path: Path) -> None:
    birds = Path(__file__).parents[2] / "examples" / "birds.py"
    command = [sys.executable, str(birds), "simulate", "--compare", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["flow"], told["status"], told["same_as_local"]) == ("birds-flow", "SUCCEEDED", True)
    assert told["result"] == "flappy goose, flappy duck, flappy seagull"
    assert told["states"] == {"GetBirds": 1, "GetBirdsMap": 1, "FlapBird": 3, "JoinBirds": 1}
    assert (told["transitions"], told["child_executions"], told["retries"]) == (6, 3, 0)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
