"""What an expression means: its tree as an expression of Polars, from the leaves up.

Where the types of the columns are known, each call is checked against them when it is made, on a frame without rows, so
that the error stands at the innermost place that is wrong. Small whole numbers become ones of 64 bits before anything
is computed with them, because Polars lets them overflow without a word.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from twingraph.components.expressions.datatypes import (
    KINDS,
    TYPES,
    empty_of,
    fits,
    is_pattern,
    kind_of,
    told,
    without_rows,
)
from twingraph.components.expressions.functions import Function, Typed
from twingraph.components.expressions.instants import instant
from twingraph.components.expressions.syntax import Call, Column, ExpressionError, Listed, Literal, Node, offered
from twingraph.components.expressions.vocabulary import FUNCTIONS

if TYPE_CHECKING:
    from polars import DataType, Expr

    from twingraph.components.expressions.expression import Expression

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow,
}  # fmt: skip
_TRUTHS = {*_COMPARISONS, "and", "or", "not", "in", "is_null", "is_not_null"}
"""What is true or false whatever it is applied to; a mistake that only Polars sees is found when the whole is tried."""
_INSTANTS = {"date", "datetime", "timestamp"}


def meaning(expression: Expression, schema: Mapping[str, DataType] | None) -> Expr:
    """An expression as Polars has it; ExpressionError shows what does not go with the types of the columns."""
    return _Meaning(expression, schema).whole()


class _Meaning:
    """Makes the expressions of Polars for one tree, and keeps them to find the culprit."""

    def __init__(self, expression: Expression, schema: Mapping[str, DataType] | None) -> None:
        self.expression = expression
        self.schema = schema
        self.frame = None if schema is None else without_rows(schema)
        self.made: list[tuple[Node, Expr]] = []

    def whole(self) -> Expr:
        from polars.exceptions import PolarsError

        tree = self.expression.tree
        value = _written(tree, self.of(tree))
        if self.frame is not None:
            try:
                self.frame.select(value).collect()
            except PolarsError as error:
                raise self.culprit(error) from error
        return value

    def culprit(self, error: Exception) -> ExpressionError:
        """The error at the innermost call that fails alone."""
        from polars.exceptions import PolarsError

        assert self.frame is not None
        for node, value in self.made:
            try:
                self.frame.select(value).collect()
            except PolarsError as found:
                return self.wrong(node, _first_line(found))
        return self.wrong(self.expression.tree, _first_line(error))

    def wrong(self, node: Node, sentence: str) -> ExpressionError:
        return self.expression.wrong(node, sentence)

    def of(self, node: Node) -> Typed:
        """A node as an expression of Polars, with its type if that is known."""
        match node:
            case Literal():
                return _literal(node.value)
            case Column():
                return self.column(node)
            case Listed():
                raise self.wrong(node, "A list has its place after 'in'.")
            case Call():
                return self.called(node)

    def column(self, node: Column) -> Typed:
        import polars as pl

        name = node.name
        if is_pattern(name):
            raise self.wrong(node, f"A column named {name!r} cannot be used in an expression; rename it first.")
        return Typed(pl.col(name), None if self.schema is None else self.schema[name])

    def called(self, node: Call) -> Typed:
        """A call, made and checked."""
        import polars as pl
        from polars.exceptions import PolarsError

        try:
            value = self.apply(node)
            self.made.append((node, value))
            if self.frame is None or node.name in _TRUTHS:
                return Typed(value, None if self.frame is None else pl.Boolean())
            (dtype,) = self.frame.select(value.alias("x")).collect_schema().dtypes()
        except ExpressionError:
            raise
        except (PolarsError, ValueError, TypeError, OverflowError) as error:
            raise self.wrong(node, _first_line(error)) from error
        return Typed(value, dtype)

    def apply(self, node: Call) -> Expr:
        name = node.name
        if name in _COMPARISONS:
            return self.compared(node)
        if name in _ARITHMETIC:
            return self.computed(node)
        match name, node.arguments:
            case "and" | "or", parts:
                conditions = [self.kinded(each, "Condition") for each in parts]
                return _balanced(operator.and_ if name == "and" else operator.or_, conditions)
            case "not", (part,):
                return ~self.kinded(part, "Condition")
            case "negative", (part,):
                return -_wide(part, self.of(part))
            case "in", (left, right):
                return self.member(node, left, right)
            case "field", (left, Literal(value=str() as field)):
                return self.field(node, left, field)
            case "item", (left, right):
                return self.kinded(left, "Many").list.get(self.kinded(right, "Number"), null_on_oob=True)
        return self.function(node, FUNCTIONS[name])

    def compared(self, node: Call) -> Expr:
        left, right = node.arguments
        for one, other in ((left, right), (right, left)):
            if isinstance(other, Literal) and other.value is None and node.name in ("==", "!="):
                value = self.of(one).value
                return value.is_null() if node.name == "==" else value.is_not_null()
        first, second = self.alike(node, left, right)
        compared: Expr = _COMPARISONS[node.name](first, second)
        return compared

    def alike(self, node: Node, left: Node, right: Node) -> tuple[Expr, Expr]:
        """Two values that can be compared; text that is written beside a date is read as one."""
        first, second = self.of(left), self.of(right)
        if first.type is None or second.type is None:
            return first.value, second.value
        kinds = kind_of(first.type), kind_of(second.type)
        if kinds == ("Time", "Text") and isinstance(right, Literal):
            return first.value, self.instant(right, first.type)
        if kinds == ("Text", "Time") and isinstance(left, Literal):
            return self.instant(left, second.type), second.value
        if kinds[0] != kinds[1] and "Null" not in kinds:
            raise self.wrong(node, f"Values that are {told(first.type)} and {told(second.type)} cannot be compared.")
        return first.value, second.value

    def instant(self, node: Literal, dtype: DataType) -> Expr:
        import polars as pl

        try:
            return pl.lit(instant(str(node.value), dtype))
        except ValueError as error:
            raise self.wrong(node, f"A date or time in ISO 8601 is expected here: {error}.") from error

    def computed(self, node: Call) -> Expr:
        left, right = node.arguments
        first, second = self.of(left), self.of(right)
        kinds = [kind_of(each.type) for each in (first, second) if each.type is not None]
        fits = set(kinds) <= {"Number", "Time", "Null"} or (node.name == "+" and set(kinds) <= {"Text", "Null"})
        if len(kinds) == 2 and not fits:
            types = " and ".join(told(each.type) for each in (first, second) if each.type is not None)
            raise self.wrong(node, f"{node.name!r} does not go with {types}.")
        base, operand = _operand(left, _typed(first, second)), _operand(right, _typed(second, first))
        if node.name == "**" and not (isinstance(right, Literal) and type(right.value) is int and right.value >= 0):
            import polars as pl

            base = base.cast(pl.Float64)
        computed: Expr = _ARITHMETIC[node.name](base, operand)
        return computed

    def member(self, node: Call, left: Node, right: Node) -> Expr:
        """Whether a value is in a list, one that is written or one of a column."""
        if not isinstance(right, Listed):
            made = self.of(right)
            if made.type is not None and kind_of(made.type) == "Text":
                raise self.wrong(node, "'in' looks into lists; for text it is contains(x, part).")
            return self.kinded(right, "Many").list.contains(self.of(left).value)
        return self.listed(node, left, right.items)

    def listed(self, node: Call, left: Node, items: tuple[Node, ...]) -> Expr:
        import polars as pl

        value = self.of(left)
        written = [each for each in items if not (isinstance(each, Literal) and each.value is None)]
        series = _series(value.type, [each.value if isinstance(each, Literal) else each for each in written])
        if series is not None:
            found = value.value.is_in(series)
        elif not written:
            found = pl.when(value.value.is_not_null()).then(False)
        else:
            pairs = [self.alike(each, left, each) for each in written]
            found = _balanced(operator.or_, [one == other for one, other in pairs])
        return found if len(written) == len(items) else found.fill_null(False) | value.value.is_null()

    def field(self, node: Call, left: Node, name: str) -> Expr:
        import polars as pl

        made = self.of(left)
        if made.type is not None:
            if not isinstance(made.type, pl.Struct):
                raise self.wrong(node, f"Only a record has fields, and this is {told(made.type)}.")
            names = [each.name for each in made.type.fields]
            if name not in names:
                raise self.wrong(node, f"There is no field {name!r}{offered(name, names)}")
        return made.value.struct.field(name)

    def function(self, node: Call, known: Function) -> Expr:
        if node.name in _INSTANTS and len(node.arguments) == 1:
            (written,) = node.arguments
            if isinstance(written, Literal) and isinstance(written.value, str):
                from twingraph.components.expressions.datatypes import named_type

                return self.instant(written, named_type(node.name))
        same: list[Typed] = []
        given = [self.argument(node, known, place, same) for place in range(len(node.arguments))]
        return known.make(*given)

    def argument(self, node: Call, known: Function, place: int, same: list[Typed]) -> Any:
        """An argument as the function wants it; those that must be of one kind are compared with the first."""
        argument, hint = node.arguments[place], _hint(known, place, len(node.arguments))
        if known.setting(place):
            assert isinstance(argument, Literal)
            if known.parameter(place).name == "to" and argument.value not in TYPES:
                raise self.wrong(argument, f"There is no type {argument.value!r}{offered(str(argument.value), TYPES)}")
            return argument.value
        if hint in KINDS:
            return self.kinded(argument, hint)
        made = Typed(*self.of(argument))
        if hint == "Typed":
            return made
        if hint == "Same":
            self.compare_kinds(argument, made, same)
        return _written(argument, made)

    def compare_kinds(self, node: Node, made: Typed, same: list[Typed]) -> None:
        if made.type is None or kind_of(made.type) == "Null":
            return
        for other in same:
            if other.type is not None and kind_of(other.type) != kind_of(made.type):
                raise self.wrong(node, f"This is {told(made.type)}, but the value before is {told(other.type)}.")
        same.append(made)

    def kinded(self, node: Node, kind: str) -> Expr:
        """A value that has to be of a kind."""
        import polars as pl

        made = self.of(node)
        if made.type is None:
            return made.value
        if kind_of(made.type) == "Null":
            return made.value.cast(empty_of(kind))
        if not fits(made.type, kind):
            raise self.wrong(node, f"{KINDS[kind].capitalize()} is expected here, but this is {told(made.type)}.")
        if kind == "Text" and not isinstance(made.type, pl.String):
            return made.value.cast(pl.String)
        return _wide(node, made) if kind == "Number" else made.value


def _hint(known: Function, place: int, count: int) -> str:
    """What kind of argument stands at a place; in `when` conditions and values take turns."""
    if known.name == "when" and place >= 2:
        return "Condition" if place % 2 == 0 and place < count - 1 else "Same"
    return str(known.parameter(place).hint).removesuffix(" | None")


def _literal(value: str | int | float | bool | None) -> Typed:
    import polars as pl

    if value is None:
        return Typed(pl.lit(None), pl.Null())
    types: dict[type, DataType] = {str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean()}
    return Typed(pl.lit(value), types[type(value)])


def _written(node: Node, made: Typed) -> Expr:
    """A whole number that is written down as one of 64 bits, anything else as it is."""
    import polars as pl

    return pl.lit(node.value, dtype=pl.Int64) if isinstance(node, Literal) and type(node.value) is int else made.value


def _wide(node: Node, made: Typed) -> Expr:
    """A whole number in 64 bits, if its type is known to be a smaller one; anything else as it is."""
    import polars as pl

    small = made.type is not None and made.type.is_integer() and made.type not in (pl.Int64, pl.UInt64, pl.Int128)
    return made.value.cast(pl.Int64) if small else _written(node, made)


def _typed(made: Typed, other: Typed) -> Typed:
    """Nothing at all as nothing of the type that it is put together with: Polars computes with nothing less."""
    import polars as pl

    if made.type is None or other.type is None or kind_of(made.type) != "Null":
        return made
    dtype = pl.Int64() if kind_of(other.type) == "Null" else other.type
    return Typed(made.value.cast(dtype), dtype)


def _operand(node: Node, made: Typed) -> Expr:
    """An operand; a number that is written down takes the type of the other one."""
    return made.value if isinstance(node, Literal) else _wide(node, made)


def _series(dtype: DataType | None, values: list[Any]) -> Any:
    """Values as a column of a type in which each of them is exactly itself, or None."""
    import polars as pl

    kinds = {type(each) for each in values}
    fit: set[type] = {str} if dtype is None or isinstance(dtype, pl.String) else set()
    if dtype is not None and dtype.is_integer():
        fit = {int}
    elif isinstance(dtype, pl.Float64):
        fit = {int, float}
    if not values or not kinds <= fit:
        return None
    try:
        return pl.Series(values, dtype=dtype or pl.String).implode()
    except (OverflowError, TypeError):
        return None


def _balanced(operation: Callable[[Any, Any], Any], parts: list[Any]) -> Expr:
    """Many conditions as one, as a shallow tree: Polars walks through a deep one by recursion."""
    while len(parts) > 1:
        parts = [reduce(operation, parts[at : at + 2]) for at in range(0, len(parts), 2)]
    first: Expr = parts[0]
    return first


def _first_line(error: Exception) -> str:
    line = str(error).strip().split("\n", 1)[0].rstrip(".:")
    return f"{line[:1].upper()}{line[1:]}."
