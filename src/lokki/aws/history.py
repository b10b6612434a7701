"""What an execution did, state by state, from the history that Step Functions keeps of it.

The children of a map are executions of their own; the history of the one that is looked at only says that a map ran,
and `map_counts` how far its children are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lokki.aws.client import Aws, refusals
from lokki.errors import AwsError
from lokki.frozen import frozen, replace

_FAILED = ("TaskFailed", "TaskTimedOut", "TaskStartFailed", "TaskSubmitFailed", "MapRunFailed")
_REQUEST = re.compile(r"RequestId: [0-9a-f-]+ (Error: )?")
SAID = re.compile(r"(?P<error>.*) \(in step '(?P<step>[^']+)'(?:, item (?P<index>[\d.]+): (?P<item>.*))?\)", re.DOTALL)
"""The message of a step's own error, as it leaves a function."""
_ENDED = {"ExecutionFailed": "FAILED", "ExecutionTimedOut": "TIMED_OUT", "ExecutionAborted": "ABORTED"}


@frozen
class Attempt:
    """An attempt of a task that failed and was followed by another after so many seconds."""

    error: str
    cause: str
    delay: float


@frozen
class StateRun:
    """A state that was entered.

    Attributes:
        name: of the state.
        status: RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED.
        attempts: how often its task was scheduled.
        failed: the attempts after which there was another.
        error: and `cause`: of the last attempt, when it failed.
        map_run: the ARN of the run of a map.
        worked: seconds from the start of its tasks to their ends, waits left out.
    """

    name: str
    entered: datetime
    exited: datetime | None = None
    status: str = "RUNNING"
    attempts: int = 0
    failed: tuple[Attempt, ...] = ()
    error: str = ""
    cause: str = ""
    map_run: str = ""
    worked: float = 0.0
    scheduled: datetime | None = None
    failed_at: datetime | None = None

    @property
    def seconds(self) -> float:
        """How long it took, or has been running."""
        return ((self.exited or datetime.now(UTC)) - self.entered).total_seconds()


@frozen
class Counts:
    """The children of a map, by what became of them."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0

    def items(self, total: int, each: int) -> tuple[int, int]:
        """About how many of all items are done, and how many failed; of a child that failed all its items did."""
        if self.total and self.succeeded == self.total:
            return total, 0
        failed = min(total, self.failed * each)
        return min(total - failed, self.succeeded * each), failed


class History:
    """The history of one execution; each `read` asks only for what has been added."""

    def __init__(self, aws: Aws, arn: str, kind: Callable[[str], AwsError] = AwsError) -> None:
        self._aws = aws
        self._arn = arn
        self._kind = kind
        self._last = 0
        self.states: list[StateRun] = []

    def read(self) -> list[StateRun]:
        """The states entered so far, in order."""
        for event in self._added():
            self._take(event)
        return self.states

    def _added(self) -> list[Mapping[str, Any]]:
        """Events that were not read before, the oldest first."""
        client, token, added = self._aws.client("stepfunctions"), "", []
        newest_first = self._last > 0
        with refusals("read the history of the execution", self._kind):
            while True:
                more = {"nextToken": token} if token else {}
                answer = client.get_execution_history(
                    executionArn=self._arn, reverseOrder=newest_first, maxResults=100 if newest_first else 1000, **more
                )
                fresh = [each for each in answer["events"] if each["id"] > self._last]
                added += fresh
                token = answer.get("nextToken", "")
                if not token or (newest_first and len(fresh) < len(answer["events"])):
                    break
        added.sort(key=lambda each: int(each["id"]))
        self._last = added[-1]["id"] if added else self._last
        return added

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, when = event["type"], event["timestamp"]
        if kind.endswith("StateEntered"):
            self.states.append(StateRun(event["stateEnteredEventDetails"]["name"], when))
        elif self.states:
            self.states[-1] = _after(self.states[-1], kind, when, event)


def _after(state: StateRun, kind: str, when: datetime, event: Mapping[str, Any]) -> StateRun:
    """The state after an event of it."""
    match kind:
        case "TaskScheduled":
            return _scheduled(state, when)
        case "TaskSucceeded":
            return replace(state, worked=state.worked + _since(state.scheduled, when), error="", cause="")
        case _ if kind in _FAILED:
            error, cause = _error(event)
            worked = state.worked + _since(state.scheduled, when)
            return replace(state, worked=worked, error=error, cause=cause, failed_at=when)
        case "MapRunStarted" | "MapRunRedriven":
            details = event[f"{kind[0].lower()}{kind[1:]}EventDetails"]
            return replace(state, map_run=details["mapRunArn"], status="RUNNING", exited=None)
        case _ if kind.endswith("StateExited"):
            return replace(state, exited=when, status="SUCCEEDED")
        case _ if kind in _ENDED and state.exited is None:
            error, cause = _error(event)
            return replace(
                state, exited=when, status=_ENDED[kind], error=state.error or error, cause=state.cause or cause
            )
        case "ExecutionRedriven":
            return replace(state, exited=None, status="RUNNING", error="", cause="")
        case _:
            return state


def _scheduled(state: StateRun, when: datetime) -> StateRun:
    if state.error:
        attempt = Attempt(state.error, state.cause, _since(state.failed_at, when))
        state = replace(state, failed=(*state.failed, attempt), error="", cause="")
    return replace(state, attempts=state.attempts + 1, scheduled=when)


def _since(earlier: datetime | None, when: datetime) -> float:
    return (when - earlier).total_seconds() if earlier else 0.0


def _error(event: Mapping[str, Any]) -> tuple[str, str]:
    details: Mapping[str, Any] = next((event[each] for each in event if each.endswith("EventDetails")), {})
    return details.get("error") or "", details.get("cause") or ""


def map_counts(aws: Aws, map_run: str, kind: Callable[[str], AwsError] = AwsError) -> Counts:
    """How far the children of a map are."""
    with refusals("look at a map's progress", kind):
        told = aws.client("stepfunctions").describe_map_run(mapRunArn=map_run)["itemCounts"]
    failed = told.get("failed", 0) + told.get(
        "timedOut", 0
    )  # those that were stopped because of others are no failures
    return Counts(told.get("total", 0), told.get("succeeded", 0), failed)


def message_in(cause: str) -> str:
    """What a cause says: that of a function is JSON, with the message in it."""
    try:
        message = str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return cause
    return _REQUEST.sub("", message)


def said_of(error: str, cause: str) -> str:
    """The first line of what went wrong, without what only the state machine needs."""
    message = message_in(cause).partition("\n")[0]
    if told := SAID.fullmatch(message):
        return told["error"]
    return message if message.startswith(error) else f"{error}: {message}" if message else error
