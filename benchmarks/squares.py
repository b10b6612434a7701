"""A flow that squares many numbers: `handwritten.py` measures it beside a state machine that somebody wrote by hand."""

from __future__ import annotations

from collections.abc import Iterable

from lokki import flow, step

AT_ONCE = 20  # children; each is a process of its own on this machine


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def square(number: int) -> int:
    return number * number


@step
def gathered(squares: Iterable[int]) -> list[int]:
    return list(squares)


@flow
def squares(count: int = 1_000):
    return numbers(count).map(square, concurrency_limit=AT_ONCE).agg(gathered)
