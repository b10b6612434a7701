"""Values beside a statement: which goes where, in the way that a driver wants to be told.

A list expands where it stands after IN; anywhere else it is one value, as an array is. Rows of values are those of one
statement that runs for each.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lokki.errors import nearest
from twingraph.components.sql.statements import Escape, Slot, Statement, parsed, place
from twingraph.errors import ComponentError, ComponentTypeError

Style: TypeAlias = Literal["dollar", "qmark", "format", "pyformat", "named", "numeric"]
Params: TypeAlias = Mapping[str, Any] | Sequence[Any] | None


@dataclass(frozen=True)
class Manner:
    """How a database is told of values.

    Attributes:
        style: how the driver marks their places.
        arrays: it has arrays, as PostgreSQL, whose empty one has the type that is wanted; it is strict about types.
        rows: what a list of rows begins with.
        adapt: makes values such as the driver takes.
    """

    style: Style
    arrays: bool = False
    rows: str = ""
    adapt: Callable[[Any], Any] = lambda value: value


_NONE_OF = "SELECT NULL FROM (SELECT 1) AS none_of WHERE 1 <> 1"
"""What stands in a list of no values."""

_IN = re.compile(r"(?:\b(NOT)\s+)?\bIN\s*\(?$", re.IGNORECASE)
_LISTS = (list, tuple, set, frozenset)
_MARKS: Mapping[Style, Callable[[int], str]] = {
    "dollar": lambda number: f"${number}",
    "numeric": lambda number: f":{number}",
    "named": lambda number: f":p{number}",
    "pyformat": lambda number: f"%(p{number})s",
    "format": lambda _: "%s",
    "qmark": lambda _: "?",
}
_REPEATING = ("format", "qmark")  # each mark takes a value of its own


@dataclass(frozen=True)
class Bound:
    """What a driver is given: the text in its style, and the values; of many rows, those of each."""

    statement: Statement
    text: str
    values: Any
    many: bool = False
    pieces: tuple[tuple[int, int, bool], ...] = ()

    def offset(self, offset: int) -> int:
        """Where something is in the statement as it was written, from where it is in the driver's text."""
        found = self.pieces[bisect_right([each[0] for each in self.pieces], offset) - 1]
        start, written, verbatim = found
        return min(written + (offset - start if verbatim else 0), len(self.statement.text))


def bound(sql: str, params: Params, manner: Manner) -> Bound:
    """A statement and its values for a driver."""
    if isinstance(params, str | bytes) or not isinstance(params, Mapping | Sequence | None):
        raise ComponentTypeError(
            f"params takes a dict of values by name, or a list of them, not {type(params).__name__}."
        )
    if isinstance(params, Sequence) and all(isinstance(each, Mapping) for each in params):
        named = parsed(sql)
        if params or any(isinstance(each.key, str) for each in named.slots):  # no rows are rows, too
            return _many(named, params, manner)
    by_place = isinstance(params, Sequence)
    statement = parsed(sql, marks=by_place)
    given: dict[Any, Any] = dict(enumerate(params)) if isinstance(params, Sequence) else dict(params or {})
    _check(statement, given, by_place)
    return _Writing(statement, given, manner).bound()


def _many(statement: Statement, rows: Sequence[Mapping[str, Any]], manner: Manner) -> Bound:
    keys = list(dict.fromkeys(str(each.key) for each in statement.slots))
    for number, row in enumerate(rows):
        _check(statement, row, False, f" in row {number} of params")
    once = _Writing(statement, dict.fromkeys(keys), manner).bound()
    order = [str(each.key) for each in statement.slots] if manner.style in _REPEATING else keys
    values = [_packed([manner.adapt(row[key]) for key in order], manner.style) for row in rows]
    return Bound(statement, once.text, values, True, once.pieces)


def _check(statement: Statement, given: Mapping[Any, Any], by_place: bool, where: str = "") -> None:
    slots = statement.slots
    if by_place:
        if named := [each.key for each in slots if isinstance(each.key, str)]:
            raise ComponentError(
                f"The SQL has :{named[0]}, whose value goes by its name, and params is a list: give a dict."
            )
        if len(slots) != len(given):
            raise ComponentError(
                f"The SQL has {len(slots)} places for values (?), and params holds {len(given)}: give one for each."
            )
        return
    for each in slots:
        if each.key not in given:
            line, column = place(statement.text, each.start)
            near = nearest(str(each.key), [str(name) for name in given]) or (
                f": give params={{{each.key!r}: ...}}, or write \\:{each.key} where no value is meant."
            )
            raise ComponentError(f"There is no value for :{each.key} (line {line}, column {column}){where}{near}")


class _Writing:
    """A statement, written in the style of a driver."""

    def __init__(self, statement: Statement, given: Mapping[Any, Any], manner: Manner) -> None:
        self._statement = statement
        self._given = given
        self._manner = manner
        self._style = manner.style
        self._text: list[str] = []
        self._length = 0
        self._values: list[Any] = []
        self._numbers: dict[tuple[str | int, int], int] = {}
        self._pieces: list[tuple[int, int, bool]] = []

    def bound(self) -> Bound:
        """The text and the values."""
        at = 0
        for part in self._statement.parts:
            self._verbatim(at, part.start)
            self._piece(part.start, False)
            match part:
                case Escape():
                    self._write(part.sign)
                case Slot():
                    self._write(self._slot(part))
            at = part.end
        self._verbatim(at, len(self._statement.text))
        values = _packed([self._manner.adapt(each) for each in self._values], self._style)
        return Bound(self._statement, "".join(self._text), values, pieces=tuple(self._pieces))

    def _piece(self, written: int, verbatim: bool) -> None:
        self._pieces.append((self._length, written, verbatim))

    def _verbatim(self, start: int, end: int) -> None:
        self._piece(start, True)
        text = self._statement.text[start:end]
        self._write(text.replace("%", "%%") if self._style in ("format", "pyformat") else text)

    def _write(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)

    def _slot(self, slot: Slot) -> str:
        value = self._given[slot.key]
        if not slot.listed or not isinstance(value, _LISTS):
            return f"({self._mark(slot.key, 0, value)})" if slot.bare else self._mark(slot.key, 0, value)
        if not value and not slot.alone:
            raise ComponentError(f"The list for {_called(slot)} is empty, and stands beside others in IN (...).")
        listed = self._list(slot.key, value) if value else self._none_of()
        return f"({listed})" if slot.bare else listed

    def _none_of(self) -> str:
        """What stands for no values: NULL would make NOT IN untrue for every row."""
        written = _IN.search(self._text[-1]) if self._manner.arrays and self._text else None
        if written is None:
            return _NONE_OF
        operator = f"{'<> ALL' if written[1] else '= ANY'}{'(' if written[0].endswith('(') else ''}"
        self._text[-1] = self._text[-1][: written.start()] + operator
        self._length += len(operator) - len(written[0])
        return "'{}'"

    def _list(self, key: str | int, value: Iterable[Any]) -> str:
        written, count = [], 0
        rows = False
        for each in value:
            inner = each if isinstance(each, tuple) else (each,)
            marks = [self._mark(key, count + place, one) for place, one in enumerate(inner)]
            count += len(inner)
            rows = rows or isinstance(each, tuple)
            written.append(f"({', '.join(marks)})" if isinstance(each, tuple) else marks[0])
        return f"{self._manner.rows if rows else ''}{', '.join(written)}"

    def _mark(self, key: str | int, place: int, value: Any) -> str:
        if self._style in _REPEATING or (key, place) not in self._numbers:
            self._values.append(value)
            self._numbers[key, place] = len(self._values)
        return _MARKS[self._style](self._numbers[key, place])


def _called(slot: Slot) -> str:
    return f":{slot.key}" if isinstance(slot.key, str) else f"value {slot.key + 1}"


def _packed(values: list[Any], style: Style) -> Any:
    if style in ("named", "pyformat"):
        return {f"p{number}": each for number, each in enumerate(values, 1)}
    return values if style == "dollar" else tuple(values)
