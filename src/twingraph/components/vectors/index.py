"""`Index`: what every index of vectors does, wherever it is kept, and what all of them say of mistakes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from lokki.errors import nearest
from twingraph.components.vectors.values import Entries, Hit, Matrix, Metric
from twingraph.components.vectors.where import Condition
from twingraph.errors import ComponentError


class Index(Protocol):
    """Vectors with an id and metadata each. Adding what has an id that is there replaces it."""

    def add(self, entries: Entries) -> None:
        """Keep these; the first ones make the index. When it returns, they are there to stay, all of them."""

    def delete(self, ids: tuple[str, ...] | None, where: Condition | None) -> int:
        """Forget those with one of these ids (all, if None) that fit the filter; how many there were."""

    def search(self, vectors: Matrix, top_k: int, where: Condition | None) -> list[list[Hit]]:
        """For each vector the nearest that fit, best first."""

    def count(self, where: Condition | None) -> int:
        """How many fit."""


class UnknownIndexError(ComponentError, LookupError):
    """There is no index of this name."""

    def __init__(self, name: str, place: str, known: Iterable[str]) -> None:
        near = nearest(name, known) or "."
        super().__init__(f"There is no index {name!r} in {place}{near} The first vectors that are added make it.")
        self._made_of = name, place, tuple(known)

    def __reduce__(self) -> tuple[type[UnknownIndexError], tuple[str, str, tuple[str, ...]]]:
        return type(self), self._made_of


def same_metric(name: str, kept: Metric, wanted: Metric | None) -> Metric:
    """The metric of an index, if it is the one that is asked for."""
    if wanted not in (None, kept):
        raise ComponentError(
            f"Index {name!r} compares by {kept!r}, not by {wanted!r}: leave metric out, or use another index."
        )
    return kept
