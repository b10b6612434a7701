"""The same flow as a SAM template, for `sam build`, `sam local` and `sam deploy` from the build's folder.

Functions, state machine and schedule are SAM's own kinds of resources; roles, log groups and job definitions are those
of the CloudFormation template, so that both grant the same.
"""

from __future__ import annotations

from typing import Any

from lokki.builder import cloudformation, environment, parameters, permissions
from lokki.builder.intrinsics import arn, names, ref, sub, text_of
from lokki.builder.resources import Deployment, Function

CODE = "lambdas"  # where a build writes the code of the functions


def build_sam(deployment: Deployment, definition: str, *, module: str, python: str, code: str) -> str:
    """The SAM template as YAML; the arguments are those of `build_template`."""
    resources: dict[str, Any] = {}
    for function in deployment.functions:
        resources |= cloudformation.log_group(permissions.log_group(function), f"/aws/lambda/{function.name}")
        resources |= _function(deployment, function, module, code)
    resources |= cloudformation.function_role(deployment)
    resources |= cloudformation.jobs(deployment, module, code)
    resources |= cloudformation.machine_role(deployment)
    resources |= _machine(deployment, definition)
    used = names(resources)
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"The flow {deployment.graph.name}, built by lokki",
        "Parameters": {name: each for name, each in parameters.of(deployment).items() if name in used},
        "Globals": {"Function": _shared(deployment, python)},
        "Resources": resources,
        "Outputs": {"StateMachineArn": {"Description": "What runs the flow", "Value": ref("StateMachine")}},
    }
    return text_of(template)


def _shared(deployment: Deployment, python: str) -> dict[str, Any]:
    """What all functions have in common."""
    shared: dict[str, Any] = {"Architectures": [deployment.config.lambda_.architecture]}
    if parameters.package_type(deployment) == "Zip":
        shared |= {"Runtime": f"python{python}", "Handler": cloudformation.HANDLER}
    return shared


def _function(deployment: Deployment, function: Function, module: str, code: str) -> dict[str, Any]:
    zipped = parameters.package_type(deployment) == "Zip"
    properties = {
        "FunctionName": sub(function.name),
        "Description": function.about[:256],
        "Role": cloudformation.function_role_arn(deployment),
        "PackageType": parameters.package_type(deployment),
        **({"CodeUri": f"{CODE}/function.zip"} if zipped else {"ImageUri": _image(deployment)}),
        "Timeout": function.timeout,
        "MemorySize": function.memory,
        "Environment": {"Variables": environment.of_function(deployment, function, module)},
        "Tags": cloudformation.tag_map(code=code),
    }
    built = {"Dockerfile": "Dockerfile", "DockerContext": CODE, "DockerTag": deployment.config.lambda_.image_tag}
    resource = {
        "Type": "AWS::Serverless::Function",
        "DependsOn": [permissions.log_group(function)],
        **({} if zipped else {"Metadata": built}),
        "Properties": properties,
    }
    return {function.logical: resource}


def _image(deployment: Deployment) -> str:
    """The image as this machine knows it; `sam build` and `sam deploy` put another in its place."""
    return f"{deployment.graph.name}:{deployment.config.lambda_.image_tag}"


def _machine(deployment: Deployment, definition: str) -> dict[str, Any]:
    properties = {
        "Name": ref("FlowName"),
        "Type": "STANDARD",
        "Role": cloudformation.machine_role_arn(deployment),
        "DefinitionUri": "statemachine.json",
        "DefinitionSubstitutions": cloudformation.substitutions(deployment, definition),
        "Tags": cloudformation.tag_map(),
    }
    resources = {"StateMachine": {"Type": "AWS::Serverless::StateMachine", "Properties": properties}}
    if deployment.schedule is None:
        return resources
    properties["Events"] = {
        "Schedule": {
            "Type": "Schedule",
            "Properties": {
                "Description": f"Starts the flow {deployment.graph.name}",
                "Schedule": deployment.schedule,
                "Input": "{}",
                "RoleArn": arn("EventsRole"),
            },
        }
    }
    return cloudformation.schedule_role() | resources
