"""The operations of `DataTransform`: what each is made of, how it is read from JSON, and the JSON schema of all.

An operation is a dict with its name and what it takes: `{"sort": "-price"}`, or with every field said,
`{"sort": {"by": "price", "descending": true}}`. What an operation does is said in `queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lokki.frozen import frozen
from twingraph.components.expressions import Expression, ExpressionError
from twingraph.components.expressions.syntax import offered
from twingraph.components.transforming.shapes import (
    COLUMNS,
    EXPRESSIONS,
    FLAG,
    INPUT,
    NAMED_EXPRESSIONS,
    NAMED_TEXTS,
    NAMED_TYPES,
    NAMES,
    ORDER,
    SHARE,
    TEXT,
    VALUES,
    WHOLE,
    Misshapen,
    Shape,
    choice,
)
from twingraph.errors import ComponentError

Named: TypeAlias = tuple[tuple[str, Expression], ...]


@frozen
class Filter:
    """Keep the rows in which every condition holds."""

    where: tuple[Expression, ...]


@frozen
class Select:
    """Keep these columns, in this order; an expression makes a new one."""

    columns: tuple[tuple[str, Expression | None], ...]


@frozen
class Drop:
    """Leave these columns out."""

    columns: tuple[str, ...]


@frozen
class Derive:
    """Add columns, or replace them; each may use those before it."""

    columns: Named


@frozen
class Rename:
    """Give columns other names."""

    columns: tuple[tuple[str, str], ...]


@frozen
class Cast:
    """Change the types of columns; `int?` makes a value missing that does not fit."""

    columns: tuple[tuple[str, str], ...]


@frozen
class Sort:
    """Put the rows in order; those that are equal keep theirs, and missing values come last."""

    by: tuple[str, ...]
    descending: bool = False
    nulls: str = "last"


@frozen
class Group:
    """One row for all rows with the same values, in the order in which those first appear; without `by`, for all."""

    by: tuple[tuple[str, Expression | None], ...]
    columns: Named


@frozen
class Join:
    """Put the columns of another input beside those of rows with the same keys; missing keys match nothing."""

    other: str
    on: tuple[str, ...] = ()
    left_on: tuple[str, ...] = ()
    right_on: tuple[str, ...] = ()
    how: str = "inner"
    suffix: str = "_right"
    validate: str = "m:m"

    @property
    def keys(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The keys on this side and on the other."""
        return self.left_on or self.on, self.right_on or self.on


@frozen
class Pivot:
    """Make columns of the values of a column; without `columns` the query is run up to here to know which."""

    on: tuple[str, ...]
    values: tuple[str, ...]
    index: tuple[str, ...] = ()
    aggregate: str = "only"
    columns: tuple[Any, ...] = ()


@frozen
class Unpivot:
    """Make rows of columns, each with the column's name and value."""

    on: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    names: str = "name"
    values: str = "value"


@frozen
class Explode:
    """Make a row of each value in a list."""

    columns: tuple[str, ...]


@frozen
class Sample:
    """Choose so many rows, or a share of them, by chance; the same seed chooses the same, and their order stays."""

    n: int | None = None
    fraction: float | None = None
    seed: int = 0


@frozen
class Deduplicate:
    """Keep one row of those that are equal, or have the same values in some columns; `none` keeps no such row."""

    by: tuple[str, ...] = ()
    keep: str = "first"


@frozen
class Limit:
    """Keep so many rows, after leaving some out."""

    n: int
    offset: int = 0


Operation: TypeAlias = (
    Filter | Select | Drop | Derive | Rename | Cast | Sort | Group | Join | Pivot | Unpivot | Explode | Sample
    | Deduplicate | Limit
)  # fmt: skip


@frozen
class Form:
    """How an operation is written: its fields, and the one that a bare value stands for.

    One that is `whole` takes nothing besides, so that a dict is the value of that field too.
    """

    make: type
    short: str
    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    whole: bool = False


HOWS = ("inner", "left", "right", "full", "semi", "anti", "cross")
_MANY = ("m:m", "m:1", "1:m", "1:1")
_AGGREGATES = ("only", "first", "last", "sum", "mean", "median", "min", "max", "count")
_RENAMED = {"with": "other"}
"""Fields whose names Python keeps for itself."""

FORMS: dict[str, Form] = {
    "filter": Form(Filter, "where", {"where": EXPRESSIONS}, ("where",)),
    "select": Form(Select, "columns", {"columns": COLUMNS}, ("columns",), whole=True),
    "drop": Form(Drop, "columns", {"columns": NAMES}, ("columns",)),
    "derive": Form(Derive, "columns", {"columns": NAMED_EXPRESSIONS}, ("columns",), whole=True),
    "rename": Form(Rename, "columns", {"columns": NAMED_TEXTS}, ("columns",), whole=True),
    "cast": Form(Cast, "columns", {"columns": NAMED_TYPES}, ("columns",), whole=True),
    "sort": Form(Sort, "by", {"by": ORDER, "descending": FLAG, "nulls": choice("last", "first")}, ("by",)),
    "group": Form(Group, "by", {"by": COLUMNS}),
    "join": Form(
        Join,
        "with",
        {
            "with": INPUT, "on": NAMES, "left_on": NAMES, "right_on": NAMES, "how": choice(*HOWS), "suffix": TEXT,
            "validate": choice(*_MANY),
        },
        ("with",),
    ),
    "pivot": Form(
        Pivot,
        "on",
        {"on": NAMES, "values": NAMES, "index": NAMES, "aggregate": choice(*_AGGREGATES), "columns": VALUES},
        ("on", "values"),
    ),
    "unpivot": Form(Unpivot, "on", {"on": NAMES, "index": NAMES, "names": TEXT, "values": TEXT}),
    "explode": Form(Explode, "columns", {"columns": NAMES}, ("columns",)),
    "sample": Form(Sample, "n", {"n": WHOLE, "fraction": SHARE, "seed": WHOLE}),
    "deduplicate": Form(Deduplicate, "by", {"by": NAMES, "keep": choice("first", "last", "any", "none")}),
    "limit": Form(Limit, "n", {"n": WHOLE, "offset": WHOLE}, ("n",)),
}  # fmt: skip
"""The operations by name."""


def named(number: int, kind: str) -> str:
    """How an error names an operation; they are counted from 1."""
    return f"DataTransform: operation {number} ({kind}): "


def kind_of(operation: Operation) -> str:
    """The name of an operation."""
    return type(operation).__name__.lower()


def operations_of(given: Sequence[Any]) -> tuple[Operation, ...]:
    """Operations from JSON; an error names the first one that is wrong."""
    return tuple(_operation(number, each) for number, each in enumerate(given, 1))


def _operation(number: int, given: Any) -> Operation:
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ComponentError(
            f"DataTransform: operation {number} is {str(given)[:60]}; an operation is a dict with its name alone, "
            'as {"filter": "price > 3"}.'
        )
    ((kind, value),) = given.items()
    if kind not in FORMS:
        raise ComponentError(f"DataTransform: operation {number}: there is no operation {kind!r}{offered(kind, FORMS)}")
    where = named(number, kind)
    try:
        made = _group(value, where) if kind == "group" else _made(FORMS[kind], value, where)
        problem = _problem(made)
    except ExpressionError as error:
        raise error.within(where) from None
    if problem:
        raise ComponentError(where + problem)
    return made


def _made(form: Form, value: Any, where: str) -> Any:
    """An operation from what stands after its name."""
    if value is True and not form.required:
        value = {}
    if form.whole or not isinstance(value, Mapping):
        value = {form.short: value}
    for name in value:
        if name not in form.fields:
            raise ComponentError(f"{where}it has no field {name!r}{offered(str(name), form.fields)}")
    for name in form.required:
        if name not in value:
            raise ComponentError(f"{where}its field {name!r} is missing; it is {form.fields[name].words}.")
    return form.make(**{_RENAMED.get(name, name): _read(form, name, given, where) for name, given in value.items()})


def _read(form: Form, name: str, given: Any, where: str) -> Any:
    shape = form.fields[name]
    try:
        return shape.read(given)
    except Misshapen as problem:
        field = "it" if form.whole or name == form.short != "with" else repr(name)
        sentence = str(problem) or f"{field} takes {shape.words}, not {repr(given)[:60]}."
        raise ComponentError(where + sentence) from None


def _group(value: Any, where: str) -> Group:
    given = dict(value) if isinstance(value, Mapping) else {"by": value}
    by = given.pop("by", None)
    keys = _read(FORMS["group"], "by", by, where) if by not in (None, [], ()) else ()
    columns = NAMED_EXPRESSIONS.read(given) if given and all(isinstance(each, str) for each in given.values()) else ()
    if len(columns) < len(given):
        raise ComponentError(f"{where}it takes 'by' and {NAMED_EXPRESSIONS.words}, not {repr(value)[:60]}.")
    if not keys and not columns:
        raise ComponentError(f"{where}it takes columns in 'by', aggregates such as 'total': 'sum(price)', or both.")
    return Group(keys, columns)


def _problem(operation: Operation) -> str:
    """What is wrong with the fields of an operation together."""
    match operation:
        case Group():
            for _, expression in operation.columns:
                if (column := expression.loose) is not None:
                    sentence = f"{column.name!r} has many values in a group; take sum(), first() or list() of them."
                    raise expression.wrong(column, sentence)
        case Join(how="cross"):
            return "a cross join has no keys." if any(operation.keys) else ""
        case Join():
            left, right = operation.keys
            if not left or len(left) != len(right):
                return "say its keys as 'on', or as many in 'left_on' as in 'right_on'."
        case Sample():
            return "" if (operation.n is None) != (operation.fraction is None) else "say either 'n' or 'fraction'."
        case Pivot(columns=columns, on=on) if columns and len(on) > 1:
            return "'columns' are the values of one column."
    return ""


def schema() -> dict[str, Any]:
    """The JSON schema of a list of operations, for forms and for whoever checks before sending."""
    return {"type": "array", "items": {"anyOf": [_schema_of(kind, form) for kind, form in FORMS.items()]}}


def _schema_of(kind: str, form: Form) -> dict[str, Any]:
    fields = {name: dict(shape.schema) for name, shape in form.fields.items()}
    full: dict[str, Any] = {"type": "object", "properties": fields, "additionalProperties": False}
    if kind == "group":
        full["additionalProperties"] = TEXT.schema
    if form.required:
        full["required"] = list(form.required)
    short = fields[form.short]
    value = short if form.whole else {"anyOf": [short, full, *([] if form.required else [{"const": True}])]}
    return {
        "type": "object",
        "title": kind,
        "description": (form.make.__doc__ or "").strip(),
        "properties": {kind: value},
        "required": [kind],
        "additionalProperties": False,
    }
