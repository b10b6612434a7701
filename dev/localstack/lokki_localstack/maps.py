"""Distributed maps as AWS documents them; LocalStack runs them as if they were inline.

Each item gets an execution of its own, which `ListExecutions` with the map run's ARN lists unless it is EXPRESS.
`ToleratedFailureCount` and `ToleratedFailurePercentage` hold, the ResultWriter writes its manifest and its files, and
what an ItemReader cannot read is `States.ItemReaderFailed`. There is no `ItemBatcher`: no flow is compiled to one.

Without `MaxConcurrency`, 40 children run at once, because here they share one machine.
"""

from __future__ import annotations

import functools
import json
import re
import threading
import uuid
from typing import Any

from localstack.aws.api.stepfunctions import (
    ExecutionStatus,
    HistoryEventType,
    ListExecutionsOutput,
    MapRunFailedEventDetails,
)
from localstack.services.stepfunctions.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name import StatesErrorName
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localstack.services.stepfunctions.asl.component.eval_component import EvalComponent
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.item_reader import item_reader_decl
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration import (
    distributed_iteration_component,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.result_writer import (
    result_writer_decl,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.state_map import StateMap
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.tolerated_failure import (
    ToleratedFailureCountDecl,
    ToleratedFailurePercentageDecl,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.credentials import (
    StateCredentials,
)
from localstack.services.stepfunctions.asl.eval.environment import Environment
from localstack.services.stepfunctions.asl.eval.event.event_detail import EventDetails
from localstack.services.stepfunctions.asl.eval.states import ItemData, MapData
from localstack.services.stepfunctions.asl.utils.boto_client import boto_client_for
from localstack.services.stepfunctions.backend.models import sfn_stores
from localstack.services.stepfunctions.provider import StepFunctionsProvider

from lokki_localstack.children import ChildExecution, child_of
from lokki_localstack.definitions import EXPRESS

_CONCURRENCY = 40
_LOOKS_UP_EVERY = 0.2  # seconds, at whether its own execution was stopped


def install() -> None:
    """Take the place of LocalStack's own distributed map."""
    read = StateMap.from_state_props

    def from_state_props(self: Any, props: Any) -> None:
        read(self, props)
        self.iteration_component.map_state = self
        self.tolerates_count = props.get(ToleratedFailureCountDecl) is not None
        self.tolerates_share = props.get(ToleratedFailurePercentageDecl) is not None

    StateMap.from_state_props = from_state_props
    distributed_iteration_component.DistributedIterationComponent._map_run = _map_run
    reader = item_reader_decl.ItemReader
    reader._eval_body = _reading(reader._eval_body)
    result_writer_decl.ResultWriter._eval_body = _written_already
    _list_children()


def _list_children() -> None:
    # the names of children have a slash: <state machine>/<label>:<uuid>
    pattern = StepFunctionsProvider._STATE_MACHINE_EXECUTION_ARN_REGEX.pattern
    StepFunctionsProvider._STATE_MACHINE_EXECUTION_ARN_REGEX = re.compile(
        pattern.replace("a-zA-Z0-9-_.", "a-zA-Z0-9-_./")
    )
    list_executions = StepFunctionsProvider.list_executions

    @functools.wraps(list_executions)
    def listed(
        self: Any,
        context: Any,
        state_machine_arn: str | None = None,
        status_filter: str | None = None,
        map_run_arn: str | None = None,
        **more: Any,
    ) -> Any:
        if not map_run_arn:
            return list_executions(
                self, context, state_machine_arn=state_machine_arn, status_filter=status_filter, **more
            )
        children = [
            each.to_execution_list_item()
            for each in list(self.get_store(context).executions.values())
            if isinstance(each, ChildExecution)
            and each.map_run_arn == map_run_arn
            and not each.is_express
            and status_filter in (None, each.exec_status)
        ]
        return ListExecutionsOutput(executions=children)

    StepFunctionsProvider.list_executions = listed


class _MapRun:
    """A run of a map: it starts the children, counts how they end, and writes down what they answer."""

    def __init__(self, env: Environment, component: Any, given: Any) -> None:
        self.env = env
        self.state = component.map_state
        self.is_express = bool(self.state.comment and self.state.comment.comment.startswith(EXPRESS))
        self.record = given.map_run_record
        self.selector = given.item_selector or given.parameters
        self.program = component._get_iteration_program()
        self.children: list[ChildExecution] = []
        self.waiting: list[Any] = []
        self.total = 0
        self.failed = 0
        self._running = 0
        self._changed = threading.Condition()

    def run(self, items: list[Any]) -> Any:
        """Run all children; what the state answers."""
        self.total = len(items)
        for counter in (self.record.item_counter, self.record.execution_counter):
            counter.total.count(self.total)
            counter.pending.count(self.total)
        self.waiting = [self._selected(index, item) for index, item in enumerate(items)]
        self.waiting.reverse()
        self._run_children()
        if not self.env.is_running():  # its execution was stopped: nothing can be evaluated any more
            return []
        exceeded = self._too_many_failed()
        written = self._write() if self.state.result_writer else None
        if exceeded:
            said = "The specified tolerated failure threshold was exceeded"
            raise _failure(self.env, StatesErrorNameType.StatesExceedToleratedFailureThreshold, said)
        return [self._answer(child) for child in self.children] if written is None else written

    def _selected(self, index: int, item: Any) -> Any:
        if self.selector is None:
            return item
        return _evaluated(self.env, self.selector, MapData(Item=ItemData(Index=index, Value=item)))

    def _answer(self, child: ChildExecution) -> Any:
        return child.output if child.exec_status == ExecutionStatus.SUCCEEDED else child.result()

    def _run_children(self) -> None:
        limit = self.record.max_concurrency or _CONCURRENCY
        with self._changed:
            while self.waiting and self._goes_on():
                if self._running < limit:
                    self._start(self.waiting.pop())
                else:
                    self._changed.wait(_LOOKS_UP_EVERY)
            while self._running and self._goes_on():
                self._changed.wait(_LOOKS_UP_EVERY)
            for child in self.children:
                if child.running():
                    child.abort()
                    self._count("running", -1)
                    self._count("aborted", 1)

    def _goes_on(self) -> bool:
        return bool(self.env.is_running()) and not self._too_many_failed()

    def _too_many_failed(self) -> bool:
        state, record = self.state, self.record
        if not (state.tolerates_count or state.tolerates_share):
            return self.failed > 0
        share = 100 * self.failed / self.total if self.total else 0
        return (state.tolerates_count and self.failed > record.tolerated_failure_count) or (
            state.tolerates_share and share > record.tolerated_failure_percentage
        )

    def _start(self, given: Any) -> None:
        child = child_of(
            self.env,
            self.record.map_state_machine_arn,
            str(uuid.uuid4()),
            self.is_express,
            program=self.program,
            map_run_arn=self.record.map_run_arn,
            on_end=self._ended,
            input_data=given,
        )
        if not self.is_express:
            sfn_stores[child.account_id][child.region_name].executions[child.exec_arn] = child
        self.children.append(child)
        self._running += 1
        self._count("pending", -1)
        self._count("running", 1)
        child.start()

    def _ended(self, child: ChildExecution) -> None:
        with self._changed:
            if child.aborted:
                return
            kinds = {ExecutionStatus.SUCCEEDED: "succeeded", ExecutionStatus.TIMED_OUT: "timed_out"}
            self.failed += child.exec_status != ExecutionStatus.SUCCEEDED
            self._running -= 1
            self._count("running", -1)
            self._count(kinds.get(child.exec_status, "failed"), 1)
            self._changed.notify_all()

    def _count(self, kind: str, more: int) -> None:
        for counter in (self.record.item_counter, self.record.execution_counter):
            getattr(counter, kind).offset(more)

    def _write(self) -> dict[str, Any]:
        """Write the results where the ResultWriter says; what the state answers then."""
        try:
            bucket, key = self._export()
        except FailureEventException:
            raise
        except Exception as error:
            raise _failure(self.env, StatesErrorNameType.StatesResultWriterFailed, str(error)) from error
        for counter in (self.record.item_counter, self.record.execution_counter):
            counter.results_written.offset(counter.succeeded.get() + counter.failed.get())
        details = {"Bucket": bucket, "Key": key}
        return {"MapRunArn": self.record.map_run_arn, "ResultWriterDetails": details}

    def _export(self) -> tuple[str, str]:
        where = _evaluated(self.env, self.state.result_writer.parargs)
        bucket, prefix = where["Bucket"], where.get("Prefix", "").rstrip("/")
        folder = "/".join(filter(None, [prefix, self.record.map_run_arn.rpartition(":")[2]]))
        details = self.env.aws_execution_details
        s3 = boto_client_for("s3", details.region, StateCredentials(role_arn=details.role_arn))
        files: dict[str, list[dict[str, Any]]] = {}
        for status, entries in self._results().items():
            files[status] = []
            if entries:
                key, body = f"{folder}/{status}_0.json", json.dumps(entries).encode()
                s3.put_object(Bucket=bucket, Key=key, Body=body)
                files[status].append({"Key": key, "Size": len(body)})
        manifest = {"DestinationBucket": bucket, "MapRunArn": self.record.map_run_arn, "ResultFiles": files}
        s3.put_object(Bucket=bucket, Key=f"{folder}/manifest.json", Body=json.dumps(manifest).encode())
        return bucket, f"{folder}/manifest.json"

    def _results(self) -> dict[str, list[dict[str, Any]]]:
        waiting = [
            {"Input": json.dumps(each), "InputDetails": {"Included": True}, "Status": "PENDING"}
            for each in reversed(self.waiting)
        ]
        found: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
        files = {ExecutionStatus.SUCCEEDED: "SUCCEEDED", ExecutionStatus.ABORTED: "PENDING"}
        for child in self.children:
            found[files.get(child.exec_status, "FAILED")].append(child.result())
        found["PENDING"] += waiting
        return found


def _map_run(self: Any, env: Environment, eval_input: Any) -> None:
    """In place of `DistributedIterationComponent._map_run`."""
    items = env.stack.pop()
    env.stack.append(_MapRun(env, self, eval_input).run(items))


def _written_already(self: Any, env: Environment) -> None:
    """In place of `ResultWriter._eval_body`."""


def _reading(read: Any) -> Any:
    """`ItemReader._eval_body`, with the name that AWS gives to its failures."""

    def reading(self: Any, env: Environment) -> None:
        try:
            read(self, env)
        except FailureEventException:
            raise
        except Exception as error:
            raise _failure(env, StatesErrorNameType.StatesItemReaderFailed, str(error)) from error

    return reading


def _evaluated(env: Environment, template: EvalComponent, map_data: MapData | None = None) -> Any:
    """What a template is for the input and the context of the state that runs."""
    frame = env.open_frame()
    try:
        if map_data is not None:
            frame.states.context_object.context_object_data["Map"] = map_data
        frame.states.reset(input_value=env.states.get_input())
        frame.stack.append(frame.states.get_input())
        template.eval(frame)
        return frame.stack[-1]
    finally:
        env.delete_frame(frame)


def _failure(env: Environment, kind: StatesErrorNameType, cause: str) -> FailureEventException:
    name = StatesErrorName(typ=kind)
    details = MapRunFailedEventDetails(error=name.error_name, cause=cause)
    event = FailureEvent(
        env=env,
        error_name=name,
        event_type=HistoryEventType.MapRunFailed,
        event_details=EventDetails(mapRunFailedEventDetails=details),
    )
    return FailureEventException(event)
