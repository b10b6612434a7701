"""Executions from outside: what starts one, who listens, what became of it.

Calls outside of any pipeline belong to the *session*, one execution for the life of the process.
"""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lokki.errors import nearest
from lokki.frozen import field, frozen
from lokki.runtime.failure import Cancelled, summary, user_trace
from twingraph.calls import inside
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.events import Event, ExecutionFinished, ExecutionStarted, Listener, NodeFailed
from twingraph.handling import Ending
from twingraph.results import told
from twingraph.scopes import Recall, Repeat, Run, Scope, current, nothing_recalled

_PATIENCE = 30.0  # seconds that calls have to end and clean up, when an execution is over before them
_SESSION_LIMIT = 10_000
_GRAPH_KEYS = ("graph_endpoint", "database", "record")

_lock = threading.Lock()
_session: list[Scope] = []


@frozen
class Execution:
    """What became of an execution.

    Attributes:
        id: what it is known by in the execution graph.
        status: "completed", "failed" or "stopped".
        outputs: what the pipeline returned.
        error: what it raised, where it failed.
        failed_nodes: how many of its calls failed, without those that were skipped because of that, or stopped.
        seconds: how long it took.
        node_outputs: of a workflow, what each node gave.
    """

    id: str
    status: str
    outputs: Any = None
    error: BaseException | None = None
    failed_nodes: int = 0
    seconds: float = 0.0
    node_outputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether it is completed and none of its calls failed."""
        return self.status == "completed" and not self.failed_nodes

    def result(self) -> Any:
        """What the pipeline returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.outputs


def new_id(kind: str) -> str:
    """An id for an execution, in the order of time."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def scope() -> Scope:
    """The body that is running, or the session."""
    return current.get() or session()


def session() -> Scope:
    """The execution that calls outside of any pipeline belong to."""
    if not _session:
        with _lock:
            if not _session:
                _session.append(_open_session())
    return _session[0]


def _open_session() -> Scope:
    listeners, recall = observers({}, ())
    run = Run(new_id("session"), listeners, recall)
    run.tell(ExecutionStarted(run.id, _program(), kind="session", at=time.time()))
    made = Scope(run, "session", Ending(), limit=_SESSION_LIMIT, lazy=False)
    atexit.register(_end_session, made, time.perf_counter())
    return made


if hasattr(os, "register_at_fork"):  # what a forked process calls is an execution of its own
    os.register_at_fork(after_in_child=_session.clear)


def _end_session(session: Scope, started: float) -> None:
    session.drain()  # what was submitted and not waited for
    seconds = time.perf_counter() - started
    session.run.tell(ExecutionFinished(session.run.id, session.name, "completed", seconds, at=time.time()))


def _program() -> str:
    return os.path.basename(sys.argv[0]) or "python" if sys.argv else "python"


def observers(graph: Mapping[str, Any], listen: Sequence[Listener]) -> tuple[tuple[Listener, ...], Recall]:
    """Who hears of an execution, and its cache, as `graph_config=` says."""
    from twingraph.settings import load_settings

    recording = graph.get("record", load_settings().record)
    listeners: list[Listener] = list(listen)
    recall: Recall = nothing_recalled
    if recording:
        from twingraph.executions.recorder import open_recorder

        recorder = open_recorder(graph.get("database"))
        listeners.append(recorder)
        recall = recorder.recall
    if graph.get("graph_endpoint"):
        from twingraph.executions.gremlin import open_mirror

        listeners.append(open_mirror(graph["graph_endpoint"]))
    return tuple(listeners), recall


def checked_graph_config(where: str, graph: Mapping[str, Any] | None) -> dict[str, Any]:
    """`graph_config=` as it can be used."""
    if graph is not None and not isinstance(graph, Mapping):
        raise ComponentTypeError(f"{where}: graph_config takes a dict, not {type(graph).__name__}.")
    for key in graph or {}:
        if key not in _GRAPH_KEYS:
            near = nearest(str(key), _GRAPH_KEYS) or "."
            known = ", ".join(_GRAPH_KEYS)
            raise ComponentError(f"{where}: graph_config has no key {key!r}{near} It takes {known}.")
    told = dict(graph or {})
    endpoint = told.get("graph_endpoint")
    if endpoint and not str(endpoint).startswith(("ws://", "wss://")):
        from twingraph.executions.secrets import veiled

        what = f"an address such as ws://localhost:8182, not {veiled(str(endpoint))!r}"
        raise ComponentError(f"{where}: graph_config['graph_endpoint'] is {what}.")
    if not isinstance(told.get("record", True), bool):
        raise ComponentTypeError(f"{where}: graph_config['record'] is True or False, not {told['record']!r}.")
    if not isinstance(told.get("database") or "", str):
        raise ComponentTypeError(f"{where}: graph_config['database'] is a URL, not {told['database']!r}.")
    return told


def checked_count(where: str, value: Any, name: str = "max_parallel") -> int:
    """`max_parallel=` or the like as it can be used."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ComponentTypeError(f"{where}: {name} takes a whole number, not {value!r}.")
    if value < 1:
        raise ComponentError(f"{where}: {name} is 1 or more, not {value}.")
    return value


def checked_seconds(where: str, value: Any) -> float:
    """`timeout=` as it can be used."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ComponentTypeError(f"{where}: timeout takes seconds, not {value!r}.")
    if not 0 <= value < float("inf"):
        raise ComponentError(f"{where}: timeout is 0 seconds (no limit) or more, not {value}.")
    return float(value)


@frozen
class Plan:
    """What is executed: a body, and what was said about it.

    Attributes:
        name: the name of the pipeline or workflow.
        body: run in a scope of its own; what it returns is the execution's result.
        open: makes that scope.
        kind: "pipeline" or "workflow".
        inputs: what the body was given, by name.
        config: what was said about it, as it is recorded.
        graph: where it is recorded.
        listen: who else hears of it.
        recall: where recorded results are found; by default in the graph that it is recorded in.
        repeat: what nodes gave in an execution that this one repeats.
        keep: whether all outputs are recorded whole, so that it can be repeated.
    """

    name: str
    body: Callable[[], Any]
    open: Callable[[Run], Scope]
    kind: str = "pipeline"
    inputs: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    graph: Mapping[str, Any] = field(default_factory=dict)
    listen: tuple[Listener, ...] = ()
    recall: Recall | None = None
    repeat: Repeat | None = None
    keep: bool = False


class _Failures:
    """A listener that counts the calls that failed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: Event) -> None:
        self.count += isinstance(event, NodeFailed) and event.status == "failed"


def execute(plan: Plan, id: str | None = None) -> Execution:  # noqa: A002 - it is the execution's
    """Run it from start to end. Only Ctrl-C and its like are raised; what the body raised is in the execution."""
    counted = _Failures()
    listeners, recall = observers(plan.graph, plan.listen)
    heard: tuple[Listener, ...] = (*listeners, counted)
    run = Run(id or new_id(plan.kind), heard, plan.recall or recall, plan.repeat, plan.keep)
    run.listened = bool(listeners)
    started = time.perf_counter()
    run.tell(
        ExecutionStarted(run.id, plan.name, kind=plan.kind, inputs=plan.inputs, config=plan.config, at=time.time())
    )
    made = Execution(run.id, "stopped")
    trace = ""
    try:
        made = Execution(run.id, "completed", inside_of(plan.open(run), plan.body))
    except Cancelled as error:
        made = Execution(run.id, "stopped", error=error)
    except Exception as error:  # noqa: BLE001 - the boundary: whoever asked for the execution gets the error with it
        made, trace = Execution(run.id, "failed", error=error), user_trace(error)
    finally:
        seconds = time.perf_counter() - started
        error_text = "" if made.error is None else summary(made.error)
        finished = ExecutionFinished(
            run.id,
            plan.name,
            made.status,
            seconds,
            error_text,
            outputs=told(made.outputs),
            failed_nodes=counted.count,
            kind=type(made.error).__name__ if made.error else "",
            trace=trace,
            at=time.time(),
        )
        run.tell(finished)
    return Execution(made.id, made.status, made.outputs, made.error, counted.count, seconds)


def inside_of(scope: Scope, body: Callable[[], Any]) -> Any:
    """Run a body in its scope, to the end of everything that it started."""
    token, node = current.set(scope), inside.set(scope.within)
    try:
        value = body()
        scope.finish()
        return value
    except BaseException:
        scope.halt()
        scope.drain(_PATIENCE)
        raise
    finally:
        current.reset(token)
        inside.reset(node)
        scope.close()
