from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import GenericAlias, SimpleNamespace
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lokki.errors import ParameterError
from lokki.params import Parameter, coerce, parse_text, usage


class Color(Enum):
    RED = "green"
    GREEN = "red"
    BLUE = 3


class Mode(StrEnum):
    FAST = "quick"


class Options(TypedDict):
    depth: int


class Closing(Protocol):
    def close(self) -> None: ...


Count = NewType("Count", int)
property_test = settings(deadline=None, max_examples=60)


def asks(hint: object, default: object = None) -> Parameter:
    """An optional parameter `count` with that hint."""
    return Parameter("count", hint, default)


TEXTS: list[tuple[object, str, object]] = [
    (str, " a b ", " a b "),
    (int, "-1_000", -1000),
    (int, " 7 ", 7),
    (float, "1e3", 1000.0),
    (bool, "YES", True),
    (bool, "off", False),
    (None, "None", None),
    (date, "2024-02-29", date(2024, 2, 29)),
    (datetime, "2024-01-15T10:30:00Z", datetime(2024, 1, 15, 10, 30, tzinfo=UTC)),
    (datetime, "2024-01-15", datetime(2024, 1, 15)),
    (Path, "data/a b.csv", Path("data/a b.csv")),
    (PurePosixPath, "/a", PurePosixPath("/a")),
    (Decimal, "0.10", Decimal("0.10")),
    (Count, "5", 5),
    (Annotated[int, "how many"], "5", 5),
    (list, "a, b ,,c", ["a", "b", "c"]),
    (list[int], "1, 2,3", [1, 2, 3]),
    (list[int], "", []),
    (list[float], "1,2.5", [1.0, 2.5]),
    (list[bool], "yes,0", [True, False]),
    (list[date], "2024-01-01", [date(2024, 1, 1)]),
    (list[str], '["a,b", ""]', ["a,b", ""]),
    (list[str], "[x", ["[x"]),
    (list[int | None], "1,none", [1, None]),
    (Sequence[int], "1,2", [1, 2]),
    (Iterable[str], "a", ["a"]),
    (tuple[int, ...], "1,2", (1, 2)),
    (tuple[int, str], "1,b", (1, "b")),
    (set[int], "1,2,1", {1, 2}),
    (frozenset[str], "a", frozenset("a")),
    (list[list[int]], "[[1], []]", [[1], []]),
    (list[list[int]], "", []),
    (list[dict[str, int] | None], '[{"a": 1}, null]', [{"a": 1}, None]),
    (dict, '{"a": [1]}', {"a": [1]}),
    (dict[int, date], '{"1": "2024-01-01"}', {1: date(2024, 1, 1)}),
    (Mapping[str, float], '{"a": 1}', {"a": 1.0}),
    (Options, '{"depth": 1}', {"depth": 1}),
    (Literal["a", "b"], "b", "b"),
    (Literal[1, "1"], "1", 1),
    (Literal[True, "x"], "true", True),
    (Literal["a", None], "null", None),
    (Color, "RED", Color.RED),
    (Color, "GREEN", Color.GREEN),
    (Color, "red", Color.GREEN),
    (Color, "3", Color.BLUE),
    (Optional[int], "5", 5),  # noqa: UP045  (not the same class as int | None)
    (int | None, "NULL", None),
    (list[int] | None, "1", [1]),
    (str | int | None, "5", 5),
    (str | int | float, "5.5", 5.5),
    (str | bool | int, "1", 1),
    (str | bool | int, "on", True),
    (str | date | datetime, "2024-01-01", date(2024, 1, 1)),
    (str | date | datetime, "2024-01-01T01:00", datetime(2024, 1, 1, 1)),
    (str | dict[str, int], '{"a": 1}', {"a": 1}),
    (str | dict[str, int], "{a", "{a"),
    (int | Literal["auto"], "auto", "auto"),
    (int | Color | None, "RED", Color.RED),
    (object, "5", "5"),
    (Closing, "5", "5"),
]


class TestText:
    @pytest.mark.parametrize(("hint", "text", "value"), TEXTS)
    def test_text_becomes_a_value_of_the_hint(self, hint: object, text: str, value: object) -> None:
        found = parse_text(asks(hint), text)
        assert (type(found), found) == (type(value), value)

    @pytest.mark.parametrize(
        ("default", "text", "value"),
        [
            (None, "none", "none"),
            ("a", "5", "5"),
            (True, "no", False),
            (1, "2", 2),
            (1.0, "2", 2.0),
            (date(2024, 1, 1), "2024-01-02", date(2024, 1, 2)),
            (Path("a"), "b", Path("b")),
            (Mode.FAST, "FAST", Mode.FAST),
            ([], "a,b", ["a", "b"]),
            ([1, 2], "3", [3]),
            ([1, "a"], "3", ["3"]),
            ((1.5,), "2", (2.0,)),
            ({1}, "2", {2}),
            ([[1]], "[[2]]", [[2]]),
            ({"a": 1}, '{"b": 2}', {"b": 2}),
            (type("Celsius", (float,), {})(20), "21", 21.0),
            (object(), "a", "a"),
        ],
    )
    def test_without_a_hint_the_default_tells_the_type(self, default: object, text: str, value: object) -> None:
        found = parse_text(asks(Any, default), text)
        assert found == value
        assert type(found) in (type(value), type(default))

    @pytest.mark.parametrize(
        ("hint", "text", "problem"),
        [
            (int, "abc", "'abc' is not a valid integer"),
            (int, "5.0", "'5.0' is not a valid integer"),
            (int, "", "'' is not a valid integer"),
            (float, "abc", "'abc' is not a valid number"),
            (Decimal, "abc", "'abc' is not a valid decimal number"),
            (bool, "maybe", "'maybe' is not a valid boolean (true or false)"),
            (None, "x", "'x' is not none"),
            (date, "2024-02-30", "'2024-02-30' is not a valid date (YYYY-MM-DD)"),
            (datetime, "noon", "'noon' is not a valid datetime (YYYY-MM-DDTHH:MM:SS)"),
            (Literal["a", 2], "c", "'c' is not one of: a, 2"),
            (Color, "pink", "'pink' is not one of: RED, GREEN, BLUE"),
            (list[int], "1,x", "'x' is not a valid integer"),
            (list[int], '["x"]', "'x' is not a valid integer"),
            (list[list[int]], "1,2", "'1,2' is not a valid JSON list"),
            (tuple[int, int], "1", "'1' is not a list of 2 values"),
            (set, "[[1]]", "[[1]] is not a list of values"),
            (set[Color | int], "[{}]", "{} is not a valid integer or one of: RED, GREEN, BLUE"),
            (dict, "a", "'a' is not a valid JSON object"),
            (dict, "[1]", "'[1]' is not a valid JSON object"),
            (dict[str, int], '{"a": "b"}', "'b' is not a valid integer"),
            (int | None, "abc", "'abc' is not a valid integer"),
            (list[int] | None, "1,x", "'x' is not a valid integer"),
            (
                Literal["auto"] | int | date,
                "x",
                "'x' is not a valid integer or a valid date (YYYY-MM-DD) or one of: auto",
            ),
            (Fraction, "1/2", "'1/2' is not of type Fraction, which cannot be given as text"),
            (int, "x" * 200, f"'{'x' * 99}... is not a valid integer"),
        ],
    )
    def test_what_is_wrong_is_said(self, hint: object, text: str, problem: str) -> None:
        with pytest.raises(ParameterError) as caught:
            parse_text(asks(hint), text)
        assert str(caught.value) == f"Invalid value for '--count': {problem}"
        assert caught.value.parameter == "count"

    def test_the_flag_is_written_with_dashes(self) -> None:
        with pytest.raises(ParameterError, match="Invalid value for '--max-count-a': 'x' is not a valid integer"):
            parse_text(Parameter("max_count_a", int), "x")

    @property_test
    @given(
        st.integers()
        | st.floats(allow_nan=False)
        | st.booleans()
        | st.dates()
        | st.datetimes()
        | st.decimals(allow_nan=False)
    )
    def test_scalars_come_back_from_their_text(self, value: Any) -> None:
        [(_, _, text, _)] = usage([asks(type(value), value)])
        assert parse_text(asks(type(value)), text) == value

    @property_test
    @given(st.lists(st.integers()), st.lists(st.text()), st.sets(st.dates()), st.lists(st.lists(st.floats(-1e9, 1e9))))
    def test_lists_come_back_from_their_text(
        self, numbers: list[int], texts: list[str], dates: set[date], rows: list[list[float]]
    ) -> None:
        pairs: list[tuple[object, object]] = [
            (list[int], numbers),
            (list[str], texts),
            (set[date], dates),
            (list[list[float]], rows),
        ]
        for hint, value in pairs:
            [(_, _, text, _)] = usage([asks(hint, value)])
            assert parse_text(asks(hint), text) == value

    @property_test
    @given(st.lists(st.integers()))
    def test_numbers_are_read_with_commas_and_any_blanks(self, numbers: list[int]) -> None:
        assert parse_text(asks(list[int]), " , ".join(map(str, numbers))) == numbers


class TestCoerce:
    @pytest.mark.parametrize(
        ("hint", "given_value", "value"),
        [
            (int, "5", 5),
            (int, 5.0, 5),
            (float, 5, 5.0),
            (Decimal, 0.1, Decimal("0.1")),
            (Decimal, 3, Decimal(3)),
            (date, "2024-01-01", date(2024, 1, 1)),
            (Path, "a", Path("a")),
            (Color, "RED", Color.RED),
            (Color, 3, Color.BLUE),
            (Mode, "quick", Mode.FAST),
            (Literal[1, 2], "2", 2),
            (list[int], ["1", 2], [1, 2]),
            (list[int], "1,2", [1, 2]),
            (set[int], [1, 1], {1}),
            (tuple[int, date], [1, "2024-01-01"], (1, date(2024, 1, 1))),
            (Sequence[float], (1, 2), [1.0, 2.0]),
            (dict[str, float], {"a": 1}, {"a": 1.0}),
            (dict[str, int], '{"a": 1}', {"a": 1}),
            (int | None, "5", 5),
            (date | int, "2024-01-01", date(2024, 1, 1)),
        ],
    )
    def test_what_json_holds_becomes_what_the_hint_asks_for(
        self, hint: object, given_value: object, value: object
    ) -> None:
        found = coerce(asks(hint), given_value)
        assert (type(found), found) == (type(value), value)

    @pytest.mark.parametrize(
        ("hint", "value"),
        [
            (int, 5),
            (bool, True),
            (str, "5"),
            (int | str, "5"),
            (str | None, "none"),
            (float | int, 5),
            (int | None, None),
            (Literal["a", 1], "a"),
            (Color, Color.RED),
            (Mode, Mode.FAST),
            (date, date(2024, 1, 1)),
            (list[int], [1, 2]),
            (list, [1, "a", None]),
            (Sequence[int], range(3)),
            (dict[str, Any], {"a": [1]}),
            (Fraction, Fraction(1, 2)),
            (object, [1]),
        ],
    )
    def test_what_fits_passes_untouched(self, hint: object, value: object) -> None:
        assert coerce(asks(hint), value) is value

    @pytest.mark.parametrize(
        ("hint", "value", "problem"),
        [
            (int, [1, 2], "[1, 2] is not a valid integer"),
            (int, True, "True is not a valid integer"),
            (int, 5.5, "5.5 is not a valid integer"),
            (int, float("nan"), "nan is not a valid integer"),
            (int, None, "None is not a valid integer"),
            (bool, 1, "1 is not a valid boolean (true or false)"),
            (str, 5, "5 is not text"),
            (float, True, "True is not a valid number"),
            (date, 20240101, "20240101 is not a valid date (YYYY-MM-DD)"),
            (Literal[1], True, "True is not one of: 1"),
            (list[int], 5, "5 is not a list of integers"),
            (list[str], {"a": 1}, "{'a': 1} is not a list of texts"),
            (list[Mode], 5, "5 is not a list of values, each one of: FAST"),
            (tuple[int, int], [1], "[1] is not a list of 2 values"),
            (dict, [1], "[1] is not a valid JSON object"),
            (Fraction, 0.5, "0.5 is not of type Fraction"),
        ],
    )
    def test_what_cannot_be_is_refused(self, hint: object, value: object, problem: str) -> None:
        with pytest.raises(ParameterError) as caught:
            coerce(asks(hint), value)
        assert str(caught.value) == f"Invalid value for '--count': {problem}"

    def test_a_number_beyond_the_floats_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="is not a valid number"):
            coerce(asks(float), 10**400)

    def test_without_a_hint_text_is_read_like_the_default_and_the_rest_passes(self) -> None:
        values = [coerce(asks(Any, 5), value) for value in ("7", 2.5, [1], None)]
        assert values == [7, 2.5, [1], None]


class TestTypeAliases:
    """What Python 3.12 makes of `type Day = int` and `type Tree = dict[str, Tree] | int`."""

    @staticmethod
    def aliases() -> tuple[Any, Any]:
        if sys.version_info >= (3, 12):
            names: dict[str, Any] = {}
            exec("type Day = int\ntype Tree = dict[str, Tree] | int", names)
            return names["Day"], names["Tree"]
        day, tree = SimpleNamespace(__value__=int), SimpleNamespace()
        tree.__value__ = GenericAlias(dict, (str, tree)) | int
        return day, tree

    def test_they_are_seen_through_and_may_contain_themselves(self) -> None:
        day, tree = self.aliases()
        assert parse_text(asks(GenericAlias(list, (day,))), "1,2") == [1, 2]
        assert parse_text(asks(tree), '{"a": {"b": 1}}') == {"a": {"b": 1}}
