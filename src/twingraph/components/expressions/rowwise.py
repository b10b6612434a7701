"""The functions of the language of expressions that look at one row; signature and docstring are what users read.

What is given a missing value is missing, except where a function says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twingraph.components.expressions.datatypes import converted
from twingraph.components.expressions.functions import Typed, function

if TYPE_CHECKING:
    from polars import Expr

    from twingraph.components.expressions.functions import Clock, Condition, Day, Number, Same, Span, Text, Time, Value


def _whole(x: Expr) -> Expr:
    """Whole numbers of 64 bits, with which one can go on without an overflow."""
    import polars as pl

    return x.cast(pl.Int64)


@function("text")
def lower(x: Text) -> Expr:
    """In small letters."""
    return x.str.to_lowercase()


@function("text")
def upper(x: Text) -> Expr:
    """In capital letters."""
    return x.str.to_uppercase()


@function("text")
def title(x: Text) -> Expr:
    """Each word with a capital."""
    return x.str.to_titlecase()


@function("text")
def strip(x: Text, characters: str = "") -> Expr:
    """Without white space, or these characters, at both ends."""
    return x.str.strip_chars(characters or None)


@function("text")
def length(x: Text) -> Expr:
    """How many characters it has."""
    return _whole(x.str.len_chars())


@function("text")
def contains(x: Text, part: Text) -> Expr:
    """Whether the part, as it is written, occurs in the text."""
    return x.str.contains(part, literal=True)


@function("text")
def starts_with(x: Text, part: Text) -> Expr:
    """Whether it begins with the part."""
    return x.str.starts_with(part)


@function("text")
def ends_with(x: Text, part: Text) -> Expr:
    """Whether it ends with the part."""
    return x.str.ends_with(part)


@function("text")
def matches(x: Text, pattern: str) -> Expr:
    """Whether the regular expression occurs in it."""
    return x.str.contains(pattern)


@function("text")
def extract(x: Text, pattern: str, group: int = 1) -> Expr:
    """What a group of the regular expression stands for where it first occurs; group 0 is all of it."""
    return x.str.extract(pattern, group)


@function("text")
def replace(x: Text, old: str, new: str) -> Expr:
    """With every `old`, as it is written, replaced."""
    return x.str.replace_all(old, new, literal=True)


@function("text")
def substring(x: Text, start: int, length: int | None = None) -> Expr:
    """From a place on, counted from 0 or, if negative, from the end; at most so many characters."""
    return x.str.slice(start, length)


@function("text")
def concat(*x: Typed) -> Expr:
    """One after the other, as text."""
    import polars as pl

    return pl.concat_str(converted(each.value, each.type, "text") for each in x)


@function("text")
def split(x: Text, separator: str) -> Expr:
    """The list of what stands between the separators."""
    return x.str.split(separator)


@function("number")
def abs_(x: Number) -> Expr:
    """Without its sign."""
    return x.abs()


@function("number")
def round_(x: Number, digits: int = 0) -> Expr:
    """With so many digits after the point; a half goes to the even neighbour, as in Python."""
    if digits < 0:
        raise ValueError(f"digits are 0 or more, not {digits}")
    return x.round(digits)


@function("number")
def floor(x: Number) -> Expr:
    """The next whole number below."""
    return x.floor()


@function("number")
def ceil(x: Number) -> Expr:
    """The next whole number above."""
    return x.ceil()


@function("number")
def sign(x: Number) -> Expr:
    """1, 0 or -1."""
    return x.sign()


@function("number")
def sqrt(x: Number) -> Expr:
    """The square root."""
    return x.sqrt()


@function("number")
def exp(x: Number) -> Expr:
    """e to this power."""
    return x.exp()


@function("number")
def log(x: Number, base: float = 2.718281828459045) -> Expr:
    """The logarithm."""
    return x.log(base)


@function("number")
def clip(x: Number, low: Number, high: Number) -> Expr:
    """At least `low` and at most `high`."""
    return x.clip(low, high)


@function("number")
def least(*x: Same) -> Expr:
    """The smallest of several values in a row; missing ones are left out."""
    import polars as pl

    return pl.min_horizontal(*x)


@function("number")
def greatest(*x: Same) -> Expr:
    """The largest of several values in a row; missing ones are left out."""
    import polars as pl

    return pl.max_horizontal(*x)


@function("number")
def is_nan(x: Number) -> Expr:
    """Whether it is not a number (which is something else than missing)."""
    return x.is_nan()


@function("missing")
def is_null(x: Value) -> Expr:
    """Whether the value is missing; also `x is None`."""
    return x.is_null()


@function("missing")
def is_not_null(x: Value) -> Expr:
    """Whether there is a value; also `x is not None`."""
    return x.is_not_null()


@function("missing")
def coalesce(*x: Same) -> Expr:
    """The first value that is not missing."""
    import polars as pl

    return pl.coalesce(*x)


@function("missing")
def null_if(x: Same, value: Same) -> Expr:
    """Missing where x equals the value, else x."""
    import polars as pl

    return pl.when(x.ne_missing(value)).then(x)


@function("choice")
def if_(condition: Condition, x: Same, otherwise: Same | None = None) -> Expr:
    """One value where the condition holds, another where it does not or is missing; also `x if condition else y`."""
    import polars as pl

    return pl.when(condition).then(x).otherwise(otherwise)


@function("choice")
def when(condition: Condition, x: Same, *more: Same) -> Expr:
    """The value after the first condition that holds: `when(a, x, b, y, otherwise)`."""
    import polars as pl

    pairs, last = [condition, x, *more], None
    if len(pairs) % 2:
        last = pairs.pop()
    chosen = last
    for at in range(len(pairs) - 2, -1, -2):
        chosen = pl.when(pairs[at]).then(pairs[at + 1]).otherwise(chosen)
    assert chosen is not None
    return chosen


@function("time")
def year(x: Day) -> Expr:
    """The year."""
    return _whole(x.dt.year())


@function("time")
def quarter(x: Day) -> Expr:
    """The quarter, 1 to 4."""
    return _whole(x.dt.quarter())


@function("time")
def month(x: Day) -> Expr:
    """The month, 1 to 12."""
    return _whole(x.dt.month())


@function("time")
def week(x: Day) -> Expr:
    """The week of the year, as in ISO 8601."""
    return _whole(x.dt.week())


@function("time")
def day(x: Day) -> Expr:
    """The day of the month."""
    return _whole(x.dt.day())


@function("time")
def weekday(x: Day) -> Expr:
    """The day of the week, 1 (Monday) to 7."""
    return _whole(x.dt.weekday())


@function("time")
def hour(x: Clock) -> Expr:
    """The hour."""
    return _whole(x.dt.hour())


@function("time")
def minute(x: Clock) -> Expr:
    """The minute."""
    return _whole(x.dt.minute())


@function("time")
def second(x: Clock) -> Expr:
    """The second."""
    return _whole(x.dt.second())


@function("time")
def truncate(x: Day, every: str) -> Expr:
    """The start of the span it falls in: '1mo', '1w', '1d', '6h', '15m', '10s'."""
    return x.dt.truncate(every)


@function("time")
def format_(x: Time, pattern: str) -> Expr:
    """As text by a pattern of strftime: '%Y-%m'."""
    return x.dt.strftime(pattern)


@function("time")
def days(x: Number) -> Expr:
    """A span of so many days, to add to a date: `ordered + days(14)`."""
    import polars as pl

    return pl.duration(days=x)


@function("time")
def hours(x: Number) -> Expr:
    """A span of so many hours."""
    import polars as pl

    return pl.duration(hours=x)


@function("time")
def seconds(x: Number) -> Expr:
    """A span of so many seconds."""
    import polars as pl

    return pl.duration(seconds=x)


@function("time")
def total_days(x: Span) -> Expr:
    """How many whole days a span has: `total_days(paid - ordered)`."""
    return x.dt.total_days()


@function("time")
def total_seconds(x: Span) -> Expr:
    """How many whole seconds a span has."""
    return x.dt.total_seconds()


@function("type")
def int_(x: Typed) -> Expr:
    """As a whole number; what is none is an error, as with all of these but `try_cast`."""
    return converted(x.value, x.type, "int")


@function("type")
def float_(x: Typed) -> Expr:
    """As a number."""
    return converted(x.value, x.type, "float")


@function("type")
def text(x: Typed) -> Expr:
    """As text."""
    return converted(x.value, x.type, "text")


@function("type")
def bool_(x: Typed) -> Expr:
    """As true or false."""
    return converted(x.value, x.type, "bool")


@function("type")
def date(x: Typed, pattern: str = "") -> Expr:
    """As a date, from text in ISO 8601 or by a pattern of strftime: `date('2026-03-01')`, `date(x, '%d.%m.%Y')`."""
    return converted(x.value, x.type, "date", pattern=pattern)


@function("type")
def datetime(x: Typed, pattern: str = "") -> Expr:
    """As a date with the time of day, without a time zone."""
    return converted(x.value, x.type, "datetime", pattern=pattern)


@function("type")
def timestamp(x: Typed, pattern: str = "") -> Expr:
    """As a moment in UTC; text may say its zone: `2026-03-01T12:00:00Z`."""
    return converted(x.value, x.type, "timestamp", pattern=pattern)


@function("type")
def cast(x: Typed, to: str) -> Expr:
    """In a type by its name, as the operation `cast` knows them: `cast(x, 'int32')`."""
    return converted(x.value, x.type, to)


@function("type")
def try_cast(x: Typed, to: str) -> Expr:
    """The same, but missing where a value does not fit."""
    return converted(x.value, x.type, to, strict=False)
