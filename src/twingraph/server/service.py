"""The use cases of the API: what each call does, in terms of the execution graph. Routes only translate.

Everything here is synchronous and quick. Executions are run by a `Launcher`, which is told that there is something to
run or to stop, and reads the rest from the graph.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lokki.errors import nearest
from twingraph import wire
from twingraph.executions import definitions, fires, requests, serving
from twingraph.executions.records import LEVELS
from twingraph.executions.records import Execution as Recorded
from twingraph.executions.repository import Repository
from twingraph.executions.statistics import statistics
from twingraph.fields import utc
from twingraph.graphs.written import written
from twingraph.server.catalog import Catalog
from twingraph.server.incoming import check_graph, check_metadata, misgiven, said_of, slug
from twingraph.server.problems import Problem, no_execution, no_workflow
from twingraph.server.spelling import misspelt
from twingraph.server.timing import told
from twingraph.server.views import OVER, execution_of, metrics_of, progress_of, summary_of

Json = Mapping[str, Any]


class Launcher(Protocol):
    """Who runs executions."""

    @property
    def catalog(self) -> Catalog:
        """What nodes can call for."""

    def wake(self) -> None:
        """There is something to run."""

    def stop(self, execution: str) -> None:
        """End this execution."""


class Service:
    """What the API can do."""

    def __init__(self, graph: Repository, launcher: Launcher) -> None:
        self.graph = graph
        self.launcher = launcher
        self._changed: list[Callable[[], None]] = []

    def on_change(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call this when a workflow changes; returns what ends that."""
        self._changed.append(tell)
        return lambda: self._changed.remove(tell)

    def _tell(self) -> None:
        for tell in tuple(self._changed):
            tell()

    # ---- Workflows

    def workflows(self, tag: str, status: str, page: int, size: int) -> wire.WorkflowPage:
        """A page of workflows."""
        found, total = definitions.listed(self.graph, tag=tag, status=status, limit=size, offset=(page - 1) * size)
        return wire.WorkflowPage(workflows=[summary_of(each) for each in found], total=total, page=page, size=size)

    def workflow(self, id: str) -> wire.Workflow:  # noqa: A002 - it is the workflow's
        """One workflow."""
        return self._told(self._stored(id))

    def put_workflow(
        self,
        id: str | None,  # noqa: A002
        body: wire.WorkflowBody,
        expected: int | None = None,
    ) -> tuple[wire.Workflow, bool]:
        """Store a workflow; returns it, and whether it is new."""
        definition = body.definition.model_dump(exclude_none=True)
        check_graph(definition)
        if body.id not in (None, id):
            hint = f"PUT /api/workflows/{body.id} stores it under that id."
            raise Problem(422, "id_differs", f"The id {body.id!r} in the body is not that of the path.", hint)
        self._not_of_file(id)
        about = said_of(body)
        check_metadata(about, body.name)
        put = definitions.put(
            self.graph,
            slug(body.name) if id is None else id,
            name=body.name,
            definition=definition,
            metadata=about,
            tags=about["tags"],
            status=body.status or "active",
            code=body.code.model_dump_json() if body.code else None,
            expected=expected,
        )
        if put is None and expected == 0:
            raise Problem(409, "workflow_exists", f"There is a workflow {id!r} already.", "Leave If-None-Match out.")
        if put is None:
            hint = "Read it again, and send its new ETag in If-Match."
            raise Problem(412, "version_changed", f"Workflow {id!r} was changed by somebody else meanwhile.", hint)
        self._tell()
        return self._told(put[0]), put[1]

    def schedule(self, id: str) -> wire.Schedule:  # noqa: A002
        """When a workflow starts by itself."""
        stored = self._stored(id)
        found = told(stored, fires.last(self.graph, id), time.time(), self._held(stored))
        if found is None:
            hint = "Write a cron expression into metadata.schedule."
            raise Problem(404, "no_schedule", f"Workflow {id!r} does not start by itself.", hint)
        return found

    def delete_workflow(self, id: str, expected: int | None = None) -> wire.Deleted:  # noqa: A002
        """Remove a workflow; its executions stay."""
        self._stored(id)
        self._not_of_file(id)
        if not definitions.removed(self.graph, id, expected):
            raise Problem(412, "version_changed", f"Workflow {id!r} was changed by somebody else meanwhile.")
        return wire.Deleted(id=id)

    def _stored(self, id: str) -> definitions.Stored:  # noqa: A002
        found = definitions.found(self.graph, id)
        if found is None:
            raise no_workflow(id)
        return found

    def _told(self, stored: definitions.Stored) -> wire.Workflow:
        definition, code = json.loads(stored.definition), json.loads(stored.code or "{}")
        record = definitions.record(self.graph, stored.id)
        return wire.Workflow(
            **summary_of(stored).model_dump(),
            definition=wire.Definition(**{**definition, "metadata": json.loads(stored.metadata or "{}")}),
            version=stored.version,
            executions=record.executions,
            success_rate=record.success_rate,
            warnings=self._of_file(stored) if stored.origin else self._problems(stored, definition, code),
        )

    def served(self) -> set[str]:
        """The workflows of files that are run here or, on one database, by another server or worker that is there."""
        here = {each.id for each in self.launcher.catalog.workflows}
        return here | serving.served(self.graph) if self._shared else here

    def nobody_serves(self, file: str) -> str:
        """What is said of a workflow whose file is not served."""
        who = "No server or worker that is there serves" if self._shared else "This server does not serve"
        return f"{who} {file}, which defines it."

    @property
    def _shared(self) -> bool:
        return self.graph.engine.dialect.name == "postgresql"

    def _of_file(self, stored: definitions.Stored) -> list[str]:
        return [] if stored.id in self.served() else [f"{self.nobody_serves(stored.origin)} Executions of it wait."]

    def _not_of_file(self, id: str | None) -> None:  # noqa: A002
        """Refuse a change that would be undone when the file is imported again."""
        stored = None if id is None else definitions.found(self.graph, id)
        if stored is not None and stored.origin and stored.id in self.served():
            hint = "Change it there, or store it under another id."
            raise Problem(
                409, "served_by_file", f"Workflow {id!r} is defined by {stored.origin}, which is served.", hint
            )

    def _held(self, stored: definitions.Stored) -> str:
        """Why a workflow does not start by itself, although it has a schedule."""
        if stored.status != "active":
            return f"The workflow is of the status {stored.status!r}."
        return self.nobody_serves(stored.origin) if stored.origin and stored.id not in self.served() else ""

    def _problems(self, stored: definitions.Stored, definition: Json, code: Json) -> list[str]:
        known = self.launcher.catalog.problems(definition, code.get("components", ()))
        about = json.loads(stored.metadata or "{}")
        return [*known, *misspelt(definition, about), *misgiven(about, stored.name)]

    # ---- Executions

    def execute(self, body: wire.ExecutionBody, client: str = "", key: str = "") -> tuple[wire.Execution, bool]:
        """Ask for an execution; returns it, and whether it is new (a key that was used before gives what it gave)."""
        text = body.model_dump_json()
        before = requests.with_key(self.graph, client, key) if key else None
        if before is None:
            asked = self._asked(body)._replace(client=client, idempotency_key=key, idempotency_body=text if key else "")
            before = self._keep(asked)
            if before is None:
                self.launcher.wake()
                return begun(asked), True
        if before.idempotency_body != text:
            raise Problem(
                422, "idempotency_key_reused", f"The Idempotency-Key {key!r} was used for another request.",
                "Use a new key for each request.",
            )  # fmt: skip
        return self.execution(before.execution_id), False

    def _keep(self, asked: requests.Asked) -> requests.Request | None:
        if asked.idempotency_key:
            return requests.ask_once(self.graph, asked)
        requests.ask(self.graph, [asked])
        return None

    def execute_all(self, bodies: Sequence[wire.ExecutionBody], client: str = "") -> wire.BulkAnswer:
        """Ask for several executions; one that cannot be asked for does not hinder the others."""
        made: list[wire.Execution | wire.ErrorBody] = []
        asked = []
        for body in bodies:
            try:
                each = self._asked(body)._replace(client=client)
            except Problem as problem:
                made.append(wire.ErrorBody(detail=problem.detail, code=problem.code, hint=problem.hint))
                continue
            asked.append(each)
            made.append(begun(each))
        if asked:
            requests.ask(self.graph, asked)
            self.launcher.wake()
        return wire.BulkAnswer(results=made)

    def _asked(self, body: wire.ExecutionBody) -> requests.Asked:
        name = definitions.name_of(self.graph, body.workflow_id)
        if name is None:
            raise no_workflow(body.workflow_id)
        return asked_for(body, name)

    def executions(self, workflow: str, status: str, page: int, size: int) -> wire.ExecutionPage:
        """A page of executions."""
        found, total = requests.of_workflow(
            self.graph, workflow=workflow, status=status, limit=size, offset=(page - 1) * size
        )
        counts = self.graph.progress([each.id for each, _ in found])
        made = [execution_of(each, request, counts[each.id], {}) for each, request in found]
        return wire.ExecutionPage(executions=made, total=total, page=page, size=size)

    def execution(self, id: str) -> wire.Execution:  # noqa: A002 - it is the execution's
        """One execution."""
        recorded, request = self._recorded(id)
        counts = self.graph.progress([id])[id] if recorded.host else {}  # which it has from its beginning on
        nodes = self.graph.nodes(id) if recorded.status in OVER else []
        return execution_of(recorded, request, counts, {each.node_id: each for each in nodes})

    def states(self, executions: Sequence[str]) -> list[tuple[str, str, wire.Progress]]:
        """The status of several executions, and how far they are; what is not there is left out."""
        counts = self.graph.progress(executions)
        found = ((each, requests.status(self.graph, each)) for each in executions)
        return [(each, status, progress_of(counts[each])) for each, status in found if status]

    def is_over(self, id: str) -> bool:  # noqa: A002
        """Whether an execution is over."""
        return self._recorded(id)[0].status in OVER

    def stop(self, id: str) -> wire.Execution:  # noqa: A002
        """End an execution; once more is no mistake, but one that ended by itself cannot be stopped."""
        recorded, _ = self._recorded(id)
        if recorded.status in ("completed", "failed"):
            raise Problem(409, "execution_over", f"Execution {id!r} is {recorded.status}, so it cannot be stopped.")
        if recorded.status != "stopped":
            requests.ask_to_stop(self.graph, id)
            self.launcher.stop(id)
        return self.execution(id)

    def rerun(self, id: str, start: Sequence[str], client: str = "") -> wire.Execution:  # noqa: A002
        """Ask for an execution again, from these nodes on or from those that failed; what else is done is kept."""
        recorded, request = self._recorded(id)
        if request is None:
            raise Problem(
                409, "not_served", f"Execution {id!r} was not asked for here, so it cannot be run again here."
            )
        if recorded.status not in OVER:
            raise Problem(
                409, "execution_running", f"Execution {id!r} is {recorded.status}: it can be run again later."
            )
        known = {each.node_id for each in self.graph.nodes(id)}
        for each in start:
            if each not in known:
                raise Problem(
                    422, "node_not_found", f"Execution {id!r} has no node {each!r}{nearest(each, known) or '.'}"
                )
        stored = self._stored(request.workflow_id)
        asked = requests.Asked(
            new_execution_id(), stored.id, stored.name, json.loads(request.inputs), json.loads(request.config),
            client=client, rerun_of=id, rerun_from=start,
        )  # fmt: skip
        requests.ask(self.graph, [asked])
        self.launcher.wake()
        return begun(asked)

    def logs(
        self,
        id: str,  # noqa: A002
        *,
        component: str = "",
        level: str = "debug",
        exact: bool = False,
        since: float | None = None,
        until: float | None = None,
        after: int = 0,
        limit: int = 1_000,
    ) -> wire.Logs:
        """Lines of the log of an execution."""
        self._recorded(id)
        found = self.graph.logs(
            id, component=component, severity=LEVELS[level], since=since, until=until, after=after, limit=limit + 1
        )
        lines = [each for each in found[:limit] if not exact or each.level == level]
        more = found[limit - 1].key if len(found) > limit else None
        made = [
            wire.LogLine(
                timestamp=utc(each.at), level=each.level, component_id=each.node_id, message=each.message,
                attempt=each.attempt,
            )
            for each in lines
        ]  # fmt: skip
        return wire.Logs(execution_id=id, logs=made, total=len(made), next=more)

    def _recorded(self, id: str) -> tuple[Recorded, requests.Request | None]:  # noqa: A002
        found, _ = requests.with_id(self.graph, id)
        if found is None:
            raise no_execution(id)
        return found, _

    # ---- The graph

    def graph_of(self, id: str) -> str:  # noqa: A002
        """The graph of an execution: a `wire.Graph`, as the text of its JSON, because there may be many nodes."""
        self._recorded(id)
        return written(self.graph, id)

    def metrics(self, component: str) -> wire.ComponentMetrics:
        """How calls of a component went, by its name or the id of a node."""
        found = statistics(self.graph, component)
        if not found:
            raise Problem(404, "component_not_found", f"No component {component!r} has run yet.")
        return metrics_of(component, found[0])

    def components(self) -> wire.Components:
        """All that nodes can call for."""
        known = self.launcher.catalog.components
        return wire.Components(
            components=[wire.ComponentInfo(name=name, **about) for name, about in sorted(known.items())]
        )

    def health(self, version: str, database: str) -> wire.Health:
        """That the server is there."""
        counts = requests.counted(self.graph)
        running = counts.get("running", 0) + counts.get("stopping", 0)
        return wire.Health(version=version, database=database, running=running, pending=counts.get("pending", 0))


def new_execution_id() -> str:
    """An id for an execution, in the order of time."""
    return f"exec-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(5)}"


def asked_for(body: wire.ExecutionBody, name: str, client: str = "") -> requests.Asked:
    """What is to be kept when this is asked for; `name` is the workflow's."""
    config = body.config.model_dump(exclude_none=True)
    return requests.Asked(new_execution_id(), body.workflow_id, name, body.inputs, config, client)


def begun(asked: requests.Asked) -> wire.Execution:
    """An execution as it is told to who asked for it."""
    return wire.Execution(
        execution_id=asked.execution_id,
        workflow_id=asked.workflow_id,
        name=asked.name,
        status="pending",
        started_at=utc(time.time()),
        rerun_of=asked.rerun_of or None,
    )
