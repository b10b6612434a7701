"""`twingraph diff`: what differs between two executions, and where that begins."""

from __future__ import annotations

import argparse

from twingraph.commands.shared import Command, asked, graph_options, print_json, print_table
from twingraph.graphs.differences import Difference


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="an execution: its id, a unique beginning of that, or `latest`")
    parser.add_argument("second", metavar="B", help="the other")
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    with asked(options) as graph:
        found = graph.compare(options.first, options.second)
    first = found.first
    if options.json:
        different = [{"node": each.node, "reasons": each.reasons, "origin": each.origin} for each in found.differences]
        print_json({"same": found.same, "first": first and first.node, "differences": different})
        return
    if not found.differences:
        print(f"The same: {_count(found.same)}.")
        return
    print_table(("NODE", "DIFFERS IN", ""), map(_row, found.differences))
    if first is not None:
        same = f"{_count(found.same)} {'is' if found.same == 1 else 'are'} the same"
        print(f"\nIt begins with {first.node}: {' and '.join(first.reasons)}. {same}.")


def _count(nodes: int) -> str:
    return f"{nodes} node{'' if nodes == 1 else 's'}"


def _row(told: Difference) -> tuple[str, ...]:
    return told.node, ", ".join(told.reasons), "begins here" if told.origin else ""


COMMAND = Command(
    "Nodes with the same id are compared by content. What can differ:\n"
    "code     the component, or what it uses\n"
    "inputs   what it was given\n"
    "parents  what it follows: look at those first\n"
    "outputs  although code, inputs and parents are the same\n"
    "status   how it ended",
    ("pipeline-1a2b latest", "pipeline-1a2b pipeline-3c4d --json"),
    _options,
    _run,
)
