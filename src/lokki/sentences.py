"""An event in words: the sentence that tells it, how serious it is, and what a JSON line says of it."""

from __future__ import annotations

import time
from typing import Any, assert_never

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

_LEVEL_OF_STATUS = {"success": "INFO", "interrupted": "WARNING", "failed": "ERROR"}
_RunEvent = RunStarted | RunStopping | RunFinished
_StepEvent = StepStarted | StepFinished | StepRetried | StepFailed
_MapEvent = MapStarted | MapProgress | MapFinished


def level_of(event: Event) -> str:
    """How serious an event is to a program, which learns from the log alone how a run ended."""
    if isinstance(event, RunFinished) and event.status != "success":
        return _LEVEL_OF_STATUS[event.status]
    return level_for_people(event)


def record(event: Event, flow: str) -> dict[str, Any]:
    """The event as the object that a JSON line holds."""
    name, said_first, said_last = _facts(event)
    run = {"run_id": event.run, "flow_name": flow, "correlation_id": event.run}
    told = {"level": level_of(event), "ts": utc_now(), "event": name}
    told |= said_first | {"message": sentence(event)} | run | said_last
    return {key: value for key, value in told.items() if value not in ("", ())}


def level_for_people(event: Event) -> str:
    """How serious an event is to a person, who is told the end of a run elsewhere."""
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


def sentence(event: Event) -> str:
    """The event as people read it."""
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
            return f"completed{_place(event.index)} in {event.seconds:.3f}s (status=success)"
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
            return "run_complete", took(event.seconds) | {"status": event.status}, {"error": event.error}
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
            place = {"index": event.index} | ({"items": event.count} if event.count != 1 else {})
            return "step_complete", name | took(event.seconds) | {"status": _status(event)}, attempt | place
        case StepRetried(attempt=attempt, delay=delay, error=error, index=index):
            return "step_retry", name, {"index": index, "attempt": attempt, "delay": delay, "error": error}
        case StepFailed(attempt=attempt, error=error, trace=trace, index=index):
            facts = {"index": index, "attempt": attempt, "error": error, "traceback": trace}
            return "step_fail", name | took(event.seconds) | {"status": "failed"}, facts
        case _:
            assert_never(event)


def _map_facts(event: _MapEvent) -> tuple[str, dict[str, Any], dict[str, Any]]:
    node = event.node if event.node != event.step else ""
    name = {"step": event.step, "step_name": event.step, "node": node}
    match event:
        case MapStarted():
            return "map_start", name, {"total": event.total, "completed": event.reused}
        case MapProgress():
            return "map_progress", name | took(event.seconds), _counts(event)
        case MapFinished():
            return "map_complete", name | took(event.seconds) | {"status": _status(event)}, _counts(event)
        case _:
            assert_never(event)


def _counts(event: MapProgress | MapFinished) -> dict[str, int]:
    return {"total": event.total, "completed": event.done, "failed": event.failed}


def took(seconds: float) -> dict[str, float]:
    """How long something took, as a JSON line says it."""
    return {"duration": round(seconds, 3), "duration_ms": round(seconds * 1000)}


def completed(event: MapProgress | MapFinished) -> str:
    """As in "30/100 (30%) completed"; a map of no items is all done."""
    return f"{event.done}/{event.total} ({percent(event)}%) completed"


def percent(event: MapProgress | MapFinished) -> int:
    """How much of a map is done."""
    return event.done * 100 // event.total if event.total else 100


def utc_now() -> str:
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03}Z"
