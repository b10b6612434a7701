"""What tests share: a home of their own, and a count of the steps that really ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docker_engine import docker, docker_engine  # noqa: F401 - fixtures for every test
from tests.docker_registry import docker_registry  # noqa: F401 - a fixture for every test
from tests.kubernetes_cluster import kubernetes, kubernetes_server  # noqa: F401 - fixtures for every test
from tests.localstack_server import localstack, own_account  # noqa: F401 - fixtures for every test
from tests.moto_server import aws, bucket, moto_server, relay, relay_server, s3  # noqa: F401 - fixtures for every test
from tests.postgres_server import pgvector, pgvector_server, postgres, postgres_server  # noqa: F401 - fixtures for every test

SERVICES = {
    "localstack": "localstack",
    "docker_engine": "docker",
    "kubernetes_server": "kubernetes",
    "postgres_server": "postgres",
    "pgvector_server": "postgres",
}
"""By the fixture that leads to a service the marker of the tests that use it."""


UNMEASURED = {"twingraph", "test_docs.py", "test_examples.py"}
"""Tests whose child processes are not measured by coverage, which is of lokki: they would take much longer to start."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a service, so that `-m "not docker"` leaves out all that do."""
    for item in items:
        for fixture in SERVICES.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(SERVICES[fixture])


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Each test runs in a folder of its own, with no configuration but its own."""
    if UNMEASURED.intersection(request.path.parts):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    for name in ("LOKKI_STORE_TYPE", "LOKKI_STATE_DIR", "LOKKI_EXECUTOR", "LOKKI_WORKERS", "LOKKI_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TWINGRAPH_HOME", "TWINGRAPH_DB", "TWINGRAPH_RECORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TICKS", str(tmp_path / "ticks"))
    monkeypatch.delenv("FAIL_AT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ticks(at_home: Path) -> Callable[[], Counter[str]]:
    """The items for which a step that calls `ticking_flows.tick` ran since the last call of this."""

    def read() -> Counter[str]:
        path = at_home / "ticks"
        found = Counter(path.read_text().split()) if path.exists() else Counter[str]()
        path.unlink(missing_ok=True)
        return found

    return read
