"""Who runs executions: it claims them, has each run in a process of its own or as a job, and sees how that ends.

One thread does all of it, so nothing here is locked. It talks to the nursery, which forks the processes, and to each of
them. What it learns goes to `publish`; what it must not forget is in the graph, so that it may be killed at any moment.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from twingraph.executions import requests, serving
from twingraph.executions.records import OVER
from twingraph.executions.repository import Repository
from twingraph.server.catalog import Catalog
from twingraph.server.channel import Channel, Message
from twingraph.server.claiming import Claiming, Once
from twingraph.server.exchange import Exchange
from twingraph.server.files import Broken
from twingraph.server.launching import MOST, Launching
from twingraph.server.nurseries import Forked, Nursery
from twingraph.server.recovery import BEAT, LEASE, Recovery, let_go
from twingraph.server.running import GRACE, Running
from twingraph.server.served import store
from twingraph.server.telling import error_of

Publish = Callable[[str, Message], None]
Begin = Callable[[], tuple[Channel, int]]

_LOOK = 2.0  # seconds between two looks for executions that nobody told of
_PAUSE = 1.0  # seconds until something that failed is tried again
_HIDDEN = "%s of %s is not served: a workflow is stored as %r; remove that, or give one of them another name."
_log = logging.getLogger("twingraph.server")


class Processes:
    """Runs executions, at most so many at a time.

    Args:
        graph: where they are asked for.
        begin: makes a nursery; returns its channel and its number.
        nursery: the first of them, where one is there already.
        most: how many run at once; by default two more than there are processors, or 100 jobs.
        launching: launches executions as jobs, where they do not run here.
        once: where one is run only.

    Attributes:
        claiming: what is run next.
        publish: takes each message about an execution; called in the thread.
        others: tells other servers on the same database.
        most: how many run at once.
    """

    def __init__(
        self,
        graph: Repository,
        begin: Begin,
        nursery: tuple[Channel, int] | None = None,
        *,
        most: int = 0,
        launching: Launching | None = None,
        once: Once | None = None,
    ) -> None:
        self.graph = graph
        self.publish: Publish = lambda _execution, _message: None
        self.others: Exchange | None = None
        self.claiming = Claiming(graph, once)
        self.name = self.claiming.name
        self._launching = launching
        self._begin = begin
        self._nursery = Nursery(nursery or begin())
        self.most = most or (MOST if launching else (os.cpu_count() or 1) + 2)
        self._running: dict[str, Running] = {}
        self._stops: deque[str] = deque()
        self._untold: deque[str] = deque()  # executions whose end they could not tell themselves
        self._woken, self._wake = socket.socketpair()
        for each in (self._woken, self._wake):
            each.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._recovery = Recovery(graph, self.name)
        self._shared = graph.engine.dialect.name == "postgresql" and not self.claiming.alone
        self._look_at = self._beat_at = 0.0
        self._beaten = time.monotonic()
        self._reload = False
        self._ending: float | None = None
        if self.claiming.alone:
            self._recovery.again = float("inf")  # others see to that
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="twingraph-processes", daemon=True)

    # ---- for other threads

    def start(self) -> None:
        """Wait until the nursery has imported what is served, and begin."""
        self._nursery.hear_catalog()
        self._adopt(self._nursery)
        self._selector.register(self._woken, selectors.EVENT_READ)
        if not self.claiming.alone:
            self._sweep()
        self._thread.start()

    @property
    def catalog(self) -> Catalog:
        """What nodes can call for."""
        return self._nursery.catalog

    @property
    def broken(self) -> tuple[Broken, ...]:
        """What could not be served."""
        return self._nursery.broken

    @property
    def count(self) -> int:
        """How many executions run here."""
        return len(self._running)

    def wake(self) -> None:
        """There is something to run, here or elsewhere."""
        if len(self._running) < self.most:  # else it is looked for as soon as one of them is over
            self.look()
        if self.others is not None:
            self.others.work()

    def stop(self, execution: str) -> None:
        """End this execution, wherever it runs."""
        self.stop_here(execution)
        if self.others is not None and (self._launching is not None or execution not in self._running):
            self.others.stop(execution)

    def look(self) -> None:
        """Look for something to run."""
        self._look_at = 0.0
        self._nudge()

    def stop_here(self, execution: str) -> None:
        """End this execution, if it runs here."""
        self._stops.append(execution)
        self._nudge()

    def reload(self) -> None:
        """Import what is served anew; executions that run go on with what they have."""
        self._reload = True
        self._nudge()

    def end(self, grace: float) -> None:
        """Begin nothing more; what still runs after so many seconds is interrupted. Returns at once."""
        self._ending = time.monotonic() + grace
        self._nudge()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all is over after `end`; whether it is."""
        return self._over.wait(seconds)

    def _nudge(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._wake.send(b"!")

    # ---- the thread

    def _live(self) -> None:
        while self._running or not (self.claiming.last or self._ending is not None):
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - the database may be away for a while
                _log.warning("Executions cannot be looked after: %s", error)
                time.sleep(_PAUSE)
        self._nursery.bury()
        self._leave()
        self._over.set()

    def _leave(self) -> None:
        if self._shared:
            with suppress(Exception):  # else it is known in a minute
                serving.leave(self.graph, self.name)

    def _say_served(self) -> None:
        """Tell others on the same database which workflows of files are run here."""
        if self._shared and self._ending is None:
            serving.say(self.graph, self.name, [each.id for each in self.catalog.workflows])

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            self._heard(key.data)
        for running in [each for each in self._running.values() if each.code is not None]:
            self._finish(running)
        while self._stops:
            self._stop(self._stops.popleft())
        now = time.monotonic()
        self._end_late(now)
        if now >= self._beat_at:
            self._beat(now)
        while self._untold and self._nursery.there and self._nursery.channel.send({"tell": self._untold[0]}):
            self._untold.popleft()
        if self.claiming.last or self._ending is not None:
            return
        if self._reload or not self._nursery.there:
            self._renew()
        if now >= self._recovery.again:
            self._recover()
        if now >= self._look_at:
            self._look_at = now + _LOOK
            self._claim()

    def _heard(self, whom: Running | Nursery | None) -> None:
        match whom:
            case Running():
                self._hear(whom)
            case Nursery():
                self._hear_nursery(whom)
            case None:
                with suppress(BlockingIOError):
                    self._woken.recv(4096)

    def _patience(self) -> float:
        due = [self._beat_at, *(each.kill_at for each in self._running.values())]
        if self._ending is not None:
            due.append(self._ending)
        elif not self.claiming.last:
            due += [self._look_at, self._recovery.again]
        return max(0.0, min([_LOOK, *(each - time.monotonic() for each in due)]))

    def _claim(self) -> None:
        """Begin as many executions as there are and as may run."""
        while len(self._running) < self.most and not self.claiming.last:
            made = self._forked() if self._launching is None else self._launched(self._launching)
            if made is None:
                return
            self._running[made.execution] = made
            self._selector.register(made.channel, selectors.EVENT_READ, made)

    def _forked(self) -> Running | None:
        execution = self.claiming.take([each.id for each in self.catalog.workflows])
        if execution is None:
            return None
        here, there = Channel.pair()
        self._nursery.channel.send({"run": execution}, along=there.socket)
        there.close()
        return Forked(execution, self.name, self._nursery, here)

    def _launched(self, launching: Launching) -> Running | None:
        ticket = launching.ticket()
        execution = self.claiming.take([each.id for each in self.catalog.workflows], ticket)
        return None if execution is None else launching.begin(self.graph, execution, f"{self.name} {ticket}", ticket)

    def _stop(self, execution: str) -> None:
        running = self._running.get(execution)
        if running is not None and not running.stopping:
            running.stopping = True
            running.kill_at = time.monotonic() + running.grace
            running.stop()

    def _let_go(self, running: Running) -> None:
        """Interrupt an execution: it ends without a word, and what becomes of it is decided here. Jobs go on alone."""
        if running.ticket:
            self._forget(running)
        elif not running.let_go:
            running.let_go = True
            running.kill_at = time.monotonic() + 2 * GRACE
            running.channel.end()

    def _end_late(self, now: float) -> None:
        """Kill what did not end in its time; after the last grace, interrupt what still runs."""
        for each in list(self._running.values()):
            if now >= each.kill_at:
                each.kill_at = now + _PAUSE
                each.kill()
            if self._ending is not None and (each.ticket or now >= self._ending):
                self._let_go(each)

    def _beat(self, now: float) -> None:
        """Say that this is there, and hear what is to be stopped; who cannot say so in time lets go of what it runs."""
        self._beat_at = now + BEAT
        try:
            names = {self.name, *(each.claim for each in self._running.values())}
            for each in requests.seen(self.graph, names, list(self._running)):
                self._stop(each)
            self._say_served()
            self._beaten = now
        except Exception:
            if now > self._beaten + LEASE:
                for running in [each for each in self._running.values() if not each.ticket]:
                    self._let_go(running)
            raise

    def _recover(self) -> None:
        found = False
        for settled in self._recovery.settle(self._running):
            found = True
            _log.warning("Execution %s was interrupted; it is %s now.", settled.execution, settled.status)
            self._say(settled.execution, settled.status, {})
        if found:
            self._sweep()
            self._look_at = 0.0

    def _sweep(self) -> None:
        """Have removed what killed processes left on platforms."""
        places = [] if self._launching is None else [self._launching.place]
        self._nursery.channel.send({"sweep": places})

    # ---- what processes tell

    def _hear(self, running: Running) -> bool:
        """Take what an execution tells; whether it told anything."""
        messages = running.hear()
        for each in messages:
            if each["event"] == "execution:update":
                running.progress = each["data"]["progress"]
                running.said_over = each["data"]["status"] in OVER
            self.publish(running.execution, each)
        if running.silent:
            self._selector.unregister(running.channel)
        return bool(messages)

    def _hear_nursery(self, nursery: Nursery) -> None:
        messages = nursery.channel.receive()
        if messages is None:
            self._lost(nursery)
            return
        for each in messages:
            running = self._running.get(each.get("began") or each["ended"])
            if isinstance(running, Forked) and "began" in each:
                running.began(each["pid"])
            elif running is not None:
                running.code = each["code"]

    def _lost(self, nursery: Nursery) -> None:
        """A nursery is gone; what ran in it may go on, and is known by what it tells."""
        self._selector.unregister(nursery.channel)
        nursery.bury()
        if nursery is self._nursery:
            _log.warning("The process that forks executions ended; another begins.")
        for each in self._running.values():
            if isinstance(each, Forked) and each.nursery is nursery and each.silent:
                each.code = 0

    def _finish(self, running: Running) -> None:
        """The process of an execution has ended."""
        while not running.silent and self._hear(running):
            pass  # what it told last is still there
        if not running.said_over:
            self._settle(running)
        self._forget(running)
        self._look_at = 0.0

    def _forget(self, running: Running) -> None:
        if not running.silent:
            self._selector.unregister(running.channel)
        running.channel.close()
        del self._running[running.execution]

    def _settle(self, running: Running) -> None:
        """Mark an execution whose process ended without telling of its end."""
        execution, why = running.execution, running.why()
        if not running.is_lost():
            return
        if running.let_go or not running.begun:
            let_go(self.graph, execution, running.claim)
        elif running.stopping or requests.is_to_stop(self.graph, execution):
            requests.end(self.graph, execution, "stopped", ticket=running.ticket)
        elif requests.end(self.graph, execution, "failed", why, "crashed", running.ticket):
            self.publish(execution, error_of(execution, None, why, ""))
        self._say(execution, requests.status(self.graph, execution), running.progress)
        if (running.code or 0) < 0:
            self._sweep()

    def _say(self, execution: str, status: str, progress: dict[str, int]) -> None:
        data = {"execution_id": execution, "status": status, "progress": progress}
        self.publish(execution, {"event": "execution:update", "data": data})
        if status in OVER:
            self._untold.append(execution)

    # ---- the nursery

    def _renew(self) -> None:
        """Have another nursery; executions of the one before go on in it."""
        self._reload = False
        made = Nursery(self._begin())
        made.hear_catalog()
        before, self._nursery = self._nursery, made
        if before.there:
            before.retire()
        self._adopt(made)
        _log.info("Serving %s.", ", ".join(each.name for each in made.catalog.workflows) or "no pipelines")

    def _adopt(self, nursery: Nursery) -> None:
        self._selector.register(nursery.channel, selectors.EVENT_READ, nursery)
        if not self.claiming.alone:
            for hidden in store(self.graph, nursery.catalog):
                _log.error(_HIDDEN, hidden.name, hidden.file, hidden.id)
            self._say_served()
        for each in nursery.broken:
            _log.error("%s is not served: %s%s", each.file, each.why, each.trace and f"\n{each.trace.rstrip()}")
