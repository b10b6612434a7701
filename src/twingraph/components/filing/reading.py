"""From files to what was asked of them: records for people, or a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from twingraph.components.filing.asked import Asked, Manner, checked, predicate
from twingraph.components.filing.documents import READERS, records
from twingraph.components.filing.faults import first_fault
from twingraph.components.filing.finding import File, named
from twingraph.components.filing.formats import Format
from twingraph.components.filing.tables import table
from twingraph.components.frames import columns_of, in_form
from twingraph.errors import ComponentError, FileError

if TYPE_CHECKING:
    import polars as pl

Output: TypeAlias = Literal["records", "frame", "arrow"]


def read(files: list[File], kind: Format, manner: Manner, asked: Asked, output: Output) -> dict[str, Any]:
    """The data, how many rows it has, and its columns."""
    if output == "records" and kind in READERS and not manner.types:
        rows = records(files, kind, manner, asked)
        columns = columns_of(rows)
        if asked.columns is not None:
            columns = checked(asked.columns, columns, named(files)) if rows else list(asked.columns)
            rows = [{name: each.get(name) for name in columns} for each in rows]
        return {"data": rows, "count": len(rows), "columns": columns}
    frame = _frame(files, kind, manner, asked)
    data = in_form(frame, "records" if output == "records" else "arrow" if output == "arrow" else "polars")
    return {"data": data, "count": frame.height, "columns": frame.columns}


def _frame(files: list[File], kind: Format, manner: Manner, asked: Asked) -> pl.DataFrame:
    import polars as pl

    try:
        query = _typed(table(files, kind, manner, asked), kind, manner, named(files))
        if asked.where:
            query = query.filter(predicate(asked.where, query.collect_schema()))
        if asked.limit is not None:
            query = query.head(asked.limit)
        if asked.columns is not None:
            query = query.select(checked(asked.columns, query.collect_schema().names(), named(files)))
        return query.collect()
    except ComponentError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise first_fault(files, kind, manner, error) from error


def _typed(query: pl.LazyFrame, kind: str, manner: Manner, shown: str) -> pl.LazyFrame:
    """With the types that are asked of columns; csv is read in them."""
    if not manner.types:
        return query
    from twingraph.components.expressions.datatypes import converted

    schema = query.collect_schema()
    checked(manner.types, schema.names(), shown)
    if kind == "csv":
        return query
    import polars as pl

    frame = query.collect()
    for name, asked in manner.types.items():
        made = converted(pl.col(name), schema[name], asked, strict=False)
        bad = frame.select(pl.arg_where(pl.col(name).is_not_null() & made.is_null())).to_series()
        if len(bad):
            raise FileError(
                f"{shown}, row {bad[0] + 1}, column {name!r}: {str(frame[name][bad[0]])[:60]!r} cannot become {asked}."
            )
        frame = frame.with_columns(made.alias(name))
    return frame.lazy()
