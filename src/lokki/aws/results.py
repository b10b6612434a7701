"""What an execution left in the bucket: the value of the flow, the failures of its steps, how many items a map has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from lokki.aws.client import Aws
from lokki.aws.executions import Execution, moment
from lokki.aws.machines import Machine
from lokki.errors import InvokeError, MissingError
from lokki.frozen import frozen
from lokki.graph import FlowGraph, Map, Node
from lokki.runtime.invoke import Held, picked
from lokki.runtime.parts import LAYOUT, Parts
from lokki.settings import LokkiConfig
from lokki.store.protocol import MANIFEST, OUTPUT, TransientStore, output_key, place_key
from lokki.store.s3 import S3Store

_ENTRY = 400  # bytes: no entry of a manifest is longer
_LARGEST_REPORT = 16 << 20
_ANOTHER = "what is deployed is not this flow file with this configuration"


@frozen
class StepError:
    """A failure: of which step, on which item (`index` is empty outside maps), what, and what helps (`hint`)."""

    step: str
    index: tuple[int, ...] = ()
    item: str = ""
    error: str = ""
    traceback: str = ""
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "step": self.step,
            "index": list(self.index),
            "item": self.item,
            "error": self.error,
            "traceback": self.traceback,
            "hint": self.hint,
        }


def store_of(aws: Aws, machine: Machine, config: LokkiConfig) -> S3Store:
    """Where the executions of a machine leave what they make."""
    bucket = machine.bucket or config.aws.artifact_bucket
    return S3Store(aws.endpoint, bucket=bucket, prefix=config.aws.prefix, region=aws.region, client=aws.client("s3"))


def value_of(graph: FlowGraph, store: S3Store, machine: Machine, execution: Execution) -> Any:
    """The value that a flow returned in an execution that succeeded."""
    output = graph.output
    node = graph.node(output.node)
    run = _run_id(execution)
    _check_place(graph, store, machine, execution, run)
    mending = execution.name if execution.mends or _was_mended(store, machine.name, run, node) else ""
    parts = Parts(store, machine.name, run, mending=mending)
    try:
        at_end = parts.gathered(node, None) if isinstance(node, Map) else parts.outputs(node.id, None)
        held = Held(at_end[0].value)
    except MissingError as error:
        raise InvokeError(
            f"The execution succeeded, but not with the result that this flow file has. {error} Either that was "
            f"removed, or {_ANOTHER}: deploy it again."
        ) from error
    return picked(output, {node.id: held})


def step_errors(store: TransientStore, flow: str, run: str, since: datetime) -> Iterator[StepError]:
    """The failures that steps left behind since then: earlier executions under this run id may have left others."""
    begin = moment(since)
    for key in store.keys(f"{flow}/runs/{run}/errors"):
        told = json.loads(store.blob(key))
        if told["ts"] >= begin:
            yield StepError(told["step"], tuple(told["index"]), told["item"], told["error"], told["traceback"])


def failed_children(store: TransientStore, flow: str, run: str, node: str, since: datetime) -> Iterator[dict[str, Any]]:
    """The children of a map that failed since then, as the map's ResultWriter tells of them."""
    begin = moment(since)
    for key in store.keys(f"{flow}/runs/{run}/{node}/results"):
        if not key.rpartition("/")[2].startswith("FAILED_") or store.span(key, 0, 0)[1] > _LARGEST_REPORT:
            continue
        for each in json.loads(store.blob(key)):
            if str(each.get("StartDate", begin)) >= begin:
                yield each


def items_of(store: TransientStore, flow: str, execution: Execution, manifest: str) -> tuple[int, int]:
    """How many items a map is to run over in this execution, and how many each of its children has."""
    folder = f"{flow}/runs/{execution.run_id}/{manifest.removesuffix(MANIFEST)}"
    if execution.mends:  # its manifest has what was not finished, and may have gaps
        children = [_entry(line) for line in store.blob(folder + MANIFEST).splitlines()]
        counts = [each["count"] for each in children if each]
        return sum(counts), max(counts, default=1)
    return _whole(store, folder)


def items_in(store: TransientStore, folder: str) -> int:
    """How many items the result in a folder has, of which a map is made; none where it did not get so far."""
    try:
        return _whole(store, f"{folder}/")[0]
    except MissingError:
        return 0


def _whole(store: TransientStore, folder: str) -> tuple[int, int]:
    try:
        return _ends(store, folder + LAYOUT)  # it was mended since
    except MissingError:
        return _ends(store, folder + MANIFEST)


def _ends(store: TransientStore, key: str) -> tuple[int, int]:
    """From the first and the last entry, because there may be a million of them."""
    head, size = store.span(key, 0, _ENTRY)
    tail, _ = store.span(key, max(0, size - _ENTRY), size)
    first, last = _entry(head.split(b"\n")[0]), _entry(tail.rstrip().split(b"\n")[-1])
    return last.get("first", 0) + last.get("count", 0), first.get("count", 1)


def _was_mended(store: TransientStore, flow: str, run: str, node: Node) -> bool:
    """Whether the manifest of a map tells no longer of all its children."""
    if not isinstance(node, Map):
        return False
    try:
        store.span(place_key(flow, run, node.over.node, (), LAYOUT), 0, 0)
    except MissingError:
        return False
    return True


def _entry(line: bytes) -> Mapping[str, int]:
    text = line.strip(b"[], \n")
    found: dict[str, int] = json.loads(text) if text else {}
    return found


def _run_id(execution: Execution) -> str:
    told = execution.output.get("run_id") if isinstance(execution.output, dict) else None
    return str(told or execution.run_id)


def _check_place(graph: FlowGraph, store: S3Store, machine: Machine, execution: Execution, run: str) -> None:
    """The deployed flow says where its result lies: if the flow file expects it elsewhere, they are not the same."""
    url = execution.output.get("result_url", "") if isinstance(execution.output, dict) else ""
    expected = store.location(output_key(machine.name, run, graph.output.node))
    if isinstance(graph.node(graph.output.node), Map) or not url.endswith(OUTPUT) or url == expected:
        return
    raise InvokeError(
        f"The execution succeeded, but its result lies at {url} and not at {expected}: {_ANOTHER}. Deploy it again, or "
        "read the result from there."
    )
