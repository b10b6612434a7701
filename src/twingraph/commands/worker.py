"""`twingraph worker`: more capacity for servers on the same database, here or on another machine."""

from __future__ import annotations

import argparse
import sys

from lokki.outcome import complain
from twingraph.commands.launching import launch_of, launch_options
from twingraph.commands.serve import running_options
from twingraph.commands.shared import Command
from twingraph.errors import TwinGraphError


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="a Python file with pipelines, workflows, components")
    parser.add_argument(
        "--once", nargs="?", const="", metavar="EXECUTION",
        help="run one execution, this one or the oldest that waits, and end with a code that says how it went",
    )  # fmt: skip
    running_options(parser)
    launch_options(parser)


def _run(options: argparse.Namespace) -> None:
    from twingraph.server.claiming import Once
    from twingraph.server.working import WorkerOptions, work

    once = None if options.once is None else Once(options.once)
    launch = launch_of(options) if once is None else None
    if once and options.launch:
        raise TwinGraphError("A worker that runs one execution runs it here: leave out --once or --launch.")
    told = WorkerOptions(tuple(options.files), options.db, options.home, options.workers, launch, once)
    went = work(told, complain)
    if went is not None:
        sys.exit(int(went))


COMMAND = Command(
    "It takes executions that servers were asked for, and needs the files that these serve. Run as many as you like,\n"
    "on any machine that reaches the database. One that is killed loses nothing: what it ran is marked, or resumed.\n\n"
    "With --once, the exit code is 0 when the execution is completed, 3 when it failed, 4 when it was stopped, 5 when\n"
    "there was none to run, 6 when it was interrupted, and 1 when the database or a setting is wrong.",
    (
        "--db postgresql://db/graph pipelines.py",
        "--db postgresql://db/graph --workers 32 pipelines.py",
        "--db postgresql://db/graph pipelines.py --once",
        "--db postgresql://db/graph pipelines.py --launch batch --job-queue flows --job-definition flows",
    ),
    _options,
    _run,
)
