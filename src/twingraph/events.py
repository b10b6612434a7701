"""What an observer of an execution sees: lokki's events, told with what the execution graph wants to know.

Those that lokki has a word for are kinds of its events, so its listeners understand them; `as_lokki` hands them on and
leaves out the others. Listeners are called one event at a time, in the thread where it happened and before that thread
goes on, so the values in an event are what they were at that moment; a listener that keeps them makes a copy.

`run` is the id of the execution, `node` that of a call in it (`load`, `load#2`), `hash` what identifies the call
everywhere. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lokki.events import Listener as LokkiListener
from lokki.events import RunFinished, RunStarted, StepFailed, StepFinished, StepRetried, StepStarted
from lokki.frozen import field, frozen


@frozen
class ExecutionStarted(RunStarted):
    """An execution began; `kind` is "pipeline", "workflow" or "session" (calls outside of any pipeline)."""

    kind: str = "pipeline"
    inputs: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


@frozen
class NodeSubmitted:
    """A call was made that waits for its parents or for a free place."""

    run: str
    node: str
    hash: str
    component: str
    platform: str
    parents: tuple[str, ...]
    labels: Mapping[str, Any]
    within: str
    at: float


@frozen
class NodeStarted(StepStarted):
    """A call begins to run. `within` is the node of the nested pipeline that it is part of.

    `parents` are the hashes of the calls that it follows. `content_hash` is the same for calls of the same code with
    the same inputs; `code_hash` identifies the code and `source` is its text. `resources` are those that were asked
    for. `kind` is "component" or "pipeline".
    """

    hash: str = ""
    component: str = ""
    platform: str = "local"
    parents: tuple[str, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    within: str = ""
    at: float = 0.0
    content_hash: str = ""
    code_hash: str = ""
    source: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "component"
    resources: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False  # whether the outputs must be kept whole, to be used again


@frozen
class NodeRetried(StepRetried):
    """An attempt failed and another follows."""

    hash: str = ""
    at: float = 0.0


@frozen
class NodeLogged:
    """A line that a component printed or logged; `level` is as in `logging`, in small letters."""

    run: str
    node: str
    attempt: int
    level: str
    message: str
    at: float


@frozen
class NodeFinished(StepFinished):
    """A call is done; `reused` says that a recorded result was taken. `usage` has what it used, where that is known.

    In `usage`: `cpu_seconds`, `peak_memory_bytes`, and what the component says (`BaseComponent.usage_of`). `form` says
    what is to be made of the outputs to have what the component returned (`twingraph.returned`).
    """

    hash: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    at: float = 0.0
    form: str = ""


@frozen
class NodeFailed(StepFailed):
    """A call failed for good; `kind` is the name of the exception's type, `status` "failed", "stopped" or "skipped"."""

    hash: str = ""
    kind: str = ""
    status: str = "failed"
    at: float = 0.0


@frozen
class ExecutionFinished(RunFinished):
    """An execution is over; `status` is "completed", "failed" or "stopped"."""

    outputs: Any = None
    failed_nodes: int = 0
    kind: str = ""
    trace: str = ""
    at: float = 0.0


Event = (
    ExecutionStarted
    | NodeSubmitted
    | NodeStarted
    | NodeRetried
    | NodeLogged
    | NodeFinished
    | NodeFailed
    | ExecutionFinished
)
Listener = Callable[[Event], None]


def as_lokki(listen: LokkiListener) -> Listener:
    """A listener of lokki's, such as its log, as a listener of executions."""

    def heard(event: Event) -> None:
        if not isinstance(event, NodeSubmitted | NodeLogged):
            listen(event)

    return heard
