"""The lines of one run, out of a log in which several runs write at once.

A line of lokki's own says its run. Others (what a step prints, what Lambda reports) belong to the run of the call that
they were written in: in a stream calls follow each other, from `START` to `REPORT`; the stream of a job is one call. So
lines wait until their call has said for whom it works. A call that ends without having said so, because it could not
start or was cut off, may be anybody's, and its lines are kept.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from lokki.aws.logs import Line

_FACTS = {"level", "ts", "event"}


def facts(text: str) -> dict[str, Any] | None:
    """What a line of lokki's own says; None for any other line."""
    if not text.startswith("{"):
        return None
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.keys() >= _FACTS else None


class _Call:
    """One call of a function, or one job: whose it is turns out in the course of it."""

    def __init__(self) -> None:
        self.started = False
        self.mine: bool | None = None
        self.claimed = True


class OfRun:
    """Picks the lines of one run.

    Attributes:
        unclaimed: how many lines were kept because nothing says whose they are.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._calls: dict[tuple[str, str], _Call] = {}
        self._waiting: deque[tuple[Line, _Call]] = deque()
        self.unclaimed = 0

    def picked(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The lines of the run in their order, as soon as it is known that no earlier one is."""
        for line in lines:
            self._take(line)
            while self._waiting and self._waiting[0][1].mine is not None:
                yield from self._given(*self._waiting.popleft())
        yield from self.rest()

    def known(self, lines: Iterable[Line]) -> list[Line]:
        """The lines of the run that are known by now; those that are not wait for the next time."""
        for line in lines:
            self._take(line)
        now = [each for each in self._waiting if each[1].mine is not None]
        self._waiting = deque(each for each in self._waiting if each[1].mine is None)
        return [line for each in now for line in self._given(*each)]

    def rest(self) -> Iterator[Line]:
        """The lines of calls that have not ended."""
        for line, call in self._waiting:
            self._end(call)
            yield from self._given(line, call)

    def _given(self, line: Line, call: _Call) -> Iterator[Line]:
        if call.mine:
            self.unclaimed += not call.claimed
            yield line

    def _take(self, line: Line) -> None:
        said = facts(line.text)
        call = self._call(line)
        self._waiting.append((line, call))
        if said is not None and "run_id" in said:
            call.mine = said["run_id"] == self._run
        elif line.text.startswith("REPORT RequestId:"):
            self._end(call)

    def _call(self, line: Line) -> _Call:
        """The call that a line was written in; starting up belongs to the call that follows."""
        where = (line.group, line.stream)
        call = self._calls.get(where)
        starts = line.text.startswith("START RequestId:")
        if call is None or line.text.startswith("INIT_START") or (starts and call.started):
            if call is not None:
                self._end(call)
            call = self._calls[where] = _Call()
        call.started = call.started or starts
        return call

    def _end(self, call: _Call) -> None:
        if call.mine is None:
            call.mine, call.claimed = True, False
