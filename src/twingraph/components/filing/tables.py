"""Files that hold tables, as queries of Polars that are not run yet: csv, Parquet, Arrow, and lines of JSON as a table.

A query reads only the columns, row groups and partitions that it needs: Parquet on this machine by Polars itself, and
elsewhere by pyarrow through the file system. Files whose columns differ are put together by name.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twingraph.components.filing.asked import Asked, Manner
from twingraph.components.filing.avro import frame_of_avro
from twingraph.components.filing.contents import content, head, opened, text
from twingraph.components.filing.documents import READERS, records
from twingraph.components.filing.faults import LOOKED_AT, whole
from twingraph.components.filing.finding import File, named
from twingraph.components.filing.formats import Format, separator_of
from twingraph.components.filing.partitions import types_of, values_of
from twingraph.components.frames import frame_of
from twingraph.errors import FileError

if TYPE_CHECKING:
    import polars as pl

_ARROW = b"ARROW1"


def table(files: list[File], kind: Format, manner: Manner, asked: Asked) -> pl.LazyFrame:
    """The table in all files, as a query."""
    match kind:
        case "parquet":
            return _parquet(files, manner)
        case "csv":
            return _put_together([_csv(each, manner, asked) for each in files], files, manner)
        case "arrow":
            return _put_together([_arrow(each) for each in files], files, manner)
        case "jsonl" | "json":
            if asked.limit is not None and not asked.where:
                return frame_of(records(files, kind, manner, asked), named(files), "files").lazy()
            return _put_together([_of_json(each, kind, manner) for each in files], files, manner)
        case "avro":
            limit = None if asked.where else asked.limit
            return _put_together([frame_of_avro(each, limit).lazy() for each in files], files, manner)
    found = records(files, kind, manner, Asked(limit=None if asked.where else asked.limit))
    return frame_of(found, named(files), "files").lazy()


def _put_together(frames: Sequence[pl.LazyFrame], files: list[File], manner: Manner) -> pl.LazyFrame:
    import polars as pl

    values = values_of(files) if manner.partitions else {}
    types = types_of(values)
    made = [
        frame.with_columns(pl.lit(values[name][index], types[name]).alias(name) for name in values)
        for index, frame in enumerate(frames)
    ]
    return made[0] if len(made) == 1 else pl.concat(made, how="diagonal_relaxed")


def _csv(file: File, manner: Manner, asked: Asked) -> pl.LazyFrame:
    import polars as pl

    from twingraph.components.expressions.datatypes import named_type

    enough = None if asked.where or asked.limit is None else asked.limit + manner.header
    source = _text_source(file, manner, enough)
    if not (os.path.getsize(source) if isinstance(source, str) else source):
        raise FileError(f"{file.shown} is empty: a csv file begins with the names of its columns.")
    return pl.scan_csv(
        source,
        raise_if_empty=False,  # it may be a table without columns, which is an empty line
        glob=False,
        separator=manner.separator or separator_of(file.name),
        has_header=manner.header,
        null_values=list(manner.nulls) or None,
        schema_overrides={name: named_type(kind) for name, kind in manner.types.items()},
        infer_schema_length=LOOKED_AT,
    )


def _by_path(file: File) -> str | None:
    """The path of a file that can be read as it lies there."""
    return file.path if file.local and not file.compression else None


def _text_source(file: File, manner: Manner, enough: int | None = None) -> str | bytes:
    """A file of text as Polars reads it: its path, or else its bytes, of which so many lines may be enough."""
    if manner.encoding != "utf-8":
        return _bytes(file, manner)
    return _by_path(file) or (content(file) if enough is None else head(file, enough))


def _bytes(file: File, manner: Manner) -> bytes:
    """All of a file, in UTF-8."""
    return content(file) if manner.encoding == "utf-8" else text(file, manner.encoding).encode()


def _arrow(file: File) -> pl.LazyFrame:
    """A file of Arrow or a stream: what it is its first bytes say."""
    import polars as pl

    source = _by_path(file) or content(file)
    with opened(file) if isinstance(source, str) else io.BytesIO(source) as stream:
        first = stream.read(len(_ARROW))
    if not first:
        raise FileError(f"{file.shown} is empty: there is no Arrow in it.")
    if first == _ARROW:
        return pl.scan_ipc(source, glob=False)
    return pl.read_ipc_stream(source).lazy()


def _of_json(file: File, kind: Format, manner: Manner) -> pl.LazyFrame:
    """By Polars, at its speed; what it cannot read is read as records, which also tells what is wrong."""
    import polars as pl

    try:
        if kind == "jsonl":
            return pl.read_ndjson(_text_source(file, manner), infer_schema_length=None).lazy()
        with opened(file) as stream:
            listed = stream.read(2) == b"[{"
        if listed:
            return pl.read_json(io.BytesIO(_bytes(file, manner)), infer_schema_length=None).lazy()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        pass
    return frame_of(list(READERS[kind](file, manner)), file.shown, "files").lazy()


# ---- Parquet


def _parquet(files: list[File], manner: Manner) -> pl.LazyFrame:
    import polars as pl

    if any(file.compression for file in files):
        return _put_together([pl.scan_parquet(content(file)) for file in files], files, manner)
    if not all(file.local for file in files):
        return _elsewhere(files, manner)
    values = values_of(files) if manner.partitions else {}
    if not _alike(files, values):
        return _put_together([pl.scan_parquet(file.path, glob=False) for file in files], files, manner)
    return pl.scan_parquet(
        [file.path for file in files], glob=False, hive_partitioning=bool(values), hive_schema=types_of(values) or None
    )


def _alike(files: list[File], values: dict[str, list[Any]]) -> bool:
    """Whether Polars reads the files as one: their columns are the same, and all folders with `=` are partitions."""
    import polars as pl

    above = {part.partition("=")[0] for file in files for part in file.path.split("/")[:-1] if "=" in part}
    if values and above != values.keys():
        return False
    if len(files) == 1:
        return True
    schemas = []
    for file in files:
        with whole(file, "parquet"):
            schemas.append(pl.read_parquet_schema(file.path))
    return all(each == schemas[0] for each in schemas)


def _elsewhere(files: list[File], manner: Manner) -> pl.LazyFrame:
    """Files that lie somewhere else, of which only the parts are fetched that a query needs."""
    if len({id(file.system) for file in files}) > 1:
        alone = replace(manner, partitions=False)
        return _put_together([_elsewhere([file], alone) for file in files], files, manner)
    import polars as pl
    import pyarrow as pa
    from pyarrow import dataset, fs

    kinds = types_of(values_of(files) if manner.partitions else {})
    fields = pa.schema([(name, pl.Series(dtype=kind).to_arrow().type) for name, kind in kinds.items()])
    try:
        factory = dataset.FileSystemDatasetFactory(
            fs.PyFileSystem(fs.FSSpecHandler(files[0].system)),
            [file.path for file in files],
            dataset.ParquetFileFormat(),
            dataset.FileSystemFactoryOptions(partitioning=dataset.partitioning(fields, flavor="hive")),
        )
        return pl.scan_pyarrow_dataset(factory.finish(factory.inspect(promote_options="permissive", fragments=None)))
    except ValueError:
        if not files[0].on_the_web:
            raise
        return _put_together([pl.scan_parquet(content(file)) for file in files], files, manner)  # a site without ranges
