"""Executions as jobs of an engine that schedules them: each is one job, which takes it over, runs it and ends.

A job is a call of a platform with a command in place of a function, so it is started, watched, ended and explained as
those are. It needs nobody here to go on: it claims the execution in place of who launched it, and is a worker like any
other from then on. Who launched it sees that it ends, and why it did if the execution was not over.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from lokki.frozen import field, frozen
from twingraph.errors import PlatformUnavailableError, TwinGraphError
from twingraph.executions import requests
from twingraph.executions.repository import Repository
from twingraph.executions.secrets import veiled
from twingraph.placed import Placed
from twingraph.placement import Placement, placement
from twingraph.platforms.base import Platform, platform, run
from twingraph.server.channel import Channel
from twingraph.server.running import GRACE, Running

MOST = 100
"""How many jobs there are at once, unless it is said."""
OWN = "own"
"""What is said in place of a database, where jobs have its URL from elsewhere."""

_PATIENCE = 900.0  # seconds
_START_TIMEOUT = 1800.0  # seconds that a pod may wait for a node, which may have to be bought first
_OF_CALLS = frozenset({"array_size", "pickle", "store", "bucket"})  # options that a command has no use for


@frozen
class Launch:
    """How executions are launched.

    Attributes:
        platform: "kubernetes" or "batch".
        image: the image that jobs run in.
        config: what else the platform is told, as in `config=` of a component.
        resources: `cpu`, `memory` and `gpu` of a job.
        database: the database as jobs reach it; empty: as it is reached here; `own`: jobs know it.
    """

    platform: str
    image: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    database: str = ""


class Launching:
    """Launches executions.

    Args:
        launch: how.
        files: what jobs import, as it is called in the image.
        database: the URL of the database here.

    Attributes:
        place: where jobs are looked for that were left.
    """

    def __init__(self, launch: Launch, files: Sequence[str], database: str) -> None:
        if not database.startswith("postgresql"):
            raise TwinGraphError(
                "Executions that run as jobs need a database that they reach: --db postgresql://... with --launch."
            )
        self._platform = _patient() if launch.platform == "kubernetes" else platform(launch.platform)
        self._place = _placement(launch, self._platform, launch.database or database)
        self._files = tuple(files)
        self.place = (launch.platform, dict(launch.config))

    def ticket(self) -> str:
        """What tells a job from all others: its name."""
        return f"tg-{secrets.token_hex(8)}"

    def begin(self, graph: Repository, execution: str, claim: str, ticket: str) -> Running:
        """Launch an execution that is claimed for a job with this ticket."""
        return Launched(graph, self._platform, self._call(execution, ticket), claim)

    def _call(self, execution: str, ticket: str) -> Placed:
        place = self._place
        variables = {**place.environment, "TWINGRAPH_TICKET": ticket}
        return Placed(
            ticket, execution, "execution", "execution", 0, _nothing, (), {},
            Placement(place.platform, place.image, place.config, place.timeout, place.resources, variables),
            _unheard, lambda _: None, threading.Event(),
            ("twingraph", "worker", "--once", execution, *self._files),
        )  # fmt: skip


class Launched(Running):
    """An execution that is a job; a thread waits for it."""

    grace = 3 * GRACE

    def __init__(self, graph: Repository, platform: Platform, call: Placed, claim: str) -> None:
        here, self._there = Channel.pair()
        super().__init__(call.run, claim, here)
        self.ticket = call.id
        self._graph = graph
        self._platform = platform
        self._call = call._replace(log=self._heard)
        self._error = ""
        self._unwatched = False
        self._last = ""
        threading.Thread(target=self._wait, name=f"twingraph-job-{call.id}", daemon=True).start()

    @property
    def begun(self) -> bool:
        """Whether there is anything that may have begun to run it."""
        return True

    def stop(self) -> None:
        """Ask it to end: a job that runs it hears that from the database; one that does not yet is ended."""
        request = requests.found(self._graph, self.execution)
        if request is None or request.claimed_by == self.claim:
            self.kill()

    def kill(self) -> None:
        """End the job."""
        self._call.stop.set()

    def is_lost(self) -> bool:
        """Whether nobody runs it any more; a job that has it goes on also when it cannot be watched from here."""
        request = requests.found(self._graph, self.execution)
        goes_on = self._unwatched and request is not None and request.claimed_by != self.claim
        return not goes_on and not requests.is_over(self._graph, self.execution)

    def why(self) -> str:
        """How it ended, if it did so before the execution was over."""
        said = f" It last said: {self._last}" if self._last else ""
        return f"{self._error or 'Its job ended well, without having run it.'}{said}"

    def _wait(self) -> None:
        try:
            run(self._platform, self._call)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is, it is why the execution ends
            self._error = str(error) or type(error).__name__
            self._unwatched = isinstance(error, PlatformUnavailableError)
        self.code = 0
        self._there.close()

    def _heard(self, _level: str, line: str) -> None:
        if line.strip():
            self._last = veiled(line.strip())


def _placement(launch: Launch, on: Platform, database: str) -> Placement:
    """Where jobs run, checked as far as that can be done here."""
    known = on.options - _OF_CALLS
    for name in launch.config:
        if name not in known:
            raise TwinGraphError(
                f"A job of an execution on {launch.platform} has no option {name!r}; it has {', '.join(sorted(known))}."
            )
    config = dict(launch.config)
    if launch.platform == "kubernetes":
        config.setdefault("start_timeout", _START_TIMEOUT)
        if not launch.image:
            raise TwinGraphError("Name the image that executions run in, with this project and your files: --image.")
    elif bool(launch.image) == bool(config.get("job_definition")):
        raise TwinGraphError("Name either a job definition or the image that executions run in: --job-definition.")
    return placement(
        "--launch",
        platform=launch.platform,
        image=launch.image,
        config=config,
        timeout=config.get("timeout", 0),
        resources=launch.resources,
        environment=None if database == OWN else {"TWINGRAPH_DB": database},
        labels=None,
    )


def _patient() -> Platform:
    """Kubernetes, asked again for long: its jobs go on while its API is away, so nothing is lost by waiting."""
    from twingraph.platforms.kubernetes import Kubernetes

    return Kubernetes(_PATIENCE)


def _nothing() -> None:
    """What is called: nothing, for there is a command."""


def _unheard(_level: str, _line: str) -> None:
    """Where lines go until somebody listens."""
