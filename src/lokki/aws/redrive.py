"""Mending a run: a new execution that keeps every finished result of an earlier one and runs what failed or is missing.

It runs the code that is deployed now, and its maps may be cut into children of another size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lokki.aws.client import Aws
from lokki.aws.executions import Execution, find_execution
from lokki.aws.machines import Machine
from lokki.aws.mending import checked, forget, map_of, told
from lokki.aws.results import store_of
from lokki.aws.start import start
from lokki.errors import InvokeError, ParameterError
from lokki.graph import FlowGraph
from lokki.runtime.program import MENDING
from lokki.settings import LokkiConfig

_NOT_PARAMETERS = ("run_id", "cache_enabled", MENDING)


def redrive(
    aws: Aws,
    config: LokkiConfig,
    machine: Machine,
    graph: FlowGraph,
    wanted: str,
    fits: Callable[[Mapping[str, Any]], object],
    *,
    items: Sequence[range] = (),
    step: str | None = None,
) -> Execution:
    """Start an execution that mends a run, with the parameters that the run had.

    Args:
        aws: the account and region.
        config: the configuration.
        machine: the deployed flow.
        graph: the flow as it is now.
        wanted: the run: the name of an execution, or a run id.
        fits: raises when the flow cannot take these parameters any more.
        items: items of a map that are to run again although they finished.
        step: a step of that map, where the flow has several maps.
    """
    earlier = find_execution(aws, machine, wanted, InvokeError)
    if not earlier.over:
        raise InvokeError(f"Run {earlier.name!r} is still running: wait until it is over, or stop it.")
    if earlier.status == "SUCCEEDED" and not items:
        raise InvokeError(
            f"Run {earlier.name!r} succeeded, so nothing of it is missing. To run items again although they finished, "
            "name them with --items."
        )
    run = earlier.run_id
    given = earlier.given if isinstance(earlier.given, dict) else {}
    params = {name: value for name, value in given.items() if name not in _NOT_PARAMETERS}
    try:
        fits(params)
    except ParameterError as error:
        raise InvokeError(
            f"Run {earlier.name!r} was given parameters that the flow does not go with any more: {error}. "
            "Invoke it anew."
        ) from error
    if items:
        node = map_of(graph, items, step)
        store = store_of(aws, machine, config)
        bucket, prefix = store.bucket, store.prefix
        wanted_items = checked(store, graph.name, run, node, items)
        gone = forget(aws.client("s3"), bucket, prefix, store, graph, run, node, wanted_items)
        if not gone and earlier.status == "SUCCEEDED":
            raise InvokeError(f"Run {run!r} has no results of items {told(items)} of {node.label!r}.")
    try:
        return start(aws, machine, {**params, MENDING: True}, run)
    except InvokeError as error:
        if not items:
            raise
        raise InvokeError(
            f"{error} The results of these items were removed already: to have them made again, invoke the flow with "
            f"--run-id {run} and the parameters of the run."
        ) from error
