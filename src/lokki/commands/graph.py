"""`graph`: the flow's steps and maps."""

from __future__ import annotations

import argparse

from lokki.commands.shared import Command, given, made, option
from lokki.decorators import Flow


def _graph_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    option(parser, flow, "--format", choices=("tree", "mermaid", "json", "svg"), default="tree", help="default: tree")


def _graph(flow: Flow, _spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    import json

    from lokki.drawing import svg, tree

    graph = made(flow, given(flow, rest, options))
    match getattr(options, "format", "tree"):
        case "mermaid":
            text = graph.to_mermaid()
        case "json":
            text = json.dumps(graph.to_dict(), indent=2)
        case "svg":
            text = svg(graph)
        case _:
            text = tree(graph)
    print(text.rstrip("\n"))


COMMAND = Command(
    "print the flow's steps and maps",
    "Nothing is run: only the flow function is called.",
    ("", "--format mermaid", "--format svg > flow.svg"),
    _graph_options,
    _graph,
)
