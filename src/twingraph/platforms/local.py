"""Calls in threads of this process, so that closures, prints and breakpoints work as in any function.

The caller waits for the thread until the deadline; a thread cannot be ended, so one that takes longer is left behind
and goes on, and its result is dropped. What runs in it can ask to be told of that (`surroundings.when_left`). With
`config={"isolate": True}` the call runs in a child process that is ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from lokki.pools import Threads
from lokki.runtime.invoke import settled
from twingraph.placed import unheard
from twingraph.platforms.base import Outcome, Placed, Platform, Raised, Returned
from twingraph.surroundings import Waiting, environment, logged, waiting

_MOST = 100_000
_NOTHING = nullcontext()


class Local:
    """This process."""

    name = "local"
    options = frozenset({"isolate", "timeout", "environment", "pickle"})

    def __init__(self) -> None:
        self._threads = Threads(_MOST)
        self._isolated: Platform | None = None
        self._lock = threading.Lock()

    def check(self) -> str:
        """What it would run on."""
        return "threads of this process; with config={'isolate': True}, child processes of it"

    def start(self, call: Placed) -> Any:
        """Begin the call."""
        if call.placement.config.get("isolate"):
            return _Elsewhere(self._children(), call)
        job = _Job(call)
        if call.placement.timeout:
            self._threads.submit(job.run)
        else:
            job.run()
        return job

    def poll(self, job: Any, seconds: float) -> Outcome | None:
        """What became of the call."""
        outcome: Outcome | None = job.wait(seconds)
        return outcome

    def cancel(self, job: Any) -> None:
        """Leave the thread behind, or end the child process."""
        job.cancel()

    def clear(self, job: Any) -> None:
        """Let go of a child process."""
        job.clear()

    def _children(self) -> Platform:
        with self._lock:
            if self._isolated is None:
                from twingraph.platforms.isolated import Isolated

                self._isolated = Isolated()
            return self._isolated


class _Job:
    """A call in a thread."""

    goes_on = " Its thread cannot be ended and goes on; with config={'isolate': True} it is a process, which can."

    def __init__(self, call: Placed) -> None:
        self._call = call
        self._outcome: Outcome | None = None
        self._waiting = Waiting()
        self._running = threading.Lock()
        self._running.acquire()

    def run(self) -> None:
        call = self._call
        started = time.thread_time()
        outer = waiting.set(self._waiting)
        try:
            with _NOTHING if call.log is unheard and not call.placement.environment else self._around(call):
                outcome: Outcome = Returned(settled(call.fn(*call.args, **call.kwargs)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the thread that waits must hear of it
            trace = error.__traceback__
            outcome = Raised(error.with_traceback(trace.tb_next if trace else None))
        waiting.reset(outer)
        if not self._waiting.left:
            call.usage({"cpu_seconds": time.thread_time() - started})
        self._outcome = outcome
        self._running.release()

    @contextmanager
    def _around(self, call: Placed) -> Iterator[None]:
        """What the function sees of the process, and who hears what it says."""
        variables = environment(call.placement.environment) if call.placement.environment else _NOTHING
        with variables, logged(self._told) if call.log is not unheard else _NOTHING:
            yield

    def wait(self, seconds: float) -> Outcome | None:
        if self._running.acquire(timeout=seconds):
            self._running.release()
        return self._outcome

    def cancel(self) -> None:
        self._waiting.leave()

    def clear(self) -> None:
        self._call = None  # type: ignore[assignment]  # the thread of a call that is over may live on in a pool

    def _told(self, level: str, line: str) -> None:
        if not self._waiting.left:
            self._call.log(level, line)


class _Elsewhere:
    """A call in a child process."""

    def __init__(self, children: Platform, call: Placed) -> None:
        self._children = children
        self._job = children.start(call)

    def wait(self, seconds: float) -> Outcome | None:
        return self._children.poll(self._job, seconds)

    def cancel(self) -> None:
        self._children.cancel(self._job)

    def clear(self) -> None:
        self._children.clear(self._job)
