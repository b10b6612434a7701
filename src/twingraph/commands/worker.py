"""`twingraph worker`: more capacity for servers on the same database, here or on another machine."""

from __future__ import annotations

import argparse

from lokki.outcome import complain
from twingraph.commands.serve import running_options
from twingraph.commands.shared import Command


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="a Python file with pipelines, workflows, components")
    running_options(parser)


def _run(options: argparse.Namespace) -> None:
    from twingraph.server.working import WorkerOptions, work

    work(WorkerOptions(tuple(options.files), options.db, options.home, options.workers), complain)


COMMAND = Command(
    "It takes executions that servers were asked for, and needs the files that these serve. Run as many as you like,\n"
    "on any machine that reaches the database. One that is killed loses nothing: what it ran is marked, or resumed.",
    ("--db postgresql://db/graph pipelines.py", "--db postgresql://db/graph --workers 32 pipelines.py"),
    _options,
    _run,
)
