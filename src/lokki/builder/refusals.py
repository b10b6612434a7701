"""What cannot be compiled, and why: shapes that no state machine has, and code that no function could import.

A local run does without both, so each refusal says what to write instead.
"""

from __future__ import annotations

from lokki.errors import BuildError
from lokki.graph import ITEM, Call, FlowGraph, Map, Ref


def refuse(graph: FlowGraph) -> None:
    """A BuildError that says why this graph cannot be compiled, if it cannot."""
    if graph.traced:
        raise BuildError(
            f"Flow {graph.name!r} was traced by running it, so its shape may differ the next time: it cannot be "
            "compiled. Write it with @flow and a chain of steps."
        )
    for call in graph.calls():
        _check_importable(call)
    _check_end(graph)
    for node in graph.walk():
        if isinstance(node, Map):
            _check_body(node)
    _check_maps(graph)


def _check_importable(call: Call) -> None:
    fn = call.step.fn
    qualname = getattr(fn, "__qualname__", "")
    if "<locals>" in qualname:
        raise BuildError(
            f"Step {call.step.name!r} is defined inside a function, so a deployed function cannot import it. "
            "Move it to the top of its module.",
            call.step.name,
        )
    for kind in call.step.retry.exceptions:
        if "<locals>" in kind.__qualname__:
            raise BuildError(
                f"Step {call.step.name!r} retries on {kind.__name__}, which is defined inside a function, so a "
                "deployed function cannot import it. Move it to the top of its module.",
                call.step.name,
            )


def _check_end(graph: FlowGraph) -> None:
    """An execution answers where the result of its last state lies, which is the flow's only when nothing picks."""
    if graph.output != Ref(graph.nodes[-1].id):
        raise BuildError(
            f"Flow {graph.name!r} ends in {_told(graph.output)}, which is not the whole result of its last step, so it "
            "cannot be compiled. Add a step that returns what the flow is to give."
        )


def _check_body(node: Map) -> None:
    """The results of a map lie where a step of its body left them."""
    output = node.body.output
    if output.node == ITEM or output.path:
        raise BuildError(
            f"The body of map {node.id!r} ends in {_told(output)}, which no step of it has returned as it is, so it "
            "cannot be compiled. Add a step that returns what the body is to give."
        )


def _told(ref: Ref) -> str:
    whose = "its item" if ref.node == ITEM else repr(ref.node)
    return f"a part of {whose}" if ref.path else whose


def _check_maps(graph: FlowGraph) -> None:
    calls = {node.id for node in graph.nodes if isinstance(node, Call)}
    over: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node, Map):
            continue
        if node.over.node not in calls:
            raise BuildError(f"Map {node.id!r} is not over the result of a step, so it cannot be compiled.")
        if node.over.node in over:
            raise BuildError(f"Two maps run over the result of {node.over.node!r}: call the step once for each.")
        over.add(node.over.node)
        if not node.direct_pass:
            _check_maps(node.body)
