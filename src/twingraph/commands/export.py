"""`twingraph export`: whole executions, with what their calls were given and gave, for other programs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TextIO

from lokki.outcome import complain
from twingraph.commands.shared import Command, asked, database_option, filter_options, filters
from twingraph.errors import GraphError
from twingraph.graphs import openlineage
from twingraph.graphs.document import document, execution_document
from twingraph.graphs.run import RunGraph
from twingraph.questions import ExecutionGraph

_AT_ONCE = 100  # executions that are looked up together


def _line(run: RunGraph) -> str:
    return json.dumps({**execution_document(run.execution), **document(run, values=True)}) + "\n"


_FORMATS: dict[str, Callable[[RunGraph], str]] = {"jsonl": _line, "openlineage": openlineage.lines}


def _options(parser: argparse.ArgumentParser) -> None:
    filter_options(parser)
    parser.add_argument("--format", choices=tuple(_FORMATS), default="jsonl", help="default: jsonl")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file")
    database_option(parser)


def _run(options: argparse.Namespace) -> None:
    form = _FORMATS[options.format]
    count = 0
    with asked(options) as graph, _opened(options.output) as out:
        for each in _wanted(graph, options):
            out.write(form(graph.run(each)))
            count += 1
    complain(f"Wrote {count} execution{'' if count == 1 else 's'}{f' to {options.output}' if options.output else ''}.")


def _wanted(graph: ExecutionGraph, options: argparse.Namespace) -> Iterator[str]:
    """The ids of the executions, oldest first."""
    chosen = {**filters(options), "until": time.time()}  # so that what begins meanwhile moves none of them
    total = graph.executions(**chosen, limit=1).total
    for end in range(total, 0, -_AT_ONCE):
        start = max(0, end - _AT_ONCE)
        page = graph.executions(**chosen, limit=end - start, offset=start)
        yield from (each.id for each in reversed(page.executions))


def _opened(path: str | None) -> nullcontext[TextIO] | TextIO:
    if path is None:
        return nullcontext(sys.stdout)
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise GraphError(f"{path} cannot be written: {error.strerror}.") from error


COMMAND = Command(
    "jsonl        an execution a line, with its nodes, what they were given and gave, and edges\n"
    "openlineage  run events, one per line, for Marquez, DataHub and the like\n\n"
    "Oldest first. For the picture of one execution, see twingraph graph.",
    ("-o all.jsonl", "birds --since 7d --format openlineage", "--label team=sky --status failed"),
    _options,
    _run,
)
