"""What goes wrong between a component and a database, as one sentence that gives nothing away."""

from __future__ import annotations

import re

from twingraph.components.sql.binding import Bound
from twingraph.components.sql.statements import shown
from twingraph.errors import ComponentError, ComponentTimeoutError, TransientError


class QueryError(ComponentError):
    """A database did not carry out a statement.

    Attributes:
        sqlstate: the code of the SQL standard, where the database gives one.
        line: where the database found it, counted from 1, where it says so.
        column: likewise.
    """

    def __init__(self, message: str, sqlstate: str = "", line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.line = line
        self.column = column


class QueryTransientError(QueryError, TransientError):
    """The database could not be reached, or was busy: trying again may help."""


class QueryTimeoutError(QueryError, ComponentTimeoutError):
    """A statement took longer than its timeout, and was stopped."""


class Failure(Exception):
    """What a driver said, before it is told: its message, and all that is known besides."""

    def __init__(
        self,
        reason: str,
        *,
        sqlstate: str = "",
        offset: int | None = None,
        near: str = "",
        transient: bool = False,
        timeout: bool = False,
        unreached: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sqlstate = sqlstate
        self.offset = offset  # in the text that the driver was given
        self.near = near  # where there is none: what the database names, if that stands in the statement once
        self.transient = transient
        self.timeout = timeout
        self.unreached = unreached


def told(failure: Failure, where: str, bound: Bound | None = None, seconds: float | None = None) -> QueryError:
    """The error that a caller sees; `where` names the database."""
    if failure.unreached or bound is None:
        return QueryTransientError(f"{where} cannot be reached: {_sentence(failure.reason)}", failure.sqlstate)
    offset = _offset(failure, bound)
    line, column = (None, None) if offset is None else bound.statement.place(offset)
    text = bound.statement.text
    spot = f"its statement {shown(text)!r}"
    if offset is not None:
        spot = f"its statement, line {line}, column {column} ({shown(text[offset:]) or 'its end'!r})"
    if failure.timeout:
        return QueryTimeoutError(f"{where}: {spot} took longer than {seconds:g} s and was stopped.", failure.sqlstate)
    kind = QueryTransientError if failure.transient else QueryError
    return kind(f"{where}: {spot} failed: {_sentence(failure.reason)}", failure.sqlstate, line, column)


def _offset(failure: Failure, bound: Bound) -> int | None:
    if failure.offset is not None:
        return bound.offset(failure.offset)
    found = [each.start() for each in re.finditer(rf"(?<!\w){re.escape(failure.near)}(?!\w)", bound.statement.text)]
    return found[0] if failure.near and len(found) == 1 else None


def _sentence(reason: str) -> str:
    """A message on one line, with a full stop."""
    line = " ".join(reason.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."
