"""What the folders on the way say of files, `year=2024/city=Bern`, as values with types.

The values of a column are whole numbers or dates where all of them are, and text otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

from twingraph.components.filing.finding import File
from twingraph.errors import FileError

if TYPE_CHECKING:
    import polars as pl


def values_of(files: list[File]) -> dict[str, list[Any]]:
    """By column the value for each file."""
    names = dict.fromkeys(name for file in files for name, _ in file.keys)
    for file in files:
        if lacking := names.keys() - dict(file.keys).keys():
            raise FileError(
                f"{file.shown} lies in no folder {min(lacking)}=..., as other files do: read them apart, or set "
                "partitions=False."
            )
    return {name: _typed([dict(file.keys)[name] for file in files]) for name in names}


def types_of(values: dict[str, list[Any]]) -> dict[str, pl.DataType]:
    """By column the type of its values."""
    import polars as pl

    kinds: dict[type, pl.DataType] = {int: pl.Int64(), date: pl.Date()}
    return {
        name: kinds.get(type(next((each for each in held if each is not None), "")), pl.String())
        for name, held in values.items()
    }


def _typed(texts: list[str | None]) -> list[Any]:
    makers: tuple[Callable[[str], Any], ...] = (_number, date.fromisoformat)
    for make in makers:
        try:
            return [None if each is None else make(each) for each in texts]
        except ValueError:
            continue
    return list(texts)


def _number(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or len(text) > 18:
        raise ValueError(text)
    return int(text)
