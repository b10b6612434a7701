"""Tables in whatever form they come: records, columns, or a frame of Polars, pandas or Arrow.

`frame_of` makes a Polars frame of any of them, `lazy_of` the beginning of a query. `records` gives rows as people read
them, and `as_given` brings a frame back into the form that the data came in: records for records, a frame of pandas for
a frame of pandas. What another component gave as a whole stands for the table in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from twingraph.components.built_in import needed
from twingraph.errors import ComponentError, ComponentTypeError, MissingLibraryError

if TYPE_CHECKING:
    import polars as pl

Form: TypeAlias = Literal["records", "columns", "polars", "lazy", "arrow", "pandas"]

_KINDS: dict[tuple[str, str], Form] = {
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "lazy",
    ("pyarrow", "Table"): "arrow",
    ("pyarrow", "RecordBatch"): "arrow",
    ("pandas", "DataFrame"): "pandas",
}
_WHOLE = (
    ("data", {"count", "columns"}),
    ("rows", {"row_count", "columns"}),
)  # what components give, and the table in it
_SHOWN = 60


def table_in(value: Any) -> Any:
    """The table in what a component gave as a whole; any other value as it is."""
    if isinstance(value, Mapping):
        for name, beside in _WHOLE:
            if name in value and beside <= value.keys():
                return value[name]
    return value


def form_of(data: Any, where: str = "data") -> Form:
    """The form that a table has; an error for what is none."""
    data = table_in(data)
    kind = type(data)
    found = _KINDS.get((kind.__module__.partition(".")[0], kind.__name__))
    if found:
        return found
    if isinstance(data, Mapping):
        return "columns"
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise ComponentTypeError(
            f"{where} is of type {kind.__name__}, which is no table: give a list of records, a dict of columns, "
            "or a frame of Polars, pandas or Arrow."
        )
    return "records"


def frame_of(data: Any, where: str = "data", extra: str = "transform") -> pl.DataFrame:
    """A Polars frame of a table in any form; `where` names it in errors, `extra` is what installs Polars."""
    made = lazy_of(data, where, extra) if form_of(data, where) == "lazy" else _eager(table_in(data), where, extra)
    return made.collect() if hasattr(made, "collect") else made


def lazy_of(data: Any, where: str = "data", extra: str = "transform") -> pl.LazyFrame:
    """The beginning of a query on a table in any form."""
    data = table_in(data)
    return data if form_of(data, where) == "lazy" else _eager(data, where, extra).lazy()


def as_given(frame: pl.DataFrame | pl.LazyFrame, given: Any, where: str = "data") -> Any:
    """A frame in the form in which `given` came."""
    return in_form(frame, form_of(given, where))


def in_form(frame: pl.DataFrame | pl.LazyFrame, form: Form) -> Any:
    """A frame in another form."""
    if form == "lazy":
        return frame.lazy()
    made = frame.collect() if hasattr(frame, "collect") else frame
    match form:
        case "records":
            return made.to_dicts()
        case "columns":
            return made.to_dict(as_series=False)
        case "arrow":
            import pyarrow as pa  # noqa: F401 - Polars would fail with less to say

            return made.to_arrow()
        case "pandas":
            try:
                import pandas as pd  # noqa: F401 - no extra installs it: who wants such frames has it
            except ModuleNotFoundError:
                raise MissingLibraryError(
                    "A frame of pandas needs pandas, which is not installed: pip install pandas."
                ) from None
            return made.to_pandas()
        case _:
            return made


def records(data: Any, where: str = "data", extra: str = "transform") -> list[dict[str, Any]]:
    """The rows of a table in any form, each a dict."""
    form, data = form_of(data, where), table_in(data)
    if form == "records":
        return [dict(each) for each in _rows(data, where)]
    found: list[dict[str, Any]] = frame_of(data, where, extra).to_dicts()
    return found


def columns_of(data: Any, where: str = "data") -> list[str]:
    """The names of the columns of a table in any form; of records, in the order in which they appear."""
    form, data = form_of(data, where), table_in(data)
    match form:
        case "records":
            return list(dict.fromkeys(name for each in _rows(data, where) for name in each))
        case "columns":
            return [str(each) for each in data]
        case "lazy":
            return list(data.collect_schema().names())
        case "arrow":
            return list(data.schema.names)
        case _:
            return [str(each) for each in data.columns]


def _eager(data: Any, where: str, extra: str) -> pl.DataFrame:
    with needed(extra, "A table"):
        import polars as pl

        match form_of(data, where):
            case "polars":
                return cast("pl.DataFrame", data)
            case "arrow":
                return pl.DataFrame(pl.from_arrow(data))
            case "pandas":
                return pl.DataFrame(pl.from_pandas(data))
            case "columns":
                return _of_columns(data, where)
            case _:
                return _of_records(_rows(data, where), where)


def _rows(data: Iterable[Any], where: str) -> Sequence[Mapping[str, Any]]:
    rows = data if isinstance(data, list | tuple) else list(data)
    if not all(type(each) is dict for each in rows):  # the common case at the speed of C
        for index, each in enumerate(rows):
            if not isinstance(each, Mapping):
                raise ComponentTypeError(
                    f"{where}: row {index} is {repr(each)[:_SHOWN]}, of type {type(each).__name__}: a row is a dict."
                )
    return rows


def _of_records(rows: Sequence[Mapping[str, Any]], where: str) -> pl.DataFrame:
    import polars as pl

    if not rows:
        return pl.DataFrame()
    if (plain := _of_plain_records(rows)) is not None:
        return plain
    try:
        made = pl.from_dicts(rows, infer_schema_length=None)
        problem: Exception = TypeError("of several types")
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        made, problem = None, error
    if made is None or any(_coerced(rows, name) for name, kind in made.schema.items() if not kind.is_nested()):
        columns = {name: [each.get(name) for each in rows] for name in columns_of(rows)}
        raise _mixed(columns, where, problem) from problem
    return made


def _of_plain_records(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame | None:
    """The common case, column by column, which is three times as fast: one simple type in each, and every row alike."""
    import polars as pl

    names = rows[0].keys()
    if not all(each.keys() == names for each in rows):
        return None
    columns = {name: [each[name] for each in rows] for name in names}
    try:
        made = pl.DataFrame(columns, strict=True)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        return None
    numbers = {pl.Int64, pl.Float64}
    if not numbers.union((pl.String, pl.Boolean, pl.Date, pl.Null)).issuperset(made.dtypes):
        return None
    if any(kind in numbers and bool in set(map(type, columns[name])) for name, kind in made.schema.items()):
        return None
    return made


def _coerced(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether values of several types became one, as 1 and "x" become "1" and "x"."""
    return len({_family(each) for each in {type(row.get(name)) for row in rows}} - {type(None)}) > 1


def _of_columns(data: Mapping[str, Any], where: str) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.DataFrame({str(name): values for name, values in data.items()}, strict=True)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        sizes = {name: len(each) for name, each in data.items() if hasattr(each, "__len__")}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name!r} {size}" for name, size in sizes.items())
            raise ComponentError(f"{where}: its columns are not equally long ({told} values).") from error
        raise _mixed(data, where, error) from error


def _mixed(columns: Mapping[str, Any], where: str, error: Exception) -> ComponentError:
    """What is wrong with values that make no frame: mostly a column with values of several types."""
    for name, values in columns.items():
        first = next((each for each in values if each is not None), None)
        for index, each in enumerate(values):
            if each is not None and not _alike(first, each):
                return ComponentError(
                    f"{where}: column {name!r} holds {type(first).__name__} and, in row {index}, "
                    f"{type(each).__name__} ({repr(each)[:_SHOWN]}): make them one type."
                )
    return ComponentError(f"{where} makes no table: {' '.join(str(error).split())[:200]}")


def _alike(one: Any, other: Any) -> bool:
    return _family(type(one)) is _family(type(other))


def _family(kind: type) -> type:
    """What a column may hold beside values of a type without becoming another."""
    return float if issubclass(kind, Real) and not issubclass(kind, bool) else kind  # so are numbers of NumPy
