"""The executions that a distributed map starts, one for each of its items."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from localstack.aws.api.stepfunctions import ExecutionStatus, StateMachineType
from localstack.services.stepfunctions.asl.component.program.program import Program
from localstack.services.stepfunctions.asl.eval.environment import Environment
from localstack.services.stepfunctions.asl.eval.event.logging import CloudWatchLoggingSession
from localstack.services.stepfunctions.backend.execution import BaseExecutionWorkerCommunication, Execution
from localstack.services.stepfunctions.backend.execution_worker import ExecutionWorker
from localstack.services.stepfunctions.backend.state_machine import StateMachineInstance

_NOT_ENDED = (ExecutionStatus.RUNNING, None)


class ChildExecution(Execution):
    """An execution that runs the inside of a map for one item."""

    def __init__(
        self, program: Program, map_run_arn: str, on_end: Callable[[ChildExecution], None], **more: Any
    ) -> None:
        super().__init__(**more)
        self.program = program
        self.map_run_arn = map_run_arn
        self.on_end = on_end
        self.aborted = False

    @property
    def is_express(self) -> bool:
        """Whether Step Functions would not keep it: it can be neither listed nor described."""
        return bool(self.sm_type == StateMachineType.EXPRESS)

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.exec_status in _NOT_ENDED

    def abort(self) -> None:
        """End it: the map has failed, or its execution was stopped."""
        now = datetime.now(UTC)
        self.aborted = True
        if self.exec_worker and self.exec_worker.env:
            self.stop(stop_date=now, error=None, cause=None)
        self.exec_status, self.stop_date = ExecutionStatus.ABORTED, now

    def publish_execution_status_change_event(self) -> None:
        """Nobody listens to the events of children here."""

    def to_describe_output(self) -> Any:
        return {**super().to_describe_output(), "mapRunArn": self.map_run_arn}

    def to_execution_list_item(self) -> Any:
        return {**super().to_execution_list_item(), "mapRunArn": self.map_run_arn, "itemCount": 1}

    def result(self) -> dict[str, Any]:
        """Its entry in a file of the ResultWriter."""
        entry: dict[str, Any] = {
            "ExecutionArn": self.exec_arn,
            "Input": json.dumps(self.input_data),
            "InputDetails": {"Included": True},
            "Name": self.name,
            "RedriveCount": 0,
            "RedriveStatus": "NOT_REDRIVABLE",
            "StartDate": _iso(self.start_date),
            "StateMachineArn": self.state_machine_arn,
            "Status": str(getattr(self.exec_status, "value", self.exec_status)),
            "StopDate": _iso(self.stop_date or datetime.now(UTC)),
        }
        if self.exec_status == ExecutionStatus.SUCCEEDED:
            return entry | {"Output": json.dumps(self.output), "OutputDetails": {"Included": True}}
        return entry | {"Error": self.error or "", "Cause": self.cause or ""}

    def _get_start_execution_worker(self) -> ExecutionWorker:
        worker = super()._get_start_execution_worker()
        worker.__class__ = _Worker
        worker.child = self
        return worker

    def _get_start_execution_worker_comm(self) -> BaseExecutionWorkerCommunication:
        return _Communication(self)


class _Communication(BaseExecutionWorkerCommunication):
    def _reflect_execution_status(self) -> None:
        if not self.execution.aborted:
            super()._reflect_execution_status()


class _Worker(ExecutionWorker):
    child: ChildExecution

    def _get_evaluation_entrypoint(self) -> Program:
        return self.child.program

    def _execution_logic(self) -> None:
        child = self.child
        try:
            super()._execution_logic()
        finally:
            if child.running():
                child.exec_status = ExecutionStatus.FAILED
            if child.exec_status == ExecutionStatus.TIMED_OUT:
                child.error = child.error or "States.Timeout"
            child.on_end(child)


def child_of(env: Environment, machine_arn: str, name: str, is_express: bool, **more: Any) -> ChildExecution:
    """A child of the execution that a map belongs to; `more` is what only the map knows of it."""
    details = env.aws_execution_details
    arn = f"{machine_arn.replace(':stateMachine:', ':execution:')}:{name}"
    kind = StateMachineType.EXPRESS if is_express else StateMachineType.STANDARD
    session = env.cloud_watch_logging_session
    return ChildExecution(
        name=name,
        sm_type=kind,
        role_arn=details.role_arn,
        exec_arn=arn,
        account_id=details.account,
        region_name=details.region,
        state_machine=StateMachineInstance(
            name=machine_arn.rpartition(":")[2],
            arn=machine_arn,
            definition="{}",
            role_arn=details.role_arn,
            logging_config=None,
            sm_type=kind,
        ),
        start_date=datetime.now(UTC),
        cloud_watch_logging_session=session
        and CloudWatchLoggingSession(execution_arn=arn, configuration=session.configuration),
        activity_store=env.activity_store,
        **more,
    )


def _iso(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
