"""Where in a pipeline's body a call is written: inside a `try:` that has handlers, it has to raise there."""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

from lokki.source import parsed


def tries(fn: Callable[..., Any]) -> Mapping[CodeType, frozenset[int]]:
    """The lines of the function, and of those that it wraps, that stand inside such a `try:`."""
    found: dict[CodeType, frozenset[int]] = {}
    while fn is not None:
        if isinstance(fn, FunctionType) and fn.__code__ not in found and (lines := _of(fn.__code__)):
            found[fn.__code__] = lines
        fn = getattr(fn, "__wrapped__", None)  # type: ignore[assignment]
    return found


def _of(code: CodeType) -> frozenset[int]:
    try:
        lines, first = inspect.getsourcelines(code)
        tree = parsed(textwrap.dedent("".join(lines)))
        return frozenset(first - 1 + line for line in _lines(tree))
    except (OSError, TypeError, SyntaxError):  # its text is not to be had
        return frozenset(_compiled_lines(code))


def _lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Try | ast.TryStar) and node.handlers:
            yield from range(node.body[0].lineno, (node.body[-1].end_lineno or node.body[-1].lineno) + 1)


def _compiled_lines(code: CodeType) -> Iterator[int]:
    """The same of compiled code: from where its exception table leads to an `except`."""
    compiled = dis.Bytecode(code)
    instructions = list(compiled)
    table = getattr(compiled, "exception_entries", ())
    handlers = {each.target: _is_except([one for one in instructions if one.offset >= each.target]) for each in table}

    def caught(offset: int) -> bool:
        for each in table:
            if each.start <= offset < each.end:  # the end of a `with` may itself stand in a `try:`
                return handlers[each.target] or (each.target > offset and caught(each.target))
        return False

    for one in instructions:
        if one.positions and one.positions.lineno and caught(one.offset):
            yield one.positions.lineno


def _is_except(handler: Sequence[dis.Instruction]) -> bool:
    """Whether a handler is an `except`, and not the end of a `with` or a `finally`."""
    if not handler or handler[0].opname != "PUSH_EXC_INFO":
        return False
    for each in handler[1:]:
        if each.opname in ("CHECK_EXC_MATCH", "CHECK_EG_MATCH"):
            return True
        if not each.opname.startswith(("LOAD_", "BUILD_TUPLE", "CACHE", "COPY", "BUILD_LIST", "SWAP")):
            break
    return handler[1].opname == "POP_TOP"
