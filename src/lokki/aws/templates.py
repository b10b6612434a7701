"""A template as a person thinks of it: its parameters filled in, its resources by what they are to the flow.

What only CloudFormation can fill in, such as the ARN of a function, stays as `${Name.Arn}`. Templates of others can be
read as well: a function that lokki does not write stays as data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lokki.frozen import frozen

FUNCTION = "AWS::Lambda::Function"
JOB = "AWS::Batch::JobDefinition"
LOG = "AWS::Logs::LogGroup"
MACHINE = "AWS::StepFunctions::StateMachine"
POLICY = "AWS::IAM::ManagedPolicy"
ROLE = "AWS::IAM::Role"
RULE = "AWS::Events::Rule"
_NAME = re.compile(r"\$\{([A-Za-z0-9:.]+)\}")
_ROLES = {
    "LambdaExecution": "role of the functions",
    "StepFunctionsExecution": "role of the state machine",
    "BatchJob": "role of the Batch jobs",
    "BatchExecution": "role that starts the Batch jobs",
    "Events": "role of the schedule",
}
_ROLE_NAME = re.compile(r"(?P<role>\w+?)(Role|Policy\d*)")
_JOINED = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@frozen
class Resource:
    """A resource: its type, and its properties with all parameters filled in."""

    kind: str
    properties: Mapping[str, Any]

    @property
    def worker(self) -> str:
        """The step or body that a function or a job runs, or nothing."""
        if self.kind == FUNCTION:
            return str(self.variables.get("LOKKI_STEP_NAME", ""))
        return str(self.variables.get("LOKKI_STEP_NAME", "")) if self.kind == JOB else ""

    @property
    def variables(self) -> Mapping[str, Any]:
        """The environment of a function or a job."""
        if self.kind == JOB:
            given = self.properties.get("ContainerProperties", {}).get("Environment", [])
            return {each["Name"]: each["Value"] for each in given}
        found: Mapping[str, Any] = self.properties.get("Environment", {}).get("Variables", {})
        return found


class Template:
    """A template, read.

    Args:
        body: its text, or the data that boto3 makes of one in JSON.
        values: the values of its parameters and of AWS's own, as `AWS::Region`; else a parameter's default.
    """

    def __init__(self, body: str | Mapping[str, Any], values: Mapping[str, str] | None = None) -> None:
        data = loaded(body) if isinstance(body, str) else body
        defaults = {name: each.get("Default", "") for name, each in (data.get("Parameters") or {}).items()}
        self.parameters: dict[str, str] = {name: str(value) for name, value in defaults.items()}
        self.parameters |= {name: value for name, value in (values or {}).items() if name in defaults}
        self._values = {**(values or {}), **self.parameters}
        self.description = str(data.get("Description", ""))
        self.outputs: dict[str, Any] = self._filled(data.get("Outputs") or {})
        self.resources = {
            name: Resource(each.get("Type", ""), self._filled(each.get("Properties") or {}))
            for name, each in (data.get("Resources") or {}).items()
        }

    @property
    def ours(self) -> bool:
        """Whether a build wrote it."""
        return self.description.endswith("built by lokki")

    def of(self, kind: str) -> dict[str, Resource]:
        """The resources of a type."""
        return {name: each for name, each in self.resources.items() if each.kind == kind}

    def called(self, logical: str) -> str:
        """What a resource is to the flow, as in `step flap_bird`."""
        found = self.resources.get(logical)
        if found is None:
            return logical
        match found.kind:
            case "AWS::Lambda::Function":
                return f"step {found.worker or logical}"
            case "AWS::Batch::JobDefinition":
                return f"Batch job {found.worker or logical}"
            case "AWS::Logs::LogGroup":
                return self._log(logical)
            case "AWS::IAM::Role" | "AWS::IAM::ManagedPolicy":
                named = _ROLE_NAME.fullmatch(logical)
                return _ROLES.get(named["role"] if named else "", f"role {logical}")
            case "AWS::StepFunctions::StateMachine":
                return "state machine"
            case "AWS::Events::Rule":
                return "schedule"
            case kind:
                return f"{' '.join(_JOINED.split(kind.rpartition('::')[2])).lower()} {logical}"

    def plainly(self, text: str) -> str:
        """A text in which resources are called what they are to the flow."""
        return _NAME.sub(lambda found: self._plain(found[1], found[0]), text)

    def _plain(self, name: str, spelled: str) -> str:
        logical = name.partition(".")[0]
        return self.called(logical) if logical in self.resources else spelled

    def _log(self, logical: str) -> str:
        of = logical.removesuffix("LogGroup")
        return f"log of {self.called(of)}" if of in self.resources else "log of the Batch jobs"

    def _filled(self, value: Any) -> Any:
        match value:
            case {"Ref": str(name), **others} if not others:
                return self._values.get(name, f"${{{name}}}")
            case {"Fn::Sub": str(text), **others} if not others:
                return _NAME.sub(lambda found: str(self._values.get(found[1], found[0])), text)
            case {"Fn::GetAtt": path, **others} if not others:
                return f"${{{path if isinstance(path, str) else '.'.join(map(str, path))}}}"
            case Mapping():
                return {name: self._filled(each) for name, each in value.items()}
            case list():
                return [self._filled(each) for each in value]
            case _:
                return value


def loaded(text: str) -> Mapping[str, Any]:
    """The text of a template as data, CloudFormation's short tags spelled out."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Knows CloudFormation's short tags."""

    def tagged(loader: Any, tag: str, node: Any) -> dict[str, Any]:
        name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
        if isinstance(node, yaml.ScalarNode):
            return {name: loader.construct_scalar(node)}
        if isinstance(node, yaml.SequenceNode):
            return {name: loader.construct_sequence(node, deep=True)}
        return {name: loader.construct_mapping(node, deep=True)}

    Loader.add_multi_constructor("!", tagged)
    data = yaml.load(text, Loader)  # noqa: S506 - a safe loader with more tags
    return data if isinstance(data, Mapping) else {}
