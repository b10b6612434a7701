"""Operations as one lazy query of Polars, each checked against the columns that it finds before anything is run.

Each operation becomes a step from frame to frame. The step is taken twice: on the query, and on a frame that has the
same columns and no rows, which tells what columns come out. A mistake is therefore known at once, with the number and
kind of the operation, and no operation is looked at twice however long the chain is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, assert_never

from twingraph.components.expressions import ExpressionError
from twingraph.components.expressions.datatypes import without_rows
from twingraph.components.expressions.syntax import offered
from twingraph.components.transforming import steps
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
    Operation,
    Pivot,
    Rename,
    Sample,
    Select,
    Sort,
    Unpivot,
    kind_of,
    named,
)
from twingraph.components.transforming.steps import Unfit, known
from twingraph.errors import ComponentError

if TYPE_CHECKING:
    import polars as pl

    from twingraph.components.transforming.steps import Step, Types

    Others: TypeAlias = Mapping[str, pl.LazyFrame]

_ROWS = (Filter, Sort, Sample, Deduplicate, Limit)
"""What leaves the columns as they are."""
_CHECKED = (Select, Drop, Derive, Rename, Group)
"""What is made of expressions, which were tried one by one, and of names."""


class _Earlier(Exception):
    """What comes before an operation fails when it is run."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def query(operations: Iterable[Operation], frame: pl.LazyFrame, others: Others) -> pl.LazyFrame:
    """The frame after all operations, not yet computed; ComponentError names the operation that does not fit."""
    from polars.exceptions import PolarsError

    chain, start = tuple(operations), frame
    types: Types = frame.collect_schema()
    for number, operation in enumerate(chain, 1):
        where = named(number, kind_of(operation))
        try:
            frame, types = _after(operation, frame, types, others)
        except ExpressionError as error:
            raise error.within(where) from error.__cause__
        except _Earlier as error:
            raise culprit(chain[: number - 1], start, others, error.error) from error.error
        except (Unfit, PolarsError) as error:
            raise ComponentError(f"{where}{told(error)}") from error
    return frame


def culprit(operations: tuple[Operation, ...], frame: pl.LazyFrame, others: Others, error: Exception) -> ComponentError:
    """The error of a query that failed while it ran, which names the first operation that fails."""
    from polars.exceptions import PolarsError

    for number, operation in enumerate(operations, 1):
        try:
            query(operations[:number], frame, others).collect()
        except PolarsError as found:
            return ComponentError(f"{named(number, kind_of(operation))}{told(found)}")
    return ComponentError(f"DataTransform: {told(error)}")


def told(error: Exception) -> str:
    """The first sentence of an error of Polars, which goes on with the plan of the query."""
    line = str(error).strip().split("\n", 1)[0]
    return line if line.endswith((".", "?")) else f"{line}."


def _after(operation: Operation, frame: pl.LazyFrame, types: Types, others: Others) -> tuple[pl.LazyFrame, Types]:
    if isinstance(operation, Join):
        other = _other(operation, others)
        beside = other.collect_schema()
        both = steps.joined(operation, types, beside)
        return both(frame, other), both(without_rows(types), without_rows(beside)).collect().schema
    if isinstance(operation, Pivot):
        frame, step = _pivot(operation, frame, types)
    else:
        step = _step(operation, types)
    if isinstance(operation, _ROWS):
        return step(frame), types
    tried = step(without_rows(types))
    return step(frame), tried.collect_schema() if isinstance(operation, _CHECKED) else tried.collect().schema


def _step(operation: Operation, types: Types) -> Step:  # noqa: C901 - one line for each operation
    match operation:
        case Filter():
            return steps.filtered(operation, types)
        case Select():
            return steps.selected(operation, types)
        case Drop():
            return steps.dropped(operation, types)
        case Derive():
            return steps.derived(operation, types)
        case Rename():
            return steps.renamed(operation, types)
        case Cast():
            return steps.cast(operation, types)
        case Sort():
            return steps.ordered(operation, types)
        case Group():
            return steps.grouped(operation, types)
        case Unpivot():
            return steps.unpivoted(operation, types)
        case Explode():
            return steps.exploded(operation, types)
        case Sample():
            return steps.sampled(operation)
        case Deduplicate():
            return steps.deduplicated(operation, types)
        case Limit():
            return steps.limited(operation)
        case Join() | Pivot():
            raise TypeError(f"{kind_of(operation)} looks at more than columns.")
        case _:
            assert_never(operation)


def _other(operation: Join, others: Others) -> pl.LazyFrame:
    if operation.other not in others:
        given = offered(operation.other, others) if others else "; give it in the call, by that name."
        raise Unfit(f"there is no input {operation.other!r}{given}")
    return others[operation.other]


def _pivot(operation: Pivot, frame: pl.LazyFrame, types: Types) -> tuple[pl.LazyFrame, Step]:
    """The step, and where it starts: from what the query gives up to here, if the columns have to be looked up."""
    import polars as pl
    from polars.exceptions import PolarsError

    used = known(dict.fromkeys([*operation.index, *operation.on, *operation.values]), types)
    if operation.columns:
        columns = pl.Series(operation.on[0], list(operation.columns)).cast(types[operation.on[0]])
        return frame, steps.pivoted(operation, types, columns)
    try:
        ready = (frame.select(used) if operation.index else frame).collect()
    except PolarsError as error:
        raise _Earlier(error) from error
    found = ready.select(operation.on).unique(maintain_order=True)
    return ready.lazy(), steps.pivoted(operation, types, found)
