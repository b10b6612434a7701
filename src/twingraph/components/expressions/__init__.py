"""The language of expressions: from `price * quantity > 10 and city in ['Bern', 'Basel']` to an expression of Polars.

A text is read by the `grammar` into a tree of the nodes in `syntax`; nothing is ever given to `eval`, and length and
depth are bounded. What a tree means is said in `meanings`, what the functions do in `vocabulary`. Every error shows the
expression with a caret below the place.
"""

from __future__ import annotations

from twingraph.components.expressions.expression import Expression, parsed
from twingraph.components.expressions.syntax import ExpressionError

__all__ = ["Expression", "ExpressionError", "parsed"]
