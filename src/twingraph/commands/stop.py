"""`twingraph stop`: end an execution that a server of this graph or a process of this machine runs."""

from __future__ import annotations

import argparse
import os
import signal
import time

from lokki.commands.shared import at_least_one
from lokki.outcome import complain
from twingraph.commands.shared import Command, asked, graph_options, print_json
from twingraph.errors import GraphError
from twingraph.executions import machine, requests
from twingraph.executions.records import OVER, Execution
from twingraph.executions.repository import Repository

_LOOK = 0.1  # seconds between two looks whether it is over


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("execution", metavar="EXECUTION", help="its id, a unique beginning of that, or `latest`")
    parser.add_argument(
        "--wait", type=at_least_one, default=60, metavar="SECONDS", help="how long to wait for its end; default: 60"
    )
    graph_options(parser)


def _run(options: argparse.Namespace) -> None:
    with asked(options) as graph:
        told = graph.execution(options.execution)
        if told.status in ("completed", "failed"):
            raise GraphError(f"Execution {told.id!r} is {told.status}, so it cannot be stopped.")
        where = "" if told.status == "stopped" else _ask(graph.repository, told)
        status = _ended(graph.repository, told.id, options.wait)
    if status not in OVER:
        raise GraphError(f"Execution {told.id!r} is asked to end, and still runs after {options.wait} s{where}.")
    if options.json:
        print_json({"execution": told.id, "status": status})
    else:
        complain(f"Execution {told.id!r} is {status}.")


def _ask(graph: Repository, told: Execution) -> str:
    """Ask for its end; returns where it runs."""
    if requests.found(graph, told.id) is not None:
        requests.ask_to_stop(graph, told.id)  # whichever server has it hears of it with its next beat
        return ""
    if told.host != machine.host() or not told.process or machine.process_of(told.pid) != told.process:
        raise GraphError(f"Execution {told.id!r} runs as process {told.pid} on {told.host}: stop it there.")
    os.kill(told.pid, signal.SIGINT)  # as Ctrl-C does, so that it says what became of its calls
    return f", as process {told.pid}"


def _ended(graph: Repository, execution: str, seconds: float) -> str:
    """How the execution is when it is over, or after so many seconds."""
    end = time.monotonic() + seconds
    while (status := requests.status(graph, execution)) not in OVER and time.monotonic() < end:
        time.sleep(_LOOK)
    return status


COMMAND = Command(
    "One that a server runs ends with all that it started in containers, pods and jobs. One that a program on this\n"
    "machine runs is interrupted as by Ctrl-C, and the program with it.",
    ("latest", "exec-20261130 --wait 5"),
    _options,
    _run,
)
