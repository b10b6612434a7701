"""`twingraph worker`: runs what servers on the same database are asked for, and answers nobody itself."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from enum import IntEnum
from types import FrameType
from typing import NoReturn

from lokki.frozen import frozen, replace
from twingraph.executions import requests
from twingraph.executions.recorder import open_recorder
from twingraph.executions.records import OVER
from twingraph.executions.repository import Repository
from twingraph.executions.telling import named
from twingraph.server import nursery
from twingraph.server.claiming import Once
from twingraph.server.launching import Launch, Launching
from twingraph.server.processes import Processes
from twingraph.server.serving import GRACE, connected
from twingraph.settings import load_settings

_TWICE = 130


@frozen
class WorkerOptions:
    """What `twingraph worker` was told."""

    files: tuple[str, ...] = ()
    db: str | None = None
    home: str | None = None
    workers: int = 0
    launch: Launch | None = None
    once: Once | None = None


class Went(IntEnum):
    """How it went with the one execution that a worker ran: its exit code."""

    COMPLETED = 0
    FAILED = 3
    STOPPED = 4
    NOTHING = 5
    INTERRUPTED = 6


def work(options: WorkerOptions, say: Callable[[str], None]) -> Went | None:
    """Run executions until Ctrl-C or SIGTERM, or one only, and then how it went; `say` gets what people are told."""
    settings = load_settings(options.home, options.db)
    url, home = settings.database, settings.home
    launching = None if options.launch is None else Launching(options.launch, options.files, url)
    once = options.once and replace(options.once, ticket=settings.ticket)
    os.environ.update(TWINGRAPH_DB=url, TWINGRAPH_HOME=home)
    graph = open_recorder(url).repository()
    begun = nursery.begun(options.files, url, home)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("twingraph").setLevel(logging.INFO)
    processes = Processes(
        graph, lambda: nursery.started(options.files, url, home), begun, most=options.workers, launching=launching,
        once=once,
    )  # fmt: skip
    connected(processes, lambda _execution, _message: None)
    asked: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        if asked:
            _at_once()
        asked.append(number)
        processes.end(GRACE)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end)
    processes.start()
    if once is None:
        say(f"Working for {named(url)}, {processes.most} executions at once; Ctrl-C ends it.")
    while not processes.wait(1.0):
        pass
    return None if once is None else _went(graph, once, processes.claiming.taken, say)


def _went(graph: Repository, once: Once, taken: str, say: Callable[[str], None]) -> Went:
    """How it went, said and as an exit code."""
    if not taken:
        what = f"Execution {once.execution}" if once.execution else "An execution that waits"
        say(f"{what} is not to be had at {named(graph.url)}: it is not there, somebody else has it, or it is over.")
        return Went.NOTHING
    found, _ = requests.with_id(graph, taken)
    status = found.status if found else ""
    say(f"Execution {taken} is {status}{f': {found.error}' if found and found.error else ''}")
    if found and (status not in OVER or found.error_type == "interrupted"):
        return Went.INTERRUPTED
    return {"completed": Went.COMPLETED, "stopped": Went.STOPPED}.get(status, Went.FAILED)


def _at_once() -> NoReturn:
    """End without a word; what runs is found by others."""
    os._exit(_TWICE)
