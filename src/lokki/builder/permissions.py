"""What each role may do: the statements of its policies, no more than what the state machine and the runtime call.

Functions and jobs read and write below this flow's runs and say what happens. The state machine calls its own
functions and jobs, reads the manifests of its maps and writes their reports. Nothing names another flow's things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lokki.builder import environment
from lokki.builder.intrinsics import Intrinsic, arn, ref, sub
from lokki.builder.resources import Deployment, Function
from lokki.errors import ConfigurationError
from lokki.graph import Map
from lokki.settings import LokkiConfig

Statement = dict[str, Any]
Resource = Intrinsic | str
LARGEST_INLINE = 10_240  # characters of all inline policies of a role
LARGEST_MANAGED = 6_144  # characters of one managed policy
_LONGEST_ARN = 140
_HERE = "${AWS::Region}:${AWS::AccountId}"
_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
_ECR = re.compile(r"(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?P<path>/.*)?")


def of_functions(deployment: Deployment) -> list[Statement]:
    """What the functions may do."""
    groups: list[Resource] = [arn(log_group(each)) for each in deployment.functions]
    return [_allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], groups), *_data(deployment)]


def of_jobs(deployment: Deployment) -> list[Statement]:
    """What the code in a Batch job may do; its log is written by its execution role."""
    return _data(deployment)


def of_job_execution(deployment: Deployment) -> list[Statement]:
    """What Batch itself may do to start a job: fetch its image and write its log."""
    log = _allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [arn("BatchLogGroup")])
    return [log, *_image(deployment.config)]


def of_machine(deployment: Deployment) -> list[Statement]:
    """What the state machine may do."""
    statements = []
    if deployment.functions:
        invoked: list[Resource] = [arn(each.logical) for each in deployment.functions]
        statements.append(_allow("InvokeFunctions", ["lambda:InvokeFunction"], invoked))
    if any(isinstance(node, Map) for node in deployment.graph.walk()):
        statements += _maps(deployment)
    if deployment.jobs:
        statements += _batch(deployment)
    return statements


def of_schedule() -> list[Statement]:
    """What the schedule may do."""
    return [_allow("Start", ["states:StartExecution"], [machine_arn()])]


def machine_arn() -> Resource:
    """The state machine by its name, so that its role can name it while it names its role."""
    return sub(f"arn:${{AWS::Partition}}:states:{_HERE}:stateMachine:${{FlowName}}")


def log_group(function: Function) -> str:
    """The logical name of a function's log group."""
    return f"{function.logical}LogGroup"


def given_role(config: LokkiConfig, key: str) -> str:
    """The ARN of a role that is configured rather than made, or nothing."""
    given: str = getattr(config.aws, key)
    if given and not _ROLE.fullmatch(given):
        raise ConfigurationError(
            f"aws.{key} must be the ARN of a role, as in arn:aws:iam::123456789012:role/name, not {given!r}.",
            f"aws.{key}",
        )
    return given


def parted(statements: list[Statement]) -> list[list[Statement]]:
    """The statements as policies: one that fits into its role, or several that IAM keeps beside it."""
    if _length(statements) <= LARGEST_INLINE:
        return [statements]
    policies: list[list[Statement]] = [[]]
    for statement in (part for each in statements for part in _parts(each)):
        if policies[-1] and _length([*policies[-1], statement]) > LARGEST_MANAGED:
            policies.append([])
        policies[-1].append(statement)
    return policies


def _parts(statement: Statement) -> Iterator[Statement]:
    resources, most = statement["Resource"], LARGEST_MANAGED // (_LONGEST_ARN + 10)
    pieces = [resources[at : at + most] for at in range(0, len(resources), most)]
    for number, piece in enumerate(pieces):
        yield {**statement, "Sid": f"{statement['Sid']}{number or ''}", "Resource": piece}


def _length(statements: list[Statement]) -> int:
    """The most characters that the statements can take once their names are filled in."""
    policy = {"Version": "2012-10-17", "Statement": statements}
    return len(json.dumps(policy, separators=(",", ":"), default=_longest))


def _longest(name: Intrinsic) -> str:
    return "x" * max(_LONGEST_ARN, len(name.value))  # all that is filled in here makes an ARN


def _data(deployment: Deployment) -> list[Statement]:
    secrets = [_whole(each) for each in environment.secret_arns(deployment.config)]
    listing = {"StringLike": {"s3:prefix": sub(f"{deployment.root}/runs/*")}}
    statements = [
        _allow("Data", ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], [_runs(deployment)]),
        # with this S3 says of a key that is missing that it is missing, not that it is forbidden
        {**_allow("List", ["s3:ListBucket"], [sub("arn:${AWS::Partition}:s3:::${S3Bucket}")]), "Condition": listing},
    ]
    if secrets and deployment.config.secrets.mode == "runtime":
        statements.append(_allow("Secrets", ["secretsmanager:GetSecretValue"], [*secrets]))
    return statements


def _whole(secret: str) -> str:
    """A secret's ARN ends in six characters that Secrets Manager chose; it may be given without them."""
    return secret if re.search(r"-[A-Za-z0-9]{6}$", secret) else f"{secret}-??????"


def _maps(deployment: Deployment) -> list[Statement]:
    executions = [sub(f"arn:${{AWS::Partition}}:states:{_HERE}:execution:${{FlowName}}{end}") for end in (":*", "/*:*")]
    report = ["s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]
    return [
        _allow("ReadManifestsAndWriteReports", report, [_runs(deployment)]),
        _allow("StartChildren", ["states:StartExecution"], [machine_arn()]),
        _allow("WatchChildren", ["states:DescribeExecution", "states:StopExecution"], executions),
        _allow("RedriveChildren", ["states:RedriveExecution"], executions[1:]),
    ]


def _batch(deployment: Deployment) -> list[Statement]:
    rule = f"arn:${{AWS::Partition}}:events:{_HERE}:rule/StepFunctionsGetEventsForBatchJobsRule"
    jobs: list[Resource] = [ref(each.logical) for each in deployment.jobs]
    return [
        _allow("SubmitJobs", ["batch:SubmitJob"], [_queue(deployment.config), *jobs]),
        _allow("WatchJobs", ["batch:DescribeJobs", "batch:TerminateJob"], ["*"]),  # a job's id is not known before
        _allow("HearOfJobs", ["events:PutTargets", "events:PutRule", "events:DescribeRule"], [sub(rule)]),
    ]


def _queue(config: LokkiConfig) -> Resource:
    if config.batch.job_queue.startswith("arn:"):
        return ref("BatchJobQueue")
    return sub(f"arn:${{AWS::Partition}}:batch:{_HERE}:job-queue/${{BatchJobQueue}}")


def _image(config: LokkiConfig) -> list[Statement]:
    """Fetching the jobs' image, where it lies in a registry of AWS."""
    found = _ECR.fullmatch(job_image(config))
    if not found:
        return []
    path = re.sub(r"(@sha256)?:[^:/]*$", "", found["path"] or "").strip("/")
    actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    where = f"arn:${{AWS::Partition}}:ecr:{found['region']}:{found['account']}:repository/{path}"
    return [
        _allow("SignInToRegistry", ["ecr:GetAuthorizationToken"], ["*"]),  # of the whole registry
        _allow("FetchImage", actions, [sub(where)]),
    ]


def job_image(config: LokkiConfig) -> str:
    """The image of the jobs, its repository spelled out."""
    repository = config.aws.image_repository.strip("/")
    place = "" if repository in ("", "local") else f"{repository}/"
    return config.batch.image or f"{place}${{FlowName}}-batch:${{ImageTag}}"


def _runs(deployment: Deployment) -> Resource:
    return sub(f"arn:${{AWS::Partition}}:s3:::${{S3Bucket}}/{deployment.root}/runs/*")


def _allow(sid: str, actions: list[str], resources: list[Resource]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
