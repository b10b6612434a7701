"""What is wrong with a file that could not be read: looked for only then, and told with its row and column."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twingraph.components.filing.asked import Manner
from twingraph.components.filing.contents import content, lines, opened, text, told
from twingraph.components.filing.finding import File, named
from twingraph.components.filing.formats import separator_of
from twingraph.errors import ComponentError, FileError

if TYPE_CHECKING:
    import polars as pl

LOOKED_AT = 10_000
"""Rows of csv that the types of columns are told by."""

_SHOWN = 60


@contextmanager
def whole(file: File, kind: str) -> Iterator[None]:
    """Inside, what a library says of a binary file is an error that names the file."""
    import polars as pl

    try:
        yield
    except ComponentError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise FileError(_binary(file, kind, error)) from error


def first_fault(files: list[File], kind: str, manner: Manner, error: BaseException) -> FileError:
    """The error about the first file that cannot be read; `error` is what was said of all of them."""
    import polars as pl

    for file in files:
        try:
            found = _csv(file, manner) if kind == "csv" else _alone(file, kind)
        except FileError as fault:
            return fault
        except pl.exceptions.PolarsError:
            continue
        if found:
            return FileError(found)
    return FileError(f"{named(files)} cannot be read as asked: {said(error)}")


def said(error: BaseException) -> str:
    """What a library says, as one sentence."""
    text = str(error).strip().partition("\n\n")[0].partition(". ")[0].rstrip(".?!")
    return " ".join(text.removeprefix("parquet: ").removeprefix("File out of specification: ").split()) + "."


# ---- binary files

_ENDS = {"parquet": (b"PAR", (b"PAR1", b"PARE")), "arrow": (b"ARROW1", (b"ARROW1",))}
_STREAM = b"\xff\xff\xff\xff"


def _alone(file: File, kind: str) -> str | None:
    """What is wrong with a file that is read by itself."""
    import polars as pl

    with whole(file, kind):
        if kind == "parquet":
            pl.scan_parquet(content(file)).collect()
        elif kind == "arrow":
            pl.read_ipc(content(file))
    return None


def _binary(file: File, kind: str, error: BaseException) -> str:
    begins, ends = _ENDS[kind]
    with opened(file) as stream:
        first = data = stream.read(8)
        while block := stream.read(1 << 20):
            data = (data + block)[-8:]
    name = kind.capitalize()
    if not first:
        return f"{file.shown} is empty: there is no {name} in it."
    if not first.startswith(begins) and not (kind == "arrow" and first.startswith(_STREAM)):
        return f"{file.shown} is not {name}: it begins with {first!r}."
    if not data.endswith(ends) and first.startswith(begins):
        return f"{file.shown} is cut off: {name} ends with {ends[0].decode()}, this file with {data[-4:]!r}."
    return f"{file.shown} is damaged: {said(error)}"


# ---- csv


def _csv(file: File, manner: Manner) -> str | None:
    with told(file):
        return _ragged(file, manner) or _mistyped(file, manner)


def _ragged(file: File, manner: Manner) -> str | None:
    """A row with more fields than there are columns, or a quote that is not closed."""
    csv.field_size_limit(1 << 30)
    rows = csv.reader(
        (f"{line}\n" for line in lines(file, manner.encoding)), delimiter=manner.separator or separator_of(file.name)
    )
    names: list[str] = []
    before = 0
    for number, row in enumerate(rows):
        if not names:
            names = row
        if len(row) > len(names):
            extra = row[len(names)]
            return (
                f"{file.shown}, {_place(number, before + 1, manner)}: it has {len(row)} fields, and there are "
                f"{len(names)} columns; the first field too many is {extra[:_SHOWN]!r}."
            )
        if any("\n" in each for each in row) and _unclosed(file, manner, rows.line_num):
            return f"{file.shown}, {_place(number, before + 1, manner)}: a quote that begins here is never closed."
        before = rows.line_num
    return None


def _unclosed(file: File, manner: Manner, line: int) -> bool:
    """Whether a field that reaches to this line goes to the end of the file without a closing quote."""
    every = text(file, manner.encoding)
    return line >= len(every.splitlines()) and every.count('"') % 2 == 1


def _mistyped(file: File, manner: Manner) -> str | None:
    """A value that is not of the type of its column."""
    import polars as pl

    from twingraph.components.expressions.datatypes import converted, named_type

    separator = manner.separator or separator_of(file.name)
    data = text(file, manner.encoding).encode()
    read = pl.read_csv(
        data,
        separator=separator,
        has_header=manner.header,
        null_values=list(manner.nulls) or None,
        infer_schema=False,
    )
    inferred = pl.scan_csv(
        data,
        separator=separator,
        has_header=manner.header,
        null_values=list(manner.nulls) or None,
        infer_schema_length=LOOKED_AT,
    ).collect_schema()
    for name in read.columns:
        asked = manner.types.get(name)
        target = named_type(asked) if asked else inferred[name]
        made = (
            converted(pl.col(name), pl.String(), asked, strict=False)
            if asked
            else pl.col(name).str.strip_chars(" ").cast(target, strict=False)
        )
        bad = read.select(pl.arg_where(pl.col(name).is_not_null() & made.is_null())).to_series()
        if len(bad):
            return _wrong_value(file, manner, read, name, int(bad[0]), target, asked)
    return None


def _wrong_value(
    file: File, manner: Manner, read: pl.DataFrame, name: str, row: int, target: pl.DataType, asked: str | None
) -> str:
    why = "which is what is asked of this column" if asked else "as the values of this column before it are"
    hint = "" if asked else f", say types={{{name!r}: 'text'}}, or name it in nulls where it means that there is none"
    number = row + manner.header
    return (
        f"{file.shown}, {_place(number, _line(file, manner, number), manner)}, column {name!r}: "
        f"{read[name][row][:_SHOWN]!r} is not of type {target}, {why}{hint}."
    )


def _line(file: File, manner: Manner, number: int) -> int:
    """The line that a row begins in: a field in quotes may hold several lines."""
    delimiter = manner.separator or separator_of(file.name)
    rows = csv.reader((f"{line}\n" for line in lines(file, manner.encoding)), delimiter=delimiter)
    for index, _ in enumerate(rows, 1):
        if index == number:
            return rows.line_num + 1
    return number + 1


def _place(number: int, line: int, manner: Manner) -> str:
    """A row, counted without the header, and the line that it begins in."""
    return f"row {number + (not manner.header)} (line {line})"
