"""Which flows are deployed in an account and region: found by the tags of their state machines, without a flow file.

The tagging API answers for a whole region at once. Where it is refused, or does not know state machines, as in some
stand-ins, every state machine is asked for its tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from lokki.aws.client import Aws, refusals
from lokki.errors import AwsError, nearest
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


def deployed_flows(aws: Aws) -> list[DeployedFlow]:
    """The flows of the account in this region, by name."""
    with refusals(f"list the flows in {aws.region}"):
        machines = {each["stateMachineArn"]: each for each in _machines(aws)}
        tags = _tagged(aws) if machines else {}
        if not machines.keys() & tags.keys():
            tags = {arn: _tags(aws, arn) for arn in machines}
    found = [_flow(machines[arn], its) for arn, its in tags.items() if arn in machines and its.get(MANAGED) == "true"]
    return sorted(found, key=lambda flow: (flow.name, flow.arn))


def find_flow(aws: Aws, name: str, kind: Callable[[str], AwsError] = AwsError) -> DeployedFlow:
    """The deployed flow of this name.

    Args:
        aws: the account and region.
        name: the flow's name.
        kind: makes the error when there is none.
    """
    flows = deployed_flows(aws)
    for flow in flows:
        if flow.name == name:
            return flow
    known = [flow.name for flow in flows]
    hint = nearest(name, known) or (f"; there is {', '.join(known[:10])}" if known else "; no flow is deployed there")
    raise kind(f"Flow {name!r} is not deployed in {aws.region}{hint}. Another region is named by --region.")


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
