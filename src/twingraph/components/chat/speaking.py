"""What a model says as it says it, in the log of the call: in lines, not in tokens.

A line is told when it is whole. One that takes longer than a second, or gets long, is told as far as its last whole
word when more of it comes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from twingraph.surroundings import tell

_SECONDS = 1.0
_LONG = 200
_log = logging.getLogger("twingraph.components.llm")


def say(line: str, level: int = logging.INFO) -> None:
    """A line for the log of the call; also for that of the program, where it wants to hear of this level."""
    if _log.isEnabledFor(level):
        _log.log(level, "%s", line)
    else:
        tell(logging.getLevelName(level).lower(), line)


def silent(_line: str) -> None:
    """Where lines go that nobody wants."""


class Speaking:
    """Puts the pieces of a stream together to lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begun = ""
        self._since = 0.0

    def take(self, piece: str) -> None:
        """Take what came."""
        if not piece:
            return
        if not self._begun:
            self._since = monotonic()
        *whole, self._begun = (self._begun + piece).split("\n")
        for each in whole:
            self._say(each)
        if whole:
            self._since = monotonic()
        if len(self._begun) >= _LONG or monotonic() - self._since >= _SECONDS:
            self._say_words()

    def close(self) -> None:
        """There is no more."""
        self._say(self._begun)
        self._begun = ""

    def _say_words(self) -> None:
        words, _, rest = self._begun.rpartition(" ")
        if words.strip():
            self._say(words)
            self._begun, self._since = rest, monotonic()
        elif len(self._begun) >= 10 * _LONG:  # a language without spaces, or no language
            self._say(self._begun)
            self._begun = ""

    def _say(self, line: str) -> None:
        if line.strip():
            self._tell(line.rstrip())
