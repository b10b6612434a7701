"""From data to the file or files that it was asked to become: one, the end of one, or one in each folder of a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from twingraph.components.filing.addresses import Address
from twingraph.components.filing.asked import checked
from twingraph.components.filing.contents import lines
from twingraph.components.filing.finding import NOTHING, File, Place
from twingraph.components.filing.formats import Format
from twingraph.components.filing.putting import Mode, append, put
from twingraph.components.filing.writing import Given, Style, given, write
from twingraph.components.frames import frame_of
from twingraph.errors import FileError

if TYPE_CHECKING:
    import polars as pl

_ADDED_TO = ("csv", "jsonl", "text")


@dataclass(frozen=True, slots=True)
class Wish:
    """How data becomes files.

    Attributes:
        kind: the format.
        mode: what happens to a file that is there.
        separator: between the fields of csv.
        header: whether csv begins with the names of the columns.
        partition_by: the columns whose values become folders.
    """

    kind: Format
    mode: Mode
    separator: str
    header: bool
    partition_by: tuple[str, ...] = ()


def deliver(data: Any, to: Address, place: Place, wish: Wish) -> dict[str, Any]:
    """Write data; what was written where."""
    if wish.mode == "append" and (wish.kind not in _ADDED_TO or wish.partition_by):
        what = "a table in folders" if wish.partition_by else wish.kind
        raise FileError(
            f"{to.shown}: nothing can be appended to {what}, only to {', '.join(_ADDED_TO)}: write another file "
            "beside it."
        )
    if wish.partition_by:
        return _in_folders(frame_of(data, extra="files"), to, place, wish)
    ready = given(data, wish.kind)
    style = Style(wish.separator, wish.header, to.shown)
    if wish.mode == "append":
        size = append(to, lambda stream, first: _added(ready, stream, first, to, place, wish))
    else:
        size = put(to, place, wish.mode, lambda stream: write(ready, wish.kind, stream, style))
    return {"path": to.rest if place.root and to.local else to.shown, "count": ready.count, "bytes": size}


def _added(ready: Given, stream: IO[bytes], first: bool, to: Address, place: Place, wish: Wish) -> None:
    style = Style(wish.separator, wish.header and first, to.shown)
    if wish.kind == "csv" and wish.header and not first:
        there = _names(File(place.system(to), to.rest, to.shown, local=True), wish.separator)
        if there != ready.columns:
            raise FileError(
                f"{to.shown} has the columns {', '.join(there)}, and what is to be appended has "
                f"{', '.join(ready.columns)}: they must be the same, in the same order."
            )
    write(ready, wish.kind, stream, style)


def _names(file: File, separator: str) -> list[str]:
    return next(csv.reader((f"{line}\n" for line in lines(file)), delimiter=separator), [])


# ---- folders


def _in_folders(frame: pl.DataFrame, to: Address, place: Place, wish: Wish) -> dict[str, Any]:
    names = checked(wish.partition_by, frame.columns, "what is to be written")
    if len(names) == len(frame.columns):
        raise FileError(f"{to.shown}: all columns are in partition_by, so that no column is left for the files.")
    alone = replace(wish, partition_by=())
    size = 0
    for folder, part in _parts(frame, names):
        base = f"{to.rest.rstrip('/')}/{folder}/part-0.{wish.kind}"
        inside = replace(to, rest=base, shown=f"{to.shown.rstrip('/')}/{folder}/part-0.{wish.kind}")
        size += deliver(part.drop(names), inside, place, alone)["bytes"]
    return {"path": to.rest if place.root and to.local else to.shown, "count": frame.height, "bytes": size}


def _parts(frame: pl.DataFrame, names: list[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    for values, part in sorted(frame.partition_by(names, as_dict=True).items(), key=lambda each: repr(each[0])):
        yield os.path.join(*(f"{quote(n)}={_folder(v)}" for n, v in zip(names, values, strict=True))), part


def _folder(value: Any) -> str:
    return NOTHING if value is None else quote(str(value), safe=" ")
