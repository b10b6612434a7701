"""An execution as OpenLineage run events: what Marquez, DataHub and other catalogues of data read.

The execution is a run of a job, and each call a run of its own with that as its parent. What a call gives is a data set
named after the call's hash; its inputs are the data sets of the calls that it follows, in other executions too.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from twingraph.executions.records import WAITING, Execution, Node
from twingraph.graphs.run import RunGraph, instant

NAMESPACE = "twingraph"
_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_ENDS = {"completed": "COMPLETE", "cached": "COMPLETE", "failed": "FAIL", "stopped": "ABORT", "skipped": "ABORT"}
_UUIDS = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # for names that are no domains or addresses


def lines(run: RunGraph) -> str:
    """The events, one JSON object per line, as OpenLineage's file transport writes them."""
    return "".join(json.dumps(event) + "\n" for event in events(run))


def events(run: RunGraph) -> list[dict[str, Any]]:
    """The events in the order of their times."""
    told = [*_execution_events(run.execution)]
    for node in run.nodes:
        told += _node_events(run, node, run.sources.get(node.code_hash, ""))
    return sorted(told, key=lambda event: str(event["eventTime"]))


def _execution_events(execution: Execution) -> Iterator[dict[str, Any]]:
    if execution.started_at is None:
        return
    about = _run(execution.id), _job(execution.name)
    yield _event("START", execution.started_at, *about)
    if execution.status not in WAITING and execution.finished_at is not None:
        yield _event(_ENDS.get(execution.status, "OTHER"), execution.finished_at, *about, **_error(execution))


def _node_events(run: RunGraph, node: Node, source: str) -> Iterator[dict[str, Any]]:
    began = node.started_at or node.submitted_at or node.finished_at
    if began is None:
        return
    job = _job(f"{run.execution.name}.{node.component or node.node_id}")
    if source:
        job["facets"] = {"sourceCode": _facet("1-0-1/SourceCodeJobFacet", language="python", sourceCode=source)}
    parent = _facet("1-0-1/ParentRunFacet", run=_run(run.execution.id), job=_job(run.execution.name))
    inputs = [_dataset(each) for each in run.parents.get(node.hash, ())]
    end = node.finished_at if node.status not in WAITING else None
    for kind, at in (("START", began), (_ENDS.get(node.status, "OTHER"), end)):
        if at is not None:
            facets = {"parent": parent, **(_error(node) if kind == "FAIL" else {})}
            outputs = [_dataset(node.hash)] if kind == "COMPLETE" else []
            yield _event(kind, at, _run(node.hash), job, inputs, outputs, **facets)


def _event(
    kind: str,
    at: float,
    run: dict[str, Any],
    job: dict[str, Any],
    inputs: list[dict[str, Any]] | None = None,
    outputs: list[dict[str, Any]] | None = None,
    **facets: Any,
) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": instant(at),
        "run": {**run, "facets": facets} if facets else run,
        "job": job,
        "inputs": inputs or [],
        "outputs": outputs or [],
        "producer": _producer(),
        "schemaURL": _EVENT,
    }


def _run(identity: str) -> dict[str, Any]:
    return {"runId": str(uuid.uuid5(_UUIDS, identity))}


def _job(name: str) -> dict[str, Any]:
    return {"namespace": NAMESPACE, "name": name}


def _dataset(identity: str) -> dict[str, Any]:
    return {"namespace": NAMESPACE, "name": identity}


def _error(told: Execution | Node) -> dict[str, Any]:
    if not told.error:
        return {}
    more = {"stackTrace": told.trace} if told.trace else {}
    return {
        "errorMessage": _facet("1-0-1/ErrorMessageRunFacet", message=told.error, programmingLanguage="python", **more)
    }


def _facet(kind: str, **told: Any) -> dict[str, Any]:
    name = kind.partition("/")[2]
    return {"_producer": _producer(), "_schemaURL": f"{_SPEC}/facets/{kind}.json#/$defs/{name}", **told}


def _producer() -> str:
    from importlib.metadata import version

    return f"urn:lokki-twingraph:{version('lokki-twingraph')}"
