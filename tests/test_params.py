from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from lokki.errors import GraphValidationError, ParameterError
from lokki.params import Parameter, bind, call_arguments, coerce, coerce_each, describe, parse_flags

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]


TAGS: list[str] = []


def daily_report(
    start_date: date, *, count: int = 5, verbose: bool = False, tags: list[str] = TAGS, **kwargs: Any
) -> None:
    pass


def prices(count: int = 5, verbose: bool = True, no_cache: bool = False, ids: Sequence[int] = ()) -> None:
    pass


PRICES = describe(prices)


class TestDescribe:
    def test_the_signature_is_read(self) -> None:
        assert describe(daily_report) == (
            Parameter("start_date", date, None, required=True),
            Parameter("count", int, 5),
            Parameter("verbose", bool, False),
            Parameter("tags", list[str], []),
            Parameter("kwargs", Any, None, role="extra"),
        )

    def test_a_hint_that_only_type_checkers_can_resolve_counts_as_none_and_leaves_the_others(self) -> None:
        def flow(frame: Unknown, when: date, note: "not a type" = 1, count: [int] = None) -> None:  # type: ignore  # noqa: F722, PGH003
            pass

        assert [each.hint for each in describe(flow)] == [Any, date, Any, Any]

    def test_a_default_of_none_makes_a_hint_optional(self) -> None:
        def flow(count: int = None, anything: Any = None) -> None:  # type: ignore[assignment]  # noqa: RUF013
            pass

        count, anything = describe(flow)
        assert (coerce(count, None), coerce(count, "5"), anything.hint) == (None, 5, Any)

    def test_a_wrapped_function_is_read_like_the_function(self) -> None:
        @wraps(prices)
        def wrapper(*args: Any) -> None:
            pass

        assert describe(wrapper) == PRICES

    @pytest.mark.parametrize("name", ["run_id", "cache_enabled"])
    def test_the_names_that_lokki_needs_are_refused(self, name: str) -> None:
        flow = eval(f"lambda count, {name}=None: None")
        flow.__name__ = "daily_report"
        with pytest.raises(GraphValidationError, match=f"'daily_report'.*'{name}'"):
            describe(flow)

    def test_args_are_refused(self) -> None:
        def daily(*names: str) -> None:
            pass

        with pytest.raises(GraphValidationError, match=r"'daily' takes \*names"):
            describe(daily)


class TestFlags:
    @pytest.mark.parametrize(
        ("words", "values"),
        [
            ("", {}),
            ("--start-date 2024-01-01", {"start_date": date(2024, 1, 1)}),
            ("--start_date 2024-01-01", {"start_date": date(2024, 1, 1)}),
            ("--start-date=2024-01-01", {"start_date": date(2024, 1, 1)}),
            ("--count -5", {"count": -5}),
            ("--count=-5 --count 6", {"count": 6}),
            ("--verbose", {"verbose": True}),
            ("--verbose --count 1", {"verbose": True, "count": 1}),
            ("--verbose no", {"verbose": False}),
            ("--verbose=0", {"verbose": False}),
            ("--verbose --no-verbose", {"verbose": False}),
            ("--tags=", {"tags": []}),
            ("--tags=--x,=y", {"tags": ["--x", "=y"]}),
            ("--other-thing 5 --no-count x", {"other_thing": "5", "no_count": "x"}),
        ],
    )
    def test_all_spellings(self, words: str, values: dict[str, object]) -> None:
        assert parse_flags(describe(daily_report), words.split()) == values

    def test_an_optional_boolean_may_stand_alone(self) -> None:
        assert parse_flags([Parameter("count", bool | None)], ["--count"]) == {"count": True}

    def test_a_parameter_named_no_something_is_not_a_negation(self) -> None:
        assert parse_flags(PRICES, ["--no-cache", "--no_verbose"]) == {"no_cache": True, "verbose": False}

    def test_extra_parameters_have_the_hint_of_kwargs(self) -> None:
        def flow(**limits: int) -> None:
            pass

        assert parse_flags(describe(flow), ["--a", "1"]) == {"a": 1}

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            ("--cuont 5", "Unexpected parameter: '--cuont'; did you mean '--count'?"),
            ("--zzz=5", "Unexpected parameter: '--zzz'; this flow takes --count, --verbose, --no-cache, --ids"),
            ("--no-count", "Unexpected parameter: '--no-count'; did you mean '--count'?"),
            ("--count", "Parameter '--count' needs a value"),
            ("--no_cache --ids --verbose", "Parameter '--ids' needs a value"),
            ("--no-verbose=1", "Parameter '--no-verbose' takes no value; write '--verbose=1'"),
            ("--verbose maybe", "Invalid value for '--verbose': 'maybe' is not a valid boolean (true or false)"),
            ("--ids 1 2", "Unexpected argument: '2'; a parameter is written as '--name value', a list as '--name a,b'"),
            ("no_cache=yes", "Unexpected argument: 'no_cache=yes'; a parameter is written as '--no-cache yes'"),
            ("-count 5", "Unexpected argument: '-count'; a parameter is written as '--count value'"),
            ("--", "Unexpected argument: '--'; a parameter is written as '--name value', a list as '--name a,b'"),
        ],
    )
    def test_what_is_wrong_is_said(self, words: str, problem: str) -> None:
        with pytest.raises(ParameterError) as caught:
            parse_flags(PRICES, words.split())
        assert str(caught.value) == problem

    @pytest.mark.parametrize("flag", ["--run-id", "--cache_enabled", "--a.b"])
    def test_kwargs_do_not_take_every_name(self, flag: str) -> None:
        with pytest.raises(ParameterError, match=f"Unexpected parameter: '{flag}'"):
            parse_flags(describe(daily_report), [flag, "5"])


class TestBind:
    def test_given_values_win_over_defaults_and_stay_as_they_are(self) -> None:
        bound = bind(describe(daily_report), {"more": 1, "verbose": None, "start_date": "x"}, flow="daily")
        assert list(bound.items()) == [
            *[("start_date", "x"), ("count", 5), ("verbose", None), ("tags", []), ("more", 1)]
        ]

    def test_a_missing_parameter_is_named_as_its_flag(self) -> None:
        with pytest.raises(ParameterError) as caught:
            bind(describe(daily_report), {"count": 1}, flow="daily")
        assert str(caught.value) == "Missing required parameter: '--start-date'"
        assert caught.value.parameter == "start_date"

    def test_all_missing_parameters_are_named(self) -> None:
        with pytest.raises(ParameterError, match=r"^Missing required parameter: '--a', '--b'$"):
            bind([Parameter("a", required=True), Parameter("b", required=True)], {}, flow="daily")

    @pytest.mark.parametrize(
        ("parameters", "name", "problem"),
        [
            (PRICES, "verbos", "Unexpected parameter: '--verbos'; did you mean '--verbose'?"),
            ((), "a_b", "Unexpected parameter: '--a-b'; flow 'daily' takes no parameters"),
            (describe(daily_report), "run_id", "Unexpected parameter: '--run-id'; lokki needs this name itself"),
        ],
    )
    def test_an_unknown_name_is_refused(self, parameters: tuple[Parameter, ...], name: str, problem: str) -> None:
        with pytest.raises(ParameterError) as caught:
            bind(parameters, {name: 1}, flow="daily")
        assert str(caught.value) == problem

    def test_defaults_are_not_shared_between_calls(self) -> None:
        missing = object()
        default = ([1], {"a": [2]}, {3}, missing)
        one, other = (bind([Parameter("count", Any, default)], {}, flow="daily")["count"] for _ in range(2))
        assert isinstance(one, tuple)
        one[0].append(4)
        one[1]["a"].append(4)
        one[2].add(4)
        assert other == default == ([1], {"a": [2]}, {3}, missing)
        assert one[3] is missing

    def test_positional_only_parameters_are_passed_by_position(self) -> None:
        def flow(a: int, b: int = 2, /, c: int = 3, *, d: int = 4, **rest: int) -> tuple[int, ...]:
            return a, b, c, d, rest["e"]

        positional, named = call_arguments(describe(flow), bind(describe(flow), {"d": 40, "e": 5, "a": 1}, flow="flow"))
        call: Callable[..., tuple[int, ...]] = flow
        assert call(*positional, **named) == (1, 2, 3, 40, 5)


class TestCoerceEach:
    def test_a_whole_body_is_coerced_and_unknown_names_are_left_to_bind(self) -> None:
        body = {"start_date": "2024-01-01", "count": "7", "other": "7"}
        assert coerce_each(describe(daily_report), body) == {"start_date": date(2024, 1, 1), "count": 7, "other": "7"}
        assert coerce_each(PRICES, {"other": "7"}) == {"other": "7"}


def test_describing_and_binding_do_not_load_what_only_conversion_needs() -> None:
    code = (
        "import sys; from lokki.params import bind, describe; bind(describe(lambda n=1: n), {}, flow='f');"
        "print(*{'lokki.kinds', 'lokki.conversion'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
