"""How often AWS is asked whether something has happened: at once, then ever less often, until it has."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """The pauses between two looks.

    Args:
        sleep: waits so many seconds; a test gives one that does not.
        first: the first pause, in seconds, and the next one after something has happened.
        most: the longest one.
    """

    def __init__(self, sleep: Callable[[float], object] = time.sleep, first: float = 0.25, most: float = 4.0) -> None:
        self._sleep = sleep
        self._first = self._next = first
        self._most = most

    def wait(self) -> None:
        """Pause; the next pause is longer."""
        pause, self._next = self._next, min(self._most, self._next * 1.5)
        self._sleep(pause)

    def hurry(self) -> None:
        """Something has happened, so more may soon."""
        self._next = self._first
