"""What commands share: how they are described, which graph they ask, and how they print."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from lokki.layout import clean
from twingraph.errors import GraphError
from twingraph.executions.records import OVER
from twingraph.settings import load_settings

if TYPE_CHECKING:
    from twingraph.questions import ExecutionGraph

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Command(NamedTuple):
    """A command.

    Attributes:
        text: what its help says of it.
        examples: what may follow it.
        options: adds its options.
        run: carries it out.
    """

    text: str
    examples: tuple[str, ...]
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def graph_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that asks the graph takes, and prints what it is told."""
    database_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def database_option(parser: argparse.ArgumentParser) -> None:
    """Add which graph is asked."""
    parser.add_argument(
        "--db", metavar="URL", help="the graph to ask; default: TWINGRAPH_DB, else the one of TWINGRAPH_HOME"
    )


def asked(options: argparse.Namespace) -> ExecutionGraph:
    """The graph that a command asks; one that was never written is not made by asking."""
    import os

    from twingraph.executions.recorder import Recorder
    from twingraph.questions import ExecutionGraph

    settings = load_settings(database=options.db)
    path = settings.database.removeprefix("sqlite:///")
    if path != settings.database and not os.path.exists(path):
        raise GraphError(f"Nothing is recorded yet: there is no {path}.")
    return ExecutionGraph(Recorder(settings.database, settings.home if not options.db else None).repository())


def filter_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which executions."""
    parser.add_argument("name", nargs="?", default="", help="only executions of this pipeline or workflow")
    parser.add_argument("--status", default="", choices=("pending", "running", *OVER), help="only those in this state")
    parser.add_argument(
        "--kind", default="", choices=("pipeline", "workflow", "session"), help="only those of this kind"
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        type=label,
        metavar="KEY=VALUE",
        help="only those with it; may be repeated",
    )
    parser.add_argument("--since", type=moment, metavar="WHEN", help="only those that began after it: 2h, 7d or a date")


def filters(options: argparse.Namespace) -> dict[str, Any]:
    """Which executions these options say, as the graph is asked for them."""
    named = {each: getattr(options, each) for each in ("name", "status", "kind", "since")}
    return {**named, "labels": dict(options.label)}


def print_json(value: Any) -> None:
    """Print a value on one line."""
    print(json.dumps(value))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below a head, the columns as wide as they need to be."""
    cells = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def local_time(seconds: float | None) -> str:
    """A time in the zone of this machine."""
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"


def unicode_out() -> bool:
    """Whether stdout takes more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def moment(text: str) -> float:
    """What an option that takes a time was given: `2h` for two hours ago, or a date with or without a time."""
    if found := re.fullmatch(r"(\d+)([smhdw])", text):
        return datetime.now().timestamp() - int(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"it takes 30m, 2h, 7d or a date such as 2026-11-29, not {text!r}") from None


def duration(text: str) -> float:
    """What an option that takes a length of time was given, in seconds: `30m`, `12h`, `7d`."""
    found = re.fullmatch(r"(\d+)([smhdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"it takes 30m, 12h or 7d, not {text!r}")
    return int(found[1]) * float(_UNITS[found[2]])


def label(text: str) -> tuple[str, str]:
    """What an option that takes a label was given: `key=value`, or `key` for any value."""
    key, _, value = text.partition("=")
    if not key:
        raise argparse.ArgumentTypeError(f"it takes KEY=VALUE or KEY, not {text!r}")
    return key, value
