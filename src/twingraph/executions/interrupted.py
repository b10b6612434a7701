"""Executions whose process ended before they did: found on the machine that they ran on, and marked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twingraph.executions import machine

if TYPE_CHECKING:
    from twingraph.executions.repository import Repository


def mark_interrupted(graph: Repository) -> None:
    """Mark the executions of this machine that no process runs any more."""
    unfinished = graph.unfinished(machine.host())
    graph.interrupt([each.id for each in unfinished if machine.process_of(each.pid) != each.process], time.time())
