"""One state of the machine at work: its inputs read, its step run for each item, its results written.

A step that fails with an error that its policy wants retried leaves as `LokkiRetryable`, and the state machine calls
again; what other items of the same child finished is kept, and only what failed runs again. So each item has its own
attempts, however many share a call. Where the state machine cannot retry (a Batch job, a body that runs in one place),
the step is tried again here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from lokki.codec import NO_TAG, digest
from lokki.errors import LokkiError
from lokki.events import Listener, StepFailed, StepFinished, StepRetried
from lokki.frozen import replace
from lokki.graph import ITEM, Call, FlowGraph, Map, Ref
from lokki.policy import NO_RETRY
from lokki.runtime.event import State
from lokki.runtime.failure import LokkiRetryable, StepFailure, leaving, shown, user_trace
from lokki.runtime.invoke import Invocation, invoke, picked
from lokki.runtime.items import sequence
from lokki.runtime.keeping import Output
from lokki.runtime.parts import Earlier, Packs, Parts
from lokki.runtime.plan import PlannedCall, PlannedGraph, PlannedMap, planned_node
from lokki.sentences import utc_now
from lokki.store.protocol import Index, TransientStore

Results = dict[str, Output]


class Task:
    """The work of one state.

    Args:
        graph: the flow with this execution's arguments in it.
        params: the parameters of this execution.
        store: where results lie.
        flow: the flow's name in keys.
        state: the state's data.
        attempt: how often the state machine has tried before.
        here: whether retries happen here, because the state machine makes none.
        tell: hears what happens.
        packs: what this process has read of packed items.
        own: the project's modules, whose code counts when results are reused.
    """

    durable = True

    def __init__(
        self,
        graph: FlowGraph,
        params: Mapping[str, Any],
        store: TransientStore,
        flow: str,
        state: State,
        *,
        attempt: int = 0,
        here: bool = False,
        tell: Listener,
        packs: Packs | None = None,
        own: tuple[str, ...] = (),
    ) -> None:
        self._graph = graph
        self._params = params
        self._state = state
        self._attempt = attempt
        self._here = here
        self._tell = tell
        self._own = own or None
        self._parts = Parts(store, flow, state.run_id, cache=state.cache, packs=packs, mending=state.mending)
        self._errors = f"{flow}/runs/{state.run_id}/errors"
        self._store = store

    def run(self, id: str) -> dict[str, str]:  # noqa: A002 - it is an id
        """Run the node; returns where its result lies, and where the manifest of its items, if it has one."""
        graph, node = _found(self._graph, id)
        started = perf_counter()
        results, reused = self._node(graph, node)
        for made in results:
            assert made is not None
        answer = {"result_url": self._parts.location(_writes(node), self._state.at)}
        if manifest := self._fan_out(graph, id, results):
            answer["map_manifest_key"] = manifest
        place, count = ((), 1) if self._state.at is None else (self._state.at.place, self._state.at.count)
        seconds = perf_counter() - started
        self._tell(StepFinished(self._state.run_id, id, self._attempt, seconds, reused, place, count))
        return answer

    def _node(self, graph: FlowGraph, node: Call | Map) -> tuple[Sequence[Earlier | None], bool]:
        """Run a node for each of its items; returns the results, and whether all of them were there already."""
        planned = planned_node(node, self._params, signed=self._state.cache, most=_items_limit(), own=self._own)
        sources = self._sources(graph, node)
        places = [()] if self._state.at is None else self._state.at.places
        again = self._state.cache or (self._attempt > 0 and len(places) > 1)
        there = self._parts.earlier(_writes(node), self._state.at) if again else [None] * len(places)
        results: list[Earlier | None] = []
        retried: StepFailure | None = None
        try:
            for at, place in enumerate(places):
                given = {each: outputs[at] for each, outputs in sources.items()}
                tag = self._tag(planned, given)
                results.append(there[at] if self._state.mending else _same(there[at], tag))
                if results[-1] is not None:
                    continue
                try:
                    results[-1] = self._made(node, tag, self._value(planned, given, place), place)
                except StepFailure as failure:
                    self._failed(node, failure, given, place)
                    retried = retried or failure
        finally:
            results += there[len(results) :]  # what an earlier attempt or execution finished stays
            if any(
                made is not None and (made is not known or made.moves)
                for made, known in zip(results, there, strict=True)
            ):
                self._keep(_writes(node), results, places)
        if retried is not None:
            raise leaving(retried, LokkiRetryable) from None
        return results, all(made is known for made, known in zip(results, there, strict=True))

    def _made(self, node: Call | Map, tag: bytes, value: Any, place: Index) -> Earlier:
        try:
            return self._parts.made(_writes(node), self._state.at, place, tag, value)
        except LokkiError as error:
            raise type(error)(f"The result of step {_writes(node)!r}: {error}") from error

    def _keep(self, id: str, results: Sequence[Earlier | None], places: Sequence[Index]) -> None:  # noqa: A002
        try:
            self._parts.write(id, self._state.at, results)
        except LokkiError as error:
            where = f" for item {'.'.join(map(str, places[0]))}" if places[0] and len(places) == 1 else ""
            raise type(error)(f"The result of step {id!r}{where}: {error}") from error

    def _sources(self, graph: FlowGraph, node: Call | Map) -> dict[str, list[Output]]:
        """For each node whose result is used, its results for the items of this child."""
        wanted = [node.over] if isinstance(node, Map) else [each for each in node.arguments() if isinstance(each, Ref)]
        if isinstance(node, Map):  # a body in one place: its item is what it needs
            return {ITEM: self._items(node)}
        found: dict[str, list[Output]] = {}
        for name in dict.fromkeys(each.node for each in wanted):
            if name == ITEM:
                found[name] = self._items(_around(self._graph, node.id))
                continue
            source = graph.node(name)
            at = self._state.at
            found[name] = self._parts.gathered(source, at) if isinstance(source, Map) else self._parts.outputs(name, at)
        return found

    def _items(self, node: Map) -> list[Output]:
        assert self._state.at is not None
        return self._parts.items(node, self._state.at, self._state.over)

    def _tag(self, planned: PlannedCall | PlannedMap, given: Results) -> bytes:
        """What a result is made from; only where results may be reused."""
        if not self._state.cache:
            return NO_TAG
        return digest(planned.sign + b"".join(given[each].digest for each in given))

    def _value(self, planned: PlannedCall | PlannedMap, given: Results, place: Index) -> Any:
        if isinstance(planned, PlannedMap):
            return self._body(planned.body, given[ITEM], place)
        invocation = planned.invocation
        if not self._here:
            invocation = invocation._replace(step=replace(invocation.step, retry=NO_RETRY))
        return self._invoked(invocation, given, place)

    def _body(self, body: PlannedGraph, item: Output, place: Index) -> Any:
        """All steps of a body, one after the other, their results in memory."""
        results: Results = {ITEM: item}
        for node in body.nodes:
            if isinstance(node, PlannedCall):
                made = self._invoked(node.invocation, results, place)
            else:
                items = sequence(picked(node.over, results), node.over.node)[: node.most]
                made = [self._body(node.body, Output(each), (*place, at)) for at, each in enumerate(items)]
            results[node.id] = Output(made)
            for each in node.drops:
                del results[each]
        return picked(body.output, results)

    def _invoked(self, invocation: Invocation, given: Results, place: Index) -> Any:
        started = perf_counter()
        try:
            return invoke(invocation, given, place, self)
        except StepFailure as error:
            failure = error
        except (KeyboardInterrupt, GeneratorExit) as error:  # nobody interrupts a function: the step itself raised it
            failure = StepFailure(error, invocation.node, 0, perf_counter() - started, user_trace(error), place)
        if ITEM in given:
            failure.item = failure.item or shown(given[ITEM].value)
        raise failure

    def _failed(self, node: Call | Map, failure: StepFailure, given: Results, place: Index) -> None:
        """Tell of a failure; it is raised unless it is for the state machine to try this item again.

        Whether it still does, the state machine alone knows: `attempt` also counts calls that Lambda turned away.
        """
        retry = node.step.retry if isinstance(node, Call) and not self._here else NO_RETRY
        again = retry.retries > 0 and retry.matches(failure.cause)
        if again and self._attempt < retry.retries:
            delay = retry.wait(self._attempt)
            self._tell(
                StepRetried(self._state.run_id, failure.node, self._attempt + 1, delay, failure.error, failure.index)
            )
            return
        attempt = failure.attempt if self._here or isinstance(node, Map) else self._attempt
        self._tell(
            StepFailed(
                self._state.run_id,
                failure.node,
                attempt,
                failure.seconds,
                failure.error,
                failure.trace,
                failure.index,
                failure.item,
            )
        )
        self._record(failure, attempt)
        if not again:
            raise leaving(failure) from None

    def _record(self, failure: StepFailure, attempt: int) -> None:
        """Leave the failure where whoever looks after the execution finds it: a map's own error does not tell it."""
        import json

        told = {
            "ts": utc_now(),
            "step": failure.node,
            "index": list(failure.index),
            "item": failure.item,
            "attempt": attempt,
            "error": failure.error,
            "traceback": failure.trace,
        }
        key = f"{self._errors}/{'/'.join((failure.node, *map(str, failure.index)))}.json"
        try:
            self._store.put_blob(key, json.dumps(told).encode())
        except LokkiError:  # the failure itself is what matters, and the log has it
            return

    def _fan_out(self, graph: FlowGraph, id: str, results: Sequence[Earlier | None]) -> str | None:  # noqa: A002
        """Pack the items of the map that runs over this node's result."""
        node = next((each for each in graph.nodes if isinstance(each, Map) and each.over.node == id), None)
        if node is None:
            return None
        outputs = [each.output for each in results if each is not None]
        values = [sequence(picked(node.over, {id: each}), id)[: _items_limit()] for each in outputs]
        return self._parts.write_items(node, self._state.at, values, [each.digest for each in outputs])

    # --- what `invoke` needs of its surroundings

    def retrying(self, node: str, index: Index, attempt: int, delay: float, error: str) -> None:
        """An attempt failed and another follows here."""
        self._tell(StepRetried(self._state.run_id, node, attempt, delay, error, index))

    def wait(self, seconds: float) -> bool:
        """Sleep before the next attempt."""
        time.sleep(seconds)
        return False


def _items_limit() -> int | None:
    """How many items of each map a simulation wants at most."""
    return int(os.environ.get("LOKKI_ITEMS_LIMIT") or 0) or None


def _same(there: Earlier | None, tag: bytes) -> Earlier | None:
    return there if there is not None and there.tag == tag else None


def _writes(node: Call | Map) -> str:
    """Under whose name a node's result lies: that of a body in one place under its last step's."""
    return node.id if isinstance(node, Call) else node.body.output.node


def _found(graph: FlowGraph, id: str) -> tuple[FlowGraph, Call | Map]:  # noqa: A002 - it is an id
    """The node, and the graph or body that it is in."""
    for node in graph.nodes:
        if node.id == id:
            return graph, node
        if isinstance(node, Map) and id in {each.id for each in node.body.walk()}:
            return _found(node.body, id)
    raise LokkiError(f"No node named {id!r} in flow {graph.name!r}: build and deploy it again.")


def _around(graph: FlowGraph, id: str) -> Map:  # noqa: A002 - it is an id
    """The map in whose body a node is."""
    around = _around_or_none(graph, id)
    assert around is not None
    return around


def _around_or_none(graph: FlowGraph, id: str) -> Map | None:  # noqa: A002 - it is an id
    for node in graph.walk():
        if isinstance(node, Map) and any(each.id == id for each in node.body.nodes):
            return node
    return None
