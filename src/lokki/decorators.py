"""How a flow is written: `@step` and `@flow`.

Calling a flow runs its function once, takes the chain that it returns (`lokki.chain`) and makes the `FlowGraph`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, overload

from lokki.chain import MapBlock, StepNode
from lokki.errors import GraphTypeError, GraphValidationError
from lokki.graph import FlowGraph, Step
from lokki.lowering import Lowering
from lokki.params import Parameter, bind, call_arguments, describe
from lokki.policy import Resources, RetryConfig, Schedule

__all__ = ["Flow", "MapBlock", "RetryConfig", "StepNode", "flow", "step"]


class Flow:
    """A flow function; calling it makes the `FlowGraph` for these parameters. Made by `@flow`.

    Attributes:
        fn: the function as it was written.
        name: the flow's name, as in `birds-flow`.
        parameters: what it takes, in order.
        schedule: when the deployed flow starts by itself, or None.
        check_types: whether steps whose type hints do not fit are refused.
    """

    def __init__(self, fn: Callable[..., Any], schedule: str | None = None, check_types: bool = True) -> None:
        name = _name(fn, "flow")
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.__name__ = name
        self.name = name.replace("_", "-").lower()
        self.schedule = None if schedule is None else Schedule(schedule).expression
        self.check_types = check_types
        self.parameters: tuple[Parameter, ...] = describe(fn)

    def __repr__(self) -> str:
        return f"<flow {self.name}>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> FlowGraph:
        """The graph of this flow with these parameters."""
        places = [each.name for each in self.parameters if each.role != "extra"]
        if len(args) > len(places):
            raise GraphTypeError(f"Flow {self.__name__!r} takes {len(places)} parameter(s), but {len(args)} are given.")
        named = dict(zip(places, args, strict=False))
        if twice := named.keys() & kwargs.keys():
            raise GraphTypeError(f"Flow {self.__name__!r} got {min(twice)!r} twice.")
        return self.graph(bind(self.parameters, {**named, **kwargs}, flow=self.__name__))

    def graph(self, params: Mapping[str, Any]) -> FlowGraph:
        """The graph for parameters that are complete already."""
        nodes, output = Lowering(tuple(params)).chain(self._chain(params), None)
        graph = FlowGraph(self.name, nodes, output, params, self.schedule, remake=self)
        if self.check_types and any("return" in getattr(each.step.fn, "__annotations__", ()) for each in graph.calls()):
            from lokki.hints import check

            check(graph)
        return graph

    def _chain(self, params: Mapping[str, Any]) -> StepNode | MapBlock:
        args, kwargs = call_arguments(self.parameters, params)
        returned = self.fn(*args, **kwargs)
        where = f"Flow function {self.__name__!r}"
        if returned is None:
            raise GraphValidationError(f"{where} returned None. Did you forget to return the chain?")
        if not isinstance(returned, StepNode | MapBlock):
            raise GraphTypeError(
                f"{where} must return a step chain such as first().next(second), not {type(returned).__name__}."
            )
        return returned


@overload
def step(fn: Callable[..., Any], /) -> StepNode: ...
@overload
def step(
    *,
    retry: RetryConfig | Mapping[str, Any] | None = None,
    job_type: str = "lambda",
    vcpu: int | None = None,
    memory_mb: int | None = None,
    timeout_seconds: int | None = None,
) -> Callable[[Callable[..., Any]], StepNode]: ...
def step(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    retry: RetryConfig | Mapping[str, Any] | None = None,
    job_type: str = "lambda",
    vcpu: int | None = None,
    memory_mb: int | None = None,
    timeout_seconds: int | None = None,
) -> StepNode | Callable[[Callable[..., Any]], StepNode]:
    """Make a function a step of flows.

    Args:
        fn: the function; its first argument is the result of the step before.
        retry: how to try again after a failure: a RetryConfig or a dict with the same keys.
        job_type: where the deployed step runs, "lambda" or "batch".
        vcpu: virtual CPUs of a Batch job; None means what the configuration says.
        memory_mb: memory of a Batch job in MB; None means what the configuration says.
        timeout_seconds: time limit of the deployed step; None means what the configuration says.
    """
    resources = Resources(job_type, vcpu, memory_mb, timeout_seconds)

    def decorate(function: Callable[..., Any]) -> StepNode:
        name = _name(function, "step")
        return StepNode(Step(function, name, RetryConfig.of(retry, name), resources))

    return decorate if fn is None else decorate(fn)


@overload
def flow(fn: Callable[..., Any], /) -> Flow: ...
@overload
def flow(*, schedule: str | None = None, check_types: bool = True) -> Callable[[Callable[..., Any]], Flow]: ...
def flow(
    fn: Callable[..., Any] | None = None, /, *, schedule: str | None = None, check_types: bool = True
) -> Flow | Callable[[Callable[..., Any]], Flow]:
    """Make a function a flow: it returns a chain of steps, and its parameters become flags and inputs.

    Args:
        fn: the function; its name gives the flow's name (`birds_flow` becomes `birds-flow`).
        schedule: when the deployed flow starts by itself: "rate(1 hour)" or "cron(0 12 * * ? *)".
        check_types: refuse a flow whose annotated steps do not fit each other.
    """
    if fn is None:
        return lambda function: Flow(function, schedule, check_types)
    return Flow(fn, schedule, check_types)


def _name(function: Callable[..., Any], kind: str) -> str:
    if not callable(function) or isinstance(function, StepNode | Flow):
        raise GraphTypeError(f"@{kind} goes on a plain function, not on {function!r:.60}.")
    name: str = getattr(function, "__name__", "") or type(function).__name__
    if not name.isidentifier():
        raise GraphValidationError(f"A {kind} needs a name, and {name!r} is none: define it with def.")
    return name
