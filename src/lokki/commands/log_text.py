"""Lines of a deployed flow's log as people read them, or as programs do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lokki.aws.log_runs import facts

if TYPE_CHECKING:
    from lokki.aws.logs import Line

_RED, _YELLOW, _DIM, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_COLOURS = {"WARNING": _YELLOW, "WARN": _YELLOW, "ERROR": _RED, "CRITICAL": _RED, "FATAL": _RED, "DEBUG": _DIM}
_LEVEL = re.compile(r"\[(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\]")  # as Lambda writes lines of `logging`
_PLATFORM = re.compile(r"(INIT_START|START|END|REPORT|EXTENSION|XRAY)\b.*(RequestId|Runtime|TraceId|Name): ")
_BROKEN = re.compile(r"Status: (timeout|error)|Task timed out after|Runtime\.\w+|\bmodule initialization error\b")
_KNOWN = {"level", "ts", "event", "step", "step_name", "message", "run_id", "flow_name", "correlation_id", "traceback"}


class LogText:
    """A line for people: when, how serious, which step and item, what; more lines of it are indented."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured

    def __call__(self, line: Line) -> str:
        said = facts(line.text)
        first = f"{_local(line.at)} "
        if said is None:
            return first + self._shaded(f"{line.step}: ", _indented(line.text))
        level = str(said["level"])
        return first + self._tagged(level, f"{_place(said, line.step)}: {_indented(_message(said))}")

    def _tagged(self, level: str, text: str) -> str:
        colour = _COLOURS.get(level, "") if self._coloured else ""
        return f"{colour}[{level}]{_PLAIN} {text}" if colour else f"[{level}] {text}"

    def _shaded(self, step: str, text: str) -> str:
        """A line of somebody else's as it is, in the colour of what it tells."""
        colour = _colour(text) if self._coloured else ""
        return f"{step}{colour}{text}{_PLAIN}" if colour else step + text


class JsonText:
    """A line as a JSON object: itself if it is one, else its text with when, where and by whom it was written."""

    def __call__(self, line: Line) -> str:
        text = line.text.rstrip()
        if _is_object(text):
            return text
        at = datetime.fromtimestamp(line.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {"ts": at, "step": line.step, "message": text, "log_group": line.group, "log_stream": line.stream}
        return json.dumps(told, ensure_ascii=False)


def _local(at: int) -> str:
    return datetime.fromtimestamp(at / 1000).astimezone().isoformat(" ", "milliseconds")[:23]


def _place(said: Mapping[str, Any], step: str) -> str:
    """The step and its item, as in `flap[3]`, in a map within a map `flap[3.17]`; of many items the first and last."""
    name, index, count = said.get("step") or step, said.get("index"), said.get("items", 1)
    if not isinstance(index, list) or not index:
        return str(name)
    last = f"-{index[-1] + count - 1}" if isinstance(count, int) and count > 1 and isinstance(index[-1], int) else ""
    return f"{name}[{'.'.join(map(str, index))}{last}]"


def _message(said: Mapping[str, Any]) -> str:
    message = said.get("message")
    if not isinstance(message, str):
        more = ", ".join(f"{name}={value}" for name, value in said.items() if name not in _KNOWN)
        message = f"{said['event']} {more}".rstrip()
    text = message.removeprefix(f"Step '{said.get('step')}' ")
    trace = said.get("traceback")
    return f"{text}\n{trace.rstrip()}" if isinstance(trace, str) and trace else text


def _indented(text: str) -> str:
    """With its further lines indented; Lambda writes the lines of a traceback with returns between them."""
    return "\n    ".join(text.rstrip().replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def _colour(text: str) -> str:
    if level := _LEVEL.match(text):
        return _COLOURS.get(level[1], "")
    if _BROKEN.search(text):
        return _RED
    return _DIM if _PLATFORM.match(text) else ""


def _is_object(text: str) -> bool:
    if not text.startswith("{") or "\n" in text:
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
