"""What a child tells the server: states and lines of the log, in bounded messages, in the order in which they came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from twingraph.events import ExecutionFinished, ExecutionStarted, NodeFinished, NodeLogged, NodeStarted
from twingraph.executions.recorder import Recorder
from twingraph.server.channel import Channel
from twingraph.server.telling import Telling


class Hearing:
    """The server's end of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: list[dict[str, Any]] = []

    def until(self, event: str, **wanted: str) -> Iterator[dict[str, Any]]:
        """The messages up to this one."""
        while True:
            while not self._waiting:
                self._waiting = self._channel.receive() or []
            told = self._waiting.pop(0)
            yield told
            if told["event"] == event and wanted.items() <= told["data"].items():
                return


@pytest.fixture
def ends(recorder: Recorder) -> Iterator[tuple[Telling, Hearing]]:
    """Who tells of execution "e", and who hears it."""
    here, there = Channel.pair()
    telling = Telling("e", recorder, there)
    telling(ExecutionStarted("e", "x", kind="workflow", at=1.0))
    yield telling, Hearing(here)
    telling.close()
    here.close()
    there.close()


def line(node: str, text: str, level: str = "info") -> NodeLogged:
    return NodeLogged("e", node, 0, level, text, 2.0)


def test_lines_are_told_between_the_states_of_their_node(ends: tuple[Telling, Hearing]) -> None:
    telling, hearing = ends
    telling(NodeStarted("e", "a", hash="a" * 64, component="c", at=1.0))
    for each in (line("a", "one"), line("a", "two", "warning"), line("b", "three")):
        telling(each)
    telling(NodeFinished("e", "a", 0, 0.5, hash="a" * 64, at=3.0))
    told = [
        each
        for each in hearing.until("node:status", node_id="a", status="completed")
        if each["event"] != "execution:update"
    ]
    assert [each["event"] for each in told] == ["node:status", *["node:log"] * (len(told) - 2), "node:status"]
    logs = [
        (each["data"]["node_id"], one) for each in told if each["event"] == "node:log" for one in each["data"]["lines"]
    ]
    assert logs == [
        ("a", {"timestamp": "1970-01-01T00:00:02.000Z", "level": "info", "message": "one", "attempt": 0}),
        ("a", {"timestamp": "1970-01-01T00:00:02.000Z", "level": "warning", "message": "two", "attempt": 0}),
        ("b", {"timestamp": "1970-01-01T00:00:02.000Z", "level": "info", "message": "three", "attempt": 0}),
    ]


def test_a_flood_of_lines_is_cut_and_counted(ends: tuple[Telling, Hearing]) -> None:
    telling, hearing = ends
    for at in range(1_000):
        telling(line("a", f"{at} {'ü' * 40}"))
    telling(line("b", "\N{DUCK}" * 20_000))
    telling(ExecutionFinished("e", "x", "completed", 1.0, at=3.0))
    told = list(hearing.until("execution:update", status="completed"))
    logs = [each for each in told if each["event"] == "node:log"]
    heard = [one["message"] for each in logs for one in each["data"]["lines"]]
    missed = sum(each["data"].get("missed", 0) for each in logs)
    assert heard[0].startswith("0 ")
    assert len(heard) + missed == 1_001
    assert missed
    assert max(len(json.dumps(each)) for each in told) < 7_000
