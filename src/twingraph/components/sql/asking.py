"""What a database is asked, and what it answers: the words that all kinds of databases share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from twingraph.components.sql.binding import Bound, Manner
from twingraph.components.sql.problems import Failure
from twingraph.components.sql.targets import Target

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Ask:
    """A statement with its values, and in which way it is to be carried out.

    Attributes:
        bound: the statement.
        read_only: nothing may be written.
        timeout: seconds after which it is stopped.
        part: how many rows are taken at once.
        parted: the rows are wanted part by part, as somebody asks for them.
        limit: how many are wanted at most.
        framed: they become a frame.
    """

    bound: Bound
    read_only: bool = False
    timeout: float | None = None
    part: int = 10_000
    parted: bool = False
    limit: int | None = None
    framed: bool = False

    @property
    def stepwise(self) -> bool:
        """Whether perhaps not all rows are taken, or not at once."""
        return self.parted or self.limit is not None


def _nothing(_: int) -> Rows:
    return []


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a statement.

    Attributes:
        names: the columns, as the database calls them; none where the statement gives no rows.
        affected: how many rows were changed, of a statement that gives none.
        fetch: the next rows, at most so many; empty when there are no more.
        types: by the number of a column the Arrow type that it has, where the database says so.
        loads: by the number of a column what makes a Python value of it for a record.
        batches: the rows as batches of Arrow, of a database that speaks it.
    """

    names: tuple[str, ...] = ()
    affected: int = 0
    fetch: Callable[[int], Rows] = _nothing
    types: Callable[[], dict[int, Any]] = dict
    loads: Mapping[int, Callable[[Any], Any]] = field(default_factory=dict)
    batches: Callable[[int], Iterator[Any]] | None = None


class Database(Protocol):
    """A kind of databases."""

    def manner(self, target: Target) -> Manner:
        """How it is told of values."""

    def opened(self, target: Target) -> Any:
        """A new connection."""

    def alive(self, connection: Any, long_idle: bool) -> bool:
        """Whether a connection that nobody used for a while still works."""

    def asked(self, connection: Any, ask: Ask, target: Target) -> AbstractContextManager[Answer]:
        """The answer, as long as the block lasts; what was written is kept if it ends well."""

    def failure(self, error: BaseException, ask: Ask | None) -> Failure | None:
        """What an error of the driver says; None for one that is not of the driver."""
