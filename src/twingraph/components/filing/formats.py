"""The name of a file says how it is written: its format and its compression, by suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, get_args

from twingraph.errors import FileError

Format = Literal["csv", "json", "jsonl", "parquet", "avro", "text", "yaml", "arrow"]
FORMATS: tuple[Format, ...] = get_args(Format)

SUFFIXES: dict[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".pq": "parquet", ".avro": "avro", ".txt": "text", ".text": "text", ".log": "text", ".md": "text",
    ".yaml": "yaml", ".yml": "yaml", ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}


def compression_of(name: str) -> str:
    """How a file is compressed as a whole; nothing where it is not."""
    return COMPRESSIONS.get(os.path.splitext(name)[1].lower(), "")


def suffix_of(name: str) -> str:
    """The suffix that tells the format, which stands before that of a compression."""
    stem, suffix = os.path.splitext(os.path.basename(name).lower())
    return os.path.splitext(stem)[1] if suffix in COMPRESSIONS else suffix


def format_of(name: str) -> Format | None:
    """The format that a name tells, if it does."""
    return SUFFIXES.get(suffix_of(name))


def separator_of(name: str) -> str:
    """What stands between the fields of a csv file of this name."""
    return "\t" if suffix_of(name) == ".tsv" else ","


def the_format(names: Iterable[str], shown: str) -> Format:
    """The one format of all these files."""
    found = {name: format_of(name) for name in names}
    formats = {each for each in found.values() if each}
    if len(formats) == 1 and all(found.values()):
        return formats.pop()
    if len(formats) > 1:
        told = ", ".join(sorted(formats))
        raise FileError(f"{shown} leads to files of several formats ({told}): say which with format=...")
    unknown = next((name for name, each in found.items() if not each), shown)
    raise FileError(
        f"{os.path.basename(unknown) or shown}: its name does not tell its format: say it with format=..., one of "
        f"{', '.join(FORMATS)}."
    )
