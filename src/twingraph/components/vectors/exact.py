"""The nearest of all vectors, by looking at every one of them.

The vectors are multiplied with the queries in blocks that stay small, so that neither a million vectors nor a thousand
queries at once take much memory. The best are measured again one by one, so that scores are as exact as 32-bit numbers
are. Distances are taken between vectors that are moved to lie about zero: the product of what lies far from it would
say little of what lies close together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from lokki.frozen import frozen
from twingraph.components.vectors.values import Matrix, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Slots: TypeAlias = "npt.NDArray[np.int64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"
Scores: TypeAlias = "npt.NDArray[np.float64]"
Row: TypeAlias = "npt.NDArray[np.float32]"

_BLOCK = 4_000_000
"""Scores in memory at a time."""
_FEW = 0.05
"""The part of all vectors that is rather gathered than masked."""
_SPARE = 8
"""More candidates than are asked for, since the last digits of products decide nothing."""


@frozen
class Stock:
    """Vectors; for l2 also the same ones moved to lie about zero, by how much, and their lengths squared then."""

    vectors: Matrix
    metric: Metric
    moved: Matrix
    centre: Row | None = None
    lengths: Row | None = None

    def part(self, which: slice | Slots) -> Stock:
        """Some of them."""
        if self.lengths is None:
            return Stock(self.vectors[which], self.metric, self.vectors[which])
        return Stock(self.vectors[which], self.metric, self.moved[which], self.centre, self.lengths[which])


def stock(vectors: Matrix, metric: Metric, before: Stock | None = None) -> Stock:
    """The vectors made ready; `before` is what was made of their first ones."""
    import numpy as np

    if metric != "l2":
        return Stock(vectors, metric, vectors)
    known = len(before.vectors) if before else 0
    centre = before.centre if before and known else vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    assert centre is not None
    moved = vectors[known:] - centre
    lengths = np.einsum("ij,ij->i", moved, moved)
    if before and before.lengths is not None and known:
        moved, lengths = np.concatenate([before.moved, moved]), np.concatenate([before.lengths, lengths])
    return Stock(vectors, metric, moved, centre, lengths)


def nearest(among: Stock, queries: Matrix, top_k: int, mask: Mask | None = None) -> tuple[Slots, Scores]:
    """For each query the rows of its nearest vectors, best first, with their scores; -1 where there are no more."""
    import numpy as np

    chosen: Slots | None = None
    if mask is not None and np.count_nonzero(mask) <= _FEW * len(mask):
        chosen, mask = np.flatnonzero(mask), None
        among = among.part(chosen)
    rows = _candidates(among, queries, top_k + _SPARE, mask)
    best, scores = measured(among, queries, rows, top_k)
    if chosen is not None and len(chosen):
        best = np.where(best >= 0, chosen[best], -1)
    return best, scores


def measured(among: Stock, queries: Matrix, rows: Slots, top_k: int) -> tuple[Slots, Scores]:
    """The best of some candidates for each query, best first."""
    import numpy as np

    far = among.metric == "l2"
    scores = np.full(rows.shape, -np.inf)
    for query, own, told in zip(queries.astype(np.float64), rows, scores, strict=True):
        found = among.vectors[own[own >= 0]].astype(np.float64)
        told[own >= 0] = -np.sqrt(((found - query) ** 2).sum(axis=1)) if far else found @ query
    order = np.lexsort((rows, -scores))[:, :top_k]  # what scores the same comes in the order of its making
    best, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    return best, -scores if far else scores


def _candidates(among: Stock, queries: Matrix, wanted: int, mask: Mask | None) -> Slots:
    import numpy as np

    count, many = len(among.vectors), len(queries)
    queries = queries if among.centre is None else queries - among.centre
    rows, scores = np.full((many, 0), -1, dtype=np.int64), np.full((many, 0), -np.inf, dtype=np.float32)
    step = max(_BLOCK // max(many, 1), 1)
    for begin in range(0, count, step):
        block = slice(begin, min(begin + step, count))
        found = (among.moved[block] @ queries[0])[None, :] if many == 1 else queries @ among.moved[block].T
        if among.lengths is not None:
            found = found * 2 - among.lengths[block]
        if mask is not None:
            np.copyto(found, -np.inf, where=~mask[block])
        best = _largest(found, wanted)
        rows = np.hstack([rows, best + begin])
        scores = np.hstack([scores, np.take_along_axis(found, best, 1)])
        kept = _largest(scores, wanted)
        rows, scores = np.take_along_axis(rows, kept, 1), np.take_along_axis(scores, kept, 1)
    return np.where(np.isneginf(scores), -1, rows)


def _largest(scores: npt.NDArray[np.float32], wanted: int) -> Slots:
    """The columns of the largest numbers of each row, in any order."""
    import numpy as np

    if scores.shape[1] <= wanted:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, scores.shape[1] - wanted, axis=1)[:, -wanted:]
