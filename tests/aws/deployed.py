"""A deployed flow, as moto knows it: a state machine that names its functions and jobs, and the log that they wrote."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from lokki.console import console
from lokki.settings import AwsConfig, LokkiConfig

REGION = "us-east-1"
ACCOUNT = "123456789012"
TAGS = [{"key": "lokki:managed", "value": "true"}]


@cache
def client(endpoint: str, service: str) -> Any:
    """A client of a stand-in for AWS; asks once."""
    from botocore.config import Config
    from botocore.session import get_session

    return get_session().create_client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}),
    )


@dataclass
class DeployedFlow:
    """A flow of a name that nobody else uses; `base` is the time, in milliseconds, that its log counts from."""

    endpoint: str
    steps: tuple[str, ...] = ("get", "flap")
    jobs: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: f"birds-{uuid.uuid4().hex[:12]}x")
    base: int = field(default_factory=lambda: (int(time.time()) - 600) * 1000)
    groups: set[str] = field(default_factory=set)

    def client(self, service: str) -> Any:
        """A client for making what a test finds."""
        return client(self.endpoint, service)

    def config(self, endpoint: str = "") -> LokkiConfig:
        return LokkiConfig(aws=AwsConfig(region=REGION, endpoint=endpoint or self.endpoint))

    def deploy(self) -> str:
        """Make its state machine; returns the ARN."""
        tags = [*TAGS, {"key": "lokki:flow-name", "value": self.name}]
        states = {step: self._task({"FunctionName": self.function(step)}) for step in self.steps}
        states |= {job: self._task({"JobDefinition": self._job(job)}) for job in self.jobs}
        made = self.client("stepfunctions").create_state_machine(
            name=self.name,
            definition=json.dumps({"StartAt": next(iter(states)), "States": states}),
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/machine",
            tags=tags,
        )
        for step in self.steps:
            self.group(step)
        return str(made["stateMachineArn"])

    @staticmethod
    def _task(parameters: dict[str, str]) -> dict[str, Any]:
        return {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": parameters, "End": True}

    def function(self, step: str) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}-{step}"

    def _job(self, job: str) -> str:
        options = {"awslogs-group": f"/aws/batch/{self.name}", "awslogs-stream-prefix": job}
        container = {
            "image": "birds",
            "vcpus": 1,
            "memory": 128,
            "logConfiguration": {"logDriver": "awslogs", "options": options},
        }
        made = self.client("batch").register_job_definition(
            jobDefinitionName=f"{self.name}-{job}", type="container", containerProperties=container
        )
        return str(made["jobDefinitionArn"])

    def group(self, step: str) -> str:
        """The log group of a step, made when it is not there."""
        name = f"/aws/batch/{self.name}" if step in self.jobs else f"/aws/lambda/{self.name}-{step}"
        if name not in self.groups:
            self.client("logs").create_log_group(logGroupName=name)
            self.groups.add(name)
        return name

    def say(self, step: str, *lines: tuple[int, str | dict[str, Any]], stream: str = "one") -> None:
        """Log lines, each so many milliseconds after the time that the log counts from."""
        stream = f"{step}/default/{stream}" if step in self.jobs else stream
        logs, group = self.client("logs"), self.group(step)
        if not logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]:
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [
            {"timestamp": self.base + at, "message": text if isinstance(text, str) else json.dumps(text)}
            for at, text in sorted(lines, key=lambda line: line[0])
        ]
        for first in range(0, len(events), 10_000):
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events[first : first + 10_000])

    def start(self, name: str, **given: Any) -> str:
        """Start an execution; returns the ARN."""
        machine = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{self.name}"
        begun = self.client("stepfunctions").start_execution(
            stateMachineArn=machine, name=name, input=json.dumps(given)
        )
        return str(begun["executionArn"])

    def stop(self, execution: str) -> tuple[int, int]:
        """Stop an execution; returns when it began and ended, in milliseconds."""
        states = self.client("stepfunctions")
        states.stop_execution(executionArn=execution)
        found = states.describe_execution(executionArn=execution)
        began, ended = (int(found[each].timestamp() * 1000) for each in ("startDate", "stopDate"))
        return began, ended


def done(step: str, run: str, **more: Any) -> dict[str, Any]:
    """What lokki logs when a step is done."""
    message = f"Step '{step}' completed in 0.100s (status=success)"
    told = {"level": "INFO", "ts": "2026-05-01T00:00:00.000Z", "event": "step_complete", "step": step}
    return told | {"message": message, "run_id": run} | more


def call(request: str, *said: str | dict[str, Any], at: int) -> list[tuple[int, str | dict[str, Any]]]:
    """All that a call of a function logs, a millisecond between two lines."""
    start, end = f"START RequestId: {request} Version: $LATEST", f"END RequestId: {request}"
    report = f"REPORT RequestId: {request}\tDuration: 1.00 ms\tBilled Duration: 2 ms\tMax Memory Used: 52 MB\t"
    return [(at + number, line) for number, line in enumerate([start, *said, end, report])]


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def texts(self) -> list[str]:
        """The lines without their time."""
        return [line[24:] for line in self.out.splitlines()]


def lokki(capsys: pytest.CaptureFixture[str], *arguments: str) -> Answer:
    """The `lokki` command."""
    code = 0
    try:
        console(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return Answer(code, *capsys.readouterr())
