"""Which argument fills which parameter of a step: the one rule, here and in the cloud.

The piped value is the first argument of every step but the first. After it come the arguments given where the step is
used. A flow parameter goes to each step that names it (or takes `**kwargs`) and does not get that name otherwise;
it never takes the place of the piped value. What is left must have a default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from lokki.errors import GraphTypeError, GraphValidationError, nearest
from lokki.signatures import EMPTY, Way, arguments


class Shape(NamedTuple):
    """What a function can be called with."""

    positional: tuple[str, ...]
    named: frozenset[str]
    required: tuple[str, ...]
    any_positional: bool
    any_named: bool

    def takes(self, name: str) -> bool:
        """Whether the function can be given this name as a keyword argument."""
        return self.any_named or name in self.named


@lru_cache(maxsize=1024)
def shape(fn: Callable[..., Any]) -> Shape:
    """The shape of a function; one that does not tell (some C functions) counts as taking any positional argument."""
    try:
        parameters = arguments(fn)
    except (ValueError, TypeError):
        return Shape((), frozenset(), (), any_positional=True, any_named=False)
    kinds = {each.way for each in parameters}
    positional = tuple(each.name for each in parameters if each.way in (Way.POSITIONAL, Way.EITHER))
    named = frozenset(each.name for each in parameters if each.way in (Way.EITHER, Way.NAMED))
    variadic = (Way.ANY_POSITIONAL, Way.ANY_NAMED)
    required = tuple(each.name for each in parameters if each.default is EMPTY and each.way not in variadic)
    return Shape(positional, named, required, variadic[0] in kinds, variadic[1] in kinds)


def flow_parameters(
    name: str,
    fn: Callable[..., Any],
    *,
    positional: int,
    piped: bool,
    keywords: Mapping[str, Any],
    parameters: Iterable[str],
) -> tuple[str, ...]:
    """Check one use of a step and name the flow parameters that it receives.

    `positional` counts the positional arguments, the piped value included; `keywords` are those given where the step
    is used; `parameters` are the names of the flow's parameters.
    """
    form = shape(fn)
    by_place = _filled_by_place(name, form, positional, piped)
    for keyword in keywords:
        _check_keyword(name, form, by_place, keyword)
    received = tuple(each for each in parameters if each not in keywords and each not in by_place and form.takes(each))
    by_name = form.named & {*keywords, *received}
    missing = [each for each in form.required if each not in by_place and each not in by_name]
    if missing:
        raise GraphValidationError(_nothing_fills(name, missing[0], piped), details=missing)
    return received


def _filled_by_place(name: str, form: Shape, positional: int, piped: bool) -> tuple[str, ...]:
    if positional > len(form.positional) and not form.any_positional:
        room = len(form.positional)
        if piped and room == 0:
            raise GraphTypeError(
                f"Step {name!r} takes no positional argument, but it follows another step and receives its result. "
                f"Write: def {name}(value)."
            )
        raise GraphTypeError(f"Step {name!r} takes {room} positional argument(s), but {positional} are given.")
    return form.positional[:positional]


def _check_keyword(name: str, form: Shape, by_place: tuple[str, ...], keyword: str) -> None:
    if keyword in by_place:
        raise GraphTypeError(
            f"Step {name!r} gets {keyword!r} twice: its place already receives "
            f"{'the previous result or ' if keyword == by_place[0] else ''}a positional argument. "
            f"Leave out {keyword}=."
        )
    if not form.takes(keyword):
        raise GraphTypeError(f"Step {name!r} takes no argument {keyword!r}{nearest(keyword, form.named) or '.'}")


def _nothing_fills(name: str, missing: str, piped: bool) -> str:
    use = f".next({name}, {missing}=...)" if piped else f"{name}({missing}=...)"
    return (
        f"Step {name!r} needs {missing!r}, and nothing fills it. Give it where the step is used "
        f"(for example {use}), make it a parameter of the flow, or give it a default."
    )
