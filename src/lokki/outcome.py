"""The last words of a run on the command line: its result, or what went wrong, where, and how to go on."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from lokki.errors import LokkiError, RunError
from lokki.events import Event, Listener, MapFinished, RunStarted, StepFailed

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def complain(text: str) -> None:
    """Say something that is not the result."""
    print(text, file=sys.stderr)


class Watch:
    """The listener of a run from the command line: it also remembers what the last words need."""

    def __init__(self, log: Listener, json: bool) -> None:
        self._log = log
        self.json = json
        self.started = False
        self.failure: StepFailed | None = None
        self.map: MapFinished | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.started = True
        elif isinstance(event, StepFailed):
            self.failure = self.failure or event
        elif isinstance(event, MapFinished):
            self.map = event
        self._log(event)


def print_result(result: Any) -> None:
    """Print the result on stdout; the run counts as failed when that cannot be done."""
    try:
        text = str(result)
    except Exception as error:
        raise RunError(f"The run succeeded, but its result cannot be shown ({type(error).__name__}).") from error
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode(), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"The run succeeded, but its result cannot be printed: {error.strerror}.") from error


def explain(error: BaseException, watch: Watch, again: str | None) -> NoReturn:
    """A failure: the user's traceback when a step failed, then where it was and how to go on."""
    failure = watch.failure
    if watch.json:  # the log has said all of it
        sys.exit(1)
    if failure is None:
        from lokki.runtime.failure import user_trace

        complain(f"error: {error}" if isinstance(error, LokkiError) else user_trace(error).rstrip())
    else:
        where = f" on item {'.'.join(map(str, failure.index))}: {failure.item}" if failure.index else ""
        complain(f"\n{failure.trace.rstrip()}\n\nStep {failure.node!r} failed{where}.")
    if again is not None:
        complain(kept(watch, again).strip())
    sys.exit(1)


def kept(watch: Watch, again: str | None) -> str:
    if again is None:
        return ""
    done = ""
    if watch.map is not None and watch.map.done < watch.map.total:
        done = f" ({watch.map.done:,} of {watch.map.total:,} items of {watch.map.step})"
    return f" What is finished{done} is kept. Go on with: {again}"
