"""How a table or records become the bytes of a file, format by format; `putting` brings them to their place.

Text is UTF-8. What a format has no word for is an error that names the column, except that JSON has texts for dates,
times and decimals, and null for a number that is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

from twingraph.components.filing import avro
from twingraph.components.filing.formats import Format
from twingraph.components.frames import form_of, frame_of, records, table_in
from twingraph.errors import FileError

if TYPE_CHECKING:
    import polars as pl

_TEXTS = (date, time, Decimal, UUID, PurePath)
_AS_JSON = ("Int", "UInt", "Float", "String", "Boolean", "Null", "Categorical", "Enum")


@dataclass(frozen=True, slots=True)
class Style:
    """How a file is written, as far as its format leaves it open.

    Attributes:
        separator: between the fields of csv.
        header: whether csv begins with the names of the columns.
        shown: the name of the file for people.
    """

    separator: str
    header: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Given:
    """What is to be written, in the form that its format is made of: records or a frame."""

    rows: list[Any]
    frame: pl.DataFrame | None

    @property
    def count(self) -> int:
        return len(self.rows) if self.frame is None else self.frame.height

    @property
    def columns(self) -> list[str]:
        return self.frame.columns if self.frame is not None else []


def given(data: Any, kind: Format) -> Given:
    """Data as its format takes it: records stay what they are where the format has records."""
    held = table_in(data)
    if kind == "text" and isinstance(held, list | tuple) and all(isinstance(each, str) for each in held):
        return Given([{"text": each} for each in held], None)
    if kind == "text" and isinstance(held, str):
        return Given([{"text": held.removesuffix("\n")}], None)
    plain = kind in ("json", "jsonl", "yaml", "text")
    if plain and form_of(data) == "records":
        return Given(records(data, extra="files"), None)
    frame = frame_of(data, extra="files")
    if kind == "jsonl" and all(_is_simple(each) for each in frame.dtypes):
        return Given([], frame)
    return Given(frame.to_dicts(), None) if plain else Given([], frame)


def write(data: Given, kind: Format, stream: IO[bytes], style: Style) -> None:
    """Write all of it."""
    _WRITERS[kind](data, stream, style)


def _is_simple(kind: pl.DataType) -> bool:
    """Whether Polars writes values of this type into JSON as this module does."""
    return str(kind.base_type()).rstrip("0123456789") in _AS_JSON and not kind.is_float()


# ---- tables


def _csv(data: Given, stream: IO[bytes], style: Style) -> None:
    import polars as pl

    assert data.frame is not None
    for name, kind in data.frame.schema.items():
        if kind.is_nested() or isinstance(kind, pl.Binary | pl.Duration | pl.Object):
            raise FileError(
                f"{style.shown}: column {name!r} is of type {kind}, which csv has no word for: write jsonl or parquet, "
                "or leave the column out."
            )
    times = pl.selectors.datetime().dt.to_string("iso:strict")
    data.frame.with_columns(times).write_csv(stream, separator=style.separator, include_header=style.header)


def _parquet(data: Given, stream: IO[bytes], style: Style) -> None:
    _without_objects(data, style).write_parquet(stream)


def _arrow(data: Given, stream: IO[bytes], style: Style) -> None:
    _without_objects(data, style).write_ipc(stream)


def _without_objects(data: Given, style: Style) -> pl.DataFrame:
    assert data.frame is not None
    for name, kind in data.frame.schema.items():
        if str(kind) == "Object":
            raise FileError(
                f"{style.shown}: column {name!r} holds objects of Python, which no file has a word for: make them text "
                "or numbers first, or leave the column out."
            )
    return data.frame


def _avro(data: Given, stream: IO[bytes], style: Style) -> None:
    assert data.frame is not None
    avro.write(data.frame, stream, style.shown)


# ---- documents


def _json(data: Given, stream: IO[bytes], style: Style) -> None:
    stream.write(b"[")
    for index, line in enumerate(_lines(data.rows, style)):
        stream.write((",\n" if index else "\n").encode() + line)
    stream.write(b"\n]\n")


def _jsonl(data: Given, stream: IO[bytes], style: Style) -> None:
    if data.frame is not None:
        data.frame.write_ndjson(stream)
        return
    for line in _lines(data.rows, style):
        stream.write(line + b"\n")


def _lines(rows: list[Any], style: Style) -> Iterable[bytes]:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_texted).encode
    for number, row in enumerate(rows, 1):
        try:
            yield encode(row).encode()
        except UnicodeEncodeError as error:
            raise FileError(f"{style.shown}: row {number} holds half of a character: {error.reason}.") from None
        except (TypeError, ValueError):
            yield encode({name: _plain(each, name, number, style) for name, each in row.items()}).encode()


def _texted(value: Any) -> Any:
    """What JSON has no word for, as text or as what it stands for; the rest is told with its place by `_plain`."""
    if isinstance(value, _TEXTS):
        return value.isoformat() if isinstance(value, date | time) else str(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, Enum):
        return value.value
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(type(value).__name__)


def _plain(value: Any, path: str, number: int, style: Style) -> Any:
    """A value with nothing in it that JSON has no word for."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case Mapping():
            return {str(name): _plain(each, f"{path}.{name}", number, style) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each, path, number, style) for each in value]
    try:
        return _plain(_texted(value), path, number, style)
    except TypeError:
        raise FileError(
            f"{style.shown}: row {number}, column {path!r} holds a value of type {type(value).__name__}, which this "
            "format has no word for: make it text or a number first, or write parquet."
        ) from None


def _yaml(data: Given, stream: IO[bytes], style: Style) -> None:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    rows = [
        {str(name): _kept(each, str(name), number, style) for name, each in row.items()}
        for number, row in enumerate(data.rows, 1)
    ]
    yaml.dump(rows, stream, dumper, allow_unicode=True, sort_keys=False, encoding="utf-8")


def _kept(value: Any, path: str, number: int, style: Style) -> Any:
    """A value as YAML has it, which knows dates, bytes and numbers that are none."""
    match value:
        case bytes() | float() | datetime() | date():
            return value
        case Mapping():
            return {str(name): _kept(each, f"{path}.{name}", number, style) for name, each in value.items()}
        case list() | tuple():
            return [_kept(each, path, number, style) for each in value]
    return _plain(value, path, number, style)


def _text(data: Given, stream: IO[bytes], style: Style) -> None:
    for number, row in enumerate(data.rows, 1):
        values = list(row.values())
        if len(values) != 1 or not isinstance(values[0], str):
            raise FileError(
                f"{style.shown}: row {number} is not one text: a text file is written from rows with one column of "
                "texts, or from a list of texts."
            )
        stream.write(values[0].encode() + b"\n")


_WRITERS: dict[Format, Callable[[Given, IO[bytes], Style], None]] = {
    "csv": _csv, "parquet": _parquet, "arrow": _arrow, "avro": _avro, "json": _json, "jsonl": _jsonl, "yaml": _yaml,
    "text": _text,
}  # fmt: skip
