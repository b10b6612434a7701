"""`twingraph show`: one execution, or one node of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from twingraph.commands.shared import Command, asked, graph_options, local_time, print_json, unicode_out
from twingraph.executions.records import Execution, Node, parsed
from twingraph.executions.snapshot import readable
from twingraph.graphs.document import execution_document, node_document
from twingraph.graphs.run import RunGraph, instant, took
from twingraph.graphs.tree import in_ascii, tree
from twingraph.questions import ExecutionGraph

_LONGEST = 2_000


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("execution", metavar="EXECUTION", help="its id, a unique beginning of that, or `latest`")
    parser.add_argument("node", metavar="NODE", nargs="?", help="the node to show, by its id")
    parser.add_argument("--source", action="store_true", help="of a node: print its code as it ran, and nothing else")
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    with asked(options) as graph:
        run = graph.run(options.execution)
        if options.node is None:
            _show_execution(run, as_json=options.json)
            return
        node = graph.repository.node(run.execution.id, options.node)
        if options.source:
            print(graph.repository.source(node.code_hash).rstrip())
        elif options.json:
            print_json(_node_document(graph, run, node))
        else:
            print("\n".join(_node_lines(graph, run, node)))


def _show_execution(run: RunGraph, *, as_json: bool) -> None:
    told = run.execution
    if as_json:
        print_json(
            {
                **execution_document(told),
                "config": readable(told.config),
                "nodes": [node_document(node, run.outside(node)) for node in run.nodes],
            }
        )
        return
    print(tree(run) if unicode_out() else in_ascii(tree(run)))
    print("\n".join(["", *_execution_lines(told)]))


def _execution_lines(told: Execution) -> Iterator[str]:
    yield f"started   {local_time(told.started_at)}"
    if told.finished_at is not None:
        yield f"finished  {local_time(told.finished_at)}"
    yield f"by        {told.user}@{told.host}, process {told.pid}, Python {told.python}"
    if told.git_commit:
        changed = ", with changes" if told.git_dirty else ""
        yield f"commit    {told.git_commit[:12]} on {told.git_branch}{changed}"
    yield from _values("inputs", readable(told.inputs))
    yield from _values("outputs", readable(told.outputs))
    yield from _error(told.error, told.trace)


def _node_lines(graph: ExecutionGraph, run: RunGraph, node: Node) -> Iterator[str]:
    yield f"{node.node_id}  {node.status}" + (f" in {took(node.duration)}" if node.duration is not None else "")
    yield ""
    yield f"component {node.component} on {node.platform}"
    yield f"hash      {node.hash}"
    yield f"content   {node.content_hash}"
    if node.started_at is not None:
        yield f"started   {local_time(node.started_at)}"
    ids = run.ids
    follows = set(run.parents.get(node.hash, ()))
    parents = [ids[each] for each in ids if each in follows] + sorted(follows - ids.keys())
    if parents:
        yield f"after     {', '.join(parents)}"
    for name, values in (("labels", parsed(node.labels)), ("used", parsed(node.usage))):
        if values:
            yield f"{name:9} {', '.join(f'{key}={_short(value)}' for key, value in values.items())}"
    for attempt in graph.repository.attempts(node.execution_id, node.node_id):
        yield f"attempt   {attempt.attempt + 1}: {attempt.error}"
    yield from _values("inputs", readable(node.inputs))
    yield from _values("outputs", readable(node.outputs))
    yield from _error(node.error, node.trace)


def _node_document(graph: ExecutionGraph, run: RunGraph, node: Node) -> dict[str, Any]:
    tried = graph.repository.attempts(node.execution_id, node.node_id)
    return {
        **node_document(node, run.outside(node), values=True),
        "traceback": node.trace,
        "retries": [{**each._asdict(), "at": instant(each.at)} for each in tried],
        "source": graph.repository.source(node.code_hash),
    }


def _values(name: str, values: dict[str, Any]) -> Iterator[str]:
    for at, (key, value) in enumerate(values.items()):
        text = json.dumps(value, ensure_ascii=not unicode_out())
        yield f"{name if not at else '':9} {key} = {text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...'}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def _error(error: str, trace: str) -> Iterator[str]:
    if error:
        yield f"error     {error}"
    if trace:
        yield ""
        yield trace.rstrip()


COMMAND = Command(
    "An execution is shown as a tree with what is known of it; a node with its inputs, outputs, attempts and error.\n"
    "Values that are secret are shown as ***, large ones by their type and size.",
    ("latest", "pipeline-1a2b", "latest load", "latest load --source", "latest --json"),
    _options,
    _run,
)
