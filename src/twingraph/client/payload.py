"""A workflow as it is sent: its definition, and the functions of one's own script that it calls for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lokki.decorators import Flow
from lokki.graph import FlowGraph
from twingraph import wire
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.registry import find
from twingraph.wiring import called
from twingraph.workflows import Workflow


def body_of(thing: Any) -> dict[str, Any]:
    """What the server is sent of a `Workflow`, a flow of lokki, a definition, or a workflow that a server told of."""
    match thing:
        case wire.Workflow():
            told = thing.definition.model_dump(exclude_none=True)
            about = {**told.get("metadata", {}), "tags": thing.tags}
            return {"name": thing.name, "definition": told, "metadata": about, "status": thing.status}
        case Mapping():
            return dict(thing)
        case Workflow():
            workflow = thing
        case Flow() | FlowGraph():
            workflow = Workflow.from_flow(thing)
        case _:
            raise ComponentTypeError(
                f"A Workflow, a flow or a definition can be sent to a server, not {thing!r:.60}; what a pipeline does "
                "is found out as it runs, so its file is served: twingraph serve FILE."
            )
    code = shipped(workflow)
    return {**workflow.to_dict(), **({"code": code} if code else {})}


def shipped(workflow: Workflow) -> dict[str, Any] | None:
    """The functions and classes that a workflow calls for, as they are sent; None where the server has all of them."""
    things: dict[str, Any] = {}
    for name, thing in _called_for(workflow):
        if things.setdefault(name, thing) is not thing:
            raise ComponentError(
                f"Workflow {workflow.name!r} calls for two components named {name!r}: give one of them another name "
                "with @component(name=...)."
            )
    things = {name: thing for name, thing in things.items() if not _built_in(thing)}
    if not things:
        return None
    from twingraph.shipping import ship

    return ship(things)


def _called_for(workflow: Workflow) -> Iterator[tuple[str, Any]]:
    for node in workflow.nodes:
        for each in node.each or (node.component,):
            thing = find(each) if isinstance(each, str) else each
            if thing is not None:
                yield called(each) or node.id, thing


def _built_in(thing: Any) -> bool:
    """Whether every server has it; one that is placed somewhere is another."""
    return getattr(thing, "instance", None) is None and (getattr(thing, "__module__", "") or "").startswith(
        "twingraph."
    )
