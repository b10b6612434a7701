"""What each operation does: from what it says and the columns it finds to a step from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from twingraph.components.expressions import Expression, parsed
from twingraph.components.expressions.datatypes import converted, is_pattern, kind_of, told, without_rows
from twingraph.components.expressions.syntax import offered
from twingraph.components.transforming.operations import (
    Cast,
    Deduplicate,
    Derive,
    Drop,
    Explode,
    Filter,
    Group,
    Join,
    Limit,
    Pivot,
    Rename,
    Sample,
    Select,
    Sort,
    Unpivot,
)

if TYPE_CHECKING:
    import polars as pl
    from polars._typing import JoinStrategy, MaintainOrderJoin

    Types: TypeAlias = Mapping[str, pl.DataType]
    Step: TypeAlias = Callable[[pl.LazyFrame], pl.LazyFrame]


class Unfit(ValueError):
    """What an operation finds is not what it needs; the sentence does not name the operation yet."""


def known(names: Iterable[str], types: Types, what: str = "column") -> list[str]:
    """The names, all of which have to be columns."""
    found = list(names)
    for name in found:
        if name not in types:
            raise Unfit(f"there is no {what} {name!r}{offered(name, types)}")
        if is_pattern(name):
            raise Unfit(f"a column named {name!r} cannot be named here; rename it first.")
    return found


def filtered(operation: Filter, types: Types) -> Step:
    import polars as pl

    conditions = [each.polars(types) for each in operation.where]
    for expression, condition in zip(operation.where, conditions, strict=True):
        (found,) = without_rows(types).select(x=condition).collect_schema().dtypes()
        if kind_of(found) not in ("Condition", "Null"):
            raise expression.wrong(expression.tree, f"A condition is expected here, but this is {told(found)}.")
    return lambda frame: frame.filter([each.cast(pl.Boolean) for each in conditions])


def selected(operation: Select, types: Types) -> Step:
    import polars as pl

    known((name for name, expression in operation.columns if expression is None), types)
    made = [(pl.col(name) if each is None else each.polars(types)).alias(name) for name, each in operation.columns]
    names = [name for name, _ in operation.columns]
    expressions = [each for _, each in operation.columns if each is not None]
    if len(expressions) == len(made) and all(each.rowwise and not each.columns for each in expressions):
        return lambda frame: frame.with_columns(made).select(names)  # constants are as long as the frame
    return lambda frame: frame.select(made)


def dropped(operation: Drop, types: Types) -> Step:
    names = known(operation.columns, types)
    return lambda frame: frame.drop(names)


def derived(operation: Derive, types: Types) -> Step:
    """As few steps as there are columns that use one of the same operation."""

    batches: list[dict[str, pl.Expr]] = [{}]
    now = dict(types)
    for name, expression in operation.columns:
        if batches[-1].keys() & {*expression.columns, name}:
            now.update(without_rows(now).with_columns(batches[-1].values()).collect_schema())
            batches.append({})
        batches[-1][name] = expression.polars(now).alias(name)

    def step(frame: pl.LazyFrame) -> pl.LazyFrame:
        for batch in batches:
            frame = frame.with_columns(batch.values())
        return frame

    return step


def renamed(operation: Rename, types: Types) -> Step:
    names = dict(operation.columns)
    if strange := [name for name in names if name not in types]:
        known(strange, types)
    after = [names.get(name, name) for name in types]
    if twice := next((name for name in after if after.count(name) > 1), None):
        raise Unfit(f"two columns would be named {twice!r}.")
    return lambda frame: frame.rename(names)


def cast(operation: Cast, types: Types) -> Step:
    import polars as pl

    known((name for name, _ in operation.columns), types)
    made = []
    for name, to in operation.columns:
        try:
            value = converted(pl.col(name), types[name], to.removesuffix("?"), strict=not to.endswith("?"))
            made.append(value.alias(name))
        except ValueError as problem:
            raise Unfit(f"column {name!r}: {problem}.") from problem
    return lambda frame: frame.with_columns(made)


def ordered(operation: Sort, types: Types) -> Step:
    import polars as pl

    keys, falling = [], []
    for text in operation.by:
        down = text not in types and text.startswith("-")
        name = text[1:].strip() if down else text
        if name in types or name.isidentifier():
            known([name], types)
        keys.append(pl.col(name) if name in types else parsed(name).polars(types))
        falling.append(down != operation.descending)
    last = operation.nulls == "last"
    return lambda frame: frame.sort(keys, descending=falling, nulls_last=last, maintain_order=True)


def grouped(operation: Group, types: Types) -> Step:
    import polars as pl

    known((name for name, expression in operation.by if expression is None), types)
    if both := {name for name, _ in operation.by} & {name for name, _ in operation.columns}:
        raise Unfit(f"{min(both)!r} is the name of a key and of an aggregate.")
    keys = [(pl.col(name) if each is None else _of_row(each).polars(types).alias(name)) for name, each in operation.by]
    made = [each.polars(types).alias(name) for name, each in operation.columns]
    if not keys:
        return lambda frame: frame.select(made)
    return lambda frame: frame.group_by(keys, maintain_order=True).agg(made)


def _of_row(expression: Expression) -> Expression:
    if not expression.rowwise:
        raise expression.wrong(expression.tree, "A key is made of one row; derive this column before.")
    return expression


def exploded(operation: Explode, types: Types) -> Step:
    names = known(operation.columns, types)
    for name in names:
        if kind_of(types[name]) not in ("Many", "Null"):
            raise Unfit(f"column {name!r} holds no lists, it is {told(types[name])}.")
    lists = [name for name in names if kind_of(types[name]) == "Many"]
    return lambda frame: frame.explode(lists, empty_as_null=False, keep_nulls=True) if lists else frame


def sampled(operation: Sample) -> Step:
    """Rows by their place in a shuffled order, which is a filter and so leaves the query lazy."""
    import polars as pl

    place = pl.int_range(pl.len()).shuffle(seed=operation.seed)
    size = pl.lit(operation.n) if operation.fraction is None else (pl.len() * operation.fraction).round()
    return lambda frame: frame.filter(place < size)


def deduplicated(operation: Deduplicate, types: Types) -> Step:
    names = known(operation.by, types) or None
    keep = operation.keep
    return lambda frame: frame.unique(names, keep=keep, maintain_order=True)  # type: ignore[arg-type]


def limited(operation: Limit) -> Step:
    return lambda frame: frame.slice(operation.offset, operation.n)


def unpivoted(operation: Unpivot, types: Types) -> Step:
    import polars as pl

    on, index = known(operation.on, types), known(operation.index, types)
    on = on or [name for name in types if name not in index]
    index = index or [name for name in types if name not in on]
    kinds = {kind_of(types[name]): name for name in reversed(on) if kind_of(types[name]) != "Null"}
    if len(kinds) > 1:
        one, other = sorted(kinds.values(), key=on.index)[:2]
        raise Unfit(
            f"columns {one!r}, {told(types[one])}, and {other!r}, {told(types[other])}, cannot become one; "
            "cast them, or say which ones as 'on'."
        )
    kept = [pl.col(name) for name in index]

    def step(frame: pl.LazyFrame) -> pl.LazyFrame:
        # One column after the other: `unpivot` gives rows in an order that depends on how many threads there are.
        parts = [
            frame.select(*kept, pl.lit(name).alias(operation.names), pl.col(name).alias(operation.values))
            for name in on
        ]
        return pl.concat(parts, how="vertical_relaxed")

    return step


def pivoted(operation: Pivot, types: Types, columns: pl.DataFrame | pl.Series) -> Step:
    """For columns that are known."""
    aggregate = {"only": None, "count": "len"}.get(operation.aggregate, operation.aggregate)
    index = operation.index or [name for name in types if name not in (*operation.on, *operation.values)]
    return lambda frame: frame.pivot(
        operation.on,
        columns,
        index=index,
        values=operation.values,
        aggregate_function=aggregate,  # type: ignore[arg-type]
        maintain_order=True,
    )


def joined(operation: Join, types: Types, others: Types) -> Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]:
    """Beside the rows of another frame, in the order of this one and then of the other; of a right join the reverse."""
    left, right = known(operation.keys[0], types), known(operation.keys[1], others, f"column of {operation.other!r}")
    for one, other in zip(left, right, strict=True):
        kinds = {kind_of(types[one]), kind_of(others[other])} - {"Null"}
        if len(kinds) > 1:
            raise Unfit(
                f"key {one!r} is {told(types[one])}, but {other!r} of {operation.other!r} is {told(others[other])}; "
                "cast one of them."
            )
    order: MaintainOrderJoin = "right_left" if operation.how == "right" else "left_right"
    how: JoinStrategy = operation.how  # type: ignore[assignment]

    def step(frame: pl.LazyFrame, other: pl.LazyFrame) -> pl.LazyFrame:
        return _typed(frame, left, right, others).join(
            _typed(other, right, left, types),
            left_on=left or None,
            right_on=right or None,
            how=how,
            suffix=operation.suffix,
            validate=operation.validate,  # type: ignore[arg-type]
            coalesce=True if how == "full" else None,
            maintain_order=order,
        )

    return step


def _typed(frame: pl.LazyFrame, keys: list[str], across: list[str], types: Types) -> pl.LazyFrame:
    """The frame, with keys that hold nothing at all in the type of those that they are compared with."""
    import polars as pl

    schema = frame.collect_schema()
    empty = {one: types[other] for one, other in zip(keys, across, strict=True) if schema[one] == pl.Null}
    return frame.cast(empty) if empty else frame  # type: ignore[arg-type]
