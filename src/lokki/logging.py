"""Listeners that print a run: lines for people, with a live bar on a terminal, or one JSON object per line.

An event is first weighed against the configured level, so that one which is not shown costs nothing more. Then it
becomes a sentence, which is the line for people and the `message` of the JSON object. The stream is touched last, and
one that breaks is left alone from then on: a log must never fail a run.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from lokki.config import LoggingConfig
from lokki.events import (
    Event,
    Listener,
    MapFinished,
    MapProgress,
    MapStarted,
    RunFinished,
    RunStarted,
    StepStarted,
    silent,
)
from lokki.progress import Due, LiveProgress, PlainProgress
from lokki.sentences import level_for_people, level_of, record, sentence

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}
_NO_COLOUR = "\x1b[0m"
_USUAL_COLUMNS = 80


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
        level = level_for_people(event)
        if level in self._shown:
            self._out.write(self._progress.text(event, self._lines(event, self._tag(level))))
        elif isinstance(event, RunFinished):  # an interrupted run may leave a bar behind
            self._out.write(self._progress.text(event, ""))

    def _lines(self, event: Event, tag: str) -> str:
        if isinstance(event, MapProgress):
            return ""
        if not isinstance(event, StepStarted):
            return f"{tag} {sentence(event)}\n"
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
        if level_of(event) in self._shown and self._is_due(event):
            self._out.write(self._encode(record(event, self._flow)) + "\n")

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


def _shown_levels(config: LoggingConfig) -> frozenset[str]:
    return frozenset(_LEVELS[_LEVELS.index(config.level) :])
