"""What is asked of files: in which manner they are written, and which of their rows and columns are wanted."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from lokki.errors import nearest
from twingraph.errors import ComponentError, FileError

if TYPE_CHECKING:
    import polars as pl

    from twingraph.components.expressions import Expression

T = TypeVar("T")

Where: TypeAlias = str | list[Any]
"""Which rows: an expression, or comparisons `[column, sign, value]` that all hold."""

_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": operator.contains, "not in": operator.contains,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manner:
    """How files are written, as far as their format leaves it open.

    Attributes:
        encoding: of text.
        separator: between the fields of csv; empty for that which the name tells.
        header: whether the first row of csv holds the names of the columns.
        nulls: what stands for no value in csv.
        types: types of columns by name.
        whole: whether a text file is one record, not one for each line.
        partitions: whether folders called `year=2024` are columns.
    """

    encoding: str = "utf-8"
    separator: str = ""
    header: bool = True
    nulls: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    partitions: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """Which columns and rows are wanted.

    Attributes:
        columns: their names, in this order; None for all.
        limit: so many rows, from the first; None for all.
        where: which rows; None for all.
    """

    columns: Sequence[str] | None = None
    limit: int | None = None
    where: Where | None = None


def checked(names: Iterable[str], known: Iterable[str], shown: str) -> list[str]:
    """The names, if all of them are known."""
    held = list(known)
    chosen = list(names)
    for name in chosen:
        if name not in held:
            near = nearest(name, held) or f"; there are {', '.join(held[:20])}{', ...' if len(held) > 20 else ''}."
            raise FileError(f"{shown} has no column {name!r}{near}")
    return chosen


def predicate(where: Where, schema: pl.Schema) -> pl.Expr:
    """The rows that are wanted, as an expression of Polars."""
    if isinstance(where, str):
        return _expressed(where, lambda expression: expression.polars(schema))
    import polars as pl

    checked(used(where), schema.names(), "what is read")
    if not where:
        return pl.lit(True)
    return pl.all_horizontal([_comparison(name, sign, _meant(value, schema[name])) for name, sign, value in where])


def _expressed(where: str, use: Callable[[Expression], T]) -> T:
    from twingraph.components.expressions import ExpressionError, parsed

    try:
        return use(parsed(where))
    except ExpressionError as error:
        raise error.within("where: ") from None


def used(where: Where) -> list[str]:
    """The columns that it depends on which rows are wanted."""
    if isinstance(where, str):
        return _expressed(where, lambda expression: list(expression.columns))
    for each in where:
        if not (isinstance(each, list | tuple) and len(each) == 3 and isinstance(each[0], str) and each[1] in _SIGNS):
            raise ComponentError(
                f"where: {each!r:.100} is no comparison: write [column, sign, value] with one of {' '.join(_SIGNS)}."
            )
    return list(dict.fromkeys(each[0] for each in where))


def _meant(value: Any, dtype: pl.DataType) -> Any:
    """A value as its column has it: a date or time may be given as text in ISO 8601, which is how it comes as JSON."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_meant(each, dtype) for each in value]
    if not isinstance(value, str) or not dtype.is_temporal():
        return value
    from twingraph.components.expressions.instants import instant

    try:
        return instant(value, dtype)
    except ValueError:
        raise ComponentError(f"where: {value[:60]!r} is not of type {dtype}: write it in ISO 8601.") from None


def _comparison(name: str, sign: str, value: Any) -> pl.Expr:
    import polars as pl

    column = pl.col(name)
    if sign in ("in", "not in"):
        found = column.is_in(list(value))
        return found if sign == "in" else ~found
    if value is None and sign in ("==", "!="):
        return column.is_null() if sign == "==" else column.is_not_null()
    made: pl.Expr = _SIGNS[sign](column, value)
    return made
