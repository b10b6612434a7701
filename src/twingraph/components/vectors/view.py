"""What a process knows of an embedded index: its vectors mapped into memory, which of them count, and their graph.

A view never changes. One that is out of date leads to the next with what has happened since, so that a search after an
addition costs no more than the addition brought.
"""

from __future__ import annotations

import sqlite3
import threading
from functools import reduce
from operator import and_, or_
from typing import Any

from twingraph.components.vectors import graph as graphs
from twingraph.components.vectors.exact import Mask, Scores, Slots, Stock, measured, nearest, stock
from twingraph.components.vectors.shelf import Shelf, State, mapped, slots_among, slots_where, stored
from twingraph.components.vectors.values import Matrix
from twingraph.components.vectors.where import Compared, Condition, Either, Empty, Every, Not, OneOf

_REMEMBERED = 16
"""Filters whose rows are remembered until something changes."""
_SPARE = 4
"""Candidates of the graph for each result."""
_SELECTIVE = 0.1
"""The part of all vectors below which those that fit a filter are looked at one by one."""


class Views:
    """A folder and the newest view of it; all threads of a process share one."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._newest: View | None = None
        self._lock = threading.Lock()

    def at(self, connection: sqlite3.Connection, state: State) -> View:
        """The view of a state, which the connection sees."""
        with self._lock:
            newest = self._newest
            if newest is not None and newest.state == state:
                return newest
            if newest is not None and newest.state.version > state.version:  # of a reader that began earlier
                return View(self.shelf, connection, state)
            self._newest = View(self.shelf, connection, state, newest)
            return self._newest


class View:
    """An index at one moment."""

    def __init__(self, shelf: Shelf, connection: sqlite3.Connection, state: State, before: View | None = None) -> None:
        import numpy as np

        self.state = state
        kept = before if before is not None and before.state.generation == state.generation else None
        known = kept.state.used if kept else 0
        vectors = mapped(shelf.vectors_file(state.generation), state.used, state.dimension)
        self.stock: Stock = stock(vectors, state.metric, kept.stock if kept else None)
        self.all: Mask = np.ones(state.used, dtype=np.bool_)
        self.alive = self.all.copy()
        if kept:
            self.alive[:known] = kept.alive
        self.alive[slots_where(connection, "dead", "version > ?", [kept.state.version if kept else -1])] = False
        same = kept is not None and kept.state.graphed == state.graphed
        self.graph: Any = kept.graph if kept and same else _graph(shelf, state)
        self._masks: dict[str, Mask] = {}

    def fitting(self, connection: sqlite3.Connection, where: Condition | None) -> Mask | None:
        """Which rows count and fit; None for all."""
        if where is None:
            return None if self.state.live == self.state.used else self.alive
        key = repr(where)  # True equals 1, and they do not look alike
        found = self._masks.get(key)
        if found is None:
            found = self._rows(connection, where) & self.alive
            if len(self._masks) >= _REMEMBERED:
                self._masks = {}
            self._masks[key] = found
        return found

    def nearest(self, queries: Matrix, top_k: int, mask: Mask | None, *, exactly: bool) -> tuple[Slots, Scores]:
        """The rows nearest to each query and their scores, best first; -1 where there are no more."""
        import numpy as np

        fit = self.state.used if mask is None else int(np.count_nonzero(mask))
        if self.graph is not None and not exactly and fit > max(_SELECTIVE * self.state.used, top_k * _SPARE):
            found = self._by_graph(queries, top_k, mask, fit)
            if found is not None:
                return found
        return nearest(self.stock, queries, top_k, mask)

    def _by_graph(self, queries: Matrix, top_k: int, mask: Mask | None, fit: int) -> tuple[Slots, Scores] | None:
        """The nearest of the graph's candidates and of what is newer than it; None if it gave too few."""
        import numpy as np

        graphed = self.state.graphed
        wanted = int(top_k * _SPARE * self.state.used / fit)
        rows = graphs.candidates(self.graph, queries, wanted)
        if mask is not None:
            rows = np.where((rows >= 0) & mask[rows], rows, -1)
            if ((rows >= 0).sum(axis=1) < min(top_k, int(np.count_nonzero(mask[:graphed])))).any():
                return None
        if graphed < self.state.used:
            tail = None if mask is None else mask[graphed:]
            newer, _ = nearest(self.stock.part(slice(graphed, None)), queries, top_k, tail)
            rows = np.hstack([rows, np.where(newer >= 0, newer + graphed, -1)])
        return measured(self.stock, queries, rows, top_k)

    def _rows(self, connection: sqlite3.Connection, where: Condition) -> Mask:
        """Which rows fit."""
        match where:
            case Every(parts):
                return reduce(and_, (self._rows(connection, each) for each in parts), self.all)
            case Either(parts):
                return reduce(or_, (self._rows(connection, each) for each in parts), ~self.all)
            case Not(part):
                return ~self._rows(connection, part)
            case Empty(field):
                return ~self._marked(slots_where(connection, "fields", "name = ?", [field]))
            case OneOf(field, values):
                return self._marked(slots_among(connection, field, [*map(stored, values)]))
            case Compared(field, order, number):
                clause = f"name = ? and value {order} ? and value < ''"  # texts come after all numbers
                return self._marked(slots_where(connection, "fields", clause, [field, stored(number)]))

    def _marked(self, slots: Slots) -> Mask:
        found = ~self.all
        found[slots] = True
        return found


def _graph(shelf: Shelf, state: State) -> Any:
    """The graph, if there is one; without its file, every vector is looked at."""
    if not state.graphed:
        return None
    try:
        return graphs.opened(shelf.graph_file(state.generation, state.graphed))
    except FileNotFoundError:
        return None
