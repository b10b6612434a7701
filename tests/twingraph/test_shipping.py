"""Components that are sent with a workflow: made again in another process, sharing what they shared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lokki import flow, step
from twingraph import BaseComponent, Workflow, component
from twingraph.errors import ComponentError, TravelError
from twingraph.shipping import ship, unship


@dataclass
class Order:
    """What the components hand on."""

    count: int


def _of(count: int) -> Order:
    return Order(count)


@component(
    retry_policy={"max_attempts": 2, "initial_delay": 0.5, "exceptions": ["OSError"]},
    labels={"team": "sky"},
    timeout=4,
    cache={"ttl": 60},
    name="makes",
)
def make(count: int = 3) -> dict[str, Order]:
    return {"order": _of(count)}


@component(platform="docker", docker_image="python:3.11-slim", config={"memory": "1G", "volumes": {"/a": "/b"}})
def check(order: Order) -> bool:
    return isinstance(order, Order)


class Times(BaseComponent):
    """Multiply."""

    def execute(self, value: int) -> dict[str, int]:
        return {"product": value * int(self.config["by"])}


@step
def numbers() -> list[int]:
    return [1, 2, 3]


@step
def inc(number: int) -> int:
    return number + 1


@flow
def counted() -> Any:
    return numbers().map(inc)


THERE = """
import json, sys
from twingraph.registry import made
from twingraph.shipping import unship
there = unship(json.load(sys.stdin))
order = there["make"].fn(7)["order"]
print(json.dumps({
    "count": order.count,
    "same": there["check"].fn(order),
    "product": made(there["Times"], {"by": 3}).fn(value=2),
    "make": [there["make"].name, there["make"].placement.timeout, there["make"].placement.labels["team"],
             there["make"].retry.retries, there["make"].retry.names, there["make"].cache.ttl],
    "check": [there["check"].placement.platform, there["check"].placement.image, there["check"].placement.config],
}))
"""


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    """What is unshipped in this process brings its modules along."""
    before = dict(sys.modules)
    yield
    sys.modules.update(before)


def _there(shipped: dict[str, Any]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", THERE],
        input=json.dumps(shipped),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_components_are_made_again_elsewhere() -> None:
    shipped = ship({"make": make, "check": check, "Times": Times})
    assert _there(shipped) == {
        "count": 7,
        "same": True,
        "product": {"product": 6},
        "make": ["makes", 4, "sky", 1, ["OSError"], 60],
        "check": ["docker", "python:3.11-slim", {"memory": "1G", "volumes": {"/a": "/b"}}],
    }


def test_what_has_no_source_is_for_the_same_python_only() -> None:
    names: dict[str, Any] = {}
    exec("def plain(n):\n    return n + 1\n", names)
    shipped = json.loads(json.dumps(ship({"plain": names["plain"]})))
    assert unship(shipped)["plain"](1) == 2
    told = [{**each, "python": "3.8"} if "python" in each else each for each in shipped["definitions"]]
    with pytest.raises(ComponentError, match=r"only code of Python 3\.8, and this is Python"):
        unship({**shipped, "definitions": told})


def test_the_nodes_of_a_flow_are_sent_too() -> None:
    made = Workflow.from_flow(counted)
    shipped = json.loads(json.dumps(ship({each.id: each.component for each in made.nodes})))
    assert Workflow.from_dict(made.to_dict(), unship(shipped)).run().outputs == {"result": [2, 3, 4]}


def test_a_configuration_that_is_no_data_is_named() -> None:
    odd = component(config={"environment": {}}, resources={"cpu": object()})(_of)
    with pytest.raises(TravelError, match="Component 'odd': its configuration has"):
        ship({"odd": odd})


def test_what_cannot_be_made_here_says_why() -> None:
    shipped = ship({"make": make})
    broken = [{**each, "text": "def make(:"} if each.get("name") == "make" else each for each in shipped["definitions"]]
    with pytest.raises(ComponentError, match="cannot be made on Python"):
        unship({**shipped, "definitions": broken})
