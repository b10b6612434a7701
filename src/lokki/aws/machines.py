"""The state machine that a flow was deployed as: where it is, and what its definition says of its states.

What is deployed is read from AWS, not computed from the flow file, which may have changed since.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lokki.aws.client import REMOVED, Aws, code_of, from_refusal, refusals
from lokki.aws.stacks import Stack
from lokki.errors import AwsError
from lokki.frozen import field, frozen
from lokki.jsonable import revive

DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_KEY = re.compile(r"'(?P<root>[^']+)/runs/\{\}/(?P<below>[^']+)'")


@frozen
class Machine:
    """A deployed state machine; `stack` is empty when it was found by its name, `bucket` when the stack names none."""

    arn: str
    name: str
    stack: str = ""
    bucket: str = ""


@frozen
class Place:
    """A state of a machine.

    Attributes:
        state: its name.
        node: the id of what it runs in the flow's graph.
        kind: "function", "job" or "map".
        worker: the name of the function or job definition.
        inside: the states of a map's children, in order.
        express: whether a map's children are EXPRESS.
        manifest: below the folder of a run, where a map's manifest lies; empty for a map inside another.
    """

    state: str
    node: str
    kind: str
    worker: str = ""
    inside: tuple[Place, ...] = ()
    express: bool = False
    manifest: str = ""

    def walk(self) -> Iterator[Place]:
        """It, and all that is inside."""
        yield self
        for each in self.inside:
            yield from each.walk()


@frozen
class Definition:
    """What is deployed: the states in order, and the parameters that an execution uses when its input has none."""

    places: tuple[Place, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def walk(self) -> Iterator[Place]:
        """All states, those inside maps too."""
        for each in self.places:
            yield from each.walk()

    def named(self, state: str) -> Place:
        """The state of that name; one that is not known stands for itself."""
        return next((each for each in self.walk() if each.state == state), Place(state, state, "function"))


def find_machine(
    aws: Aws,
    flow: str,
    stack: str | None = None,
    *,
    kind: Callable[[str], AwsError] = AwsError,
    deploy: str = "deploy",
) -> Machine:
    """The state machine of a flow, as its stack says; else the one of the flow's name.

    Args:
        aws: the account and region.
        flow: the flow's name.
        stack: the stack's name; by default `<flow>-stack`.
        kind: makes the error when there is none.
        deploy: the command that deploys the flow, as it is typed.
    """
    wanted = stack or f"{flow}-stack"
    found = _of_stack(aws, wanted, kind, deploy, needed=stack is not None)
    if found is None and stack is None:
        found = _of_name(aws, flow, kind)
    if found is None:
        missing = f"no stack {wanted!r}" + ("" if stack else f" and no state machine {flow!r}")
        raise kind(f"Flow {flow!r} is not deployed in {aws.region}: there is {missing}. Deploy it with: {deploy}")
    return found


def read_definition(aws: Aws, machine: Machine, kind: Callable[[str], AwsError] = AwsError) -> Definition:
    """What the machine does now."""
    from botocore.exceptions import ClientError

    doing = f"read the state machine {machine.name!r}"
    with refusals(doing, kind):
        try:
            answer = aws.client("stepfunctions").describe_state_machine(stateMachineArn=machine.arn)
        except ClientError as error:
            if code_of(error) != "StateMachineDoesNotExist":
                raise
            of = f"stack {machine.stack!r} names it, but it" if machine.stack else "it"
            raise kind(f"Could not {doing}: {of} was removed by somebody else. {REMOVED}") from error
    return parsed(answer["definition"])


def definition_of(aws: Aws, execution: str, kind: Callable[[str], AwsError] = AwsError) -> Definition:
    """What the machine did when this execution was started."""
    with refusals("read the state machine of the execution", kind):
        answer = aws.client("stepfunctions").describe_state_machine_for_execution(executionArn=execution)
    return parsed(answer["definition"])


def parsed(text: str) -> Definition:
    """The definition that is written in Amazon States Language."""
    machine = json.loads(text)
    first = machine["States"][machine["StartAt"]]
    payload = first.get("Parameters", {}).get("Payload", {})
    defaults = payload.get("defaults") if isinstance(payload, dict) else None
    return Definition(tuple(_places(machine)), revive(json.loads(defaults)) if defaults else {})


def _places(machine: Mapping[str, Any]) -> Iterator[Place]:
    name = machine.get("StartAt")
    while name is not None:
        state = machine["States"][name]
        yield _place(name, state)
        name = state.get("Next")


def _place(name: str, state: Mapping[str, Any]) -> Place:
    given = state.get("Parameters", {})
    match state:
        case {"Type": "Map", "ItemProcessor": processor}:
            config = processor.get("ProcessorConfig", {})
            read, written = (_below(state.get(each, {})) for each in ("ItemReader", "ResultWriter"))
            return Place(
                name,
                written.partition("/")[0] or name,
                "map",
                inside=tuple(_places(processor)),
                express=config.get("ExecutionType") == "EXPRESS",
                manifest="" if "{}" in read else read,
            )
        case _ if "JobDefinition" in given:
            variables = {each["Name"]: each.get("Value") for each in given["ContainerOverrides"]["Environment"]}
            return Place(name, variables.get("LOKKI_NODE") or name, "job", _resource(given["JobDefinition"]))
        case _:
            node = given.get("Payload", {}).get("lokki")
            return Place(name, node or name, "function", _resource(given.get("FunctionName", "")))


def _below(part: Mapping[str, Any]) -> str:
    """What a reader or writer of a map names, below the folder of the run."""
    written = part.get("Parameters", {})
    found = _KEY.search(written.get("Key.$", "") or written.get("Prefix.$", ""))
    return found["below"] if found else ""


def _resource(arn: str) -> str:
    """The name in an ARN, without a version."""
    _, is_job, job = arn.partition("job-definition/")
    return (job if is_job else arn.split(":", 6)[-1]).partition(":")[0]


def _of_stack(aws: Aws, name: str, kind: Callable[[str], AwsError], deploy: str, *, needed: bool) -> Machine | None:
    try:
        stack = Stack(aws, name, kind).state()
    except AwsError as error:
        if error.code in DENIED and not needed:
            return None
        raise
    if stack is None:
        return None
    arn = stack.outputs.get("StateMachineArn", "")
    if not arn:
        raise kind(
            f"Stack {name!r} is in the state {stack.status} and has no state machine. "
            f"Wait if it is being made, else deploy it again with: {deploy}"
        )
    return Machine(arn, arn.rpartition(":")[2], name, stack.parameters.get("S3Bucket", ""))


def _of_name(aws: Aws, flow: str, kind: Callable[[str], AwsError]) -> Machine | None:
    from botocore.exceptions import ClientError

    arn = f"arn:{aws.partition}:states:{aws.region}:{aws.account}:stateMachine:{flow}"
    try:
        aws.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    except ClientError as error:
        if code_of(error) in ("StateMachineDoesNotExist", "InvalidArn"):
            return None
        raise from_refusal(error, f"look up the state machine {flow!r}", kind) from error
    return Machine(arn, flow)
