"""How an expression is read: its text is cut into tokens, and those are put together by how tightly they bind.

From loose to tight: `a if c else b`, `or`, `and`, `not`, comparisons (which chain as in Python, `0 < x <= 9`) with `in`
and `is None`, `+ -`, `* / // %`, a sign, `**`, and last `person.name` and `list[0]`. A column whose name is no plain
name stands in backticks or in `column('...')`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from twingraph.components.expressions.syntax import Call, Column, ExpressionError, Listed, Literal, Node, below, offered
from twingraph.components.expressions.vocabulary import FUNCTIONS

LONGEST = 10_000
"""Characters of an expression."""
DEEPEST = 100
"""Levels of an expression's tree."""
NESTED = 32
"""Brackets, signs and `not`s within each other: each is a dozen calls of the reader."""

_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "None": None, "null": None}
_WORDS = {"and", "or", "not", "in", "is", "if", "else", *_CONSTANTS}
_INSTEAD = {"&": "and", "&&": "and", "|": "or", "||": "or", "!": "not", "~": "not", "=": "==", "<>": "!=", "^": "**"}
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_TOKEN = re.compile(
    r"""
      (?P<space> \s+)
    | (?P<number> (?: \d[\d_]* (?: \.\d* )? | \.\d+ ) (?: [eE][+-]?\d+ )?)
    | (?P<name> [^\W\d]\w*)
    | (?P<text> '(?: [^'\\] | \\. )*' | "(?: [^"\\] | \\. )*")
    | (?P<quoted> `[^`]+`)
    | (?P<sign> \*\* | // | == | != | <= | >= | <> | && | \|\| | [-+*/%<>=()\[\],.&|!~^])
    """,
    re.VERBOSE | re.DOTALL,
)


def read(text: str) -> Node:
    """The tree of an expression; ExpressionError shows where it cannot be read."""
    if len(text) > LONGEST:
        raise ExpressionError(f"An expression has at most {LONGEST:,} characters, not {len(text):,}.", text, LONGEST)
    return _Reader(text).whole()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(_unreadable(text[at]), text, at)
        kind, piece = str(found.lastgroup), found.group()
        if kind == "sign" and piece in _INSTEAD:
            raise ExpressionError(f"Write {_INSTEAD[piece]!r} instead of {piece!r}.", text, at)
        if kind != "space":
            yield _Token("word" if piece in _WORDS else kind, piece, at)
        at = found.end()
    yield _Token("end", "", len(text))


def _unreadable(character: str) -> str:
    if character in "'\"`":
        return f"What begins here with {character} does not end."
    return f"{character!r} has no meaning in an expression."


class _Reader:
    """Reads the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.next = 0
        self.level = 0

    def whole(self) -> Node:
        if self.peek.kind == "end":
            raise ExpressionError("An expression is expected here.", self.text, 0)
        node = self.choice()
        if self.peek.kind != "end":
            raise self.unexpected("an operator or the end")
        if _depth(node) > DEEPEST:
            raise self.too_deep(node.at)
        return node

    @property
    def peek(self) -> _Token:
        return self.tokens[self.next]

    def take(self) -> _Token:
        token = self.peek
        self.next = min(self.next + 1, len(self.tokens) - 1)
        return token

    def follows(self, *texts: str) -> bool:
        """Whether these words or signs come next; then they are taken."""
        coming = self.tokens[self.next : self.next + len(texts)]
        if [each.text for each in coming if each.kind in ("word", "sign")] != list(texts):
            return False
        self.next += len(texts)
        return True

    def expect(self, sign: str, why: str) -> None:
        if not self.follows(sign):
            raise self.unexpected(repr(sign), why)

    def unexpected(self, expected: str, why: str = "") -> ExpressionError:
        token = self.peek
        found = "the expression ends" if token.kind == "end" else f"there is {token.text!r:.40}"
        what = " ".join(filter(None, (expected[:1].upper() + expected[1:], "is expected here", why)))
        return ExpressionError(f"{what}, but {found}.", self.text, token.at)

    def too_deep(self, at: int) -> ExpressionError:
        return ExpressionError("An expression this deep is not read; derive a part of it first.", self.text, at)

    def within(self, part: Callable[[], Node]) -> Node:
        """A part that is one level deeper, so that no text makes the reader itself run out of stack."""
        self.level += 1
        if self.level > NESTED:
            raise self.too_deep(self.peek.at)
        node = part()
        self.level -= 1
        return node

    def choice(self) -> Node:
        node = self.either()
        at = self.peek.at
        if not self.follows("if"):
            return node
        condition = self.either()
        self.expect("else", "with a value for the other rows")
        return Call("if", (condition, node, self.within(self.choice)), at)

    def either(self) -> Node:
        return self.linked("or", self.both)

    def both(self) -> Node:
        return self.linked("and", self.negated)

    def linked(self, word: str, part: Callable[[], Node]) -> Node:
        """What is linked by `and` or `or`: one node however long the chain is."""
        first, at = part(), self.peek.at
        parts = [first]
        while self.follows(word):
            parts.append(part())
        return first if len(parts) == 1 else Call(word, tuple(parts), at)

    def negated(self) -> Node:
        at = self.peek.at
        if self.follows("not"):
            return Call("not", (self.within(self.negated),), at)
        return self.comparison()

    def comparison(self) -> Node:
        left = self.arithmetic(0)
        parts: list[Node] = []
        while (compared := self.compared(left)) is not None:
            part, left = compared
            parts.append(part)
        return left if not parts else parts[0] if len(parts) == 1 else Call("and", tuple(parts), parts[0].at)

    def compared(self, left: Node) -> tuple[Node, Node] | None:
        """The comparison that follows a value, and the value that it ends with."""
        at = self.peek.at
        if self.follows("is", "not"):
            return Call("is_not_null", (left,), at), self.nothing()
        if self.follows("is"):
            return Call("is_null", (left,), at), self.nothing()
        if self.follows("not", "in"):
            right = self.arithmetic(0)
            return Call("not", (Call("in", (left, right), at),), at), right
        if self.follows("in"):
            right = self.arithmetic(0)
            return Call("in", (left, right), at), right
        if self.peek.kind == "sign" and self.peek.text in _COMPARISONS:
            sign, right = self.take().text, self.arithmetic(0)
            return Call(sign, (left, right), at), right
        return None

    def nothing(self) -> Node:
        token = self.peek
        if token.text not in ("None", "null"):
            raise self.unexpected("None", "after 'is' (other values are compared with ==)")
        return Literal(None, self.take().at)

    def arithmetic(self, above: int) -> Node:
        left = self.signed()
        while self.peek.kind == "sign" and _BINDS.get(self.peek.text, 0) > above:
            sign = self.take()
            left = Call(sign.text, (left, self.arithmetic(_BINDS[sign.text])), sign.at)
        return left

    def signed(self) -> Node:
        at = self.peek.at
        if self.follows("+"):
            return self.within(self.signed)
        if self.follows("-"):
            node = self.within(self.signed)
            if isinstance(node, Literal) and type(node.value) in (int, float):
                return Literal(-node.value, at)  # type: ignore[operator]
            return Call("negative", (node,), at)
        return self.power()

    def power(self) -> Node:
        base, at = self.part_of(self.atom()), self.peek.at
        return Call("**", (base, self.within(self.signed)), at) if self.follows("**") else base

    def part_of(self, node: Node) -> Node:
        """A value with the fields and places that are taken from it."""
        while True:
            at = self.peek.at
            if self.follows("."):
                if self.peek.kind not in ("name", "quoted"):
                    raise self.unexpected("the name of a field")
                node = Call("field", (node, Literal(self.take().text.strip("`"), at)), at)
            elif self.follows("["):
                node = Call("item", (node, self.within(self.choice)), at)
                self.expect("]", "after the place in a list")
            else:
                return node

    def atom(self) -> Node:
        token = self.peek
        match token.kind:
            case "number":
                return self.number(self.take())
            case "text":
                return Literal(_unescaped(self.take().text[1:-1]), token.at)
            case "quoted":
                return Column(self.take().text[1:-1], token.at)
            case "name":
                self.take()
                return self.function(token) if self.follows("(") else Column(token.text, token.at)
            case "word" if token.text in _CONSTANTS:
                return Literal(_CONSTANTS[self.take().text], token.at)
            case "word" if token.text == "if":
                self.take()
                self.expect("(", "after 'if' where a value begins")
                return self.function(token)
        return self.bracketed()

    def bracketed(self) -> Node:
        at = self.peek.at
        if self.follows("["):
            return Listed(self.items("]"), at)
        if not self.follows("("):
            raise self.unexpected("a value")
        node = self.within(self.choice)
        if self.follows(","):
            return Listed((node, *self.items(")")), at)
        self.expect(")", "to close the bracket")
        return node

    def items(self, end: str) -> tuple[Node, ...]:
        """What stands between commas up to a closing bracket."""
        found: list[Node] = []
        while not self.follows(end):
            found.append(self.within(self.choice))
            if not self.follows(","):
                self.expect(end, "or a comma")
                break
        return tuple(found)

    def number(self, token: _Token) -> Node:
        if self.peek.kind == "name" and self.peek.at == token.at + len(token.text):
            raise ExpressionError(f"{token.text}{self.peek.text} is neither a number nor a name.", self.text, token.at)
        if re.search(r"[.eE]", token.text):
            return Literal(float(token.text), token.at)
        digits = token.text.replace("_", "").lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise ExpressionError("Whole numbers have 64 bits; write it with a point.", self.text, token.at)
        return Literal(int(digits), token.at)

    def function(self, name: _Token) -> Node:
        arguments = self.items(")")
        if name.text == "column":
            return self.column(name, arguments)
        known = FUNCTIONS.get(name.text)
        if known is None:
            raise ExpressionError(
                f"There is no function {name.text!r}{offered(name.text, FUNCTIONS)}", self.text, name.at
            )
        problem, place = known.problem(arguments)
        if problem:
            raise ExpressionError(problem, self.text, name.at if place is None else arguments[place].at)
        return Call(name.text, arguments, name.at)

    def column(self, name: _Token, arguments: Iterable[Node]) -> Node:
        match tuple(arguments):
            case (Literal(value=str() as column),):
                return Column(column, name.at)
        raise ExpressionError("column() takes the name of a column, in quotes.", self.text, name.at)


def _depth(node: Node) -> int:
    """How many levels a tree has, counted without recursion."""
    levels, current = 0, [node]
    while current:
        levels += 1
        current = [each for one in current for each in below(one)]
    return levels


def _unescaped(text: str) -> str:
    r"""Text without its escapes; a backslash before any other character stays, so that patterns read well: '\d+'."""
    pattern = r"\\(?:u([0-9a-fA-F]{4})|(.))"
    return re.sub(pattern, lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPES.get(m[2], m[0]), text, flags=re.DOTALL)
