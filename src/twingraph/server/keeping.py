"""Keeping what is asked for: all that comes in the same moment goes into one transaction.

Nobody is answered before it is committed. Where the database is a SQLite file, that takes less time in the loop of the
server than going to a thread would; where somebody else is writing to it, a thread waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Coroutine

from twingraph import wire
from twingraph.executions import requests
from twingraph.executions.near import Near
from twingraph.executions.requests import Asked
from twingraph.server.problems import no_workflow
from twingraph.server.service import Service, asked_for, begun

_log = logging.getLogger("twingraph.server")

Waiting = list[tuple[Asked, "asyncio.Future[None]"]]


class Keeper:
    """Keeps executions that are asked for; used in the loop of the server."""

    def __init__(self, service: Service, near: Near) -> None:
        self._service = service
        self._near = near
        self._waiting: Waiting = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def execute(self, body: wire.ExecutionBody, client: str) -> wire.Execution:
        """Ask for an execution; returns it when it is kept."""
        name = self._near.name_of(body.workflow_id)
        if name is None:
            raise no_workflow(body.workflow_id)
        asked = asked_for(body, name, client)
        await self._keep(asked)
        return begun(asked)

    async def _keep(self, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        kept = loop.create_future()
        self._waiting.append((asked, kept))
        if len(self._waiting) == 1:
            loop.call_soon(self._together)
        await kept

    def _together(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            kept = self._near.ask([asked for asked, _ in waiting])
        except Exception as error:  # noqa: BLE001 - each who asked is told
            _settle(waiting, error)
            return
        if kept:
            self._kept(waiting)
        else:
            self._soon(self._patiently(waiting))
        if self._near.due():
            self._soon(self._checkpoint())

    async def _patiently(self, waiting: Waiting) -> None:
        try:
            await asyncio.to_thread(requests.ask, self._service.graph, [asked for asked, _ in waiting])
        except Exception as error:  # noqa: BLE001
            _settle(waiting, error)
        else:
            self._kept(waiting)

    def _kept(self, waiting: Waiting) -> None:
        _settle(waiting, None)
        self._service.launcher.wake()

    async def _checkpoint(self) -> None:
        try:
            await asyncio.to_thread(self._near.checkpoint)
        except sqlite3.Error as error:
            _log.warning("The log of the execution graph cannot be moved into it yet: %s", error)

    def _soon(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(waiting: Waiting, error: Exception | None) -> None:
    for _, kept in waiting:
        if kept.done():
            continue
        if error is None:
            kept.set_result(None)
        else:
            kept.set_exception(error)
