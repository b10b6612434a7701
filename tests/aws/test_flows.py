"""Which flows are deployed: found by tags, whatever tells them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from lokki.aws.client import Aws
from lokki.aws.flows import DeployedFlow as Found
from lokki.aws.flows import deployed_flows
from lokki.errors import AwsError
from tests.aws.deployed import REGION, TAGS, DeployedFlow, client
from tests.moto_server import Asked, Relay, Reply


def found(endpoint: str, region: str = REGION) -> dict[str, Found]:
    """The flows, by the ARN of their machine."""
    config = DeployedFlow(endpoint).config()
    return {each.arn: each for each in deployed_flows(Aws(config, region))}


def machine(endpoint: str, *tags: dict[str, str]) -> str:
    """Make a state machine with these tags; returns its ARN."""
    made = client(endpoint, "stepfunctions").create_state_machine(
        name=f"machine-{uuid.uuid4().hex[:12]}",
        definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
        roleArn="arn:aws:iam::123456789012:role/machine",
        tags=list(tags),
    )
    return str(made["stateMachineArn"])


def refusing_tags(asked: Asked) -> Reply | None:
    """What one hears who may not use the tagging API."""
    if not asked.headers.get("X-Amz-Target", "").startswith("ResourceGroupsTaggingAPI"):
        return None
    body = json.dumps({"__type": "AccessDeniedException", "message": "No"}).encode()
    return Reply(400, body, {"Content-Type": "application/x-amz-json-1.1"})


@pytest.mark.parametrize("refuses", [False, True])
def test_flows_are_found_by_the_tags_of_their_state_machines(aws: None, relay: Relay, refuses: bool) -> None:
    one, other = DeployedFlow(relay.url), DeployedFlow(relay.url)
    deployed = {one.deploy(): one.name, other.deploy(): other.name}
    unnamed, foreign = machine(relay.url, *TAGS), machine(relay.url, {"key": "team", "value": "birds"})
    relay.instead = refusing_tags if refuses else lambda asked: None
    flows = found(relay.url)
    assert {arn: flows[arn].name for arn in deployed} == deployed
    assert flows[unnamed].name == unnamed.rpartition(":")[2]
    assert foreign not in flows
    names = [each.name for each in flows.values()]
    assert names == sorted(names)
    assert all(datetime.now(UTC) - each.created < timedelta(hours=1) for each in flows.values())


def test_a_stack_tells_what_its_state_machine_does_not(aws: None, relay: Relay) -> None:
    arn, stack = machine(relay.url), f"stack-{uuid.uuid4().hex[:12]}"
    template = {
        "Resources": {"Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": stack}}},
        "Outputs": {"StateMachineArn": {"Value": arn}},
    }
    tags = {"lokki:managed": "true", "lokki:flow-name": "birds"}
    client(relay.url, "cloudformation").create_stack(
        StackName=stack,
        TemplateBody=json.dumps(template),
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    relay.instead = refusing_tags
    flow = found(relay.url)[arn]
    assert (flow.name, flow.stack) == ("birds", stack)
    created = flow.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert flow.as_dict() == {"flow": "birds", "created": created, "stack": stack, "state_machine": arn}


def test_another_region_has_other_flows(aws: None, moto_server: str) -> None:
    DeployedFlow(moto_server).deploy()
    assert found(moto_server, "eu-north-1") == {}


def test_a_refusal_is_one_sentence(aws: None, relay: Relay) -> None:
    body = json.dumps({"__type": "AccessDeniedException", "message": "Not you."}).encode()
    relay.instead = lambda asked: Reply(400, body, {"Content-Type": "application/x-amz-json-1.0"})
    with pytest.raises(AwsError, match=r"^Could not list the flows in us-east-1: Not you \(AccessDeniedException\)\. "):
        found(relay.url)
