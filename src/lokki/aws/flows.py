"""Which flows are deployed in an account and region: found by the tags of their state machines, without a flow file.

The tagging API answers for a whole region at once. Where it is refused, or does not know state machines, as in some
stand-ins, every state machine and every stack is asked for its tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from lokki.aws.client import Aws, refusals
from lokki.frozen import frozen

MANAGED = "lokki:managed"
FLOW_NAME = "lokki:flow-name"
_STACK = "aws:cloudformation:stack-name"
_MACHINES = "states:stateMachine"


@frozen
class DeployedFlow:
    """A flow as AWS knows it.

    Attributes:
        name: the flow's name.
        arn: its state machine.
        created: when that was first deployed.
        stack: the stack that it belongs to, where AWS says so.
    """

    name: str
    arn: str
    created: datetime
    stack: str

    def as_dict(self) -> dict[str, str]:
        """As JSON holds it."""
        created = self.created.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"flow": self.name, "created": created, "stack": self.stack, "state_machine": self.arn}


def deployed_flows(aws: Aws) -> list[DeployedFlow]:
    """The flows of the account in this region, by name."""
    with refusals(f"list the flows in {aws.region}"):
        machines = {each["stateMachineArn"]: each for each in _machines(aws)}
        tags = _tagged(aws) if machines else {}
        if not machines.keys() & tags.keys():
            tags = {arn: _tags(aws, arn) for arn in machines} | _of_stacks(aws)
    found = [_flow(machines[arn], its) for arn, its in tags.items() if arn in machines and its.get(MANAGED) == "true"]
    return sorted(found, key=lambda flow: (flow.name, flow.arn))


def _flow(machine: dict[str, Any], tags: dict[str, str]) -> DeployedFlow:
    name = tags.get(FLOW_NAME) or machine["name"]
    return DeployedFlow(name, machine["stateMachineArn"], machine["creationDate"], tags.get(_STACK, ""))


def _machines(aws: Aws) -> Iterator[dict[str, Any]]:
    for page in aws.client("stepfunctions").get_paginator("list_state_machines").paginate():
        yield from page["stateMachines"]


def _tagged(aws: Aws) -> dict[str, dict[str, str]]:
    """The tags of every state machine that carries ours; nothing where the tagging API does not answer."""
    from botocore.exceptions import ClientError

    pages = aws.client("resourcegroupstaggingapi").get_paginator("get_resources")
    wanted = [{"Key": MANAGED, "Values": ["true"]}]
    try:
        found = pages.paginate(TagFilters=wanted, ResourceTypeFilters=[_MACHINES]).build_full_result()
    except ClientError:  # what matters is whether the state machines themselves may be asked
        return {}
    return {
        each["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        for each in found.get("ResourceTagMappingList", ())
    }


def _tags(aws: Aws, arn: str) -> dict[str, str]:
    answer = aws.client("stepfunctions").list_tags_for_resource(resourceArn=arn)
    return {tag["key"]: tag["value"] for tag in answer["tags"]}


def _of_stacks(aws: Aws) -> dict[str, dict[str, str]]:
    """The tags of every stack that carries ours, by the state machine that it names."""
    from botocore.exceptions import ClientError

    found = {}
    try:
        for page in aws.client("cloudformation").get_paginator("describe_stacks").paginate():
            for stack in page["Stacks"]:
                outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}
                tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}
                if MANAGED in tags and stack["StackStatus"] != "DELETE_COMPLETE":
                    found[outputs.get("StateMachineArn", "")] = {_STACK: stack["StackName"], **tags}
    except ClientError:  # who may not see stacks has seen the state machines
        return found
    return found
