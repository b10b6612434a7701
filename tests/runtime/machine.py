"""A small interpreter of the state machines that a build makes, for tests: it runs everything in this process.

It knows the shapes that `lokki.builder.state_machine` writes and refuses any other, and what it stores a state in is
JSON, so that nothing passes that AWS would not pass. What AWS's own engine does beyond that is the simulation's affair.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lokki.builder.program import program_of
from lokki.builder.resources import Deployment, describe
from lokki.builder.state_machine import build_state_machine, text_of
from lokki.config import LokkiConfig
from lokki.decorators import Flow
from lokki.graph import FlowGraph, Map
from lokki.runtime.event import State
from lokki.runtime.handler import Worker
from lokki.runtime.parts import Parts
from lokki.runtime.program import FILE, Program
from lokki.store import MemoryStore, TransientStore

LARGEST_STATE = 262_144


class TaskFailed(Exception):
    """A state failed; `error` is the name under which it did."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error


class Machine:
    """A built flow and a store: `execute` runs an execution of it."""

    def __init__(
        self, graph: FlowGraph, config: LokkiConfig | None = None, store: TransientStore | None = None
    ) -> None:
        self.deployment: Deployment = describe(graph, config or LokkiConfig())
        self.definition: dict[str, Any] = json.loads(
            text_of(build_state_machine(self.deployment)).replace("${FlowName}", graph.name)
        )
        self.store = store or MemoryStore()
        flow = graph.remake
        assert isinstance(flow, Flow)
        with tempfile.TemporaryDirectory() as package:
            (Path(package) / FILE).write_bytes(program_of(self.deployment, flow, flow.fn.__module__))
            program = Program.load(package)
        self.worker = Worker(program, self.store)
        self.calls: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.largest = 0
        self._graph = graph

    def execute(self, name: str = "e1", **given: Any) -> Any:
        """Run an execution with this input; returns the flow's result."""
        answer = self._run(self.definition, {}, {"name": name, "input": given})
        run_id = answer.get("run_id") or given.get("run_id") or name
        last = self._graph.nodes[-1]
        parts = Parts(self.store, self._graph.name, run_id, cache=False)
        made = parts.gathered(last, None) if isinstance(last, Map) else parts.outputs(last.id, None)
        return made[0].value

    def _run(self, machine: Mapping[str, Any], data: Any, execution: Mapping[str, Any]) -> Any:
        name = machine["StartAt"]
        while True:
            state = machine["States"][name]
            self.states[name] += 1
            data = self._state(state, data, execution)
            self.largest = max(self.largest, len(json.dumps(data)))
            assert self.largest < LARGEST_STATE
            if state.get("End"):
                return data
            name = state["Next"]

    def _state(self, state: Mapping[str, Any], data: Any, execution: Mapping[str, Any]) -> Any:
        if state["Type"] == "Map":
            key = _path(state["ItemReader"]["Parameters"]["Key.$"], data, execution)
            for item in json.loads(self.store.blob(key)):
                child = _filled(state["ItemSelector"], data, {**execution, "item": item})
                self._run(state["ItemProcessor"], child, {"name": "a child has another", "input": "input"})
            return data
        result = self._task(state, data, execution)
        if "ResultSelector" in state:
            result = _filled(state["ResultSelector"], result, execution)
        return data if state["ResultPath"] is None else result

    def _task(self, state: Mapping[str, Any], data: Any, execution: Mapping[str, Any]) -> Any:
        retries = next((each["MaxAttempts"] for each in state["Retry"] if "LokkiRetryable" in each["ErrorEquals"]), 0)
        for attempt in range(retries + 1):
            if "Payload" not in state["Parameters"]:
                return self._job(state, data)
            payload = _filled(state["Parameters"]["Payload"], data, {**execution, "attempt": attempt})
            self.calls[payload["lokki"] or "start"] += 1
            try:
                return {"Payload": _through_json(self.worker.answer(_through_json(payload), "test"))}
            except Exception as error:
                if type(error).__name__ != "LokkiRetryable" or attempt == retries:
                    raise TaskFailed(type(error).__name__, str(error)) from error
        raise AssertionError

    def _job(self, state: Mapping[str, Any], data: Any) -> Any:
        (node, _) = state["Parameters"]["ContainerOverrides"]["Environment"]
        self.calls[node["Value"]] += 1
        try:
            return self.worker.run(node["Value"], State.from_dict(_through_json(data)), {}, here=True)
        except Exception as error:
            raise TaskFailed("States.TaskFailed", str(error)) from error


def _filled(template: Mapping[str, Any], data: Any, execution: Mapping[str, Any]) -> dict[str, Any]:
    filled = {}
    for name, value in template.items():
        if name.endswith(".$"):
            filled[name[:-2]] = _path(value, data, execution)
        else:
            filled[name] = value
    return _through_json(filled)


def _path(path: str, data: Any, execution: Mapping[str, Any]) -> Any:
    context = {
        "$$.Execution.Name": "name",
        "$$.Execution.Input": "input",
        "$$.State.RetryCount": "attempt",
        "$$.Map.Item.Value": "item",
    }
    if path in context:
        return execution[context[path]]
    if call := re.fullmatch(r"States\.Format\('([^']*)', (.*)\)", path):
        values = [_path(each, data, execution) for each in call[2].split(", ")]
        return call[1].format(*values)
    assert path.startswith("$")
    for part in re.findall(r"\w+", path):
        data = data[int(part) if part.isdecimal() else part]
    return data


def _through_json(data: dict[str, Any]) -> dict[str, Any]:
    through: dict[str, Any] = json.loads(json.dumps(data))
    return through
