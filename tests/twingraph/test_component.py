"""`@component`: what a call gives, what its arguments do, how it is tried again, and how long it may take."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import pickle
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
import pytest

from tests.twingraph.conftest import Heard
from twingraph import (
    BaseComponent,
    ComponentError,
    ComponentTimeoutError,
    ComponentTypeError,
    TransientError,
    component,
    pipeline,
)
from twingraph.events import NodeLogged, NodeRetried, NodeStarted
from twingraph.results import Result


class Pair(NamedTuple):
    left: int
    right: str


@dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        (Pair(1, "b"), {"left": 1, "right": "b"}),
        ({"a": 1, "b": None}, {"a": 1, "b": None}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (3.5, {"result": 3.5}),
        ([1, 2], {"result": [1, 2]}),
        (None, {"result": None}),
        ({1: 2}, {"result": {1: 2}}),
        ((1, 2), {"result": (1, 2)}),
    ],
)
def test_what_a_function_returns_is_told_by_name(returned: Any, outputs: dict[str, Any]) -> None:
    result = component(name="give")(lambda: returned)()
    assert result["outputs"] == outputs
    assert result.value is returned


def test_a_result_is_a_mapping_for_everyone() -> None:
    @component
    def count(data: list[int]) -> dict[str, int]:
        return {"count": len(data)}

    result = count([1, 2])
    assert result["count"] == result["outputs"]["count"] == result.outputs.count == result.get("count") == 2
    assert len(result["hash"]) == 64
    assert set(result) == {"outputs", "hash", "status"}
    assert json.loads(json.dumps(result)) == dict(result) == result == {**result}
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert again.value == {"count": 2}
    with pytest.raises(KeyError, match=r"Component 'count' gave no output 'cuont'; did you mean 'count'\?"):
        result["cuont"]
    with pytest.raises(AttributeError, match="There is no output 'other'; it gave count"):
        _ = result.outputs.other


def test_equal_calls_are_different_nodes() -> None:
    @component
    def same() -> int:
        return 1

    assert len({same()["hash"] for _ in range(50)}) == 50


def test_arguments_are_checked_as_in_python() -> None:
    @component
    def take(first: int, second: int = 2, *, third: int = 3) -> int:
        """Adds up."""
        return first + second + third

    assert take.__name__ == "take"
    assert take.__doc__ == "Adds up."
    assert take(1).value == 6
    assert take(1, third=5).value == 8
    with pytest.raises(TypeError, match=r"take\(\) missing a required argument: 'first'"):
        take()
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'secnod'; did you mean 'second'\?"):
        take(1, secnod=2)
    assert take.fn(1) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"platform": "dokcer"}, "no platform 'dokcer'; did you mean 'docker'?"),
        ({"docker_image": 3}, "docker_image takes the name of an image"),
        ({"config": "2G"}, "config takes a dict"),
        ({"timeout": "long"}, "timeout takes seconds"),
        ({"timeout": -1}, "timeout is 0 seconds"),
        ({"resources": []}, "resources takes a dict"),
        ({"environment": {"A": None}}, "environment variable 'A' takes a text, not None"),
        ({"environment": {"A=B": "x"}}, "environment variable 'A=B' cannot be set"),
        ({"retry_policy": {"max_attempts": 0}}, "1 or more"),
        ({"retry_policy": {"attempts": 2}}, "no key 'attempts'; did you mean 'max_attempts'?"),
        ({"retry_policy": {"backoff": "wild"}}, "exponential, linear, fixed"),
        ({"retry_policy": {"exceptions": [3]}}, "names such as 'TimeoutError'"),
        ({"retry_policy": {"initial_delay": -1}}, "initial_delay must be 0 or more"),
        ({"cache": {"tll": 3}}, "cache takes True"),
        ({"name": "two words"}, "needs a name without spaces"),
    ],
)
def test_a_mistake_is_told_where_it_is_made(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ComponentError, match=message.replace("?", r"\?")):
        component(**wrong)(lambda: None)
    assert issubclass(ComponentTypeError, TypeError)
    assert issubclass(ComponentError, ValueError)


def test_what_is_unknown_is_told_by_python() -> None:
    with pytest.raises(TypeError, match="docker_id"):
        component(docker_id="x")  # type: ignore[call-overload]
    with pytest.warns(UserWarning, match="knows no config key 'memroy'"):
        component(config={"memroy": "2G"})(lambda: None)
    with pytest.warns(UserWarning, match="resources knows no key 'memroy'; did you mean 'memory'?"):
        component(resources={"memroy": "2G"})(lambda: None)
    with pytest.raises(ComponentTypeError, match="Python does not say what <class 'dict'> takes"):
        component(dict)


def test_the_first_example_of_the_documentation_runs_as_printed() -> None:
    code = """
from twingraph import component
from typing import NamedTuple

@component(
    config={
        'timeout': 300
    }
)
def process_data(data: list, threshold: float = 0.5) -> NamedTuple:
    \"\"\"Process input data with configurable threshold.\"\"\"
    Output = namedtuple('Output', ['filtered', 'count'])
    filtered = [x for x in data if x > threshold]
    return Output(filtered=filtered, count=len(filtered))
"""
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["process_data"]([0.1, 0.7, 0.9])["outputs"] == {"filtered": [0.7, 0.9], "count": 2}


def test_async_functions_and_generators_give_values() -> None:
    @component
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @component
    def several(n: int) -> Iterator[int]:
        yield from range(n)

    @component
    async def asked(n: int) -> AsyncIterator[int]:
        for each in range(n):
            await asyncio.sleep(0)
            yield each

    assert later(1).value == 2
    assert several(3).value == asked(3).value == [0, 1, 2]


@component
def shared(x: int) -> int:
    return x + 1


@pipeline
def sharing(x: int) -> Any:
    return shared(x)["result"]


class Adding(BaseComponent):
    def execute(self, x: int) -> int:
        return x + int(self.config["by"])


def test_components_and_pipelines_of_a_module_are_pickled_by_their_names() -> None:
    for each in (shared, sharing):
        assert pickle.loads(pickle.dumps(each)) is each
    placed = component(timeout=5)(Adding({"by": 2}))
    assert pickle.loads(pickle.dumps(placed))(x=1).value == 3
    assert pickle.loads(pickle.dumps(placed)).placement == placed.placement
    by_value = cloudpickle.dumps((component(lambda x: x + 2), pipeline(name="it")(lambda x: x + 3)))
    adds, runs = pickle.loads(by_value)
    assert (adds(1).value, runs(1)) == (3, 4)
    with pytest.raises((pickle.PicklingError, AttributeError), match="local"):  # which of them is up to the Python
        pickle.dumps(component(lambda: 1))


def test_a_component_is_tried_again_for_the_exceptions_that_are_named(heard: Heard) -> None:
    class Unlikely(TransientError):
        pass

    failures: list[BaseException] = [Unlikely("one"), TimeoutError("two")]
    policy = {"max_attempts": 3, "initial_delay": 0, "exceptions": ["TransientError", TimeoutError]}

    @component(retry_policy=policy)
    def flaky() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    @component(retry_policy=policy)
    def wrong() -> None:
        raise ValueError("not named")

    @pipeline(error_handler="continue")
    def both() -> Any:
        return flaky(), wrong()

    good, bad = both.run(listen=heard).result()
    assert good.value == "done"
    assert isinstance(bad.error, ValueError)
    assert [(each.node, each.attempt, each.error) for each in heard.of(NodeRetried)] == [
        ("flaky", 1, "Unlikely: one"),
        ("flaky", 2, "TimeoutError: two"),
    ]


@pytest.mark.parametrize(
    ("growth", "waits"), [("exponential", [1, 2, 4, 5]), ("linear", [1, 2, 3, 4]), ("fixed", [1, 1, 1, 1])]
)
def test_waits_grow_as_the_policy_says(growth: str, waits: list[float]) -> None:
    flaky = component(retry_policy={"backoff": growth, "max_delay": 5})(lambda: None)
    assert [flaky.retry.wait(attempt) for attempt in range(4)] == waits


def test_an_error_reaches_the_caller_as_it_was_raised() -> None:
    class Special(Exception):
        pass

    @component
    def fail() -> None:
        raise Special("why", 3)

    with pytest.raises(Special) as caught:
        fail()
    assert caught.value.args == ("why", 3)
    frames = [each.name for each in caught.traceback]
    assert frames[-1] == "fail"


def test_the_caller_of_a_component_that_takes_too_long_is_released() -> None:
    finish = threading.Event()

    @component(timeout=0.05)
    def slow() -> None:
        finish.wait(30)

    with pytest.raises(ComponentTimeoutError, match=r"'slow' took longer than its timeout of 0\.05 s.*thread.*goes on"):
        slow()
    finish.set()
    assert issubclass(ComponentTimeoutError, TimeoutError)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({}, 300),
        ({"config": {"timeout": 7}}, 7),
        ({"config": {"timeout": 7}, "timeout": 9}, 9),
        ({"platform": "lambda", "config": {"timeout": 900, "function_name": "f"}}, 930),
    ],
)
def test_the_timeout_comes_from_the_keyword_then_the_config(told: dict[str, Any], seconds: float) -> None:
    assert component(**told)(lambda: None).placement.timeout == seconds


def test_a_call_has_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "outside")
    together = threading.Barrier(2, timeout=30)

    def look(name: str) -> tuple[str | None, str, bool, dict[str, str]]:
        together.wait()
        seen = dict(os.environ)
        os.environ["OUTER"] = f"changed by {name}"
        together.wait()
        return os.environ.get("OWN"), os.environ["OUTER"], "OWN" in os.environ, {"OWN": seen["OWN"]}

    first = component(name="first", config={"environment": {"OWN": "1", "OUTER": "x"}}, environment={"OUTER": "y"})(
        look
    )
    second = component(name="second", environment={"OWN": "2", "OUTER": "z"})(look)
    one, two = first.submit("first"), second.submit("second")
    assert one.value == ("1", "changed by first", True, {"OWN": "1"})
    assert two.value == ("2", "changed by second", True, {"OWN": "2"})
    assert "OWN" not in os.environ
    assert os.environ["OUTER"] == "outside"


def test_what_a_component_prints_and_logs_is_told_and_still_printed(
    heard: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    @component
    def talk() -> None:
        sys.stdout.write("to all\n")
        sys.stdout.write("half")
        logging.getLogger("talker").warning("careful")

    @pipeline
    def talking() -> None:
        talk()

    talking.run(listen=heard)
    assert [(each.level, each.message) for each in heard.of(NodeLogged)] == [
        ("info", "to all"),
        ("warning", "careful"),
        ("info", "half"),
    ]
    assert capsys.readouterr().out == "to all\nhalf"


def test_a_component_can_be_started_for_many_items() -> None:
    together = threading.Barrier(4, timeout=30)

    @component
    def meet(x: int, add: int) -> int:
        together.wait()
        return x + add

    assert [each.value for each in meet.map(range(4), add=10)] == [10, 11, 12, 13]


def test_a_method_can_be_a_component() -> None:
    class Scale:
        def __init__(self, by: int) -> None:
            self.by = by

        @component
        def times(self, x: int) -> int:
            return self.by * x

    assert Scale(3).times(4).value == 12


def test_a_component_that_calls_another_is_the_node_around_it(heard: Heard) -> None:
    @component
    def inner(x: int) -> int:
        return x + 1

    @component
    def outer(x: int) -> int:
        made: int = inner(x).value
        return made * 2

    @pipeline(max_parallel=1)
    def both() -> Result:
        return outer(1)

    assert both.run(listen=heard).result().value == 4
    assert [(each.node, each.within) for each in heard.of(NodeStarted)] == [("outer", ""), ("inner", "outer")]


class CustomProcessor(BaseComponent):
    """As in the documentation."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.threshold = config.get("threshold", 0.5)

    def validate_inputs(self, **kwargs: Any) -> None:
        """Validate input parameters."""
        if "data" not in kwargs:
            raise ValueError("Missing required input: data")

    def execute(self, data: list[float], **kwargs: Any) -> dict[str, Any]:
        """Process the data."""
        filtered = [x for x in data if x > self.threshold]
        return {"filtered": filtered, "count": len(filtered), "threshold": self.threshold}


def test_a_class_is_a_component() -> None:
    processor = CustomProcessor()
    assert processor(data=[0.2, 0.9])["outputs"] == {"filtered": [0.9], "count": 1, "threshold": 0.5}
    assert CustomProcessor({"threshold": 0.1})([0.2, 0.9], parent_hash="elsewhere")["count"] == 2
    with pytest.raises(ValueError, match="Missing required input: data"):
        processor()
    assert component(name="kept", timeout=5)(processor)(data=[1])["count"] == 1
    with pytest.raises(NotImplementedError, match="give it a method execute"):
        BaseComponent()()


def test_an_object_that_was_called_can_go() -> None:
    class Kept(BaseComponent):
        def execute(self) -> int:
            return 1

    kept = Kept()
    assert kept().value == 1
    gone = weakref.ref(kept)
    del kept
    gc.collect()
    assert gone() is None
