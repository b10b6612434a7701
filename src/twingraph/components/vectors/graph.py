"""The nearest vectors by a graph: of a large index, without looking at all of it.

The graph is HNSW as usearch makes it, in a file beside the vectors that searches map into memory. It is only ever a
shortcut: it can be made again from the vectors, what was added since it was made is looked at one by one, and the
candidates that it gives are measured exactly.
"""

from __future__ import annotations

import os
from typing import Any

from twingraph.components.built_in import needed
from twingraph.components.vectors.exact import Slots
from twingraph.components.vectors.values import Matrix, Metric

NEIGHBOURS, AT_BUILDING, AT_SEARCHING = 16, 128, 256
"""How many vectors each is linked with, and how many are in view while a place is looked for."""
_METRICS = {"cosine": "ip", "dot": "ip", "l2": "l2sq"}
_PRECISION = {"cosine": "f16", "dot": "f32", "l2": "f32"}  # what has length one fits into half precision
_MANY = 8  # queries at once for which starting threads pays
_SETTINGS: Any = {"expansion_add": AT_BUILDING, "expansion_search": AT_SEARCHING, "enable_key_lookups": False}
_AT_ONCE = 50_000


def made(path: str, vectors: Matrix, metric: Metric, before: str | None = None) -> None:
    """Write the graph of these vectors, by way of an earlier one of their first; it is there whole, or not at all."""
    import numpy as np

    graph = _opened(before, view=False) if before else _empty(vectors.shape[1], metric)
    for begin in range(len(graph), len(vectors), _AT_ONCE):
        some = np.ascontiguousarray(vectors[begin : begin + _AT_ONCE])
        graph.add(np.arange(begin, begin + len(some)), some)
    partial = f"{path}.{os.getpid()}"
    graph.save(partial)
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def opened(path: str) -> Any:
    """A graph to search in, mapped into memory."""
    return _opened(path, view=True)


def candidates(graph: Any, queries: Matrix, wanted: int) -> Slots:
    """For each query the rows of vectors that are near; -1 where there are no more."""
    import numpy as np

    found = graph.search(queries, min(wanted, len(graph)), threads=1 if len(queries) < _MANY else 0)
    if len(queries) == 1:
        return np.asarray(found.keys, dtype=np.int64).reshape(1, -1)
    rows = np.asarray(found.keys, dtype=np.int64)
    rows[np.arange(rows.shape[1]) >= np.asarray(found.counts)[:, None]] = -1
    return rows


def _empty(dimension: int, metric: Metric) -> Any:
    with needed("vectors", "A large index"):
        from usearch.index import Index
    return Index(
        ndim=dimension, metric=_METRICS[metric], dtype=_PRECISION[metric], connectivity=NEIGHBOURS, **_SETTINGS
    )


def _opened(path: str, *, view: bool) -> Any:
    with needed("vectors", "A large index"):
        from usearch.index import Index
    if not os.path.exists(path):  # another process has replaced it
        raise FileNotFoundError(path)
    return Index.restore(path, view=view, **_SETTINGS)
