"""Forking a process that has databases open: SQLite and PostgreSQL forbid that connections come along.

Before a fork every gate is closed: those who use connections finish, others wait, and the connections are closed. After
it both processes open their own.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

_PATIENCE = 10.0

_gates: weakref.WeakSet[Gate] = weakref.WeakSet()
importing = threading.Lock()
"""Held while a thread imports something: a process that is forked meanwhile would have halves of modules."""


class Gate:
    """What one goes through to use connections; `leave` closes those that nobody uses."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False
        _gates.add(self)

    def __enter__(self) -> None:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in until it is opened; wait for those inside, but not for ever."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._inside, _PATIENCE)
        self._leave()

    def open(self) -> None:
        """Let everybody in again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def renew(self) -> None:
        """Open it in a forked process, in which no other thread is."""
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False


def _before() -> None:
    importing.acquire()
    for gate in list(_gates):
        gate.close()


def _in_parent() -> None:
    for gate in list(_gates):
        gate.open()
    importing.release()


def _in_child() -> None:
    for gate in list(_gates):
        gate.renew()
    importing.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
