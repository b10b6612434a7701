"""What goes over the wire: bodies of the REST API and events of the WebSocket, said once for server and client.

Times are ISO 8601 in UTC with a `Z`, durations are seconds. A node's `id` is that of the workflow's definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from twingraph.fields import Time, refuse_strangers

API_VERSION = "2.0.0"
MEDIA_TYPE = "application/vnd.twingraph.v2+json"

ExecutionStatus = Literal["pending", "running", "stopping", "completed", "failed", "stopped"]
NodeStatus = Literal["pending", "running", "retrying", "completed", "failed", "skipped", "stopped", "cached"]
Level = Literal["debug", "info", "warning", "error"]
WorkflowStatus = Literal["active", "draft", "archived"]
OVER: tuple[ExecutionStatus, ...] = ("completed", "failed", "stopped")
"""The states of an execution that is over."""


class Body(BaseModel):
    """What every body is: made of the fields that it names, which are also had in brackets, as in JSON."""

    model_config = ConfigDict(populate_by_name=True)

    def __getitem__(self, name: str) -> Any:
        for field, about in type(self).model_fields.items():
            if name in (field, about.alias):
                return getattr(self, field)
        raise KeyError(name)


class Open(Body):
    """A body that keeps what else is said in it."""

    model_config = ConfigDict(populate_by_name=True, extra="allow")


class Asked(Body):
    """What a client sends: a field that it does not have is refused, with the one that may be meant.

    `belongs` says of some in which other field they stand; `told` are those of an answer that may come back.
    """

    model_config = ConfigDict(populate_by_name=True, extra="forbid")
    belongs: ClassVar[Mapping[str, str]] = {}
    told: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        refuse_strangers(cls.__name__, data, [*cls.model_fields, *cls.told], cls.belongs)
        return {name: each for name, each in data.items() if name not in cls.told}


# ---- Workflows


class Node(Open):
    """A node of a workflow: what it runs, and values for the parameters of that."""

    id: str = Field(min_length=1, max_length=200, pattern=r"^[^/]+$")
    type: str = "component"
    component: str | list[str] = ""
    config: dict[str, Any] = {}


class Edge(Open):
    """A connection: `target` gets what `source` gives; the handles name an output and a parameter."""

    source: str
    target: str
    sourceHandle: str | None = None  # noqa: N815 - so it is called
    targetHandle: str | None = None  # noqa: N815


class Definition(Open):
    """The graph of a workflow."""

    nodes: list[Node] = Field(default=[], max_length=10_000)
    edges: list[Edge] = Field(default=[], max_length=100_000)
    metadata: dict[str, Any] = {}


class Metadata(Open):
    """What is said about a workflow."""

    description: str = ""
    tags: list[str] = Field(default=[], max_length=100)


class Shipped(Asked):
    """Components of a client, sent with the workflow that calls for them, as `twingraph.shipping` writes them."""

    python: str
    components: dict[str, dict[str, Any]] = {}
    definitions: list[dict[str, Any]] = []


class WorkflowBody(Asked):
    """A workflow as it is stored.

    What an answer says besides may come back: `tags` hold where the metadata has none, an `id` must be that of the
    path, and the rest is left aside.
    """

    belongs: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("nodes", "edges"), "definition"),
        **dict.fromkeys(("description", "schedule", "timezone", "misfire", "resume", "inputs"), "metadata"),
        **dict.fromkeys(("max_parallel", "timeout", "error_handler", "error_config", "notifications"), "metadata"),
    }
    told: ClassVar[tuple[str, ...]] = ("created_at", "updated_at", "version", "executions", "success_rate", "warnings")

    name: str = Field(min_length=1, max_length=200)
    definition: Definition = Definition()
    metadata: Metadata = Metadata()
    status: WorkflowStatus | None = None
    code: Shipped | None = None
    id: str | None = None
    tags: list[str] | None = Field(default=None, max_length=100)


class WorkflowSummary(Body):
    """A workflow in a list."""

    id: str
    name: str
    created_at: Time
    updated_at: Time
    status: WorkflowStatus
    tags: list[str]


class WorkflowPage(Body):
    """Workflows, newest first."""

    workflows: list[WorkflowSummary]
    total: int
    page: int
    size: int


class Workflow(WorkflowSummary):
    """A workflow with its graph and its record; `success_rate` is that of executions that are over."""

    definition: Definition
    version: int
    executions: int
    success_rate: float
    warnings: list[str] = []


class Schedule(Body):
    """When a workflow starts by itself; `held` says why it does not at present."""

    schedule: str
    timezone: str
    misfire: str
    next: list[Time]
    held: str | None = None
    last: Time | None = None
    last_outcome: str | None = None
    last_execution_id: str | None = None


class Deleted(Body):
    """A workflow is gone; its executions stay."""

    id: str
    deleted: bool = True


# ---- Executions


class ExecutionConfig(Asked):
    """How one execution differs from what its workflow says."""

    max_parallel: int | None = Field(default=None, ge=1, le=10_000)
    timeout: float | None = Field(default=None, ge=0, le=1_000_000_000)


class ExecutionBody(Asked):
    """An execution that is asked for."""

    workflow_id: str = Field(min_length=1)
    inputs: dict[str, Any] = {}
    config: ExecutionConfig = ExecutionConfig()


class Progress(Body):
    """How far an execution is."""

    total_nodes: int = 0
    completed_nodes: int = 0
    running_nodes: int = 0
    failed_nodes: int = 0
    skipped_nodes: int = 0
    stopped_nodes: int = 0


class Failure(Body):
    """Why something failed."""

    message: str
    type: str = ""
    node_id: str | None = None
    traceback: str | None = None


class Execution(Body):
    """An execution."""

    execution_id: str
    workflow_id: str | None = None
    name: str = ""
    status: ExecutionStatus
    started_at: Time | None = None
    completed_at: Time | None = None
    duration: float | None = None
    progress: Progress = Progress()
    outputs: Any = None
    node_outputs: dict[str, Any] | None = None
    error: Failure | None = None
    success: bool | None = None
    rerun_of: str | None = None

    @property
    def id(self) -> str:
        """Its id."""
        return self.execution_id

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.status in OVER


class ExecutionPage(Body):
    """Executions, newest first."""

    executions: list[Execution]
    total: int
    page: int
    size: int


class LogLine(Body):
    """What a component printed or logged."""

    timestamp: Time
    level: str
    component_id: str
    message: str
    attempt: int


class Logs(Body):
    """Lines of an execution, oldest first; `next` is what `after` takes for those that follow."""

    execution_id: str
    logs: list[LogLine]
    total: int
    next: int | None = None


# ---- The graph


class GraphNode(Body):
    """A call, as it is drawn."""

    id: str
    label: str
    status: NodeStatus
    platform: str
    started_at: Time | None = None
    completed_at: Time | None = None
    duration: float | None = None
    properties: dict[str, Any] = {}


class GraphEdge(Body):
    """What follows what."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    label: str = "data_flow"


class Graph(Body):
    """The graph of an execution."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]


class ResourceUsage(Body):
    """What calls of a component use; memory as text, and as a number of bytes."""

    avg_cpu: float | None = None
    avg_memory: str | None = None
    peak_memory: str | None = None
    avg_memory_bytes: int | None = None
    peak_memory_bytes: int | None = None


class ComponentMetrics(Body):
    """How calls of a component went."""

    component_id: str
    executions: int
    success_rate: float
    avg_duration: float | None = None
    p50_duration: float | None = None
    p95_duration: float | None = None
    p99_duration: float | None = None
    resource_usage: ResourceUsage = ResourceUsage()


class ComponentInfo(Body):
    """Something that a node can call for.

    `inputs` and, of a class, `settings` are JSON schemas; a node's `config` takes both. `alias_of` is the other name of
    what is listed twice.
    """

    name: str
    description: str = ""
    kind: Literal["function", "class"] = "function"
    platform: str = "local"
    inputs: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    alias_of: str = ""


class Components(Body):
    """All that nodes can call for."""

    components: list[ComponentInfo]


# ---- Bulk


class BulkExecutions(Asked):
    """Several executions that are asked for at once."""

    executions: list[ExecutionBody] = Field(min_length=1, max_length=1_000)


class BulkIds(Asked):
    """Several things that are named at once."""

    ids: list[str] = Field(min_length=1, max_length=1_000)


class BulkAnswer(Body):
    """What became of each of them, in the order in which they were named."""

    results: list[Execution | ErrorBody]


# ---- Errors, health, events


class ErrorBody(Body):
    """What went wrong: a sentence, a word for programs, and what to do."""

    detail: str
    code: str
    hint: str | None = None


class Health(Body):
    """That the server is there."""

    status: Literal["ok", "stopping"] = "ok"
    version: str
    api: str = API_VERSION
    database: str
    running: int
    pending: int


class Event(Body):
    """An event of the WebSocket: `execution:update`, `node:status`, `node:log`, `error`, and answers to a client."""

    event: str
    data: dict[str, Any]


BulkAnswer.model_rebuild()
