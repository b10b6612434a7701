"""Who runs what in which order: an execution (`Run`), and in it the body of each pipeline (`Scope`).

A call that names its parents, or is given a result, is submitted: it waits for them and runs on the pool, and the body
goes on. Any other runs at once, in the order of the body, as does one that is written inside a `try:`, so that `except`
sees its error. What a failed call means is up to the scope's `Handling`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from lokki.pools import Threads
from lokki.runtime.failure import Cancelled
from twingraph.calls import Call, inside, message, results_in
from twingraph.errors import ComponentError, PipelineTimeoutError, UpstreamFailedError
from twingraph.events import Event, Listener, NodeSubmitted
from twingraph.lineage import Tracker, new_hash
from twingraph.results import Result
from twingraph.retries import Retries
from twingraph.slots import Slots, held

if TYPE_CHECKING:
    from twingraph.decorators import Component
    from twingraph.executions.records import Kept

_MOST_THREADS = 10_000
_MOST_CONTENTS = 100_000  # calls whose content hash is known to those that follow them
_LONGEST = 1e9  # seconds that Python can wait
_LOOK = 0.25  # seconds between two looks whether the execution was stopped


class Handling(Protocol):
    """What a failed call means for its pipeline."""

    def retry(self, component: Component) -> Retries:
        """How the component is tried again in this pipeline."""

    def ends(self, call: Call) -> bool:
        """Whether the body gets the error of a call that failed, and not a failed result."""

    def failed(self, call: Call, scope: Scope) -> None:
        """Hear of a call that failed outside of any `try:`; once."""


Recall = Callable[[str, float | None], "Kept | None"]
Repeat = Callable[[str, str, str], "Kept | None"]
"""What a node gave in the execution that is repeated: its id, the node that it is within, its content hash."""


def nothing_recalled(_content: str, _seconds: float | None) -> Kept | None:
    """The cache of an execution that is not recorded."""
    return None


class Run:
    """One execution: what its scopes share."""

    def __init__(
        self,
        id: str,  # noqa: A002 - it is the execution's
        listeners: tuple[Listener, ...] = (),
        recall: Recall = nothing_recalled,
        repeat: Repeat | None = None,
        keep: bool = False,
    ) -> None:
        self.id = id
        self.listened = bool(listeners)
        self.recall = recall
        self.repeat = repeat
        self.keep = keep
        self.tracker = Tracker()
        self.contents: dict[str, str] = {}
        self.calls: WeakValueDictionary[str, Call] = WeakValueDictionary()
        self.pool = Threads(_MOST_THREADS)
        self._listeners = listeners
        self.named: frozenset[str] = frozenset()  # the ids of a workflow's nodes, which no other call gets
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._telling = threading.RLock()

    def tell(self, event: Event) -> None:
        """Tell the listeners, one event at a time."""
        with self._telling:
            for listen in self._listeners:
                listen(event)

    def made_of(self, hash: str, content: str) -> None:  # noqa: A002 - it is one
        """Take note of a call's content hash, for those that follow it."""
        with self._lock:
            self.contents[hash] = content
            if len(self.contents) > _MOST_CONTENTS:
                del self.contents[next(iter(self.contents))]

    def node_id(self, name: str) -> str:
        """An id for another call of this component: `load`, then `load#2`."""
        with self._lock:
            while True:
                self._counts[name] += 1
                made = name if self._counts[name] == 1 else f"{name}#{self._counts[name]}"
                if made not in self.named:
                    return made


class Scope:
    """The body of a pipeline while it runs; `outer` is that of the pipeline around it."""

    def __init__(
        self,
        run: Run,
        name: str,
        handling: Handling,
        *,
        limit: int,
        timeout: float = 0,
        lazy: bool = True,
        within: str = "",
        outer: Scope | None = None,
        tries: Mapping[CodeType, frozenset[int]] | None = None,
    ) -> None:
        self.run = run
        self.name = name
        self.within = within
        self.stop = threading.Event()
        self.limit = limit
        self.handling = handling
        self._lazy = lazy
        self._tries = tries or {}
        # a component that calls a pipeline has a place already, and must not wait for another
        shared = outer is not None and inside.get() == outer.within
        self.slots: Slots = Slots(limit, outer.slots if outer is not None and shared else None)
        self._outer = outer
        self.inner: list[Scope] = []
        self._open: dict[str, Call] = {}  # submitted calls, until the end of the body
        self.why: Callable[[], BaseException] = lambda: Cancelled(f"pipeline {name!r} was stopped")
        self._timer = threading.Timer(min(timeout, _LONGEST), self._expire, (timeout,)) if timeout else None
        if outer is not None:
            outer.inner.append(self)
            if outer.stop.is_set():  # it was stopped in the meantime
                self.halt(outer.why)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    # ---- making calls

    def call(self, component: Component, args: tuple[Any, ...], kwargs: Mapping[str, Any], submit: bool) -> Result:
        """Call a component as the body asks for it."""
        self.check()
        args, kwargs, given = component.accepted(args, kwargs)
        results = list(results_in(args, kwargs))
        parents = tuple(dict.fromkeys((*given, *(each.hash for each in results))))
        explicit = bool(parents)
        if not parents:
            parents = self.run.tracker.sources((*args, *kwargs.values()))
        nested = inside.get() != self.within
        call, result = self._made(component, self.run.node_id(component.name), parents, args, kwargs)
        call.given, caught = bool(results), not nested and self._in_try()
        if submit or (self._lazy and explicit and not nested and not caught):
            self._submit(call, nested)
        else:
            self._now(call, nested, caught)
            self._answer(call, caught or nested)
        return result

    def later(
        self, component: Component, node: str, parents: Sequence[Result], arguments: Callable[[], Mapping[str, Any]]
    ) -> Result:
        """Submit a call whose arguments are made when its parents are done."""
        self.check()
        call, result = self._made(component, node, tuple(each.hash for each in parents), (), arguments)
        self._submit(call, nested=False)
        return result

    def check(self) -> None:
        """Raise why this is over, if it is."""
        if self.stop.is_set():
            raise self.why()

    def _made(
        self,
        component: Component,
        node: str,
        parents: tuple[str, ...],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    ) -> tuple[Call, Result]:
        retry = self.handling.retry(component)
        call = Call(self.run, component, node, new_hash(), parents, inside.get(), args, kwargs, retry, self.stop)
        result = Result(call.hash, node, component.name, _Waiting(self, call))
        call.result = result
        self.run.calls[call.hash] = call
        return call, result

    def _submit(self, call: Call, nested: bool) -> None:
        self._open[call.hash] = call
        call.then(lambda: self._over(call))
        component = call.component
        if self.run.listened:
            self.run.tell(
                NodeSubmitted(
                    self.run.id,
                    call.node,
                    call.hash,
                    component.name,
                    component.placement.platform,
                    call.parents,
                    component.placement.labels,
                    call.within,
                    time.time(),
                )
            )
        context = copy_context()  # whoever gives a place or ends as the last parent has one of its own
        waits = self._unfinished(call)
        left, lock = len(waits) + 1, threading.Lock()

        def one_less() -> None:
            nonlocal left
            with lock:
                left -= 1
                ready = left == 0
            if ready and nested:  # its component may wait for it, in the last place there is
                self.run.pool.submit(lambda: context.run(self._run, call, True))
            elif ready:
                self.slots.take(lambda: self.run.pool.submit(lambda: context.run(self._in_place, call, False)))

        for each in waits:
            each.then(one_less)
        one_less()

    def _now(self, call: Call, nested: bool, caught: bool) -> None:
        for each in self._unfinished(call):
            self.join(each)
        if nested:  # its component has a place already
            self._run(call, caught=True)
            return
        if not self.slots.take_now():
            ready = threading.Event()
            self.slots.take(ready.set)
            self._wait(ready)
        self._in_place(call, caught)

    def _in_place(self, call: Call, caught: bool) -> None:
        """Run the call in the place that was taken for it."""
        token = held.set(self.slots)
        try:
            self._run(call, caught)
        finally:
            held.reset(token)
            self.slots.give()

    def _run(self, call: Call, caught: bool) -> None:
        if self.stop.is_set():
            call.fail(self.why(), "stopped")
        elif (error := self._upstream(call)) is not None:
            call.fail(error, "skipped")
        else:
            call.run()
        if call.error is not None and not caught and not self.stop.is_set():
            self.handling.failed(call, self)

    def _upstream(self, call: Call) -> BaseException | None:
        """Why a call whose parent failed is not run, where a failure ends the pipeline."""
        for each in call.parents:
            parent = self.run.calls.get(each)
            if parent is not None and parent.error is not None and not parent.seen and self.handling.ends(parent):
                error = UpstreamFailedError(f"It follows {parent.node!r}, which failed: {message(parent.error)}")
                error.__cause__ = parent.error
                return error
        return None

    def _unfinished(self, call: Call) -> list[Call]:
        found = (self.run.calls.get(each) for each in call.parents)
        # the component that makes the call is not over before it
        return [each for each in found if each is not None and not each.over.is_set() and each.node != call.within]

    def _in_try(self) -> bool:
        """Whether the line of the body that is being run stands inside a `try:` that has handlers."""
        if not self._tries:
            return False
        frame = sys._getframe(2)  # noqa: SLF001 - a walk of the stack by other means costs 50 times as much
        while frame is not None:
            lines = self._tries.get(frame.f_code)
            if lines is not None:
                return frame.f_lineno in lines
            frame = frame.f_back  # type: ignore[assignment]
        return False

    # ---- what became of them

    def _answer(self, call: Call, raises: bool) -> None:
        """Raise the call's error, unless the body is to go on with a failed result."""
        if call.error is None:
            return
        call.seen = True
        if isinstance(call.error, Cancelled) and self.stop.is_set():
            raise self.why() from None
        if raises or self.handling.ends(call):
            raise _cause(call.error)

    def settle(self, call: Call) -> None:
        """Wait for a call whose outputs the body asks for."""
        self.join(call)
        self._answer(call, raises=False)

    def join(self, call: Call) -> None:
        """Wait until a call is over."""
        node = inside.get()
        if call.over.is_set():
            return
        if call.node == node:
            raise ComponentError(f"Component {call.component.name!r} ({node}) waits for its own result.")
        if node != self.within == call.within and held.get() is self.slots:  # the call may wait for this place
            again = threading.Event()
            with self.slots.lent(again):
                self._wait(call.over)
            self._wait(again)
        else:
            self._wait(call.over)

    def finish(self) -> None:
        """The body has ended: wait for all calls, and raise the first failure that it did not see."""
        for call in list(self._open.values()):
            self.join(call)
        self.check()  # a body may have caught why it was ended
        for call in list(self._open.values()):
            if not call.seen:
                self._answer(call, raises=False)

    def drain(self, seconds: float | None = None) -> None:
        """Give what still runs so many seconds to end and clean up, or as long as it takes."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for call in list(self._open.values()):
            call.over.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
            call.abandon(self.why)

    def _over(self, call: Call) -> None:
        """A submitted call is over: one that failed is kept, for the end of the body."""
        if call.error is None or not self._lazy:
            self._open.pop(call.hash, None)

    def _wait(self, event: threading.Event) -> None:
        while not event.wait(_LOOK):
            self.check()

    # ---- ending

    def halt(self, why: Callable[[], BaseException] | None = None) -> None:
        """Let nothing further begin, and end what runs."""
        if why is not None and not self.stop.is_set():
            self.why = why
        self.stop.set()
        for each in list(self.inner):  # others come and go
            each.halt(self.why)

    def close(self) -> None:
        """The pipeline is over."""
        if self._timer is not None:
            self._timer.cancel()
        if self._outer is not None:
            self._outer.inner.remove(self)
        else:
            self.run.pool.close()

    def _expire(self, timeout: float) -> None:
        self.halt(
            lambda: PipelineTimeoutError(f"Pipeline {self.name!r} took longer than its timeout of {timeout:g} s.")
        )


def _cause(error: BaseException) -> BaseException:
    """The failure that kept others from running, in place of theirs."""
    while isinstance(error, UpstreamFailedError) and error.__cause__ is not None:
        error = error.__cause__
    return error


class _Waiting:
    """What a result waits with."""

    def __init__(self, scope: Scope, call: Call) -> None:
        self._scope = scope
        self._call = call

    def join(self) -> None:
        self._scope.join(self._call)

    def settle(self) -> None:
        self._scope.settle(self._call)


current: ContextVar[Scope | None] = ContextVar("current", default=None)
"""The body that is running; None outside of all."""
