"""What killed processes left behind on platforms: containers, pods and jobs that nobody waits for any more, removed.

Whatever an execution made bears its name, and whose process made it. Nobody waits for it when the execution is over, or
when that process was of this machine and is gone. A job that an execution was launched as stays for as long as the
execution is claimed for it: it needs no server to go on.

Looked at are the places that the components of served files name, and of platforms that were used lately the usual one.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from twingraph.decorators import Component
from twingraph.executions import requests
from twingraph.executions.recorder import open_recorder
from twingraph.executions.records import OVER
from twingraph.executions.repository import Repository
from twingraph.platforms.base import platform
from twingraph.platforms.owners import Left, is_gone, machine_label
from twingraph.server.files import Files

Place = tuple[str, Mapping[str, Any]]
"""A platform, and the `config=` that leads to a place there."""

_LEADING = ("kubeconfig", "context", "namespace", "region", "endpoint", "job_queue")  # what in a `config=` does so


def sweep(url: str, files: Files, places: Iterable[Place] = ()) -> None:
    """Remove what was left; called in a forked process that ends when this returns."""
    graph = open_recorder(url).repository()
    for name, config in _distinct([*places, *_served(files), *((each, {}) for each in requests.platforms(graph))]):
        with suppress(Exception):  # a place that cannot be reached has nothing that could be removed
            swept = getattr(platform(name), "sweep", None)
            if swept is not None:
                swept(config, lambda left: orphaned(graph, left))
    atexit._run_exitfuncs()  # noqa: SLF001 - what platforms have open; a forked process ends without that


def orphaned(graph: Repository, left: Left) -> bool:
    """Whether nobody waits for it any more."""
    status = requests.status(graph, left.run)
    if left.launch:
        found = requests.found(graph, left.run)
        return found is not None and (status in OVER or not found.claimed_by.endswith(f" {left.launch}"))
    return status in OVER or (left.machine == machine_label() and is_gone(left.owner))


def _served(files: Files) -> Iterator[Place]:
    for each in files.components.values():
        if isinstance(each, Component):
            yield each.placement.platform, each.placement.config
        elif told := getattr(each, "placement", None):
            yield str(told.get("platform", "local")), told.get("config") or {}


def _distinct(places: Iterable[Place]) -> Iterator[Place]:
    known = set()
    for name, config in places:
        key = (name, *(config.get(each) for each in _LEADING))
        if key not in known:
            known.add(key)
            yield name, config
