"""Avro: the types of Polars as its schemas, and the reverse.

Avro's `decimal`, `date`, `time` and `timestamp` keep what they mean; a time zone becomes UTC. Whole numbers without a
sign of 64 bits, and durations, have no word in Avro.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from twingraph.components.filing.asked import Manner
from twingraph.components.filing.contents import opened
from twingraph.components.filing.documents import of_avro
from twingraph.components.filing.finding import File
from twingraph.components.frames import frame_of
from twingraph.errors import FileError

if TYPE_CHECKING:
    import polars as pl

_PLAIN = {
    "null": "Null", "boolean": "Boolean", "int": "Int32", "long": "Int64", "float": "Float32", "double": "Float64",
    "bytes": "Binary", "string": "String", "enum": "String", "fixed": "Binary",
}  # fmt: skip
_WRITTEN = {
    "Null": "null", "Boolean": "boolean", "Int8": "int", "Int16": "int", "Int32": "int", "Int64": "long",
    "UInt8": "int", "UInt16": "int", "UInt32": "long", "Float32": "float", "Float64": "double", "String": "string",
    "Categorical": "string", "Enum": "string", "Binary": "bytes",
}  # fmt: skip


def frame_of_avro(file: File, limit: int | None = None) -> pl.DataFrame:
    """The records of a file as a frame, of its own types; the first of them where there is a limit."""
    import polars as pl

    rows = list(islice(of_avro(file, Manner()), limit))
    schema = _schema(file)
    if schema is None:
        return frame_of(rows, file.shown, "files")
    return pl.DataFrame(rows, schema=schema, orient="row")


def _schema(file: File) -> dict[str, pl.DataType] | None:
    import fastavro

    with opened(file) as stream:
        written = fastavro.reader(stream).writer_schema
    if not isinstance(written, dict) or written.get("type") != "record":
        return None
    try:
        return {each["name"]: _type(each["type"]) for each in written["fields"]}
    except KeyError:  # a type that frames have no word for: they are told by the values
        return None


def _type(written: Any) -> pl.DataType:
    import polars as pl

    if isinstance(written, list):
        kinds = [each for each in written if each != "null"]
        if len(kinds) != 1:
            raise KeyError("union")
        return _type(kinds[0])
    told: Mapping[str, Any] = {"type": written} if isinstance(written, str) else written
    logical = _logical(told)
    if logical is not None:
        return logical
    match told["type"]:
        case "record":
            return pl.Struct({each["name"]: _type(each["type"]) for each in told["fields"]})
        case "array":
            return pl.List(_type(told["items"]))
        case dict() | list() as inner:
            return _type(inner)
        case name:
            made: pl.DataType = getattr(pl, _PLAIN[name])()
            return made


def _logical(told: Mapping[str, Any]) -> pl.DataType | None:
    import polars as pl

    match told.get("logicalType"):
        case "decimal":
            return pl.Decimal(told["precision"], told.get("scale", 0))
        case "date":
            return pl.Date()
        case "time-millis" | "time-micros":
            return pl.Time()
        case "timestamp-millis" | "timestamp-micros":
            return pl.Datetime("us", "UTC")
        case "local-timestamp-millis" | "local-timestamp-micros":
            return pl.Datetime("us")
        case "uuid":
            return pl.String()
    return None


def write(frame: pl.DataFrame, stream: IO[bytes], shown: str) -> None:
    """Write a frame as a container file."""
    import fastavro

    fields = [{"name": name, "type": _written(kind, name, shown)} for name, kind in frame.schema.items()]
    for name in frame.columns:
        if not (name.isascii() and name.isidentifier()):
            raise FileError(f"{shown}: {name!r} is no name of a field in Avro (letters, digits, _): rename the column.")
    schema = fastavro.parse_schema({"type": "record", "name": "row", "fields": fields})
    fastavro.writer(stream, schema, ({n: _value(v) for n, v in row.items()} for row in frame.iter_rows(named=True)))


def _written(kind: pl.DataType, path: str, shown: str) -> Any:
    """The schema of a type: all may be null."""
    import polars as pl

    match kind:
        case pl.Null():
            return "null"
        case pl.Decimal():
            made: Any = {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
        case pl.Date():
            made = {"type": "int", "logicalType": "date"}
        case pl.Time():
            made = {"type": "long", "logicalType": "time-micros"}
        case pl.Datetime():
            made = {"type": "long", "logicalType": f"{'' if kind.time_zone else 'local-'}timestamp-micros"}
        case pl.List() | pl.Array():
            made = {"type": "array", "items": _written(kind.inner, path, shown)}  # type: ignore[arg-type]
        case pl.Struct():
            inner = [(each.name, f"{path}.{each.name}", each.dtype) for each in kind.fields]
            made = {
                "type": "record",
                "name": "".join(c if c.isalnum() and c.isascii() else "_" for c in f"of_{path}"),
                "fields": [{"name": name, "type": _written(dtype, at, shown)} for name, at, dtype in inner],  # type: ignore[arg-type]
            }
        case _:
            made = _WRITTEN.get(str(kind.base_type()))
            if made is None:
                raise FileError(f"{shown}: column {path!r} is of type {kind}, which Avro lacks: cast it first.")
    return ["null", made]


def _value(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, list):
        return [_value(each) for each in value]
    if isinstance(value, dict):
        return {name: _value(each) for name, each in value.items()}
    return value
