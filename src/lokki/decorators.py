"""How a flow is written: `@step`, `@flow`, and the chain `.map .next .agg`.

Nothing here is ever changed. Calling a step or chaining from it makes a new value that points back at what came
before, so a step may be used twice in a flow and in many flows at once. `flow(...)()` walks back from what the flow
function returned and makes the `FlowGraph`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from lokki.binding import flow_parameters, shape
from lokki.errors import GraphTypeError, GraphValidationError
from lokki.frozen import field, frozen, replace
from lokki.graph import ITEM, Call, Const, FlowGraph, Input, Map, Node, Param, Ref, Step
from lokki.params import Parameter, bind, call_arguments, describe
from lokki.policy import Resources, RetryConfig, Schedule

__all__ = ["Flow", "MapBlock", "RetryConfig", "StepNode", "flow", "step"]


@frozen(eq=False)
class StepNode:
    """A step, or one use of it in a chain; made by `@step` and by every call and chaining."""

    step: Step
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    after: StepNode | MapBlock | None = None

    def __post_init__(self) -> None:
        for name in ("__module__", "__qualname__", "__doc__"):
            object.__setattr__(self, name, getattr(self.step.fn, name, None))
        object.__setattr__(self, "__wrapped__", self.step.fn)

    @property
    def fn(self) -> Callable[..., Any]:
        """The function as it was written; call it to test the step by itself."""
        return self.step.fn

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    @property
    def retry(self) -> RetryConfig:
        """How the step is tried again after it failed."""
        return self.step.retry

    @property
    def job_type(self) -> str:
        """Where the deployed step runs: "lambda" or "batch"."""
        return self.step.resources.job_type

    def __call__(self, *args: Any, **kwargs: Any) -> StepNode:
        """This use of the step with these arguments."""
        definition = self.step
        if isinstance(kwargs.get("retry"), RetryConfig) and "retry" not in shape(self.fn).named:
            definition = replace(definition, retry=kwargs.pop("retry"))
        return replace(self, step=definition, args=args, kwargs=kwargs)

    def map(
        self,
        step_node: Body,
        concurrency_limit: int | None = None,
        *,
        batch_size: int = 1,
        direct_pass: bool = False,
        **kwargs: Any,
    ) -> MapBlock:
        """Run a step, a list of steps in order, or a whole chain once per item of this step's result.

        Args:
            step_node: what to run per item; a chain such as `b.map(c).agg(d)` makes a map within the map.
            concurrency_limit: the most items that run at once.
            batch_size: how many items one child runs; each keeps its own retry, index and error.
            direct_pass: run the body's steps in one place and keep their results in memory between them.
            **kwargs: arguments for the step, the same for every item.
        """
        block = MapBlock(self, (), _limit(concurrency_limit), _count(batch_size, "batch_size"), direct_pass)
        return _extended(block, step_node, kwargs)

    def next(self, step_node: StepNode, **kwargs: Any) -> StepNode:
        """Run a step on this step's result.

        Args:
            step_node: the step to run.
            **kwargs: arguments for it.
        """
        return _use(step_node, kwargs, self, ".next()")

    def agg(self, *_: Any, **__: Any) -> StepNode:
        """Only a map can be aggregated: always raises."""
        raise GraphTypeError(
            ".agg() must be called on the result of .map(), not directly on a step: "
            f"write {self.name}.map(...).agg(...), or {self.name}.next(...) for the next step of a chain."
        )


@frozen(eq=False)
class MapBlock:
    """A map that is still open: `.map` and `.next` add to what is run per item, `.agg` closes it."""

    source: StepNode
    body: tuple[StepNode | MapBlock, ...]
    concurrency_limit: int | None = None
    batch_size: int = 1
    direct_pass: bool = False

    def map(
        self,
        step_node: Body,
        concurrency_limit: int | None = None,
        *,
        batch_size: int | None = None,
        direct_pass: bool | None = None,
        **kwargs: Any,
    ) -> MapBlock:
        """Add a step, a list of steps or a chain to what is run per item (this does not nest).

        Options that are given replace those the map was opened with.
        """
        changed = replace(
            self,
            concurrency_limit=_limit(concurrency_limit) or self.concurrency_limit,
            batch_size=self.batch_size if batch_size is None else _count(batch_size, "batch_size"),
            direct_pass=self.direct_pass if direct_pass is None else direct_pass,
        )
        return _extended(changed, step_node, kwargs)

    def next(self, step_node: Body, **kwargs: Any) -> MapBlock:
        """The same as `.map` on an open map."""
        return _extended(self, step_node, kwargs)

    def agg(self, step_node: StepNode, **kwargs: Any) -> StepNode:
        """Close the map: the step receives the list of all results, in the order of the items."""
        return _use(step_node, kwargs, self, ".agg()")


Body = StepNode | MapBlock | Sequence[StepNode | MapBlock]


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

    def __call__(self, *args: Any, **kwargs: Any) -> FlowGraph:
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
        graph = _lowered(self, self._chain(params), params)
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


def _limit(value: int | None) -> int | None:
    return None if value is None else _count(value, "concurrency_limit")


def _count(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise GraphTypeError(f"{name} takes a whole number, not {value!r}.")
    if value < 1:
        raise GraphValidationError(f"{name} must be 1 or more, not {value}.")
    return value


def _use(node: Any, kwargs: Mapping[str, Any], after: StepNode | MapBlock, where: str) -> StepNode:
    """One use of a bare or called step behind `after`."""
    if isinstance(node, MapBlock) or (isinstance(node, StepNode) and node.after is not None):
        raise GraphTypeError(
            f"{where} takes one step, not a chain: put the chain's own steps here one after the other, "
            "as in a.next(b).map(c).agg(d)."
        )
    return replace(_a_step(node, where), kwargs={**_a_step(node, where).kwargs, **kwargs}, after=after)


def _a_step(node: Any, where: str) -> StepNode:
    if isinstance(node, StepNode):
        return node
    hint = f" Is {node.__name__} missing its @step?" if callable(node) and hasattr(node, "__name__") else ""
    raise GraphTypeError(f"{where} takes a step, not {type(node).__name__}.{hint}")


def _extended(block: MapBlock, added: Body, kwargs: Mapping[str, Any]) -> MapBlock:
    return replace(block, body=(*block.body, *_body(added, kwargs)))


def _body(added: Any, kwargs: Mapping[str, Any]) -> Iterator[StepNode | MapBlock]:
    if isinstance(added, list | tuple):
        yield from _listed(added, kwargs)
    elif isinstance(added, MapBlock) or (isinstance(added, StepNode) and added.after is not None):
        if kwargs:
            raise GraphTypeError(
                f".map() cannot tell which step of a chain gets {next(iter(kwargs))!r}: "
                "give it where that step is used in the chain."
            )
        yield added
    else:
        node = _a_step(added, ".map()")
        yield replace(node, kwargs={**node.kwargs, **kwargs})


def _listed(added: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[StepNode | MapBlock]:
    """The steps of a list; each keyword argument goes to those that take it."""
    if not added:
        raise GraphValidationError("The step list cannot be empty: write .map(step) or .map([first, second]).")
    nodes = [each if isinstance(each, MapBlock) else _a_step(each, ".map()") for each in added]
    steps = [each for each in nodes if isinstance(each, StepNode)]
    for name in kwargs:
        if not any(shape(each.fn).takes(name) for each in steps):
            raise GraphTypeError(
                f"None of the steps {', '.join(each.name for each in steps)} takes an argument {name!r}."
            )
    for node in nodes:
        wanted = {k: v for k, v in kwargs.items() if isinstance(node, StepNode) and shape(node.fn).takes(k)}
        yield from _body(node, wanted)


def _lowered(flow: Flow, end: StepNode | MapBlock, params: Mapping[str, Any]) -> FlowGraph:
    lowering = _Lowering(tuple(params))
    nodes, output = lowering.chain(end, None)
    return FlowGraph(flow.name, nodes, output, params, flow.schedule, remake=flow)


class _Lowering:
    """Turns a chain into nodes, giving each a readable id of its own."""

    def __init__(self, parameters: tuple[str, ...]) -> None:
        self._parameters = parameters
        self._used: set[str] = set()

    def chain(self, end: StepNode | MapBlock, entry: Ref | None) -> tuple[tuple[Node, ...], Ref]:
        """The nodes of the chain that ends here, fed by `entry`; and the last one's result."""
        nodes: list[Node] = []
        for link in _links(end):
            made = self._call(link, entry) if isinstance(link, StepNode) else self._map(link, entry)
            nodes.append(made)
            entry = Ref(made.id)
        assert entry is not None
        return tuple(nodes), entry

    def _call(self, node: StepNode, entry: Ref | None) -> Call:
        piped: tuple[Input, ...] = () if entry is None else (entry,)
        inputs = (*piped, *(Const(each) for each in node.args))
        received = flow_parameters(
            node.name,
            node.fn,
            positional=len(inputs),
            piped=entry is not None,
            keywords=node.kwargs,
            parameters=self._parameters,
        )
        given: dict[str, Input] = {name: Const(value) for name, value in node.kwargs.items()}
        return Call(self._id(node.name), node.step, inputs, {**given, **{name: Param(name) for name in received}})

    def _map(self, block: MapBlock, entry: Ref | None) -> Map:
        assert entry is not None
        id_ = self._id(f"{entry.node.lstrip('$')}-map")
        nodes: list[Node] = []
        item = Ref(ITEM)
        for each in block.body:
            made, item = self.chain(each, item)
            nodes.extend(made)
        body = FlowGraph(id_, tuple(nodes), item)
        return Map(id_, entry, body, block.concurrency_limit, block.batch_size, block.direct_pass)

    def _id(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._used:
            number += 1
            unique = f"{name}-{number}"
        self._used.add(unique)
        return unique


def _links(end: StepNode | MapBlock) -> list[StepNode | MapBlock]:
    """The chain from its first step to `end`."""
    links: list[StepNode | MapBlock] = []
    here: StepNode | MapBlock | None = end
    while here is not None:
        links.append(here)
        here = here.source if isinstance(here, MapBlock) else here.after
    return links[::-1]
