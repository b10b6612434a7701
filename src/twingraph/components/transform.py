"""`DataTransform`: a chain of operations on a table, run by Polars as one lazy query.

    DataTransform(operations=[{"filter": "price > 3"}, {"group": {"by": "city", "total": "sum(price)"}}])(data=orders)
    DataTransform().filter("price > 3").group("city", total="sum(price)")(data=orders)

Both are the same: what the methods add to is the list of operations, which is plain JSON. It is read when the component
is made, so that an expression which cannot be read is an error there; `operations` says what may stand in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from twingraph.components.built_in import BuiltIn, needed
from twingraph.components.frames import Form, columns_of, form_of, in_form, lazy_of, table_in
from twingraph.components.transforming.operations import Join, operations_of, schema

if TYPE_CHECKING:
    from polars import LazyFrame

Output: TypeAlias = Literal["same", "records", "columns", "polars", "lazy", "arrow", "pandas"]
Names: TypeAlias = str | Sequence[str]
How: TypeAlias = Literal["inner", "left", "right", "full", "semi", "anti", "cross"]
Aggregate: TypeAlias = Literal["only", "first", "last", "sum", "mean", "median", "min", "max", "count"]

_WHERE = "DataTransform: "


class DataTransform(BuiltIn):
    """Filters, computes, groups, joins and reshapes tables; without operations it gives back what it is given."""

    extra = "transform"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        operations: list[dict[str, Any]] | None = None,
        output: Output = "same",
    ) -> None:
        """Read the operations.

        Args:
            operations: what is done, one after the other, each a dict with its name: {"filter": "price > 3"}.
            output: the form of the result; "same" is that of the data, and "lazy" a query that was not run yet.
        """
        super().__init__(config)
        self.operations = list(operations or [])
        self.output: Output = output
        self._chain = operations_of(self.operations)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON schemas of its settings, with all that an operation may be, and of its inputs."""
        told = super().schema()
        properties = told["settings"]["properties"]
        properties["operations"] = {"description": properties["operations"]["description"], "default": [], **schema()}
        told["inputs"]["additionalProperties"] = {"description": "a further table, by the name that a join has for it."}
        return told

    def execute(self, data: Any, **others: Any) -> dict[str, Any]:
        """Run the operations.

        Args:
            data: a table: records, columns, or a frame of Polars, pandas or Arrow.
            others: further tables, by the names that joins have for them.
        """
        table = table_in(data)
        form = form_of(table, f"{_WHERE}data")
        wanted: Form = form if self.output == "same" else self.output
        if form == "records" and not isinstance(table, list):
            table = list(table)
        if not self._chain and wanted == form:
            return _whole(table)
        return _whole(*self._run(table, others, wanted))

    def _run(self, table: Any, others: Mapping[str, Any], wanted: Form) -> tuple[Any, list[str]]:
        from twingraph.components.transforming.queries import culprit, query

        with needed(self.extra, "DataTransform"):
            from polars.exceptions import PolarsError
        names = {each.other for each in self._chain if isinstance(each, Join)} & others.keys()
        frame = lazy_of(table, f"{_WHERE}data")
        beside = {name: lazy_of(others[name], f"{_WHERE}{name}") for name in sorted(names)}
        frame, beside = self._with_columns(frame, beside)
        made = query(self._chain, frame, beside)
        columns = made.collect_schema().names()
        if wanted == "lazy":
            return made, columns
        try:
            with needed(self.extra, "DataTransform"):
                return in_form(made.collect(), wanted), columns
        except PolarsError as error:
            raise culprit(self._chain, frame, beside, error) from error

    def _with_columns(self, frame: LazyFrame, beside: dict[str, LazyFrame]) -> tuple[LazyFrame, dict[str, LazyFrame]]:
        """The tables, of which those without any record get the columns that are asked of them, without a type."""
        import polars as pl

        from twingraph.components.transforming.wanted import wanted

        tables = {"": frame, **beside}
        names = {key: table.collect_schema().names() for key, table in tables.items()}
        if all(names.values()):
            return frame, beside
        unknown = wanted(self._chain, names[""], names)
        keys = {each.other: each.keys[1] for each in self._chain if isinstance(each, Join)}
        for key in [each for each in names if not names[each]]:
            columns = [*keys.get(key, ()), *(unknown if key == "" or names[""] else ())]
            tables[key] = pl.LazyFrame(schema=dict.fromkeys(columns, pl.Null()))
        return tables.pop(""), tables

    def _and(self, name: str, value: Any) -> DataTransform:
        return DataTransform({**self.config, "operations": [*self.operations, {name: value}]})

    def filter(self, *where: str) -> DataTransform:
        """Keep the rows in which every condition holds."""
        return self._and("filter", list(where))

    def select(self, *names: str, **columns: str) -> DataTransform:
        """Keep these columns, and make these of expressions."""
        return self._and(
            "select", {**{name: f"column({name!r})" for name in names}, **columns} if columns else list(names)
        )

    def drop(self, *names: str) -> DataTransform:
        """Leave columns out."""
        return self._and("drop", list(names))

    def derive(self, **columns: str) -> DataTransform:
        """Add columns made of expressions."""
        return self._and("derive", columns)

    def rename(self, **columns: str) -> DataTransform:
        """Give columns other names: `rename(old="new")`."""
        return self._and("rename", columns)

    def cast(self, **types: str) -> DataTransform:
        """Change the types of columns."""
        return self._and("cast", types)

    def sort(self, *by: str, descending: bool = False, nulls: Literal["last", "first"] = "last") -> DataTransform:
        """Put the rows in order."""
        return self._and("sort", {"by": list(by), "descending": descending, "nulls": nulls})

    def group(self, *by: str, **aggregates: str) -> DataTransform:
        """One row for all rows with the same values."""
        return self._and("group", {"by": list(by), **aggregates})

    def join(self, other: str, on: Names, how: How = "inner", **fields: Any) -> DataTransform:
        """Put the columns of another input beside those of rows with the same keys."""
        return self._and("join", {"with": other, "on": _listed(on), "how": how, **fields})

    def pivot(self, on: Names, values: Names, aggregate: Aggregate = "only", **fields: Any) -> DataTransform:
        """Make columns of the values of a column."""
        return self._and("pivot", {"on": _listed(on), "values": _listed(values), "aggregate": aggregate, **fields})

    def unpivot(self, *on: str, names: str = "name", values: str = "value") -> DataTransform:
        """Make rows of columns."""
        return self._and("unpivot", {"on": list(on), "names": names, "values": values})

    def explode(self, *columns: str) -> DataTransform:
        """Make a row of each value in a list."""
        return self._and("explode", list(columns))

    def sample(self, n: int | None = None, fraction: float | None = None, seed: int = 0) -> DataTransform:
        """Choose rows by chance."""
        size = {"n": n} if fraction is None else {"fraction": fraction}
        return self._and("sample", {**size, "seed": seed})

    def deduplicate(self, *by: str, keep: Literal["first", "last", "any", "none"] = "first") -> DataTransform:
        """Keep one row of those that are equal."""
        return self._and("deduplicate", {**({"by": list(by)} if by else {}), "keep": keep})

    def limit(self, n: int, offset: int = 0) -> DataTransform:
        """Keep so many rows."""
        return self._and("limit", {"n": n, "offset": offset})


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _whole(table: Any, columns: list[str] | None = None) -> dict[str, Any]:
    """What is given: the table, its number of rows unless it is a query that was not run, and its columns."""
    form = form_of(table)
    count: int | None = None
    if form == "columns":
        count = max(map(_length, table.values()), default=0)
    elif form != "lazy":
        count = len(table)
    names = columns_of(table, f"{_WHERE}data") if columns is None else columns
    return {"data": table, "count": count, "columns": names}


def _length(column: Any) -> int:
    """How many values a column holds; a value that is no list of them stands for one in every row."""
    return len(column) if isinstance(column, Sized) and not isinstance(column, str | bytes) else 1
