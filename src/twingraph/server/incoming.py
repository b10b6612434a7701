"""Workflows that are sent to be stored: what their bodies say, and what keeps them from being stored."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from twingraph import wire
from twingraph.definition import OPTIONS
from twingraph.errors import ComponentError
from twingraph.notifications import channels
from twingraph.server.catalog import circle
from twingraph.server.problems import Problem
from twingraph.server.timing import timing
from twingraph.workflows import Workflow


def said_of(body: wire.WorkflowBody) -> dict[str, Any]:
    """What is said about a workflow: in its metadata, else beside it, else inside of its definition."""
    about = {"description": "", "tags": [], **body.definition.metadata}
    if body.tags is not None:
        about["tags"] = body.tags
    about |= body.metadata.model_dump(exclude_unset=True)
    tags = about["tags"] or []
    if not isinstance(tags, list):
        raise Problem(422, "tags_not_valid", f"tags is a list of texts, not {tags!r:.80}.")
    return {**about, "tags": [str(each) for each in tags]}


def check_graph(definition: Mapping[str, Any]) -> None:
    """Refuse a graph that no draft can grow out of."""
    ids = [each["id"] for each in definition["nodes"]]
    if twice := next((each for each in ids if ids.count(each) > 1), None) if len(set(ids)) < len(ids) else None:
        raise Problem(422, "duplicate_node", f"Two nodes have the id {twice!r}; ids are unique.")
    if found := circle(ids, [(each["source"], each["target"]) for each in definition["edges"]]):
        told = ", ".join(found[:10])
        raise Problem(422, "circle", f"Nodes {told} wait for each other in a circle.", "Remove one of the edges.")


def check_metadata(about: Mapping[str, Any], workflow: str) -> None:
    """Refuse what would fail only when the workflow starts by itself, or when it fails and somebody is to be told."""
    try:
        timing(about, workflow)
    except ComponentError as error:
        raise Problem(422, "schedule_not_valid", str(error)) from None
    inputs = about.get("inputs")
    if inputs is not None and not isinstance(inputs, Mapping):
        detail = f"Workflow {workflow!r}: inputs of its metadata is an object of values by name, not {inputs!r:.80}."
        raise Problem(422, "inputs_not_valid", detail)
    try:
        channels(about.get("notifications"), f"Workflow {workflow!r}")
    except ComponentError as error:
        raise Problem(422, "notifications_not_valid", str(error)) from None


def misgiven(about: Mapping[str, Any], workflow: str) -> list[str]:
    """What of the metadata would let executions fail, a sentence for the first of it: a draft may have it."""
    told = {name: about[name] for name in OPTIONS if about.get(name) is not None}
    try:
        Workflow(workflow, **told)
    except (ComponentError, TypeError, ValueError) as error:
        return [str(error)]
    return []


def slug(name: str) -> str:
    """An id for a workflow of this name."""
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')[:40] or 'workflow'}-{secrets.token_hex(4)}"
