"""The types of columns, by the names that people use: what is of which kind, and how values change their type."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polars import DataType, Expr, LazyFrame

TYPES = {
    "int": "Int64", "int8": "Int8", "int16": "Int16", "int32": "Int32", "int64": "Int64",
    "uint8": "UInt8", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
    "float": "Float64", "float32": "Float32", "float64": "Float64", "decimal": "Decimal",
    "text": "String", "str": "String", "bool": "Boolean", "category": "Categorical",
    "date": "Date", "datetime": "Datetime", "timestamp": "Datetime", "time": "Time", "duration": "Duration",
}  # fmt: skip
"""What a type may be called, and what it is in Polars; a `timestamp` is a datetime in UTC."""

KINDS = {
    "Text": "text", "Number": "a number", "Time": "a date or time", "Condition": "a condition", "Many": "a list",
    "Day": "a date", "Clock": "a time of day", "Span": "a span of time",
}  # fmt: skip
"""What an argument of a function may have to be, in words; the last three are kinds of `Time`."""


def is_pattern(name: str) -> bool:
    """Whether Polars takes the name of a column for a pattern that stands for several."""
    return name == "*" or (name.startswith("^") and name.endswith("$"))


def without_rows(types: Mapping[str, DataType]) -> LazyFrame:
    """A frame with these columns and no rows, to try things on."""
    return _without_rows(tuple(types.items()))


@lru_cache(maxsize=64)
def _without_rows(types: tuple[tuple[str, DataType], ...]) -> LazyFrame:
    import polars as pl

    return pl.LazyFrame(schema=dict(types))


def named_type(name: str) -> DataType:
    """The type of Polars that a name stands for."""
    import polars as pl

    if name == "timestamp":
        return pl.Datetime("us", "UTC")
    if name == "datetime":
        return pl.Datetime("us")
    made = getattr(pl, TYPES[name])()
    assert isinstance(made, pl.DataType)
    return made


def kind_of(dtype: DataType) -> str:
    """The kind of a type, one of `KINDS`, or its own name for what is of none; nothing at all is "Null"."""
    import polars as pl

    if dtype.is_numeric():
        return "Number"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "Text"
    if dtype.is_temporal():
        return "Time"
    if isinstance(dtype, pl.Boolean):
        return "Condition"
    if isinstance(dtype, pl.List | pl.Array):
        return "Many"
    return str(dtype.base_type())


def told(dtype: DataType) -> str:
    """A type in words, for an error."""
    kind = kind_of(dtype)
    if kind == "Null":
        return "nothing"
    return f"{KINDS[kind]} ({dtype})" if kind in KINDS else str(dtype)


def fits(dtype: DataType, kind: str) -> bool:
    """Whether values of a type are of a kind."""
    import polars as pl

    narrow: dict[str, type | tuple[type, ...]] = {
        "Day": (pl.Date, pl.Datetime), "Clock": (pl.Datetime, pl.Time), "Span": pl.Duration,
    }  # fmt: skip
    return isinstance(dtype, narrow[kind]) if kind in narrow else kind_of(dtype) == kind


def empty_of(kind: str) -> DataType:
    """A type that stands in for a column without any value, so that a function on it gives no value either."""
    import polars as pl

    stand_ins: dict[str, DataType] = {
        "Text": pl.String(), "Number": pl.Float64(), "Condition": pl.Boolean(), "Many": pl.List(pl.Null()),
        "Span": pl.Duration("us"),
    }  # fmt: skip
    return stand_ins.get(kind, pl.Datetime("us"))


def converted(value: Expr, given: DataType | None, name: str, *, strict: bool = True, pattern: str = "") -> Expr:
    """Values in another type; those that do not fit are an error when it is `strict`, and become missing otherwise.

    Text of dates and times is read as ISO 8601, or by a pattern of strftime. Where the given type is not known, what
    becomes a date or time is taken for text. ValueError when no value of a type can become one of the other.
    """
    import polars as pl

    target = named_type(name)
    if given is not None and not _possible(given, target):
        raise ValueError(f"{told(given)} cannot become {name}")
    temporal = isinstance(target, pl.Date | pl.Datetime | pl.Time)
    if isinstance(given, pl.Categorical | pl.Enum):
        value, given = value.cast(pl.String), pl.String()
    text = isinstance(given, pl.String) or (given is None and temporal)
    if temporal and text:
        return _parsed_time(value, target, strict, pattern or None)
    if isinstance(target, pl.Boolean) and text:
        truths = value.str.to_lowercase().replace({"true": "1", "false": "0"})
        return truths.cast(pl.UInt8, strict=strict).cast(pl.Boolean)
    return value.cast(target, strict=strict)


def _possible(given: DataType, target: DataType) -> bool:
    """Whether a value of a type may become one of another."""
    import polars as pl

    kind = kind_of(given)
    if kind == "Null":
        return True
    if isinstance(target, pl.Duration):
        return isinstance(given, pl.Duration) or given.is_integer()
    if target.is_temporal():
        return (kind == "Time" and not isinstance(given, pl.Duration)) or kind == "Text" or given.is_integer()
    return kind in ("Number", "Text", "Condition") or (kind == "Time" and not isinstance(target, pl.Boolean))


def _parsed_time(value: Expr, target: DataType, strict: bool, pattern: str | None) -> Expr:
    import polars as pl

    if isinstance(target, pl.Date):
        return value.str.to_date(pattern, strict=strict)
    if isinstance(target, pl.Time):
        return value.str.to_time(pattern, strict=strict)
    zone = target.time_zone if isinstance(target, pl.Datetime) else None
    return value.str.to_datetime(pattern, time_unit="us", time_zone=zone, strict=strict)
