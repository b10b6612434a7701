"""`twingraph lineage`: what led to a node or value, or what it led to, across executions."""

from __future__ import annotations

import argparse

from lokki.commands.shared import at_least_one
from lokki.outcome import complain
from twingraph.commands.shared import Command, asked, graph_options, local_time, print_json, print_table
from twingraph.executions.lineage import DOWN, UP, Lineage, Relative


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "of",
        metavar="HASH|EXECUTION/NODE",
        help="a node, or the hash of a node, of its content or of a value; 4 digits may do",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--up", action="store_true", help="what led to it; this is the default")
    way.add_argument("--down", action="store_true", help="what it led to")
    parser.add_argument("--depth", type=at_least_one, metavar="N", help="at most so many edges away; default: all")
    parser.add_argument(
        "--content", action="store_true", help="begin with all nodes of the same content, of any execution"
    )
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    with asked(options) as graph:
        found = graph.lineage(options.of, DOWN if options.down else UP, options.depth, same_content=options.content)
    if options.json:
        print_json(_document(found))
        return
    print_table(("AWAY", "NODE", "STATUS", "STARTED", "HASH"), map(_row, sorted(found.relatives, key=_place)))
    if not found.complete:
        complain("That is not all: say --depth to see less.")


def _place(told: Relative) -> tuple[int, int]:
    return told.distance, told.node.key if told.node else 0


def _row(told: Relative) -> tuple[str, ...]:
    if told.node is None:
        return str(told.distance), "(not recorded)", "", "", told.hash[:12]
    node = told.node
    name = f"{node.execution_id}/{node.node_id}"
    return str(told.distance), name, node.status, local_time(node.started_at), told.hash[:12]


def _document(found: Lineage) -> dict[str, object]:
    nodes = [
        {
            "hash": each.hash,
            "distance": each.distance,
            "execution_id": each.node and each.node.execution_id,
            "id": each.node and each.node.node_id,
            "component": each.node and each.node.component,
            "status": each.node and each.node.status,
            "content_hash": each.node and each.node.content_hash,
        }
        for each in found.relatives
    ]
    edges = [{"from": each.parent, "to": each.child, "label": "data_flow"} for each in found.edges]
    return {"nodes": nodes, "edges": edges, "complete": found.complete}


COMMAND = Command(
    "A hash is that of a node, of its content (the same code, inputs and parents have the same), or of a value.\n"
    "AWAY counts edges; 0 is where it begins.",
    ("latest/report", "3f9c21 --down", "latest/load --down --content", "latest/report --depth 2 --json"),
    _options,
    _run,
)
