"""`twingraph stats`: how components do."""

from __future__ import annotations

import argparse

from lokki.commands.shared import in_bytes
from lokki.errors import nearest
from twingraph.commands.shared import Command, asked, graph_options, moment, print_json, print_table
from twingraph.errors import GraphError
from twingraph.executions.statistics import Statistics
from twingraph.graphs.run import took


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "component", nargs="?", default="", metavar="COMPONENT", help="only this one, or the node with this id"
    )
    parser.add_argument("--since", type=moment, metavar="WHEN", help="only calls that began after it: 2h, 7d or a date")
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    with asked(options) as graph:
        found = graph.statistics(options.component, options.since)
        if options.component and not found:
            near = nearest(options.component, (each.component for each in graph.statistics("", options.since)))
            raise GraphError(f"No call of a component {options.component!r} is recorded here{near or '.'}")
    if options.json:
        for each in found:
            print_json(each._asdict())
        return
    print_table(("COMPONENT", "RAN", "SUCCESS", "AVERAGE", "P50", "P95", "P99", "CPU", "MEMORY"), map(_row, found))


def _row(told: Statistics) -> tuple[str, ...]:
    durations = (told.avg_duration, told.p50_duration, told.p95_duration, told.p99_duration)
    return (
        told.component,
        str(told.executions),
        f"{told.success_rate:.1%}" if told.executions else "",
        *map(took, durations),
        "" if told.avg_cpu is None else f"{told.avg_cpu:.2f}",
        "" if told.peak_memory_bytes is None else in_bytes(told.peak_memory_bytes),
    )


COMMAND = Command(
    "Durations are of calls that completed. CPU is in processors, MEMORY the most that a call took.\n"
    "With --json, one object per line, also with what was reused, skipped and stopped.",
    ("", "load", "--since 7d --json"),
    _options,
    _run,
)
