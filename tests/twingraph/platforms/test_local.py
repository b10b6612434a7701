"""Calls in threads of this process: the suite of all platforms, and what differs because nothing is sent anywhere."""

# ruff: noqa: T201 - components print
from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import pytest

from lokki.runtime.failure import Cancelled
from tests.contracts.platform import PlatformContract
from tests.twingraph.calling import Heard, placed
from twingraph.errors import ComponentTimeoutError
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import Platform, platform, register_platform, run
from twingraph.platforms.local import Local


class TestLocal(PlatformContract):
    enough = 0.2

    @pytest.fixture
    def platform(self) -> Platform:
        return Local()

    def left(self, calls: list[Placed]) -> list[str]:
        return []  # a thread that cannot be ended goes on, and the message says so

    def test_an_exception_is_what_it_was_and_says_where_it_was(self, call: Any) -> None:
        strange = type("StrangeError", (LookupError,), {})("odd")

        def work() -> None:
            raise strange

        with pytest.raises(LookupError) as caught:
            call(work)
        assert caught.value is strange
        assert caught.traceback[-1].name == "work"

    def test_what_cannot_be_sent_is_refused_by_name(self, call: Any) -> None:
        lock = threading.Lock()
        assert call(lambda x: x, lock) is lock

    def test_the_log_is_heard_with_its_levels(self, call: Any) -> None:
        def work() -> None:
            print("printed\nin two lines")
            print("to stderr", file=sys.stderr)
            logging.getLogger("of.mine").warning("watch")

        heard = Heard()
        call(work, heard=heard)
        lines = [("info", "printed"), ("info", "in two lines"), ("error", "to stderr"), ("warning", "watch")]
        assert heard.lines == lines

    def test_what_a_call_used_is_known(self, call: Any) -> None:
        heard = Heard()
        call(lambda: sum(each * each for each in range(300_000)), heard=heard)
        assert heard.usage["cpu_seconds"] > 0

    def test_a_call_that_takes_too_long_is_ended(self, call: Any) -> None:
        finish = threading.Event()
        with pytest.raises(ComponentTimeoutError, match="Its thread cannot be ended"):
            call(lambda: finish.wait(60), place=self.place(timeout=self.enough))
        finish.set()

    def test_a_call_ends_when_the_execution_does(self, platform: Platform, called: list[Placed]) -> None:
        finish = threading.Event()

        def work() -> None:
            called[0].stop.set()
            finish.wait(60)

        called.append(placed(work, place=self.place()))
        with pytest.raises(Cancelled, match="was stopped"):
            run(platform, called[0])
        finish.set()


def test_without_a_timeout_a_call_runs_in_the_thread_of_its_caller() -> None:
    made = placed(threading.get_ident, place=Placement(timeout=0))
    assert run(Local(), made) == threading.get_ident()


def test_a_platform_of_ones_own_can_be_named() -> None:
    class Mine(Local):
        name = "mine"

    register_platform("mine", Mine)
    assert platform("mine") is platform("mine")
    assert isinstance(platform("mine"), Mine)
