"""`AsyncTwinGraphClient`: the API for programs that do other things while they wait. It is `blocking`, awaited."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lokki.jsonable import plain
from twingraph import wire
from twingraph.client import calls
from twingraph.client.attempts import Attempts
from twingraph.client.blocking import options
from twingraph.client.calls import Call
from twingraph.client.errors import ServerUnreachableError
from twingraph.client.listening import LONGEST, Listening
from twingraph.client.pages import AsyncPage, Item, log_query, portions
from twingraph.client.payload import body_of
from twingraph.client.server import Server, server
from twingraph.client.waiting import Waiting

T = TypeVar("T", bound=wire.Body)
Lines = list[wire.LogLine]
Several = list[wire.Execution | wire.ErrorBody]


class AsyncTwinGraphClient:
    """A server's API.

    Args:
        base_url: the server's address.
        api_key: a key of the server, where it wants one.
        auth_token: a token (JWT) instead, with or without "Bearer ".
        timeout: seconds that one answer may take.
        retries: how often a request that got lost, or that the server cannot answer at the moment, is sent again.
        longest_wait: seconds that one call waits at most when the server says that it was asked too often.

    Attributes:
        workflows: workflows that the server keeps.
        executions: what it runs and ran.
        components: what nodes of workflows can call for.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        auth_token: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 5,
        longest_wait: float = 65.0,
    ) -> None:
        self._sender = _Sender(
            server(base_url, api_key, auth_token, timeout=timeout, retries=retries, longest_wait=longest_wait)
        )
        self.workflows = Workflows(self._sender)
        self.executions = Executions(self._sender)
        self.components = Components(self._sender)

    async def health(self) -> wire.Health:
        """That the server is there, and what it is."""
        return await self._sender.send(calls.get_health())

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.http.aclose()

    async def __aenter__(self) -> AsyncTwinGraphClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<client of {self._sender.server.url}>"


class _Sender:
    """Sends calls, again where that is right."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx.AsyncClient(base_url=server.url, headers=dict(server.headers), timeout=server.timeout)

    async def send(self, call: Call[T]) -> T:
        """Send a call, and wait for its answer."""
        attempts = Attempts(call, self.server)
        while True:
            try:
                taken = attempts.taken(await self.http.request(call.method, call.path, **options(call, self.server)))
            except httpx.TransportError as error:
                taken = attempts.lost(error)
            if not isinstance(taken, float):
                return taken
            await asyncio.sleep(taken)


class Workflows:
    """Workflows that a server keeps."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender

    async def list(
        self, tag: str | None = None, status: str | None = None, page: int | None = None, size: int | None = None
    ) -> AsyncPage[wire.WorkflowSummary]:
        """Workflows, newest first.

        Args:
            tag: those with this tag.
            status: those that are "active", "draft" or "archived".
            page: only this page; by default iterating goes on to the next ones, which are asked for as they are
                needed.
            size: how many a page has: 20 if nothing is said, 100 at most.
        """

        async def read(number: int) -> AsyncPage[wire.WorkflowSummary]:
            told = await self._sender.send(calls.list_workflows(tag, status, number, size))
            return AsyncPage(told.workflows, told, read if page is None else None)

        return await read(page or 1)

    async def get(self, workflow_id: str) -> wire.Workflow:
        """One workflow."""
        return await self._sender.send(calls.get_workflow(workflow_id))

    async def create(self, workflow: Any, *, id: str | None = None) -> str:  # noqa: A002 - it is the workflow's
        """Store a new workflow; returns its id.

        Args:
            workflow: a `twingraph.Workflow`, a flow of lokki, or a definition. Functions of one's own are sent with it.
            id: its id; by default one that the server makes. There must not be one of this id.
        """
        return (await self._sender.send(calls.create_workflow(body_of(workflow), id))).id

    create_async = create

    async def update(self, workflow_id: str, workflow: Any, *, version: int | None = None) -> wire.Workflow:
        """Store a new version of a workflow.

        Args:
            workflow_id: its id.
            workflow: as for `create`, or what `get` gave.
            version: the version that it is made from; when there is a newer one by now, that is a `ConflictError`.
        """
        return await self._sender.send(calls.put_workflow(workflow_id, body_of(workflow), version))

    async def delete(self, workflow_id: str) -> None:
        """Remove a workflow; its executions stay."""
        await self._sender.send(calls.delete_workflow(workflow_id))


class Executions:
    """What a server runs and ran."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender

    async def create(
        self,
        workflow_id: str,
        inputs: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> wire.Execution:
        """Execute a workflow; returns at once.

        Args:
            workflow_id: which.
            inputs: values by the name of a parameter, or of one node's parameter as in `load.source`.
            config: `max_parallel` and `timeout` of this execution.
            idempotency_key: the server executes once what comes under one key, however often it comes; by default a
                new key, under which this call is sent again when its answer got lost.
        """
        key = idempotency_key or uuid.uuid4().hex
        return await self._sender.send(
            calls.create_execution(workflow_id, plain(dict(inputs or {})), dict(config or {}), key)
        )

    create_async = create

    async def create_many(self, executions: Iterable[Mapping[str, Any]]) -> Several:
        """Execute many; what cannot be executed is an error in its place, and the others are.

        Args:
            executions: of each `workflow_id`, and what there is of `inputs` and `config`.
        """
        return await self._many(calls.execute_all, executions)

    async def get_many(self, execution_ids: Iterable[str]) -> Several:
        """How many executions are, in this order; in the place of one that there is not stands the error."""
        return await self._many(calls.get_all, execution_ids)

    async def stop_many(self, execution_ids: Iterable[str]) -> Several:
        """End many executions; in the place of one that cannot be stopped stands the error."""
        return await self._many(calls.stop_all, execution_ids)

    async def _many(self, call: Callable[[Iterable[Item]], Call[wire.BulkAnswer]], items: Iterable[Item]) -> Several:
        told: Several = []
        for portion in portions(items):
            told += (await self._sender.send(call(portion))).results
        return told

    async def get_status(self, execution_id: str) -> wire.Execution:
        """How an execution is: its `status`, `progress`, `outputs`, `error`."""
        return await self._sender.send(calls.get_execution(execution_id))

    async def list(
        self,
        workflow_id: str | None = None,
        status: str | None = None,
        page: int | None = None,
        size: int | None = None,
    ) -> AsyncPage[wire.Execution]:
        """Executions, newest first; pages are as those of workflows."""

        async def read(number: int) -> AsyncPage[wire.Execution]:
            told = await self._sender.send(calls.list_executions(workflow_id, status, number, size))
            return AsyncPage(told.executions, told, read if page is None else None)

        return await read(page or 1)

    async def wait_for_completion(
        self,
        execution_id: str,
        timeout: float | None = 1800,  # noqa: ASYNC109 - what is over meanwhile is told at the end
        raise_on_failure: bool = False,
    ) -> wire.Execution:
        """Wait until an execution is over, and return it, completed or not.

        Args:
            execution_id: which.
            timeout: seconds after which it is an `ExecutionTimeoutError`; None waits for ever.
            raise_on_failure: raise an `ExecutionFailedError` for one that did not complete.
        """
        waiting = Waiting(execution_id, timeout, raise_on_failure)
        while True:
            found = waiting.over(await self._sender.send(waiting.call()))
            if found is not None:
                return found

    async def get_logs(
        self,
        execution_id: str,
        component_id: str | None = None,
        level: str | None = None,
        start_time: datetime | str | None = None,
        end_time: datetime | str | None = None,
        *,
        exact: bool = False,
        limit: int | None = None,
    ) -> Lines:
        """Lines of the log, oldest first.

        Args:
            execution_id: of which execution.
            component_id: of which node.
            level: the least that a line is: "debug", "info", "warning" or "error".
            start_time: of the first line.
            end_time: of the last line.
            exact: only lines of exactly this level.
            limit: how many lines at most.
        """
        query = log_query(component_id, level, start_time, end_time, exact)
        lines: Lines = []
        after: int | None = 0
        while after is not None and (limit is None or len(lines) < limit):
            told = await self._sender.send(calls.get_logs(execution_id, {**query, "after": after}))
            lines += told.logs
            after = told.next
        return lines[:limit]

    async def stop(self, execution_id: str) -> wire.Execution:
        """End an execution; one that is over already is a `ConflictError`."""
        return await self._sender.send(calls.stop_execution(execution_id))

    async def rerun(self, execution_id: str, from_nodes: Iterable[str] = ()) -> wire.Execution:
        """Execute anew what failed, or these nodes and what follows; outputs of all others are used again."""
        return await self._sender.send(calls.rerun_execution(execution_id, from_nodes))

    async def graph(self, execution_id: str) -> wire.Graph:
        """The graph of an execution: its calls, and what followed what."""
        return await self._sender.send(calls.get_graph(execution_id))

    async def watch(self, execution_id: str | None = None) -> AsyncIterator[wire.Event]:
        """What happens in an execution as it happens, to its end; without one, in all of them, without an end.

        First comes how it is. After a lost connection that comes again, so that nothing is missed.
        """
        listening = Listening(execution_id)
        lost = 0
        while not listening.done:
            try:
                async for event in self._heard(listening):
                    lost = 0
                    yield event
            except InvalidStatus as error:
                raise listening.refused(error) from error
            except (OSError, ConnectionClosed) as error:
                lost += 1
                if lost > self._sender.server.retries:
                    raise ServerUnreachableError(listening.lost(error)) from error
                await asyncio.sleep(min(0.1 * 2**lost, 5.0))

    async def _heard(self, listening: Listening) -> AsyncIterator[wire.Event]:
        told = self._sender.server
        async with connect(told.socket, additional_headers=dict(told.headers), max_size=LONGEST) as socket:
            for each in listening.greeting:
                await socket.send(each)
            while not listening.done:
                event = listening.hear(await socket.recv())
                if event is not None:
                    yield event


class Components:
    """What nodes of workflows can call for."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender

    async def list(self) -> list[wire.ComponentInfo]:
        """All components that the server knows, with a JSON schema of their inputs."""
        return (await self._sender.send(calls.list_components())).components

    async def metrics(self, component: str) -> wire.ComponentMetrics:
        """How calls of a component went, by its name or the id of a node."""
        return await self._sender.send(calls.get_metrics(component))
