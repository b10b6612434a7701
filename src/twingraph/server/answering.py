"""The part of a server that answers: the application in uvicorn, which goes on answering while executions finish."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from twingraph.server.app import create_app
from twingraph.server.auth import from_settings
from twingraph.server.context import open_context
from twingraph.server.frames import Wire
from twingraph.server.limits import limits
from twingraph.server.processes import Processes
from twingraph.server.schedule import Scheduler
from twingraph.server.service import Service
from twingraph.server.serving import connected
from twingraph.settings import Settings

_LOOK = 0.05


class Answering:
    """Answers on a socket; when it is asked to end, executions have so many seconds.

    With `here`, what it listens on is reached from this machine only.
    """

    def __init__(self, processes: Processes, settings: Settings, grace: float, here: bool) -> None:
        self._processes = processes
        self._grace = grace
        self._service = Service(processes.graph, processes)
        self._context = open_context(
            self._service,
            processes,
            told=from_settings(),
            limits=limits(settings.rate_limit),
            origins=settings.origins,
            version=_version(),
            here=here,
        )
        connected(processes, self._context.hub.publish)

    @property
    def asks_who(self) -> bool:
        """Whether callers have to say who they are."""
        return self._context.gate.is_on

    def run(self, listening: socket.socket) -> None:
        """Answer until Ctrl-C or SIGTERM."""
        app = create_app(self._context, lifespan=self._scheduling)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            server_header=False,
            ws=Wire,
            ws_per_message_deflate=False,
        )
        _Server(config, self._end).run([listening])

    @asynccontextmanager
    async def _scheduling(self, _: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(Scheduler(self._service).run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _end(self, server: uvicorn.Server) -> None:
        """Let executions finish; whoever waits for one is answered meanwhile."""
        self._processes.end(self._grace)
        while not server.force_exit and not await asyncio.to_thread(self._processes.wait, _LOOK):
            pass
        self._context.hub.close()


class _Server(uvicorn.Server):
    """Uvicorn, with something to do before it closes what it listens on."""

    def __init__(self, config: uvicorn.Config, end: Callable[[uvicorn.Server], Awaitable[None]]) -> None:
        super().__init__(config)
        self._end = end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; at once when it is asked for a second time, by whatever signal."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what runs, and then answering."""
        await self._end(self)
        await super().shutdown(sockets)


def _version() -> str:
    from importlib.metadata import version

    return version("lokki-twingraph")
