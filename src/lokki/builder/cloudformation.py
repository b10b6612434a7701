"""The CloudFormation template of a flow: what `describe` said must exist, written down as resources.

Every parameter has a default from the configuration, so that the template deploys as it is. Names and places come from
parameters, so that one template can be deployed several times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lokki.builder import environment, parameters, permissions
from lokki.builder.intrinsics import Block, Intrinsic, arn, names, ref, sub, text_of
from lokki.builder.resources import Deployment, Function, Job
from lokki.errors import BuildError

Resources = dict[str, Any]
HANDLER = "handler.lambda_handler"
RETENTION_DAYS = 30  # how long CloudWatch keeps what a flow logs
LARGEST_TEMPLATE = 1_048_576
MOST_RESOURCES = 500
_NOTED = {"BatchJobDefinitionName": "job-definitions", "ECRRepoPrefix": "image-repository", "ImageTag": "image-tag"}


def build_template(deployment: Deployment, definition: str, *, module: str, python: str, code: str) -> str:
    """The template as YAML.

    Args:
        deployment: what must exist.
        definition: the text of the state machine.
        module: the name under which a function imports the flow's file.
        python: the version of Python that functions run on, as in "3.13".
        code: a hash of all that the package holds.
    """
    resources: Resources = {}
    for function in deployment.functions:
        resources |= log_group(permissions.log_group(function), f"/aws/lambda/{function.name}")
        resources |= _function(deployment, function, module, python, code)
    resources |= function_role(deployment)
    resources |= jobs(deployment, module, code)
    resources |= machine_role(deployment)
    resources |= _machine(deployment, definition)
    resources |= _schedule(deployment)
    known = parameters.of(deployment)
    _note(resources["StateMachine"]["Properties"], known.keys() - names(resources))
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"The flow {deployment.graph.name}, built by lokki",
        "Parameters": known,
        "Resources": resources,
        "Outputs": _outputs(deployment, code),
    }
    return _checked(template, deployment)


def log_group(logical: str, name: str) -> Resources:
    """A log group whose lines are kept for a while, rather than one that its first line makes for ever."""
    properties = {"LogGroupName": sub(name), "RetentionInDays": RETENTION_DAYS, "Tags": tags()}
    return {logical: {"Type": "AWS::Logs::LogGroup", "Properties": properties}}


def function_role(deployment: Deployment) -> Resources:
    """The role of the functions, unless one is configured."""
    if permissions.given_role(deployment.config, "lambda_execution_role") or not deployment.functions:
        return {}
    return _role("LambdaExecution", "lambda.amazonaws.com", permissions.of_functions(deployment))


def function_role_arn(deployment: Deployment) -> Intrinsic | str:
    """The ARN of the role of the functions."""
    return permissions.given_role(deployment.config, "lambda_execution_role") or arn("LambdaExecutionRole")


def machine_role(deployment: Deployment) -> Resources:
    """The role of the state machine, unless one is configured."""
    if permissions.given_role(deployment.config, "stepfunctions_role"):
        return {}
    return _role("StepFunctionsExecution", "states.amazonaws.com", permissions.of_machine(deployment))


def machine_role_arn(deployment: Deployment) -> Intrinsic | str:
    """The ARN of the role of the state machine."""
    return permissions.given_role(deployment.config, "stepfunctions_role") or arn("StepFunctionsExecutionRole")


def schedule_role() -> Resources:
    """The role of the schedule."""
    return _role("Events", "events.amazonaws.com", permissions.of_schedule())


def jobs(deployment: Deployment, module: str, code: str) -> Resources:
    """The job definitions with their roles and their log group."""
    if not deployment.jobs:
        return {}
    given = permissions.given_role(deployment.config, "lambda_execution_role")
    resources = log_group("BatchLogGroup", "/aws/batch/${FlowName}")
    if not given:
        resources |= _role("BatchJob", "ecs-tasks.amazonaws.com", permissions.of_jobs(deployment))
    resources |= _role("BatchExecution", "ecs-tasks.amazonaws.com", permissions.of_job_execution(deployment))
    role = given or arn("BatchJobRole")
    return resources | {job.logical: _job(deployment, job, role, module, code) for job in deployment.jobs}


def substitutions(deployment: Deployment, definition: str) -> dict[str, Any]:
    """What stands for the names in the text of the state machine."""
    known: dict[str, Any] = {name: ref(name) for name in ("FlowName", "S3Bucket", "BatchJobQueue")}
    known |= {f"{function.logical}Arn": arn(function.logical) for function in deployment.functions}
    known |= {f"{job.logical}Arn": ref(job.logical) for job in deployment.jobs}
    return {name: value for name, value in known.items() if f"${{{name}}}" in definition}


def tags(**more: str) -> list[dict[str, Any]]:
    """By which everything that belongs to a flow can be found."""
    return [{"Key": key, "Value": value} for key, value in tag_map(**more).items()]


def tag_map(**more: str) -> dict[str, Any]:
    """The same for what takes its tags as a table."""
    found = {"lokki:managed": "true", "lokki:flow-name": ref("FlowName")}
    return found | {f"lokki:{key}": value for key, value in more.items()}


def image(deployment: Deployment) -> Intrinsic | str:
    """The image of the functions; without a registry it is one of this machine."""
    local = deployment.config.aws.image_repository.strip("/") in ("", "local")
    return sub(f"{'' if local else '${ECRRepoPrefix}/'}${{FlowName}}:${{ImageTag}}")


def _function(deployment: Deployment, function: Function, module: str, python: str, code: str) -> Resources:
    zipped = parameters.package_type(deployment) == "Zip"
    place = {"S3Bucket": ref("S3Bucket"), "S3Key": sub(_key(deployment, code))}
    properties = {
        "FunctionName": sub(function.name),
        "Description": function.about[:256],
        "Role": function_role_arn(deployment),
        "PackageType": ref("PackageType"),
        "Code": place if zipped else {"ImageUri": image(deployment)},
        **({"Runtime": f"python{python}", "Handler": HANDLER} if zipped else {}),
        "Architectures": [deployment.config.lambda_.architecture],
        "Timeout": function.timeout,
        "MemorySize": function.memory,
        "Environment": {"Variables": environment.of_function(deployment, function, module)},
        "Tags": tags(code=code),
    }
    # Lambda makes the log group that it misses, and then keeps its lines for ever
    after = [permissions.log_group(function)]
    return {function.logical: {"Type": "AWS::Lambda::Function", "DependsOn": after, "Properties": properties}}


def _key(deployment: Deployment, code: str) -> str:
    return f"{deployment.root}/artifacts/lambdas/{code[:16]}/function.zip"


def _job(deployment: Deployment, job: Job, role: Intrinsic | str, module: str, code: str) -> dict[str, Any]:
    variables = environment.of_job(deployment, job, module)
    options = {
        "awslogs-group": ref("BatchLogGroup"),
        "awslogs-region": ref("AWS::Region"),
        "awslogs-stream-prefix": job.key,
    }
    container = {
        "Image": _job_image(deployment),
        "Command": ["python", "batch_main.py"],
        "JobRoleArn": role,
        "ExecutionRoleArn": arn("BatchExecutionRole"),
        "ResourceRequirements": [
            {"Type": "VCPU", "Value": str(job.vcpu)},
            {"Type": "MEMORY", "Value": str(job.memory)},
        ],
        "Environment": [{"Name": name, "Value": value} for name, value in variables.items()],
        "LogConfiguration": {"LogDriver": "awslogs", "Options": options},
        **_fargate(deployment),
    }
    properties = {
        "JobDefinitionName": sub(_job_name(deployment, job)),
        "Type": "container",
        "PlatformCapabilities": [deployment.config.batch.platform.upper()],
        "ContainerProperties": container,
        "Timeout": {"AttemptDurationSeconds": job.timeout},
        # only what is nobody's fault is tried again here; the step's own errors are the runtime's to judge
        "RetryStrategy": {
            "Attempts": 3,
            "EvaluateOnExit": [
                {"Action": "RETRY", "OnStatusReason": "Host EC2*"},
                {"Action": "EXIT", "OnReason": "*"},
            ],
        },
        "Tags": tag_map(code=code),
    }
    return {"Type": "AWS::Batch::JobDefinition", "Properties": properties}


def _fargate(deployment: Deployment) -> dict[str, Any]:
    """What a container says on Fargate only."""
    batch = deployment.config.batch
    if batch.platform != "fargate":
        return {}
    return {
        "NetworkConfiguration": {"AssignPublicIp": "ENABLED"},  # else it cannot pull its image in a public subnet
        "RuntimePlatform": {"CpuArchitecture": batch.architecture.upper(), "OperatingSystemFamily": "LINUX"},
    }


def _job_image(deployment: Deployment) -> Intrinsic | str:
    config = deployment.config
    repository = config.aws.image_repository.strip("/")
    if config.batch.image or repository in ("", "local"):
        return sub(permissions.job_image(config))
    return sub(permissions.job_image(config).replace(repository, "${ECRRepoPrefix}", 1))


def _job_name(deployment: Deployment, job: Job) -> str:
    base = deployment.config.batch.job_definition_name or "${FlowName}"
    start, joint, rest = job.name.partition(f"{base}-")
    return job.name if start or not joint else f"${{BatchJobDefinitionName}}-{rest}"


def _machine(deployment: Deployment, definition: str) -> Resources:
    properties = {
        "StateMachineName": ref("FlowName"),
        "StateMachineType": "STANDARD",
        "RoleArn": machine_role_arn(deployment),
        "DefinitionString": Block(definition),
        "DefinitionSubstitutions": substitutions(deployment, definition),
        "Tags": tags(),
    }
    return {"StateMachine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}


def _schedule(deployment: Deployment) -> Resources:
    if deployment.schedule is None:
        return {}
    target = {
        "Id": "StateMachine",
        "Arn": ref("StateMachine"),
        "RoleArn": arn("EventsRole"),
        "Input": "{}",  # otherwise the event itself would be taken for the flow's parameters
    }
    properties = {
        "Description": f"Starts the flow {deployment.graph.name}",
        "ScheduleExpression": deployment.schedule,
        "State": "ENABLED",
        "Targets": [target],
        "Tags": tags(),
    }
    return schedule_role() | {"ScheduleRule": {"Type": "AWS::Events::Rule", "Properties": properties}}


def _role(name: str, service: str, statements: list[permissions.Statement]) -> Resources:
    first, *more = permissions.parted(statements)
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    properties: dict[str, Any] = {"AssumeRolePolicyDocument": _policy([trust])}
    beside: Resources = {}
    if more:
        for number, part in enumerate([first, *more], 1):
            policy = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": _policy(part)}}
            beside[f"{name}Policy{number}"] = policy
        properties["ManagedPolicyArns"] = [ref(each) for each in beside]
    else:
        properties["Policies"] = [{"PolicyName": f"{name}Policy", "PolicyDocument": _policy(first)}]
    properties["Tags"] = tags()
    return beside | {f"{name}Role": {"Type": "AWS::IAM::Role", "Properties": properties}}


def _policy(statements: list[permissions.Statement]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _outputs(deployment: Deployment, code: str) -> dict[str, Any]:
    zipped = parameters.package_type(deployment) == "Zip"
    place = sub(f"s3://${{S3Bucket}}/{_key(deployment, code)}") if zipped else image(deployment)
    return {
        "StateMachineArn": {"Description": "What runs the flow", "Value": ref("StateMachine")},
        "StateMachineName": {"Description": "Its name", "Value": Intrinsic("!GetAtt", "StateMachine.Name")},
        "CodeLocation": {"Description": "Where the code of the functions lies", "Value": place},
    }


def _note(machine: dict[str, Any], unused: set[str]) -> None:
    """Parameters that nothing else uses become tags of the machine, so that every template takes the same ones."""
    machine["Tags"] += [{"Key": f"lokki:{_NOTED[name]}", "Value": ref(name)} for name in sorted(unused)]


def _checked(template: Mapping[str, Any], deployment: Deployment) -> str:
    text, flow, count = text_of(template), deployment.graph.name, len(template["Resources"])
    if count > MOST_RESOURCES:
        raise BuildError(
            f"Flow {flow!r} takes {count} resources, and one stack holds {MOST_RESOURCES}: split the flow."
        )
    if len(text.encode()) > LARGEST_TEMPLATE:
        raise BuildError(
            f"The template of flow {flow!r} takes {len(text.encode()):,} bytes, and CloudFormation allows "
            f"{LARGEST_TEMPLATE:,}: split the flow."
        )
    return text
