"""What every platform does with a call: one suite that each of them inherits.

A platform's own class gives it as a fixture, says in `place` what its calls need, and in `left` what is left of them.
"""

# ruff: noqa: T201 - components print
from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from lokki.frozen import replace
from lokki.runtime.failure import Cancelled
from tests.twingraph import cargo
from tests.twingraph.calling import Heard, placed
from twingraph import Component, pipeline
from twingraph.errors import ComponentTimeoutError, RemoteError, TravelError
from twingraph.events import NodeFailed, NodeRetried
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import Platform, register_platform, run
from twingraph.retries import retries

POLICY = {"max_attempts": 2, "initial_delay": 0, "exceptions": ["OwnError"]}
AWKWARD = [
    "", " ", "two words", "line\nbreak\r\n", "'single' \"double\" `back`", "$HOME ${HOME} $(id) %PATH%", "a\\b\\\\c",
    "üñí 漢字 🐦", "-n --flag", "{}[]*?~!#;&|<>", '{"json": "inside"}', "\x00\x01\x1b\x1e\x1f", "é" * 300,
]  # fmt: skip
FOR_VARIABLES = [each for each in AWKWARD if "\x00" not in each]


class PlatformContract:
    """To be inherited by the tests of a platform."""

    many: ClassVar[int] = 200
    """Calls at once; a platform that is slow to begin may take fewer, and says why, unless LOKKI_TEST_MANY is set."""

    at_once: ClassVar[int] = 32
    """How many of them wait at the same time."""

    enough: ClassVar[float] = 3.0
    """Seconds in which a call has surely begun; the timeout of one that is to be ended."""

    @pytest.fixture
    def platform(self) -> Platform:
        """The platform."""
        raise NotImplementedError

    def place(self, **changes: Any) -> Placement:
        """Where calls run."""
        return Placement(**changes)

    def left(self, calls: list[Placed]) -> list[str]:
        """What is still there of calls that are over."""
        raise NotImplementedError

    @pytest.fixture
    def called(self) -> Iterator[list[Placed]]:
        """The calls of a test, of which nothing may be left."""
        calls: list[Placed] = []
        yield calls
        assert self.left(calls) == []

    @pytest.fixture
    def call(self, platform: Platform, called: list[Placed]) -> Any:
        """Run a function on the platform."""

        def make(fn: Any, *args: Any, heard: Heard | None = None, place: Placement | None = None, **kwargs: Any) -> Any:
            made = placed(fn, *args, heard=heard, place=place or self.place(), **kwargs)
            called.append(made)
            return run(platform, made)

        return make

    def test_values_go_there_and_back_as_they_are(self, call: Any) -> None:
        def work(point: cargo.Point, *more: Any, named: dict[Any, Any]) -> Any:
            return cargo.Pair(point.x, cargo.Colour.RED.value), more, named, cargo.double(point.x)

        given = ((1, {2}), b"\x00", 1.5, None)
        got = call(work, cargo.Point(3), *given, named={1: float("inf")})
        assert got == (cargo.Pair(3, "red"), given, {1: float("inf")}, 6)
        assert type(got[0]) is cargo.Pair

    def test_no_text_is_changed_on_its_way(self, call: Any) -> None:
        variables = {f"AWKWARD_{index}": text for index, text in enumerate(FOR_VARIABLES)}

        def work(texts: list[str], names: list[str]) -> Any:
            return texts, [os.environ[each] for each in names]

        got = call(work, AWKWARD, names=list(variables), place=self.place(environment=variables))
        assert got == (AWKWARD, FOR_VARIABLES)

    def test_an_exception_is_what_it_was_and_says_where_it_was(self, call: Any) -> None:
        def work(kind: str) -> None:
            if kind == "own":
                raise cargo.OwnError(7, 'it\'s "so"\n')
            if kind == "strange":
                raise type("StrangeError", (LookupError,), {})("odd")
            dict[str, int]()[kind]

        with pytest.raises(cargo.OwnError) as own:
            call(work, "own")
        assert (str(own.value), own.value.code) == ('it\'s "so"\n (7)', 7)
        with pytest.raises(KeyError) as key:
            call(work, "ünknown")
        assert key.value.args == ("ünknown",)
        assert "in work\n    dict[str, int]()[kind]\n" in key.value.__notes__[-1]
        assert "on platform" in key.value.__notes__[-1]
        with pytest.raises(RemoteError, match="odd") as strange:
            call(work, "strange")
        assert {"StrangeError", "LookupError"} <= set(strange.value.mro)

    def test_what_failed_is_tried_again_where_the_policy_names_it(self, platform: Platform) -> None:
        def work() -> None:
            raise cargo.OwnError(7, "again")

        name = f"contract-{id(platform)}"
        register_platform(name, lambda: platform)
        tried = Component(work, "work", replace(self.place(), platform=name), retries(POLICY, "work"))
        events: list[Any] = []
        execution = pipeline(name="contract")(tried).run(listen=events.append)
        assert isinstance(execution.error, cargo.OwnError)
        assert [each.attempt for each in events if isinstance(each, NodeRetried)] == [1]
        assert [each.attempt for each in events if isinstance(each, NodeFailed)] == [1]

    def test_what_cannot_be_sent_is_refused_by_name(self, call: Any) -> None:
        with pytest.raises(TravelError, match="argument 'x'"):
            call(lambda x: x, threading.Lock())
        with pytest.raises(TravelError, match="a value of type module"):
            call(lambda: sys)

    def test_the_log_is_heard_with_its_levels(self, call: Any) -> None:
        def work() -> None:
            log = logging.getLogger("of.mine")
            print("printed\nin two lines")
            print("to stderr", file=sys.stderr)
            log.warning("watch\nout")
            log.error("it's üñí")
            os.system("echo from a program")

        heard = Heard()
        call(work, heard=heard)
        expected = [
            ("info", "printed"), ("info", "in two lines"), ("error", "to stderr"), ("warning", "watch"),
            ("warning", "out"), ("error", "it's üñí"), ("info", "from a program"),
        ]  # fmt: skip
        assert sorted(heard.lines) == sorted(expected)

    def test_what_a_call_used_is_known(self, call: Any) -> None:
        heard = Heard()
        call(lambda: sum(each * each for each in range(300_000)), heard=heard)
        assert heard.usage["cpu_seconds"] > 0
        assert heard.usage["peak_memory_bytes"] > 2**20

    def test_a_call_that_takes_too_long_is_ended(self, call: Any) -> None:
        with pytest.raises(ComponentTimeoutError, match="longer than its timeout of"):
            call(lambda: time.sleep(600), place=self.place(timeout=self.enough))

    def test_a_call_ends_when_the_execution_does(self, platform: Platform, called: list[Placed]) -> None:
        def work() -> None:
            print("begun")
            os.system("sleep 600")

        class Stopping(Heard):
            def log(self, level: str, line: str) -> None:
                called[0].stop.set()

        marked = self.place(environment={"MARK": uuid.uuid4().hex})  # what it starts can be told by that
        called.append(placed(work, heard=Stopping(), place=marked))
        with pytest.raises(Cancelled, match="was stopped"):
            run(platform, called[0])

    def test_each_call_has_its_own_environment(self, call: Any) -> None:
        def work() -> Any:
            return os.environ.get("ONLY_HERE"), os.environ.get("TWICE")

        assert call(work, place=self.place(environment={"ONLY_HERE": "x", "TWICE": "1"})) == ("x", "1")
        assert call(work, place=self.place(environment={"TWICE": "2"})) == (None, "2")
        assert "TWICE" not in os.environ

    def test_five_megabytes_go_in_and_come_out(self, call: Any) -> None:
        data = os.urandom(5_000_000)
        assert call(lambda data: data[::-1], data) == data[::-1]

    def test_many_calls_at_once_do_not_get_in_each_others_way(self, call: Any) -> None:
        def work(n: int, text: str) -> Any:
            print(n)
            if n % 10 == 9:
                raise ValueError(n)
            return n * n, text, os.environ["NUMBER"]

        def one(n: int) -> Any:
            heard = Heard()
            place = self.place(environment={"NUMBER": str(n)})
            try:
                return call(work, n, text=f"#{n}", heard=heard, place=place), heard.lines
            except ValueError as error:
                return error.args, heard.lines

        with ThreadPoolExecutor(self.at_once) as pool:
            got = list(pool.map(one, range(200 if os.environ.get("LOKKI_TEST_MANY") else self.many)))
        for n, (value, lines) in enumerate(got):
            assert value == ((n,) if n % 10 == 9 else (n * n, f"#{n}", str(n)))
            assert lines == [("info", str(n))]


class HeardAtTheEnd(PlatformContract):
    """Of a platform that tells what was printed at the end only: nothing but time says that a call has begun."""

    def test_a_call_ends_when_the_execution_does(self, platform: Platform, called: list[Placed]) -> None:
        called.append(placed(lambda: time.sleep(30), place=self.place()))
        threading.Timer(1, called[0].stop.set).start()
        with pytest.raises(Cancelled, match="was stopped"):
            run(platform, called[0])
