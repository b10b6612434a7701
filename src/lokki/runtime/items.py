"""The items of a map: what a step returned, as a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lokki.errors import GraphTypeError
from lokki.runtime.failure import shown


def sequence(value: Any, step: str) -> Sequence[Any]:
    """The items of a step's result, as a sequence; an error names the step that returned something else."""
    if isinstance(value, list | tuple | range):
        return value
    if (
        isinstance(value, str | bytes | bytearray | Mapping)
        or hasattr(value, "iterrows")
        or hasattr(value, "iter_rows")
    ):
        reason = "is not a list of items (return list(...), .items() or .to_dict('records') of it)"
    else:
        try:
            return list(value)
        except TypeError:
            reason = "cannot be iterated"
    raise GraphTypeError(
        f"Step {step!r} returned {shown(value)} of type {type(value).__name__}, which {reason}: "
        ".map() runs a step for each item of a list."
    )
