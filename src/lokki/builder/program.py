"""`lokki_flow.json`: what a package knows of its flow. The graph with no value in it, and where to import things from.

`lokki.runtime.program` reads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from lokki.builder.resources import Deployment
from lokki.codec import encode
from lokki.decorators import Flow
from lokki.errors import BuildError, StoreError
from lokki.frozen import replace
from lokki.graph import Call, Const, FlowGraph, Input, Map, Node, Step
from lokki.runtime.program import is_planned


def program_of(deployment: Deployment, flow: Flow, module: str, own: Iterable[str] = ()) -> bytes:
    """The program of a flow whose file functions import as `module`; `own` are the files of the project."""
    graph = deployment.graph
    paths = _Paths(flow.fn.__module__, module)
    steps = {call.id: paths.step(call.step) for call in graph.calls()}
    first = None if deployment.starts_alone else graph.nodes[0].id
    planned = is_planned(graph, first) or any(each.role == "extra" for each in flow.parameters)
    if planned:
        _check_storable(graph)
    data = {
        "version": 1,
        "flow": paths.flow(flow),
        "fingerprint": graph.fingerprint,
        "planned": planned,
        "own": sorted({path.partition("/")[0].removesuffix(".py") for path in own} | {module.partition(".")[0]}),
        "steps": {worker.key: steps[id_] for id_, worker in sorted(deployment.workers.items()) if id_ in steps},
        "graph": paths.renamed(replace(_without_values(graph), params={}, remake=None).to_dict()),
    }
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _check_storable(graph: FlowGraph) -> None:
    """The arguments of later steps are stored by the first state, so they must be data."""
    for call in graph.calls():
        named = [*((None, each) for each in call.inputs), *call.kwargs.items()]
        for name, each in named:
            try:
                encode(each.value if isinstance(each, Const) else None)
            except StoreError as error:
                where = f"argument {name!r}" if name else "an argument"
                raise BuildError(f"In {where} of step {call.step.name!r}, {error}", call.step.name) from error


class _Paths:
    """Where functions import things from: the file that was started is `__main__` here and has its own name there."""

    def __init__(self, here: str, there: str) -> None:
        self._here = here
        self._there = there

    def step(self, step: Step) -> str:
        """Where a step is found, checked."""
        module, name = step.fn.__module__, getattr(step.fn, "__qualname__", step.name)
        found = _found(module, name)
        if getattr(found, "fn", found) is not step.fn:
            raise BuildError(
                f"Step {step.name!r} is not what {module}.{name} names, so a deployed function "
                "cannot import it. Define it with def and @step at the top of its module, under a name of its own.",
                step.name,
            )
        for kind in step.retry.exceptions:
            if _found(kind.__module__, kind.__qualname__) is not kind:
                raise BuildError(
                    f"Step {step.name!r} retries on {kind.__name__}, which is not what "
                    f"{kind.__module__}.{kind.__qualname__} names, so a deployed function cannot import it. "
                    "Name an exception class that can be imported.",
                    step.name,
                )
        return f"{self._module(module)}:{name}"

    def flow(self, flow: Flow) -> str:
        """Where the flow is found, checked."""
        module = flow.fn.__module__
        known = vars(sys.modules[module]) if module in sys.modules else {}
        name = next((name for name, each in known.items() if each is flow), None)
        if name is None:
            raise BuildError(
                f"Flow {flow.name!r} is not at the top of its module {module!r}, so a deployed function cannot import "
                "it. Move it there."
            )
        return f"{self._module(module)}:{name}"

    def renamed(self, data: Any) -> Any:
        """A graph's data with the modules named as functions import them."""
        match data:
            case {"kind": "call", "step": step}:
                retry = step["retry"]
                exceptions = [self._renamed(each) for each in retry["exceptions"]]
                moved = {"function": self._renamed(step["function"]), "retry": {**retry, "exceptions": exceptions}}
                return {**data, "step": {**step, **moved}}
            case dict():
                return {name: self.renamed(each) for name, each in data.items()}
            case list():
                return [self.renamed(each) for each in data]
            case _:
                return data

    def _renamed(self, path: str) -> str:
        module, _, qualname = path.partition(":")
        return f"{self._module(module)}:{qualname}"

    def _module(self, name: str) -> str:
        if name == self._here:
            return self._there
        if name == "__main__":
            raise BuildError(
                "A step is defined in the file that was started, but the flow is not: move the step to it."
            )
        return name


def _found(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _without_values(graph: FlowGraph) -> FlowGraph:
    return replace(graph, nodes=tuple(map(_node_without_values, graph.nodes)))


def _node_without_values(node: Node) -> Node:
    if isinstance(node, Map):
        return replace(node, body=_without_values(node.body))
    kwargs = {name: _without_value(each) for name, each in node.kwargs.items()}
    return Call(node.id, node.step, tuple(map(_without_value, node.inputs)), kwargs)


def _without_value(given: Input) -> Input:
    return Const(None) if isinstance(given, Const) else given
