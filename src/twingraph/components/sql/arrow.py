"""Rows as a table of Arrow, and the types that columns of PostgreSQL have in one.

A column has the type that the database declares, and else the one that its values have. What Arrow has no type for is
text in a table: JSON, UUIDs, and decimals where one of them is not a number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from twingraph.components.built_in import needed
from twingraph.errors import ComponentError

if TYPE_CHECKING:
    import pyarrow as pa

DIGITS = 38
NUMERIC = "numeric"
"""The type of decimals that were declared without digits: they have as many after the point as their values need."""

_NUMERIC = 1700


@lru_cache(maxsize=1)
def _postgres() -> dict[int, Any]:
    import pyarrow as pa

    plain = {
        16: pa.bool_(), 17: pa.binary(), 19: pa.string(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(),
        25: pa.string(), 114: pa.string(), 700: pa.float32(), 701: pa.float64(), 1042: pa.string(), 1043: pa.string(),
        1082: pa.date32(), 1083: pa.time64("us"), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"),
        1186: pa.duration("us"), 2950: pa.string(), 3802: pa.string(),
    }  # fmt: skip
    lists = {1000: 16, 1005: 21, 1007: 23, 1009: 25, 1015: 1043, 1016: 20, 1021: 700, 1022: 701}
    return plain | {oid: pa.list_(plain[item]) for oid, item in lists.items()}


def of_postgres(oid: int, precision: int | None, scale: int | None) -> Any:
    """The type of a column, or None where its values have to tell."""
    if oid == _NUMERIC:
        return declared(precision, scale) or NUMERIC
    return _postgres().get(oid)


def declared(precision: int | None, scale: int | None) -> Any:
    """The type of a decimal that was declared, where Arrow has it."""
    import pyarrow as pa

    if precision is None or scale is None or not 0 <= scale <= precision <= DIGITS:
        return None
    return pa.decimal128(precision, scale)


def table(names: Sequence[str], types: Mapping[int, Any], parts: Iterable[Sequence[tuple[Any, ...]]]) -> pa.Table:
    """A table of rows that come in parts."""
    with needed("database", "A table"):
        import pyarrow as pa

    columns: list[list[Any]] = [[] for _ in names]
    for rows in parts:
        for number, values in enumerate(zip(*rows, strict=True)):
            columns[number].append(array(values, types.get(number), names[number]))
    made = [
        one(chunks or [array([], types.get(number), names[number])], names[number])
        for number, chunks in enumerate(columns)
    ]
    return pa.Table.from_arrays(made, names=list(names))


def array(values: Sequence[Any], kind: Any, name: str) -> Any:
    """The values of a column, of a type or of the one that fits."""
    import pyarrow as pa

    first = next((each for each in values if each is not None), None)
    if isinstance(first, Decimal) or kind == NUMERIC:
        return _decimals(values, None if kind == NUMERIC else kind)
    if isinstance(first, UUID):
        values = [None if each is None else str(each) for each in values]
    elif isinstance(first, dict):
        values = [None if each is None else json.dumps(each, default=str) for each in values]
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError) as error:
        raise _mixed(name, sorted({type(each).__name__ for each in values if each is not None})) from error


def one(chunks: list[Any], name: str) -> Any:
    """A column of parts that may differ in their types."""
    import pyarrow as pa

    kinds = {each.type for each in chunks}
    if len(kinds) == 1:
        return pa.chunked_array(chunks)
    known = kinds - {pa.null()}
    if all(pa.types.is_decimal(each) or pa.types.is_string(each) for each in known) and len(known) > 1:
        return pa.chunked_array(_alike(chunks, known))
    try:
        tables = [pa.table({"": each}) for each in chunks]
        return pa.concat_tables(tables, promote_options="permissive").column(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _mixed(name, sorted(map(str, known))) from error


def _mixed(name: str, kinds: list[str]) -> ComponentError:
    return ComponentError(
        f"DatabaseQuery: column {name!r} makes no column of a table: it holds {' and '.join(kinds)}; cast it in the "
        "statement, or take output='records'."
    )


def decimals(column: Any, kind: Any) -> Any:
    """Decimals of their text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind is None:
        point = pc.find_substring(column, ".")
        digits = pc.if_else(pc.equal(point, -1), 0, pc.subtract(pc.subtract(pc.utf8_length(column), point), 1))
        kind = pa.decimal128(DIGITS, min(pc.max(digits).as_py() or 0, DIGITS))
    return _fitting(column, kind)


def _decimals(values: Sequence[Decimal | None], kind: Any) -> Any:
    import pyarrow as pa

    if kind is None:
        exponents = [each.as_tuple().exponent for each in values if each is not None]
        scale = max((-each for each in exponents if isinstance(each, int)), default=0)
        kind = pa.decimal128(DIGITS, min(max(scale, 0), DIGITS))
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return _fitting(pa.array([None if each is None else f"{each:f}" for each in values], pa.string()), kind)


def _fitting(column: Any, kind: Any) -> Any:
    """Texts as decimals: of this type, of one with more digits, or as they are where one of them is no number."""
    import pyarrow as pa

    for each in (kind, pa.decimal256(2 * DIGITS, kind.scale)):
        try:
            return column.cast(each)
        except pa.ArrowInvalid:
            continue
    return column


def _alike(chunks: list[Any], kinds: set[Any]) -> list[Any]:
    """Decimals of several scales as such of the largest one; beside text, all as text."""
    import pyarrow as pa

    if any(pa.types.is_string(each) for each in kinds):
        return [each.cast(pa.string()) for each in chunks]
    scale = max(each.scale for each in kinds)
    texts = [each.cast(pa.string()) for each in chunks]
    kind = pa.decimal128(DIGITS, scale)
    fitting = [_fitting(each, kind) for each in texts]
    return (
        fitting
        if len({each.type for each in fitting}) == 1
        else [each.cast(pa.decimal256(2 * DIGITS, scale)) for each in texts]
    )
