"""The process of one execution: it reads what is to be run, runs it with the recorder, and tells the server.

Its main thread runs the body. Another listens: SIGTERM, which stops the execution, and the end of the server, after
which nothing more is recorded, what runs is ended, and this process with all in its group ends too. Whoever starts next
finds the execution unfinished and decides what becomes of it.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import random
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

from lokki.frozen import replace
from lokki.jsonable import revive
from twingraph.errors import GraphError
from twingraph.events import Event, ExecutionFinished, Listener
from twingraph.executions import definitions, requests
from twingraph.executions.definitions import Stored
from twingraph.executions.recorder import Recorder, open_recorder
from twingraph.executions.records import Kept
from twingraph.executions.repeats import Repeated
from twingraph.executions.requests import Request
from twingraph.handling import Ending
from twingraph.notifications import Notifier
from twingraph.runs import Plan, execute
from twingraph.scopes import Repeat, Run, Scope
from twingraph.server.channel import Channel
from twingraph.server.files import Files
from twingraph.server.running import GRACE
from twingraph.server.telling import Telling
from twingraph.settings import load_settings
from twingraph.shipping import unship
from twingraph.workflows import Workflow


def run(execution: str, channel: Channel, files: Files, url: str) -> None:
    """Run an execution to its end; called in a forked process that ends when this returns."""
    faulthandler.enable()
    recorder = open_recorder(url)
    _seed()
    telling = Telling(execution, recorder, channel)
    watch = _Watch(channel, telling)
    graph = recorder.repository()
    request = requests.found(graph, execution)
    if request is None or request.stop:
        return
    stored = definitions.found(graph, request.workflow_id)
    plan = _planned(request, stored, files)
    graph_config = dict(plan.graph)
    if load_settings(database=graph_config.get("database")).database == url or not graph_config.get("record", True):
        graph_config["record"] = False  # it is recorded by what listens here
    plan = replace(
        plan,
        open=watch.opening(plan),
        graph=graph_config,
        listen=(telling, *(_until_silent(telling, each) for each in plan.listen)),
        recall=recorder.recall,
        repeat=_repeat(recorder, request, stored),
        keep=resumes(stored),
    )
    execute(plan, execution)
    telling.close()
    watch.over.set()
    atexit._run_exitfuncs()  # noqa: SLF001 - what platforms keep for later calls; a forked process ends without that
    sys.stderr.flush()


def _until_silent(telling: Telling, listen: Listener) -> Listener:
    """Hear nothing any more once the execution is let go: somebody else tells of its end, or resumes it."""

    def hear(event: Event) -> None:
        if not telling.silent:
            listen(event)

    return hear


def notify(execution: str, files: Files, url: str) -> None:
    """Tell who is to be told how an execution ended whose process was gone by then; in a process of its own."""
    graph = open_recorder(url).repository()
    found, request = requests.with_id(graph, execution)
    stored = request and definitions.found(graph, request.workflow_id)
    if found is None or request is None or stored is None:
        return
    failed = found.failed_nodes
    ended = ExecutionFinished(
        execution,
        found.name,
        found.status,
        found.duration or 0.0,
        found.error,
        failed_nodes=failed,
        kind=found.error_type,
    )
    for each in _planned(request, stored, files).listen:
        if isinstance(each, Notifier):
            each(ended)


def prepare(url: str) -> None:
    """Ask once what executions ask first; a process that is forked from this one has the questions ready."""
    graph = open_recorder(url).repository()
    requests.found(graph, "")
    definitions.found(graph, "")
    graph.nodes("")


def resumes(stored: Stored | None) -> bool:
    """Whether executions of a workflow are taken up again when their process ended before they did."""
    return stored is not None and bool(json.loads(stored.metadata or "{}").get("resume"))


def _seed() -> None:
    """Random numbers of this process, not those that its brothers have as well."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _planned(request: Request, stored: Stored | None, files: Files) -> Plan:
    """What is to be executed; where that cannot be made, an execution that fails with the reason."""
    try:
        if stored is None:
            raise GraphError(f"Workflow {request.workflow_id!r} was removed before its execution began.")
        inputs, config = revive(json.loads(request.inputs)), json.loads(request.config)
        made: Plan = _runnable(stored, files).plan(inputs, **config)
        return made
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told as the end of the execution
        failure = error
        name = request.workflow_id if stored is None else stored.name

        def fail() -> Any:
            raise failure

        return Plan(name, fail, lambda made: Scope(made, name, Ending(), limit=1), kind="workflow")


def _runnable(stored: Stored, files: Files) -> Any:
    if stored.origin:
        if stored.id not in files.runnable:
            raise GraphError(f"{stored.origin}, which defines {stored.name!r}, is not served here.")
        return files.runnable[stored.id]
    told: Mapping[str, Any] = {
        "name": stored.name,
        "definition": json.loads(stored.definition),
        "metadata": json.loads(stored.metadata or "{}"),
    }
    shipped = unship(json.loads(stored.code)) if stored.code else {}
    return Workflow.from_dict(told, {**files.components, **shipped})


def _repeat(recorder: Recorder, request: Request, stored: Stored | None) -> Repeat | None:
    """The outputs that are used again: its own, of an earlier time, and those of the execution that it repeats."""
    graph = recorder.repository()
    known: list[tuple[str, list[str]]] = [(request.execution_id, [])] if graph.nodes(request.execution_id) else []
    if request.rerun_of:
        known.append((request.rerun_of, json.loads(request.rerun_from or "[]")))
    by_id = stored is not None and not _is_pipeline(stored)
    found = [Repeated(graph, recorder.load, execution, start, by_id) for execution, start in known]
    if not found:
        return None

    def repeat(node: str, within: str, content: str) -> Kept | None:
        given = (each(node, within, content) for each in found)
        return next((each for each in given if each is not None), None)

    return repeat


def _is_pipeline(stored: Stored) -> bool:
    return bool(stored.origin) and not json.loads(stored.definition)["nodes"]


class _Watch:
    """The thread that hears of SIGTERM and of the end of the server."""

    def __init__(self, channel: Channel, telling: Telling) -> None:
        self.over = threading.Event()
        self._channel = channel
        self._telling = telling
        self._scope: Scope | None = None
        self._ending = False
        self._lock = threading.Lock()
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _heard)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="twingraph-watch", daemon=True).start()

    def opening(self, plan: Plan) -> Any:
        """What opens the plan's scope, and lets it be halted from here."""

        def opened(run: Run) -> Scope:
            scope = plan.open(run)
            with self._lock:
                self._scope = scope
                ending = self._ending
            if ending:
                scope.halt()
            return scope

        return opened

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._channel:
                        self._alone()
                    if signal.SIGTERM in self._woken.recv(4096):
                        self._halt()

    def _halt(self) -> None:
        with self._lock:
            self._ending = True
            scope = self._scope
        if scope is not None:
            scope.halt()

    def _alone(self) -> None:
        """The server is gone, or lets this execution go."""
        self._telling.silent = True
        self._halt()
        self.over.wait(GRACE)
        os.killpg(0, signal.SIGKILL)


def _heard(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM came: the thread that listens reads that from its socket."""
