"""Calls and the execution graph together: what a run leaves there, and results that are used again."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from twingraph import BaseComponent, Workflow, component, pipeline
from twingraph.executions.recorder import open_recorder
from twingraph.executions.repository import Repository
from twingraph.results import Outputs

ran: list[Any] = []


@pytest.fixture
def graph(twingraph_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A graph that everything in the test is recorded in."""
    monkeypatch.setenv("TWINGRAPH_RECORD", "on")
    recorder = open_recorder()
    ran.clear()
    yield recorder.repository()
    recorder.close()


@component(labels={"team": "birds"}, resources={"cpu": 1, "memory": "1G"})
def load(source: str = "here") -> dict[str, Any]:
    return {"rows": [1, 2, 3], "source": source}


@component(cache=True)
def slow_sum(rows: list[int], by: int = 1) -> dict[str, Any]:
    ran.append(rows)
    return {"total": sum(rows) * by, "by": (by,)}


@component(cache={"ttl": 0.001})
def short(x: int) -> int:
    ran.append(x)
    return x


@component
def broken() -> None:
    raise ValueError("boo")


@pipeline(name="nightly", error_handler="continue")
def nightly(source: str = "here") -> Any:
    rows = load(source)["rows"]
    broken()
    return slow_sum(rows)


def test_a_run_is_in_the_graph_when_it_returns(graph: Repository) -> None:
    execution = nightly.run("there")
    found = graph.find(execution.id)
    assert (found.name, found.kind, found.status, found.failed_nodes) == ("nightly", "pipeline", "completed", 1)
    nodes = {each.node_id: each for each in graph.nodes(execution.id)}
    assert {name: each.status for name, each in nodes.items()} == {
        "load": "completed",
        "broken": "failed",
        "slow_sum": "completed",
    }
    assert json.loads(nodes["load"].labels) == {"team": "birds"}
    assert json.loads(nodes["load"].resources) == {"cpu": 1, "memory": "1G"}
    assert "ValueError: boo" in str(nodes["broken"].error)
    assert [(each.parent, each.child) for each in graph.edges(execution.id)] == [
        (nodes["load"].hash, nodes["slow_sum"].hash)
    ]
    assert "def load(source" in graph.source(nodes["load"].code_hash)


def test_a_recorded_result_is_used_again(graph: Repository) -> None:
    first, again = nightly().wait(), nightly().wait()
    assert (first["status"], again["status"]) == ("completed", "cached")
    assert again["outputs"] == first["outputs"] == {"total": 6, "by": (1,)}
    assert again["hash"] != first["hash"]
    assert len(ran) == 1
    assert slow_sum([1, 2, 3], by=2)["total"] == 12
    assert slow_sum([1, 2], by=1)["status"] == "completed"
    assert len(ran) == 3


def test_a_result_that_is_too_old_is_not_used(graph: Repository) -> None:
    @pipeline
    def twice() -> None:
        short(1)
        short(2)
        short(1)

    twice()
    open_recorder().flush()
    assert ran == [1, 2, 1]


def test_results_are_recorded_as_what_they_gave(graph: Repository) -> None:
    @pipeline
    def inner(loaded: Any) -> Any:
        return slow_sum(loaded["rows"])

    @pipeline
    def outer(source: str) -> Any:
        waiting = load.submit(source)  # nobody may wait for it where its execution is being told of
        return {"inner": inner(waiting), "all": [waiting]}

    execution = outer.run("there")
    run = graph.find(execution.id)
    gave = {"total": 6, "by": {"$tuple": [1]}}
    assert json.loads(run.outputs) == {"inner": gave, "all": [{"rows": [1, 2, 3], "source": "there"}]}
    nodes = {each.node_id: each for each in graph.nodes(execution.id)}
    assert (nodes["load"].hash, nodes["inner"].hash) in [(each.parent, each.child) for each in graph.edges(run.id)]
    assert json.loads(nodes["inner"].outputs) == gave
    assert json.loads(graph.find(pipeline(name="one")(load).run().id).outputs) == {
        "rows": [1, 2, 3],
        "source": "here",
    }


class Pair(NamedTuple):
    left: int
    right: list[int]


@dataclass(frozen=True)
class Point:
    x: int
    y: tuple[int, ...] = ()


@dataclass
class Growing:
    x: int

    def __post_init__(self) -> None:
        self.apart = [self.x]


def made_here() -> Any:
    Made = namedtuple("Made", ["left", "right"])  # which cannot be found by its name
    return Made(1, [2])


VALUES: dict[str, Any] = {
    "tuple": Pair(1, [2]),
    "made": made_here(),
    "point": Point(1, (2,)),
    "result": {"result": 3},
    "ordered": OrderedDict(b=1, a=2),
    "filled": defaultdict(list, a=[1]),
    "nothing": {},
    "numbers": {1: "one"},
    "outputs": Outputs(a=1),
}


@component(cache=True)
def given(name: str) -> Any:
    ran.append(name)
    return VALUES[name]


@component
def told(value: Any) -> Any:
    return [type(value).__name__, value]


def test_a_cached_result_is_what_the_call_returned(graph: Repository) -> None:
    for name, value in VALUES.items():
        first, second = (pipeline(name="giving")(given)(name) for _ in range(2))
        assert (first.value, second.status, second.value) == (value, "cached", value)
        assert (first.outputs, repr(first.value)) == (second.outputs, repr(value))
        if name != "filled":  # what fills it is not known from what is in it
            assert told(second)["result"] == [type(value).__name__, value]
    assert ran == list(VALUES)


def test_a_component_that_returns_the_result_of_another_gives_what_that_gave(graph: Repository) -> None:
    @component(cache=True)
    def around(name: str) -> Any:
        return given(name)

    made = [pipeline(name="around")(around)("tuple") for _ in range(2)]
    assert [(each.status, each.value, each["left"]) for each in made] == [
        ("completed", Pair(1, [2]), 1),
        ("cached", Pair(1, [2]), 1),
    ]


def test_what_cannot_be_had_again_from_its_fields_is_run_again(graph: Repository) -> None:
    @dataclass
    class Here:
        x: int

    for value in (Here(1), Growing(1)):
        VALUES["odd"] = value
        made = [pipeline(name="giving")(given)("odd") for _ in range(2)]
        assert [(each.status, each.value) for each in made] == [("completed", value)] * 2
    del VALUES["odd"]


def test_changed_code_is_run_again(graph: Repository) -> None:
    made = {}
    for body in ("x + 1", "x + 1  # the same", "x + 2"):
        names: dict[str, Any] = {"component": component}
        exec(f"@component(cache=True)\ndef grow(x):\n    return {body}\n", names)
        made[body] = pipeline(name="growing")(names["grow"])(1)
    assert [(each.value, each.status) for each in made.values()] == [(2, "completed"), (2, "cached"), (3, "completed")]


def test_what_a_component_uses_may_change_while_the_process_runs(graph: Repository) -> None:
    names: dict[str, Any] = {"component": component}
    exec("def helper(x):\n    return x + 1\n@component(cache=True)\ndef uses(x):\n    return helper(x)\n", names)
    uses = pipeline(name="using")(names["uses"])
    before = [uses(1).value, uses(1).status]
    exec("def helper(x):\n    return x + 100\n", names)
    assert (before, uses(1).value) == ([2, "cached"], 101)


class Times(BaseComponent):
    placement: ClassVar[dict[str, Any]] = {"cache": True}

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.factor = 2

    def execute(self, x: int) -> int:
        return x * self.factor


def test_an_object_that_changed_is_run_again(graph: Repository) -> None:
    times = Times()

    @pipeline
    def multiplied() -> Any:
        return times(x=2)

    assert [multiplied().value, multiplied().status] == [4, "cached"]
    times.factor = 10
    assert multiplied().value == 20


def test_a_closure_that_cannot_be_compared_is_run_each_time(graph: Repository) -> None:
    def counting(rows: int) -> Any:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.execute("create table t (x)")
        connection.executemany("insert into t values (?)", [(each,) for each in range(rows)])

        @component(cache=True)
        def count() -> int:
            with closing(connection):
                return int(connection.execute("select count(*) from t").fetchone()[0])

        return count

    assert [pipeline(name="counting")(counting(rows))().value for rows in (1, 2)] == [1, 2]


def test_a_workflow_is_recorded_under_the_ids_of_its_definition(graph: Repository) -> None:
    wf = Workflow("wf").add_component("first step", load).add_component("sum", slow_sum).connect("first step", "sum")
    execution = wf.run()
    assert [each.node_id for each in graph.nodes(execution.id)] == ["first step", "sum"]
    assert graph.find(execution.id).kind == "workflow"


def test_what_a_program_submits_last_is_done_before_it_ends(twingraph_home: Path, at_home: Path) -> None:
    script = at_home / "script.py"
    script.write_text(
        "import time\nfrom twingraph import component\n"
        "@component\n"
        "def late():\n    time.sleep(0.3)\n    print('done')\n"
        "late.submit()\n"
    )
    assert run(script, at_home) == "done"
    repository = Repository(f"sqlite:///{twingraph_home}/graph.db")
    assert [each.status for each in repository.nodes(repository.find("latest").id)] == ["completed"]
    repository.close()


def run(script: Path, home: Path) -> str:
    """What a program prints that records."""
    environment = {"HOME": str(home / "home"), "PATH": ""}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_calls_outside_of_any_pipeline_are_a_session(twingraph_home: Path, at_home: Path) -> None:
    script = at_home / "script.py"
    script.write_text(
        "from twingraph import component\n"
        "@component\n"
        "def double(x): return 2 * x\n"
        "first = double(2)\n"
        "print(double([first.value], parent_hash=first['hash'])['hash'])\n"
    )
    printed = run(script, at_home)
    repository = Repository(f"sqlite:///{twingraph_home}/graph.db")
    found = repository.find("latest")
    assert (found.kind, found.name, found.status) == ("session", "script.py", "completed")
    nodes = repository.nodes(found.id)
    assert [each.node_id for each in nodes] == ["double", "double#2"]
    assert nodes[1].hash == printed
    assert [(each.parent, each.child) for each in repository.edges(found.id)] == [(nodes[0].hash, nodes[1].hash)]
    repository.close()
