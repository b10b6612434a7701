"""The roles of a flow grant what its state machine and its code need, and nothing else.

What is needed is worked out here from the text of the state machine and from the functions and jobs of the template,
without looking at how the policies were made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from built_flows import FLOWS, REPOSITORY, batch_inside_flow, config, map_flow, wide

from lokki.builder.permissions import LARGEST_INLINE, LARGEST_MANAGED
from lokki.errors import ConfigurationError
from tests.builder.templates import Built, built, load

Grant = tuple[str, str]
ARN = "arn:${AWS::Partition}"
HERE = "${AWS::Region}:${AWS::AccountId}"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret"
ROLE = "arn:aws:iam::123456789012:role"


def states(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for state in machine["States"].values():
        yield state
        if state["Type"] == "Map":
            yield from states(state["ItemProcessor"])


def below(place: str) -> str:
    """The objects that a `States.Format` of a state machine can name, as far as it is the same for every run."""
    fixed = re.fullmatch(r"States\.Format\('([^']*?)\{\}.*", place)
    assert fixed
    return f"{ARN}:s3:::${{S3Bucket}}/{fixed[1]}*"


def needed_by_machine(definition: str, substitutions: dict[str, str]) -> set[Grant]:
    machine = f"{ARN}:states:{HERE}:stateMachine:${{FlowName}}"
    execution = f"{ARN}:states:{HERE}:execution:${{FlowName}}"
    needed: set[Grant] = set()
    for state in states(json.loads(definition)):
        match state:
            case {"Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": name}}:
                needed.add(("lambda:InvokeFunction", substitutions[name[2:-1]]))
            case {"Resource": "arn:aws:states:::batch:submitJob.sync", "Parameters": parameters}:
                needed.add(("batch:SubmitJob", substitutions[parameters["JobDefinition"][2:-1]]))
                queue = substitutions[parameters["JobQueue"][2:-1]]
                needed.add(("batch:SubmitJob", f"{ARN}:batch:{HERE}:job-queue/{queue}"))
                needed |= {("batch:DescribeJobs", "*"), ("batch:TerminateJob", "*")}
                rule = f"{ARN}:events:{HERE}:rule/StepFunctionsGetEventsForBatchJobsRule"
                needed |= {(f"events:{action}", rule) for action in ("PutTargets", "PutRule", "DescribeRule")}
            case {"Type": "Map", "ItemReader": reader, "ResultWriter": writer}:
                assert reader["Resource"] == "arn:aws:states:::s3:getObject"
                assert writer["Resource"] == "arn:aws:states:::s3:putObject"
                assert reader["Parameters"]["Bucket"] == writer["Parameters"]["Bucket"] == "${S3Bucket}"
                needed.add(("s3:GetObject", below(reader["Parameters"]["Key.$"])))
                written = below(writer["Parameters"]["Prefix.$"])
                actions = ("PutObject", "GetObject", "ListMultipartUploadParts", "AbortMultipartUpload")
                needed |= {(f"s3:{action}", written) for action in actions}
                needed.add(("states:StartExecution", machine))
                for action in ("DescribeExecution", "StopExecution"):
                    needed |= {(f"states:{action}", f"{execution}{end}") for end in (":*", "/*:*")}
                needed.add(("states:RedriveExecution", f"{execution}/*:*"))
            case _:
                raise AssertionError(state)
    return needed


def needed_for_data(variables: dict[str, str]) -> set[Grant]:
    prefix = f"{variables['LOKKI_AWS_PREFIX']}/" if "LOKKI_AWS_PREFIX" in variables else ""
    bucket = f"{ARN}:s3:::{variables['LOKKI_ARTIFACT_BUCKET']}"
    runs = f"{bucket}/{prefix}{variables['LOKKI_FLOW_NAME']}/runs/*"
    secrets = json.loads(variables.get("LOKKI_SECRETS", "{}")).values()
    fetched = {("secretsmanager:GetSecretValue", each.partition(":SecretString")[0]) for each in secrets}
    values = {(action, runs) for action in ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")}
    return {*values, ("s3:ListBucket", bucket), *fetched}


def needed_by_functions(resources: dict[str, Any]) -> set[Grant]:
    needed: set[Grant] = set()
    for name, function in resources.items():
        if "FunctionName" in function:
            group = resources[f"{name}LogGroup"]["LogGroupName"]
            assert group == f"/aws/lambda/{function['FunctionName']}"
            needed |= {(f"logs:{action}", f"${{{name}LogGroup.Arn}}") for action in ("CreateLogStream", "PutLogEvents")}
            needed |= needed_for_data(function["Environment"]["Variables"])
    return needed


def variables_of(job: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in job["ContainerProperties"]["Environment"]}


def statements(resources: dict[str, Any], role: str) -> Iterator[dict[str, Any]]:
    found = resources[role]
    policies = [each["PolicyDocument"] for each in found.get("Policies", ())]
    policies += [resources[each[2:-1]]["PolicyDocument"] for each in found.get("ManagedPolicyArns", ())]
    for policy in policies:
        yield from policy["Statement"]


def granted(resources: dict[str, Any], role: str) -> set[Grant]:
    each = statements(resources, role)
    return {(action, resource) for one in each for action in one["Action"] for resource in one["Resource"]}


def check(made: Built, resources: dict[str, Any]) -> None:
    """Every role of a template grants exactly what is needed."""
    machine = resources["StateMachine"]
    jobs = [each for each in resources.values() if "ContainerProperties" in each]
    needed = {
        "StepFunctionsExecutionRole": needed_by_machine(made.definition, machine["DefinitionSubstitutions"]),
        "LambdaExecutionRole": needed_by_functions(resources),
    }
    if jobs:
        logs = {(f"logs:{action}", "${BatchLogGroup.Arn}") for action in ("CreateLogStream", "PutLogEvents")}
        repository = f"{ARN}:ecr:eu-west-1:123456789012:repository/team/${{FlowName}}-batch"
        pulls = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")
        needed["BatchJobRole"] = set().union(*(needed_for_data(variables_of(job)) for job in jobs))
        needed["BatchExecutionRole"] = logs | {(f"ecr:{action}", repository) for action in pulls}
        needed["BatchExecutionRole"].add(("ecr:GetAuthorizationToken", "*"))
    if "EventsRole" in resources:
        needed["EventsRole"] = {("states:StartExecution", f"{ARN}:states:{HERE}:stateMachine:${{FlowName}}")}
    roles = {name for name, each in resources.items() if "AssumeRolePolicyDocument" in each}
    assert {role: granted(resources, role) for role in roles} == needed


@pytest.mark.parametrize("name", FLOWS)
def test_roles_grant_what_is_needed_and_nothing_else(name: str) -> None:
    made = built(FLOWS[name], config())
    check(made, made.resources)
    check(made, {name: each["Properties"] for name, each in load(made.sam)["Resources"].items()})


def test_a_prefix_and_secrets_are_in_what_is_granted() -> None:
    secrets = {"TOKEN": f"{SECRET}:token-a1B2c3", "PASSWORD": f"{SECRET}:database-d4E5f6:SecretString:password"}
    given = config(aws={"prefix": "team/a"}, secrets={"secret_arns": secrets})
    for flow in (map_flow, batch_inside_flow):
        made = built(flow, given)
        check(made, made.resources)
        reads = {resource for action, resource in granted(made.resources, "LambdaExecutionRole") if "Secret" in action}
        assert reads == {f"{SECRET}:token-a1B2c3", f"{SECRET}:database-d4E5f6"}


def test_secrets_that_cloudformation_writes_need_no_permission() -> None:
    made = built(batch_inside_flow, config(secrets={"secret_arns": {"TOKEN": f"{SECRET}:token-a1B2c3"}, "mode": "cfn"}))
    check(made, made.resources)
    assert "secretsmanager:GetSecretValue" not in made.template


def test_a_secret_without_its_last_six_characters_is_found_all_the_same() -> None:
    made = built(map_flow, config(secrets={"secret_arns": {"TOKEN": f"{SECRET}:api/token"}}))
    secrets = [grant for grant in granted(made.resources, "LambdaExecutionRole") if "Secret" in grant[0]]
    assert secrets == [("secretsmanager:GetSecretValue", f"{SECRET}:api/token-??????")]


def test_a_listing_sees_only_the_runs_of_the_flow() -> None:
    resources = built(batch_inside_flow, config(aws={"prefix": "team"})).resources
    for role in ("LambdaExecutionRole", "BatchJobRole"):
        listing = [each for each in statements(resources, role) if each["Action"] == ["s3:ListBucket"]]
        assert [each["Condition"] for each in listing] == [{"StringLike": {"s3:prefix": "team/${FlowName}/runs/*"}}]


def test_each_role_is_for_one_service() -> None:
    resources = built(batch_inside_flow, config()).resources | built(FLOWS["scheduled"], config()).resources
    trusted = {
        name: each["AssumeRolePolicyDocument"]["Statement"]
        for name, each in resources.items()
        if "AssumeRolePolicyDocument" in each
    }
    assert {name: [one["Principal"] for one in found] for name, found in trusted.items()} == {
        "LambdaExecutionRole": [{"Service": "lambda.amazonaws.com"}],
        "StepFunctionsExecutionRole": [{"Service": "states.amazonaws.com"}],
        "BatchJobRole": [{"Service": "ecs-tasks.amazonaws.com"}],
        "BatchExecutionRole": [{"Service": "ecs-tasks.amazonaws.com"}],
        "EventsRole": [{"Service": "events.amazonaws.com"}],
    }


def test_configured_roles_take_the_place_of_made_ones() -> None:
    aws = {"stepfunctions_role": f"{ROLE}/machine", "lambda_execution_role": f"{ROLE}/team/functions"}
    made = built(batch_inside_flow, config(aws=aws))
    resources = made.resources
    assert [name for name, each in resources.items() if "AssumeRolePolicyDocument" in each] == ["BatchExecutionRole"]
    assert resources["StateMachine"]["RoleArn"] == f"{ROLE}/machine"
    assert resources["NumbersFunction"]["Role"] == f"{ROLE}/team/functions"
    assert resources["TrainJobDefinition"]["ContainerProperties"]["JobRoleArn"] == f"{ROLE}/team/functions"
    sam = load(made.sam)["Resources"]
    assert sam["StateMachine"]["Properties"]["Role"] == f"{ROLE}/machine"


@pytest.mark.parametrize("key", ["stepfunctions_role", "lambda_execution_role"])
@pytest.mark.parametrize("given", ["my-role", "arn:aws:iam::123456789012:user/me", f"{ROLE}/a b"])
def test_a_configured_role_that_is_no_role_is_refused(key: str, given: str) -> None:
    with pytest.raises(ConfigurationError, match="must be the ARN of a role") as caught:
        built(map_flow, config(aws={key: given}))
    assert caught.value.field == f"aws.{key}"


@pytest.mark.parametrize(
    ("batch", "aws", "pulled"),
    [
        ({}, {}, "eu-west-1:123456789012:repository/team/${FlowName}-batch"),
        ({}, {"image_repository": REPOSITORY.partition("/")[0]}, "eu-west-1:123456789012:repository/${FlowName}-batch"),
        ({}, {"image_repository": "local"}, None),
        ({}, {"image_repository": "docker.io"}, None),
        ({"image": f"{REPOSITORY}/trainer:7"}, {}, "eu-west-1:123456789012:repository/team/trainer"),
        ({"image": f"{REPOSITORY}/trainer@sha256:{'0' * 64}"}, {}, "eu-west-1:123456789012:repository/team/trainer"),
        ({"image": "ghcr.io/somebody/trainer:7"}, {}, None),
    ],
)
def test_a_job_may_be_started_from_its_own_image(
    batch: dict[str, Any], aws: dict[str, Any], pulled: str | None
) -> None:
    grants = granted(built(batch_inside_flow, config(batch=batch, aws=aws)).resources, "BatchExecutionRole")
    assert {resource for action, resource in grants if action == "ecr:BatchGetImage"} == (
        {f"{ARN}:ecr:{pulled}"} if pulled else set()
    )


def test_a_queue_given_by_its_arn_is_named_by_it() -> None:
    queue = "arn:aws:batch:eu-west-1:123456789012:job-queue/jobs"
    grants = granted(
        built(batch_inside_flow, config(batch={"job_queue": queue})).resources, "StepFunctionsExecutionRole"
    )
    submits = {resource for action, resource in grants if action == "batch:SubmitJob"}
    assert submits == {"${BatchJobQueue}", "${TrainJobDefinition}"}


def test_what_does_not_fit_into_a_role_lies_in_policies_beside_it() -> None:
    made = built(wide(200), config())
    resources = made.resources
    check(made, resources)
    for role in ("LambdaExecutionRole", "StepFunctionsExecutionRole"):
        assert "Policies" not in resources[role]
        attached = [resources[each[2:-1]]["PolicyDocument"] for each in resources[role]["ManagedPolicyArns"]]
        assert len(attached) <= 10  # that IAM attaches to a role
        assert max(_size(each) for each in attached) <= LARGEST_MANAGED
    made = built(wide(50), config())
    check(made, made.resources)
    for role in ("LambdaExecutionRole", "StepFunctionsExecutionRole"):
        assert sum(_size(each["PolicyDocument"]) for each in made.resources[role]["Policies"]) <= LARGEST_INLINE


def _size(policy: dict[str, Any]) -> int:
    """The characters of a policy in the region and account with the longest names, for a flow with a long one."""
    text = json.dumps(policy, separators=(",", ":"))
    text = re.sub(r"\$\{(\w+)LogGroup\.Arn\}", f"{ARN}:logs:{HERE}:log-group:/aws/lambda/{'x' * 64}:*", text)
    text = re.sub(r"\$\{(\w+)\.Arn\}", f"{ARN}:lambda:{HERE}:function:{'x' * 64}", text)
    names = {"AWS::Partition": "aws-us-gov", "AWS::Region": "ap-southeast-1", "AWS::AccountId": "123456789012"}
    return len(re.sub(r"\$\{([\w:]+)\}", lambda name: names.get(name[1], "x" * 64), text))
