"""One call of a component, from its arguments to its result: recorded, taken from the cache, tried again, or failed.

The kernel's `invoke` runs it, so retries mean here what they mean in a flow. What it calls is an *attempt*, which takes
the function to its platform and waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from lokki.graph import Const, Step
from lokki.pools import Stop
from lokki.runtime.failure import Cancelled, StepFailure, leave_out, summary, user_trace
from lokki.runtime.invoke import Invocation, invoke
from twingraph.errors import UpstreamFailedError
from twingraph.events import Event, NodeFailed, NodeFinished, NodeLogged, NodeRetried, NodeStarted
from twingraph.lineage import Tracker, content_hash
from twingraph.placed import Placed, unheard
from twingraph.platforms.base import platform, run
from twingraph.results import Outputs, Result, outputs
from twingraph.retries import Retries
from twingraph.returned import form_of, remade
from twingraph.revealing import refers, revealed, travelling

if TYPE_CHECKING:
    from twingraph.decorators import Component
    from twingraph.executions.records import Kept

leave_out(os.path.dirname(os.path.abspath(__file__)))

inside: ContextVar[str] = ContextVar("inside", default="")
"""The node whose code is running; empty in the body of a pipeline, and outside of all."""

_SHOWN_ID = 20  # digits of a call's hash in the names of containers and jobs


class Around(Protocol):
    """What a call needs from the execution that it is part of."""

    id: str
    tracker: Tracker
    contents: dict[str, str]
    listened: bool
    keep: bool
    repeat: Callable[[str, str, str], Kept | None] | None

    def tell(self, event: Event) -> None:
        """Tell the listeners."""

    def made_of(self, hash: str, content: str) -> None:  # noqa: A002 - it is one
        """Take note of a call's content hash, for those that follow it."""

    def recall(self, content: str, seconds: float | None) -> Kept | None:
        """What is recorded of a call with this content hash that is not older than so many seconds."""


class Call:
    """One call of a component."""

    def __init__(
        self,
        around: Around,
        component: Component,
        node: str,
        hash: str,  # noqa: A002 - it is one
        parents: tuple[str, ...],
        within: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        retry: Retries,
        stop: Stop,
    ) -> None:
        self.around = around
        self.component = component
        self.node = node
        self.hash = hash
        self.parents = parents
        self.within = within
        self.retry = retry
        self.stop = stop
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.seen = False
        self.given = True  # whether there are results among the arguments
        self.attempt = 0
        self.trace = ""
        self.result: Result | None = None
        self._args = args
        self._kwargs = kwargs
        self._ended = False
        self._after: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._usage: dict[str, float] = {}

    # ---- what others wait for

    def then(self, task: Callable[[], None]) -> None:
        """Call the task when this is over; at once if it is."""
        with self._lock:
            if not self.over.is_set():
                self._after.append(task)
                return
        task()

    def _finish(self) -> None:
        with self._lock:
            self.over.set()
            after, self._after = self._after, []
        self._args, self._kwargs, self.result = (), {}, None  # so that nothing but the result itself holds the outputs
        for task in after:
            task()

    # ---- running

    def run(self) -> None:
        """Run it, here and now; never raises but for Ctrl-C."""
        token = inside.set(self.node)
        started = time.perf_counter()
        try:
            self._run()
        except StepFailure as failure:
            self.attempt = failure.attempt
            self.trace = failure.trace
            failure.kind = "component"
            self.fail(failure.exception(), seconds=time.perf_counter() - started)
        except UpstreamFailedError as error:
            self.fail(error, "skipped")
        except Cancelled as error:
            self.fail(error, "stopped", time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - a listener's failure is told to whoever waits for the call
            self.trace = user_trace(error)
            self.fail(error, seconds=time.perf_counter() - started)
        except BaseException as error:
            self.fail(error, "stopped", time.perf_counter() - started)
            raise
        finally:
            inside.reset(token)

    def fail(self, error: BaseException, status: str = "failed", seconds: float = 0.0) -> None:
        """It failed, was stopped, or was not run at all."""
        if not self._ends():
            return
        self.error = error
        told = NodeFailed(
            self.around.id,
            self.node,
            self.attempt,
            seconds,
            summary(error),
            self.trace,
            hash=self.hash,
            kind=type(error).__name__,
            status=status,
            at=time.time(),
        )
        try:
            self.around.tell(told)
        finally:
            if self.result is not None:
                why = f"component {self.component.name!r} ({self.node}) {_what(status)}: {message(error)}"
                self.result.fail(error, why, status)
            self._finish()

    def _run(self) -> None:
        args, kwargs = self.filled()
        component = self.component
        content, sure = self._started(args, kwargs)
        recalled = self._recalled(content, sure)
        if recalled is not None:
            self._done(*recalled, 0.0, "cached")
            return
        if refers(args, kwargs):
            args, kwargs = revealed(args, kwargs)
        step = Step(self._attempt, component.name, self.retry)
        invocation = Invocation(self.node, step, None, tuple(map(Const, args)), (), kwargs)
        started = time.perf_counter()
        value = invoke(invocation, {}, (), self)
        if type(value) is Result:  # of a component that it called
            value = value.value
        self._done(value, outputs(value), time.perf_counter() - started, "completed")

    def _recalled(self, content: str, sure: bool) -> tuple[Any, Outputs] | None:
        """What a call like this returned before, and its outputs, where that is to be used again."""
        around, cache = self.around, self.component.cache
        kept = around.repeat(self.node, self.within, content) if around.repeat is not None else None
        if kept is None and cache is not None and sure:
            kept = around.recall(content, cache.ttl)
        if kept is None:
            return None
        try:
            return remade(kept.form, kept.outputs), Outputs(kept.outputs)
        except ValueError:  # its class is not here any more
            return None

    def filled(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with values in place of results; a result that failed is an `UpstreamFailedError`."""
        if callable(self._kwargs):
            return self.component.by_place(self._kwargs())
        if not self.given:
            return self._args, dict(self._kwargs)
        return tuple(map(_filled, self._args)), {name: _filled(each) for name, each in self._kwargs.items()}

    def _started(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, bool]:
        """Tell that it runs; returns its content hash where somebody wants it, and whether that can be relied on."""
        around, component = self.around, self.component
        if not around.listened and component.cache is None:
            return "", False
        inputs, (code, certain) = component.inputs(args, kwargs), component.code_identity
        known = [content for each in self.parents if (content := around.contents.get(each)) is not None]
        content, sure = content_hash(component.name, code, inputs, known)
        around.made_of(self.hash, content)
        if around.listened:
            started = NodeStarted(
                around.id,
                self.node,
                hash=self.hash,
                component=component.name,
                platform=component.placement.platform,
                parents=self.parents,
                labels=component.placement.labels,
                within=self.within,
                at=time.time(),
                content_hash=content,
                code_hash=code,
                source=component.source,
                inputs=inputs,
                resources=component.placement.resources,
                keep=around.keep or component.cache is not None,
            )
            around.tell(started)
        return content, sure and certain

    def _attempt(self, /, *args: Any, **kwargs: Any) -> Any:
        placement, fn = self.component.placement, self.component.fn
        apart = placement.platform != "local" or placement.config.get("isolate")
        call = Placed(
            f"{self.hash[:_SHOWN_ID]}-{self.attempt}",
            self.around.id,
            self.node,
            self.component.name,
            self.attempt,
            travelling(fn) if apart else fn,
            args,
            kwargs,
            placement,
            self._logged if self.around.listened else unheard,
            self._usage.update,
            self.stop,
        )
        return run(platform(placement.platform), call)

    def abandon(self, why: Callable[[], BaseException]) -> None:
        """The execution ends without this call, which may still be running somewhere: it counts as stopped."""
        if not self.over.is_set():
            self.fail(why(), "stopped")

    def _ends(self) -> bool:
        """Whether this is the first that is heard of its end."""
        with self._lock:
            first, self._ended = not self._ended, True
        return first

    def _done(self, value: Any, given: Outputs, seconds: float, status: str) -> None:
        if not self._ends():
            return
        try:
            self._tell_done(value, given, seconds, status)
        except BaseException:  # of a listener: now it ends as a failure
            self._ended = False
            raise
        if self.result is not None:
            self.result.fill(value, given, status)
        self._finish()

    def _tell_done(self, value: Any, given: Outputs, seconds: float, status: str) -> None:
        around = self.around
        around.tracker.gave(self.hash, value, given, self.component.code)
        if around.listened:
            reused = status == "cached"
            finished = NodeFinished(
                around.id,
                self.node,
                self.attempt,
                seconds,
                reused,
                hash=self.hash,
                outputs=given,
                form=form_of(value, given),
                usage=self._usage if reused else {**self._usage, **self.component.usage_of(given)},
                at=time.time(),
            )
            around.tell(finished)

    def _logged(self, level: str, line: str) -> None:
        self.around.tell(NodeLogged(self.around.id, self.node, self.attempt, level, line, time.time()))

    # ---- what `invoke` needs to know

    durable = False

    def retrying(self, node: str, index: tuple[int, ...], attempt: int, delay: float, error: str) -> None:
        """An attempt failed and another follows."""
        self.attempt = attempt
        self.around.tell(NodeRetried(self.around.id, node, attempt, delay, error, hash=self.hash, at=time.time()))

    def wait(self, seconds: float) -> bool:
        """Sleep before the next attempt; true when the execution was stopped meanwhile."""
        return self.stop.wait(seconds)


def results_in(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Result]:
    """The results among arguments, and among the elements of those that are a list, a tuple or a dict."""
    for each in (*args, *kwargs.values()):
        kind = type(each)
        if kind is Result:
            yield each
        elif kind is list or kind is tuple:
            yield from (one for one in each if type(one) is Result)
        elif kind is dict:
            yield from (one for one in each.values() if type(one) is Result)


def _filled(value: Any) -> Any:
    kind = type(value)
    if kind is Result:
        return needed(value)
    if kind is list or kind is tuple:
        return kind(map(_filled_one, value))
    if kind is dict:
        return {key: _filled_one(each) for key, each in value.items()}
    return value


def _filled_one(value: Any) -> Any:
    return needed(value) if type(value) is Result else value


def needed(result: Result) -> Any:
    """The value of a result that another call cannot do without."""
    error = result.error
    if error is not None:
        raise UpstreamFailedError(f"It needs the outputs of {result.node!r}, which failed: {summary(error)}") from error
    return result.value


def message(error: BaseException) -> str:
    """What an exception says; where it cannot say it, its type."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is the user's code
        return summary(error)


def _what(status: str) -> str:
    return {"skipped": "was not run", "stopped": "was stopped"}.get(status, "failed")
