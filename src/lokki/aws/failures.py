"""Why an execution failed, in the user's words: which step, which item, their error and traceback, and what helps.

A step that raised has left a record in the bucket. A function or job that was cut off (out of time, out of memory) has
not: then the error of the execution, or the report of the map about its children, is what there is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lokki.aws.client import Aws
from lokki.aws.executions import Execution
from lokki.aws.history import SAID, History, message_in, said_of
from lokki.aws.machines import Definition, Place
from lokki.aws.results import StepError, failed_children, step_errors
from lokki.errors import AwsError, StoreError
from lokki.frozen import replace
from lokki.store.protocol import TransientStore

MOST = 100
"""So many failures are looked at."""
_EXCEEDED = "States.ExceedToleratedFailureThreshold"
_AGAIN = "Then deploy again."


def failures_of(
    aws: Aws, execution: Execution, definition: Definition, flow: str, store: TransientStore
) -> tuple[StepError, ...]:
    """What went wrong in an execution that did not succeed; nothing when all that is known is its own error."""
    looked = _Looked(aws, execution, definition, flow, store)
    found = looked.recorded() or looked.of_children() or looked.of_state()
    return tuple(found)


class _Looked:
    def __init__(
        self, aws: Aws, execution: Execution, definition: Definition, flow: str, store: TransientStore
    ) -> None:
        self._aws = aws
        self._execution = execution
        self._definition = definition
        self._where = (store, flow, execution.run_id)

    def recorded(self) -> list[StepError]:
        """What steps left behind."""
        try:
            return [self._helped(each) for each in _first(step_errors(*self._where, self._execution.started))]
        except (StoreError, ValueError, KeyError):  # then AWS's own word for it counts
            return []

    def _helped(self, found: StepError) -> StepError:
        """What Python itself had no memory for is told like what AWS ends for that."""
        place = next((each for each in self._definition.walk() if each.node == found.step), None)
        if not found.error.startswith("MemoryError") or place is None or place.kind != "function":
            return found
        return replace(found, hint=self._hint(place, "MemoryError", ""))

    def of_children(self) -> list[StepError]:
        """The children that failed, of the maps that failed by that."""
        if self._execution.error != _EXCEEDED:
            return []
        try:
            return _first(
                told
                for place in self._definition.walk()
                if place.kind == "map"
                for child in failed_children(*self._where, place.node, self._execution.started)
                if (told := self._child(place, child)) is not None
            )
        except (StoreError, ValueError, KeyError):
            return []

    def of_state(self) -> list[StepError]:
        """The state in which the execution ended."""
        if self._execution.status != "FAILED" or self._execution.error == _EXCEEDED:
            return []
        place = self._place(self._execution.arn, self._definition.places)
        return [self._told(place, self._execution.error, self._execution.cause)]

    def _child(self, place: Place, child: Mapping[str, Any]) -> StepError | None:
        error, cause = child.get("Error") or child.get("Status", ""), child.get("Cause") or ""
        if error == _EXCEEDED:
            return None
        inside = place.inside[0] if len(place.inside) == 1 else None
        if inside is None and not place.express:
            inside = self._place(child["ExecutionArn"], place.inside)
        told = self._told(inside or Place("", _one_of(place.inside), "function"), error, cause)
        at = json.loads(child["Input"]).get("at", {}) if child.get("Input") else {}
        if told.index or "first" not in at:
            return told
        hint = f"{_others(at['count'])} {told.hint}".strip()
        return replace(told, index=(*at.get("index", ()), at["first"]), hint=hint)

    def _place(self, arn: str, places: tuple[Place, ...]) -> Place | None:
        """The state that failed in an execution, or else the only one that there is."""
        try:
            states = History(self._aws, arn).read()
        except AwsError:
            states = []
        failed = [each for each in states if each.status != "SUCCEEDED"]
        if failed:
            return self._definition.named(failed[-1].name)
        return places[0] if len(places) == 1 else None

    def _told(self, place: Place | None, error: str, cause: str) -> StepError:
        if place is not None and place.kind == "job":
            return _of_job(place, error, cause)
        message = message_in(cause)
        first, _, trace = message.partition("\nTraceback (most recent call last):\n")
        if said := SAID.fullmatch(first):
            index = tuple(map(int, said["index"].split("."))) if said["index"] else ()
            whole = f"Traceback (most recent call last):\n{trace}" if trace else ""
            return StepError(said["step"], index, said["item"] or "", said["error"], whole)
        step = place.node if place is not None else ""
        return StepError(step, error=said_of(error, cause), hint=self._hint(place, error, message))

    def _hint(self, place: Place | None, error: str, message: str) -> str:
        """Which limit was reached, and how to raise it."""
        timed_out = error in ("Sandbox.Timedout", "States.Timeout") or "Task timed out after" in message
        out_of_memory = (
            error == "Runtime.OutOfMemory"
            or re.search(r"signal: (killed|9)\b", message) is not None
            or error == "MemoryError"
        )
        if not timed_out and not out_of_memory:
            return _of_service(error)
        limits = self._limits(place)
        if timed_out:
            has = f", {_seconds(limits['Timeout'])}" if "Timeout" in limits else ""
            return (
                f"It took longer than its function may{has}. Raise that with @step(timeout_seconds=...) or "
                f'lambda.timeout, to 900 at most; what takes longer runs on Batch, @step(job_type="batch"). {_AGAIN}'
            )
        has = f", {limits['MemorySize']:,} MB" if "MemorySize" in limits else ""
        ended = "It needed" if error == "MemoryError" else "Its function was ended, most likely because it needed"
        return (
            f"{ended} more memory than it has{has}. Raise that with "
            f"@step(memory_mb=...) or lambda.memory, to 10240 at most. {_AGAIN}"
        )

    def _limits(self, place: Place | None) -> Mapping[str, int]:
        from botocore.exceptions import BotoCoreError, ClientError

        if place is None or not place.worker:
            return {}
        try:
            found: Mapping[str, int] = self._aws.client("lambda").get_function_configuration(FunctionName=place.worker)
        except (BotoCoreError, ClientError):  # the hint does without
            return {}
        return found


def _of_job(place: Place, error: str, cause: str) -> StepError:
    """A Batch job that failed: why, as Batch says it."""
    try:
        job = json.loads(cause)
    except ValueError:
        job = {}
    if not isinstance(job, dict) or "Status" not in job:
        return StepError(place.node, error=f"{error}: {message_in(cause)}", hint=_of_service(error))
    container = job.get("Container") or {}
    why = [job.get("StatusReason") or "", container.get("Reason") or ""]
    code = container.get("ExitCode")
    why += [] if code is None else [f"exit code {code}"]
    log = container.get("LogStreamName") or ""
    text = f"Batch job {job.get('JobName', '')} failed: {'; '.join(filter(None, why)) or 'Batch gives no reason'}."
    where = _log_group(container)
    return StepError(
        place.node, error=text, hint=" ".join(filter(None, (_job_hint(job, why, code), where and _log(where, log))))
    )


def _job_hint(job: Mapping[str, Any], why: list[str], code: int | None) -> str:
    said = " ".join(why)
    if "OutOfMemory" in said or code == 137:
        return f"It needed more memory than it has. Raise that with @step(memory_mb=...) or batch.memory_mb. {_AGAIN}"
    if "timeout" in said.lower():
        limit = (job.get("Timeout") or {}).get("AttemptDurationSeconds")
        has = f", {_seconds(limit)}" if limit else ""
        return (
            f"It took longer than it may{has}. Raise that with @step(timeout_seconds=...) or batch.timeout_seconds. "
            f"{_AGAIN}"
        )
    if "CannotPullContainer" in said:
        return "Its image is not there, or the job may not fetch it: deploy again, and check the network of the queue."
    return ""


def _seconds(count: int) -> str:
    return "1 second" if count == 1 else f"{count:,} seconds"


def _log_group(container: Mapping[str, Any]) -> str:
    options = (container.get("LogConfiguration") or {}).get("Options") or {}
    return str(options.get("awslogs-group") or "")


def _log(group: str, stream: str) -> str:
    return f"Its log is in {group}{f', stream {stream}' if stream else ''}."


def _of_service(error: str) -> str:
    """What helps against an error that is not the step's."""
    match error:
        case "Lambda.ResourceNotFoundException":
            return "The function is gone: deploy the flow again."
        case "States.ItemReaderFailed":
            return "The list of a map's items could not be read: see whether the bucket and the role are still there."
        case "Batch.ClientException":
            return "Batch did not take the job: see whether the queue that batch.job_queue names is there."
        case "Runtime.ImportModuleError" | "Runtime.UserCodeSyntaxError" | "Runtime.HandlerNotFound":
            return "The package does not load: build and deploy it again."
        case _:
            return ""


def _first(errors: Iterator[StepError]) -> list[StepError]:
    return [each for _, each in zip(range(MOST), errors, strict=False)]


def _one_of(places: tuple[Place, ...]) -> str:
    return " or ".join(each.node for each in places)


def _others(count: int) -> str:
    return f"It was working on this item or one of the {count - 1} after it, which share a call." if count > 1 else ""
