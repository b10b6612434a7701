"""Tables out of PostgreSQL at the speed of its binary protocol: ADBC, where it is installed.

ADBC reads what `COPY ... TO STDOUT (FORMAT binary)` gives straight into Arrow, and binds values; connectorx, its rival,
binds none. It is taken only where the result is the same as without it: for statements that read, values of types that
both drivers send alike, and columns of types that both read alike. Otherwise the answer is None, and the statement
takes the common way.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from functools import lru_cache
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from twingraph.components.sql.arrow import decimals, declared, one
from twingraph.components.sql.asking import Ask
from twingraph.components.sql.pools import pools
from twingraph.components.sql.postgres import beginning
from twingraph.components.sql.problems import Failure
from twingraph.components.sql.targets import Target

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

_ALIKE = frozenset(
    {"bool", "bytea", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bpchar", "name", "time"}
)
_TEXT = frozenset({"json", "jsonb"})
_TIMES = frozenset({"date", "timestamp", "timestamptz"})
_LISTS = frozenset({"_bool", "_int2", "_int4", "_int8", "_float4", "_float8", "_text", "_varchar"})
_KNOWN = _ALIKE | _TEXT | _TIMES | _LISTS | {"numeric", "uuid"}
_TYPE = b"POSTGRESQL:type"
_MODIFIER = b"POSTGRESQL:typmod"
_FIRST_DAY, _LAST_DAY = (
    date.min.toordinal() - date(1970, 1, 1).toordinal(),
    date.max.toordinal() - date(1970, 1, 1).toordinal(),
)
_MICROSECONDS = 86_400_000_000
_MOST_UNFIT = 1_000


class _Unfit(Exception):
    """The common way is the one to take, for this statement `always`."""

    def __init__(self, always: bool = True, reason: str = "") -> None:
        super().__init__()
        self.always = always
        self.reason = reason or "a value has no place in a table; cast it in the statement"


class _Remembered:
    """Statements that were found to be unfit, so that they are not tried again."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Any) -> bool:
        with self._lock:
            return key in self._known

    def add(self, key: Any) -> None:
        """Remember one."""
        with self._lock:
            self._known[key] = None
            if len(self._known) > _MOST_UNFIT:
                self._known.popitem(last=False)


_unfit = _Remembered()


def table(target: Target, ask: Ask) -> pa.Table | None:
    """The rows as a table, or None if they have to be had in another way."""
    return _tried(target, ask, lambda: _whole(target, ask))


def parts(target: Target, ask: Ask) -> Iterator[pa.Table] | None:
    """The rows as tables of `ask.part` rows, or None likewise; with a timeout, too: it would count the time between."""
    return None if ask.timeout is not None else _tried(target, ask, lambda: _begun(_by_part(target, ask)))


def _tried(target: Target, ask: Ask, way: Callable[[], T]) -> T | None:
    values = ask.bound.values
    if ask.bound.many or not ask.bound.statement.reads or not _installed():
        return None
    key = (target, ask.bound.text, tuple(type(each) for each in values))
    if key in _unfit:
        return None
    try:
        return way()
    except _Unfit as unfit:
        if unfit.always:
            _unfit.add(key)
        return None


def _whole(target: Target, ask: Ask) -> pa.Table:
    with _reading(target, ask, held=True) as reader:
        return _table(list(reader), reader.schema)


def _by_part(target: Target, ask: Ask) -> Iterator[pa.Table]:
    """The parts, each as soon as its rows are there; the first one comes when the statement is known to be fit."""
    import pyarrow as pa

    with _reading(target, ask, held=False) as reader:
        yield _table([], reader.schema)
        left = pa.Table.from_batches([], reader.schema)
        for batch in reader:
            left = pa.concat_tables([left, pa.Table.from_batches([batch])])
            while left.num_rows >= ask.part:
                yield _table(left.slice(0, ask.part).to_batches(), reader.schema)
                left = left.slice(ask.part)
        if left.num_rows:
            yield _table(left.to_batches(), reader.schema)


def _begun(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The parts, of which the first, which tells that there are some, is taken already."""
    next(parts)
    return _rest(parts)


def _rest(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The parts; now it is too late for another way."""
    try:
        yield from parts
    except _Unfit as unfit:
        raise Failure(unfit.reason) from None


@lru_cache(maxsize=1)
def _installed() -> bool:
    return all(find_spec(each) is not None for each in ("adbc_driver_postgresql", "adbc_driver_manager", "pyarrow"))


@contextmanager
def _reading(target: Target, ask: Ask, held: bool) -> Iterator[pa.RecordBatchReader]:
    """The rows as they come; a statement that is not fit is told before the first one."""
    import pyarrow as pa
    from adbc_driver_manager import Error

    given, began = _batch(ask.bound.values), monotonic()
    try:
        with pools.lent(target, "adbc", lambda: _opened(target), _alive, held) as lent:
            lent.keep = False
            with _cursor(lent.connection, ask) as cursor:
                _check_texts(cursor, ask)
                cursor.execute(_limited(ask), given)
                with cursor.fetch_record_batch() as reader:
                    if any(_type(each) not in _KNOWN for each in reader.schema):
                        raise _Unfit
                    yield reader
            lent.keep = True
    except (Error, OSError, pa.ArrowException) as error:
        state = getattr(error, "sqlstate", None) or ""
        if ask.timeout is not None and monotonic() - began >= ask.timeout:
            raise Failure("", sqlstate=state, timeout=True) from None
        raise _Unfit(state.startswith("42"), _said(error)) from None  # mostly it is told in the common way


def _said(error: Any) -> str:
    """What the server says."""
    for name, value in getattr(error, "details", None) or ():
        if name == b"PG_DIAG_MESSAGE_PRIMARY":
            return str(value.decode())
    return str(error).partition("ERROR:")[2].strip() or str(error)


def _limited(ask: Ask) -> str:
    """The statement, with what makes the server stop after so many rows."""
    text = ask.bound.text
    return text if ask.limit is None else f"SELECT * FROM ({text}\n) AS rows_of_it LIMIT {ask.limit:d}"  # noqa: S608


def _opened(target: Target) -> Any:
    from adbc_driver_postgresql import dbapi

    url = target.parsed.set(drivername="postgresql")
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": "10"})
    return dbapi.connect(url.render_as_string(hide_password=False), autocommit=True)


def _alive(connection: Any, long_idle: bool) -> bool:
    from adbc_driver_manager import Error

    if not long_idle:
        return True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
    except Error:
        return False
    return True


@contextmanager
def _cursor(connection: Any, ask: Ask) -> Iterator[Any]:
    """A cursor in a transaction: what functions did is undone before the statement takes the common way."""
    from adbc_driver_manager import Error

    with connection.cursor() as cursor:
        for each in beginning(ask).split("; "):
            cursor.execute(each)
        try:
            yield cursor
        except BaseException:
            with suppress(Error):  # the first error is the one that tells
                cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")


def _batch(values: Any) -> Any:
    """The values as a batch of Arrow, of the types in which psycopg sends them."""
    import pyarrow as pa

    if not values:
        return None
    return pa.record_batch(
        [pa.array([each], _sent(each)) for each in values], names=[str(n) for n in range(len(values))]
    )


def _sent(value: Any) -> Any:
    import pyarrow as pa

    match value:
        case bool():
            return pa.bool_()
        case int():
            for kind, bits in ((pa.int16(), 15), (pa.int32(), 31), (pa.int64(), 63)):
                if -(1 << bits) <= value < 1 << bits:
                    return kind
        case float():
            return pa.float64()
        case str():
            return pa.string()
        case bytes():
            return pa.binary()
        case datetime():
            return pa.timestamp("us") if value.tzinfo is None else pa.timestamp("us", "UTC")
        case date():
            return pa.date32()
    raise _Unfit


def _table(batches: list[Any], schema: Any) -> pa.Table:
    """A table with the types of the common way."""
    import pyarrow as pa

    raw = pa.Table.from_batches(batches, schema)
    made = []
    for column, field in zip(raw.columns, schema, strict=True):
        chunks = column.chunks or [pa.array([], field.type)]
        made.append(one([_column(each, field) for each in chunks], field.name))
    return pa.Table.from_arrays(made, names=schema.names)


def _check_texts(cursor: Any, ask: Ask) -> None:
    """ADBC says that a text is one, psycopg leaves it to the server: that is alike where the server wants a text."""
    values = ask.bound.values
    if not any(isinstance(each, str) for each in values):
        return
    wanted = list(cursor.adbc_prepare(ask.bound.text) or ())
    for value, field in zip(values, wanted, strict=True):
        if isinstance(value, str) and _type(field) != "text":
            raise _Unfit


def _type(field: Any) -> str:
    return str((field.metadata or {}).get(_TYPE, b"").decode())


def _column(column: Any, field: Any) -> Any:
    """A column of a batch, with the type that it has in the common way."""
    import pyarrow as pa

    kind = _type(field)
    plain = column.storage if isinstance(column, pa.ExtensionArray) else column
    if kind == "numeric":
        found = decimals(plain, _declared(field))
        if pa.types.is_string(found.type):
            raise _Unfit(always=False)  # what is not a number is spelled in another way
        return found
    if kind == "uuid":
        return pa.array([None if each is None else str(UUID(bytes=each)) for each in plain.to_pylist()], pa.string())
    if kind in _LISTS:
        return plain.cast(pa.list_(plain.type.value_type))
    if kind in _TIMES:
        _check_times(plain)
    return plain


def _declared(field: Any) -> Any:
    modifier = int(field.metadata.get(_MODIFIER, b"-1")) - 4
    return declared(modifier >> 16, modifier & 0x7FF) if modifier >= 0 else None


def _check_times(column: Any) -> None:
    """Infinite times, and those that Python does not know, are left to the common way, which says so."""
    import pyarrow as pa
    import pyarrow.compute as pc

    days = pa.types.is_date32(column.type)
    found = pc.min_max(column.view(pa.int32() if days else pa.int64())).as_py()
    per_day = 1 if days else _MICROSECONDS
    if found["min"] is not None and (found["min"] < _FIRST_DAY * per_day or found["max"] >= (_LAST_DAY + 1) * per_day):
        raise _Unfit
