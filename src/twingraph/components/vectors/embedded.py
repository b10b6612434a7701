"""The index that needs no server: a folder on this machine, for as many processes and threads as there are.

It stands on SQLite for what is true (ids, metadata and what filters ask for), on a file of 32-bit numbers for the
vectors, on NumPy to look at all of them, and on usearch for a graph of a large index. Weighed were, with 40,000 vectors
of 128 numbers on two cores (seconds of a processor to build, best time of a search, recall of ten, size without NumPy):

    NumPy, every vector        0      1.2 ms   1.000             faiss, every vector    0      1.1 ms   1.000    66 MB
    usearch, half precision    8 s    0.3 ms   1.000    57 MB    faiss, HNSW           11 s    0.4 ms   1.000    66 MB
    hnswlib                    7 s    0.2 ms   1.000     8 MB    qdrant-edge           13 s    0.2 ms   0.999    35 MB
    lancedb, every vector      1 s   12.2 ms   1.000   350 MB    zvec                  32 s    0.5 ms   1.000    45 MB
    lancedb, IVF_PQ           13 s    2.9 ms   0.755   350 MB    lancedb, IVF_HNSW_SQ  31 s    2.8 ms   0.993   350 MB

Up to some hundred thousand vectors NumPy takes milliseconds, misses nothing, needs nothing to be built and lets a
filter choose rows before anything is compared; faiss does the same no faster and is larger. qdrant-edge and zvec lock
their folder to one process. sqlite-vec needs an SQLite that loads extensions, which many Pythons lack. hnswlib comes
without wheels. It, faiss and usearch keep vectors in memory and nothing else, neither metadata nor what a crash
spares: of these usearch maps its file, so that a process that starts has the graph at once, and all share one copy.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from lokki.frozen import replace
from twingraph.components.vectors import graph as graphs
from twingraph.components.vectors.exact import Slots
from twingraph.components.vectors.index import UnknownIndexError, same_metric
from twingraph.components.vectors.shelf import (
    State,
    append,
    keep_state,
    mapped,
    put,
    remove,
    renumber,
    rows_of,
    slots_of,
    slots_where,
    state_of,
)
from twingraph.components.vectors.values import Entries, Hit, Matrix, Metric, directed, hit, sized
from twingraph.components.vectors.view import Views
from twingraph.components.vectors.where import Condition

T = TypeVar("T")

GRAPH_FROM = 64_000_000
"""Numbers in all vectors together from which on there is a graph, unless it is told otherwise: 256 MB."""
_GRAPH_AT_LEAST = 1_000
"""Vectors without which a graph is never of use."""
_WASTE = 1_000
"""Dead rows that do not matter; more of them than live ones are cleared away."""
_TRIES = 20
_BLOCK = 65_536


class Embedded:
    """An index in a folder, as one component uses it."""

    def __init__(self, views: Views, metric: Metric | None, approximate: bool | None) -> None:
        self.name = os.path.basename(views.shelf.folder)
        self._views = views
        self._shelf = views.shelf
        self._metric: Metric | None = metric
        self._approximate = approximate

    def add(self, entries: Entries) -> None:
        """Keep these; the first ones make the index. When it returns, they are on the disk."""
        if not self._shelf.exists():
            self._shelf.make()
        with self._shelf.writing() as connection:
            state = self._state(connection) if state_of(connection) else _new(entries, self._metric)
            vectors = directed(sized(entries.vectors, state.dimension, self.name), state.metric)
            state = replace(state, version=state.version + 1)
            state = self._without(connection, state, slots_of(connection, entries.ids))
            append(self._shelf.vectors_file(state.generation), state.used, [vectors])
            put(connection, state.used, entries.ids, entries.metadata)
            count = len(entries.ids)
            state = replace(state, used=state.used + count, live=state.live + count)
            kept = self._kept(connection, state)
        if kept.generation != state.generation:
            self._tidy()
        self._grow_graph()

    def delete(self, ids: tuple[str, ...] | None, where: Condition | None) -> int:
        """Forget those with one of these ids (all, if None) that fit the filter; how many there were."""
        import numpy as np

        self._there()
        with self._shelf.writing() as connection:
            state = self._state(connection)
            view = self._views.at(connection, state)
            mask = view.fitting(connection, where)
            slots = np.flatnonzero(view.alive if mask is None else mask).tolist()
            if ids is not None:
                own = set(slots_of(connection, ids))
                slots = [each for each in slots if each in own]
            state = self._without(connection, replace(state, version=state.version + 1), slots)
            kept = self._kept(connection, state)
        if kept.generation != state.generation:
            self._tidy()
        return len(slots)

    def search(self, vectors: Matrix, top_k: int, where: Condition | None) -> list[list[Hit]]:
        """For each vector the nearest that fit, best first."""

        def found(connection: sqlite3.Connection) -> list[list[Hit]]:
            state = self._state(connection)
            wanted = directed(sized(vectors, state.dimension, self.name), state.metric)
            view = self._views.at(connection, state)
            mask = view.fitting(connection, where)
            slots, scores = view.nearest(wanted, top_k, mask, exactly=self._approximate is False)
            rows = rows_of(connection, sorted(set(slots[slots >= 0].tolist())))
            return [
                [hit(rows[slot][0], score, rows[slot][1]) for slot, score in zip(own, told, strict=True) if slot >= 0]
                for own, told in zip(slots.tolist(), scores.tolist(), strict=True)
            ]

        return self._read(found)

    def count(self, where: Condition | None) -> int:
        """How many fit."""
        import numpy as np

        def found(connection: sqlite3.Connection) -> int:
            state = self._state(connection)
            mask = None if where is None else self._views.at(connection, state).fitting(connection, where)
            return state.live if mask is None else int(np.count_nonzero(mask))

        return self._read(found)

    def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """What is seen in one moment; a file that has just been replaced is looked for again."""
        self._there()
        for _ in range(_TRIES):
            with suppress(FileNotFoundError), self._shelf.reading() as connection:
                return look(connection)
        with self._shelf.reading() as connection:
            return look(connection)

    def _there(self) -> None:
        if not self._shelf.exists():
            raise self._unknown()

    def _state(self, connection: sqlite3.Connection) -> State:
        state = state_of(connection)
        if state is None:
            raise self._unknown()
        same_metric(self.name, state.metric, self._metric)
        return state

    def _unknown(self) -> UnknownIndexError:
        place = os.path.dirname(self._shelf.folder)
        known = [each.name for each in os.scandir(place) if each.is_dir()] if os.path.isdir(place) else []
        return UnknownIndexError(self.name, place, known)

    def _without(self, connection: sqlite3.Connection, state: State, slots: list[int]) -> State:
        remove(connection, state.version, slots)
        return replace(state, live=state.live - len(slots))

    def _kept(self, connection: sqlite3.Connection, state: State) -> State:
        """The state as it is kept: in a file of vectors without the dead ones, if there were too many of them."""
        import numpy as np

        if state.used - state.live > max(_WASTE, state.live):
            old = mapped(self._shelf.vectors_file(state.generation), state.used, state.dimension)
            slots = np.sort(slots_where(connection, "rows", "true", []))
            generation = state.generation + 1
            append(self._shelf.vectors_file(generation), 0, _in_blocks(old, slots))
            renumber(connection)
            state = replace(state, generation=generation, used=len(slots), graphed=0)
        keep_state(connection, state)
        return state

    def _tidy(self) -> None:
        """Remove files that no longer count; who reads them has them open, or looks again."""
        with self._shelf.writing() as connection:
            state = self._state(connection)
            vectors = self._shelf.vectors_file(state.generation)
            counts = (vectors, self._shelf.graph_file(state.generation, state.graphed))
            for name in os.listdir(self._shelf.folder):
                path = os.path.join(self._shelf.folder, name)
                if name.startswith(("vectors-", "graph-")) and path not in counts:
                    os.unlink(path)

    def _grow_graph(self) -> None:
        """Make the graph, or a larger one, if enough has been added; others read and write meanwhile."""
        if self._approximate is False:
            return
        with self._shelf.reading() as connection:
            state = self._state(connection)
        if state.metric == "dot" and not self._approximate:  # the longest vectors hide the others from a graph
            return
        least = _GRAPH_AT_LEAST if self._approximate else max(_GRAPH_AT_LEAST, GRAPH_FROM // state.dimension)
        if state.used < least or state.used - state.graphed <= max(least, state.graphed) // 4:
            return
        with self._shelf.alone("graph") as alone:
            if alone:
                self._build(state)

    def _build(self, state: State) -> None:
        path = self._shelf.graph_file(state.generation, state.used)
        before = self._shelf.graph_file(state.generation, state.graphed) if state.graphed else None
        try:
            vectors = mapped(self._shelf.vectors_file(state.generation), state.used, state.dimension)
            graphs.made(path, vectors, state.metric, before)
        except FileNotFoundError:  # cleared away meanwhile: the next addition makes it
            return
        with self._shelf.writing() as connection:
            now = self._state(connection)
            if now.generation == state.generation:
                now = replace(now, version=now.version + 1, graphed=state.used)
                keep_state(connection, now)
        self._tidy()


def _new(entries: Entries, metric: Metric | None) -> State:
    return State(
        version=0, dimension=entries.vectors.shape[1], metric=metric or "cosine",
        generation=0, used=0, live=0, graphed=0,
    )  # fmt: skip


def _in_blocks(vectors: Matrix, slots: Slots) -> Iterator[Matrix]:
    for begin in range(0, len(slots), _BLOCK):
        yield vectors[slots[begin : begin + _BLOCK]]
