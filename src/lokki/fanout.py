"""A map at work: its items handed to the pool, its results put back in order, its progress told.

Workers of this process take items themselves (`Fan`). An executor is sent slices: first one item, then as many as fill
a twentieth of a second, so that tiny items cost little and long ones are never queued behind each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from lokki.codec import NO_TAG, decode, digest, encode
from lokki.errors import RunError
from lokki.events import Event, MapFinished, MapProgress, MapStarted, RunStopping
from lokki.pools import Borrowed, Fan, Inline, Pool, Processes, Stop, Threads
from lokki.runtime.failure import Cancelled
from lokki.runtime.keeping import Keeper, Output, Part, Storing
from lokki.runtime.plan import PlannedGraph, PlannedMap
from lokki.store.packing import Items
from lokki.store.protocol import Index

if TYPE_CHECKING:
    from concurrent.futures import Future

_TICK = 0.1  # seconds between two reports
_GLANCE = 0.005  # seconds between two looks at how long items take, while one worker runs them
_SHORT = 0.0001  # seconds of an item that is not worth another thread
_SLICE = 0.05  # seconds of work in a slice
_PATIENCE = 2.0  # seconds that items in flight have to finish after Ctrl-C


class Job(NamedTuple):
    """What a worker process must know of a map; without a keeper it collects the results to be stored here."""

    run: str
    node: PlannedMap
    keeper: Keeper | None


class Slice:
    """What a worker process did: as many items as there are marks, in the order they were sent."""

    def __init__(self) -> None:
        self.marks: list[bytes] = []
        self.values: list[bytes] = []  # the results as frames, where they are not stored
        self.parts: list[Part] = []
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self.seconds = 0.0


class Walking(Protocol):
    """The walk that a map is part of."""

    run: str
    keeper: Keeper
    pool: Pool
    tell: Callable[[Event], None]
    stop: Stop

    def item(self, node: PlannedMap, index: Index, value: Any, mark: bytes) -> Output:
        """Run the body for one item."""

    def peek(self, node: PlannedMap, index: Index, mark: bytes) -> Output | None:
        """The body's stored result for one item."""

    def stored(self, graph: PlannedGraph, index: Index) -> Any:
        """A stored result that is known to be whole."""


RunSlice = Callable[[bytes, Sequence[int], Sequence[bytes]], Slice]


class FanOut:
    """One map over its items."""

    def __init__(self, walk: Walking, node: PlannedMap, index: Index, items: Items | Sequence[Any]) -> None:
        self._walk = walk
        self._node = node
        self._index = index
        self._items = items
        self._durable = walk.keeper.durable
        self._values: list[Any] = [None] * len(items)
        self._marks = bytearray(16 * len(items)) if self._durable else bytearray()
        self._done = self._failed = self._reused = 0
        self._started = self._told = perf_counter()

    def run(self, run_slice: RunSlice) -> tuple[list[Any], bytes]:
        """Run what is not stored yet; returns all results in order, and the digests of the stored ones."""
        todo = self._todo()
        self._reused = self._done = len(self._items) - len(todo)
        if not self._index:
            self._walk.tell(MapStarted(*self._who(), len(self._items), self._reused))
        try:
            if todo:
                self._dispatch(todo, run_slice)
        finally:
            self._over()
        return self._values, bytes(self._marks)

    def reused(self) -> None:
        """Tell that all of it is there."""
        self._done = self._reused = len(self._items)
        if not self._index:
            self._walk.tell(MapStarted(*self._who(), len(self._items), self._reused))
        self._over()

    def _dispatch(self, todo: Sequence[int], run_slice: RunSlice) -> None:
        pool = self._walk.pool
        if isinstance(pool, Processes | Borrowed) and not self._index:
            _Window(self, self._walk, self._node, todo, run_slice).run()
        else:
            self._here(todo)

    def _todo(self) -> Sequence[int]:
        """The positions whose results are not stored; the results of the others are taken over."""
        count = len(self._items)
        if self._walk.keeper.fresh:
            return range(count)
        todo = []
        for position in range(count):
            found = self._walk.peek(self._node, (*self._index, position), digest(self.frame(position)))
            if found is None:
                todo.append(position)
            else:
                self.put(position, found.value, found.digest)
        return todo

    def _here(self, todo: Sequence[int]) -> None:
        """Run the items in this process."""
        stop, pool = self._walk.stop, cast(Inline | Threads, self._walk.pool)
        limit = min(self._node.limit or len(todo), pool.workers, -(-len(todo) // self._node.batch))
        fan = Fan(todo, self._node.batch, self._one, stop.is_set, lambda: self.report(fan.done, fan.errors))
        try:
            if self._index or isinstance(pool, Inline):
                fan.join(pool, limit)
                fan.finished.wait()
            else:
                self._watch(fan, pool, limit)
        except BaseException as error:
            stop.set()
            if isinstance(error, KeyboardInterrupt) and not fan.finished.is_set():
                self._walk.tell(RunStopping(self._walk.run, _PATIENCE))
            fan.finished.wait(_PATIENCE)
            raise
        finally:
            self.count(fan.done, fan.errors)
        raise_first(fan.errors)
        if stop.is_set():
            raise Cancelled("the run was stopped")

    def _watch(self, fan: Fan, pool: Threads, limit: int) -> None:
        """Have workers run the items, and tell how far they are.

        One worker begins; the others join unless items are so short that threads would only stand in each other's way.
        """
        workers, seen, told = 1, 0, perf_counter()
        fan.hand_over(pool, 1)
        while not fan.finished.wait(_TICK if workers == limit else _GLANCE):
            if workers < limit and fan.done - seen < _GLANCE / _SHORT:
                fan.hand_over(pool, limit - workers)
                workers = limit
            seen, now = fan.done, perf_counter()
            if now - told >= _TICK:
                told = now
                self.report(fan.done, fan.errors)

    def _one(self, position: int) -> None:
        index = (*self._index, position)
        try:
            if self._durable:
                frame = self.frame(position)
                made = self._walk.item(self._node, index, decode(frame), digest(frame))
            else:
                made = self._walk.item(self._node, index, self._items[position], NO_TAG)
        except BaseException:
            self._walk.stop.set()  # fail fast: maps within other items stop where they are, their items are kept
            raise
        self.put(position, made.value, made.digest)

    def frame(self, position: int) -> bytes:
        """The item as a pickle."""
        items = self._items
        return items.frame(position) if isinstance(items, Items) else encode(items[position])

    def put(self, position: int, value: Any, mark: bytes) -> None:
        """Take a result."""
        self._values[position] = value
        if self._durable:
            self._marks[16 * position : 16 * position + 16] = mark

    def count(self, done: int, errors: Sequence[BaseException]) -> None:
        """Take note of how far this run came."""
        self._done = self._reused + done
        self._failed = sum(not isinstance(error, Cancelled | KeyboardInterrupt) for error in errors)

    def report(self, done: int, errors: Sequence[BaseException]) -> None:
        """Tell how far the map is, if that is news."""
        news = self._reused + done != self._done
        self.count(done, errors)
        now = perf_counter()
        if not self._index and (news or now - self._told >= 1):
            self._told = now
            self._walk.tell(MapProgress(*self._so_far()))

    def _over(self) -> None:
        if not self._index:
            self._walk.tell(MapFinished(*self._so_far()))

    def _so_far(self) -> tuple[str, str, str, int, int, int, float, int]:
        seconds = perf_counter() - self._started
        return *self._who(), len(self._items), self._done, self._failed, seconds, self._reused

    def _who(self) -> tuple[str, str, str]:
        return self._walk.run, self._node.id, self._node.label


class _Window:
    """Slices of a map on an executor, a bounded number of them at once."""

    def __init__(self, fan: FanOut, walk: Walking, node: PlannedMap, todo: Sequence[int], run_slice: RunSlice) -> None:
        self._fan = fan
        self._walk = walk
        self._node = node
        self._todo = todo
        self._run_slice = run_slice
        self._pool = cast(Processes | Borrowed, walk.pool)
        self._wide = min(node.limit or len(todo), 2 * self._pool.workers)
        self._job = encode(Job(walk.run, node, self._keeper()))
        self._at = self._done = 0
        self._size = node.batch
        self._errors: list[BaseException] = []
        self._again: list[Sequence[int]] = []  # what a slice that took too long left over
        self._flying: dict[Future[Slice], Sequence[int]] = {}

    def run(self) -> None:
        """Run all of it; an error is raised when what was on its way has come back."""
        try:
            while self._flying or ((self._again or self._at < len(self._todo)) and not self._errors):
                self._send()
                self._receive(_TICK)
                self._fan.report(self._done, self._errors)
        except BaseException as error:
            self._abandon(isinstance(error, KeyboardInterrupt))
            raise
        finally:
            self._fan.count(self._done, self._errors)
        raise_first(self._errors)

    def _keeper(self) -> Keeper | None:
        """What the workers keep results with: processes of this machine can use the store themselves."""
        keeper = self._walk.keeper
        if not isinstance(keeper, Storing):
            return keeper
        return keeper if keeper.store.shared and isinstance(self._pool, Processes) else None

    def _send(self) -> None:
        while len(self._flying) < self._wide and not self._errors and (positions := self._next()):
            frames = [self._fan.frame(position) for position in positions]
            try:
                future = self._pool.executor.submit(self._run_slice, self._job, positions, frames)
            except RuntimeError as error:  # the pool broke, or somebody closed it
                self._errors.append(self._lost(error))
            else:
                self._flying[future] = positions

    def _next(self) -> Sequence[int]:
        if self._again:
            return self._again.pop()
        positions = self._todo[self._at : self._at + self._size]
        self._at += len(positions)
        return positions

    def _receive(self, seconds: float) -> None:
        from concurrent.futures import FIRST_COMPLETED, wait

        done, _ = wait(self._flying, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda each: each.exception() is not None):
            error = future.exception()
            if error is None:
                self._take(self._flying.pop(future), future.result())
            elif future in self._flying:
                self._errors.append(self._lost(error))
                self._flying.pop(future, None)

    def _take(self, positions: Sequence[int], made: Slice) -> None:
        for event in made.events:
            self._walk.tell(event)
        keeper = self._walk.keeper
        for part in made.parts:
            cast(Storing, keeper).put(part)
        for place, (position, mark) in enumerate(zip(positions, made.marks, strict=False)):
            value = self._walk.stored(self._node.body, (position,)) if keeper.durable else decode(made.values[place])
            self._fan.put(position, value, mark)
        self._done += len(made.marks)
        left = positions[len(made.marks) :]
        if made.error is not None:
            self._errors.append(made.error)
            self._pool.stop()
            for future in [each for each in self._flying if each.cancel()]:
                del self._flying[future]
        elif left:
            half = max(len(left) // 2, self._node.batch)
            self._again += [each for each in (left[:half], left[half:]) if each]
        self._resize(made)

    def _resize(self, made: Slice) -> None:
        """Send as many items at once as fill `_SLICE`, but leave enough for every worker."""
        each = made.seconds / max(len(made.marks), 1)
        fitting = int(_SLICE / each) if each else len(self._todo)
        share = -(-(len(self._todo) - self._at) // self._wide)
        batch = self._node.batch
        self._size = max(min(fitting, share, 8 * self._size) // batch, 1) * batch

    def _lost(self, error: BaseException) -> BaseException:
        from concurrent.futures import BrokenExecutor

        if not isinstance(error, BrokenExecutor):
            return error
        lost = sorted(position for positions in self._flying.values() for position in positions)
        self._flying.clear()  # with one process the pool ends, and everything that was on its way is lost
        if not lost:
            return RunError(f"The pool for the map of {self._node.label!r} is broken: {error}")
        items = (
            f"item {lost[0]}" if len(lost) == 1 else f"one of the {len(lost)} items between {lost[0]} and {lost[-1]}"
        )
        return RunError(
            f"A worker process died while it ran {items} of the map of {self._node.label!r}. It may have run out of "
            "memory, or crashed in a native library; with --executor inline the items run here, one by one."
        )

    def _abandon(self, interrupted: bool) -> None:
        """After Ctrl-C: keep what finishes soon, and give up the rest."""
        self._pool.stop()
        deadline = perf_counter() + _PATIENCE
        for future in [each for each in self._flying if each.cancel()]:
            del self._flying[future]
        if self._flying and interrupted:
            self._walk.tell(RunStopping(self._walk.run, _PATIENCE))
        while self._flying and (left := deadline - perf_counter()) > 0:
            self._receive(left)
        if self._flying and isinstance(self._pool, Processes):
            self._pool.kill()


def raise_first(errors: Sequence[BaseException]) -> None:
    """Raise the first error that is a cause and not a consequence."""
    for error in sorted(errors, key=lambda each: isinstance(each, Cancelled)):
        raise error
