"""Who runs what, where it is easily done wrong: odd exceptions, contexts, forks, bodies of all kinds."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from twingraph import ComponentError, component, pipeline
from twingraph.events import Event, NodeFinished
from twingraph.results import Result

asked: ContextVar[str] = ContextVar("asked", default="nobody")


@component
def one(value: Any = 1, *_: Any) -> Any:
    return value


class Silent(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@component
def silent() -> None:
    raise Silent


def test_an_exception_without_words_ends_its_call_all_the_same() -> None:
    @pipeline(timeout=20)
    def submitted() -> Any:
        return silent.submit()

    @pipeline(error_handler="continue")
    def going_on() -> Any:
        failed = silent.submit()
        return failed.status, one(failed).status

    with pytest.raises(Silent):
        submitted()
    assert going_on() == ("failed", "skipped")


def test_a_listener_that_fails_is_told_to_whoever_waits_for_the_call() -> None:
    def deaf(event: Event) -> None:
        if isinstance(event, NodeFinished):
            raise OSError("the disk is full")

    @pipeline(timeout=20)
    def submitted() -> Any:
        return one.submit()

    assert str(submitted.run(listen=deaf).error) == "the disk is full"


def test_a_call_sees_the_context_in_which_it_was_written() -> None:
    go = threading.Event()

    @component
    def waits() -> None:
        go.wait(20)

    @component
    def who(*_: Any) -> str:
        return asked.get()

    @pipeline(max_parallel=1)
    def asking() -> list[str]:
        asked.set("the first")
        first = waits.submit()
        asked.set("the second")
        after, queued = who(first), who.submit()
        asked.set("the third")
        go.set()
        return [after.value, queued.value]

    assert asking() == ["the second", "the second"]


def test_a_body_may_be_async_or_a_generator_or_a_method() -> None:
    @pipeline
    async def awaited() -> int:
        return int(one(3).value)

    @pipeline
    def yielding() -> Iterator[Any]:
        for each in range(3):
            yield one(each).value

    class Shop:
        name = "north"

        @pipeline
        def report(self) -> Any:
            return one(self.name).value

    assert (awaited(), yielding(), Shop().report()) == (3, [0, 1, 2], "north")
    assert Shop().report.run().outputs == "north"


def test_an_async_component_is_part_of_its_pipeline_where_a_loop_runs_already() -> None:
    import asyncio

    @component
    async def outer() -> Any:
        return one(asked.get()).value

    @pipeline
    def around() -> Any:
        asked.set("me")
        return outer().value

    async def notebook() -> tuple[Any, int]:
        heard: list[Event] = []
        done = around.run(listen=heard.append)
        return done.outputs, sum(isinstance(each, NodeFinished) for each in heard)

    assert asyncio.run(notebook()) == ("me", 2)


def test_what_a_body_returns_may_hold_itself() -> None:
    @pipeline
    def circle() -> list[Any]:
        made: list[Any] = [one.submit(7)]
        made.append(made)
        return made

    made = circle()
    assert made[0].value == 7
    assert made[1] is made


def test_a_component_that_waits_for_another_call_lends_it_its_place() -> None:
    @pipeline(max_parallel=1, timeout=20)
    def body() -> Any:
        first = one.submit(1)
        later = one(first)

        @component
        def uses() -> Any:
            return later.value + 1

        return [each.value for each in (uses.submit(), uses.submit())]

    assert body() == [2, 2]


def test_a_call_never_waits_for_itself() -> None:
    known = threading.Event()
    mine: list[Result] = []

    @component
    def within() -> Any:
        known.wait(20)
        return one(3, parent_hash=mine[0]).value

    @component
    def itself() -> Any:
        known.wait(20)
        return mine[0].value

    @pipeline(timeout=20)
    def body(which: Any) -> Any:
        mine[:] = [which.submit()]
        known.set()
        return mine[0].value

    assert body(within) == 3
    known.clear()
    with pytest.raises(ComponentError, match=r"'itself' .* waits for its own result"):
        body(itself)


def test_a_timeout_may_be_longer_than_anybody_waits() -> None:
    assert pipeline(timeout=1e12)(one)(4).value == 4


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_calls_components_too() -> None:
    assert one(1).value == 1

    def child() -> None:
        sys.exit(one(5).value)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    code = process.exitcode
    process.kill()
    assert code == 5
