"""How far a map is, in one line: written now and then to a file, or redrawn in place on a terminal.

Both kinds are told every event together with the lines that are to be logged for it, and say what to write: the lines
and the progress, in the order and with the erasing that keeps them apart. Neither of them touches a stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from lokki.events import (
    Event,
    MapFinished,
    MapProgress,
    MapStarted,
    RunFinished,
    RunStarted,
    RunStopping,
    StepFailed,
    StepFinished,
    StepRetried,
    StepStarted,
)
from lokki.sentences import completed, percent

_CELLS = 25  # of a bar that has all the room it wants
_FEWEST_CELLS = 5  # a shorter bar says nothing
_GAP = "  "
_ERASE = "\r\x1b[K"  # back to the first column, then clear to the end of the line


class Due:
    """When progress is worth a line: another `interval` items or another tenth of them are done, whichever comes first.

    Between two tenths there is at most a line a second, so that a long map does not drown its log.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._last: dict[
            tuple[str, str], tuple[int, float]
        ] = {}  # by run and node: items done, seconds since the start

    def __call__(self, event: MapProgress) -> bool:
        """Whether this event is to be told; it then counts as told."""
        every = max(1, min(self._interval, event.total // 10))
        done, seconds = self._last.get((event.run, event.node), (event.reused, -1.0))
        if event.total == 0:
            return False
        tenth = event.done * 10 // event.total > done * 10 // event.total
        due = event.done // every > done // every and (tenth or event.seconds - seconds >= 1)
        if due:
            self._last[event.run, event.node] = event.done, event.seconds
        return due

    def forget(self, event: MapStarted | MapFinished) -> int | None:
        """A map begins or is over; says how many items were told as done."""
        done, _ = self._last.pop((event.run, event.node), (None, 0.0))
        return done


class PlainProgress:
    """For files and pipes: a line whenever it is due."""

    def __init__(self, interval: int) -> None:
        self._due = Due(interval)

    def text(self, event: Event, lines: str) -> str:
        """What to write for `event`, whose log lines are `lines` (each with its line end, or none at all)."""
        match event:
            case MapStarted():
                self._due.forget(event)
                return lines
            case MapProgress():
                return lines + (_plain_line(event) if self._due(event) else "")
            case MapFinished():
                owed = self._due.forget(event) != event.total == event.done > 0
                return (_plain_line(event) if owed else "") + lines
            case (
                RunStarted()
                | RunStopping()
                | RunFinished()
                | StepStarted()
                | StepFinished()
                | StepRetried()
                | StepFailed()
            ):
                return lines
            case _:
                assert_never(event)


class LiveProgress:
    """For a terminal: one bar below all lines, redrawn at every event of a map; `columns` tells the width."""

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns
        self._bar = ""  # what stands in the terminal's last line, where the cursor is

    def text(self, event: Event, lines: str) -> str:
        """What to write for `event`, whose log lines are `lines` (each with its line end, or none at all)."""
        erase = _ERASE if self._bar else ""
        self._bar = self._bar_after(event)
        return erase + lines + self._bar

    def _bar_after(self, event: Event) -> str:
        match event:
            case MapStarted(run, node, step, total, reused):
                return self._bar_after(MapProgress(run, node, step, total, reused, 0, 0.0, reused))
            case MapProgress():
                return _live_line(event, self._columns()) if event.total else ""
            case MapFinished() | RunFinished():
                return ""
            case RunStarted() | RunStopping() | StepStarted() | StepFinished() | StepRetried() | StepFailed():
                return self._bar
            case _:
                assert_never(event)


def _bar(event: MapProgress | MapFinished, cells: int) -> str:
    full = cells * event.done // event.total
    return f"[{('=' * full + '>').ljust(cells)[:cells]}]"


def _plain_line(event: MapProgress | MapFinished) -> str:
    return f"  {_bar(event, _CELLS)} {completed(event)}\n"


def _live_line(event: MapProgress, columns: int) -> str:
    """One line that leaves the last column free, because many terminals wrap when it is written to.

    When there is not enough room the bar gets shorter and then goes, then the name, then one fact after another.
    """
    facts = _facts(event)
    while len(facts) > 1 and len(_GAP.join(facts)) >= columns:
        del facts[min(2, len(facts) - 1)]
    told = _GAP.join(facts)
    room = columns - 1 - len(told) - len(_GAP)
    cells = min(_CELLS, room - _widest(event.step) - len(_GAP) - len("[]"))
    if cells >= _FEWEST_CELLS:
        return _GAP.join((event.step, _bar(event, cells), told))
    name = _cut(event.step, room)
    return _GAP.join((name, told)) if name else told[: columns - 1]


def _facts(event: MapProgress) -> list[str]:
    failed = [f"{event.failed:,} failed"] if event.failed else []
    return [f"{event.done:,}/{event.total:,}", f"{percent(event)}%", *_pace(event), *failed]


def _pace(event: MapProgress) -> list[str]:
    """How fast this run is and how long it still takes, as soon as that can be told."""
    fresh = event.done - event.reused
    if fresh <= 0 or event.seconds <= 0:
        return []
    left = event.total - event.done
    pace = [_rate(fresh / event.seconds)]
    return [*pace, f"{_clock(left * event.seconds / fresh)} left"] if left else pace


def _rate(per_second: float) -> str:
    for factor, unit in ((1, "s"), (60, "min")):
        if per_second * factor >= 1:
            return f"{_three_digits(per_second * factor)}/{unit}"
    return f"{_three_digits(per_second * 3600)}/h"


def _three_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _widest(name: str) -> int:
    """The columns that a name takes at most: a character outside ASCII may be two wide."""
    return len(name) if name.isascii() else 2 * len(name)


def _cut(name: str, columns: int) -> str:
    fitting = max(0, columns if name.isascii() else columns // 2)
    return name[:fitting]
