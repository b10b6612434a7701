"""The templates of flows of every shape: what cfn-lint says of them, and what they hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from built_flows import (
    BUCKET,
    CODE,
    FLOWS,
    REPOSITORY,
    batch_first_flow,
    batch_inside_flow,
    config,
    described,
    linear_flow,
    map_flow,
    numbers,
    scheduled_flow,
    wide,
)

from lokki.decorators import Flow, flow
from lokki.errors import BuildError, ConfigurationError
from lokki.settings import LokkiConfig
from tests.builder.templates import built, lint, load, texts

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret"
ROLE = "arn:aws:iam::123456789012:role/given"
SECRETS = {"TOKEN": f"{ARN}:token-a1B2c3", "PASSWORD": f"{ARN}:database-d4E5f6:SecretString:password"}
SMALL = 51_200  # bytes that CloudFormation takes without S3

SPECIAL: dict[str, tuple[Flow, LokkiConfig]] = {
    "big": (wide(90), config()),  # with policies beside its roles
    "roles": (batch_inside_flow, config(aws={"stepfunctions_role": ROLE, "lambda_execution_role": ROLE})),
    "secrets": (batch_inside_flow, config(secrets={"secret_arns": SECRETS})),
    "written secrets": (batch_inside_flow, config(secrets={"secret_arns": SECRETS, "mode": "cfn"})),
    "fargate": (batch_inside_flow, config(batch={"platform": "fargate", "architecture": "arm64"})),
    "local image": (batch_inside_flow, config("image", aws={"image_repository": "local"})),
    "other image": (map_flow, config("image", aws={"image_repository": "docker.io"}, functions={"image_tag": "v1.2"})),
    "queue by ARN": (
        batch_inside_flow,
        config(batch={"job_queue": "arn:aws:batch:eu-west-1:123456789012:job-queue/jobs", "job_definition_name": "ml"}),
    ),
    "prefix and endpoint": (map_flow, config(aws={"prefix": "team/a", "endpoint": "http://localhost:4566"})),
    "arm64": (map_flow, config(functions={"architecture": "arm64", "env": {"LEVEL": "7", "TEMPLATE": "${not} ours"}})),
}


@pytest.mark.timeout(300)
def test_cfn_lint_finds_nothing_in_any_template(tmp_path: Path) -> None:
    cases = {f"{name} {kind}": (each, config(kind)) for name, each in FLOWS.items() for kind in ("zip", "image")}
    whole = bool(os.environ.get("LOKKI_TEST_MANY"))  # takes minutes: else each flow is read in one of its four forms
    for place, (name, (each, settings)) in enumerate({**cases, **SPECIAL}.items()):
        made = built(each, settings)
        if whole or place % 4 == 0 or name in SPECIAL:
            (tmp_path / f"{name} template.yaml").write_text(made.template, "utf-8")
        if whole or place % 4 == 3:
            (tmp_path / f"{name} sam.yaml").write_text(made.sam, "utf-8")
    (tmp_path / "wrong.yaml").write_text(made.sam.replace("MemorySize: 512", "MemorySize: 5"), "utf-8")
    found = lint(sorted(tmp_path.iterdir()))
    assert {Path(each["Filename"]).name for each in found} == {"wrong.yaml"}, found


@pytest.mark.parametrize("kind", ["zip", "image"])
@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_is_used_and_every_name_is_known(name: str, kind: str) -> None:
    made = built(FLOWS[name], config(kind))
    template = made.loaded
    batch = {"BatchJobQueue", "BatchJobDefinitionName"} if name.startswith("batch-") else set()
    known = {"FlowName", "S3Bucket", "ECRRepoPrefix", "ImageTag", "AWSEndpoint", "PackageType", *batch}
    assert set(template["Parameters"]) == known
    assert all("Default" in each for each in template["Parameters"].values())
    machine = template["Resources"]["StateMachine"]["Properties"]
    definition = machine.pop("DefinitionString")
    assert definition == made.definition
    assert set(re.findall(r"\$\{(\w+)\}", definition)) == set(machine["DefinitionSubstitutions"])
    used = {name for text in texts(template) for name in re.findall(r"\$\{([\w]+)(?:\.\w+)?\}", text)}
    assert known <= used <= known | set(template["Resources"])


def test_a_function_of_a_zip_takes_the_code_of_this_build() -> None:
    made = built(map_flow, config(aws={"prefix": "team"}))
    function = made.resources["DoubleFunction"]
    key = f"team/${{FlowName}}/artifacts/lambdas/{CODE[:16]}/function.zip"
    assert function["Code"] == {"S3Bucket": "${S3Bucket}", "S3Key": key}
    assert (function["Runtime"], function["Handler"]) == ("python3.13", "handler.lambda_handler")
    assert (function["Timeout"], function["MemorySize"], function["Architectures"]) == (60, 512, ["x86_64"])
    assert function["FunctionName"] == "${FlowName}-double"
    assert function["Description"] == "The step double of the flow map-flow"
    assert made.loaded["Resources"]["DoubleFunction"]["DependsOn"] == ["DoubleFunctionLogGroup"]
    assert made.resources["DoubleFunctionLogGroup"]["RetentionInDays"] == 30
    assert made.loaded["Parameters"]["PackageType"]["AllowedValues"] == ["Zip"]
    changed = built(map_flow, config(aws={"prefix": "team"}), "f" * 64).resources["DoubleFunction"]
    assert changed["Code"]["S3Key"] == key.replace(CODE[:16], "f" * 16)


@pytest.mark.parametrize(
    ("repository", "image"),
    [
        (REPOSITORY, "${ECRRepoPrefix}/${FlowName}:${ImageTag}"),
        (f"{REPOSITORY}/", "${ECRRepoPrefix}/${FlowName}:${ImageTag}"),
        ("local", "${FlowName}:${ImageTag}"),
        ("", "${FlowName}:${ImageTag}"),
    ],
)
def test_a_function_of_an_image_takes_it_from_the_repository(repository: str, image: str) -> None:
    made = built(map_flow, config("image", aws={"image_repository": repository}))
    function = made.resources["DoubleFunction"]
    assert function["Code"] == {"ImageUri": image}
    assert not {"Runtime", "Handler"} & set(function)
    assert made.loaded["Parameters"]["ECRRepoPrefix"]["Default"] == (repository.strip("/") or "local")
    assert made.loaded["Parameters"]["PackageType"]["AllowedValues"] == ["Image"]


def test_what_a_function_finds_in_its_environment() -> None:
    given = {"LOG": "debug", "EMPTY": "", "AB": "${S3Bucket}"}
    settings = config(aws={"prefix": "team"}, functions={"env": given}, secrets={"secret_arns": SECRETS})
    made = built(batch_inside_flow, settings)
    assert made.resources["DoubleFunction"]["Environment"]["Variables"] == {
        "LOKKI_ARTIFACT_BUCKET": "${S3Bucket}",
        "LOKKI_FLOW_NAME": "${FlowName}",
        "LOKKI_STEP_NAME": "double",
        "LOKKI_MODULE_NAME": "birds",
        "LOKKI_AWS_ENDPOINT": "${AWSEndpoint}",
        "LOKKI_AWS_PREFIX": "team",
        "LOKKI_SECRETS": json.dumps(dict(sorted(SECRETS.items())), separators=(",", ":")),
        **given,
    }
    assert "AB: ${S3Bucket}" in made.template  # what is configured is taken as it stands, not filled in


def test_secrets_can_be_written_by_cloudformation() -> None:
    made = built(batch_inside_flow, config(secrets={"secret_arns": SECRETS, "mode": "cfn"}))
    written = {
        "PASSWORD": f"{{{{resolve:secretsmanager:{ARN}:database-d4E5f6:SecretString:password}}}}",
        "TOKEN": f"{{{{resolve:secretsmanager:{ARN}:token-a1B2c3:SecretString}}}}",
    }
    function = made.resources["DoubleFunction"]["Environment"]["Variables"]
    job = made.resources["TrainJobDefinition"]["ContainerProperties"]["Environment"]
    assert written.items() <= function.items()
    assert written.items() <= {each["Name"]: each["Value"] for each in job}.items()
    assert "LOKKI_SECRETS" not in made.template


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"functions": {"env": {"AWS_REGION": "x"}}}, "lambda.env.AWS_REGION"),
        ({"functions": {"env": {"AWS_LAMBDA_FUNCTION_NAME": "x"}}}, "lambda.env.AWS_LAMBDA_FUNCTION_NAME"),
        ({"functions": {"env": {"LOKKI_STEP_NAME": "x"}}}, "lambda.env.LOKKI_STEP_NAME"),
        ({"functions": {"env": {"9LIVES": "x"}}}, "lambda.env.9LIVES"),
        ({"functions": {"env": {"A-B": "x"}}}, "lambda.env.A-B"),
        ({"functions": {"env": {"LONG": "x" * 4096}}}, "lambda.env"),
        ({"batch": {"env": {"LOKKI_STATE": "x"}}}, "batch.env.LOKKI_STATE"),
        ({"batch": {"env": {"AWS_BATCH_JOB_ID": "x"}}}, "batch.env.AWS_BATCH_JOB_ID"),
        ({"secrets": {"secret_arns": {"LOKKI_SECRETS": f"{ARN}:a-a1B2c3"}}}, "secrets.secret_arns.LOKKI_SECRETS"),
        ({"secrets": {"secret_arns": {"TOKEN": "token"}}}, "secrets.secret_arns.TOKEN"),
        (
            {"secrets": {"secret_arns": SECRETS}, "functions": {"env": {"TOKEN": "x"}}},
            "secrets.secret_arns.TOKEN",
        ),
        ({"aws": {"artifact_bucket": ""}}, "aws.artifact_bucket"),
        ({"aws": {"artifact_bucket": "s3://bucket"}}, "aws.artifact_bucket"),
        ({"aws": {"image_repository": "my images"}}, "aws.image_repository"),
        ({"aws": {"endpoint": "localhost:4566"}}, "aws.endpoint"),
        ({"functions": {"image_tag": "a b"}}, "lambda.image_tag"),
        ({"batch": {"job_queue": "my queue"}}, "batch.job_queue"),
        ({"batch": {"job_queue": "arn:aws:sqs:eu-west-1:123456789012:jobs"}}, "batch.job_queue"),
        ({"batch": {"job_definition_name": "my job"}}, "batch.job_definition_name"),
    ],
)
def test_what_aws_would_refuse_is_refused_by_its_key(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(field)) as caught:
        built(batch_inside_flow, config(**settings))
    assert caught.value.field == field


def test_a_job_definition_says_what_a_job_gets() -> None:
    made = built(batch_inside_flow, config(functions={"env": {"ONLY": "functions"}}, batch={"env": {"JOBS": "only"}}))
    job = made.resources["TrainJobDefinition"]
    assert job["JobDefinitionName"] == "${BatchJobDefinitionName}-train"
    assert job["Timeout"] == {"AttemptDurationSeconds": 7200}
    assert job["RetryStrategy"]["EvaluateOnExit"][-1] == {"Action": "EXIT", "OnReason": "*"}
    container = job["ContainerProperties"]
    assert container["Image"] == "${ECRRepoPrefix}/${FlowName}-batch:${ImageTag}"
    assert container["Command"] == ["python", "batch_main.py"]
    assert {each["Type"]: each["Value"] for each in container["ResourceRequirements"]} == {
        "VCPU": "4",
        "MEMORY": "8192",
    }
    assert container["LogConfiguration"]["Options"]["awslogs-group"] == "${BatchLogGroup}"
    assert made.resources["BatchLogGroup"]["LogGroupName"] == "/aws/batch/${FlowName}"
    variables = {each["Name"]: each["Value"] for each in container["Environment"]}
    assert variables == {
        "AWS_DEFAULT_REGION": "${AWS::Region}",
        "LOKKI_ARTIFACT_BUCKET": "${S3Bucket}",
        "LOKKI_FLOW_NAME": "${FlowName}",
        "LOKKI_STEP_NAME": "train",
        "LOKKI_MODULE_NAME": "birds",
        "LOKKI_AWS_ENDPOINT": "${AWSEndpoint}",
        "JOBS": "only",
    }
    assert made.loaded["Parameters"]["BatchJobDefinitionName"]["Default"] == "batch-inside-flow"


def test_a_job_definition_for_fargate_says_so() -> None:
    made = built(batch_inside_flow, config(batch={"platform": "fargate", "architecture": "arm64"}))
    job = made.resources["TrainJobDefinition"]
    assert job["PlatformCapabilities"] == ["FARGATE"]
    assert job["ContainerProperties"]["RuntimePlatform"]["CpuArchitecture"] == "ARM64"
    assert job["ContainerProperties"]["NetworkConfiguration"] == {"AssignPublicIp": "ENABLED"}


@pytest.mark.parametrize(
    ("vcpu", "memory", "said"),
    [(3, 4096, "has 3 virtual CPUs; on Fargate"), (2, 2048, "4096 to 16384 MB"), (8, 17408, "in steps of 4096")],
)
def test_what_fargate_does_not_have_is_refused(vcpu: int, memory: int, said: str) -> None:
    settings = config(batch={"platform": "fargate", "vcpu": vcpu, "memory_mb": memory})
    with pytest.raises(BuildError, match=said):
        described(batch_first_flow, settings)


def test_configured_names_of_jobs_are_defaults() -> None:
    settings = config(batch={"job_definition_name": "ml", "image": "ghcr.io/team/trainer:7"})
    made = built(batch_inside_flow, settings)
    assert made.loaded["Parameters"]["BatchJobDefinitionName"]["Default"] == "ml"
    assert made.resources["TrainJobDefinition"]["JobDefinitionName"] == "${BatchJobDefinitionName}-train"
    assert made.resources["TrainJobDefinition"]["ContainerProperties"]["Image"] == "ghcr.io/team/trainer:7"


def test_a_schedule_starts_the_machine_with_an_input_of_its_own() -> None:
    made = built(scheduled_flow, config())
    rule = made.resources["ScheduleRule"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 hour)", "ENABLED")
    target = {"Id": "StateMachine", "Arn": "${StateMachine}", "RoleArn": "${EventsRole.Arn}", "Input": "{}"}
    assert rule["Targets"] == [target]
    events = load(made.sam)["Resources"]["StateMachine"]["Properties"]["Events"]
    assert events["Schedule"]["Properties"].items() >= {"Schedule": "rate(1 hour)", "Input": "{}"}.items()
    assert not {"ScheduleRule", "EventsRole"} & set(built(linear_flow, config()).resources)


@pytest.mark.parametrize("flow", [batch_inside_flow, scheduled_flow])
def test_everything_that_takes_tags_has_them(flow: Flow) -> None:
    for name, each in built(flow, config()).resources.items():
        tags = each["Tags"] if isinstance(each["Tags"], dict) else {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        assert tags.items() >= {"lokki:managed": "true", "lokki:flow-name": "${FlowName}"}.items()
        if "Code" in each or "ContainerProperties" in each:
            assert tags["lokki:code"] == CODE, name


def test_outputs_name_the_machine_and_its_code() -> None:
    outputs = {name: each["Value"] for name, each in built(map_flow, config()).loaded["Outputs"].items()}
    assert outputs == {
        "StateMachineArn": "${StateMachine}",
        "StateMachineName": "${StateMachine.Name}",
        "CodeLocation": f"s3://${{S3Bucket}}/${{FlowName}}/artifacts/lambdas/{CODE[:16]}/function.zip",
    }


def test_sam_builds_from_the_folder_of_the_build() -> None:
    zipped = load(built(map_flow, config()).sam)
    assert set(zipped["Parameters"]) == {"FlowName", "S3Bucket", "AWSEndpoint"}
    assert zipped["Parameters"]["S3Bucket"]["Default"] == BUCKET
    assert zipped["Resources"]["DoubleFunction"]["Properties"]["CodeUri"] == "lambdas/function.zip"
    assert zipped["Globals"]["Function"]["Handler"] == "handler.lambda_handler"
    machine = zipped["Resources"]["StateMachine"]["Properties"]
    assert machine["DefinitionUri"] == "statemachine.json"
    assert machine["DefinitionSubstitutions"]["DoubleFunctionArn"] == "${DoubleFunction.Arn}"
    image = load(built(map_flow, config("image")).sam)["Resources"]["DoubleFunction"]
    assert image["Metadata"] == {"Dockerfile": "Dockerfile", "DockerContext": "lambdas", "DockerTag": "latest"}


def test_a_flow_of_many_steps_fits_one_stack_or_is_refused() -> None:
    made = built(wide(200), config())
    assert len(made.template.encode()) > SMALL
    assert len(made.loaded["Resources"]) <= 500
    with pytest.raises(BuildError, match="500"):
        built(wide(250), config())


def test_a_flow_name_leaves_room_for_the_longest_step() -> None:
    made = built(linear_flow, config())
    longest = made.loaded["Parameters"]["FlowName"]["MaxLength"]
    assert max(len("x" * longest + each["FunctionName"].replace("${FlowName}", "")) for each in _functions(made)) == 64


def _functions(made: Any) -> list[dict[str, Any]]:
    return [each for each in made.resources.values() if "FunctionName" in each]


@pytest.mark.parametrize("name", ["_hidden", "vögel_flow", "f" * 81])
def test_a_flow_whose_name_aws_does_not_take_is_refused(name: str) -> None:
    def function() -> Any:
        return numbers()

    function.__name__ = name
    with pytest.raises(BuildError, match="cannot be deployed under its name"):
        built(flow(function), config())


def test_text_that_yaml_could_misread_comes_back_as_it_was() -> None:
    values = {
        "NO": "no",
        "NUMBER": "0123",
        "DATE": "2024-01-01",
        "LINES": "a\n b\n",
        "WIDE": "x " * 200,
        "U": "é\u2028✓",
    }
    values = {f"{name}_": each for name, each in values.items()}
    made = built(map_flow, config(functions={"env": values}))
    assert values.items() <= made.resources["DoubleFunction"]["Environment"]["Variables"].items()


def test_templates_are_the_same_bytes_in_every_process() -> None:
    script = (
        "import hashlib; from built_flows import *; from tests.builder.templates import built\n"
        "secrets = {n: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-a1B2c3' for n in ('S2', 'S1')}\n"
        "settings = config(functions={'env': {'B2': '1', 'A1': '2'}}, secrets={'secret_arns': secrets})\n"
        "for each in FLOWS.values():\n"
        "    made = built(each, settings)\n"
        "    print(hashlib.sha256((made.template + made.sam + made.definition).encode()).hexdigest())\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert len(told[0]) == len(FLOWS)
    assert told[0] == told[1]
