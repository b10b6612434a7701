"""A built flow as a function finds it: a folder with the program in it, opened in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lokki.builder.program import program_of
from lokki.builder.resources import describe
from lokki.config import LokkiConfig
from lokki.decorators import Flow
from lokki.graph import FlowGraph
from lokki.runtime.failure import LokkiRetryable
from lokki.runtime.handler import Worker
from lokki.runtime.program import FILE, Program
from lokki.store import TransientStore
from tests.runtime import flows

Lines = Callable[[], list[dict[str, Any]]]
Calls = Callable[[], dict[str, int]]


def package(graph: FlowGraph, folder: Path) -> str:
    """The folder, with the program of the flow in it."""
    flow = graph.remake
    assert isinstance(flow, Flow)
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(program_of(describe(graph, LokkiConfig()), flow, flow.fn.__module__))
    return str(folder)


def worker_of(graph: FlowGraph, folder: Path, store: TransientStore) -> Worker:
    """What a function makes when it starts, over a store of the test's own."""
    return Worker(Program.load(package(graph, folder)), store)


@contextmanager
def trouble(**errors: BaseException) -> Iterator[None]:
    """Makes the next call with each of these items fail; `x3` stands for the item 3, other names for themselves."""
    for name, error in errors.items():
        put_in_the_way(int(name[1:]) if name[1:].isdecimal() else name, error)
    yield
    left = {item: errors for item, errors in flows.TROUBLES.items() if errors}
    assert left == {}, "what was to fail never ran"


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
