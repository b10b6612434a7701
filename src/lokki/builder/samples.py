"""The graph of a flow whose parameters are not all known: a build needs the shape, an execution brings the values.

A required parameter gets a sample of what it asks for. The flow function may compute with it, so where one sample does
not do another is tried: text that is a name, then a date, then a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from lokki.conversion import Mismatch, read
from lokki.decorators import Flow
from lokki.errors import BuildError, LokkiError
from lokki.graph import FlowGraph
from lokki.kinds import Choice, Either, Foreign, Kind, Many, Scalar, Table, is_nothing
from lokki.params import Parameter
from lokki.runtime.failure import shown, summary

_TEXTS = ("sample", "2000-01-01", "1", "true", "{}", "00:00:00")
_MOST = 128  # combinations that are tried


def sampled(flow: Flow, given: Mapping[str, Any]) -> FlowGraph:
    """The graph with the values that are given, and samples for the required parameters that are not."""
    missing = [each for each in flow.parameters if each.required and each.name not in given]
    failure: tuple[Exception, tuple[Any, ...]] | None = None
    for values in islice(_combined([_samples(each) for each in missing]), _MOST):
        try:
            return flow(**given, **{each.name: value for each, value in zip(missing, values, strict=True)})
        except LokkiError:
            raise
        except Exception as error:  # noqa: BLE001 - the flow function is the user's code, and the sample may not suit it
            failure = failure or (error, values)
    raise _unbuildable(flow, missing, failure) from (failure and failure[0])


def _unbuildable(
    flow: Flow, missing: Sequence[Parameter], failure: tuple[Exception, tuple[Any, ...]] | None
) -> BuildError:
    flags = " ".join(f"{each.flag} ..." for each in missing)
    tried = ""
    if failure is not None:
        error, values = failure
        given = ", ".join(f"{each.flag} {shown(value)}" for each, value in zip(missing, values, strict=True))
        tried = f" (with {given}: {summary(error)})"
    return BuildError(
        f"The flow function {flow.fn.__name__!r} fails with sample values for its required parameters{tried}. Give it "
        f"values that it can be built with: build {flags}; they become the defaults of the deployed flow."
    )


def _combined(choices: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """One of each, all in the order of how unlikely they are together."""
    for steps in range(1 + sum(len(each) - 1 for each in choices)):
        yield from _down(choices, steps)


def _down(choices: Sequence[tuple[Any, ...]], steps: int) -> Iterator[tuple[Any, ...]]:
    """The combinations that are so many steps below the likeliest."""
    if not choices:
        yield from () if steps else ((),)
        return
    for at, value in enumerate(choices[0][: steps + 1]):
        yield from ((value, *others) for others in _down(choices[1:], steps - at))


def _samples(parameter: Parameter) -> tuple[Any, ...]:
    """Values that the parameter takes, the likeliest first."""
    kind = parameter.kind
    if isinstance(kind, Foreign):
        raise BuildError(
            f"Parameter {parameter.flag!r} takes a {kind.type.__name__}, which neither a command line nor the input of "
            "an execution can give. Give it a default, or take text and make the value in a step."
        )
    return tuple(_values(kind))


def _values(kind: Kind) -> Iterator[Any]:
    match kind:
        case Choice():
            yield from kind.members
        case Many(fixed=True):
            yield from islice((kind.build(each) for each in product(*map(_values, kind.items))), 1)
        case Many():
            yield from (kind.build([each]) for each in _values(kind.items[0]))
        case Table():
            yield {}
        case Either():
            for member in sorted(kind.members, key=is_nothing):
                yield from _values(member)
        case Scalar() if is_nothing(kind):
            yield None
        case _:
            yield from _read(kind)


def _read(kind: Kind) -> Iterator[Any]:
    """What the texts are that spell a value of this kind, each value once."""
    seen: list[Any] = []
    for text in _TEXTS:
        try:
            value = read(kind, text)
        except Mismatch:
            continue
        if value not in seen:
            seen.append(value)
            yield value
