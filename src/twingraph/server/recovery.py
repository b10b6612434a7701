"""Executions whose server is gone: found, and marked as interrupted, or asked for again where their workflow resumes.

A server of this machine is gone when no process is what the claim says; one of another machine, when it has not been
seen for longer than it would keep its executions running without being able to say so.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

from lokki.frozen import frozen
from twingraph.executions import definitions, machine, requests
from twingraph.executions.repository import INTERRUPTED, Repository
from twingraph.server.child import resumes
from twingraph.server.running import GRACE

BEAT = 5.0
"""Seconds between two times that a server says it is there."""
LEASE = 30.0
"""Seconds after which a server that cannot say so ends what it runs."""

_UNSEEN = LEASE + 3 * GRACE  # then others take over


@frozen
class Settled:
    """An execution that was lost, and what it is now: "failed", "stopped" or "pending"."""

    execution: str
    status: str


def name_of_this() -> str:
    """Who claims executions here: the process, told from any other."""
    return f"{machine.host()} {os.getpid()} {machine.process_of(os.getpid())}"


class Recovery:
    """Finds executions that are lost, time and again."""

    def __init__(self, graph: Repository, name: str) -> None:
        self._graph = graph
        self._name = name
        self._ending: dict[str, float] = {}
        self.again = 0.0  # when to look again

    def settle(self, watched: Collection[str]) -> Iterator[Settled]:
        """Find what is lost, and decide what becomes of it. Processes that are still ending are waited for.

        Who watches the job of an execution hears why it ended, so these are lost only when they are not seen.
        """
        others = [each for each in requests.held(self._graph) if each.claimed_by != self._name]
        lost = [each for each in others if self._is_gone(each, each.execution_id in watched)]
        ending = [each for each in lost if self._still_ends(each)]
        for each in lost:
            if each not in ending and requests.take_over(self._graph, each, self._name):
                self._ending.pop(each.execution_id, None)
                yield Settled(each.execution_id, let_go(self._graph, each.execution_id, self._name, each))
        self.again = time.monotonic() + (0.1 if ending else BEAT)

    def _is_gone(self, held: requests.Held, watched: bool) -> bool:
        host, pid, process, *_ = (*held.claimed_by.split(" "), "", "")
        if not watched and host == machine.host() and pid.isdigit() and process:
            return machine.process_of(int(pid)) != process
        return held.unseen > _UNSEEN

    def _still_ends(self, held: requests.Held) -> bool:
        """Whether the process that ran it is still there; after its time it is killed."""
        if held.host != machine.host() or not held.pid or machine.process_of(held.pid) != held.process:
            return False
        since = self._ending.setdefault(held.execution_id, time.monotonic())
        if time.monotonic() > since + 2 * GRACE:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(held.pid, signal.SIGKILL)
        return True


def let_go(graph: Repository, execution: str, by: str, held: requests.Held | None = None) -> str:
    """What becomes of an execution that nobody runs any more and that is claimed here: its status from now on."""
    told = held or next((each for each in requests.held(graph) if each.execution_id == execution), None)
    if told is not None and told.stop:
        requests.end(graph, execution, "stopped")
    elif told is not None and (told.status == "pending" or resumes(definitions.found(graph, told.workflow_id))):
        requests.free(graph, execution, by)
    elif told is not None:
        requests.end(graph, execution, "failed", INTERRUPTED, "interrupted")
    return requests.status(graph, execution)
