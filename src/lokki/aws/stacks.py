"""A CloudFormation stack: what state it is in, what happens to it, and what can be asked of it.

Nothing here knows flows. AWS's refusals become errors of the kind that the one who asks wants.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from itertools import takewhile
from typing import Any

from lokki.aws.client import Aws, code_of, refusals
from lokki.aws.pace import Pace
from lokki.errors import AwsError
from lokki.frozen import field, frozen, replace

ONLY_PLANNED = "REVIEW_IN_PROGRESS"
"""The state of a stack in which nothing is yet: others may be planning it too."""
NEVER_CREATED = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""States of a stack that can only be removed."""
_STACK = "AWS::CloudFormation::Stack"
_EXISTS = re.compile(r"already ?exist", re.IGNORECASE)
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")


@frozen
class State:
    """What CloudFormation says of a stack; `since` is when its latest creation or update began."""

    id: str
    name: str
    status: str
    reason: str
    since: datetime
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    tags: Mapping[str, str]
    change_set: str

    @property
    def busy(self) -> bool:
        """Whether CloudFormation is at work on it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != ONLY_PLANNED

    @property
    def ours(self) -> bool:
        """Whether its tags say that lokki made it."""
        return self.tags.get("lokki:managed") == "true"


@frozen
class Event:
    """Something that happened to a resource, or to the stack itself; `token` names the request that led to it."""

    id: str
    at: datetime
    logical: str
    kind: str
    status: str
    reason: str
    token: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is a failure with a cause of its own, and not what another failure brought about."""
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason.lower()


@frozen
class ChangeSet:
    """What CloudFormation would do: the entries of a change set, None when nothing changes."""

    id: str
    stack_id: str
    entries: tuple[Mapping[str, Any], ...] = field(default=())
    empty: bool = False


@frozen
class End:
    """How what was watched ended: the state, None when the stack is gone, and all that happened."""

    status: str
    state: State | None
    events: tuple[Event, ...]

    @property
    def stuck(self) -> tuple[Event, ...]:
        """For each resource that could not be removed the last word on it."""
        last = {each.logical: each for each in self.events if each.kind != _STACK}
        return tuple(each for each in last.values() if each.status == "DELETE_FAILED")

    @property
    def failure(self) -> Event | None:
        """The first failure, which brought about the others."""
        return next((each for each in self.events if each.failed and each.kind != _STACK), None) or next(
            (each for each in self.events if each.failed), None
        )


class Stack:
    """A stack by its name, there or not.

    Args:
        kind: makes the errors.
        sleep: waits between two looks.
    """

    def __init__(
        self, aws: Aws, name: str, kind: Callable[[str], AwsError], sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.name = name
        self._client: Callable[[], Any] = lambda: aws.client("cloudformation")
        self._kind = kind
        self._sleep = sleep

    def state(self, stack_id: str = "") -> State | None:
        """The state of the stack, or of an earlier one of that name by its id; None when there is no such stack."""
        with self._refusals("look at stack"):
            try:
                found = self._client().describe_stacks(StackName=stack_id or self.name)["Stacks"]
            except self._client().exceptions.ClientError as error:
                if code_of(error) == "ValidationError" and "does not exist" in str(error):
                    return None
                raise
        gone = not found or found[0]["StackStatus"] == "DELETE_COMPLETE"
        return None if gone else _state(found[0])

    def template(self) -> Any:
        """The template that the stack was last given."""
        with self._refusals("read the template of stack"):
            return self._client().get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]

    def propose(
        self,
        name: str,
        template: Mapping[str, str],
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        *,
        new: bool,
    ) -> ChangeSet:
        """Have CloudFormation find out what would become of the stack; `examined` says what it found.

        Args:
            name: of the change set.
            template: `TemplateBody` or `TemplateURL`.
        """
        with self._refusals("have CloudFormation look at what changes in stack"):
            made = self._client().create_change_set(
                StackName=self.name,
                ChangeSetName=name,
                ClientToken=name,  # an answer that is lost is asked for again, and must not make a second one
                ChangeSetType="CREATE" if new else "UPDATE",
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                Capabilities=["CAPABILITY_IAM"],
                **template,
            )
        return ChangeSet(made["Id"], made.get("StackId", ""))

    def examined(self, change_set: ChangeSet) -> ChangeSet:
        """The change set with what it would do."""
        with self._refusals("have CloudFormation look at what changes in stack"):
            pace = Pace(self._sleep)
            while True:
                answer = self._client().describe_change_set(ChangeSetName=change_set.id, StackName=self.name)
                if answer["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                    break
                pace.wait()
            reason = answer.get("StatusReason") or ""
            if answer["Status"] == "CREATE_COMPLETE":
                return replace(change_set, entries=tuple(self._entries(change_set.id, answer)))
        if any(each in reason for each in _NO_CHANGE):
            return replace(change_set, empty=True)
        raise self._kind(f"CloudFormation does not take the template for stack {self.name!r}: {reason or 'no reason'}")

    def _entries(self, change_set: str, answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        while True:
            yield from (each["ResourceChange"] for each in answer.get("Changes", ()) if "ResourceChange" in each)
            if not answer.get("NextToken"):
                return
            answer = self._client().describe_change_set(
                ChangeSetName=change_set, StackName=self.name, NextToken=answer["NextToken"]
            )

    def execute(self, change_set: ChangeSet, token: str) -> None:
        """Have CloudFormation do what it proposed; the events of that bear the token."""
        with self._refusals("start the change of stack"):
            self._client().execute_change_set(
                ChangeSetName=change_set.id, StackName=self.name, ClientRequestToken=token
            )

    def forget(self, change_set: ChangeSet, *, new: bool) -> None:
        """Remove a change set that will not be executed, and the empty stack that it made, unless others use that."""
        with self._refusals("remove the unused change set of stack"), self._gone_already():
            self._client().delete_change_set(ChangeSetName=change_set.id, StackName=self.name)
        there = self.state() if new else None
        if there is None or there.status != ONLY_PLANNED or (change_set.stack_id or there.id) != there.id:
            return
        with self._refusals("remove the empty stack"):
            others = self._client().list_change_sets(StackName=self.name)["Summaries"]
            if all(each["StackId"] != there.id for each in others):
                self._client().delete_stack(StackName=there.id)

    def made(self) -> set[str]:
        """The resources that the stack has made so far, or tried to; not those whose name somebody else had."""
        with self._refusals("list what is in stack"):
            found = self._client().describe_stack_resources(StackName=self.name)["StackResources"]
        return {
            each["LogicalResourceId"]
            for each in found
            if each["ResourceStatus"] != "DELETE_COMPLETE"
            and not (each["ResourceStatus"] == "CREATE_FAILED" and _EXISTS.search(each.get("ResourceStatusReason", "")))
        }

    def remove(self, stack_id: str = "") -> None:
        """Have CloudFormation remove the stack and all that is in it; by its id, no other one of that name."""
        with self._refusals("remove stack"):
            self._client().delete_stack(StackName=stack_id or self.name)

    def newest_event(self) -> str:
        """The id of the latest event, from which on to watch; nothing where there is no event yet."""
        with self._refusals("read the events of stack"):
            events = self._client().describe_stack_events(StackName=self.name)["StackEvents"]
        return str(events[0]["EventId"]) if events else ""

    def work(self, stack_id: str) -> Event | None:
        """The event with which that began which is under way; None when nothing is."""
        begun = None
        for event in self._latest(stack_id):
            if event.kind == _STACK:
                if not event.status.endswith("_IN_PROGRESS") or event.status == ONLY_PLANNED:
                    break
                begun = event
        return begun

    def watch(self, stack_id: str, after: str, tell: Callable[[Event], object]) -> End:
        """Wait until what was begun after the event `after` has ended; `tell` hears of each event, in time order."""
        pace, seen = Pace(self._sleep), list[Event]()
        while True:
            there = self.state(stack_id)  # before the events, so that none is missed
            new = self._events(stack_id, after)
            for event in new:
                tell(event)
            seen += new
            after = new[-1].id if new else after
            status = _ended(seen)
            if status or there is None:
                return End(status or "DELETE_COMPLETE", self.state(stack_id), tuple(seen))
            if new:
                pace.hurry()
            pace.wait()

    def _events(self, stack_id: str, after: str) -> list[Event]:
        """The events after one, oldest first."""
        return [*takewhile(lambda each: each.id != after, self._latest(stack_id))][::-1]

    def _latest(self, stack_id: str) -> Iterator[Event]:
        """The events, newest first."""
        more: dict[str, str] = {}
        while True:
            page = self._page(stack_id, more)
            yield from map(_event, page["StackEvents"])
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}

    def _page(self, stack_id: str, more: Mapping[str, str]) -> Mapping[str, Any]:
        with self._refusals("read the events of stack"):
            try:
                page: Mapping[str, Any] = self._client().describe_stack_events(StackName=stack_id, **more)
            except self._client().exceptions.ClientError as error:
                if "does not exist" in str(error):
                    return {"StackEvents": []}
                raise
            return page

    @contextmanager
    def _gone_already(self) -> Iterator[None]:
        """What is to be removed may have been removed by others."""
        try:
            yield
        except self._client().exceptions.ClientError as error:
            if code_of(error) != "ChangeSetNotFound" and "does not exist" not in str(error):
                raise

    def _refusals(self, doing: str) -> AbstractContextManager[None]:
        return refusals(f"{doing} {self.name!r}", self._kind)


def _ended(events: Iterable[Event]) -> str:
    """The status with which the stack came to rest, or nothing while it has not."""
    own = [each.status for each in events if each.kind == _STACK]
    return own[-1] if own and not own[-1].endswith("_IN_PROGRESS") else ""


def _state(told: Mapping[str, Any]) -> State:
    return State(
        told["StackId"],
        told["StackName"],
        told["StackStatus"],
        told.get("StackStatusReason") or "",
        told.get("LastUpdatedTime") or told["CreationTime"],
        {each["ParameterKey"]: each.get("ParameterValue", "") for each in told.get("Parameters") or ()},
        {each["OutputKey"]: each["OutputValue"] for each in told.get("Outputs") or ()},
        {each["Key"]: each["Value"] for each in told.get("Tags") or ()},
        told.get("ChangeSetId") or "",
    )


def _event(told: Mapping[str, Any]) -> Event:
    own = told["ResourceType"] == _STACK and told.get("PhysicalResourceId") == told["StackId"]
    return Event(
        told["EventId"],
        told["Timestamp"],
        told["LogicalResourceId"],
        _STACK if own else told["ResourceType"],
        told["ResourceStatus"],
        told.get("ResourceStatusReason") or "",
        told.get("ClientRequestToken") or "",
    )
