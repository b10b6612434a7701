"""What a run says: lines for people, JSON lines, and nothing more to a stream that broke."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lokki.config import LoggingConfig
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
    silent,
)
from lokki.logging import listener

HUMAN = LoggingConfig(show_timestamps=False)
DEBUG = LoggingConfig(level="DEBUG", show_timestamps=False)
JSON = LoggingConfig(level="DEBUG", format="json")
TRACE = "  File 'birds.py', line 3, in x\n"


def started(total: int, reused: int = 0) -> MapStarted:
    return MapStarted("r1", "flap-map", "flap", total, reused)


def progress(done: int, total: int) -> MapProgress:
    return MapProgress("r1", "flap-map", "flap", total, done, 0, 1.0)


def finished(done: int, total: int, failed: int = 0) -> MapFinished:
    return MapFinished("r1", "flap-map", "flap", total, done, failed, 4.567)


def failed_step(index: tuple[int, ...] = (), item: str = "") -> StepFailed:
    return StepFailed("r1", "x", 1, 1.234, "ValueError: invalid input", TRACE, index, item)


FAILED_RETRY = StepRetried("r1", "x", 1, 2.0, "ValueError: invalid input")
ONE_OF_EACH: tuple[Event, ...] = (
    RunStarted("r1", "birds"),
    StepStarted("r1", "x"),
    StepFinished("r1", "x", 1, 2.345),
    FAILED_RETRY,
    failed_step(),
    started(10),
    progress(3, 10),
    finished(10, 10),
    RunFinished("r1", "birds", "success", 5.0),
)


def printed(config: LoggingConfig, *events: Event, flow: str = "") -> list[str]:
    stream = io.StringIO()
    hear = listener(config, stream, flow=flow)
    for event in events:
        hear(event)
    return stream.getvalue().splitlines()


def parsed(config: LoggingConfig, *events: Event, flow: str = "") -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed(config, *events, flow=flow)]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (StepStarted("r1", "x"), "[INFO] Step 'x' started"),
        (StepFinished("r1", "x", 1, 2.345), "[INFO] Step 'x' completed in 2.345s (status=success)"),
        (
            StepFinished("r1", "x", 0, 0.001, reused=True),
            "[INFO] Step 'x' reused from the earlier run (status=reused)",
        ),
        (failed_step(), "[ERROR] Step 'x' failed after 1.234s: ValueError: invalid input"),
        (
            failed_step((3,), "'goose'"),
            "[ERROR] Step 'x' failed on item 3 of its map ('goose') after 1.234s: ValueError: invalid input",
        ),
        (
            failed_step((3, 17)),
            "[ERROR] Step 'x' failed on item 3.17 of its maps after 1.234s: ValueError: invalid input",
        ),
        (
            FAILED_RETRY,
            "[WARNING] Step 'x' failed on attempt 1, trying again in 2s: ValueError: invalid input",
        ),
        (
            StepRetried("r1", "x", 2, 0.25, "OSError: gone", (0,)),
            "[WARNING] Step 'x' failed on item 0 of its map on attempt 2, trying again in 0.25s: OSError: gone",
        ),
        (started(100), "[INFO] Map 'flap' started (100 items)"),
        (started(100, reused=40), "[INFO] Map 'flap' started (100 items, 40 already done)"),
        (started(1), "[INFO] Map 'flap' started (1 item)"),
        (finished(0, 0), "[INFO] Map 'flap' completed in 4.567s"),
        (finished(30, 100, failed=1), "[ERROR] Map 'flap' stopped after 4.567s: 30 of 100 items completed, 1 failed"),
        (finished(30, 100), "[WARNING] Map 'flap' stopped after 4.567s: 30 of 100 items completed"),
        (RunStarted("r1", "birds"), "[DEBUG] Run 'r1' of flow 'birds' started"),
        (RunStarted("r1", "birds", kept=True, resumed=True), "[INFO] Run 'r1' goes on: finished work is reused"),
        (
            RunFinished("r1", "birds", "interrupted", 5.0),
            "[DEBUG] Run 'r1' of flow 'birds' ended after 5.000s (status=interrupted)",
        ),
    ],
)
def test_an_event_is_one_line_for_people(event: Event, line: str) -> None:
    assert printed(DEBUG, event) == [line]


def test_a_step_says_when_it_started_unless_times_are_off() -> None:
    (line,) = printed(LoggingConfig(), StepStarted("r1", "x"))
    assert re.fullmatch(r"\[INFO\] Step 'x' started at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)


def test_a_batch_step_says_that_it_runs_here() -> None:
    event = StepStarted("r1", "x", job_type="batch")
    assert printed(HUMAN, event) == [
        "[INFO] Step 'x' started",
        "[INFO] Step 'x' is a Batch step: it runs here, inline",
    ]
    assert [line["message"] for line in parsed(JSON, event)] == [
        "Step 'x' started; it is a Batch step and runs here, inline"
    ]


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("DEBUG", "DEBUG INFO INFO WARNING ERROR INFO INFO INFO DEBUG"),
        ("INFO", "INFO INFO WARNING ERROR INFO INFO INFO"),
        ("WARNING", "WARNING ERROR"),
        ("ERROR", "ERROR"),
    ],
)
def test_a_level_hides_what_is_below_it(level: str, levels: str) -> None:
    lines = parsed(LoggingConfig(level=level, format="json"), *ONE_OF_EACH)
    assert " ".join(line["level"] for line in lines) == levels


def test_a_level_above_info_hides_progress_too() -> None:
    quiet = LoggingConfig(level="ERROR")
    assert printed(quiet, *ONE_OF_EACH) == ["[ERROR] Step 'x' failed after 1.234s: ValueError: invalid input"]
    assert len(printed(quiet, started(100), progress(30, 100), finished(30, 100, failed=1))) == 1


KEYS = [
    "level",
    "ts",
    "event",
    "step",
    "step_name",
    "node",
    "duration",
    "duration_ms",
    "status",
    "message",
    "run_id",
    "flow_name",
    "correlation_id",
    "total",
    "completed",
    "failed",
    "index",
    "attempt",
    "delay",
    "error",
    "traceback",
]
RUN = {"run_id": "r1", "flow_name": "birds", "correlation_id": "r1"}
X = {"step": "x", "step_name": "x"}
FLAP = {"step": "flap", "step_name": "flap", "node": "flap-map"}
INVALID = {"error": "ValueError: invalid input"}


def took(seconds: float, milliseconds: int) -> dict[str, float]:
    return {"duration": seconds, "duration_ms": milliseconds}


@pytest.mark.parametrize(
    ("event", "level", "name", "facts"),
    [
        (RunStarted("r1", "birds"), "DEBUG", "run_start", {}),
        (RunFinished("r1", "birds", "success", 5.0), "DEBUG", "run_complete", took(5.0, 5000) | {"status": "success"}),
        (
            RunFinished("r1", "birds", "failed", 5.0, "ValueError: x"),
            "ERROR",
            "run_complete",
            took(5.0, 5000) | {"status": "failed", "error": "ValueError: x"},
        ),
        (RunStopping("r1", 2.0), "WARNING", "run_stop", {}),
        (StepStarted("r1", "x"), "INFO", "step_start", X),
        (
            StepFinished("r1", "x", 2, 2.34549),
            "INFO",
            "step_complete",
            X | took(2.345, 2345) | {"status": "success", "attempt": 2},
        ),
        (
            StepFinished("r1", "x", 0, 0.0, reused=True),
            "INFO",
            "step_complete",
            X | took(0.0, 0) | {"status": "reused"},
        ),
        (FAILED_RETRY, "WARNING", "step_retry", X | INVALID | {"attempt": 1, "delay": 2.0}),
        (
            failed_step((3, 17), "'gänse\n'"),
            "ERROR",
            "step_fail",
            X | took(1.234, 1234) | {"status": "failed", "index": [3, 17], "attempt": 1, "traceback": TRACE} | INVALID,
        ),
        (started(100, reused=40), "INFO", "map_start", FLAP | {"total": 100, "completed": 40}),
        (
            progress(30, 100),
            "INFO",
            "map_progress",
            FLAP | took(1.0, 1000) | {"total": 100, "completed": 30, "failed": 0},
        ),
        (
            MapFinished("r1", "x", "x", 0, 0, 0, 0.0),
            "INFO",
            "map_complete",
            X | took(0.0, 0) | {"status": "success", "total": 0, "completed": 0, "failed": 0},
        ),
        (
            finished(30, 100),
            "WARNING",
            "map_complete",
            FLAP | took(4.567, 4567) | {"status": "interrupted", "total": 100, "completed": 30, "failed": 0},
        ),
    ],
)
def test_an_event_is_one_json_object_with_its_keys_in_order(
    event: Event, level: str, name: str, facts: dict[str, Any]
) -> None:
    (line,) = parsed(JSON, event, flow="birds")
    assert [key for key in KEYS if key in line] == list(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line.pop("message")
    assert line == RUN | facts | {"level": level, "event": name}


def test_the_message_of_a_json_line_is_the_line_for_people() -> None:
    events = [event for event in ONE_OF_EACH if not isinstance(event, MapProgress)]
    lines = [line for line in printed(DEBUG, *events) if line.startswith("[")]
    assert [f"[{line['level']}] {line['message']}" for line in parsed(JSON, *events)] == lines


def test_the_name_of_the_flow_is_learned_from_its_run() -> None:
    lines = parsed(
        LoggingConfig(format="json"), StepStarted("r1", "x"), RunStarted("r1", "birds"), StepStarted("r1", "y")
    )
    assert [line.get("flow_name") for line in lines] == [None, "birds"]


def test_a_map_of_nothing_tells_no_progress_in_json() -> None:
    assert parsed(JSON, progress(0, 0)) == []


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[timedelta]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XYZ-05:45")
        time.tzset()
        yield timedelta(hours=5, minutes=45)
    time.tzset()


def test_lines_for_people_tell_local_time_and_json_tells_utc(far_from_utc: timedelta) -> None:
    (line,) = printed(LoggingConfig(), StepStarted("r1", "x"))
    (entry,) = parsed(JSON, StepStarted("r1", "x"))
    local = datetime.fromisoformat(line.rpartition(" ")[2])
    utc = datetime.fromisoformat(entry["ts"]).replace(tzinfo=None)
    assert round((local - utc) / timedelta(minutes=5)) == far_from_utc / timedelta(minutes=5)


def test_standard_error_is_looked_up_when_a_listener_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    listener(HUMAN)(StepStarted("r1", "x"))
    assert capsys.readouterr() == ("", "[INFO] Step 'x' started\n")


def test_a_process_without_standard_error_runs_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert listener(HUMAN) is silent


BOTH = pytest.mark.parametrize("config", [HUMAN, JSON], ids=["human", "json"])


@BOTH
def test_a_pipe_that_nobody_reads_does_not_fail_the_run(config: LoggingConfig) -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    hear = listener(config, stream)
    os.close(reader)
    for event in ONE_OF_EACH:
        hear(event)
    with pytest.raises(BrokenPipeError):  # what the first line left behind in the buffer
        stream.close()


@BOTH
def test_a_closed_stream_does_not_fail_the_run(config: LoggingConfig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream:
        hear = listener(config, stream)
        hear(StepStarted("r1", "x"))
    hear(StepStarted("r1", "y"))
    listener(config, stream)(StepStarted("r1", "z"))
    assert len(log.read_text().splitlines()) == 1


class FullDisk(io.StringIO):
    """Refuses the second text and would take all others."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def write(self, text: str) -> int:
        self.asked += 1
        if self.asked == 2:
            raise OSError(28, "No space left on device")
        return super().write(text)


@BOTH
def test_a_stream_that_broke_once_is_left_alone(config: LoggingConfig) -> None:
    disk = FullDisk()
    hear = listener(config, disk)
    for event in ONE_OF_EACH:
        hear(event)
    assert (disk.asked, disk.getvalue().count("\n")) == (2, 1)


def test_what_a_stream_cannot_encode_is_escaped() -> None:
    raw = io.BytesIO()
    hear = listener(HUMAN, io.TextIOWrapper(raw, encoding="ascii"))
    hear(StepRetried("r1", "x", 1, 0.5, "ValueError: große Gans 🪿"))
    hear(StepStarted("r1", "y"))
    assert raw.getvalue().decode().splitlines() == [
        r"[WARNING] Step 'x' failed on attempt 1, trying again in 0.5s: ValueError: gro\xdfe Gans \U0001fabf",
        "[INFO] Step 'y' started",
    ]
