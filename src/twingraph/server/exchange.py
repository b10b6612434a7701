"""What servers and workers on a PostgreSQL tell each other, by LISTEN and NOTIFY: there is work, stop that, it went so.

A notification holds 8,000 bytes. What a node gave may be more: then its row tells, which is committed before anything
is said about it. One thread listens and one sends, each with a connection; one that breaks is made anew. Nothing
depends on a notification that gets lost: who looks for work, or waits for an end, looks into the database as well.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from twingraph.errors import TwinGraphError
from twingraph.executions.repository import Repository
from twingraph.server.channel import Message
from twingraph.server.telling import outputs_of

_CHANNEL = "twingraph"
_ROOM = 7_900  # bytes
_TOGETHER = 500
_AGAIN = 1.0  # seconds until a connection that broke is made anew
_log = logging.getLogger("twingraph.server")


class Exchange:
    """Tells the others, and hears them.

    Args:
        graph: the database.
        name: who this is.
        on_work: called when there is something to run.
        on_stop: called with an execution that is to be ended.
        on_event: called with each message about an execution that runs elsewhere.
    """

    def __init__(
        self,
        graph: Repository,
        name: str,
        on_work: Callable[[], None],
        on_stop: Callable[[str], None],
        on_event: Callable[[str, Message], None],
    ) -> None:
        self._graph = graph
        self._url = graph.url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._name = name
        self._on_work = on_work
        self._on_stop = on_stop
        self._on_event = on_event
        self._told: SimpleQueue[str] = SimpleQueue()

    def start(self) -> None:
        """Begin, in threads that end with the process."""
        for each in (self._listen, self._send):
            threading.Thread(target=self._forever, args=(each,), name="twingraph-exchange", daemon=True).start()

    def work(self) -> None:
        """There is something to run."""
        self._told.put(json.dumps({"from": self._name, "work": True}))

    def stop(self, execution: str) -> None:
        """This execution is to be ended."""
        self._told.put(json.dumps({"from": self._name, "stop": execution}))

    def event(self, execution: str, message: Message) -> None:
        """Something happened in an execution that runs here."""
        told = {"from": self._name, "execution": execution, "message": message}
        text = json.dumps(told)
        if len(text) > _ROOM:
            short = {
                key: value for key, value in message["data"].items() if key not in ("outputs", "traceback", "error")
            }
            text = json.dumps({**told, "message": {**message, "data": short}, "cut": True})
        self._told.put(text)

    # ---- the threads

    def _forever(self, work: Callable[[Any], None]) -> None:
        import psycopg

        while True:
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
                    work(connection)
            except psycopg.Error as error:
                _log.warning("Other servers are not heard for a moment: %s", str(error).strip().partition("\n")[0])
                time.sleep(_AGAIN)

    def _send(self, connection: Any) -> None:
        while True:
            told = [self._told.get()]
            while not self._told.empty() and len(told) < _TOGETHER:
                told.append(self._told.get())
            connection.execute("SELECT pg_notify(%s, each) FROM unnest(%s::text[]) AS each", (_CHANNEL, told))

    def _listen(self, connection: Any) -> None:
        connection.execute(f"LISTEN {_CHANNEL}")
        self._on_work()  # something may have been said before
        for notification in connection.notifies():
            self._heard(json.loads(notification.payload))

    def _heard(self, told: Mapping[str, Any]) -> None:
        match told:
            case {"from": self._name}:
                return
            case {"work": _}:
                self._on_work()
            case {"stop": str(execution)}:
                self._on_stop(execution)
            case {"execution": str(execution), "message": message}:
                self._on_event(execution, self._whole(execution, message) if told.get("cut") else message)

    def _whole(self, execution: str, message: Message) -> Message:
        """A message with what its node's row says."""
        data = dict(message["data"])
        try:
            node = self._graph.node(execution, data["node_id"])
        except TwinGraphError:  # a database that is away for a moment, or an error of no node
            return message
        if message["event"] == "error":
            data |= {"error": node.error, "traceback": node.trace}
        elif node.outputs:
            data["outputs"] = outputs_of(execution, node.outputs)
        return {**message, "data": data}
