"""A server on a port of this machine, in a thread, whose executions follow a story: what clients are tested on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from twingraph.events import ExecutionFinished, ExecutionStarted, NodeFailed, NodeFinished, NodeLogged, NodeStarted
from twingraph.executions import requests
from twingraph.executions.recorder import Recorder
from twingraph.server.app import create_app
from twingraph.server.auth import Credentials
from twingraph.server.catalog import Catalog
from twingraph.server.context import open_context
from twingraph.server.frames import Wire
from twingraph.server.limits import Limits
from twingraph.server.live import Hub
from twingraph.server.service import Service
from twingraph.server.sockets import node_status, update

CATALOG = Catalog(
    {"load_data": {"description": "Loads.", "kind": "function", "platform": "local", "inputs": {"type": "object"}}}
)


class Story:
    """A launcher: an execution completes with its inputs as outputs, and one whose inputs say `fails` fails.

    With `held` it runs nothing until `tell` is called.
    """

    catalog = CATALOG

    def __init__(self, recorder: Recorder, held: bool = False) -> None:
        self.recorder = recorder
        self.graph = recorder.repository()
        self.held = held
        self.hub: Hub | None = None
        self.service = Service(self.graph, self)

    def wake(self) -> None:
        """There is something to run."""
        if not self.held:
            self.tell()

    def stop(self, execution: str) -> None:
        """End this execution."""
        requests.end(self.graph, execution, "stopped")

    def tell(self) -> None:
        """Run what waits."""
        while (execution := requests.claim(self.graph, "story")) is not None:
            self._run(execution)

    def _run(self, execution: str) -> None:
        found = requests.found(self.graph, execution)
        assert found is not None
        inputs = json.loads(found.inputs)
        tell, at = self.recorder, time.time()
        tell(ExecutionStarted(execution, "Told", kind="workflow", at=at))
        tell(NodeStarted(execution, "node-1", hash=execution.ljust(64, "0"), component="load_data", at=at))
        tell(NodeLogged(execution, "node-1", 0, "info", "loading", at + 0.1))
        tell(NodeLogged(execution, "node-1", 0, "error", "odd row", at + 0.2))
        if inputs.get("fails"):
            text = "ValueError: boo"
            tell(NodeFailed(execution, "node-1", 0, 0.1, text, "the trace", hash=execution.ljust(64, "0")))
            tell(ExecutionFinished(execution, "Told", "failed", 1.0, text, failed_nodes=1, kind="ValueError"))
        else:
            tell(NodeFinished(execution, "node-1", 0, 0.5, hash=execution.ljust(64, "0"), outputs=inputs))
            tell(ExecutionFinished(execution, "Told", "completed", 1.0, outputs=inputs))
        self._publish(execution)

    def _publish(self, execution: str) -> None:
        if self.hub is not None:
            for node in json.loads(self.service.graph_of(execution))["nodes"]:
                self.hub.publish(execution, node_status(execution, node))
            told = self.service.execution(execution)
            self.hub.publish(execution, update(execution, told.status, told.progress))


@contextmanager
def serving(story: Story, told: Credentials | None = None, limits: Limits | None = None) -> Iterator[str]:
    """The address of a server with these credentials and limits."""
    context = open_context(story.service, story, told=told, limits=limits or Limits(0, 0, 0), version="0.1.0")
    story.hub = context.hub
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(context), log_level="critical", ws=Wire, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        story.hub = None
