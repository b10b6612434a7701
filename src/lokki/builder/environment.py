"""What functions and jobs find in their environment: where they are, who they are, and what the configuration adds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lokki.builder.intrinsics import Intrinsic, ref
from lokki.builder.resources import Deployment, Function, Job
from lokki.errors import ConfigurationError
from lokki.settings import LokkiConfig, SecretsConfig

LONGEST_ENVIRONMENT = 4096  # bytes of all names and values of a Lambda function

_OURS = frozenset(
    {
        "LOKKI_ARTIFACT_BUCKET",
        "LOKKI_FLOW_NAME",
        "LOKKI_STEP_NAME",
        "LOKKI_MODULE_NAME",
        "LOKKI_AWS_ENDPOINT",
        "LOKKI_AWS_PREFIX",
        "LOKKI_SECRETS",
        "LOKKI_NODE",
        "LOKKI_STATE",
    }
)
_LAMBDAS_OWN = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
_SECRET = re.compile(
    r"(?P<arn>arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+)(?::SecretString(?::(?P<key>[^:]+))?)?"
)


def of_function(deployment: Deployment, function: Function, module: str) -> dict[str, Any]:
    """The variables of a function; a ConfigurationError for what Lambda would refuse."""
    config = deployment.config
    _check_names("lambda.env", config.lambda_.env, r"[A-Za-z][A-Za-z0-9_]+", _LAMBDAS_OWN)
    variables = _variables(deployment, function, module, "lambda.env", config.lambda_.env)
    size = _size(variables, deployment)
    if size > LONGEST_ENVIRONMENT:
        raise ConfigurationError(
            f"The environment of function {function.key!r} takes {size:,} bytes, and AWS Lambda allows "
            f"{LONGEST_ENVIRONMENT:,}: shorten lambda.env, or put what is long into a file of include.paths.",
            "lambda.env",
        )
    return variables


def of_job(deployment: Deployment, job: Job, module: str) -> dict[str, Any]:
    """The variables of a job, besides those that the state machine adds for each run of it."""
    given = deployment.config.batch.env
    reserved = {"AWS_DEFAULT_REGION", *(name for name in given if name.startswith("AWS_BATCH"))}
    _check_names("batch.env", given, r"[A-Za-z_][A-Za-z0-9_]*", reserved)
    # Lambda tells a function its region, Batch tells a job nothing
    region = {"AWS_DEFAULT_REGION": ref("AWS::Region")}
    return region | _variables(deployment, job, module, "batch.env", given)


def secret_arns(config: LokkiConfig) -> list[str]:
    """The ARNs of all secrets, each once, without the part that picks a key."""
    return list(dict.fromkeys(_secret(name, each)["arn"] for name, each in sorted(config.secrets.secret_arns.items())))


def _variables(
    deployment: Deployment, worker: Function | Job, module: str, section: str, given: Mapping[str, str]
) -> dict[str, Any]:
    config = deployment.config
    prefix = {"LOKKI_AWS_PREFIX": config.aws.prefix} if config.aws.prefix else {}
    return {
        "LOKKI_ARTIFACT_BUCKET": ref("S3Bucket"),
        "LOKKI_FLOW_NAME": ref("FlowName"),
        "LOKKI_STEP_NAME": worker.key,
        "LOKKI_MODULE_NAME": module,
        "LOKKI_AWS_ENDPOINT": ref("AWSEndpoint"),
        **prefix,
        **dict(sorted(given.items())),
        **_secrets(config.secrets, section, given),
    }


def _secrets(secrets: SecretsConfig, section: str, given: Mapping[str, str]) -> dict[str, str]:
    arns = dict(sorted(secrets.secret_arns.items()))
    if not arns:
        return {}
    _check_names("secrets.secret_arns", arns, r"[A-Za-z][A-Za-z0-9_]+", _LAMBDAS_OWN)
    if both := sorted(arns.keys() & given.keys()):
        field = f"secrets.secret_arns.{both[0]}"
        raise ConfigurationError(f"{field} is in {section} as well: take it out of one of them.", field)
    found = {name: _secret(name, text) for name, text in arns.items()}
    if secrets.mode == "runtime":
        return {"LOKKI_SECRETS": json.dumps(arns, separators=(",", ":"))}
    return {name: _resolved(each["arn"], each["key"]) for name, each in found.items()}


def _resolved(secret: str, key: str | None) -> str:
    return f"{{{{resolve:secretsmanager:{secret}:SecretString{f':{key}' if key else ''}}}}}"


def _secret(name: str, text: str) -> dict[str, Any]:
    found = _SECRET.fullmatch(text)
    if not found:
        field = f"secrets.secret_arns.{name}"
        raise ConfigurationError(
            f"{field} must be the ARN of a secret, with :SecretString:<key> after it for one key of it, not {text!r}.",
            field,
        )
    return found.groupdict()


def _check_names(section: str, given: Mapping[str, str], pattern: str, reserved: frozenset[str] | set[str]) -> None:
    for name in given:
        if name in _OURS or name in reserved:
            raise ConfigurationError(f"{section}.{name} is set by lokki or AWS itself: rename it.", f"{section}.{name}")
        if not re.fullmatch(pattern, name):
            raise ConfigurationError(
                f"{section}.{name} cannot be the name of an environment variable: use letters, digits and _.",
                f"{section}.{name}",
            )


def _size(variables: Mapping[str, Intrinsic | str], deployment: Deployment) -> int:
    aws = deployment.config.aws
    filled = {"S3Bucket": aws.artifact_bucket, "FlowName": deployment.graph.name, "AWSEndpoint": aws.endpoint}
    values = (filled[each.value] if isinstance(each, Intrinsic) else each for each in variables.values())
    return sum(len(text.encode()) for text in (*variables, *values))
