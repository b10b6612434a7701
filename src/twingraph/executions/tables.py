"""What is recorded of a table instead of its rows: how many there are, and the names and types of its columns."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

_FRAMES = {("polars", "DataFrame"), ("pyarrow", "Table"), ("pyarrow", "RecordBatch"), ("pandas", "DataFrame")}
_UNREAD = {("polars", "LazyFrame"), ("duckdb", "DuckDBPyRelation")}
_MOST = 200  # columns that are told
_SHOWN = 120


def is_table(value: Any) -> bool:
    """Whether a value is a frame of a library."""
    return _kind(value) in _FRAMES


def is_unread(value: Any) -> bool:
    """Whether a value is a query that has not been asked yet: what it will give nobody knows."""
    return _kind(value) in _UNREAD


def columns(frame: Any) -> list[str]:
    """The names of the columns of a frame."""
    return [str(each) for each in getattr(frame, "column_names", frame.columns)]


def table(value: Any) -> dict[str, Any]:
    """What is told of a table; nothing of other values."""
    if is_table(value):
        return _told(_rows(value), zip(columns(value), map(str, _types(value)), strict=False))
    if (
        isinstance(value, list)
        and value
        and isinstance(value[0], dict)
        and all(isinstance(each, str) for each in value[0])
    ):
        return {"columns": {name: type(each).__name__ for name, each in islice(value[0].items(), _MOST)}}
    return {}


def _told(rows: int, named: Iterable[tuple[str, str]]) -> dict[str, Any]:
    held = dict(islice(named, _MOST))
    shown = ", ".join(f"{name} {kind}" for name, kind in held.items())
    return {"rows": rows, "columns": held, "repr": f"{rows} rows of {shown}"[:_SHOWN]}


def _kind(value: Any) -> tuple[str, str]:
    kind = type(value)
    return kind.__module__.partition(".")[0].lstrip("_"), kind.__name__


def _rows(frame: Any) -> int:
    return int(frame.num_rows if hasattr(frame, "num_rows") else frame.shape[0])


def _types(frame: Any) -> Iterable[Any]:
    held: Any = getattr(getattr(frame, "schema", None), "types", None)
    return held if isinstance(held, list) else frame.dtypes
