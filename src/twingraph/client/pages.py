"""Lists that come a page at a time, or go a portion at a time, for both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from twingraph import wire
from twingraph.errors import ComponentTypeError


class _Known(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Known)
Item = TypeVar("Item")

_AT_ONCE = 1_000


class _Page(Generic[T]):
    def __init__(self, items: Sequence[T], told: wire.WorkflowPage | wire.ExecutionPage) -> None:
        self.items = list(items)
        self.total = told.total
        self.page = told.page
        self.size = told.size

    @property
    def _more(self) -> bool:
        return bool(self.items) and self.page * self.size < self.total

    def __getitem__(self, index: int) -> T:
        return self.items[index]

    def __repr__(self) -> str:
        return f"<page {self.page}: {len(self.items)} of {self.total}>"


class Page(_Page[T]):
    """A page; iterating goes on to the next ones, unless it was asked for by its number.

    Attributes:
        items: what is on this page.
        total: how many there are on all pages.
        page: its number, from 1.
        size: how many a page has.
    """

    def __init__(
        self,
        items: Sequence[T],
        told: wire.WorkflowPage | wire.ExecutionPage,
        read: Callable[[int], Page[T]] | None = None,
    ) -> None:
        super().__init__(items, told)
        self._read = read

    def __iter__(self) -> Iterator[T]:
        page, seen = self, set[str]()
        while True:
            yield from _unseen(page.items, seen)
            if page._read is None or not page._more:
                return
            page = page._read(page.page + 1)


class AsyncPage(_Page[T]):
    """A page; `async for` goes on to the next ones, unless it was asked for by its number.

    Attributes:
        items: what is on this page.
        total: how many there are on all pages.
        page: its number, from 1.
        size: how many a page has.
    """

    def __init__(
        self,
        items: Sequence[T],
        told: wire.WorkflowPage | wire.ExecutionPage,
        read: Callable[[int], Awaitable[AsyncPage[T]]] | None = None,
    ) -> None:
        super().__init__(items, told)
        self._read = read

    async def __aiter__(self) -> AsyncIterator[T]:
        page, seen = self, set[str]()
        while True:
            for each in _unseen(page.items, seen):
                yield each
            if page._read is None or not page._more:
                return
            page = await page._read(page.page + 1)


def _unseen(items: Sequence[T], seen: set[str]) -> Iterator[T]:
    """Each item once: what is new since the last page pushes others on to the next."""
    for each in items:
        if each.id not in seen:
            seen.add(each.id)
            yield each


def several(items: Iterable[Item]) -> list[Item]:
    """A list of what is named; one thing by itself, whose letters or keys would be taken for it, is refused."""
    if isinstance(items, str | Mapping):
        raise ComponentTypeError(f"A list is wanted here, also of one: [{items!r:.80}].")
    return list(items)


def portions(items: Iterable[Item]) -> Iterator[list[Item]]:
    """As many as one bulk request takes, again and again."""
    left = iter(several(items))
    while portion := list(islice(left, _AT_ONCE)):
        yield portion


def log_query(
    component: str | None, level: str | None, start: datetime | str | None, end: datetime | str | None, exact: bool
) -> dict[str, Any]:
    """What lines of a log are asked for."""
    return {
        "component_id": component,
        "level": level,
        "exact": exact or None,
        "start_time": start,
        "end_time": end,
        "limit": 10_000,
    }
