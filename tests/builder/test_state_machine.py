"""The states of a machine: the exact shape of each kind, their names, and that no value travels through them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from built_flows import (
    FLOWS,
    config,
    double,
    increment,
    loaded,
    map_flow,
    negate,
    numbers,
    pair,
    params_flow,
    single_flow,
    total,
    wide,
)

from lokki import RetryConfig, flow, step
from lokki.builder.resources import describe
from lokki.builder.state_machine import LONGEST_DEFINITION, build_state_machine, text_of
from lokki.decorators import Flow, StepNode
from lokki.errors import BuildError
from lokki.runtime.program import parameters

LAMBDA, BATCH = "arn:aws:states:::lambda:invoke", "arn:aws:states:::batch:submitJob.sync"
EXECUTION = {"execution.$": "$$.Execution.Name", "params.$": "$$.Execution.Input"}
ATTEMPT = {"attempt.$": "$$.State.RetryCount"}


def machine(flow: Flow, defaults: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """The state machine of a flow, as its text says."""
    deployment = describe(flow(), config(**settings))
    read: dict[str, Any] = json.loads(text_of(build_state_machine(deployment, defaults)))
    return read


def states(machine: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state with its name, those inside maps included."""
    for name, state in machine["States"].items():
        yield name, state
        if state["Type"] == "Map":
            yield from states(state["ItemProcessor"])


def state(flow: Flow, name: str, **settings: Any) -> dict[str, Any]:
    """One state of a flow's machine."""
    return dict(states(machine(flow, **settings)))[name]


def without_retry(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "Retry"}


def named(*names: str, **options: Any) -> list[StepNode]:
    """Steps of these names that take one argument."""

    def made(name: str) -> StepNode:
        def function(x: Any = None) -> Any:
            return x

        function.__name__ = function.__qualname__ = name
        return step(**options)(function)

    return [made(name) for name in names]


# --- shapes


def test_the_first_state_evaluates_the_flow_and_the_last_one_answers() -> None:
    built = machine(FLOWS["linear"])
    assert built["Comment"] == "The flow linear-flow, built by lokki"
    assert built["StartAt"] == "Numbers"
    assert list(built["States"]) == ["Numbers", "Total", "Double", "Increment"]
    first, second, _, last = built["States"].values()
    assert without_retry(first) == {
        "Type": "Task",
        "Resource": LAMBDA,
        "Parameters": {
            "FunctionName": "${NumbersFunctionArn}",
            "Payload": {"lokki": "numbers", **EXECUTION, **ATTEMPT},
        },
        "ResultSelector": {"run_id.$": "$.Payload.run_id", "cache.$": "$.Payload.flow.cache_enabled"},
        "ResultPath": "$",
        "Next": "Total",
    }
    assert without_retry(second) == {
        "Type": "Task",
        "Resource": LAMBDA,
        "Parameters": {
            "FunctionName": "${TotalFunctionArn}",
            "Payload": {"lokki": "total", "state.$": "$", **ATTEMPT},
        },
        "ResultPath": None,
        "Next": "Double",
    }
    assert last["ResultSelector"] == {"run_id.$": "$.Payload.run_id", "result_url.$": "$.Payload.result_url"}
    assert (last["ResultPath"], last["End"]) == ("$", True)


def test_a_flow_of_one_step_evaluates_and_answers_in_one_state() -> None:
    only = machine(single_flow)["States"]["Numbers"]
    assert only["Parameters"]["Payload"] == {"lokki": "numbers", **EXECUTION, **ATTEMPT}
    assert only["ResultSelector"] == {"run_id.$": "$.Payload.run_id", "result_url.$": "$.Payload.result_url"}
    assert only["End"]


def test_a_map_reads_its_manifest_and_runs_its_body_in_children_of_its_own() -> None:
    built = state(map_flow, "NumbersMap")
    (inner,) = built["ItemProcessor"].pop("States").items()
    assert built == {
        "Type": "Map",
        "Label": "NumbersMap",
        "MaxConcurrency": 2,
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Parameters": {
                "Bucket": "${S3Bucket}",
                "Key.$": "States.Format('${FlowName}/runs/{}/numbers/map_manifest.json', $.run_id)",
            },
        },
        "ItemSelector": {"run_id.$": "$.run_id", "cache.$": "$.cache", "at.$": "$$.Map.Item.Value"},
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
            "StartAt": "Double",
        },
        "ResultWriter": {
            "Resource": "arn:aws:states:::s3:putObject",
            "Parameters": {
                "Bucket": "${S3Bucket}",
                "Prefix.$": "States.Format('${FlowName}/runs/{}/numbers-map/results', $.run_id)",
            },
        },
        "ResultPath": None,
        "Next": "Total",
    }
    assert inner[0] == "Double"
    assert (inner[1]["End"], inner[1]["ResultPath"]) == (True, None)
    assert inner[1]["Parameters"]["Payload"] == {"lokki": "double", "state.$": "$", **ATTEMPT}


def test_a_prefix_is_before_every_key() -> None:
    built = state(map_flow, "NumbersMap", aws={"prefix": "/team/a/"})
    for key in (built["ItemReader"]["Parameters"]["Key.$"], built["ResultWriter"]["Parameters"]["Prefix.$"]):
        assert key.startswith("States.Format('team/a/${FlowName}/runs/{}/")


def test_nested_maps_read_the_manifests_of_their_own_items() -> None:
    @flow
    def deep_flow() -> Any:
        return numbers(3).map(pair.map(pair.map(double).agg(total)).agg(total)).agg(total)

    built = dict(states(machine(deep_flow)))
    first, second, third = (each for each in built.values() if each["Type"] == "Map")
    assert "over.$" not in first["ItemSelector"]
    assert second["ItemSelector"] == third["ItemSelector"]
    assert second["ItemSelector"] == {
        "run_id.$": "$.run_id",
        "cache.$": "$.cache",
        "at.$": "$$.Map.Item.Value",
        "over.$": "$.at",
    }
    keys = [each["ItemReader"]["Parameters"]["Key.$"] for each in (first, second, third)]
    assert keys == [
        "States.Format('${FlowName}/runs/{}/numbers/map_manifest.json', $.run_id)",
        "States.Format('${FlowName}/runs/{}/pair/{}/map_manifest.json', $.run_id, $.at.first)",
        "States.Format('${FlowName}/runs/{}/pair-2/{}/{}/map_manifest.json', $.run_id, $.at.index[0], $.at.first)",
    ]


def test_a_body_in_one_place_is_one_state() -> None:
    built = machine(FLOWS["direct"])
    assert [name for name, _ in states(built)] == ["Numbers", "NumbersMap", "NumbersMapItems", "Total"]
    items = dict(states(built))["NumbersMapItems"]
    assert items["Parameters"] == {
        "FunctionName": "${NumbersMapFunctionArn}",
        "Payload": {"lokki": "numbers-map", "state.$": "$", **ATTEMPT},
    }
    assert items["End"]


def test_a_job_is_submitted_with_the_state_and_tried_again_by_itself() -> None:
    assert state(FLOWS["batch-inside"], "Train") == {
        "Type": "Task",
        "Resource": BATCH,
        "Parameters": {
            "JobName": "${FlowName}-train",
            "JobQueue": "${BatchJobQueue}",
            "JobDefinition": "${TrainJobDefinitionArn}",
            "ContainerOverrides": {
                "Environment": [
                    {"Name": "LOKKI_NODE", "Value": "train"},
                    {"Name": "LOKKI_STATE", "Value.$": "States.JsonToString($)"},
                ]
            },
        },
        "ResultPath": None,
        "Retry": [
            {
                "ErrorEquals": ["Batch.ServerException", "Batch.TooManyRequestsException", "Batch.SdkClientException"],
                "IntervalSeconds": 2,
                "MaxAttempts": 6,
                "BackoffRate": 2,
                "MaxDelaySeconds": 60,
                "JitterStrategy": "FULL",
            }
        ],
        "End": True,
    }


def test_a_job_that_comes_first_has_a_state_before_it_that_evaluates_the_flow() -> None:
    built = machine(FLOWS["batch-first"])
    assert list(built["States"]) == ["Start", "Loaded", "LoadedMap", "Total"]
    assert built["StartAt"] == "Start"
    start = built["States"]["Start"]
    assert start["Parameters"]["Payload"] == {"lokki": None, **EXECUTION, **ATTEMPT}
    assert (start["ResultPath"], start["Next"]) == ("$", "Loaded")
    assert start["ResultSelector"] == {"run_id.$": "$.Payload.run_id", "cache.$": "$.Payload.flow.cache_enabled"}


# --- what holds for every flow


@pytest.mark.parametrize("name", FLOWS)
def test_only_the_run_and_the_items_travel(name: str) -> None:
    for _, each in states(machine(FLOWS[name])):
        if each["Type"] == "Map":
            assert set(each["ItemSelector"]) <= {"run_id.$", "cache.$", "at.$", "over.$"}
            assert each["ResultPath"] is None
        elif each["Resource"] == LAMBDA:
            payload = each["Parameters"]["Payload"]
            assert set(payload) in ({"lokki", "state.$", *ATTEMPT}, {"lokki", *EXECUTION, *ATTEMPT})
            selected = set(each.get("ResultSelector", ()))
            assert selected <= {"run_id.$", "cache.$", "result_url.$"}
            assert each["ResultPath"] == ("$" if selected else None)


@pytest.mark.parametrize("name", FLOWS)
def test_a_child_never_asks_for_its_own_execution(name: str) -> None:
    for _, each in states(machine(FLOWS[name])):
        if each["Type"] == "Map":
            assert "$$.Execution" not in json.dumps(each["ItemProcessor"])
            assert each["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"


@pytest.mark.parametrize("name", FLOWS)
def test_every_state_leads_to_another_of_its_level_or_ends_it(name: str) -> None:
    def check(level: Mapping[str, Any]) -> None:
        order = list(level["States"])
        assert level["StartAt"] == order[0]
        for at, each in enumerate(level["States"].values()):
            leads = {"End": True} if at == len(order) - 1 else {"Next": order[at + 1]}
            assert {key: each[key] for key in ("End", "Next") if key in each} == leads
            if each["Type"] == "Map":
                check(each["ItemProcessor"])

    check(machine(FLOWS[name]))


@pytest.mark.parametrize("name", FLOWS)
def test_a_limit_is_there_only_where_one_is_given(name: str) -> None:
    limited = {name for name, each in states(machine(FLOWS[name])) if "MaxConcurrency" in each}
    assert limited == ({"NumbersMap"} if name == "map" else set())


# --- names


def names_of(flow: Flow) -> list[str]:
    return [name for name, _ in states(machine(flow))]


def test_names_are_readable_and_unique_in_the_whole_machine() -> None:
    inc, inc_2, flap_bird, private = named("inc", "inc_2", "flap_bird", "_2nd__try_")

    @flow
    def used_flow() -> Any:
        return inc().next(inc).next(inc_2).map([inc, flap_bird]).agg(inc_2).next(private).map(inc).agg(flap_bird)

    # the uses of `inc` are inc, inc-2, inc-3 and inc-4; those of `inc_2` are inc_2 and inc_2-2
    assert names_of(used_flow) == [
        *("Inc", "Inc2", "Inc2-2", "Inc2Map", "Inc3", "FlapBird", "Inc22", "2ndTry", "2ndTryMap", "Inc4"),
        "FlapBird2",
    ]


def test_the_state_of_a_body_takes_no_name_that_a_step_has() -> None:
    items, before = named("numbers_map_items", "numbers_map")

    @flow
    def items_flow() -> Any:
        return items().next(numbers).map([double, negate], direct_pass=True).agg(before)

    assert names_of(items_flow) == ["NumbersMapItems", "Numbers", "NumbersMap-2", "NumbersMap-2Items", "NumbersMap-3"]


def test_a_step_may_be_called_start() -> None:
    (start,) = named("start")

    @flow
    def plain_flow() -> Any:
        return start().next(double)

    @flow
    def batch_flow() -> Any:
        return loaded(3).next(start)

    assert names_of(plain_flow) == ["Start", "Double"]
    built = machine(batch_flow)
    assert list(built["States"]) == ["Start", "Loaded", "Start-2"]
    first, _, last = built["States"].values()
    assert first["Parameters"]["FunctionName"] == "${StartFunctionArn}"
    assert (last["Parameters"]["FunctionName"], last["Parameters"]["Payload"]["lokki"]) == (
        "${Start2FunctionArn}",
        "start",
    )


def test_names_of_other_alphabets_stay_as_they_are() -> None:
    size, bird, only = named("größe_messen", "鳥を数える", "_")

    @flow
    def other_flow() -> Any:
        return size().map(bird).agg(only)

    built = machine(other_flow)
    assert names_of(other_flow) == ["GrößeMessen", "GrößeMessenMap", "鳥を数える", "_"]
    label = built["States"]["GrößeMessenMap"]["Label"]
    assert re.fullmatch(r"GreMessenMap-[0-9a-f]{8}", label)
    functions = [each["Parameters"]["FunctionName"] for _, each in states(built) if each["Type"] == "Task"]
    assert all(re.fullmatch(r"\$\{[A-Za-z0-9]+Arn\}", each) for each in functions)
    assert len(set(functions)) == 3


def test_long_names_are_cut_and_still_differ() -> None:
    one, other = named("bird_" * 40 + "a", "bird_" * 40 + "b")

    @flow
    def long_flow() -> Any:
        return one().map([other, one], direct_pass=True).agg(other).map(one.map(other).agg(one)).agg(other)

    built = dict(states(machine(long_flow)))
    assert len(built) == 10
    assert max(map(len, built)) <= 80
    assert all(name.startswith("BirdBird") for name in built)
    labels = [each["Label"] for each in built.values() if each["Type"] == "Map"]
    assert len(set(labels)) == len(labels) == 3
    assert max(map(len, labels)) == 40


def test_many_uses_of_a_long_name_have_states_of_their_own() -> None:
    (long,) = named("x" * 200)

    @flow
    def again_flow() -> Any:
        chain = long()
        for _ in range(150):
            chain = chain.next(long)
        return chain

    built = names_of(again_flow)
    assert len(set(built)) == 151
    assert max(map(len, built)) <= 80


def test_labels_differ_where_names_are_cut_to_the_same() -> None:
    long = "a" * 60
    one, other = named(f"{long}_1", f"{long}_2")

    @flow
    def labels_flow() -> Any:
        return one().map(double).agg(other).map(double).agg(total)

    labels = [each["Label"] for _, each in states(machine(labels_flow)) if each["Type"] == "Map"]
    assert len(set(labels)) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,40}", each) for each in labels)


# --- retries


def retried(policy: RetryConfig) -> dict[str, Any] | None:
    """The retrier of a step with this policy."""
    (fetch,) = named("fetch", retry=policy)

    @flow
    def fetch_flow() -> Any:
        return numbers(3).next(fetch)

    found = [each for each in state(fetch_flow, "Fetch")["Retry"] if each["ErrorEquals"] == ["LokkiRetryable"]]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("policy", "attempts", "interval", "rate", "longest"),
    [
        (RetryConfig(retries=3), 3, 1, 2.0, 60),
        (RetryConfig(retries=1, delay=0), 1, 1, 2.0, 60),
        (RetryConfig(retries=1, delay=0.2, backoff=1), 1, 1, 1.0, 60),
        (RetryConfig(retries=2, delay=2.1, backoff=1.5), 2, 3, 1.5, 60),
        (RetryConfig(retries=2, delay=5, backoff=0.5), 2, 5, 1.0, 60),
        (RetryConfig(retries=2, delay=90), 2, 60, 2.0, 60),
        (RetryConfig(retries=2, delay=90, max_delay=0.5), 2, 1, 2.0, 1),
        (RetryConfig(retries=2, delay=1, max_delay=7.2), 2, 1, 2.0, 8),
        (RetryConfig(retries=2, delay=10**9, max_delay=10**9), 2, 31_622_399, 2.0, 31_622_399),
        (RetryConfig(retries=10**9), 99_999_999, 1, 2.0, 60),
    ],
)
def test_a_policy_is_what_the_state_does(
    policy: RetryConfig, attempts: int, interval: int, rate: float, longest: int
) -> None:
    assert retried(policy) == {
        "ErrorEquals": ["LokkiRetryable"],
        "MaxAttempts": attempts,
        "IntervalSeconds": interval,
        "BackoffRate": rate,
        "MaxDelaySeconds": longest,
    }


def test_without_retries_only_the_failures_of_the_services_are_tried_again() -> None:
    assert retried(RetryConfig(delay=5)) is None
    for name, each in FLOWS.items():
        for _, one in states(machine(each)):
            if one["Type"] == "Task":
                errors = [error for retrier in one["Retry"] for error in retrier["ErrorEquals"]]
                assert len(set(errors)) == len(errors), name
                service = "Lambda" if one["Resource"] == LAMBDA else "Batch"
                assert f"{service}.SdkClientException" in errors
                assert "Lambda.TooManyRequestsException" in errors or service == "Batch"
                assert not {"States.ALL", "States.TaskFailed"} & set(errors)


def test_each_use_of_a_step_has_the_policy_that_it_was_given() -> None:
    (fetch,) = named("fetch", retry=RetryConfig(retries=1))

    @flow
    def twice_flow() -> Any:
        return fetch().next(fetch(retry=RetryConfig(retries=5))).map(fetch).agg(fetch)

    attempts = [
        retrier["MaxAttempts"]
        for _, each in states(machine(twice_flow))
        for retrier in each.get("Retry", ())
        if retrier["ErrorEquals"] == ["LokkiRetryable"]
    ]
    assert attempts == [1, 5, 1, 1]
    functions = {each["Parameters"]["FunctionName"] for name, each in states(machine(twice_flow)) if "Map" not in name}
    assert functions == {"${FetchFunctionArn}"}


def test_a_body_in_one_place_tries_its_steps_again_itself() -> None:
    (fetch,) = named("fetch", retry=RetryConfig(retries=3))

    @flow
    def direct_flow() -> Any:
        return numbers(3).map([fetch, double], direct_pass=True).agg(total)

    errors = [error for each in state(direct_flow, "NumbersMapItems")["Retry"] for error in each["ErrorEquals"]]
    assert "LokkiRetryable" not in errors


# --- defaults


class Speed(Enum):
    SLOW = 1
    FAST = "${quick}"


AWKWARD: list[Any] = [
    "${FlowName}",
    "\\${S3Bucket}",
    "$${x} $$.Execution.Name",
    {"a.$": "$.b", "${FlowName}": "States.Format('{}')"},
    {"$date": "no date"},
    date(2024, 1, 31),
    datetime(2024, 1, 31, 12, 30, 59, 7),
    Decimal("0.10"),
    Path("data/a.csv"),
    (1, {2, 3}, b"\x00"),
    "gänse \N{BIRD} \x00 \u2028 \" ' {}",
    float("inf"),
    None,
]


@pytest.mark.parametrize("value", AWKWARD, ids=repr)
def test_a_default_arrives_as_it_was_given(value: Any) -> None:
    defaults = {"n": value, "by": [value]}
    deployment = describe(params_flow(), config())
    text = text_of(build_state_machine(deployment, defaults))
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= {"FlowName", "S3Bucket", *_functions(text)}
    filled = re.sub(r"\$\{\w+\}", "filled-in", text)
    payload = json.loads(filled)["States"]["Numbers"]["Parameters"]["Payload"]
    assert isinstance(payload["defaults"], str)  # of which nothing is read as a path
    assert parameters({**payload, "execution": "e", "params": {}}) == (defaults, "e", False)
    assert parameters({**payload, "execution": "e", "params": {"n": 1}})[0] == {"n": 1, "by": [value]}
    assert all("defaults" not in _payload(each) for name, each in states(json.loads(text)) if name != "Numbers")


def _functions(text: str) -> set[str]:
    return set(re.findall(r'"FunctionName": "\$\{(\w+)\}"', text))


def _payload(state: Mapping[str, Any]) -> Any:
    return state.get("Parameters", {}).get("Payload", {})


def test_the_member_of_an_enum_is_a_default_by_its_name() -> None:
    payload = machine(params_flow, {"n": Speed.FAST})["States"]["Numbers"]["Parameters"]["Payload"]
    assert json.loads(payload["defaults"]) == {"n": "FAST"}


def test_the_function_that_only_evaluates_gets_the_defaults_too() -> None:
    built = machine(FLOWS["batch-first"], {"n": 3})["States"]
    assert json.loads(built["Start"]["Parameters"]["Payload"]["defaults"]) == {"n": 3}


def test_a_default_that_json_cannot_hold_or_that_is_too_long_is_refused() -> None:
    with pytest.raises(BuildError, match="value of parameter 'n' cannot become a default of the machine: JSON has no"):
        machine(params_flow, {"n": object()})
    with pytest.raises(BuildError, match=r"parameters given to the build take 70,\d\d\d bytes.*65,536"):
        machine(params_flow, {"n": "x" * 70_000})


# --- EXPRESS or STANDARD


def kind(timeout: int, *uses: StepNode, **options: Any) -> str:
    """What the children of a map with this body are when calls may take so long."""

    @flow
    def kinds_flow() -> Any:
        return numbers(3).map(list(uses), **options).agg(total)

    built = state(kinds_flow, "NumbersMap", functions={"timeout": timeout})
    found: str = built["ItemProcessor"]["ProcessorConfig"]["ExecutionType"]
    return found


@pytest.mark.parametrize(
    ("timeout", "uses", "options", "wanted"),
    [
        (300, [double], {}, "EXPRESS"),
        (301, [double], {}, "STANDARD"),
        (150, [double, negate], {}, "EXPRESS"),
        (151, [double, negate], {}, "STANDARD"),
        (100, [double, negate, increment], {"direct_pass": True}, "EXPRESS"),
        (101, [double, negate, increment], {"direct_pass": True}, "STANDARD"),
        (900, named("short", timeout_seconds=300), {}, "EXPRESS"),
        (60, named("long", timeout_seconds=301), {}, "STANDARD"),
        (60, named("job", job_type="batch"), {}, "STANDARD"),
        (60, [double, *named("job", job_type="batch")], {"direct_pass": True}, "STANDARD"),
        (60, [pair.map(double).agg(total)], {}, "STANDARD"),
        (99, named("tried", retry=RetryConfig(retries=2)), {}, "EXPRESS"),  # three calls, and 1 and 2 seconds between
        (100, named("tried", retry=RetryConfig(retries=2)), {}, "STANDARD"),
        (1, named("tried", retry=RetryConfig(retries=10**9)), {}, "STANDARD"),
        (10, named("tried", retry=RetryConfig(retries=3, delay=100, max_delay=200)), {}, "STANDARD"),
    ],
)
def test_children_are_express_when_they_surely_end_in_five_minutes(
    timeout: int, uses: list[StepNode], options: dict[str, Any], wanted: str
) -> None:
    assert kind(timeout, *uses, **options) == wanted


def test_a_map_inside_a_map_may_be_express_while_the_outer_one_cannot() -> None:
    kinds = [
        each["ItemProcessor"]["ProcessorConfig"]["ExecutionType"]
        for _, each in states(machine(FLOWS["nested"]))
        if each["Type"] == "Map"
    ]
    assert kinds == ["STANDARD", "EXPRESS"]


# --- size


def test_a_definition_that_aws_would_refuse_is_refused() -> None:
    built = build_state_machine(describe(wide(200)(), config()))
    assert len(text_of(built)) > 100_000
    built["Comment"] = "x" * LONGEST_DEFINITION
    with pytest.raises(BuildError, match=r"The state machine takes 1,\d\d\d,\d\d\d bytes, and AWS allows 1,048,576"):
        text_of(built)


def test_the_text_is_for_people_too() -> None:
    text = text_of(build_state_machine(describe(map_flow(), config())))
    assert text.startswith('{\n "Comment": "The flow map-flow, built by lokki",\n "StartAt": "Numbers",\n')
    assert text.endswith("}\n")
