"""Warm containers wait, but not for ever."""

from __future__ import annotations

import threading

from twingraph.platforms.docker_idle import Idle


class Box:
    """Knows when it was removed."""

    def __init__(self) -> None:
        self.removed = threading.Event()

    def remove(self) -> None:
        self.removed.set()


def test_the_one_used_last_is_taken_first_and_few_wait() -> None:
    idle: Idle[Box] = Idle(most=2, seconds=1000)
    first, second, third, other = (Box() for _ in range(4))
    assert [idle.keep("a", first), idle.keep("a", second), idle.keep("a", third), idle.keep("b", other)] == [
        True, True, False, True,
    ]  # fmt: skip
    assert (idle.take("a"), idle.take("b"), idle.take("b")) == (second, other, None)
    idle.close()
    assert [each.removed.is_set() for each in (first, second, third, other)] == [True, False, False, False]
    assert idle.take("a") is None


def test_what_waits_too_long_is_removed() -> None:
    idle: Idle[Box] = Idle(most=2, seconds=0.01)
    first, second = Box(), Box()
    assert idle.keep("a", first)
    assert first.removed.wait(30)
    assert idle.take("a") is None
    assert idle.keep("b", second)
    assert second.removed.wait(30)
