"""Expressions: what they mean, beside Python; what they refuse, and where the caret stands."""

from __future__ import annotations

import datetime as dt
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twingraph.components.expressions import ExpressionError, parsed
from twingraph.components.expressions.vocabulary import FUNCTIONS

ORDERS = pl.DataFrame(
    {
        "city": ["Bern", "Basel", None, "Chur"],
        "price": [1.5, 2.0, None, 10.0],
        "count": [1, 2, 3, None],
        "small": pl.Series([1, 100, 3, 4], dtype=pl.Int8),
        "paid": [True, False, None, True],
        "ordered": [dt.date(2024, 1, 31), dt.date(2024, 2, 2), None, dt.date(2025, 1, 1)],
        "tags": [["a"], ["b", "c"], None, []],
        "buyer": [{"name": name, "age": age} for name, age in (("Ada", 36), ("Bo", 7), ("Cy", 9), ("Di", 1))],
        "nothing": [None] * 4,
        "unit price": [1, 2, 3, 4],
    }
)  # fmt: skip


def column(text: str, frame: pl.DataFrame = ORDERS) -> list[Any]:
    return frame.select(x=parsed(text).polars(frame.schema)).to_series().to_list()


def refused(text: str, frame: pl.DataFrame = ORDERS) -> tuple[str, str]:
    """What is wrong with an expression, and what the caret points at."""
    with pytest.raises(ExpressionError) as caught:
        parsed(text).polars(frame.schema)
    sentence, *_, shown, caret = str(caught.value).split("\n")
    return sentence, shown[caret.index("^") :]


MEANINGS: list[tuple[str, list[Any]]] = [
    ("price * count > 3 and city in ['Bern', 'Basel']", [False, True, None, False]),
    ("city in ['Bern', None]", [True, False, True, False]),
    ("count not in [1, 2.5]", [False, True, True, None]),
    ("small in (1, 100, 1000)", [True, True, False, False]),
    ("1 < count <= 3", [False, True, True, None]),
    ("count == None or city is not None", [True, True, False, True]),
    ("'many' if count > 1 else 'few'", ["few", "many", "many", "few"]),
    ("when(count == 1, 'one', count == 2, 'two')", ["one", "two", None, None]),
    ("when(count == 1, 'one', paid, 'paid', 'more')", ["one", "more", "more", "paid"]),
    ("-2 ** 2 + 2 ** -1", [-3.5]),
    ("`unit price` + column('unit price') * 10", [11, 22, 33, 44]),
    ("buyer.age > 8 and buyer.name != 'Ada'", [False, False, True, False]),
    ("tags[0]", ["a", "b", None, None]),
    ("'b' in tags", [False, True, None, False]),
    ("coalesce(price, count, 0)", [1.5, 2.0, 3.0, 10.0]),
    ("null_if(count, 2)", [1, None, 3, None]),
    ("length(city) - 10", [-6, -5, None, -6]),
    ("upper(substring(city, 0, 2)) + '!'", ["BE!", "BA!", None, "CH!"]),
    ("extract(city, '(?i)b(\\w)')", ["e", "a", None, None]),
    ("ordered >= '2024-02-01'", [False, True, None, True]),
    ("ordered == date('2024-02-02')", [False, True, None, False]),
    ("year(ordered) * 10000 + month(ordered) * 100", [20240100, 20240200, None, 20250100]),
    ("total_days(ordered + days(2) - date('2024-01-01'))", [32, 34, None, 368]),
    ("format(truncate(ordered, '1mo'), '%d.%m.%Y')", ["01.01.2024", "01.02.2024", None, "01.01.2025"]),
    ("small * 100 + small", [101, 10100, 303, 404]),
    ("sum(small)", [108]),
    ("price / sum(price)", [1.5 / 13.5, 2.0 / 13.5, None, 10.0 / 13.5]),
    ("over(count(), paid)", [2, 1, 1, 2]),
    ("quantile(count, 0.25)", [1.5]),
    ("count_distinct(tags[0]) + count(city) + count_if(paid)", [7]),
    ("max_by(city, price)", ["Chur"]),
    ("join(split('a b', ' '), '-')", ["a-b"]),
    ("try_cast(city, 'int')", [None, None, None, None]),
    ("bool(text(paid))", [True, False, None, True]),
    ("timestamp('2024-01-01T10:00:00+02:00')", [dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC)]),
    ("lower(nothing) == 'x' or not nothing", [None, None, None, None]),
    ("nothing + 1 > 0 or 0 // nothing == 1", [None] * 4),
    ("concat(city, ' ', `unit price`)", ["Bern 1", "Basel 2", None, "Chur 4"]),
    ("round(2.5) + round(0.125, 2)", [2.12]),
]


@pytest.mark.parametrize(("text", "values"), MEANINGS)
def test_an_expression_means_what_it_says(text: str, values: list[Any]) -> None:
    assert column(text) == values


FUNCTIONS_ONCE: dict[str, Any] = {
    "lower('ÄB') + title('da da')": "äbDa Da",
    "strip(' a ') + strip('--b-', '-')": "ab",
    "contains('a.b', '.') and starts_with('abc', 'ab') and ends_with('abc', 'bc') and matches('abc', '^a.c$')": True,
    "replace('a.b.', '.', '$')": "a$b$",
    "substring('abc', -2)": "bc",
    "abs(-2) + sign(-3) + floor(1.7) + ceil(1.2)": 4.0,
    "sqrt(16) + exp(0) + log(8, 2) + round(log(exp(1)), 6)": 9.0,
    "clip(12, 0, 9) + least(3, 1, None) + greatest(3, 1, None)": 13,
    "is_nan(0 / 0) and not is_nan(1.0)": True,
    "is_null(None) and is_not_null(1)": True,
    "if(1 > 2, 'a') is None": True,
    "concat(quarter(date('2024-05-06')), week(date('2024-05-06')), day(date('2024-05-06')))": "2196",
    "weekday(date('2024-05-06'))": 1,
    "hour(datetime('2024-05-06T07:08:09')) * 100 + minute(datetime('2024-05-06T07:08:09'))": 708,
    "second(datetime('2024-05-06 07:08:09') + hours(1) + seconds(2))": 11,
    "total_seconds(hours(2))": 7200,
    "int('12') + float('0.5')": 12.5,
    "text(1.5) + text(true)": "1.5true",
    "date('06.05.2024', '%d.%m.%Y') == '2024-05-06'": True,
    "datetime('2024-05-06T07:08:09') < '2024-05-06T07:08:10' and '2024-05-06' <= date('2024-05-06')": True,
    "timestamp('2024-05-06T07:00:00') == '2024-05-06T09:00:00+02:00'": True,
    "cast('10:30:00', 'time') < '11:00'": True,
    "size(split('a b', ' '))": 2,
    "mean(count) + median(count) + min(count) + max(count) + std(count) + var(count)": 10.0,
    "first(city) + last(city) + min_by(city, price)": "BernChurBern",
    "any(paid) and not all(paid)": True,
    "list(count)[1]": 2,
    "max(running_sum(count) + shift(count))": 8,
    "max(rank(price))": 3,
}


def test_every_function_does_what_its_name_says() -> None:
    assert {text: column(text)[0] for text in FUNCTIONS_ONCE} == FUNCTIONS_ONCE
    used = re.findall(r"([a-z_]+)\(", " ".join([*FUNCTIONS_ONCE, *(text for text, _ in MEANINGS)]))
    assert FUNCTIONS.keys() - {*used} == set()


@pytest.mark.parametrize(
    ("text", "sentence", "place"),
    [
        ("price * cuont > 10", "There is no column 'cuont'; did you mean 'count'?", "cuont > 10"),
        ("lowr(city)", "There is no function 'lowr'; did you mean 'lower'?", "lowr(city)"),
        ("price > ", "A value is expected here, but the expression ends.", ""),
        ("(price + 1", "')' is expected here to close the bracket, but the expression ends.", ""),
        ("price 3", "An operator or the end is expected here, but there is '3'.", "3"),
        ("count > 'abc", "What begins here with ' does not end.", "'abc"),
        ("paid & paid", "Write 'and' instead of '&'.", "& paid"),
        ("count = 3", "Write '==' instead of '='.", "= 3"),
        ("1 + lower(count)", "Text is expected here, but this is a number (Int64).", "count)"),
        ("paid and city > 3", "Values that are text (String) and a number (Int64) cannot be compared.", "> 3"),
        ("not count", "A condition is expected here, but this is a number (Int64).", "count"),
        ("city * 2", "'*' does not go with text (String) and a number (Int64).", "* 2"),
        ("coalesce(count, 'x')", "This is text (String), but the value before is a number (Int64).", "'x')"),
        ("round(price, count)", "In round(x, digits=0), digits is a whole number.", "count)"),
        ("min(count, 3)", "It is called as min(x), but given is 2.", "min(count, 3)"),
        ("buyer.nmae", "There is no field 'nmae'; did you mean 'name'?", ".nmae"),
        ("cast(price, 'intt')", "There is no type 'intt'; did you mean 'int'?", "'intt')"),
        ("paid and matches(city, '(')", "Regex error: regex parse error.", "matches(city, '(')"),
        ("quantile(price, 2)", "The share is between 0 and 1, not 2.", "quantile(price, 2)"),
        (
            "ordered > 'soon'",
            "A date or time in ISO 8601 is expected here: Invalid isoformat string: 'soon'.",
            "'soon'",
        ),
        ("'a' in city", "'in' looks into lists; for text it is contains(x, part).", "in city"),
        ("count is 3", "None is expected here after 'is' (other values are compared with ==), but there is '3'.", "3"),
        ("hour(ordered)", "A time of day is expected here, but this is a date or time (Date).", "ordered)"),
        ("upper(text(tags))", "A list (List(String)) cannot become text.", "text(tags))"),
        ("3x", "3x is neither a number nor a name.", "3x"),
        ("[1, 2]", "A list has its place after 'in'.", "[1, 2]"),
        ("9223372036854775808", "Whole numbers have 64 bits; write it with a point.", "9223372036854775808"),
        ("count.__class__", "Only a record has fields, and this is a number (Int64).", ".__class__"),
        ("(lambda: 1)()", "':' has no meaning in an expression.", ": 1)()"),
        ("", "An expression is expected here.", ""),
    ],
)
def test_an_error_shows_its_place(text: str, sentence: str, place: str) -> None:
    assert refused(text) == (sentence, place)


@pytest.mark.parametrize(
    "text",
    ["(" * 5_000 + "x" + ")" * 5_000, "-" * 9_999 + "x", "not " * 2_000 + "x", "x" + " + x" * 2_000, "x" * 10_001],
)
def test_an_expression_is_bounded(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"this deep is not read|at most 10,000 characters"):
        parsed(text)


def test_a_long_condition_is_not_deep() -> None:
    numbers = ",".join(map(str, range(2_000)))
    assert column(f"count in [{numbers}]") == [True, True, True, None]
    assert column(" or ".join(["count == 1"] * 500)) == [True, False, False, None]


def test_an_expression_tells_what_it_uses() -> None:
    made = parsed("lower(b) == 'x' and a.c > sum(b)")
    assert (made.columns, made.rowwise, parsed("a > 1").rowwise) == (("b", "a"), False, True)
    assert made.loose is not None
    assert made.loose.name == "b"
    assert parsed("sum(a) / count()").loose is None
    assert pickle.loads(pickle.dumps(made)) == made


def test_without_types_the_names_are_taken_on_trust() -> None:
    kept = ORDERS.filter(parsed("price > 1 and city in ['Bern', 'Chur'] and ordered < date('2024-12-31')").polars())
    assert kept["city"].to_list() == ["Bern"]


def test_an_error_of_an_expression_travels() -> None:
    with pytest.raises(ExpressionError) as caught:
        parsed("a +")
    again = pickle.loads(pickle.dumps(caught.value.within("operation 2: ")))
    assert str(again) == "operation 2: A value is expected here, but the expression ends.\n    a +\n       ^"


def test_the_documentation_has_every_function() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "builtins.md").read_text("utf-8")
    rows = [f"| `{each.usage}` | {each.says} |" for each in FUNCTIONS.values()]
    assert [row for row in rows if row not in page] == []


Row: TypeAlias = dict[str, Any]
Pair: TypeAlias = tuple[str, Callable[[Row], Any]]
"""An expression, and the same in Python, where None is what is missing."""


def strict(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that is missing where an operand is, or where it has no result."""

    def made(*operands: Any) -> Any:
        try:
            return None if any(each is None for each in operands) else operation(*operands)
        except ZeroDivisionError:
            return None

    return made


def both(left: Any, right: Any) -> Any:
    return False if left is False or right is False else None if left is None or right is None else True


def applied(form: str, operation: Callable[..., Any], *parts: Pair) -> Pair:
    return form.format(*(text for text, _ in parts)), lambda row: operation(*(value(row) for _, value in parts))


INTEGERS = st.one_of(
    st.sampled_from(["a", "b"]).map(lambda name: (name, lambda row: row[name])),
    st.integers(-5, 5).map(lambda number: (str(number), lambda _: number)),
)
ARITHMETIC = {
    "({} + {})": strict(lambda x, y: x + y),
    "({} - {})": strict(lambda x, y: x - y),
    "({} * {})": strict(lambda x, y: x * y),
    "({} // {})": strict(lambda x, y: x // y),
    "({} % {})": strict(lambda x, y: x % y),
    "coalesce({}, {})": lambda x, y: y if x is None else x,
}
COMPARISONS = {
    "{} < {}": strict(lambda x, y: x < y),
    "{} == {}": strict(lambda x, y: x == y),
    "{} != {}": strict(lambda x, y: x != y),
    "{} in [{}, 2, None]": lambda x, y: x is None or (x in (y, 2)),
    "{} >= {}": strict(lambda x, y: x >= y),
}
NUMBERS = st.recursive(
    INTEGERS,
    lambda inner: st.builds(
        lambda form, x, y: applied(form, ARITHMETIC[form], x, y), st.sampled_from([*ARITHMETIC]), inner, inner
    ),
    max_leaves=6,
)
FORMS = st.sampled_from([*COMPARISONS])
CONDITIONS = st.recursive(
    st.builds(lambda form, x, y: applied(f"({form})", COMPARISONS[form], x, y), FORMS, NUMBERS, NUMBERS)
    | NUMBERS.map(lambda x: applied("({} is None)", lambda value: value is None, x)),
    lambda inner: st.one_of(
        st.builds(lambda x, y: applied("({} and {})", both, x, y), inner, inner),
        st.builds(
            lambda x, y: applied("({} or {})", lambda p, q: strict(lambda r: not r)(
                both(strict(lambda r: not r)(p), strict(lambda r: not r)(q))), x, y), inner, inner),
        inner.map(lambda x: applied("(not {})", strict(lambda value: not value), x)),
    ),
    max_leaves=5,
)  # fmt: skip
WHOLE = st.builds(
    lambda c, x, y: applied("({1} if {0} else {2})", lambda c, x, y: x if c else y, c, x, y),
    CONDITIONS,
    NUMBERS,
    NUMBERS,
)
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | st.integers(-6, 6) for name in "ab"}), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(WHOLE, ROWS)
def test_an_expression_is_worth_what_python_says(pair: Pair, rows: list[Row]) -> None:
    text, value = pair
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64})
    made = parsed(text).polars(frame.schema)
    assert frame.with_columns(x=made)["x"].to_list() == [value(row) for row in rows]
