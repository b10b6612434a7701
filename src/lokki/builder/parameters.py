"""What can be chosen when a template is deployed, with defaults from the configuration so that nothing has to be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from lokki.builder.resources import LONGEST_FUNCTION_NAME, LONGEST_JOB_NAME, Deployment, Function, Job
from lokki.errors import BuildError, ConfigurationError

_LONGEST_MACHINE_NAME = 80
_FLOW = "[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?"
_BUCKET = "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_REPOSITORY = "[A-Za-z0-9][A-Za-z0-9._:/-]*"
_TAG = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_ENDPOINT = r"(https?://\S+)?"
_JOB = "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_RULES = {
    _BUCKET: "3 to 63 small letters, digits, dots and hyphens, with a letter or digit at both ends",
    _REPOSITORY: "an address of letters, digits and . _ : / - without https://",
    _TAG: "up to 128 letters, digits, dots, hyphens and underscores",
    _ENDPOINT: "an address that begins with http:// or https://",
    _JOB: "up to 128 letters, digits, hyphens and underscores",
}
_QUEUE_ARN = "arn:[a-z-]+:batch:[a-z0-9-]+:[0-9]{12}:job-queue/[A-Za-z0-9_-]{1,128}"
_RULES[_QUEUE_ARN] = "the ARN of a job queue, or its name"


def of(deployment: Deployment) -> dict[str, Any]:
    """All that can be chosen at deployment."""
    aws, kind = deployment.config.aws, package_type(deployment)
    tag = deployment.config.lambda_.image_tag
    return {
        "FlowName": _flow_name(deployment),
        "S3Bucket": _configured("aws.artifact_bucket", aws.artifact_bucket, _BUCKET, "Bucket for packages and values"),
        "ECRRepoPrefix": _configured(
            "aws.image_repository",
            aws.image_repository.strip("/") or "local",
            _REPOSITORY,
            "Where images are pulled from, without the flow's name",
        ),
        "ImageTag": _configured("lambda.image_tag", tag, _TAG, "Tag of the images"),
        "AWSEndpoint": _configured("aws.endpoint", aws.endpoint, _ENDPOINT, "Stand-in for AWS; empty for AWS itself"),
        "PackageType": {
            "Type": "String",
            "Default": kind,
            "Description": "How the code is shipped; another way takes another build",
            "AllowedValues": [kind],
        },
        **(_batch(deployment) if deployment.jobs else {}),
    }


def package_type(deployment: Deployment) -> str:
    """How Lambda calls what is configured."""
    return deployment.config.lambda_.package_type.title()


def _flow_name(deployment: Deployment) -> dict[str, Any]:
    """The flow's name, as long as all names with it in them allow."""
    name = deployment.graph.name
    if not re.fullmatch(_FLOW, name) or len(name) > _LONGEST_MACHINE_NAME:
        raise BuildError(
            f"The flow {name!r} cannot be deployed under its name, which becomes that of its state machine, its images "
            f"and its keys in S3: use a to z, digits and between them _, {_LONGEST_MACHINE_NAME} characters at most."
        )
    room = min(_LONGEST_MACHINE_NAME, _room(deployment.functions, "${FlowName}", LONGEST_FUNCTION_NAME))
    return {**_parameter(name, _FLOW, "Name of the state machine, with which other names begin"), "MaxLength": room}


def _batch(deployment: Deployment) -> dict[str, Any]:
    batch = deployment.config.batch
    base = batch.job_definition_name
    about = "What the names of the job definitions begin with"
    names = _configured("batch.job_definition_name", base or deployment.graph.name, _JOB, about)
    room = _room(deployment.jobs, base or "${FlowName}", LONGEST_JOB_NAME)
    # policies name a queue in one of two ways, so a name stays a name and an ARN an ARN
    kind, pattern = ("ARN", _QUEUE_ARN) if batch.job_queue.startswith("arn:") else ("Name", _JOB)
    return {
        "BatchJobQueue": _configured("batch.job_queue", batch.job_queue, pattern, f"{kind} of the job queue"),
        "BatchJobDefinitionName": {**names, "MaxLength": room},
    }


def _room(workers: Iterable[Function | Job], base: str, longest: int) -> int:
    """How long what stands for `base` may be, so that no name that begins with it is too long."""
    ends = [len(each.name) - len(base) for each in workers if each.name.startswith(f"{base}-")]
    return longest - max(ends, default=0)


def _configured(key: str, value: str, pattern: str, about: str) -> dict[str, Any]:
    """A parameter whose default is what is configured, if AWS can take that."""
    if not re.fullmatch(pattern, value):
        raise ConfigurationError(
            f"{key} is {value!r}, and AWS takes {_RULES[pattern]}; `lokki config` tells where it is set.", key
        )
    return _parameter(value, pattern, about)


def _parameter(default: str, pattern: str, about: str) -> dict[str, Any]:
    return {"Type": "String", "Default": default, "Description": about, "AllowedPattern": pattern}
