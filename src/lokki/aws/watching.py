"""Waiting for an execution, and telling what happens in it in the same events as a run on this machine does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from lokki.aws.client import Aws
from lokki.aws.executions import Execution, read
from lokki.aws.history import Counts, History, StateRun, map_counts, said_of
from lokki.aws.machines import DENIED, Definition, Place
from lokki.aws.pace import Pace
from lokki.aws.results import items_of
from lokki.errors import AwsError, InvokeError, StoreError
from lokki.events import (
    Listener,
    MapFinished,
    MapProgress,
    MapStarted,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepRetried,
    StepStarted,
)
from lokki.store.protocol import TransientStore

_FIRST, _MOST = 0.5, 5.0  # seconds between two looks
_STATUS = {"SUCCEEDED": "success"}


def watch(
    aws: Aws,
    execution: Execution,
    definition: Definition,
    tell: Listener,
    *,
    flow: str,
    store: TransientStore | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Execution:
    """Wait until an execution is over; returns what became of it.

    Args:
        aws: the account and region.
        execution: what to wait for.
        definition: of its machine.
        tell: hears what happens.
        flow: the flow's name in keys.
        store: where manifests of maps lie, which say how many items a map with batches has.
        sleep: waits so many seconds between two looks.
    """
    teller = _Teller(aws, execution, definition, tell, flow, store)
    tell(RunStarted(execution.name, flow))
    pace = Pace(sleep, _FIRST, _MOST)
    while True:
        now = read(aws, execution.arn, InvokeError)
        if teller.look():
            pace.hurry()
        if now.over:
            break
        pace.wait()
    tell(RunFinished(now.name, flow, _STATUS.get(now.status, "failed"), now.seconds, _said(now)))
    return now


class _Teller:
    """Tells what has happened since the last look."""

    def __init__(
        self,
        aws: Aws,
        execution: Execution,
        definition: Definition,
        tell: Listener,
        flow: str,
        store: TransientStore | None,
    ) -> None:
        self._aws = aws
        self._execution = execution
        self._definition = definition
        self._tell = tell
        self._flow = flow
        self._store = store
        self._history: History | None = History(aws, execution.arn, InvokeError)
        self._maps: dict[int, _MapTeller] = {}
        self._told: dict[int, StateRun] = {}
        self._begun = 0

    def look(self) -> bool:
        """Tell; says whether there was anything new. Who may start an execution may not be let to see its history."""
        if self._history is None:
            return False
        try:
            states = self._history.read()
            return sum(self._state(at, states[at]) for at in range(self._begun, len(states))) > 0
        except AwsError as error:
            if error.code not in DENIED:
                raise
            self._history = None
            return False

    def _state(self, at: int, state: StateRun) -> bool:
        place = self._definition.named(state.name)
        before = self._told.get(at)
        self._told[at] = state
        if place.kind == "map":
            new = self._maps.setdefault(at, self._map(place)).look(state)
        else:
            new = state != before
            self._step(place, before, state)
        if state.exited is not None and at == self._begun:
            self._begun += 1
        return new

    def _map(self, place: Place) -> _MapTeller:
        def items() -> tuple[int, int]:
            if self._store is None or not place.manifest:
                return 0, 1
            return items_of(self._store, self._flow, self._execution, place.manifest)

        return _MapTeller(self._aws, self._execution.name, place, items, self._tell)

    def _step(self, place: Place, before: StateRun | None, state: StateRun) -> None:
        run, node = self._execution.name, place.node
        if before is None:
            self._tell(StepStarted(run, node))
        seen = len(before.failed) if before else 0
        for number, each in enumerate(state.failed[seen:], seen + 1):
            self._tell(StepRetried(run, node, number, round(each.delay, 1), said_of(each.error, each.cause)))
        if state.exited is None:
            return
        again = max(0, state.attempts - 1)
        if state.status == "SUCCEEDED":
            self._tell(StepFinished(run, node, again, state.seconds))
        else:
            self._tell(StepFailed(run, node, again, state.seconds, said_of(state.error, state.cause), ""))


class _MapTeller:
    """Tells how far a map is. Step Functions counts its children; a manifest says how many items that is."""

    def __init__(self, aws: Aws, run: str, place: Place, items: Callable[[], tuple[int, int]], tell: Listener) -> None:
        self._aws = aws
        self._names = (run, place.node, place.inside[0].node if place.inside else place.node)
        self._items = items
        self._tell = tell
        self._total = 0
        self._each = 1
        self._begun = False
        self._last: tuple[int, int] | None = None
        self._over = False

    def look(self, state: StateRun) -> bool:
        """Tell what is new."""
        if self._over or not (state.map_run or state.exited):
            return False
        counts = map_counts(self._aws, state.map_run, InvokeError) if state.map_run else Counts()
        if not self._begun and (counts.total or state.exited):
            self._begin(counts)
        if not self._begun:
            return False
        done, failed = counts.items(self._total, self._each)
        if state.exited is not None:
            self._over = True
            done, failed = (self._total, 0) if state.status == "SUCCEEDED" else (done, failed)
            self._tell(MapFinished(*self._names, self._total, done, failed, state.seconds))
            return True
        new = (done, failed) != self._last
        if new:
            self._last = done, failed
            self._tell(MapProgress(*self._names, self._total, done, failed, _running(state)))
        return new

    def _begin(self, counts: Counts) -> None:
        self._begun = True
        self._total = counts.total
        with suppress(StoreError, ValueError):  # then children are counted
            total, self._each = self._items()
            self._total = max(total, counts.total)
        self._tell(MapStarted(*self._names, self._total))


def _said(ended: Execution) -> str:
    return said_of(ended.error, ended.cause) if ended.error else ""


def _running(state: StateRun) -> float:
    return time.time() - state.entered.timestamp()
