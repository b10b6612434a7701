"""Every form of event that a person or another state machine sends is understood, and nothing is guessed of our own."""

from __future__ import annotations

from typing import Any

import pytest

from lokki.errors import ParameterError
from lokki.runtime.event import FlowContext, LambdaEvent, Slice, State

AT = "s3://nest/birds/runs/r1/flap/output.pkl.gz"
FLOW = {"run_id": "r1", "params": {"n": 3}}
R1 = FlowContext("r1", False, {"n": 3})


@pytest.mark.parametrize(
    ("event", "meant"),
    [
        ({"input": 7, "flow": FLOW}, LambdaEvent(R1, 7, given=True)),
        ({"input": AT, "flow": FLOW}, LambdaEvent(R1, AT, given=True)),
        ({"input": [AT, AT], "flow": FLOW}, LambdaEvent(R1, [AT, AT], given=True)),
        ({"input": None, "flow": FLOW}, LambdaEvent(R1)),
        ({"flow": FLOW}, LambdaEvent(R1)),
        ({"input": 0}, LambdaEvent(input=0, given=True)),
        ({"input": {"run_id": "data"}, "flow": None}, LambdaEvent(input={"run_id": "data"}, given=True)),
        ({"input": 1, "flow": {"cache_enabled": True}, "n": 9}, LambdaEvent(FlowContext("", True), 1, True)),
        ({"result_url": AT, "run_id": "r1", "n": 3}, LambdaEvent(R1, AT, given=True, located=True)),
        ({"result_urls": [AT], "run_id": "r1", "n": 3}, LambdaEvent(R1, [AT], given=True, located=True)),
        ({"item_url": AT}, LambdaEvent(input=AT, given=True, located=True)),
        ({"result_url": None, "run_id": "r1", "n": 3}, LambdaEvent(R1, given=True, located=True)),
        ({"n": 3, "run_id": "r1"}, LambdaEvent(R1)),
        ({"run_id": 17}, LambdaEvent(FlowContext("17"))),
        ({}, LambdaEvent()),
    ],
    ids=str,
)  # fmt: skip
def test_what_an_event_means(event: dict[str, Any], meant: LambdaEvent) -> None:
    assert LambdaEvent.from_dict(event) == meant


def test_an_event_is_written_as_it_is_read() -> None:
    event = LambdaEvent(R1, [1, "owl"], given=True)
    assert event.to_dict() == {
        "input": [1, "owl"],
        "flow": {"run_id": "r1", "cache_enabled": False, "params": {"n": 3}},
    }
    assert LambdaEvent.from_dict(event.to_dict()) == event


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (["goose"], "The event must be a JSON object, not list."),
        ("goose", "The event must be a JSON object, not str."),
        (None, "The event must be a JSON object, not NoneType."),
        ({"flow": "r1"}, "'flow' of an event is a JSON object, not str."),
        ({"flow": {"params": [1]}}, "'params' of an event is a JSON object, not list."),
        ({"result_url": 3}, "'result_url' of an event is the location of a result, or a list of them."),
        ({"result_urls": [AT, 3]}, "'result_urls' of an event is the location of a result, or a list of them."),
    ],
    ids=str,
)
def test_what_is_no_event_is_refused_in_a_sentence(event: Any, sentence: str) -> None:
    with pytest.raises(ParameterError) as caught:
        LambdaEvent.from_dict(event)
    assert str(caught.value) == sentence


def test_a_state_of_the_machine() -> None:
    at = {"first": 3, "count": 2, "start": 40, "end": 90, "index": [7]}
    assert State.from_dict({"run_id": "r1", "cache": False}) == State("r1", False)
    inside = State.from_dict({"run_id": "r1", "cache": True, "at": at, "over": {**at, "index": []}})
    assert inside == State("r1", True, Slice(3, 2, 40, 90, (7,)), Slice(3, 2, 40, 90))
    assert inside.at is not None
    assert (inside.at.place, inside.at.places) == ((7, 3), [(7, 3), (7, 4)])
