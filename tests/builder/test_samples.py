"""A flow with required parameters can be built without values for them."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from lokki import flow, step
from lokki.builder.samples import sampled
from lokki.errors import BuildError, GraphTypeError


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Bird:
    pass


@step
def keep(*values: Any, **named: Any) -> Any:
    return values, named


def test_what_is_given_is_taken_and_only_the_rest_is_made_up() -> None:
    @flow
    def given_flow(count: int, name: str, far: bool = False) -> Any:
        return keep(count, name, far)

    assert sampled(given_flow, {"count": 7}).params == {"count": 7, "name": "sample", "far": False}
    assert sampled(given_flow, {"count": 7, "name": "x", "far": True}).params == {
        "count": 7,
        "name": "x",
        "far": True,
    }


@pytest.mark.parametrize(
    ("hint", "sample"),
    [
        (int, 1),
        (float, 1.0),
        (bool, True),
        (str, "sample"),
        (Any, "sample"),
        (date, date(2000, 1, 1)),
        (datetime, datetime(2000, 1, 1)),
        (Decimal, Decimal(1)),
        (Path, Path("sample")),
        (Size, Size.SMALL),
        (Literal["low", "high"], "low"),
        (Literal[3, 5], 3),
        (int | None, 1),
        (int | Size, Size.SMALL),
        (list[str], ["sample"]),
        (list[Size], [Size.SMALL]),
        (list[dict[str, int]], [{}]),
        (set[int], {1}),
        (tuple[int, ...], (1,)),
        (tuple[int, date, Size], (1, date(2000, 1, 1), Size.SMALL)),
        (dict[str, list[int]], {}),
        (None, None),
    ],
)
def test_a_sample_is_what_the_parameter_takes(hint: Any, sample: Any) -> None:
    def hinted_flow(value: Any) -> Any:
        return keep(value)

    hinted_flow.__annotations__["value"] = hint
    found = sampled(flow(hinted_flow), {}).params["value"]
    assert (found, type(found)) == (sample, type(sample))


def test_a_flow_may_compute_with_its_parameters() -> None:
    @flow
    def computing_flow(begin: str, end: str, days: str, name: str, share: float, places: list[str]) -> Any:
        span = datetime.strptime(end, "%Y-%m-%d") - datetime.strptime(begin, "%Y-%m-%d")
        return keep(span / int(days), math.log(share), name.upper(), places[0].split("-"))

    assert sampled(computing_flow, {}).params == {
        "begin": "2000-01-01",
        "end": "2000-01-01",
        "days": "1",
        "name": "sample",
        "share": 1.0,
        "places": ["sample"],
    }


def test_a_flow_that_no_sample_suits_says_which_flags_it_needs() -> None:
    @flow
    def picky_flow(colour: str, number_of_birds: int, size: str = "1") -> Any:
        return keep({"red": 1, "blue": 2}[colour], number_of_birds)

    with pytest.raises(BuildError) as caught:
        sampled(picky_flow, {})
    assert str(caught.value) == (
        "The flow function 'picky_flow' fails with sample values for its required parameters (with --colour 'sample', "
        "--number-of-birds 1: KeyError: 'sample'). Give it values that it can be built with: build --colour ... "
        "--number-of-birds ...; they become the defaults "
        "of the deployed flow."
    )
    assert isinstance(caught.value.__cause__, KeyError)
    assert sampled(picky_flow, {"colour": "red"}).params["number_of_birds"] == 1


def test_what_no_execution_can_give_is_refused() -> None:
    @flow
    def foreign_flow(bird: Bird) -> Any:
        return keep(bird)

    with pytest.raises(
        BuildError, match=r"Parameter '--bird' takes a Bird, which neither a command line nor the input"
    ):
        sampled(foreign_flow, {})
    assert sampled(foreign_flow, {"bird": Bird()}).nodes


def test_a_mistake_in_the_flow_is_told_as_it_is() -> None:
    @flow
    def wrong_flow(name: str) -> Any:
        return name

    with pytest.raises(GraphTypeError, match="must return a step chain"):
        sampled(wrong_flow, {})
