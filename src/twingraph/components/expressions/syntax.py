"""What an expression is made of: four kinds of nodes, each of which knows its place in the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from lokki.errors import nearest
from lokki.frozen import field, frozen
from twingraph.errors import ComponentError

_SHOWN = 100


class ExpressionError(ComponentError):
    """An expression that cannot be read or does not fit the columns.

    Attributes:
        sentence: what is wrong.
        text: the expression.
        at: the place in it, counted from 0.
        where: what the expression belongs to, which is said first.
    """

    def __init__(self, sentence: str, text: str, at: int, where: str = "") -> None:
        first = max(0, min(at - _SHOWN // 2, len(text) - _SHOWN))
        shown = re.sub(r"\s", " ", text[first : first + _SHOWN])
        super().__init__(f"{where}{sentence}\n    {shown}\n    {' ' * (at - first)}^")
        self.sentence, self.text, self.at, self.where = sentence, text, at, where

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sentence, self.text, self.at, self.where)

    def within(self, where: str) -> ExpressionError:
        """The same, which says first what the expression belongs to."""
        return ExpressionError(self.sentence, self.text, self.at, where)


@frozen
class Literal:
    """A value that is written in the expression."""

    value: str | int | float | bool | None
    at: int = field(default=0, compare=False)


@frozen
class Column:
    """A column."""

    name: str
    at: int = field(default=0, compare=False)


@frozen
class Listed:
    """A list that is written in the expression."""

    items: tuple[Node, ...]
    at: int = field(default=0, compare=False)


@frozen
class Call:
    """A function or operator with what it is applied to; an operator has its sign as name."""

    name: str
    arguments: tuple[Node, ...]
    at: int = field(default=0, compare=False)


Node: TypeAlias = Literal | Column | Listed | Call


def below(node: Node) -> tuple[Node, ...]:
    """The nodes that a node is made of."""
    match node:
        case Call():
            return node.arguments
        case Listed():
            return node.items
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it, in the order in which they are written."""
    yield node
    for each in below(node):
        yield from walk(each)


def offered(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known: the nearest one, or else all there are."""
    names = list(known)
    near = nearest(name, names)
    if near or not names:
        return near or "; there is none."
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"; there is {', '.join(names[:12])}{more}."
