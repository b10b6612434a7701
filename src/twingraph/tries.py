"""Where in a pipeline's body a call is written: inside a `try:` that has handlers, it has to raise there."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from lokki.source import parsed


def tries(fn: Callable[..., Any]) -> Mapping[CodeType, frozenset[int]]:
    """The lines of the function that stand inside such a `try:`; none where its text is not to be had."""
    if not isinstance(fn, FunctionType):
        return {}
    try:
        lines, first = inspect.getsourcelines(fn)
        tree = parsed(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return {}
    found = frozenset(first - 1 + line for line in _lines(tree))
    return {fn.__code__: found} if found else {}


def _lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Try | ast.TryStar) and node.handlers:
            yield from range(node.body[0].lineno, (node.body[-1].end_lineno or node.body[-1].lineno) + 1)
