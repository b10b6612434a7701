"""Pipelines and workflows of files, stored as workflows whose origin is their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twingraph.executions import definitions
from twingraph.executions.repository import Repository
from twingraph.server.catalog import Catalog, Served


def store(graph: Repository, catalog: Catalog) -> list[Served]:
    """Store what files define; what is stored already as it is gets no new version.

    What one of the files defined before, and does no more, is removed. What somebody stored through the API stays as it
    is: returns what cannot be had because of that.
    """
    hidden = []
    for each in catalog.workflows:
        about = _about(each)
        found = definitions.found(graph, each.id)
        if found is not None and not found.origin:
            hidden.append(each)
            continue
        told = (each.name, json.dumps(each.definition), json.dumps(about), each.file)
        if found is None or (found.name, found.definition, found.metadata, found.origin) != told:
            definitions.put(
                graph,
                each.id,
                name=each.name,
                definition=each.definition,
                metadata=about,
                tags=about["tags"],
                status="active",
                origin=each.file,
            )
    known = {each.id for each in catalog.workflows}
    for id in definitions.of_files(graph, catalog.files):  # noqa: A001 - it is the workflow's
        if id not in known:
            definitions.removed(graph, id)
    return hidden


def _about(served: Served) -> Mapping[str, Any]:
    about = {"description": served.description, "tags": [], "parameters": dict(served.inputs)}
    return {**about, **served.schedule}
