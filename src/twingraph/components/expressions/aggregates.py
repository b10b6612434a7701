"""The functions of the language of expressions that look at many values: of a group, of other rows, of a list.

An aggregate makes one value of many and leaves missing ones out. Outside of a group it is the value of the whole frame,
which every row may use: `price / sum(price)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twingraph.components.expressions.functions import function

if TYPE_CHECKING:
    from polars import Expr

    from twingraph.components.expressions.functions import Condition, Many, Number, Value


@function("aggregate")
def count(x: Value | None = None) -> Expr:
    """How many rows there are, or how many values that are not missing."""
    import polars as pl

    return (pl.len() if x is None else x.count()).cast(pl.Int64)


@function("aggregate")
def count_distinct(x: Value) -> Expr:
    """How many different values there are."""
    import polars as pl

    return x.drop_nulls().n_unique().cast(pl.Int64)


@function("aggregate")
def count_if(condition: Condition) -> Expr:
    """In how many rows the condition holds."""
    import polars as pl

    return condition.sum().cast(pl.Int64)


@function("aggregate")
def sum_(x: Number) -> Expr:
    """The sum; 0 of no values."""
    return x.sum()


@function("aggregate")
def mean(x: Number) -> Expr:
    """The mean."""
    return x.mean()


@function("aggregate")
def median(x: Number) -> Expr:
    """The median."""
    return x.median()


@function("aggregate")
def quantile(x: Number, share: float) -> Expr:
    """The value below which a share (0 to 1) of the values lies, between two of them in proportion."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share is between 0 and 1, not {share}")
    return x.quantile(share, "linear")


@function("aggregate")
def std(x: Number) -> Expr:
    """The standard deviation of a sample."""
    return x.std()


@function("aggregate")
def var(x: Number) -> Expr:
    """The variance of a sample."""
    return x.var()


@function("aggregate")
def min_(x: Value) -> Expr:
    """The smallest value."""
    return x.min()


@function("aggregate")
def max_(x: Value) -> Expr:
    """The largest value."""
    return x.max()


@function("aggregate")
def min_by(x: Value, key: Value) -> Expr:
    """The value in the row where the key is smallest."""
    return x.min_by(key)


@function("aggregate")
def max_by(x: Value, key: Value) -> Expr:
    """The value in the row where the key is largest."""
    return x.max_by(key)


@function("aggregate")
def first(x: Value) -> Expr:
    """The value in the first row, also a missing one."""
    return x.first()


@function("aggregate")
def last(x: Value) -> Expr:
    """The value in the last row, also a missing one."""
    return x.last()


@function("aggregate")
def any_(condition: Condition) -> Expr:
    """Whether the condition holds in a row."""
    return condition.any()


@function("aggregate")
def all_(condition: Condition) -> Expr:
    """Whether the condition holds in every row."""
    return condition.all()


@function("aggregate")
def list_(x: Value) -> Expr:
    """The list of the values, also of missing ones."""
    return x.implode()


@function("window")
def over(x: Value, *by: Value) -> Expr:
    """An aggregate of the rows that have the same values of the rest: `price / over(sum(price), city)`."""
    return x.over(*by)


@function("window")
def rank(x: Value) -> Expr:
    """The place in ascending order, from 1; equal values share the first of their places."""
    import polars as pl

    return x.rank("min").cast(pl.Int64)


@function("window")
def shift(x: Value, rows: int = 1) -> Expr:
    """The value so many rows before, or after if negative."""
    return x.shift(rows)


@function("window")
def running_sum(x: Number) -> Expr:
    """The sum of the values up to this row."""
    return x.cum_sum()


@function("list")
def size(x: Many) -> Expr:
    """How many values are in a list."""
    import polars as pl

    return x.list.len().cast(pl.Int64)


@function("list")
def join(x: Many, separator: str) -> Expr:
    """The texts in a list as one text."""
    return x.list.join(separator)
