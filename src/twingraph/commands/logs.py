"""`twingraph logs`: what the components of an execution printed and logged."""

from __future__ import annotations

import argparse
import sys
from threading import Event

from lokki.errors import nearest
from twingraph.commands.shared import Command, asked, graph_options, local_time, print_json
from twingraph.errors import GraphError
from twingraph.executions.interrupted import mark_interrupted
from twingraph.executions.records import LEVELS, WAITING, LogLine
from twingraph.graphs.run import instant
from twingraph.questions import ExecutionGraph

_PAUSE = 0.25


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("execution", metavar="EXECUTION", help="its id, a unique beginning of that, or `latest`")
    parser.add_argument(
        "--component", default="", metavar="NAME", help="only lines of this component, or of the node with this id"
    )
    parser.add_argument("--level", choices=tuple(LEVELS), default="debug", help="the least level; default: debug")
    parser.add_argument("--follow", action="store_true", help="go on until the execution is over")
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    with asked(options) as graph:
        run, after, pause = graph.execution(options.execution).id, 0, Event()
        while True:
            over = not options.follow or graph.execution(run).status not in WAITING  # before the last look
            while lines := graph.logs(run, component=options.component, level=options.level, after=after):
                for line in lines:
                    _print(line, as_json=options.json)
                after = lines[-1].key
            if over:
                if options.component and not after:
                    _known(graph, run, options.component)
                return
            sys.stdout.flush()
            pause.wait(_PAUSE)
            mark_interrupted(graph.repository)


def _known(graph: ExecutionGraph, run: str, named: str) -> None:
    """A component that logged nothing is one thing, a name that is none another."""
    names = {name for each in graph.repository.nodes(run) for name in (each.node_id, each.component)}
    if named not in names:
        raise GraphError(f"Execution {run} has no component and no node {named!r}{nearest(named, names) or '.'}")


def _print(line: LogLine, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "timestamp": instant(line.at),
                "level": line.level,
                "component_id": line.node_id,
                "message": line.message,
                "attempt": line.attempt,
            }
        )
    else:
        print(f"{local_time(line.at)} {line.level.upper():7} {line.node_id}: {line.message}")


COMMAND = Command(
    "Oldest first. With --json, one object per line.",
    ("latest", "latest --component load --level warning", "latest --follow"),
    _options,
    _run,
)
