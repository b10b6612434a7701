"""Removing a deployed flow: its stack with all that is in it, and only if asked for, what it left in the bucket."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lokki.aws import reasons
from lokki.aws.client import Aws, code_of, refusals
from lokki.aws.recording import settled
from lokki.aws.stacks import ONLY_PLANNED, Event, Stack, State
from lokki.aws.templates import FUNCTION, JOB, MACHINE, Template
from lokki.errors import AwsError, DestroyError
from lokki.frozen import frozen

_KINDS = ("runs", "artifacts")
_COUNTED = 1_000  # running executions that are counted


@frozen
class Data:
    """What a flow has in its bucket; `objects` is how many there are of each kind."""

    bucket: str
    root: str
    objects: Mapping[str, int]
    size: int

    @property
    def total(self) -> int:
        """All objects together."""
        return sum(self.objects.values())


class Remover:
    """The removal of one deployed flow.

    Args:
        name: of its stack.
        flow: its name, as far as the stack does not say it.
        bucket: likewise.
        prefix: what its keys in the bucket begin with.
        tell: hears what is being done.
        sleep: waits between two looks.
    """

    def __init__(
        self,
        aws: Aws,
        name: str,
        *,
        flow: str,
        bucket: str,
        prefix: str,
        tell: Callable[[str], object],
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.name = name
        self._aws = aws
        self._flow = flow
        self._bucket = bucket
        self._prefix = prefix
        self._tell = tell
        self._stack = Stack(aws, name, DestroyError, sleep)
        self._state: State | None = None
        self._names = Template({})
        self._began = ""

    def check(self) -> bool:
        """Whether there is a stack; an error for one that lokki did not make, or that is just being changed."""
        _ = self._aws.account
        state = settled(self._aws, self._stack, DestroyError, self._tell, but=("DELETE_IN_PROGRESS",))
        self._state = state
        if state is None:
            return False
        if state.status == ONLY_PLANNED:  # it has neither tags nor a template yet
            return True
        self._names = Template(self._stack.template(), state.parameters)
        if not (state.ours or self._names.ours):
            raise DestroyError(f"Stack {self.name!r} was not made by lokki (it has no tag lokki:managed): it stays.")
        self._flow = state.parameters.get("FlowName") or self._flow
        self._bucket = state.parameters.get("S3Bucket") or self._bucket
        return True

    @property
    def missing(self) -> str:
        """That there is no such stack, and where it was looked for."""
        return f"There is no stack {self.name!r} in {self._aws.region} (account {self._aws.account})."

    def contents(self) -> Iterator[str]:
        """What goes with the stack, in words."""
        steps = sorted(each.worker for each in self._names.of(FUNCTION).values())
        jobs = sorted(each.worker for each in self._names.of(JOB).values())
        if steps:
            yield f"{len(steps)} function{'s' * (len(steps) > 1)}: {', '.join(steps)}"
        if jobs:
            yield f"{len(jobs)} Batch job{'s' * (len(jobs) > 1)}: {', '.join(jobs)}"
        if self._names.of(MACHINE):
            yield f"the state machine {self._flow}, with the history of its executions"
        if steps or jobs:
            yield "their roles and logs"
        if running := self._running():
            yield f"{running} execution{'s' * (running != 1)} that {'are' if running != 1 else 'is'} still running"

    def carry_out(self) -> tuple[str, ...]:
        """Remove the stack, and wait until it is gone; returns what AWS left behind all the same, in words."""
        assert self._state is not None
        after = self._stack.newest_event()
        self._began = f"The removal of stack {self.name!r} goes on in AWS."
        try:
            self._stack.remove(self._state.id)
        except AwsError as error:
            unsure = f" It is not known whether AWS got so far: {self.standing()}" if error.unsure else ""
            raise DestroyError(f"{error}{unsure}") from error
        try:
            end = self._stack.watch(self._state.id, after, self._told)
        except AwsError as error:
            raise DestroyError(f"{error} {self.standing()}") from error
        self._began = ""
        if end.state is not None:
            raise DestroyError(self._stuck(end.failure))
        return tuple(f"{self._names.called(each.logical)} ({each.reason})" for each in end.stuck)

    def standing(self) -> str:
        """What is going on in AWS, for somebody who leaves before the end."""
        if not self._began:
            return ""
        return f"{self._began} Watch it: {reasons.aws_command(self._aws, 'describe-stack-events', self.name)}"

    # --- data

    def data(self) -> Data:
        """What the flow has in its bucket."""
        objects, size = dict.fromkeys(_KINDS, 0), 0
        for kind in _KINDS:
            for page in self._pages(kind):
                objects[kind] += len(page)
                size += sum(each["Size"] for each in page)
        return Data(self._bucket, self._root, objects, size)

    def remove_data(self, data: Data) -> int:
        """Remove it; returns how many objects were removed."""
        removed = 0
        for kind in _KINDS:
            for page in self._pages(kind):
                self._delete([each["Key"] for each in page])
                removed += len(page)
                self._began = (
                    f"{removed:,} of {data.total:,} objects were removed from s3://{data.bucket}/{data.root}/."
                )
                self._tell(f"  removed {removed:,} of {data.total:,} objects")
        self._began = ""
        return removed

    @property
    def keeps_versions(self) -> bool:
        """Whether the bucket keeps what is removed from it as an old version."""
        with refusals(f"look at bucket {self._bucket!r}", DestroyError):
            answer = self._aws.client("s3").get_bucket_versioning(Bucket=self._bucket)
        return bool(answer.get("Status") == "Enabled")

    @property
    def _root(self) -> str:
        return f"{self._prefix}/{self._flow}" if self._prefix else self._flow

    def _pages(self, kind: str) -> Iterator[list[Any]]:
        from botocore.exceptions import ClientError

        with refusals(f"list s3://{self._bucket}/{self._root}/{kind}/", DestroyError):
            pages = self._aws.client("s3").get_paginator("list_objects_v2")
            try:
                for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._root}/{kind}/"):
                    if page.get("Contents"):
                        yield page["Contents"]
            except ClientError as error:
                if code_of(error) != "NoSuchBucket":
                    raise

    def _delete(self, keys: list[str]) -> None:
        with refusals(f"remove objects of s3://{self._bucket}/{self._root}/", DestroyError):
            objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            answer = self._aws.client("s3").delete_objects(Bucket=self._bucket, Delete=objects)
        for error in answer.get("Errors", ()):
            raise DestroyError(
                f"Could not remove s3://{self._bucket}/{error['Key']}: {error.get('Message') or error.get('Code')}"
            )

    # --- the stack

    def _running(self) -> int:
        """How many executions are running; 0 where that cannot be found out."""
        arn = self._state.outputs.get("StateMachineArn") if self._state is not None else None
        if not arn:
            return 0
        try:
            with refusals("list the running executions"):
                client = self._aws.client("stepfunctions")
                answer = client.list_executions(stateMachineArn=arn, statusFilter="RUNNING", maxResults=_COUNTED)
        except AwsError:
            return 0
        return len(answer["executions"])

    def _told(self, event: Event) -> None:
        if line := reasons.told(event, self._names):
            self._tell(f"  {line}")

    def _stuck(self, failure: Event | None) -> str:
        cause = "AWS gives no reason"
        if failure is not None:
            cause = f"{self._names.called(failure.logical)}: {failure.reason.rstrip('.') or failure.status}"
        hint = reasons.advice(failure.reason) if failure is not None else ""
        again = "What could not be removed is still there: remove the cause, then destroy it again."
        return " ".join(each for each in (f"Stack {self.name!r} is not gone: {cause}.", hint, again) if each)
