"""`twingraph worker`: runs what servers on the same database are asked for, and answers nobody itself."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from lokki.frozen import frozen
from twingraph.executions.recorder import open_recorder
from twingraph.executions.telling import named
from twingraph.server import nursery
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


def work(options: WorkerOptions, say: Callable[[str], None]) -> None:
    """Run executions until Ctrl-C or SIGTERM; `say` gets what people are told."""
    settings = load_settings(options.home, options.db)
    url, home = settings.database, settings.home
    os.environ.update(TWINGRAPH_DB=url, TWINGRAPH_HOME=home)
    graph = open_recorder(url).repository()
    begun = nursery.begun(options.files, url, home)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("twingraph").setLevel(logging.INFO)
    processes = Processes(graph, lambda: nursery.started(options.files, url, home), begun, most=options.workers)
    connected(processes, lambda _execution, _message: None)
    asked: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        if asked:
            _at_once()
        asked.append(number)
        processes.end(GRACE)

    processes.start()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end)
    say(f"Working for {named(url)}, {processes.most} executions at once; Ctrl-C ends it.")
    while not processes.wait(1.0):
        pass


def _at_once() -> NoReturn:
    """End without a word; what runs is found by others."""
    os._exit(_TWICE)
