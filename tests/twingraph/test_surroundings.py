"""What is told of what a component prints and logs in this process."""

from __future__ import annotations

import logging
import sys

import pytest

from twingraph import component, pipeline
from twingraph.events import Event, NodeLogged


@component
def chatty() -> None:
    for each in ("a", "b", "\nc", "", "d\n\ne\nf"):
        sys.stdout.write(each)


@component
def careless() -> int:
    logging.getLogger("careless").error("%d items", "no")
    return 1


def _told(runs: object) -> list[str]:
    @pipeline
    def body() -> None:
        runs()  # type: ignore[operator]

    heard: list[Event] = []
    assert body.run(listen=heard.append).error is None
    return [each.message for each in heard if isinstance(each, NodeLogged)]


def test_lines_are_put_together_from_their_parts() -> None:
    assert _told(chatty) == ["ab", "cd", "", "e", "f"]


def test_a_log_call_with_wrong_arguments_fails_no_component(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert "%d items ('no',)" in _told(careless)
