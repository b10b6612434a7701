"""A statement as it was written: where values go in it, whether it is one, and what it begins with.

The text is read as databases do, past strings, quoted names and comments, so that nothing in them is taken for the
place of a value. Values never become part of it: they go to the database beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from twingraph.errors import ComponentError

_TOKEN = re.compile(
    r"""
      (?P<blank>    \s+ | --[^\n]* | /\*)
    | (?P<text>     [eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*')
    | (?P<name>     "(?:[^"]|"")*" | `[^`]*`)
    | (?P<tag>      \$(?:[A-Za-z_]\w*)?\$)
    | (?P<escaped>  \\:)
    | (?P<named>    (?<![\w:'"\])}]):[A-Za-z_]\w*)
    | (?P<mark>     \?+)
    | (?P<word>     [^\W\d]\w*)
    | (?P<other>    ::?|\d[\w.]*|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_COMPOUND = frozenset({"TRIGGER", "FUNCTION", "PROCEDURE", "EVENT"})
_AFTER_END = frozenset({"IF", "LOOP", "WHILE", "REPEAT", "CASE"})
_TRANSACTIONS = frozenset({"BEGIN", "START", "COMMIT", "ROLLBACK", "END", "ABORT", "SAVEPOINT", "RELEASE"})
_READING = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "FROM"})
_CHANGING = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "INTO"})
_ORDINARY = _READING | _CHANGING | {"REPLACE", "EXPLAIN", "SHOW", "DESCRIBE", "CREATE", "ALTER", "DROP", "TRUNCATE"}
_TEMPORARY = frozenset({"TEMP", "TEMPORARY"})
_SHOWN = 40


@dataclass(frozen=True)
class Slot:
    """Where a value goes: the name or the number of it, and its place in the text.

    Attributes:
        listed: it stands in a list, after IN: several values may stand there.
        alone: it is all of that list.
        bare: the list has no parentheses of its own.
    """

    key: str | int
    start: int
    end: int
    listed: bool = False
    alone: bool = False
    bare: bool = False


@dataclass(frozen=True)
class Escape:
    """What stands for one sign of SQL that would be taken for the place of a value."""

    sign: str
    start: int
    end: int


@dataclass(frozen=True)
class Statement:
    """One statement; `text` ends where it does, without a semicolon."""

    text: str
    parts: tuple[Slot | Escape, ...]
    words: tuple[str, ...]

    @property
    def first(self) -> str:
        """The word that it begins with, in capitals."""
        return self.words[0] if self.words else ""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where values go."""
        return tuple(each for each in self.parts if isinstance(each, Slot))

    @cached_property
    def reads(self) -> bool:
        """Whether it surely does nothing but read, apart from what functions do that it calls."""
        return self.first in _READING and _CHANGING.isdisjoint(self.words)

    @cached_property
    def marks_session(self) -> bool:
        """Whether it may leave something in the connection that a later call would meet, such as a setting."""
        if self.first in ("CREATE", "SELECT", "WITH") and not _TEMPORARY.isdisjoint(self.words):
            return self.first == "CREATE" or "INTO" in self.words
        return self.first not in _ORDINARY

    def place(self, offset: int) -> tuple[int, int]:
        """The line and the column of an offset, from 1."""
        return place(self.text, offset)


def place(text: str, offset: int) -> tuple[int, int]:
    """The line and the column of an offset in a text, from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def shown(text: str, most: int = _SHOWN) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: most * 4].split())
    return line if len(line) <= most else line[:most] + "…"


@lru_cache(maxsize=512)
def parsed(sql: str, marks: bool = False) -> Statement:
    """The statement that a text holds; with `marks`, values go where a `?` stands (`??` is the sign itself)."""
    reading = _Reading(sql, marks)
    for token in _tokens(sql):
        reading.take(*token)
    if not reading.end:
        raise ComponentError("The SQL holds no statement.")
    found = Statement(sql[: reading.end], reading.parts(), tuple(reading.words))
    if found.first in _TRANSACTIONS:
        raise ComponentError(
            f"The SQL is {shown(sql)!r}, and a call is a transaction of its own: leave {found.first} out, and give "
            "params a list of dicts to run a statement for several rows at once."
        )
    return found


def _tokens(sql: str) -> Iterator[tuple[str, str, int, int]]:
    """The kind, text, start and end of each token but blanks and comments."""
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        assert match is not None  # the last alternative takes any sign
        kind, text, end = str(match.lastgroup), match.group(), match.end()
        if text == "/*":
            end = _after_comment(sql, end)
        elif kind == "tag":
            kind, closing = "text", sql.find(text, end)
            end = len(sql) if closing < 0 else closing + len(text)
        if kind != "blank":
            yield kind, text, at, end
        at = end


def _after_comment(sql: str, at: int) -> int:
    """Where a comment ends that may hold others."""
    depth = 1
    for match in _COMMENT.finditer(sql, at):
        depth += 1 if match.group() == "/*" else -1
        if not depth:
            return match.end()
    return len(sql)


class _Reading:
    """What is known of a statement as far as it is read."""

    def __init__(self, sql: str, marks: bool) -> None:
        self.sql = sql
        self.marks = marks
        self.words: list[str] = []
        self.end = 0
        self._parts: list[Slot | Escape] = []
        self._lists: list[bool] = []  # of each open parenthesis, whether it holds a list after IN
        self._blocks = 0  # BEGIN and CASE that are open in the body of a trigger or function
        self._last = ""  # the last token, words in capitals
        self._closed = False  # a semicolon was read
        self._marks = 0
        self._sole: dict[int, int] = {}  # by the end of a slot after a parenthesis its place in the parts

    def take(self, kind: str, text: str, start: int, end: int) -> None:
        """Read one token."""
        if kind == "other" and text == ";" and not self._blocks:
            self._closed = True
            return
        if self._closed:
            line, column = place(self.sql, start)
            raise ComponentError(
                f"The SQL holds several statements; the second begins at line {line}, column {column} "
                f"({shown(self.sql[start:])!r}): a call takes one."
            )
        told = text.upper() if kind == "word" else text
        match kind:
            case "word":
                self._word(told)
            case "named":
                self._slot(text[1:], start, end)
            case "mark" if self.marks:
                self._mark(text, start, end)
            case "escaped":
                self._parts.append(Escape(":", start, end))
            case "other":
                self._sign(text)
        self._last, self.end = told, end

    def parts(self) -> tuple[Slot | Escape, ...]:
        """Where values and escapes stand."""
        return tuple(self._parts)

    def _word(self, word: str) -> None:
        self.words.append(word)
        if self._last == "(" and self._lists and word in ("SELECT", "WITH", "VALUES"):
            self._lists[-1] = False
        if self.words[0] == "CREATE" and not _COMPOUND.isdisjoint(self.words[:8]):
            if word == "END":
                self._blocks = max(self._blocks - 1, 0)
            elif word in ("BEGIN", "CASE") and not (self._last == "END" and word in _AFTER_END):
                self._blocks += 1
            elif self._last == "END" and word in _AFTER_END:
                self._blocks += 1  # END IF closes what opened none

    def _sign(self, sign: str) -> None:
        if sign == "(":
            self._lists.append(self._last == "IN")
        elif sign == ")" and self._lists:
            self._lists.pop()
            if self._sole.get(self.end) == len(self._parts) - 1 >= 0:  # the slot is all that there is
                slot = self._parts[-1]
                assert isinstance(slot, Slot)
                self._parts[-1] = Slot(slot.key, slot.start, slot.end, listed=True, alone=True)

    def _slot(self, key: str | int, start: int, end: int) -> None:
        bare = self._last == "IN"
        listed = bare or (bool(self._lists) and self._lists[-1] and self._last in ("(", ","))
        if listed and self._last == "(":
            self._sole[end] = len(self._parts)
        self._parts.append(Slot(key, start, end, listed=listed, alone=bare, bare=bare))

    def _mark(self, text: str, start: int, end: int) -> None:
        if text == "?":
            self._slot(self._marks, start, end)
            self._marks += 1
        elif len(text) % 2 == 0:
            self._parts.append(Escape("?" * (len(text) // 2), start, end))
        else:
            raise ComponentError(f"The SQL has {text!r}: ? stands for a value, and ?? for the sign itself.")
