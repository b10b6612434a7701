"""Where the items of a map run: here in turn, in threads, in processes, or on any `concurrent.futures.Executor`.

`Inline` and `Threads` share this process's memory: workers take the next item from a `Fan` themselves. An executor may
be anywhere: it is sent slices of pickled items (`lokki.fanout`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from concurrent.futures import Executor

Task = Callable[[], None]


class Stop(Protocol):
    """A flag that is raised once, of this process (`threading.Event`) or shared with others (`multiprocessing`'s)."""

    def is_set(self) -> bool:
        """Whether it is raised."""

    def set(self) -> None:
        """Raise it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; says whether it is raised."""


_worker_stop: list[Stop] = []
_threads: WeakSet[Threads] = WeakSet()


class Inline:
    """Everything runs in the calling thread, so that `breakpoint()` and post-mortem debuggers work."""

    workers = 1
    spare = False

    def submit(self, task: Task) -> None:
        """Run the task now."""
        task()

    def close(self) -> None:
        """Nothing to let go of."""


class Threads:
    """Daemon threads, started as they are needed; a task that hangs never keeps the process from ending."""

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or min(32, (os.cpu_count() or 1) + 4)
        self.begin()
        _threads.add(self)

    def begin(self) -> None:
        """Begin without threads, also in a forked process, where those of the one before are not there."""
        self._started = 0
        self._free = 0  # threads that no task is meant for
        self._owed = 0  # tasks that no thread is meant for
        self._lock = threading.Lock()
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()

    def submit(self, task: Task) -> None:
        """Run the task in a thread, with the caller's context variables."""
        context = copy_context()
        with self._lock:
            start = not self._free and self._started < self.workers
            if start:
                self._started += 1
            elif self._free:
                self._free -= 1
            else:
                self._owed += 1
        if start:
            self._start()
        self._tasks.put(lambda: context.run(task))

    @property
    def spare(self) -> bool:
        """Whether another task would be started at once."""
        return self._started < self.workers or self._free > 0

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        for _ in range(self._started):
            self._tasks.put(None)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"lokki-{self._started}", daemon=True).start()
        except BaseException:  # the system gives no more threads
            with self._lock:
                self._started -= 1
            raise

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is not None:
                try:
                    task()
                except BaseException:  # which ends this thread
                    self._start()
                    raise
                finally:
                    del task  # which holds its result, and this thread may wait long for the next
                    self._is_free()
            elif self._ends():
                return
            else:
                self._tasks.put(None)  # a task that came later is meant for this thread

    def _is_free(self) -> None:
        with self._lock:
            if self._owed:
                self._owed -= 1
            else:
                self._free += 1

    def _ends(self) -> bool:
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            self._started -= 1
            return True


def _begin_anew() -> None:
    for each in list(_threads):
        each.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class Processes:
    """A pool of processes that is made when the first map needs it."""

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._executor: Executor | None = None
        self._stop: Stop | None = None

    @property
    def executor(self) -> Executor:
        """The pool itself."""
        if self._executor is None:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            context = get_context(_start_method())
            self._stop = context.Event()
            about = (dict(os.environ), os.getcwd(), self._stop)
            self._executor = ProcessPoolExecutor(self.workers, context, _settle_in, about)
        return self._executor

    def stop(self) -> None:
        """Let the workers end what they are at: no further item, no waiting for a retry."""
        if self._stop is not None:
            self._stop.set()

    def close(self) -> None:
        """End the processes when they are done."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def kill(self) -> None:
        """End the processes now."""
        if self._executor is not None:
            workers = getattr(self._executor, "_processes", None) or {}  # it has no public way to end them at once
            for process in list(workers.values()):
                process.kill()
            self._executor.shutdown(wait=True, cancel_futures=True)


class Borrowed:
    """An executor that someone else made and closes."""

    def __init__(self, executor: Executor, workers: int = 0) -> None:
        self.executor = executor
        self.workers = workers or getattr(executor, "_max_workers", 0) or os.cpu_count() or 1

    def stop(self) -> None:
        """Its workers cannot be told."""

    def close(self) -> None:
        """It is not ours to close."""


Pool = Inline | Threads | Processes | Borrowed


def open_pool(kind: str, workers: int = 0) -> Pool:
    """The pool that `[local] executor` names."""
    match kind:
        case "inline":
            return Inline()
        case "processes":
            return Processes(workers)
        case _:
            return Threads(workers)


def _start_method() -> str:
    """Fork is fastest and safe only while this process has a single thread, those of native libraries included."""
    if sys.platform != "linux":
        return "spawn"
    return "fork" if len(os.listdir("/proc/self/task")) == 1 else "forkserver"


def worker_stop() -> Stop:
    """What tells this process, if it is a worker, that the run is over."""
    return _worker_stop[-1] if _worker_stop else threading.Event()


def _settle_in(environ: dict[str, str], folder: str, stop: Stop) -> None:
    """A worker process sees the environment of the run, and leaves Ctrl-C to the process that started it."""
    import signal

    _worker_stop.append(stop)
    signal.signal(signal.SIGINT, lambda *_: None)  # what a step starts is still interrupted, as with SIG_IGN it was not
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """A process whose parent was killed ends too, instead of waiting forever for work."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Fan:
    """The items of one map, taken by as many workers as pump it.

    Args:
        todo: the positions to run.
        batch: how many positions a worker takes at once.
        one: runs one position.
        stopped: says that the run is over for another reason.
        report: called when another twentieth is done.
    """

    def __init__(
        self,
        todo: Sequence[int],
        batch: int,
        one: Callable[[int], None],
        stopped: Callable[[], bool],
        report: Task,
    ) -> None:
        self.done = 0
        self.errors: list[BaseException] = []
        self.finished = threading.Event()
        self._todo = todo
        self._batch = batch
        self._one = one
        self._stopped = stopped
        self._report = report
        self._lock = threading.Lock()
        self._next = self._active = self._more = 0
        self._pool: Inline | Threads = Inline()
        self._every = self._mark = max(len(todo) // 20, 1)

    def hand_over(self, pool: Inline | Threads, workers: int) -> None:
        """Let workers of the pool run the items, while the caller waits."""
        for _ in range(workers):
            pool.submit(self.pump)

    def join(self, pool: Inline | Threads, workers: int) -> None:
        """Run the items in the calling thread; spare workers of the pool help, also when they become so later."""
        self._more = workers - 1
        self._pool = pool
        self.pump()

    def pump(self) -> None:
        """Run items until there are none left, one fails, or the run is stopped."""
        with self._lock:
            self._active += 1
        try:
            while positions := self._take():
                if self._more and self._pool.spare:
                    self._recruit()
                for position in positions:
                    if self._over():
                        break
                    self._one(position)
                    self._count()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the thread that waits for the map must hear of it
            self.errors.append(error)
        finally:
            with self._lock:
                self._active -= 1
                if self._active == 0 and (self._over() or self._next >= len(self._todo)):
                    self.finished.set()

    def _recruit(self) -> None:
        with self._lock:
            wanted = self._more > 0 and self._next < len(self._todo)
            self._more -= wanted
        if wanted:
            self._pool.submit(self.pump)

    def _over(self) -> bool:
        return bool(self.errors) or self._stopped()

    def _take(self) -> Sequence[int]:
        with self._lock:
            at = self._next
            positions = self._todo[at:at] if self._over() else self._todo[at : at + self._batch]
            self._next = at + len(positions)
        return positions

    def _count(self) -> None:
        with self._lock:
            self.done += 1
            report = self.done >= self._mark
            if report:
                self._mark = self.done + self._every
        if report:
            self._report()
