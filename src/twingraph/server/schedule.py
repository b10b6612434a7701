"""Workflows that start by themselves: `metadata.schedule`, a cron expression, in `metadata.timezone`.

Each time is fired once, whichever server gets to it first, and not while the execution of an earlier time still runs. A
time at which no server was there is left out; with `metadata.misfire` "once" the last of them is made up for. Daylight
saving is as cron has it: a time that does not exist fires when the clocks have gone on, one that comes twice once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

from twingraph import wire
from twingraph.errors import ComponentError, TwinGraphError
from twingraph.executions import fires
from twingraph.executions.definitions import Stored
from twingraph.server.problems import Problem
from twingraph.server.service import Service
from twingraph.server.timing import Timing, timing

_log = logging.getLogger("twingraph.server")
_LATE = 60.0  # seconds after which a time counts as missed
_LONGEST_SLEEP = 60.0


class Scheduler:
    """Starts workflows when they are due."""

    def __init__(self, service: Service, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._graph = service.graph
        self._clock = clock
        self._complained: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Until it is cancelled. A workflow that changed is seen within a minute, one that is stored here at once."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        forget = self._service.on_change(wake)
        try:
            while True:
                changed.clear()
                seconds = await asyncio.to_thread(self._safely)
                try:
                    await asyncio.wait_for(changed.wait(), seconds)
                except TimeoutError:
                    continue
        finally:
            forget()

    def _safely(self) -> float:
        try:
            return self.tick()
        except TwinGraphError as error:  # a database that is away for a while
            _log.error("Schedules wait: %s", error)
            return _LONGEST_SLEEP

    def tick(self) -> float:
        """Start what is due; returns the seconds until something is due again."""
        now, soonest = self._clock(), self._clock() + _LONGEST_SLEEP
        served = self._service.served()
        for stored in fires.scheduled(self._graph):
            if stored.origin and stored.id not in served:
                self._complain(stored.id, self._service.nobody_serves(stored.origin), logging.WARNING)
                continue
            try:
                when = timing(json.loads(stored.metadata or "{}"), stored.id)
            except ComponentError as error:
                self._complain(stored.id, str(error))
                continue
            if when is not None:
                soonest = min(soonest, *when.after(now))
                self._look(stored, when, now)
        return max(soonest - self._clock(), 0.01)

    def _look(self, stored: Stored, when: Timing, now: float) -> None:
        last = fires.last(self._graph, stored.id)
        since = max(last.due_at, stored.updated_at) if last else stored.updated_at
        due = when.between(since, now)
        if not due:
            return
        latest = due[-1]
        if now - latest > _LATE and when.misfire == "skip":
            fires.claim(self._graph, stored.id, latest, "missed")
        elif fires.is_running(self._graph, stored.id):
            fires.claim(self._graph, stored.id, latest, "overlap")
        elif fires.claim(self._graph, stored.id, latest, "started"):
            self._start(stored, latest)

    def _start(self, stored: Stored, due: float) -> None:
        inputs = json.loads(stored.metadata or "{}").get("inputs") or {}
        try:
            made, _ = self._service.execute(wire.ExecutionBody(workflow_id=stored.id, inputs=inputs), fires.CLIENT)
        except (Problem, ValueError) as problem:  # it was removed in this very moment, or its inputs are none
            self._complain(stored.id, str(problem))
            return
        fires.started(self._graph, stored.id, due, made.execution_id)

    def _complain(self, workflow: str, why: str, level: int = logging.ERROR) -> None:
        if (workflow, why) not in self._complained:
            self._complained.add((workflow, why))
            _log.log(level, "The schedule of workflow %r is not kept: %s", workflow, why)
