"""A chain of steps as it is written: `StepNode`, `MapBlock`, and what `.map`, `.next` and `.agg` make of them.

Nothing here is ever changed. Calling a step or chaining from it makes a new value that points back at what came
before, so a step may be used twice in a flow and in many flows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lokki.binding import shape
from lokki.errors import GraphTypeError, GraphValidationError
from lokki.frozen import field, frozen, replace
from lokki.graph import Step
from lokki.policy import RetryConfig


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

    def __repr__(self) -> str:
        return f"<step {self.name}>"

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

    def __call__(self, /, *args: Any, **kwargs: Any) -> StepNode:
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

    def __repr__(self) -> str:
        return f"<map over {self.source.name}>"

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
    hint = ""
    if callable(node) and hasattr(node, "__name__"):
        lost = f" Is {node.__name__} missing its @step?"
        hint = lost if node.__name__.isidentifier() else " Write it with def and @step."
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
    steps = [each for each in nodes if isinstance(each, StepNode) and each.after is None]
    for name in kwargs:
        if not any(shape(each.fn).takes(name) for each in steps):
            raise GraphTypeError(
                f"None of the steps {', '.join(each.name for each in steps)} takes an argument {name!r}"
                + ("." if len(steps) == len(nodes) else "; a chain's steps are given theirs where they are used.")
            )
    for node in nodes:
        wanted = {k: v for k, v in kwargs.items() if node in steps and shape(node.fn).takes(k)}
        yield from _body(node, wanted)
