"""`@pipeline`: a plain function whose calls of components become the nodes of a graph that grows as it runs.

Loops and conditions over results decide the graph. A pipeline that is called inside another is a part of its graph.
"""

from __future__ import annotations

import functools
import inspect
import re
import time
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, SupportsIndex, overload

from lokki.runtime.failure import summary
from lokki.runtime.invoke import settled
from twingraph.calls import inside, results_in
from twingraph.decorators import known_name, misfit
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.events import Listener, NodeFailed, NodeFinished, NodeStarted
from twingraph.handling import Ending, handling
from twingraph.lineage import new_hash
from twingraph.notifications import Notifier, channels
from twingraph.results import Result, outputs, told
from twingraph.runs import Execution, Plan, checked_count, checked_graph_config, checked_seconds, execute, inside_of
from twingraph.schedules import Cron, cron
from twingraph.scopes import Run, Scope, current
from twingraph.tries import tries


class Pipeline:
    """A function that composes components; made by `@pipeline`.

    Attributes:
        fn: the function as it was written.
        name: what its executions are known by.
        schedule: when `twingraph serve` starts it, or None.
        max_parallel: how many of its calls run at once.
        timeout: seconds that an execution may take; 0 for no limit.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        schedule: Cron | None,
        max_parallel: int,
        timeout: float,
        handle: Ending,
        config: Mapping[str, Any],
        graph: Mapping[str, Any],
        notifications: Mapping[str, Any] | None,
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.schedule = schedule
        self.max_parallel = max_parallel
        self.timeout = timeout
        self._handling = handle
        self._config = config
        self._graph = graph
        self._channels = channels(notifications, f"Pipeline {name!r}")
        self._tries = tries(fn)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it; returns what the function returns, with nothing in it that is still on its way."""
        outer = current.get()
        if outer is not None:
            return self._nested(outer, args, kwargs)
        return execute(self._plan(args, kwargs)).result()

    def run(
        self,
        /,
        *args: Any,
        execution_id: str | None = None,
        listen: Listener | tuple[Listener, ...] = (),
        **kwargs: Any,
    ) -> Execution:
        """Run it, and return what became of it; a failure is not raised but told.

        Args:
            args: what the function is called with.
            execution_id: what the execution is known by; by default a new id.
            listen: called with each event of the execution.
            kwargs: what the function is called with, by name.
        """
        heard = listen if isinstance(listen, tuple) else (listen,)
        return execute(self._plan(args, kwargs, heard), execution_id)

    def plan(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """What an execution of it is, to be given to `twingraph.runs.execute`.

        Args:
            inputs: what the function is called with, by name.
            max_parallel: how many of its calls run at once, in place of what the pipeline says.
            timeout: seconds that the execution may take, in place of what the pipeline says.
        """
        made = copy(self)
        made.max_parallel = self.max_parallel if max_parallel is None else max_parallel
        made.timeout = self.timeout if timeout is None else timeout
        made._config = {**self._config, "max_parallel": made.max_parallel, "timeout": made.timeout}  # noqa: SLF001
        return made._plan((), dict(inputs or {}))  # noqa: SLF001 - it is of this class

    def __get__(self, instance: Any, owner: type | None = None) -> Pipeline:
        if instance is None:
            return self
        bound = copy(self)
        bound.fn = self.fn.__get__(instance, owner)
        return bound

    def __copy__(self) -> Pipeline:
        made = object.__new__(Pipeline)
        vars(made).update(vars(self))
        return made

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return known_name(self) or super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def _plan(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], listen: tuple[Listener, ...] = ()) -> Plan:
        inputs = told(self._inputs(args, kwargs))
        notified = (Notifier(self._channels, self.name),) if self._channels else ()
        return Plan(
            self.name,
            lambda: resolved(settled(self.fn(*args, **kwargs))),
            self._scope,
            inputs=inputs,
            config=self._config,
            graph=self._graph,
            listen=(*listen, *notified),
        )

    def _nested(self, outer: Scope, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run it as a part of the pipeline around it."""
        outer.check()
        inputs = told(self._inputs(args, kwargs))
        run, node, mark, within = outer.run, outer.run.node_id(self.name), new_hash(), inside.get()
        started = time.perf_counter()
        handed = dict.fromkeys(each.hash for each in results_in(args, kwargs))
        parents = tuple(handed) or run.tracker.sources((*args, *kwargs.values()))
        run.tell(
            NodeStarted(
                run.id, node, hash=mark, component=self.name, parents=parents, within=within, at=time.time(),
                inputs=inputs, kind="pipeline",
            )
        )  # fmt: skip
        try:
            scope = self._scope(run, node, outer)
            value = inside_of(scope, lambda: resolved(settled(self.fn(*args, **kwargs))))
        except BaseException as error:
            kind = type(error).__name__
            seconds = time.perf_counter() - started
            run.tell(NodeFailed(run.id, node, 0, seconds, summary(error), "", hash=mark, kind=kind, at=time.time()))
            raise
        given = told(dict(outputs(value)))
        run.tracker.gave(mark, value, {}, None)
        seconds = time.perf_counter() - started
        run.tell(NodeFinished(run.id, node, 0, seconds, hash=mark, outputs=given, at=time.time()))
        return value

    def _scope(self, run: Run, within: str = "", outer: Scope | None = None) -> Scope:
        return Scope(
            run,
            self.name,
            self._handling,
            limit=self.max_parallel,
            timeout=self.timeout,
            within=within,
            outer=outer,
            tries=self._tries,
        )

    def _inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        signature = inspect.signature(self.fn)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise misfit(self.name, signature, kwargs, error) from None
        bound.apply_defaults()
        return dict(bound.arguments)


_HOLDING = (Result, list, tuple, set, frozenset, dict)


def resolved(value: Any) -> Any:
    """The value with every result in it waited for."""
    _wait_for(value, set())
    return value


def _wait_for(value: Any, seen: set[int]) -> None:
    if isinstance(value, Result):
        value.wait()
    elif isinstance(value, _HOLDING) and id(value) not in seen:
        seen.add(id(value))
        for each in [*value.values()] if isinstance(value, dict) else value:
            if isinstance(each, _HOLDING):
                _wait_for(each, seen)


@overload
def pipeline(fn: Callable[..., Any], /) -> Pipeline: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    schedule: str | None = None,
    timezone: str = "UTC",
    misfire: str = "skip",
    max_parallel: int = 10,
    error_handler: str = "fail",
    error_config: Mapping[str, Any] | None = None,
    timeout: float = 3600,
    graph_config: Mapping[str, Any] | None = None,
    notifications: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Pipeline]: ...
def pipeline(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    schedule: str | None = None,
    timezone: str = "UTC",
    misfire: str = "skip",
    max_parallel: int = 10,
    error_handler: str = "fail",
    error_config: Mapping[str, Any] | None = None,
    timeout: float = 3600,
    graph_config: Mapping[str, Any] | None = None,
    notifications: Mapping[str, Any] | None = None,
) -> Pipeline | Callable[[Callable[..., Any]], Pipeline]:
    """Make a function a pipeline.

    Args:
        fn: the function, which calls components.
        name: what its executions are known by; by default the function's name.
        schedule: when `twingraph serve` starts it: a cron expression such as "0 */6 * * *".
        timezone: that of the schedule, such as "Europe/Zurich".
        misfire: "once" makes up for the last time at which no server was there; "skip" leaves it out.
        max_parallel: how many of its calls run at once.
        error_handler: what a failed call means: "fail", "continue", "retry" or "custom".
        error_config: for "retry", keys as of `retry_policy`; for "custom", `handler` and `continue_on_error`.
        timeout: seconds that an execution may take; 0 for no limit.
        graph_config: where executions are recorded: `database` (a URL), `record` (False for not at all),
            `graph_endpoint` (a Gremlin server that gets a copy).
        notifications: whom to tell: `on_start`, `on_success`, `on_failure`, `on_retry` and `on_complete`, each a URL,
            a function, "log", a dict with a type, or a list of them.
    """

    def decorate(function: Callable[..., Any]) -> Pipeline:
        if isinstance(function, Pipeline) or not callable(function):
            raise ComponentTypeError(f"@pipeline goes on a plain function, not on {function!r:.60}.")
        called = name or getattr(function, "__name__", "")
        if not isinstance(called, str) or not re.fullmatch(r"[^\s/#][^/#\n]*", called):
            raise ComponentError(f"A pipeline needs a name without / and #, and {called!r} is none: give name=...")
        names, where = getattr(function, "__globals__", {}), f"Pipeline {called!r}"
        handle = handling(error_handler, error_config, where, names)
        config = {
            "schedule": schedule,
            "max_parallel": max_parallel,
            "error_handler": error_handler,
            "timeout": timeout,
        }
        return Pipeline(
            function,
            called,
            cron(schedule, f"Pipeline {called!r}", timezone, misfire),
            checked_count(where, max_parallel),
            checked_seconds(where, timeout),
            handle,
            config,
            checked_graph_config(where, graph_config),
            notifications,
        )

    return decorate if fn is None else decorate(fn)
