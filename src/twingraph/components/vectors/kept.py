"""What a process keeps open from one call to the next: connections and views, by what they lead to.

The least recently used are closed when there are too many, and all of them at the end. A forked process starts with
none: what the other has open is not its to use.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 32
_all: weakref.WeakSet[Kept[object]] = weakref.WeakSet()


class Kept(Generic[T]):
    """Things by a key, each made when it is first asked for."""

    def __init__(self, close: Callable[[T], None]) -> None:
        self._close = close
        self.forget()
        _all.add(self)  # type: ignore[arg-type]

    def get(self, key: Hashable, make: Callable[[], T], mark: object = None) -> T:
        """What has this key; made anew if it was made under another mark."""
        with self._lock:
            found = self._things.get(key)
            if found is not None and found[0] == mark:
                self._things.move_to_end(key)
                return found[1]
        made = make()  # not under the lock: it may take its time
        with self._lock:
            found = self._things.get(key)
            if found is not None and found[0] == mark:  # another thread was faster
                self._close(made)
                return found[1]
            if found is not None:
                self._close(found[1])
            self._things[key] = mark, made
            self._things.move_to_end(key)
            while len(self._things) > _MOST:
                _, (_, least) = self._things.popitem(last=False)
                self._close(least)
        return made

    def drop(self, key: Hashable) -> None:
        """Close what has this key."""
        with self._lock:
            found = self._things.pop(key, None)
            if found is not None:
                self._close(found[1])

    def close(self) -> None:
        """Close all."""
        with self._lock:
            while self._things:
                _, (_, thing) = self._things.popitem()
                self._close(thing)

    def forget(self) -> None:
        """Let go of all without closing anything."""
        self._lock = threading.Lock()
        self._things: OrderedDict[Hashable, tuple[object, T]] = OrderedDict()


def _close_all() -> None:
    for each in _all:
        each.close()


def _forget_all() -> None:
    for each in _all:
        each.forget()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
