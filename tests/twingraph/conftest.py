"""What tests of TwinGraph share: a home of their own, and ears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twingraph.events import Event


@pytest.fixture(autouse=True)
def twingraph_home(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a graph of its own, and records nothing unless it says so."""
    monkeypatch.setenv("TWINGRAPH_RECORD", "off")
    for name in ("TWINGRAPH_HOME", "TWINGRAPH_DB"):
        monkeypatch.delenv(name, raising=False)
    return at_home / "home" / ".twingraph"


class Heard(list[Event]):
    """A listener that keeps what it hears."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: Callable[..., Any]) -> list[Any]:
        """The events of one kind."""
        return [each for each in self if type(each) is kind]


@pytest.fixture
def heard() -> Heard:
    """A listener that keeps what it hears."""
    return Heard()


@pytest.fixture
def repository_root() -> Path:
    """Where processes that tests start find the tests."""
    return Path(__file__).resolve().parents[2]
