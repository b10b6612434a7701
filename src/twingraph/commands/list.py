"""`twingraph list`: executions, newest first."""

from __future__ import annotations

import argparse

from lokki.commands.shared import at_least_one
from lokki.errors import nearest
from lokki.outcome import complain
from twingraph.commands.shared import (
    Command,
    asked,
    filter_options,
    filters,
    graph_options,
    local_time,
    print_json,
    print_table,
)
from twingraph.executions.records import Execution
from twingraph.graphs.document import execution_document
from twingraph.graphs.run import took

_LOOKED_AT = 200  # executions whose names may have been meant


def _options(parser: argparse.ArgumentParser) -> None:
    filter_options(parser)
    parser.add_argument("--limit", type=at_least_one, default=20, metavar="N", help="at most so many; default: 20")
    parser.add_argument(
        "--page", type=at_least_one, default=1, metavar="N", help="which so many; default: the newest, 1"
    )
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    with asked(options) as graph:
        page = graph.executions(**filters(options), limit=options.limit, offset=(options.page - 1) * options.limit)
        counts = graph.repository.progress([each.id for each in page.executions])
        known = () if page.executions else {each.name for each in graph.executions(limit=_LOOKED_AT).executions}
    if options.json:
        for each in page.executions:
            print_json(execution_document(each, counts[each.id]))
        return
    if not page.executions:
        near = "" if options.name in known else nearest(options.name, known)
        complain(f"No execution like that is recorded here{near or '.'}")
        return
    rows = [_row(each, sum(counts[each.id].values())) for each in page.executions]
    print_table(("EXECUTION", "NAME", "STATUS", "STARTED", "TOOK", "NODES"), rows)
    left = page.total - options.page * options.limit
    if left > 0:
        complain(f"{left} more: --page {options.page + 1}")


def _row(told: Execution, nodes: int) -> tuple[str, ...]:
    status = told.status if not told.failed_nodes else f"{told.status} ({told.failed_nodes} failed)"
    return told.id, told.name, status, local_time(told.started_at), took(told.duration), str(nodes)


COMMAND = Command(
    "Newest first. A session is the calls that a program made outside of pipelines.\nWith --json, one object per line.",
    ("", "birds --status failed", "--since 2d --label team=sky", "--json --limit 100"),
    _options,
    _run,
)
