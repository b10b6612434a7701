"""Which columns operations need: what is asked of a table without any record, whose columns nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from twingraph.components.expressions import Expression, ExpressionError, parsed
from twingraph.components.transforming.operations import (
    Cast,
    Deduplicate,
    Derive,
    Drop,
    Explode,
    Filter,
    Group,
    Join,
    Operation,
    Pivot,
    Rename,
    Select,
    Sort,
    Unpivot,
)


def wanted(operations: Iterable[Operation], have: Iterable[str], others: Mapping[str, Iterable[str]]) -> list[str]:
    """The columns that operations read and that neither are there, nor joined or made by an operation before."""
    known = set(have)
    missing: dict[str, None] = {}
    for operation in operations:
        for name in _read(operation):
            if name not in known:
                missing[name] = None
        known |= {*_made(operation)}
        if isinstance(operation, Join):
            known |= {*others.get(operation.other, ())}
    return list(missing)


def _read(operation: Operation) -> Iterable[str]:
    match operation:
        case Filter():
            return [name for each in operation.where for name in each.columns]
        case Derive():
            return _derived(operation)
        case Select():
            return _chosen(operation.columns)
        case Group():
            return [*_chosen(operation.by), *(each for _, made in operation.columns for each in made.columns)]
        case Sort():
            return [name for text in operation.by for name in _ordered(text)]
        case Join():
            return operation.keys[0]
        case _:
            return _named(operation)


def _named(operation: Operation) -> Iterable[str]:
    """What an operation reads that has names of columns alone."""
    match operation:
        case Rename() | Cast():
            return [name for name, _ in operation.columns]
        case Drop() | Explode():
            return operation.columns
        case Pivot():
            return (*operation.on, *operation.index, *operation.values)
        case Unpivot():
            return (*operation.on, *operation.index)
        case Deduplicate():
            return operation.by
        case _:
            return ()


def _chosen(columns: tuple[tuple[str, Expression | None], ...]) -> Iterator[str]:
    for name, expression in columns:
        yield from (name,) if expression is None else expression.columns


def _derived(operation: Derive) -> Iterator[str]:
    before: set[str] = set()
    for name, expression in operation.columns:
        yield from (each for each in expression.columns if each not in before)
        before.add(name)


def _ordered(text: str) -> tuple[str, ...]:
    try:
        return parsed(text.removeprefix("-")).columns
    except ExpressionError:
        return (text.removeprefix("-"),)


def _made(operation: Operation) -> Iterator[str]:
    match operation:
        case Derive() | Select():
            yield from (name for name, _ in operation.columns)
        case Group():
            yield from (name for name, _ in (*operation.by, *operation.columns))
        case Rename():
            yield from (name for _, name in operation.columns)
        case Unpivot():
            yield from (operation.names, operation.values)
        case _:
            return
