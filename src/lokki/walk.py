"""The walk through a planned graph: each node in turn, each map as wide as its pool.

For every node the walk asks the keeper for a stored output with the right tag, and runs the node only when there is
none. Items of a map go through the whole body one by one, without a barrier between its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any

from lokki.codec import NO_TAG, decode, digest, encode
from lokki.errors import LokkiError, StoreError
from lokki.events import Event, StepFailed, StepFinished, StepRetried, StepStarted
from lokki.fanout import FanOut, Job, Slice
from lokki.graph import ITEM
from lokki.pools import Inline, Pool, Stop, worker_stop
from lokki.runtime.failure import StepFailure, shown
from lokki.runtime.invoke import invoke, picked
from lokki.runtime.items import sequence
from lokki.runtime.keeping import Collecting, Keeper, Output, Passing, Storing
from lokki.runtime.plan import PlannedCall, PlannedGraph, PlannedMap, PlannedNode
from lokki.store.packing import Items
from lokki.store.protocol import Index

Results = dict[str, Output]
_LONGEST_SLICE = 0.5  # seconds


class Walk:
    """One run of a graph, in this process."""

    def __init__(
        self,
        run: str,
        keeper: Keeper,
        pool: Pool,
        tell: Callable[[Event], None],
        stop: Stop,
        durable: bool | None = None,
    ) -> None:
        self.run = run
        self.keeper = keeper
        self.durable = keeper.durable if durable is None else durable  # whether attempts get their arguments afresh
        self.pool = pool
        self.tell = tell
        self.stop = stop
        self.attempts = 0

    def graph(self, graph: PlannedGraph, index: Index, results: Results) -> Output:
        """Run every node; returns the graph's result."""
        for node in graph.nodes:
            made = (
                self._call(node, index, results) if isinstance(node, PlannedCall) else self._map(node, index, results)
            )
            results[node.id] = made
            for each in node.drops:
                del results[each]
        return results[graph.output.node]

    def item(self, node: PlannedMap, index: Index, value: Any, mark: bytes) -> Output:
        """Run the body of a map for one item."""
        body = node.body
        results = {ITEM: Output(value, mark)}
        if not (body.direct and self.keeper.durable):
            return self.graph(body, index, results)
        tag = digest(body.sign + mark)
        found = self.keeper.reuse(body.output.node, index, tag)
        if found is None:
            direct = Walk(self.run, Passing(), self.pool, self.tell, self.stop, self.durable)
            found = self.keeper.keep(body.output.node, index, tag, direct.graph(body, index, results).value)
        return found

    def peek(self, node: PlannedMap, index: Index, mark: bytes) -> Output | None:
        """The result of a map's body for one item, if all of it is stored; nothing is run or loaded."""
        body = node.body
        if body.direct:
            return self.keeper.reuse(body.output.node, index, digest(body.sign + mark))
        results = {ITEM: Output(None, mark)}
        for each in body.nodes:
            found = self._found(each, index, results)
            if found is None:
                return None
            results[each.id] = found
        return results[body.output.node]

    def stored(self, graph: PlannedGraph, index: Index) -> Any:
        """The stored result of a graph that is known to be whole."""
        last = graph.last
        if graph.direct or isinstance(last, PlannedCall):
            return self.keeper.load(last.id, index)
        return self._whole(last, index, self.keeper.load(last.id, index))

    def retrying(self, node: str, index: Index, attempt: int, delay: float, error: str) -> None:
        """A step is about to be tried again."""
        if not index:
            self.attempts = attempt
        self.tell(StepRetried(self.run, node, attempt, delay, error, index))

    def wait(self, seconds: float) -> bool:
        """Sleep before a retry; true when the run was stopped meanwhile."""
        return self.stop.wait(seconds)

    def _call(self, node: PlannedCall, index: Index, results: Results) -> Output:
        found = self._found(node, index, results)
        if found is None:
            return self._run(node, index, results)
        if not index:
            self.tell(StepFinished(self.run, node.id, 0, 0.0, reused=True))
        return found

    def _run(self, node: PlannedCall, index: Index, results: Results) -> Output:
        tag = self._tag(node, results)
        if index:
            return self.keeper.keep(node.id, index, tag, self._invoked(node, index, results))
        self.attempts = 0
        self.tell(StepStarted(self.run, node.id, node.invocation.step.resources.job_type))
        started = perf_counter()
        made = self.keeper.keep(node.id, index, tag, self._invoked(node, index, results))
        self.tell(StepFinished(self.run, node.id, self.attempts, perf_counter() - started))
        return made

    def _invoked(self, node: PlannedCall, index: Index, results: Results) -> Any:
        try:
            return invoke(node.invocation, results, index, self)
        except StepFailure as failure:
            if ITEM in results:
                failure.item = shown(results[ITEM].value)
            self.tell(
                StepFailed(
                    self.run,
                    node.id,
                    failure.attempt,
                    failure.seconds,
                    failure.error,
                    failure.trace,
                    index,
                    failure.item,
                )
            )
            raise

    def _map(self, node: PlannedMap, index: Index, results: Results) -> Output:
        found = self._found(node, index, results)
        if found is not None:
            count, _ = self.keeper.load(node.id, index)
            FanOut(self, node, index, range(count)).reused()
            return found
        values, marks = FanOut(self, node, index, self._items(node, index, results)).run(run_slice)
        if not self.keeper.durable:
            return Output(values)
        return Output(values, self.keeper.mark(node.id, index, self._tag(node, results), (len(values), digest(marks))))

    def _items(self, node: PlannedMap, index: Index, results: Results) -> Items | Sequence[Any]:
        over = node.over.node

        def values() -> Sequence[Any]:
            return sequence(picked(node.over, results), over)[: node.most]

        if isinstance(self.keeper, Storing) and not index:
            tag = digest(repr(node.over.path).encode() + results[over].digest)
            return self.keeper.pack(over, tag, values, node.batch)
        return values()

    def _found(self, node: PlannedNode, index: Index, results: Results) -> Output | None:
        """What an earlier run left for this node, if it came from the same."""
        if self.keeper.fresh:
            return None
        found = self.keeper.reuse(node.id, index, self._tag(node, results))
        if found is None or isinstance(node, PlannedCall):
            return found
        if not self._intact(node, index, found.value):
            return None
        return Output(None, found.digest, lambda: self._whole(node, index, found.value))

    def _intact(self, node: PlannedMap, index: Index, marker: tuple[int, bytes]) -> bool:
        """Whether the stored items are still those that the map's marker was written for."""
        count, mark = marker
        last, places = node.body.last, [(*index, position) for position in range(count)]
        if digest(b"".join(self.keeper.digest(last.id, place) for place in places)) != mark:
            return False
        if node.body.direct or isinstance(last, PlannedCall):
            return True
        return all(self._intact(last, place, self.keeper.load(last.id, place)) for place in places)

    def _whole(self, node: PlannedMap, index: Index, marker: tuple[int, bytes]) -> list[Any]:
        return [self.stored(node.body, (*index, position)) for position in range(marker[0])]

    def _tag(self, node: PlannedNode, results: Results) -> bytes:
        if not self.keeper.durable:
            return NO_TAG
        sources = node.sources if isinstance(node, PlannedCall) else (node.over.node,)
        return digest(node.sign + b"".join([results[each].digest for each in sources]))


@lru_cache(maxsize=8)
def _opened(job: bytes) -> Job:
    opened: Job = decode(job)
    return opened


def _sent(node: PlannedMap, position: int, value: Any) -> bytes:
    """The result as it travels to the process that started this one."""
    try:
        return encode(value)
    except StoreError as error:
        raise StoreError(f"The result of step {node.body.last.id!r} for item {position}: {error}") from error


def run_slice(job: bytes, positions: Sequence[int], frames: Sequence[bytes]) -> Slice:
    """Run some items of a map in this worker process; stops at the first that fails."""
    opened = _opened(job)
    keeper: Keeper = opened.keeper or Collecting()
    made = Slice()
    walk = Walk(opened.run, keeper, Inline(), made.events.append, worker_stop())
    started = perf_counter()
    for position, frame in zip(positions, frames, strict=True):
        if walk.stop.is_set() or (made.marks and perf_counter() - started > _LONGEST_SLICE):
            break  # what is left is sent again, in smaller pieces
        try:
            out = walk.item(opened.node, (position,), decode(frame), digest(frame) if keeper.durable else NO_TAG)
            if not keeper.durable:
                made.values.append(_sent(opened.node, position, out.value))
        except LokkiError as error:
            made.error = error
            break
        made.marks.append(out.digest)
    made.parts = keeper.parts if isinstance(keeper, Collecting) else []
    made.seconds = perf_counter() - started
    return made
