"""The graph of a flow whose parameters are not all known: a build needs the shape, an execution brings the values.

A required parameter gets a sample of what it asks for. The flow function may compute with it, so where one sample does
not do another is tried: text that is a name, then a date, then a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from lokki.decorators import Flow
from lokki.errors import BuildError, LokkiError, ParameterError
from lokki.graph import FlowGraph
from lokki.kinds import Choice, Either, Kind, Many, text_of
from lokki.params import Parameter, parse_text
from lokki.runtime.failure import summary

_TEXTS = ("sample", "2000-01-01", "1", "true", "{}", "00:00:00")
_MOST = 64  # combinations that are tried


def sampled(flow: Flow, given: Mapping[str, Any]) -> FlowGraph:
    """The graph with the values that are given, and samples for the required parameters that are not."""
    missing = [each for each in flow.parameters if each.required and each.name not in given]
    if not missing:
        return flow(**given)
    failure: Exception | None = None
    for values in islice(product(*(tuple(_samples(each)) for each in missing)), _MOST):
        try:
            return flow(**given, **{each.name: value for each, value in zip(missing, values, strict=True)})
        except LokkiError:
            raise
        except Exception as error:  # noqa: BLE001 - the flow function is the user's code, and the sample may not suit it
            failure = failure or error
    flags = " ".join(f"{each.flag} ..." for each in missing)
    why = "" if failure is None else f" ({summary(failure)})"
    raise BuildError(
        f"The flow function {flow.fn.__name__!r} fails with sample values for its required parameters{why}. Give it "
        f"values that it can be built with: build {flags}; they become the defaults of the deployed flow."
    ) from failure


def _samples(parameter: Parameter) -> Iterator[Any]:
    """Values that the parameter takes, the likeliest first."""
    seen = []
    for text in _texts(parameter.kind):
        try:
            value = parse_text(parameter, text)
        except ParameterError:
            continue
        if value not in seen:
            seen.append(value)
            yield value


def _texts(kind: Kind) -> Iterator[str]:
    """What may spell a value: the members of a closed set, and the samples that are there for everything."""
    match kind:
        case Choice(members):
            yield from map(text_of, members)
        case Many(items=items, fixed=True):
            spelled = ([*_texts(each)] for each in items)
            yield from (",".join(texts) for texts in islice(product(*spelled), _MOST))
        case Many(items=(item,)):
            yield from _texts(item)
        case Either(members):
            for member in members:
                yield from _texts(member)
    yield from _TEXTS
