"""An expression that was read: what it uses, whether it fits, and what it is to Polars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from lokki.frozen import frozen
from twingraph.components.expressions.grammar import read
from twingraph.components.expressions.syntax import Call, Column, ExpressionError, Node, below, offered, walk
from twingraph.components.expressions.vocabulary import FUNCTIONS
from twingraph.errors import ComponentTypeError

if TYPE_CHECKING:
    from polars import DataType, Expr


@frozen
class Expression:
    """An expression that was read; `parsed` makes it."""

    text: str
    tree: Node

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it uses, in the order in which they appear."""
        return tuple(dict.fromkeys(node.name for node in walk(self.tree) if isinstance(node, Column)))

    @property
    def rowwise(self) -> bool:
        """Whether its value in a row depends on that row alone, so that rows may be computed one by one."""
        called = [FUNCTIONS.get(node.name) for node in walk(self.tree) if isinstance(node, Call)]
        return not any(each.kind in ("aggregate", "window") for each in called if each)

    @property
    def loose(self) -> Column | None:
        """The first column that stands outside of every aggregate: many values where a group has room for one."""
        return _loose(self.tree)

    def checked(self, known: Iterable[str]) -> Expression:
        """This expression, if all its columns are known; else an ExpressionError that names the nearest column."""
        names = list(known)
        for node in walk(self.tree):
            if isinstance(node, Column) and node.name not in names:
                raise self.wrong(node, f"There is no column {node.name!r}{offered(node.name, names)}")
        return self

    def polars(self, schema: Mapping[str, DataType] | None = None) -> Expr:
        """As an expression of Polars; where the types of the columns are given, they are checked as well."""
        from twingraph.components.expressions.meanings import meaning

        return meaning(self if schema is None else self.checked(schema), schema)

    def wrong(self, node: Node, sentence: str) -> ExpressionError:
        """An error at a place of this expression."""
        return ExpressionError(sentence, self.text, node.at)


@lru_cache(maxsize=512)
def _parsed(text: str) -> Expression:
    return Expression(text, read(text))


def parsed(text: str) -> Expression:
    """An expression from its text; ExpressionError shows where it cannot be read."""
    if not isinstance(text, str):
        raise ComponentTypeError(f"An expression is text like 'price > 3', not {text!r:.60}.")
    return _parsed(text)


def _loose(node: Node) -> Column | None:
    if isinstance(node, Column):
        return node
    known = FUNCTIONS.get(node.name) if isinstance(node, Call) else None
    if known is not None and known.kind == "aggregate":
        return None
    return next((found for each in below(node) if (found := _loose(each))), None)
