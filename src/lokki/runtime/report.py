"""What a function logs: a JSON object a line on its standard output, where Lambda and Batch take logs from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from lokki.errors import LokkiError
from lokki.events import Event, Listener
from lokki.runtime.failure import Told, summary, user_trace
from lokki.sentences import record, took, utc_now


def listener(flow: str) -> Listener:
    """Writes each event."""

    def tell(event: Event) -> None:
        _write(record(event, flow))

    return tell


def say(level: str, event: str, **facts: Any) -> None:
    """Write a line about something that is no event of a run."""
    _write({"level": level, "ts": utc_now(), "event": event, **facts})


@contextmanager
def explained(step: str) -> Iterator[dict[str, Any]]:
    """Whatever goes wrong inside leaves a line: the step, the cause, and the facts put into what it yields."""
    facts: dict[str, Any] = {}
    started = perf_counter()
    try:
        yield facts
    except Told:
        raise
    except BaseException as error:
        trace = {} if isinstance(error, LokkiError) else {"traceback": user_trace(error)}
        told = {"step": step, "step_name": step, **took(perf_counter() - started), "status": "failed"}
        said = {"message": f"Step '{step}' failed: {summary(error)}", "error": summary(error)}
        say("ERROR", "step_fail", **told, **said, **facts, **trace)
        raise


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, default=repr) + "\n")
    sys.stdout.flush()
