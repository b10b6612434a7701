"""Dates and times that are written in an expression as text, in ISO 8601, made into values when it is read."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polars import DataType


def instant(text: str, dtype: DataType) -> dt.date | dt.time:
    """The date or time that a text says, to go with a type; ValueError when it says none."""
    import polars as pl

    if isinstance(dtype, pl.Time):
        return dt.time.fromisoformat(text)
    if isinstance(dtype, pl.Date) and len(text) <= len("2026-01-01"):
        return dt.date.fromisoformat(text)
    moment = dt.datetime.fromisoformat(text)
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    if zone is None and moment.tzinfo is not None:
        raise ValueError(f"{text!r} has a time zone, but the other side has none")
    if zone is not None:
        return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
    return moment
