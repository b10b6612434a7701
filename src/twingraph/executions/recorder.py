"""The listener that records: it takes what an event says in the thread of the event, and a thread of its own writes.

The writer commits what has come together at most `_TOGETHER` seconds after the first of it. The end of an execution is
different: the call that tells of it returns when it is committed, so that what a finished run recorded is there
whatever happens next. A database that cannot be written is told once, and never fails a run.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lokki.errors import LokkiError
from twingraph.events import Event, ExecutionFinished, ExecutionStarted, NodeFailed, NodeFinished, NodeStarted
from twingraph.executions import machine
from twingraph.executions.changes import Batch, Change, change
from twingraph.executions.forks import importing
from twingraph.executions.interrupted import mark_interrupted
from twingraph.executions.objects import Objects
from twingraph.executions.records import Kept
from twingraph.executions.snapshot import restored
from twingraph.executions.telling import named, reason
from twingraph.settings import load_settings

if TYPE_CHECKING:
    from twingraph.executions.repository import Repository

_TOGETHER = 0.05
_HEAVIEST = 64 << 20  # bytes that may wait to be written; whoever brings more waits for the writer
_PATIENCE = (0.1, 0.5, 2.0, None)  # pauses before a batch that could not be written is tried again
_PATIENT = 5.0  # seconds after which it is not tried again
_LOOK_AGAIN = 10.0
_LONGEST_WAIT = 60.0
_log = logging.getLogger("twingraph")
_all: weakref.WeakSet[Recorder] = weakref.WeakSet()
_shared: dict[tuple[str, str], Recorder] = {}
_opening = threading.Lock()


def open_recorder(url: str | None = None) -> Recorder:
    """The recorder of a database, the settings' one by default; one for all in this process, flushed when it ends."""
    settings = load_settings(database=url)
    key = settings.database, settings.home
    with _opening:
        if key not in _shared:
            _shared[key] = Recorder(settings.database)
            atexit.register(_shared[key].close)
        return _shared[key]


class Recorder:
    """Records executions in the graph at a URL; `home` is where files of large values go.

    Without a URL it is the settings' database or, with `home`, the SQLite file there.
    """

    def __init__(self, url: str | None = None, home: str | None = None) -> None:
        settings = load_settings(home, url)
        self.url = settings.database
        self._objects = Objects(os.path.join(settings.home, "objects"))
        self._kept: dict[tuple[str, str], str] = {}  # nodes whose outputs must be kept whole: their content hash
        self._fresh: dict[str, int] = {}  # by content hash, what must be written before it can be recalled
        self._warned = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """What belongs to one process: a forked one begins anew with this."""
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Change] = deque()
        self._weight = 0
        self._heard = self._written = 0  # how many changes, ever
        self._hurry = False
        self._again = 0.0  # when to look again whether the database can be written
        self._writer: threading.Thread | None = None
        self._sessions: dict[str, float] = {}
        self._repository: Repository | None = None
        self._opening = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Record an event; the end of an execution is committed when this returns."""
        self.record(event)

    def record(self, event: Event) -> Change | None:
        """Record an event, as calling it does; returns what it changes, or None where it cannot be recorded."""
        try:
            made, content = self._noted(event)
            number = self._put(made, content)
        except Exception as error:  # noqa: BLE001 - whatever happens to the record, the run goes on
            self._warn(error)
            return None
        if isinstance(event, ExecutionFinished):
            self._wait(number, _LONGEST_WAIT)
        return made

    def _noted(self, event: Event) -> tuple[Change, str]:
        """What an event changes, and the content hash under which that can be recalled."""
        match event:
            case NodeStarted() if event.keep:
                self._kept[event.run, event.node] = event.content_hash
            case NodeFinished() | NodeFailed():
                content = self._kept.pop((event.run, event.node), "")
                return change(event, bool(content)), content
            case ExecutionStarted() if event.kind == "session":
                self._sessions[event.run] = event.at
            case ExecutionFinished():
                self._sessions.pop(event.run, None)
        return change(event), ""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was heard is written; whether it is, or `timeout` seconds are over before."""
        return self._wait(self._heard, timeout)

    def close(self) -> None:
        """Write what is left and close the database; sessions of this process end with it."""
        for run, began in list(self._sessions.items()):
            now = time.time()
            self(ExecutionFinished(run, "session", "completed", now - began, at=now))
        self.flush(_LONGEST_WAIT)
        with self._opening:
            repository, self._repository = self._repository, None
        if repository is not None:
            repository.close()

    def recall(self, content_hash: str, ttl: float | None = None) -> Kept | None:
        """What is kept of the newest call with this content that is done, at most `ttl` seconds ago; None without one.

        So are outputs that were not kept whole, are secret or cannot be read here.
        """
        self._wait(self._fresh.get(content_hash, 0), _LONGEST_WAIT)
        try:
            since = 0.0 if ttl is None else time.time() - ttl
            found = self.repository().newest(content_hash, since)
            return None if found is None else Kept(restored(found.outputs, self.load), found.form)
        except (LokkiError, ValueError, TypeError) as error:
            _log.debug("What was recorded for %s cannot be used: %s", content_hash, error)
            return None

    def load(self, identity: str) -> Any:
        """The value of an object file by its digest."""
        return self._objects.load(identity)

    def repository(self) -> Repository:
        """What this recorder writes to, opened when it is first needed."""
        with self._opening:
            if self._repository is None:
                opened = _repository_class(self.url)(self.url)
                mark_interrupted(opened)
                self._repository = opened
            return self._repository

    def _put(self, made: Change, content: str) -> int:
        """Have a change written; its number."""
        with self._changed:
            while self._weight > _HEAVIEST and self._writer is not None:
                self._hurry = True
                self._changed.notify_all()
                self._changed.wait(1.0)
            self._waiting.append(made)
            self._weight += made.weight
            self._heard += 1
            number = self._heard
            if content:
                self._fresh[content] = number
            if self._writer is None:
                self._start_writer()
            elif len(self._waiting) == 1:
                self._changed.notify_all()
        if self._writer is None:  # the interpreter is ending, and has no more threads
            self._write_all()
        return number

    def _start_writer(self) -> None:
        thread = threading.Thread(target=self._work, name="twingraph-recorder", daemon=True)
        with suppress(RuntimeError):
            self._writer = thread
            thread.start()
            _flush_at_the_end_of_a_child(self)
            return
        self._writer = None

    def _wait(self, number: int, timeout: float | None) -> bool:
        """Wait until the change with this number is written, or was given up."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._written < number:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._hurry = True
                self._changed.notify_all()
                self._changed.wait(left)
        return True

    def _work(self) -> None:
        """The life of the writer."""
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                end = time.monotonic() + _TOGETHER
                while not self._hurry and (left := end - time.monotonic()) > 0:
                    self._changed.wait(left)
            self._write_all()

    def _write_all(self) -> None:
        """Write what waits; what cannot be written is given up in the end."""
        with self._changed:
            taken = list(self._waiting)
            self._waiting.clear()
            self._hurry = False
        try:
            self._persist(taken)
        finally:
            self._have_written(taken)

    def _have_written(self, taken: list[Change]) -> None:
        with self._changed:
            self._weight -= sum(each.weight for each in taken)
            self._written += len(taken)
            done = self._written
            for content in [content for content, number in self._fresh.items() if number <= done]:
                del self._fresh[content]
            self._changed.notify_all()

    def _persist(self, changes: list[Change]) -> None:
        """Write changes, if need be in several attempts; while nothing can be written, look only now and then."""
        now = time.monotonic()
        if now < self._again:
            return
        batch = Batch()
        for each in changes:
            batch.add(each)
        for pause in _PATIENCE:
            try:
                self._write(batch)
                self._again = 0.0
                return
            except Exception as error:  # noqa: BLE001 - whatever happens to the record, the run goes on
                if self._again or pause is None or time.monotonic() > now + _PATIENT:
                    self._again = time.monotonic() + _LOOK_AGAIN
                    self._warn(error)
                    return
                time.sleep(pause)

    def _write(self, batch: Batch) -> None:
        for identity, frame in batch.objects:
            self._objects.keep(identity, frame)
        for row in batch.executions.values():
            if "kind" in row:  # it begins here
                row.update(machine.who(), **machine.git())
        self.repository().write(batch)

    def _warn(self, error: Exception) -> None:
        """Say once that something is not recorded."""
        if self._warned:
            return
        self._warned = True
        if isinstance(error, LokkiError):
            said = str(error)
        else:
            said = f"The execution graph at {named(self.url)} cannot be written: {reason(error)}."
        _log.warning("%s Runs go on, but are not recorded.", said)

    def begin_anew(self) -> None:
        """Begin anew in a forked process: the thread is not here, and the connections are the parent's."""
        repository = self._repository
        self._begin()
        self._repository = repository  # whose connections were closed before
        self._fresh = {}


def _flush_at_the_end_of_a_child(recorder: Recorder) -> None:
    """Processes of `multiprocessing` end without `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, recorder.flush, args=(_LONGEST_WAIT,), exitpriority=10)


def _repository_class(url: str) -> type[Repository]:
    with importing:
        if url.startswith("postgresql"):
            with suppress(ImportError):  # told when it is opened
                import psycopg  # noqa: F401
        import getpass  # noqa: F401 - `machine` needs them when an execution is written
        import socket  # noqa: F401
        import subprocess  # noqa: F401

        from twingraph.executions.repository import Repository

        return Repository


def _all_begin_anew() -> None:
    global _opening  # noqa: PLW0603 - the lock may have been held when the process was forked
    _opening = threading.Lock()
    for each in list(_all):
        each.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_begin_anew)
