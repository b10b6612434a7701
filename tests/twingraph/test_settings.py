"""What the environment says of TwinGraph."""

from __future__ import annotations

from pathlib import Path

import pytest

from twingraph.errors import GraphError
from twingraph.settings import load_settings


@pytest.fixture(autouse=True)
def nothing_said(twingraph_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TWINGRAPH_HOME", "TWINGRAPH_RECORD"):
        monkeypatch.delenv(name, raising=False)


def test_everything_has_a_default(at_home: Path) -> None:
    home = at_home / "home" / ".twingraph"
    found = load_settings()
    assert (found.home, found.database, found.record) == (str(home), f"sqlite:///{home}/graph.db", True)


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("sqlite:////data/graph.db", "sqlite:////data/graph.db"),
        ("/data/graph.db", "sqlite:////data/graph.db"),
        ("postgres://ada@db/graph", "postgresql+psycopg://ada@db/graph"),
        ("postgresql://ada@db/graph", "postgresql+psycopg://ada@db/graph"),
        ("postgresql+psycopg://ada@db/graph", "postgresql+psycopg://ada@db/graph"),
    ],
)
def test_a_database_is_a_url_or_a_path(told: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINGRAPH_DB", told)
    assert load_settings().database == url
    assert load_settings(database="sqlite:///other.db").database == "sqlite:///other.db"
    assert load_settings(home="/elsewhere").database == "sqlite:////elsewhere/graph.db"


def test_a_home_of_ones_own_and_no_record(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINGRAPH_HOME", "~/graphs")
    monkeypatch.setenv("TWINGRAPH_RECORD", "OFF")
    found = load_settings()
    assert (found.home, found.record) == (str(at_home / "home" / "graphs"), False)
    assert found.database == f"sqlite:///{found.home}/graph.db"


@pytest.mark.parametrize(
    ("variable", "told", "complaint"),
    [("TWINGRAPH_DB", "mysql://db/graph", "not in mysql://"), ("TWINGRAPH_RECORD", "maybe", "on or off, not 'maybe'")],
)
def test_what_cannot_be_is_refused(variable: str, told: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, told)
    with pytest.raises(GraphError, match=complaint):
        load_settings()
