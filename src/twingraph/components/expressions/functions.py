"""The functions of the language of expressions: each a Python function from expressions of Polars to one.

A signature is the documentation and the check at once. `Text`, `Number`, `Time` (more narrowly `Day`, `Clock`, `Span`),
`Condition`, `Many` (a list) and `Value` say what an argument is, `Same` that all of them are of one kind, `Typed` that
the function is told its type. `str`, `int` and `float` are settings, which are written in the expression as plain
values. The first line of a docstring is what the documentation says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from lokki.frozen import frozen
from lokki.signatures import EMPTY, Argument, Way, arguments
from twingraph.components.expressions.syntax import Literal as Written
from twingraph.components.expressions.syntax import Node

if TYPE_CHECKING:
    from polars import DataType, Expr

    Text: TypeAlias = Expr
    Number: TypeAlias = Expr
    Time: TypeAlias = Expr
    Day: TypeAlias = Expr
    Clock: TypeAlias = Expr
    Span: TypeAlias = Expr
    Condition: TypeAlias = Expr
    Many: TypeAlias = Expr
    Value: TypeAlias = Expr
    Same: TypeAlias = Expr

Kind: TypeAlias = Literal["text", "number", "missing", "choice", "time", "type", "list", "aggregate", "window"]
_SETTINGS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "int | None": (int,), "float": (int, float)}
_WORDS = {"str": "text in quotes", "int": "a whole number", "int | None": "a whole number", "float": "a number"}


class Typed(NamedTuple):
    """An argument together with its type, where that is known."""

    value: Expr
    type: DataType | None


@frozen
class Function:
    """A function of the language.

    Attributes:
        name: what it is called by.
        kind: what it is listed under; an aggregate makes one value of many, a window looks at other rows.
        make: from its arguments to an expression of Polars.
        parameters: what it takes.
        says: what it does, in a sentence.
    """

    name: str
    kind: Kind
    make: Callable[..., Expr]
    parameters: tuple[Argument, ...]
    says: str

    @property
    def usage(self) -> str:
        """How it is called: `round(x, digits=0)`."""
        shown = [
            f"{each.name}..." if each.way is Way.ANY_POSITIONAL
            else each.name if each.default is EMPTY
            else f"[{each.name}]" if each.default is None
            else f"{each.name}={each.default!r}"
            for each in self.parameters
        ]  # fmt: skip
        return f"{self.name}({', '.join(shown)})"

    def parameter(self, place: int) -> Argument:
        """The parameter that an argument goes to."""
        return self.parameters[min(place, len(self.parameters) - 1)]

    def setting(self, place: int) -> bool:
        """Whether the argument at a place has to be written as a plain value."""
        return self.parameter(place).hint in _SETTINGS

    def problem(self, given: Sequence[Node]) -> tuple[str, int | None]:
        """What is wrong with arguments, if anything, and with which one."""
        least = sum(each.default is EMPTY and each.way is not Way.ANY_POSITIONAL for each in self.parameters)
        endless = any(each.way is Way.ANY_POSITIONAL for each in self.parameters)
        if len(given) < least or (len(given) > len(self.parameters) and not endless):
            return f"It is called as {self.usage}, but given is {len(given) or 'nothing'}.", None
        for place, node in enumerate(given):
            hint = self.parameter(place).hint
            if hint in _SETTINGS and not _fits(node, hint):
                return f"In {self.usage}, {self.parameter(place).name} is {_WORDS[hint]}.", place
        return "", None


def _fits(node: Node, hint: str) -> bool:
    return isinstance(node, Written) and type(node.value) in _SETTINGS[hint]


def function(kind: Kind) -> Callable[[Callable[..., Expr]], Function]:
    """Make a function of the language; a trailing underscore keeps its name apart from one of Python."""

    def made(make: Callable[..., Expr]) -> Function:
        says = (make.__doc__ or "").split("\n", 1)[0]
        return Function(make.__name__.rstrip("_"), kind, make, arguments(make), says)

    return made
