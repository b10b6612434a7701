"""All functions of the language of expressions, by name."""

from __future__ import annotations

from twingraph.components.expressions import aggregates, rowwise
from twingraph.components.expressions.functions import Function

FUNCTIONS: dict[str, Function] = {
    each.name: each for room in (rowwise, aggregates) for each in vars(room).values() if isinstance(each, Function)
}
"""What may be called in an expression."""
