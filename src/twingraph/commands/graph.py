"""`twingraph graph`: an execution as a tree, a picture, or a document for other programs."""

from __future__ import annotations

import argparse
from importlib import import_module

from lokki.outcome import complain
from twingraph.commands.shared import Command, asked, graph_options, unicode_out
from twingraph.errors import GraphError
from twingraph.graphs.run import RunGraph
from twingraph.graphs.tree import in_ascii

_FORMATS = {
    "tree": "tree:tree",
    "json": "document:text",
    "mermaid": "mermaid:mermaid",
    "svg": "picture:svg",
    "graphml": "graphml:graphml",
    "openlineage": "openlineage:lines",
}


def _written(run: RunGraph, form: str) -> str:
    module, _, function = _FORMATS[form].partition(":")
    text: str = getattr(import_module(f"twingraph.graphs.{module}"), function)(run)
    return text if text.endswith("\n") else text + "\n"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("execution", metavar="EXECUTION", help="its id, a unique beginning of that, or `latest`")
    parser.add_argument("--format", choices=tuple(_FORMATS), help="default: tree")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file")
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    chosen = options.format or ("json" if options.json else "tree")
    with asked(options) as graph:
        run = graph.run(options.execution)
    text = _written(run, chosen)
    if options.output is None:
        if chosen == "tree" and not unicode_out():
            text = in_ascii(text)
        print(text, end="")
        return
    try:
        with open(options.output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise GraphError(f"{options.output} cannot be written: {error.strerror}.") from error
    complain(f"Wrote {options.output}.")


COMMAND = Command(
    "tree         lines for a terminal\n"
    "json         nodes and edges, as GET /api/graph/execution/ID answers; --json is the same\n"
    "mermaid      a flowchart for Markdown\n"
    "svg          a picture\n"
    "graphml      for Gephi, yEd, NetworkX\n"
    "openlineage  run events, one per line, for Marquez, DataHub and the like",
    ("latest", "latest --format svg -o run.svg", "pipeline-1a2b --format openlineage"),
    _options,
    _run,
)
