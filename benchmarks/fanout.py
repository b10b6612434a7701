"""Flows that do nothing to many items, in children of 1, 10 and 100: what `deployed.py` counts and prices."""

from __future__ import annotations

from collections.abc import Iterable

from lokki import flow, step


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def unchanged(number: int) -> int:
    return number


@step
def how_many(numbers: Iterable[int]) -> int:
    return sum(1 for _ in numbers)


@flow
def by_1(count: int = 1_000):
    return numbers(count).map(unchanged).agg(how_many)


@flow
def by_10(count: int = 1_000):
    return numbers(count).map(unchanged, batch_size=10).agg(how_many)


@flow
def by_100(count: int = 1_000):
    return numbers(count).map(unchanged, batch_size=100).agg(how_many)


FLOWS = {1: by_1, 10: by_10, 100: by_100}
