"""A server whose executions wait until a test plays one: the API by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.twingraph.server.served import PIPES, Door, Served
from twingraph.executions.recorder import Recorder
from twingraph.executions.repository import Repository
from twingraph.server.app import create_app
from twingraph.server.catalog import Catalog
from twingraph.server.context import open_context
from twingraph.server.limits import Limits
from twingraph.server.service import Service

CATALOG = Catalog(
    {
        "load_data": {"description": "Loads.", "kind": "function", "platform": "local", "inputs": {"type": "object"}},
        "process": {"description": "", "kind": "function", "platform": "docker", "inputs": {"type": "object"}},
    }
)
DEFINITION: dict[str, Any] = {
    "nodes": [
        {"id": "node-1", "type": "component", "component": "load_data", "config": {"n": 3}},
        {"id": "node-2", "type": "component", "component": "process", "config": {}},
    ],
    "edges": [{"source": "node-1", "target": "node-2", "sourceHandle": "output", "targetHandle": "input"}],
}
WORKFLOW: dict[str, Any] = {
    "name": "Data Processing Pipeline",
    "definition": DEFINITION,
    "metadata": {"description": "Processes daily data feeds", "tags": ["production", "etl"]},
}


class Waiting:
    """A launcher that runs nothing and remembers what it was told."""

    catalog = CATALOG

    def __init__(self) -> None:
        self.woken = 0
        self.stopped: list[str] = []

    def wake(self) -> None:
        """There is something to run."""
        self.woken += 1

    def stop(self, execution: str) -> None:
        """End this execution."""
        self.stopped.append(execution)


@pytest.fixture
def launcher() -> Waiting:
    return Waiting()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(home=str(tmp_path / "served"))
    yield made
    made.close()


@pytest.fixture
def graph(recorder: Recorder) -> Repository:
    return recorder.repository()


@pytest.fixture
def client(graph: Repository, launcher: Waiting) -> Iterator[TestClient]:
    context = open_context(Service(graph, launcher), launcher, limits=Limits(0, 0, 0), version="0.1.0")
    with TestClient(create_app(context)) as made:
        yield made


def now() -> float:
    """Seconds since 1970."""
    return time.time()


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "door")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers on one home."""
    with ExitStack() as stack:

        def start(*options: str, files: Sequence[Path] = (PIPES,)) -> Served:
            made = Served(files, "--home", str(tmp_path / "home"), *options)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that the tests of a module share."""
    made = Served([PIPES], "--home", str(tmp_path_factory.mktemp("home")))
    yield made
    made.close()
