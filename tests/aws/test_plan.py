"""The plan: what differs between two templates, in the words of the flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import built_flows as flows
import pytest
from built_flows import config

from lokki.aws.plan import Plan, compared, with_entries
from lokki.aws.templates import Template
from lokki.decorators import Flow
from lokki.settings import LokkiConfig
from tests.builder.templates import built

HERE = {"AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws"}
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-AbCdEf"


def template(flow: Flow, settings: LokkiConfig, code: str = flows.CODE, **parameters: str) -> Template:
    """What a build of the flow would be deployed as."""
    return Template(built(flow, settings, code).template, {**HERE, **parameters})


def lines(old: Template | None, new: Template) -> list[str]:
    """The lines of the plan."""
    return [*compared(old, new).lines()]


def changed(before: LokkiConfig, after: LokkiConfig, flow: Flow = flows.map_flow) -> list[str]:
    """The lines of the plan for another configuration."""
    return lines(template(flow, before), template(flow, after))


def test_all_of_a_new_stack_is_new() -> None:
    assert lines(None, template(flows.scheduled_flow, config())) == [
        "new: step numbers",
        "new: step total",
        "new: role of the functions",
        "new: role of the state machine",
        "new: state machine",
        "new: role of the schedule",
        "new: schedule",
    ]


def test_the_same_is_no_change() -> None:
    for flow in flows.FLOWS.values():
        same = template(flow, config())
        assert compared(same, template(flow, config())) == Plan(())


def test_code_alone_is_recognised() -> None:
    plan = compared(template(flows.map_flow, config()), template(flows.map_flow, config(), "f" * 64))
    assert [*plan.lines()] == ["steps numbers, double, total: code"]
    assert plan.code_only
    assert not compared(template(flows.map_flow, config()), template(flows.linear_flow, config())).code_only


def test_another_tag_of_the_image_is_code() -> None:
    image = config("image")
    plan = compared(
        template(flows.map_flow, image, ImageTag="latest-1"), template(flows.map_flow, image, ImageTag="latest-2")
    )
    assert [*plan.lines()] == ["steps numbers, double, total: code"]
    assert plan.code_only


def test_new_code_of_jobs_is_not_code_of_functions_alone() -> None:
    flow = flows.batch_after_flow
    plan = compared(template(flow, config()), template(flow, config(), "f" * 64))
    assert [*plan.lines()] == ["steps numbers, double, total: code", "Batch job train: code"]
    assert not plan.code_only


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"functions": {"memory": 1024}}, ["steps numbers, double, total: memory 512 MB → 1024 MB"]),
        ({}, {"functions": {"timeout": 90}}, ["steps numbers, double, total: timeout 60 s → 90 s"]),
        ({}, {"functions": {"architecture": "arm64"}}, ["steps numbers, double, total: processor"]),
        (
            {"functions": {"env": {"AA": "1", "BB": "2"}}},
            {"functions": {"env": {"AA": "secret", "CC": "3"}}},
            ["steps numbers, double, total: changed variable AA, removed variable BB, new variable CC"],
        ),
        (
            {},
            {"secrets": {"secret_arns": {"TOKEN": SECRET}}},
            [
                "steps numbers, double, total: new variable LOKKI_SECRETS",
                f"role of the functions: new permission secretsmanager:GetSecretValue on {SECRET}",
            ],
        ),
        (
            {},
            {"aws": {"lambda_execution_role": "arn:aws:iam::123456789012:role/mine"}},
            [
                "steps numbers, double, total: role ${LambdaExecutionRole.Arn} → arn:aws:iam::123456789012:role/mine",
                "removed: role of the functions",
            ],
        ),
    ],
)
def test_configuration_is_told_by_its_own_names(
    before: dict[str, Any], after: dict[str, Any], words: list[str]
) -> None:
    assert changed(config(**before), config(**after)) == words


def test_values_of_variables_are_never_shown() -> None:
    told = changed(config(functions={"env": {"AA": "hidden-1"}}), config(functions={"env": {"AA": "hidden-2"}}))
    assert "hidden" not in " ".join(told)


def test_structure_is_told_by_steps_states_and_permissions() -> None:
    old, new = (
        Template(_renamed(flows.map_flow, "map-flow"), HERE),
        Template(_renamed(flows.linear_flow, "map-flow"), HERE),
    )
    told = lines(old, new)
    assert "new: step increment" in told
    assert "role of the state machine: new permission lambda:InvokeFunction on step increment" in told
    assert any(
        each.startswith("role of the state machine: no more permission states:StartExecution on") for each in told
    )
    assert "state machine: new state Increment, changed states Numbers, Total, Double, removed state NumbersMap" in told


def _renamed(flow: Flow, name: str) -> str:
    return built(flow, config()).template.replace(flow.name, name)


def test_a_job_is_told_by_what_it_needs() -> None:
    flow = flows.batch_after_flow
    text = built(flow, config()).template
    assert "'8192'" in text
    new = Template(text.replace("'8192'", "'16384'"), HERE)
    assert lines(Template(text, HERE), new) == ["Batch job train: 4 vCPU and 8192 MB → 4 vCPU and 16384 MB"]


def test_many_steps_are_counted() -> None:
    flow = flows.wide(9)
    told = lines(template(flow, config()), template(flow, config(functions={"memory": 1024})))
    assert told == ["9 steps: memory 512 MB → 1024 MB"]


DOUBLE = "step double: memory 512 MB → 1024 MB"


@pytest.mark.parametrize(
    ("logical", "entry", "words"),
    [
        ("DoubleFunction", {"Replacement": "True"}, [f"replaced: {DOUBLE}"]),
        ("DoubleFunction", {"Replacement": "False"}, [DOUBLE]),
        ("StateMachine", {"Replacement": "True"}, [DOUBLE, "replaced: state machine"]),
        (
            "StateMachine",
            {"Details": [{"Evaluation": "Static", "Target": {"Attribute": "Tags"}}]},
            [DOUBLE, "state machine: tags"],
        ),
        ("StateMachine", {"Details": [{"Evaluation": "Dynamic", "Target": {"Name": "RoleArn"}}]}, [DOUBLE]),
        ("StateMachine", {"Replacement": "Conditional"}, [DOUBLE]),
    ],
)
def test_what_only_cloudformation_knows_is_added(logical: str, entry: Mapping[str, Any], words: list[str]) -> None:
    text = built(flows.map_flow, config()).template
    start = text.index("  DoubleFunction:")
    new = Template(text[:start] + text[start:].replace("MemorySize: 512", "MemorySize: 1024", 1), HERE)
    named = {"LogicalResourceId": logical, "Action": "Modify", "ResourceType": new.resources[logical].kind, **entry}
    assert [*with_entries(compared(Template(text, HERE), new), [named], new).lines()] == words


def test_a_template_of_others_can_be_read() -> None:
    others = Template(
        """
        Conditions: {Big: !Equals [!Ref Size, big]}
        Resources:
          Queue:
            Type: AWS::SQS::Queue
            Properties: {QueueName: !If [Big, !Join ['-', [a, !Ref Size]], !GetAtt [Other, Name]]}
        """
    )
    assert not others.ours
    assert lines(others, template(flows.single_flow, config()))[-1] == "removed: queue Queue"
