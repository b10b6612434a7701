"""A built flow as a function finds it: a folder with the program in it, opened in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import invoked_flows as flows
import pytest
from built_flows import config

from lokki.builder.program import program_of
from lokki.builder.resources import describe
from lokki.decorators import Flow
from lokki.graph import FlowGraph
from lokki.runtime.failure import LokkiRetryable
from lokki.runtime.handler import Worker
from lokki.runtime.program import FILE, Program
from lokki.store import TransientStore

Lines = Callable[[], list[dict[str, Any]]]
Calls = Callable[[], dict[str, int]]


def package(graph: FlowGraph, folder: Path) -> str:
    """The folder, with the program of the flow in it."""
    flow = graph.remake
    assert isinstance(flow, Flow)
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(program_of(describe(graph, config()), flow, flow.fn.__module__))
    return str(folder)


def worker_of(graph: FlowGraph, folder: Path, store: TransientStore) -> Worker:
    """What a function makes when it starts, over a store of the test's own."""
    return Worker(Program.load(package(graph, folder)), store)


class Children:
    """The children of a map in an execution that only its first state has run for so far."""

    def __init__(self, graph: FlowGraph, folder: Path, store: TransientStore, run: str = "e1", **params: Any) -> None:
        self.worker = worker_of(graph, folder, store)
        self.store = store
        self.run = run
        event = {"lokki": graph.nodes[0].id, "execution": run, "params": params}
        answer = self.worker.answer(event, "start")
        self.run = answer["run_id"]
        self.cache = answer["flow"]["cache_enabled"]
        self.entries: list[dict[str, Any]] = json.loads(store.blob(answer["map_manifest_key"]))

    def answer(self, node: str, at: int | None = None, attempt: int = 0) -> dict[str, Any]:
        """Run a node, for the child at this place of the manifest or after the map."""
        inside = {} if at is None else {"at": self.entries[at]}
        state = {"run_id": self.run, "cache": self.cache, **inside}
        return self.worker.answer({"lokki": node, "state": state, "attempt": attempt}, node)


def put_in_the_way(item: Any, *errors: BaseException) -> None:
    """Makes the next calls with this item fail."""
    flows.TROUBLES[item] = list(errors)


def failure_of(call: Callable[[], Any]) -> Exception:
    """The error that a call ends in."""
    with pytest.raises(Exception, match=r"(?s).*") as caught:
        call()
    return caught.value


def is_retryable(error: Exception) -> bool:
    """Whether the state machine tries again what ends like this."""
    return type(error).__name__ == LokkiRetryable.__name__


def without(line: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A line of the log without what differs from run to run."""
    return {name: value for name, value in line.items() if name not in names}


def parsed(text: str) -> list[dict[str, Any]]:
    """The lines of a log, each of which must be a JSON object."""
    return [json.loads(line) for line in text.splitlines()]
