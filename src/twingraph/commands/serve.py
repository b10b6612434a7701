"""`twingraph serve`: the server, with the pipelines and components of files."""

from __future__ import annotations

import argparse

from lokki.outcome import complain
from twingraph.commands.launching import launch_of, launch_options
from twingraph.commands.shared import Command


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="a Python file with pipelines, workflows, components")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="the port to listen on, 0 for a free one; default: 8000")
    parser.add_argument("--reload", action="store_true", help="import a file again when it changes")
    parser.add_argument(
        "--insecure", action="store_true", help="listen beyond this machine although nobody is asked who they are"
    )
    running_options(parser)
    launch_options(parser)


def running_options(parser: argparse.ArgumentParser) -> None:
    """Add what whoever runs executions is told."""
    parser.add_argument("--db", metavar="URL", help="the execution graph; default: TWINGRAPH_DB, else a file in home")
    parser.add_argument(
        "--home", metavar="DIR", help="the folder for what is kept; default: TWINGRAPH_HOME, else ~/.twingraph"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="how many executions run at once; default: processors + 2, and 100 with --launch",
    )


def _run(options: argparse.Namespace) -> None:
    from twingraph.server.serving import Options, serve

    told = Options(
        tuple(options.files), options.host, options.port, options.db, options.home, options.workers, options.reload,
        options.insecure, launch_of(options),
    )  # fmt: skip
    serve(told, complain)


COMMAND = Command(
    "REST, WebSocket and schedules in one process, executions in processes of their own. What is asked for is kept\n"
    "through any crash. Ctrl-C gives running executions 10 seconds; pressed again, it ends at once.",
    (
        "",
        "pipelines.py --reload",
        "pipelines.py --db postgresql://db/graph --host 0.0.0.0",
        "--port 0 --home /tmp/try",
        "pipelines.py --db postgresql://db/graph --launch kubernetes --image registry/flows:1 --memory 2G",
    ),
    _options,
    _run,
)
