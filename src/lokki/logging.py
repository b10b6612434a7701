"""Listeners that print a run: lines for people, with a live bar on a terminal, or one JSON object per line.

An event is first weighed against the configured level, so that one which is not shown costs nothing more. Then it
becomes a sentence, which is the line for people and the `message` of the JSON object. The stream is touched last, and
one that breaks is left alone from then on: a log must never fail a run.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO, assert_never

from lokki.config import LoggingConfig
from lokki.events import (
    Event,
    Listener,
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
from lokki.progress import Due, LiveProgress, PlainProgress, completed

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_LEVEL_OF_STATUS = {"success": "INFO", "interrupted": "WARNING", "failed": "ERROR"}
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}
_NO_COLOUR = "\x1b[0m"
_USUAL_COLUMNS = 80

_RunEvent = RunStarted | RunStopping | RunFinished
_StepEvent = StepStarted | StepFinished | StepRetried | StepFailed
_MapEvent = MapStarted | MapProgress | MapFinished


def listener(config: LoggingConfig, stream: TextIO | None = None, *, flow: str = "") -> Listener:
    """What prints a run to `stream` (standard error by default) as `config` asks; `flow` is named in JSON lines."""
    stream = sys.stderr if stream is None else stream
    if stream is None:  # a process may have been started without a standard error
        return silent
    if config.format == "json":
        return JsonLog(config, stream, flow=flow)
    return HumanLog(config, stream)


class HumanLog:
    """Lines for people, and how far each map is."""

    def __init__(self, config: LoggingConfig, stream: TextIO) -> None:
        terminal = _redraws(stream)
        self._out = _Output(stream)
        self._shown = _shown_levels(config)
        self._timestamps = config.show_timestamps
        self._tag = _coloured_tag if terminal and not os.environ.get("NO_COLOR") else _plain_tag
        self._progress = LiveProgress(lambda: _columns(stream)) if terminal else PlainProgress(config.progress_interval)

    def __call__(self, event: Event) -> None:
        level = _level(event)
        if level in self._shown:
            self._out.write(self._progress.text(event, self._lines(event, self._tag(level))))
        elif isinstance(event, RunFinished):  # an interrupted run may leave a bar behind
            self._out.write(self._progress.text(event, ""))

    def _lines(self, event: Event, tag: str) -> str:
        if isinstance(event, MapProgress):
            return ""
        if not isinstance(event, StepStarted):
            return f"{tag} {_sentence(event)}\n"
        at = time.strftime(" at %Y-%m-%dT%H:%M:%S") if self._timestamps else ""
        started = f"{tag} Step '{event.node}' started{at}\n"
        inline = f"{tag} Step '{event.node}' is a Batch step: it runs here, inline\n"
        return started + inline if event.job_type == "batch" else started


class JsonLog:
    """One JSON object per line, for programs that read logs."""

    def __init__(self, config: LoggingConfig, stream: TextIO, *, flow: str = "") -> None:
        from json import JSONEncoder

        self._out = _Output(stream)
        self._shown = _shown_levels(config)
        self._flow = flow
        self._encode = JSONEncoder().encode
        self._due = Due(config.progress_interval)

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._flow = event.flow
        level = _level(event)
        if isinstance(event, RunFinished) and event.status != "success":
            level = _LEVEL_OF_STATUS[event.status]  # a program learns from the log alone how the run ended
        if level not in self._shown or not self._is_due(event):
            return
        name, said_first, said_last = _facts(event)
        run = {"run_id": event.run, "flow_name": self._flow, "correlation_id": event.run}
        record = {"level": level, "ts": _utc_now(), "event": name}
        record |= said_first | {"message": _sentence(event)} | run | said_last
        self._out.write(self._encode({key: value for key, value in record.items() if value not in ("", ())}) + "\n")

    def _is_due(self, event: Event) -> bool:
        if isinstance(event, MapStarted | MapFinished):
            self._due.forget(event)
        return not isinstance(event, MapProgress) or self._due(event)


class _Output:
    """Writes whole texts at once, until the stream breaks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def write(self, text: str) -> None:
        if not text or self._stream is None:
            return
        try:
            self._write(self._stream, text)
        except (OSError, ValueError):  # a broken pipe or a full disk; a closed stream
            self._stream = None

    @staticmethod
    def _write(stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode())
        stream.flush()


def _redraws(stream: TextIO) -> bool:
    """Whether a line that was written can be written over."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # it is closed
        return False


def _columns(stream: TextIO) -> int:
    """Asks this very stream: the standard output, which `shutil` asks, may go elsewhere."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS


def _plain_tag(level: str) -> str:
    return f"[{level}]"


def _coloured_tag(level: str) -> str:
    return f"{_COLOURS[level]}[{level}]{_NO_COLOUR}" if level in _COLOURS else f"[{level}]"


def _utc_now() -> str:
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03}Z"


def _shown_levels(config: LoggingConfig) -> frozenset[str]:
    return frozenset(_LEVELS[_LEVELS.index(config.level) :])


def _level(event: Event) -> str:
    match event:
        case RunStarted(resumed=False) | RunFinished():
            return "DEBUG"
        case RunStarted() | StepStarted() | StepFinished() | MapStarted() | MapProgress():
            return "INFO"
        case StepRetried() | RunStopping():
            return "WARNING"
        case StepFailed():
            return "ERROR"
        case MapFinished():
            return _LEVEL_OF_STATUS[_status(event)]
        case _:
            assert_never(event)


def _status(event: StepFinished | MapFinished) -> str:
    match event:
        case StepFinished():
            return "reused" if event.reused else "success"
        case MapFinished() if event.failed:
            return "failed"
        case MapFinished():
            return "success" if event.done == event.total else "interrupted"
        case _:
            assert_never(event)


def _sentence(event: Event) -> str:
    match event:
        case RunStarted() | RunStopping() | RunFinished():
            return _run_sentence(event)
        case StepStarted() | StepFinished() | StepRetried() | StepFailed():
            return f"Step '{event.node}' {_step_sentence(event)}"
        case MapStarted() | MapProgress() | MapFinished():
            return f"Map '{event.step}' {_map_sentence(event)}"
        case _:
            assert_never(event)


def _run_sentence(event: _RunEvent) -> str:
    match event:
        case RunStarted(resumed=True):
            return f"Run '{event.run}' goes on: finished work is reused"
        case RunStarted():
            return f"Run '{event.run}' of flow '{event.flow}' started"
        case RunStopping():
            return f"Stopping: what is being worked on has {event.seconds:g}s to finish; Ctrl-C again ends it at once"
        case RunFinished():
            return f"Run '{event.run}' of flow '{event.flow}' ended after {event.seconds:.3f}s (status={event.status})"
        case _:
            assert_never(event)


def _step_sentence(event: _StepEvent) -> str:
    match event:
        case StepStarted(job_type="batch"):
            return "started; it is a Batch step and runs here, inline"
        case StepStarted():
            return "started"
        case StepFinished(reused=True):
            return "reused from the earlier run (status=reused)"
        case StepFinished():
            return f"completed in {event.seconds:.3f}s (status=success)"
        case StepRetried():
            again = f"on attempt {event.attempt}, trying again in {event.delay:g}s"
            return f"failed{_place(event.index)} {again}: {event.error}"
        case StepFailed():
            return f"failed{_place(event.index, event.item)} after {event.seconds:.3f}s: {event.error}"
        case _:
            assert_never(event)


def _map_sentence(event: _MapEvent) -> str:
    match event:
        case MapStarted():
            done = f", {event.reused} already done" if event.reused else ""
            return f"started ({_items(event.total)}{done})"
        case MapProgress():
            return completed(event)
        case MapFinished() if _status(event) == "success":
            return f"completed in {event.seconds:.3f}s"
        case MapFinished():
            failed = f", {event.failed} failed" if event.failed else ""
            return f"stopped after {event.seconds:.3f}s: {event.done} of {_items(event.total)} completed{failed}"
        case _:
            assert_never(event)


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _place(index: tuple[int, ...], item: str = "") -> str:
    """Which item of its map a step worked on: 3, or in a map within a map 3.17."""
    if not index:
        return ""
    maps = "map" if len(index) == 1 else "maps"
    which = f" ({item})" if item else ""
    return f" on item {'.'.join(map(str, index))} of its {maps}{which}"


def _facts(event: Event) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What a JSON line calls the event, and what it says of it before and after the message; blanks are left out."""
    match event:
        case RunStarted():
            return "run_start", {}, {}
        case RunStopping():
            return "run_stop", {}, {}
        case RunFinished():
            return "run_complete", _took(event.seconds) | {"status": event.status}, {"error": event.error}
        case StepStarted() | StepFinished() | StepRetried() | StepFailed():
            return _step_facts(event)
        case MapStarted() | MapProgress() | MapFinished():
            return _map_facts(event)
        case _:
            assert_never(event)


def _step_facts(event: _StepEvent) -> tuple[str, dict[str, Any], dict[str, Any]]:
    name = {"step": event.node, "step_name": event.node}
    match event:
        case StepStarted():
            return "step_start", name, {}
        case StepFinished():
            attempt = {} if event.reused else {"attempt": event.attempt}
            return "step_complete", name | _took(event.seconds) | {"status": _status(event)}, attempt
        case StepRetried(attempt=attempt, delay=delay, error=error, index=index):
            return "step_retry", name, {"index": index, "attempt": attempt, "delay": delay, "error": error}
        case StepFailed(attempt=attempt, error=error, trace=trace, index=index):
            facts = {"index": index, "attempt": attempt, "error": error, "traceback": trace}
            return "step_fail", name | _took(event.seconds) | {"status": "failed"}, facts
        case _:
            assert_never(event)


def _map_facts(event: _MapEvent) -> tuple[str, dict[str, Any], dict[str, Any]]:
    node = event.node if event.node != event.step else ""
    name = {"step": event.step, "step_name": event.step, "node": node}
    match event:
        case MapStarted():
            return "map_start", name, {"total": event.total, "completed": event.reused}
        case MapProgress():
            return "map_progress", name | _took(event.seconds), _counts(event)
        case MapFinished():
            return "map_complete", name | _took(event.seconds) | {"status": _status(event)}, _counts(event)
        case _:
            assert_never(event)


def _counts(event: MapProgress | MapFinished) -> dict[str, int]:
    return {"total": event.total, "completed": event.done, "failed": event.failed}


def _took(seconds: float) -> dict[str, float]:
    return {"duration": round(seconds, 3), "duration_ms": round(seconds * 1000)}
