"""A function that is called by hand: every form of event, what it answers, what it refuses and what it logs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import invoked_flows as flows
import pytest

from lokki.chain import StepNode
from lokki.errors import ConfigurationError, GraphValidationError, LocationError, LokkiError, ParameterError, StoreError
from lokki.runtime.handler import make_handler, open_handler
from lokki.store import LocalStore
from tests.runtime.packaged import Lines, failure_of, is_retryable, package, put_in_the_way, without

MODULE = flows.__name__
FLOW = {"run_id": "r1", "params": {"by": 5}}
BY_FIVE = {"run_id": "r1", "cache_enabled": False, "params": {"by": 5}}

Call = Callable[[StepNode, Any], tuple[dict[str, Any], Any]]


@pytest.fixture(params=["make_handler", "open_handler"])
def call(request: pytest.FixtureRequest, environment: Path, tmp_path: Path, values: LocalStore) -> Call:
    """Calls a step's function, and gives its answer and the result that it stored."""

    def call(step: StepNode, event: Any) -> tuple[dict[str, Any], Any]:
        if request.param == "open_handler":
            handler = open_handler(MODULE, step.name, package(PACKAGES[step.name](), tmp_path / "package"))
        else:
            handler = make_handler(step)
        answer = json.loads(json.dumps(handler(event, SimpleNamespace(aws_request_id="request-1"))))
        return answer, values.read(answer["result_url"])

    return call


PACKAGES = {
    "given": flows.nothing_flow,
    "numbers": flows.chain_flow,
    "glide": flows.glide_flow,
    "echo": flows.mute_map_flow,
}


# What arrives


@pytest.mark.parametrize(
    ("event", "received"),
    [
        ({"input": 7, "flow": FLOW}, {"value": 7, "by": 5}),
        ({"input": ["goose", "duck"], "flow": FLOW}, {"value": ["goose", "duck"], "by": 5}),
        ({"input": ["s3://nest/a", "duck"], "flow": FLOW}, {"value": ["s3://nest/a", "duck"], "by": 5}),
        ({"input": [], "flow": FLOW}, {"value": [], "by": 5}),
        ({"input": 0, "flow": FLOW}, {"value": 0, "by": 5}),
        ({"input": {"bird": "owl"}, "flow": FLOW}, {"value": {"bird": "owl"}, "by": 5}),
        ({"input": None, "flow": FLOW}, {"value": None, "by": 5}),
        ({"flow": FLOW}, {"value": None, "by": 5}),
        ({"result_url": None, "run_id": "r1", "by": 5}, {"value": None, "by": 5}),
        ({"result_urls": [], "run_id": "r1", "by": 5}, {"value": [], "by": 5}),
        ({"value": 3, "by": 5, "run_id": "r1"}, {"value": 3, "by": 5}),
        ({"value": 3, "by": 5, "kind": "owl", "run_id": "r1"}, {"value": 3, "by": 5, "kind": "owl"}),
        ({"input": 7, "flow": {"run_id": "r1"}}, {"value": 7, "by": 1}),
        ({"input": 7, "flow": {"params": {"value": 1, "kind": "owl"}}}, {"value": 7, "by": 1, "kind": "owl"}),
        ({}, {"value": None, "by": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_a_step_receives_what_the_event_means(call: Call, event: dict[str, Any], received: dict[str, Any]) -> None:
    assert call(flows.given, event)[1] == received


@pytest.mark.parametrize("form", ["input", "result_url"])
def test_a_location_stands_for_what_lies_there(call: Call, values: LocalStore, form: str) -> None:
    location = values.write("birds", "r1", "flap", {"owl": (1, None)})
    parts = [values.write("birds", "r1", "glide", at, index=(at,)) for at in range(3)]
    flow: dict[str, Any] = {"flow": {}} if form == "input" else {}
    assert call(flows.given, {form: location, **flow})[1]["value"] == {"owl": (1, None)}
    many = "input" if form == "input" else "result_urls"
    assert call(flows.given, {many: parts, **flow})[1]["value"] == [0, 1, 2]
    assert call(flows.given, {"result_urls": [parts[2], None]})[1]["value"] == [2, None]


def test_the_answer_of_one_step_is_the_event_of_the_next(call: Call, values: LocalStore) -> None:
    made, result = call(flows.numbers, {"n": 3, "run_id": "r1"})
    assert result == [0, 1, 2]
    for event in (made, without(made, "input", "flow"), without(made, "result_url", "run_id")):
        answer, received = call(flows.given, event)
        assert received["value"] == [0, 1, 2]
        assert answer["run_id"] == "r1"
    piece = {**call(flows.echo, {"input": None, "flow": {}})[0]}
    assert call(flows.given, piece)[1] == {"value": None, "by": 1}


def test_a_step_may_be_given_as_a_plain_function(values: LocalStore) -> None:
    answer = make_handler(lambda value, by=2: value * by)({"input": 4, "flow": {"run_id": "r1"}}, None)
    assert values.read(answer["result_url"]) == 8


# What is answered


def test_the_answer_serves_whoever_reads_any_form(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKKI_FLOW_NAME", "birds-flow")
    answer, _ = call(flows.given, {"input": 7, "flow": FLOW})
    location = "birds-flow/runs/r1/given/output.pkl.gz"
    assert answer == {"input": location, "result_url": location, "run_id": "r1", "flow": BY_FIVE}


def test_a_list_is_answered_with_the_manifest_of_its_items(call: Call, values: LocalStore) -> None:
    answer, _ = call(flows.numbers, {"n": 3, "run_id": "r1"})
    flow_name = answer["result_url"].partition("/")[0]
    assert answer["map_manifest_key"] == f"{flow_name}/runs/r1/numbers/map_manifest.json"
    children = json.loads(values.blob(answer["map_manifest_key"]))
    packed = values.blob(f"{flow_name}/runs/r1/numbers/items.pack")
    assert [pickle.loads(packed[each["start"] : each["end"]]) for each in children] == [0, 1, 2]
    assert [(each["first"], each["count"]) for each in children] == [(0, 1), (1, 1), (2, 1)]


def test_a_call_without_a_run_id_gets_that_of_its_request(call: Call) -> None:
    assert call(flows.given, {"input": 1})[0]["run_id"] == "request-1"
    assert call(flows.given, {"input": 1, "flow": {"run_id": ""}})[0]["run_id"] == "request-1"


def test_calls_without_any_id_do_not_share_one() -> None:
    handler = make_handler(flows.given)
    ids = {handler({"input": 1}, None)["run_id"] for _ in range(5)}
    assert len(ids) == 5
    assert "" not in ids


@pytest.mark.parametrize("letter", ["x", "é", "🦉"])
def test_large_parameters_arrive_but_are_not_repeated(call: Call, letter: str) -> None:
    for count in (1_000, 40_000):
        answer, received = call(flows.given, {"input": 1, "flow": {"run_id": "r1", "params": {"kind": letter * count}}})
        assert received["kind"] == letter * count
        repeated = answer["flow"]["params"]
        assert repeated == ({"kind": letter * count} if count == 1_000 else {})
        assert len(json.dumps(answer)) < 40_000


# What is refused


@pytest.mark.parametrize(
    ("event", "kind", "said"),
    [
        ([1], ParameterError, "The event must be a JSON object, not list."),
        ("owl", ParameterError, "The event must be a JSON object, not str."),
        ({"input": 1, "flow": 3}, ParameterError, "'flow' of an event is a JSON object, not int."),
        ({"input": 1, "flow": {"run_id": "../r2"}}, StoreError, "'../r2' cannot be part of a key"),
        ({"result_url": "owl"}, LocationError, "'owl' is not the location of an output"),
        ({"result_url": "/birds/runs/r1/flap/output.pkl.gz"}, LocationError, "is not the location of an output"),
        ({"result_url": "birds/runs/r1/flap/output.pkl.gz"}, StoreError, "Nothing is stored at birds/runs/r1/flap"),
        ({"input": "s3://nest/birds/runs/r1/flap/output.pkl.gz"}, LocationError, "is not the location of an output"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_used_is_told_once_and_raised(
    call: Call, lines: Lines, event: Any, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as caught:
        call(flows.given, event)
    assert said in str(caught.value)
    (line,) = lines()
    assert (line["level"], line["event"], line["step"]) == ("ERROR", "step_fail", "given")
    assert said in line["error"]


def test_a_first_step_without_its_parameter_is_a_plain_error(lines: Lines) -> None:
    with pytest.raises(GraphValidationError, match="Step 'stamped' needs 'at', and nothing fills it"):
        make_handler(flows.stamped)({"xs": 1, "call": 2}, None)
    assert [line["level"] for line in lines()] == ["ERROR"]


def test_a_package_is_told_when_it_lacks_the_step(tmp_path: Path, lines: Lines) -> None:
    handler = open_handler(MODULE, "peck", package(flows.chain_flow(), tmp_path / "package"))
    with pytest.raises(LokkiError, match=r"This package has no function 'peck'; it has numbers, total\."):
        handler({"input": 1}, None)
    (line,) = lines()
    assert (line["level"], line["step"]) == ("ERROR", "peck")


def test_a_store_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setenv("LOKKI_STORE_TYPE", "tape")
    with pytest.raises(ConfigurationError, match="LOKKI_STORE_TYPE must be s3 or local, not 'tape'"):
        make_handler(flows.given)({"input": 1}, None)
    assert [line["level"] for line in lines()] == ["ERROR"]


# A bucket


@pytest.fixture
def nest(aws: None, moto_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bucket of a function that has a prefix of its own in it."""
    monkeypatch.setenv("LOKKI_STORE_TYPE", "s3")
    monkeypatch.setenv("LOKKI_ARTIFACT_BUCKET", bucket)
    monkeypatch.setenv("LOKKI_AWS_PREFIX", "team/a")
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", moto_server)
    return bucket


def test_values_are_read_from_the_configured_bucket_and_prefix_only(nest: str, s3: Any, lines: Lines) -> None:
    handler = make_handler(flows.given)
    made = handler({"input": ["goose"], "flow": {"run_id": "r1"}}, None)
    assert made["result_url"] == f"s3://{nest}/team/a/flow/runs/r1/given/output.pkl.gz"
    again = handler({"input": made["result_url"], "flow": {"run_id": "r2"}}, None)
    assert again["result_url"] == f"s3://{nest}/team/a/flow/runs/r2/given/output.pkl.gz"
    lines()

    key = "team/a/flow/runs/r1/given/output.pkl.gz"
    copied = {"CopySource": {"Bucket": nest, "Key": key}}
    s3.create_bucket(Bucket=f"{nest}-other")
    s3.copy_object(Bucket=f"{nest}-other", Key=key, **copied)
    s3.copy_object(Bucket=nest, Key=key.replace("team/a", "team/b"), **copied)
    s3.copy_object(Bucket=nest, Key=key.replace("team/a", "team/ab"), **copied)
    try:
        for other in (made["result_url"].replace(nest, f"{nest}-other"), made["result_url"].replace("/a/", "/b/")):
            for event in ({"input": other, "flow": {}}, {"input": [made["result_url"], other]}, {"result_url": other}):
                with pytest.raises(LocationError, match="values are only ever loaded from s3://"):
                    handler(event, None)
                (line,) = lines()
                assert other in line["error"]
        with pytest.raises(LocationError):
            handler({"result_url": made["result_url"].replace("/a/", "/ab/")}, None)
        with pytest.raises(LocationError):
            handler({"result_url": made["result_url"].replace("/a/", "/a/../b/")}, None)
    finally:
        s3.delete_object(Bucket=f"{nest}-other", Key=key)
        s3.delete_bucket(Bucket=f"{nest}-other")


# What goes wrong, and what is told


def test_a_call_leaves_one_line(call: Call, lines: Lines) -> None:
    call(flows.given, {"input": 7, "flow": FLOW})
    (line,) = lines()
    assert line["duration"] >= 0
    assert line["ts"].endswith("Z")
    told = {"level": "INFO", "event": "step_complete", "step": "given", "run_id": "r1", "status": "success"}
    assert {**line, **told} == line


def test_a_failing_step_leaves_under_its_own_name(call: Call, lines: Lines) -> None:
    put_in_the_way("numbers", KeyError("no perch"))
    error = failure_of(lambda: call(flows.numbers, {"n": 2, "run_id": "r1"}))
    assert type(error).__name__ == "KeyError"
    assert str(error).startswith("KeyError: 'no perch' (in step 'numbers')\nTraceback")
    (line,) = lines()
    assert (line["level"], line["event"], line["step"], line["run_id"]) == ("ERROR", "step_fail", "numbers", "r1")
    assert "meet_trouble" in line["traceback"]


def test_a_failure_that_is_worth_a_retry_leaves_as_such(call: Call) -> None:
    put_in_the_way(3, flows.LostError("gone"), ValueError("wrong"))
    first = failure_of(lambda: call(flows.glide, {"input": 3, "flow": FLOW}))
    assert is_retryable(first)
    assert "LostError: gone" in str(first)
    assert type(failure_of(lambda: call(flows.glide, {"input": 3, "flow": FLOW}))).__name__ == "ValueError"
    assert call(flows.glide, {"input": 3, "flow": FLOW})[1] == 30
