"""The folder of an embedded index: an SQLite file that says what is true, and files of vectors that it points into.

A file of vectors is only ever appended to, before the transaction that makes the new part count: whoever is killed in
between leaves a tail that nobody looks at and the next writer overwrites. SQLite lets one process write at a time, and
gives each reader the state as it was when it began to read.
"""

from __future__ import annotations

import json
import mmap
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from lokki.frozen import frozen, named
from twingraph.components.vectors.exact import Slots
from twingraph.components.vectors.values import Matrix, Metric, fields
from twingraph.errors import ComponentError

FORMAT = 1
PATIENCE = 120.0
"""Seconds that a writer waits for another."""
SCHEMA = """
create table state (
    one integer primary key check (one = 1), format integer not null, version integer not null,
    dimension integer not null, metric text not null, generation integer not null,
    used integer not null, live integer not null, graphed integer not null
);
create table rows (slot integer primary key, id text not null unique, metadata text not null);
create table fields (name text not null, value not null, slot integer not null, primary key (name, value, slot))
    without rowid;
create table dead (version integer not null, slot integer not null, primary key (version, slot)) without rowid;
"""
RENUMBERING = """
create temp table moved as select row_number() over (order by slot) - 1 as slot, slot as old, id, metadata from rows;
create temp table renamed as select name, value, moved.slot from fields join moved on fields.slot = old;
delete from rows; delete from fields; delete from dead;
insert into rows select slot, id, metadata from moved;
insert into fields select name, value, slot from renamed;
drop table moved; drop table renamed;
"""
_SLOTS = "group_concat(slot, ' ')"
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_MOST = 500  # parameters of one statement


@frozen
class State:
    """What an index is at one moment.

    Attributes:
        version: a number that every change makes larger.
        dimension: how many numbers a vector has.
        metric: how vectors are compared.
        generation: which file of vectors counts.
        used: how many rows of it count, those of deleted vectors among them.
        live: how many vectors there are.
        graphed: how many rows the graph knows; 0 without one.
    """

    version: int
    dimension: int
    metric: Metric
    generation: int
    used: int
    live: int
    graphed: int


class Shelf:
    """A folder, and the connections to its SQLite file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.database = os.path.join(folder, "index.db")
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def exists(self) -> bool:
        """Whether there is an index here; while somebody is about to make it, there is none."""
        if not os.path.exists(self.database):
            return False
        with self.reading() as connection:
            return _has_tables(connection)

    def vectors_file(self, generation: int) -> str:
        """Where the vectors are."""
        return os.path.join(self.folder, f"vectors-{generation}.f32")

    def graph_file(self, generation: int, graphed: int) -> str:
        """Where their graph is."""
        return os.path.join(self.folder, f"graph-{generation}-{graphed}.usearch")

    def make(self) -> None:
        """Make the folder and an SQLite file with nothing in it."""
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
        except OSError as problem:
            raise ComponentError(f"The folder {self.folder} for an index cannot be made: {problem.strerror}.") from None
        with self.alone("make", PATIENCE), closing(self._connected()) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute("begin immediate")
            if not _has_tables(connection):
                for statement in SCHEMA.split(";")[:-1]:
                    connection.execute(statement)
            connection.execute("commit")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the index as it is now, until the end."""
        with self._told("read"), self._connection() as connection:
            connection.execute("begin")
            try:
                yield connection
            finally:
                connection.execute("rollback")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that may write; nobody else may until the end. What fails leaves no trace."""
        with self._told("written"), self._connection() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it
                    connection.execute("rollback")
                raise

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as problem:
            why = (
                f"another process has been writing for {PATIENCE:.0f} s"
                if "locked" in str(problem)
                else f"SQLite says: {problem}; also who only searches must be able to write into the folder"
            )
            raise ComponentError(f"Index {os.path.basename(self.folder)!r} cannot be {done}: {why}.") from problem

    @contextmanager
    def alone(self, purpose: str, patience: float = 0) -> Iterator[bool]:
        """Whether nobody else, of any process, does the same just now; a killed process holds nothing."""
        path = os.path.join(self.folder, f"{purpose}.lock")
        with closing(sqlite3.connect(path, timeout=patience, isolation_level=None)) as connection:
            try:
                connection.execute("begin exclusive")
            except sqlite3.OperationalError:
                yield False
                return
            yield True

    def close(self) -> None:
        """Close the connections that nobody uses, and each other one when it is no longer used."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for connection in idle:
            connection.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connected()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            closed = self._closed
            if not closed:
                self._idle.append(connection)
        if closed:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.database, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        connection.execute("pragma synchronous = full")
        return connection


def state_of(connection: sqlite3.Connection) -> State | None:
    """What the index is; None while nothing was ever added to it."""
    names = ", ".join(State.__match_args__)
    found = connection.execute(f"select format, {names} from state").fetchone()  # noqa: S608
    if found and found[0] > FORMAT:
        raise ComponentError("The index was written by a later version of this library: install that.")
    return State(*found[1:]) if found else None


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("select 1 from sqlite_master where name = 'state'").fetchone() is not None


def keep_state(connection: sqlite3.Connection, state: State) -> None:
    """Say what the index is now."""
    told = {"one": 1, "format": FORMAT, **named(state)}
    connection.execute(
        f"replace into state ({', '.join(told)}) values ({', '.join('?' * len(told))})",  # noqa: S608
        [*told.values()],
    )


def slots_of(connection: sqlite3.Connection, ids: Sequence[str]) -> list[int]:
    """The slots of these ids, of those that are there."""
    return [slot for (slot,) in _in_parts(connection, "select slot from rows where id in ({})", ids)]


def rows_of(connection: sqlite3.Connection, slots: Sequence[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    """The id and the metadata of what is in these slots."""
    found = _in_parts(connection, "select slot, id, metadata from rows where slot in ({})", slots)
    return {slot: (identity, json.loads(metadata)) for slot, identity, metadata in found}


def put(connection: sqlite3.Connection, first: int, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> None:
    """Write rows into the slots from `first` on."""
    connection.executemany(
        "insert into rows values (?, ?, ?)",
        (
            (slot, identity, _JSON.encode(told))
            for slot, (identity, told) in enumerate(zip(ids, metadata, strict=True), first)
        ),
    )
    connection.executemany(
        "insert or ignore into fields values (?, ?, ?)",
        ((*field, slot) for slot, told in enumerate(metadata, first) for field in _fields(told)),
    )


def remove(connection: sqlite3.Connection, version: int, slots: Sequence[int]) -> None:
    """Take away what is in these slots; readers learn of it by the version."""
    rows = rows_of(connection, slots)
    connection.executemany(
        "delete from fields where name = ? and value = ? and slot = ?",
        ((*field, slot) for slot, (_, metadata) in rows.items() for field in _fields(metadata)),
    )
    connection.executemany("delete from rows where slot = ?", [(slot,) for slot in slots])
    connection.executemany("insert into dead values (?, ?)", [(version, slot) for slot in slots])


def renumber(connection: sqlite3.Connection) -> None:
    """Give all rows new slots, from 0 on, in the order that they are in."""
    for statement in RENUMBERING.split(";")[:-1]:
        connection.execute(statement)


def append(path: str, row: int, vectors: Iterable[Matrix]) -> None:
    """Write vectors into a file from a row on, to the disk."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        at = None
        for block in vectors:
            at = row * block.shape[1] * 4 if at is None else at
            data = block.data.cast("B")
            while data:
                done = os.pwrite(file, data, at)
                data, at = data[done:], at + done
        os.fsync(file)
    finally:
        os.close(file)


def mapped(path: str, rows: int, dimension: int) -> Matrix:
    """Vectors of a file, mapped into memory: processes share what is read of it."""
    import numpy as np

    if not rows:
        return np.zeros((0, dimension), dtype=np.float32)
    with open(path, "rb") as file:
        found = mmap.mmap(file.fileno(), rows * dimension * 4, access=mmap.ACCESS_READ)
    return np.frombuffer(found, dtype=np.float32).reshape(rows, dimension)


def slots_where(connection: sqlite3.Connection, table: str, clause: str, parameters: Sequence[Any]) -> Slots:
    """The slots of a table's rows for which a clause holds."""
    return _array(connection.execute(f"select {_SLOTS} from {table} where {clause}", parameters))  # noqa: S608


def slots_among(connection: sqlite3.Connection, name: str, values: Sequence[Any]) -> Slots:
    """The slots of rows whose field has one of these values."""
    statement = f"select {_SLOTS} from fields where name = ? and value in ({{}})"  # noqa: S608
    return _array(_in_parts(connection, statement, values, [name]))


def stored(value: Any) -> Any:
    """A value of a field as SQLite keeps and orders it: numbers, then texts, then what is neither."""
    if value is None or isinstance(value, bool):
        return {None: b"", False: b"0", True: b"1"}[value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def _fields(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, stored(value)) for name, value in fields(metadata))


def _in_parts(
    connection: sqlite3.Connection, statement: str, values: Sequence[Any], before: Sequence[Any] = ()
) -> Iterator[tuple[Any, ...]]:
    """What a statement gives for many values, which stand in it as `{}` behind the parameters `before`."""
    for begin in range(0, len(values), _MOST):
        some = values[begin : begin + _MOST]
        yield from connection.execute(statement.format(", ".join("?" * len(some))), [*before, *some])


def _array(rows: Iterable[tuple[str | None]]) -> Slots:
    """Numbers that SQLite has written in one text, which is twice as fast as a row for each."""
    import numpy as np

    return np.fromstring(" ".join(told for (told,) in rows if told), dtype=np.int64, sep=" ")
