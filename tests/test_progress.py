"""How far a map is: lines in a file, and a bar on a real terminal that is never wrapped, left behind or mixed up."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import struct
import termios
from collections.abc import Iterable
from contextlib import suppress

import pytest

from lokki.config import LoggingConfig
from lokki.events import Event, MapFinished, MapProgress, MapStarted, RunFinished, StepFailed, StepRetried, StepStarted
from lokki.logging import listener

HUMAN = LoggingConfig(show_timestamps=False)
JSON = LoggingConfig(format="json")
FAILED_RETRY = StepRetried("r1", "x", 1, 2.0, "ValueError: invalid input")


def started(total: int, reused: int = 0, step: str = "flap") -> MapStarted:
    return MapStarted("r1", f"{step}-map", step, total, reused)


def progress(done: int, total: int, seconds: float = 1.0, failed: int = 0, reused: int = 0) -> MapProgress:
    return MapProgress("r1", "flap-map", "flap", total, done, failed, seconds, reused)


def finished(done: int, total: int, failed: int = 0) -> MapFinished:
    return MapFinished("r1", "flap-map", "flap", total, done, failed, 4.567)


def printed(config: LoggingConfig, *events: Event) -> list[str]:
    stream = io.StringIO()
    hear = listener(config, stream)
    for event in events:
        hear(event)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("done", "line"),
    [
        (10, "  [==>                      ] 10/100 (10%) completed"),
        (30, "  [=======>                 ] 30/100 (30%) completed"),
        (99, "  [========================>] 99/100 (99%) completed"),
        (100, "  [=========================] 100/100 (100%) completed"),
    ],
)
def test_progress_is_a_line_with_a_bar(done: int, line: str) -> None:
    assert printed(HUMAN, progress(done, 100)) == [line]


def percentages(lines: list[str]) -> list[int]:
    return [int(found) for line in lines for found in re.findall(r"\((\d+)%\)", line)]


@pytest.mark.parametrize(
    ("interval", "total", "steps", "expected"),
    [
        pytest.param(10, 100, range(5, 96, 5), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100], id="every 10 items"),
        pytest.param(7, 100, range(1, 30), [7, 14, 21, 28, 100], id="the interval when it is the smaller"),
        pytest.param(1000, 200, range(0, 101, 10), [10, 20, 30, 40, 50, 100], id="a tenth when that is the smaller"),
        pytest.param(10, 100, (9, 11, 19, 48, 49, 50, 50), [11, 48, 50, 100], id="once for all that was crossed"),
        pytest.param(10, 3, (1, 2, 3), [33, 66, 100], id="fewer than ten items, each"),
        pytest.param(10, 25, (24,), [96, 100], id="the end, after the last tenth"),
    ],
)
def test_progress_comes_every_so_many_items(
    interval: int, total: int, steps: Iterable[int], expected: list[int]
) -> None:
    config = LoggingConfig(progress_interval=interval)
    events = [progress(done, total, seconds=done) for done in steps]
    assert percentages(printed(config, started(total), *events, finished(total, total))) == expected


@pytest.mark.parametrize("config", [HUMAN, JSON])
def test_within_a_second_only_tenths_are_told(config: LoggingConfig) -> None:
    events = [progress(done, 1_000, seconds=done / 100) for done in range(10, 301, 10)]
    assert percentages(printed(config, started(1_000), *events)) == [1, 10, 20, 30]


def test_the_last_progress_line_stands_before_the_end_of_its_map() -> None:
    assert printed(HUMAN, started(2), finished(2, 2)) == [
        "[INFO] Map 'flap' started (2 items)",
        "  [=========================] 2/2 (100%) completed",
        "[INFO] Map 'flap' completed in 4.567s",
    ]


def test_a_map_that_stopped_gets_no_last_progress_line() -> None:
    assert percentages(printed(HUMAN, started(10), progress(4, 10), finished(5, 10, failed=1))) == [40]


def test_reused_items_count_as_done_but_not_as_progress() -> None:
    events = (started(100, reused=40), progress(41, 100, reused=40), progress(50, 100, reused=40))
    assert percentages(printed(HUMAN, *events)) == [50]


def test_a_map_of_nothing_has_no_bar() -> None:
    assert printed(HUMAN, started(0), progress(0, 0), finished(0, 0)) == [
        "[INFO] Map 'flap' started (0 items)",
        "[INFO] Map 'flap' completed in 4.567s",
    ]


def test_two_maps_at_once_do_not_confuse_their_progress() -> None:
    other = MapProgress("r1", "glide-map", "glide", 100, 50, 0, 1.0)
    lines = printed(HUMAN, started(100), started(100, step="glide"), progress(30, 100), other, progress(39, 100))
    assert percentages(lines) == [30, 50]


class Terminal:
    """A real pseudo-terminal, and what a person sees on it: rows of `columns` characters that wrap."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")

    def close(self) -> str:
        """Everything that was written."""
        self.stream.close()
        parts = []
        with suppress(OSError):  # how Linux tells the end
            while part := os.read(self._master, 65536):
                parts.append(part)
        os.close(self._master)
        return b"".join(parts).decode()

    def rows(self) -> list[str]:
        rows, column = [""], 0
        for token in re.findall(r"\x1b\[[\d;]*[A-Za-z]|.", self.close(), re.DOTALL):
            if token == "\n":
                rows.append("")
            elif token == "\r":
                column = 0
            elif token == "\x1b[K":
                rows[-1] = rows[-1][:column]
            elif not token.startswith("\x1b"):
                if column == self.columns:
                    rows.append("")
                    column = 0
                rows[-1] = rows[-1][:column] + token + rows[-1][column + 1 :]
                column += 1
        return rows


@pytest.fixture(autouse=True)
def _ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def told(terminal: Terminal, config: LoggingConfig, events: Iterable[Event]) -> Terminal:
    hear = listener(config, terminal.stream)
    for event in events:
        hear(event)
    return terminal


def seen(columns: int, *events: Event) -> list[str]:
    return told(Terminal(columns), HUMAN, events).rows()


def transcript(config: LoggingConfig, *events: Event) -> str:
    return told(Terminal(columns=200), config, events).close()


def test_on_a_terminal_a_bar_is_redrawn_below_the_lines() -> None:
    events = (started(10_000), progress(1_000, 10_000), progress(4_213, 10_000, seconds=3.37, failed=2))
    assert seen(100, *events) == [
        "[INFO] Map 'flap' started (10000 items)",
        "flap  [==========>              ]  4,213/10,000  42%  1,250/s  0:05 left  2 failed",
    ]


def test_a_bar_is_there_from_the_first_moment() -> None:
    assert seen(60, started(100, reused=50))[-1] == "flap  [============>            ]  50/100  50%"


def test_lines_appear_above_the_bar() -> None:
    assert seen(100, started(10), progress(5, 10, seconds=5), FAILED_RETRY, StepStarted("r1", "y")) == [
        "[INFO] Map 'flap' started (10 items)",
        "[WARNING] Step 'x' failed on attempt 1, trying again in 2s: ValueError: invalid input",
        "[INFO] Step 'y' started",
        "flap  [============>            ]  5/10  50%  1.0/s  0:05 left",
    ]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param((finished(10, 10),), id="the map ends"),
        pytest.param((RunFinished("r1", "birds", "interrupted", 1.0),), id="the run is interrupted"),
    ],
)
def test_the_bar_is_gone_at_the_end(last: tuple[Event, ...]) -> None:
    rows = seen(60, started(10), progress(10, 10), *last)
    assert [row for row in rows if "/10" in row] == []
    assert rows[-1] == ""


@pytest.mark.parametrize(
    ("columns", "bar"),
    [
        (70, "flap_bird  [=======>         ]  4,213/10,000  42%  1,250/s  0:05 left"),
        (58, "flap_bird  [==>  ]  4,213/10,000  42%  1,250/s  0:05 left"),
        (57, "flap_bird  4,213/10,000  42%  1,250/s  0:05 left"),
        (45, "flap_  4,213/10,000  42%  1,250/s  0:05 left"),
        (30, "4,213/10,000  42%  0:05 left"),
        (14, "4,213/10,000"),
        (8, "4,213/1"),
        (1, ""),
    ],
)
def test_a_narrow_terminal_gets_a_shorter_bar_that_never_wraps(columns: int, bar: str) -> None:
    event = MapProgress("r1", "m", "flap_bird", 10_000, 4_213, 0, 3.37)
    assert seen(columns, event, event) == [bar]


def test_a_name_of_wide_characters_is_given_two_columns_each() -> None:
    event = MapProgress("r1", "m", "鳥を羽ばたかせる", 100, 40, 0, 0.0)
    assert seen(29, event)[-1] == "鳥を羽ばたかせ  40/100  40%"
    assert seen(40, event)[-1] == "鳥を羽ばたかせる  [==>   ]  40/100  40%"
    assert seen(12, event)[-1] == "40/100  40%"


@pytest.mark.parametrize(
    ("event", "pace"),
    [
        (progress(0, 10), ""),
        (progress(3, 10, seconds=0.0), ""),
        (progress(40, 100, reused=40), ""),
        (progress(50, 100, seconds=2.0, reused=40), "  5.0/s  0:10 left"),
        (progress(10, 10, seconds=2.0), "  5.0/s"),
        (progress(1, 4, seconds=1241.0), "  2.9/h  1:02:03 left"),
        (progress(60, 100, seconds=600.0), "  6.0/min  6:40 left"),
    ],
)
def test_the_pace_counts_what_this_run_did(event: MapProgress, pace: str) -> None:
    (row,) = seen(100, event)
    assert row.partition("%")[2] == pace


def test_a_map_of_nothing_draws_no_bar_on_a_terminal() -> None:
    assert seen(80, started(0), progress(0, 0)) == ["[INFO] Map 'flap' started (0 items)", ""]


class Console(io.StringIO):
    """A terminal that is no file, as editors have them."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_that_does_not_tell_its_width_is_taken_for_80_columns() -> None:
    event = MapProgress("r1", "m", "a_long_name" * 5, 100, 40, 0, 0.0)
    console, terminal = Console(), Terminal(columns=0)
    listener(HUMAN, console)(event)
    listener(HUMAN, terminal.stream)(event)
    assert console.getvalue() == terminal.close() == f"{event.step}  [==>    ]  40/100  40%"
    assert len(console.getvalue()) == 79


def test_levels_are_coloured_on_a_terminal_unless_the_user_wants_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    events = (StepStarted("r1", "x"), FAILED_RETRY, StepFailed("r1", "x", 2, 1.0, "ValueError", ""))
    assert re.findall(r"\x1b\S+", transcript(HUMAN, *events)) == ["\x1b[33m[WARNING]\x1b[0m", "\x1b[31m[ERROR]\x1b[0m"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in transcript(HUMAN, *events)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    events = (started(10), progress(5, 10), FAILED_RETRY)
    assert transcript(HUMAN, *events).splitlines() == printed(HUMAN, *events)


def test_json_on_a_terminal_stays_json() -> None:
    lines = transcript(JSON, started(10), progress(5, 10)).splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["map_start", "map_progress"]
