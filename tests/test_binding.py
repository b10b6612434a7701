"""Which argument fills which parameter of a step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from lokki.binding import flow_parameters, shape
from lokki.errors import GraphValidationError, LokkiError


def one(value: Any) -> None: ...
def two(value: Any, day: Any) -> None: ...
def default(value: Any, day: Any = "monday") -> None: ...
def by_name(value: Any, *, day: Any) -> None: ...
def by_place(value: Any, day: Any, /) -> None: ...
def any_names(value: Any, **others: Any) -> None: ...
def any_names_by_place(value: Any, /, **others: Any) -> None: ...
def anything(*values: Any, **others: Any) -> None: ...
def rest(value: Any, *values: Any, day: Any = None) -> None: ...
def nothing() -> None: ...


def received(fn: Callable[..., Any], parameters: str = "", places: int = 1, **keywords: Any) -> tuple[str, ...]:
    """The flow parameters that a step gets which follows another one."""
    return flow_parameters(
        fn.__name__, fn, positional=places, piped=True, keywords=keywords, parameters=parameters.split()
    )


def received_first(fn: Callable[..., Any], parameters: str = "", places: int = 0, **keywords: Any) -> tuple[str, ...]:
    """The flow parameters that the first step of a flow gets."""
    return flow_parameters(
        fn.__name__, fn, positional=places, piped=False, keywords=keywords, parameters=parameters.split()
    )


@pytest.mark.parametrize(
    ("fn", "names"),
    [
        (one, ()),
        (two, ("day",)),
        (default, ("day",)),
        (by_name, ("day",)),
        (any_names, ("day", "city")),
        (any_names_by_place, ("day", "city")),
        (anything, ("value", "day", "city")),
        (rest, ("day",)),
    ],
)
def test_a_flow_parameter_goes_to_the_steps_that_name_it_or_take_any_but_never_replaces_the_piped_value(
    fn: Callable[..., Any], names: tuple[str, ...]
) -> None:
    assert received(fn, "value day city") == names


def test_the_first_step_has_no_piped_value_and_may_get_its_name_too() -> None:
    assert received_first(two, "city day value") == ("day", "value")
    assert received_first(two, "day value", places=1) == ("day",)
    assert received_first(nothing, "day value") == ()


@pytest.mark.parametrize("fn", [two, default, by_name, any_names, rest])
def test_what_is_given_where_the_step_is_used_comes_before_a_flow_parameter(fn: Callable[..., Any]) -> None:
    assert received(fn, "day", day="friday") == ()
    assert received(fn, "other", day="friday") == (("other",) if fn is any_names else ())


def test_an_argument_given_by_place_comes_before_a_flow_parameter() -> None:
    assert received(two, "day", places=2) == received(by_place, "day", places=2) == ()


def test_what_nothing_else_fills_must_have_a_default() -> None:
    assert received(default) == ()
    for fn in (two, by_name, by_place):
        with pytest.raises(
            GraphValidationError, match=f"Step '{fn.__name__}' needs 'day', and nothing fills it"
        ) as caught:
            received(fn)
        assert caught.value.details == ("day",)


@pytest.mark.parametrize("keywords", [{}, {"value": 1}])
def test_a_parameter_without_a_name_for_others_is_only_filled_by_its_place(keywords: dict[str, Any]) -> None:
    with pytest.raises(GraphValidationError, match="Step 'any_names_by_place' needs 'value', and nothing fills it"):
        received_first(any_names_by_place, "value", **keywords)
    with pytest.raises(GraphValidationError, match="Step 'by_place' needs 'day', and nothing fills it"):
        received(by_place, "day")


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        (
            lambda: received(nothing),
            (
                "Step 'nothing' takes no positional argument, but it follows another step and receives its result. "
                "Write: def nothing(value)."
            ),
        ),
        (lambda: received_first(nothing, places=1), "Step 'nothing' takes 0 positional argument(s), but 1 are given."),
        (lambda: received(by_name, places=2), "Step 'by_name' takes 1 positional argument(s), but 2 are given."),
        (
            lambda: received(one, value=1),
            (
                "Step 'one' gets 'value' twice: its place already receives the previous result or a positional "
                "argument. Leave out value=."
            ),
        ),
        (
            lambda: received(two, places=2, day=1),
            "Step 'two' gets 'day' twice: its place already receives a positional argument. Leave out day=.",
        ),
        (lambda: received(default, dya=1), "Step 'default' takes no argument 'dya'; did you mean 'day'?"),
        (lambda: received(default, city="Ulm"), "Step 'default' takes no argument 'city'."),
        (lambda: received(by_place, places=1, day=1), "Step 'by_place' takes no argument 'day'."),
    ],
)
def test_what_python_would_refuse_at_the_call_is_refused_before_anything_runs(
    bind: Callable[[], Any], message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        bind()
    assert str(caught.value) == message
    assert isinstance(caught.value, LokkiError)


def test_any_number_of_values_may_go_to_a_star() -> None:
    assert received(rest, "day", places=5) == ("day",)
    assert received(anything, places=5) == ()


def test_a_function_that_does_not_tell_its_parameters_takes_values_by_place() -> None:
    signatureless = iter
    assert not shape(signatureless).takes("day")
    assert received(signatureless, "day", places=2) == ()


def test_what_partial_has_filled_by_place_is_gone_and_by_name_is_a_default() -> None:
    assert shape(functools.partial(two, 1)).positional == ("day",)
    assert shape(functools.partial(two, day=1)).required == ("value",)
    assert shape(functools.partial(two, day=1)).takes("day")


def test_a_method_does_not_count_self() -> None:
    assert shape("".join).positional == ("iterable",)
    assert shape(Bird().flap).positional == ("times",)


class Bird:
    def flap(self, times: int) -> int:
        return times
