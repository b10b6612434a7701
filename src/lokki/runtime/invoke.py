"""Running ONE step: fill its arguments, call it, try again as its policy says. Whatever runs a step does it here.

An `Invocation` is one use of a step with everything filled in that is known before the run: constants and the flow's
parameters. What comes from other steps is looked up when it runs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextvars import copy_context
from time import perf_counter
from types import AsyncGeneratorType, CoroutineType
from typing import Any, NamedTuple, Protocol

from lokki.codec import decode, encode
from lokki.errors import StoreError
from lokki.graph import Call, Const, Input, Param, Ref, Step
from lokki.runtime.failure import Cancelled, StepFailure, summary, user_trace


class Result(Protocol):
    """What a step left behind."""

    @property
    def value(self) -> Any:
        """The value itself."""


class Held(NamedTuple):
    """A result by itself."""

    value: Any


class Surroundings(Protocol):
    """What a step's run needs from whoever runs it; where results are `durable`, an attempt never sees what an earlier
    one did to its arguments."""

    @property
    def durable(self) -> bool:
        """Whether values take the road through a store."""

    def retrying(self, node: str, index: tuple[int, ...], attempt: int, delay: float, error: str) -> None:
        """Hear that an attempt failed and another follows after the delay."""

    def wait(self, seconds: float) -> bool:
        """Sleep, and say whether the run was stopped meanwhile."""


Results = Mapping[str, Result]


class Invocation(NamedTuple):
    """One use of a step, ready to run.

    Attributes:
        only: the node whose result is the single argument that is not known before, or None when there are others.
        places: the positional arguments when `only` does not say it all.
        named: the keyword arguments that come from other steps.
        fixed: the keyword arguments that are known.
    """

    node: str
    step: Step
    only: str | None
    places: tuple[Input, ...]
    named: tuple[tuple[str, Ref], ...]
    fixed: Mapping[str, Any]

    def call(self, results: Results) -> Any:
        """Call the function once."""
        if self.only is not None:
            return self.step.fn(results[self.only].value, **self.fixed)
        places = [_value(each, results) for each in self.places]
        named = {name: picked(ref, results) for name, ref in self.named}
        return self.step.fn(*places, **self.fixed, **named)

    def refs(self) -> Iterator[Ref]:
        """The results of other steps that it uses."""
        yield from (each for each in self.places if isinstance(each, Ref))
        yield from (ref for _, ref in self.named)


def prepare(call: Call, params: Mapping[str, Any]) -> Invocation:
    """The call with the flow's parameters filled in."""
    places = tuple(Const(params[each.name]) if isinstance(each, Param) else each for each in call.inputs)
    named = tuple((name, each) for name, each in call.kwargs.items() if isinstance(each, Ref))
    fixed = {
        name: params[each.name] if isinstance(each, Param) else each.value
        for name, each in call.kwargs.items()
        if not isinstance(each, Ref)
    }
    match places:
        case (Ref(node=node, path=()),) if not named:
            return Invocation(call.id, call.step, node, places, named, fixed)
        case _:
            return Invocation(call.id, call.step, None, places, named, fixed)


def invoke(invocation: Invocation, results: Results, index: tuple[int, ...], around: Surroundings) -> Any:
    """Run the step until it succeeds or its retries are used up; a failure is a `StepFailure`."""
    attempt = 0
    retry = invocation.step.retry
    sources = tuple({ref.node for ref in invocation.refs()})
    restorable = retry.retries > 0 and around.durable
    values = [results[each].value for each in sources] if restorable else []
    untouched = restorable and (_untouched((values, invocation.places, invocation.fixed)) or _untouched((values,)))
    started = perf_counter()
    while True:
        try:
            return settled(invocation.call(results))
        except (Cancelled, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if attempt >= retry.retries or not retry.matches(error):
                seconds = perf_counter() - started
                raise StepFailure(error, invocation.node, attempt, seconds, user_trace(error), index) from error
            delay = retry.wait(attempt)
            attempt += 1
            around.retrying(invocation.node, index, attempt, delay, summary(error))
        if around.wait(delay):
            raise Cancelled("the run was stopped")
        if untouched:
            values, *constants = decode(untouched)
            results = {**results, **{each: Held(value) for each, value in zip(sources, values, strict=True)}}
            if constants:
                invocation = invocation._replace(places=constants[0], fixed=constants[1])


def _untouched(given: Any) -> bytes:
    """The arguments as they are now; nothing where no pickle takes them, as may be between the steps of a body."""
    try:
        return encode(given)
    except StoreError:
        return b""


def settled(value: Any) -> Any:
    """What the function returned, as data: a coroutine is awaited, what yields becomes the list of it."""
    kind = type(value)
    if kind is CoroutineType:
        return settled(_awaited(value))
    if kind is AsyncGeneratorType:
        return _awaited(_listed(value))
    return list(value) if hasattr(kind, "__next__") and not isinstance(value, io.IOBase) else value


async def _listed(yielding: Any) -> list[Any]:
    return [each async for each in yielding]


def _awaited(coroutine: Any) -> Any:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor  # a notebook has a loop of its own in this thread

    with ThreadPoolExecutor(1) as other:
        return other.submit(copy_context().run, asyncio.run, coroutine).result()


def picked(ref: Ref, results: Results) -> Any:
    """The result that a reference names, or the part of it that its path picks."""
    value = results[ref.node].value
    for part in ref.path:
        value = value[part]
    return value


def _value(place: Input, results: Results) -> Any:
    match place:
        case Ref():
            return picked(place, results)
        case Const():
            return place.value
        case Param():
            raise AssertionError("parameters are filled in before")
