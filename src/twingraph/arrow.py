"""What identifies a frame of Polars or Arrow: a digest that is the same for equal frames.

A pickle of a frame also tells how it lies in memory: in how many pieces, as a part of which larger one, and what stands
in the room of missing values. So missing values are left out here, and told by their places, and truth values are
written as numbers, because bits beyond the last may be anything.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from lokki.codec import Digest
from lokki.errors import StoreError

_FRAMES = {("polars", "DataFrame"), ("polars", "Series"), ("pyarrow", "Table"), ("pyarrow", "RecordBatch")}
Write = Callable[[memoryview], Any]


def is_frame(value: Any) -> bool:
    """Whether a value is such a frame; that asks for no library."""
    kind = type(value)
    return (kind.__module__.partition(".")[0], kind.__name__) in _FRAMES


def frame_digest(value: Any) -> bytes | None:
    """Sixteen bytes that identify what a frame holds; None for a value that is no frame."""
    if not is_frame(value):
        return None
    made = Digest()
    library = type(value).__module__.partition(".")[0]
    made.add(memoryview(f"{library} {type(value).__name__}\n".encode()))
    try:
        _write_polars(value, made.add) if library == "polars" else _write_arrow(value, made.add)
    except Exception as error:  # a column may hold Python objects, and each library has exceptions of its own
        raise StoreError(f"a frame of type {type(value).__name__} cannot be hashed ({error}).") from error
    return made.done()


class _Sink(io.RawIOBase):
    """A file that hands on what is written into it."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        held = memoryview(data).cast("B")
        self._write(held)
        return len(held)


def _write_polars(frame: Any, write: Write) -> None:
    whole = (frame if hasattr(frame, "get_columns") else frame.to_frame()).rechunk()
    write(memoryview(repr(whole.schema).encode()))
    number = sys.modules["polars"].UInt8
    for each in whole.get_columns():
        for part in (each.is_null(), each.drop_nulls()) if each.null_count() else (each,):
            column = part.cast(number) if str(part.dtype) == "Boolean" else part
            column.to_frame().rechunk().write_ipc(_Sink(write))


def _write_arrow(frame: Any, write: Write) -> None:
    arrow = sys.modules["pyarrow"]
    whole = arrow.table(frame).combine_chunks()
    write(memoryview(whole.schema.remove_metadata().to_string().encode()))
    for name, each in zip(whole.column_names, whole.columns, strict=True):
        for part in (each.is_null(), each.drop_null()) if each.null_count else (each,):
            number = part.cast(arrow.uint8()) if arrow.types.is_boolean(part.type) else part
            column = arrow.table({name: number}).combine_chunks()
            with arrow.ipc.new_stream(arrow.PythonFile(_Sink(write), "w"), column.schema) as stream:
                stream.write_table(column)
