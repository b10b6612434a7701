"""What a package knows of its flow: the shape that it was built with, and how to evaluate the flow for an execution.

The shape is `lokki_flow.json`: the graph without a value in it. The values come from the flow function, which the first
state of an execution calls once, with this execution's parameters. When later steps have arguments of their own they
are kept for them as the execution's *plan*. A flow whose shape depends on its parameters cannot be compiled: what the
flow function returns must have the shape that was built.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from lokki.codec import seal, unseal
from lokki.decorators import Flow
from lokki.errors import GraphValidationError, LokkiError, ParameterError, StoreError
from lokki.frozen import replace
from lokki.graph import Call, FlowGraph, Input, Map, Node, Ref
from lokki.importing import locate
from lokki.jsonable import revive
from lokki.params import RESERVED, bind, coerce_each

FILE = "lokki_flow.json"
_LONGEST_RUN_ID = 200
MENDING = "lokki_redrive"
"""In an execution's input: it goes on with what an earlier one left under the run id."""
_CONSOLE, _HINT = "Comment", "Insert your JSON here"  # what the AWS console suggests as an input

Arguments = Mapping[str, tuple[tuple[Input, ...], Mapping[str, Input]]]


class Plan(NamedTuple):
    """The values of an execution: its parameters, and for each call its arguments."""

    execution: str
    params: Mapping[str, Any]
    arguments: Arguments

    @classmethod
    def read(cls, data: bytes) -> Plan:
        """The plan that `write` made."""
        return cls(*unseal(data))

    def write(self) -> bytes:
        """The plan as it is stored: a gzip of a pickle."""
        held = bytearray()
        try:
            seal(tuple(self), held.extend)
        except StoreError as error:
            raise StoreError(
                f"The arguments that the flow gives to its steps cannot be kept for them: {error}"
            ) from error
        return bytes(held)


class Program(NamedTuple):
    """A built flow.

    Attributes:
        flow: where the flow is defined, as in `birds:birds_flow`.
        steps: for each function the step that it was made for, as in `birds:flap_bird`.
        graph: the shape, with no values in it.
        planned: whether later states need the plan.
        own: the modules of the project, by the names at their top; other code in the package is libraries.
    """

    flow: str
    fingerprint: str
    steps: Mapping[str, str]
    graph: FlowGraph
    planned: bool
    own: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: str) -> Program:
        """The program of the package in a folder; this imports the modules of its steps."""
        with open(os.path.join(folder, FILE), encoding="utf-8") as file:
            data = json.load(file)
        graph, own = FlowGraph.from_dict(data["graph"]), tuple(data["own"])
        return cls(data["flow"], data["fingerprint"], data["steps"], graph, data["planned"], own)

    def evaluate(self, execution: str, given: Mapping[str, Any]) -> Plan:
        """Call the flow function with these parameters."""
        flow = self._flow()
        params = bind(flow.parameters, coerce_each(flow.parameters, given), flow=flow.__name__)
        graph = flow.graph(params)
        if graph.fingerprint != self.fingerprint:
            raise GraphValidationError(
                f"Flow {flow.name!r} has another shape with these parameters than the one that was built: its chain of "
                "steps, its maps or their options differ. Build and deploy it again (with these parameters given to "
                "`build` if they decide the shape)."
            )
        return Plan(execution, graph.params, arguments_of(graph))

    def filled(self, arguments: Arguments) -> FlowGraph:
        """The graph with the values of an execution."""
        return _filled(self.graph, arguments)

    def step(self, function: str) -> Any:
        """The step that a Lambda function was made for."""
        if function not in self.steps:
            raise LokkiError(f"This package has no function {function!r}; it has {', '.join(self.steps)}.")
        return locate(self.steps[function])

    def _flow(self) -> Flow:
        found = locate(self.flow)
        if not isinstance(found, Flow):
            raise LokkiError(f"{self.flow} is not a flow any more. Build and deploy again.")
        found.check_types = False  # they were checked when it was built
        return found


def parameters(event: Mapping[str, Any]) -> tuple[dict[str, Any], str, bool | str]:
    """From the event of the first state: the parameters that were given, the run id, and whether results are reused.

    An execution that mends a run is named in place of a plain yes.
    """
    given = event.get("params")
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ParameterError(
            f'The input of an execution is a JSON object with the parameters of the flow, as in {{"n": 3}}, '
            f"not {type(given).__name__}."
        )
    run_id = given.get("run_id")
    if run_id is not None and not (isinstance(run_id, str) and 0 < len(run_id) <= _LONGEST_RUN_ID):
        shown = repr(run_id)[:_LONGEST_RUN_ID]
        raise ParameterError(f"run_id must be text of at most {_LONGEST_RUN_ID} characters, not {shown}.", "run_id")
    execution, cache = str(event["execution"]), run_id is not None and bool(given.get("cache_enabled", True))
    if run_id is not None and not cache:  # who reuses nothing must not find what another execution left
        run_id = f"{run_id}-{execution}"
    hint = {_CONSOLE} if given.get(_CONSOLE) == _HINT else set()
    own = {name: value for name, value in given.items() if name not in {*RESERVED, MENDING, *hint}}
    reuse = execution if cache and given.get(MENDING) else cache
    return {**revive(json.loads(event.get("defaults", "{}"))), **own}, run_id or execution, reuse


def arguments_of(graph: FlowGraph) -> dict[str, tuple[tuple[Input, ...], Mapping[str, Input]]]:
    """For each call its arguments."""
    return {call.id: (call.inputs, dict(call.kwargs)) for call in graph.calls()}


def is_planned(graph: FlowGraph, first: str | None) -> bool:
    """Whether any state but that of node `first` has arguments besides the results of other steps.

    The first state needs them too when it is tried again: what the flow computes must not change in between.
    """
    for call in graph.calls():
        has_values = any(not isinstance(each, Ref) for each in call.arguments())
        if has_values and (call.id != first or call.step.retry.retries):
            return True
    return False


def _filled(graph: FlowGraph, arguments: Arguments) -> FlowGraph:
    return replace(graph, nodes=tuple(_filled_node(node, arguments) for node in graph.nodes))


def _filled_node(node: Node, arguments: Arguments) -> Node:
    if isinstance(node, Map):
        return replace(node, body=_filled(node.body, arguments))
    if node.id not in arguments:
        raise GraphValidationError(
            f"Step {node.id!r} was not in the flow when this execution started: another build was deployed meanwhile. "
            "Start a new execution."
        )
    inputs, kwargs = arguments[node.id]
    return Call(node.id, node.step, inputs, kwargs)
