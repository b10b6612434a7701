"""What the tests of deployed functions share: a store in a folder, a log that is read as JSON, and no trouble left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import invoked_flows as flows
import pytest

from lokki.store import LocalStore, MemoryStore
from tests.runtime.packaged import Lines, parsed

SETTINGS = (
    "LOKKI_STORE_PATH", "LOKKI_FLOW_NAME", "LOKKI_STEP_NAME", "LOKKI_MODULE_NAME", "LOKKI_SECRETS", "LOKKI_NODE",
    "LOKKI_STATE", "LOKKI_ITEMS_LIMIT", "LOKKI_ARTIFACT_BUCKET", "LOKKI_AWS_ENDPOINT", "LOKKI_AWS_PREFIX",
)  # fmt: skip


@pytest.fixture(autouse=True)
def environment(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The environment of a function whose store is a folder, which this returns."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOKKI_STORE_TYPE", "local")
    monkeypatch.setenv("LOKKI_STORE_PATH", str(at_home / "values"))
    yield at_home / "values"
    flows.TROUBLES.clear()


@pytest.fixture
def values(environment: Path) -> Iterator[LocalStore]:
    """The store in that folder, as another process sees it."""
    made = LocalStore(environment)
    yield made
    made.close()


@pytest.fixture
def store() -> MemoryStore:
    """A store of the test's own."""
    return MemoryStore()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since the last call of this."""

    def read() -> list[dict[str, Any]]:
        return parsed(capsys.readouterr().out)

    return read


@pytest.fixture
def ran(ticks: Callable[[], Counter[str]]) -> Callable[[], dict[str, int]]:
    """Which steps ran, with which items, since the last call of this."""
    return lambda: dict(ticks())
