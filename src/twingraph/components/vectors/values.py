"""What an index is given, checked before anything is written: vectors, ids, metadata and the name of the index."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lokki.frozen import frozen
from twingraph.components.vectors.where import RESERVED, Plain, field_name
from twingraph.errors import ComponentError, ComponentTypeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Matrix: TypeAlias = "npt.NDArray[np.float32]"
Metric: TypeAlias = Literal["cosine", "dot", "l2"]
Hit: TypeAlias = dict[str, Any]

HELD: None = None
"""Stands for a value that is there and that no filter compares with: an object, or a list of lists."""

_PLAIN = {str, int, bool, type(None)}
"""What is the same in JSON, whatever its value."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@frozen
class Entries:
    """What is added: ids, the row of the matrix that each has, and the metadata of each."""

    ids: tuple[str, ...]
    vectors: Matrix
    metadata: tuple[Mapping[str, Any], ...]


def index_name(name: str) -> str:
    """The name, if it is one that an index can have everywhere."""
    if not _NAME.fullmatch(name):
        raise ComponentError(
            f"An index has a name of at most 63 letters, digits, '_', '-' and '.', the first a letter or digit, "
            f"not {name!r}."
        )
    return name


def queries(embedding: Any) -> tuple[Matrix, bool]:
    """The vectors to search for, and whether a list of them was given rather than one."""
    found = _numbers(embedding, "The embedding to search for")
    return _rows(found), found.ndim == 2


def entries(vectors: Any, ids: Any, metadata: Any) -> Entries:
    """What is to be added; without ids, each gets a new one."""
    matrix = _rows(_numbers(vectors, "The vectors to add", some=False))
    count = len(matrix)
    named = tuple(uuid.uuid4().hex for _ in range(count)) if ids is None else ids_of(ids)
    told: Sequence[Any] = [{}] * count if metadata is None else _listed(metadata, Mapping)
    for what, given in (("ids", named), ("dicts of metadata", told)):
        if len(given) != count:
            raise ComponentError(f"There are {count} vectors to add and {len(given)} {what}: give one for each.")
    if len(set(named)) < len(named):
        twice = [each for each, times in Counter(named).items() if times > 1]
        raise ComponentError(f"Id {twice[0]!r} is there more than once among the vectors to add: give each its own.")
    return Entries(named, matrix, tuple(_metadata(each, name) for each, name in zip(told, named, strict=True)))


def ids_of(ids: Any) -> tuple[str, ...]:
    """Ids as texts; a number is the text of its digits."""
    found = []
    for given in _listed(ids, str | int):
        each = given.item() if hasattr(given, "item") else given  # a number of NumPy
        if isinstance(each, bool) or not isinstance(each, str | int) or each == "":
            raise ComponentTypeError(f"An id is a text that is not empty, or a whole number, not {each!r:.60}.")
        found.append(str(each))
    return tuple(found)


def sized(vectors: Matrix, dimension: int, name: str) -> Matrix:
    """The vectors, if they are as long as those of the index."""
    if vectors.shape[1] != dimension:
        raise ComponentError(
            f"Index {name!r} holds vectors of {dimension} numbers, not of {vectors.shape[1]}: "
            "use the model that its vectors were made with, or another index."
        )
    return vectors


def directed(vectors: Matrix, metric: Metric) -> Matrix:
    """The vectors as they are compared: of length one where only the direction counts."""
    import numpy as np

    if metric != "cosine":
        return vectors
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if not lengths.all():
        raise ComponentError(
            f"Vector {int(np.argmin(lengths))} has nothing but zeros, so it has no direction to compare: leave it out, "
            "or use an index with metric='dot' or 'l2'."
        )
    return np.ascontiguousarray(vectors / lengths[:, None], dtype=np.float32)


def fields(metadata: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Plain | None]]:
    """The fields that filters see, with each of their values; what is nested has a name with dots."""
    for name, value in metadata.items():
        path = within + name
        match value:
            case None:
                continue
            case list():
                yield from ((path, HELD if each is None or isinstance(each, list | dict) else each) for each in value)
            case dict():
                yield path, HELD
                yield from fields(value, f"{path}.")
            case _:
                yield path, value


def hit(identity: str, score: float, metadata: Mapping[str, Any]) -> Hit:
    """One result of a search."""
    return {"id": identity, "score": float(score), "metadata": dict(metadata)}


def _numbers(given: Any, what: str, some: bool = True) -> Matrix:
    """One vector or rows of them, of 32-bit numbers that are all finite; perhaps no row, unless there must be some."""
    import numpy as np

    try:
        found = np.asarray(given if isinstance(given, list | tuple) or hasattr(given, "__array__") else list(given))
        found = np.asarray(found.tolist()) if found.dtype == object else found  # a column of lists
    except (TypeError, ValueError):
        found = np.asarray(None)
    if found.dtype.kind not in "fiu" or found.ndim not in (1, 2):
        raise ComponentTypeError(
            f"{what}: a list of numbers, or a list of such lists of one length, not {given!r:.60}."
        )
    if found.shape == (0,) and not some:
        return np.zeros((0, 0), np.float32)
    if found.shape[-1] == 0:
        raise ComponentError(f"{what}: a vector has no numbers in it.")
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        found = np.ascontiguousarray(found, dtype=np.float32)
    finite = np.isfinite(found).all(axis=-1)
    if not finite.all():
        raise ComponentError(
            f"{what}: vector {int(np.argmin(finite))} has a number that is not finite (NaN, infinity, or too large)."
        )
    return found


def _rows(numbers: Matrix) -> Matrix:
    return numbers[None, :] if numbers.ndim == 1 else numbers


def _listed(given: Any, one: Any) -> list[Any]:
    """The elements of what was given, or it as the only one."""
    if isinstance(given, one) or getattr(given, "shape", None) == ():
        return [given]
    if not isinstance(given, Iterable):
        raise ComponentTypeError(f"Give a list, not {given!r:.60}.")
    return list(given)


def _metadata(given: Any, identity: str) -> Mapping[str, Any]:
    """Metadata as JSON has it."""
    if not isinstance(given, Mapping):
        raise ComponentTypeError(f"Metadata of {identity!r} is a dict, not {given!r:.60}.")
    if RESERVED in given:
        raise ComponentError(f"Metadata of {identity!r} may not have a field {RESERVED!r}: rename it.")
    _named(given)
    if all(type(each) in _PLAIN for each in given.values()):
        return dict(given)
    try:
        found: Mapping[str, Any] = json.loads(json.dumps(given, allow_nan=False, default=_as_json))
    except (TypeError, ValueError) as problem:
        raise ComponentTypeError(
            f"Metadata of {identity!r} holds what JSON cannot ({problem}): make it a text, a finite number, True, "
            "False, None, a list or a dict."
        ) from None
    return found


def _named(metadata: Mapping[str, Any]) -> None:
    for name, value in metadata.items():
        field_name(name)
        if isinstance(value, Mapping):
            _named(value)


def _as_json(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    raise TypeError(f"of type {type(value).__name__}")
