"""Connections that calls take turns in: a pool per process, database and way of using it.

The pools are SQLAlchemy's. A process that forks closes the connections that nobody uses, and both processes open their
own. A connection in which a statement may have left something is closed instead of being lent again.
"""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from twingraph.components.sql.problems import Failure
from twingraph.components.sql.targets import Target
from twingraph.executions.forks import Gate

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection, QueuePool

_MOST_POOLS = 32
_PATIENCE = 300.0
_IDLE = 30.0
"""After so many seconds without use a connection is asked whether it still works; before, only looked at."""


class Lent:
    """A connection for one call.

    Attributes:
        connection: that of the driver.
        keep: whether another call may have it afterwards.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.keep = True


class Pools:
    """The pools of this process."""

    def __init__(self, most: int = _MOST_POOLS) -> None:
        self._most = most
        self._pools: OrderedDict[tuple[Target, str], QueuePool] = OrderedDict()
        self._left: list[Any] = []
        self._lock = threading.Lock()
        self._gate = _Gate(self)

    @contextmanager
    def lent(
        self, target: Target, way: str, opened: Callable[[], Any], alive: Callable[[Any, bool], bool], held: bool = True
    ) -> Iterator[Lent]:
        """A connection for the block; a fork waits for its end if it is `held`."""
        with self._gate if held else nullcontext():
            pool, fairy = self._taken(target, way, opened, alive)
            lent = Lent(fairy.dbapi_connection)
            try:
                yield lent
            finally:
                fairy.record_info["used"] = monotonic()  # type: ignore[index]
                current = self._pools.get((target, way)) is pool
                if target.in_memory or (lent.keep and current):
                    fairy.close()
                else:
                    fairy.invalidate()

    def dispose(self, target: Target | None = None) -> None:
        """Close the connections that nobody uses: all, or those that use the file of a target in another way.

        Those that are in use are closed when they are given back.
        """
        with self._lock:
            old = []
            for key, pool in self._pools.items():
                if not key[0].in_memory and (target is None or (key[0] != target and key[0].path == target.path)):
                    old.append(pool)
                    self._pools[key] = pool.recreate()
        for pool in old:
            pool.dispose()

    def close(self) -> None:
        """Close the connections that nobody uses, also those that hold a database in memory."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            with suppress(Exception):
                pool.dispose()

    def leave_behind(self) -> None:
        """In a forked process: forget the connections of the other one without touching them."""
        self._left.append(self._pools)
        self._pools = OrderedDict()
        self._lock = threading.Lock()

    def _taken(
        self, target: Target, way: str, opened: Callable[[], Any], alive: Callable[[Any, bool], bool]
    ) -> tuple[QueuePool, PoolProxiedConnection]:
        from sqlalchemy.exc import TimeoutError as NoneFree

        pool = self._pool(target, way, opened)
        while True:
            try:
                fairy = pool.connect()
            except NoneFree:
                raise Failure(
                    f"all {target.pool} connections were in use for {_PATIENCE:g} s; pool= allows more", unreached=True
                ) from None
            used = (fairy.record_info or {}).get("used")
            if used is None or alive(fairy.dbapi_connection, monotonic() - used > _IDLE):
                return pool, fairy
            fairy.invalidate()

    def _pool(self, target: Target, way: str, opened: Callable[[], Any]) -> QueuePool:
        from sqlalchemy.pool import QueuePool

        with self._lock:
            pool = self._pools.get((target, way))
            if pool is None:
                size = 1 if target.in_memory and target.kind == "sqlite" else target.pool  # a second one sees nothing
                pool = QueuePool(
                    opened, pool_size=size, max_overflow=0, timeout=_PATIENCE, use_lifo=True, reset_on_return=None
                )
                self._pools[target, way] = pool
                self._make_room()
            self._pools.move_to_end((target, way))
            return pool

    def _make_room(self) -> None:
        """Give up the pools that were not used for the longest time, if there are too many."""
        for key, pool in list(self._pools.items())[: -self._most]:
            if not pool.checkedout() and not key[0].in_memory:
                del self._pools[key]
                pool.dispose()


class _Gate(Gate):
    """Where calls pass; it is closed while the process forks."""

    def __init__(self, pools: Pools) -> None:
        super().__init__(pools.dispose)
        self._pools = pools

    def renew(self) -> None:
        super().renew()
        self._pools.leave_behind()


pools = Pools()
"""Those that components use."""

atexit.register(pools.close)
