"""What a built template deploys, read back from its text: with the defaults of its parameters, as CloudFormation would.

So a simulation runs what was written and not what the build had in mind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_ACCOUNT = "123456789012"
_REGION = "us-east-1"
_PSEUDO = {"AWS::AccountId": _ACCOUNT, "AWS::Region": _REGION, "AWS::Partition": "aws", "AWS::NoValue": None}
_ARNS = {
    "AWS::Lambda::Function": ("FunctionName", f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:"),
    "AWS::Batch::JobDefinition": ("JobDefinitionName", f"arn:aws:batch:{_REGION}:{_ACCOUNT}:job-definition/"),
}
_LAMBDA, _JOB, _MACHINE = "AWS::Lambda::Function", "AWS::Batch::JobDefinition", "AWS::StepFunctions::StateMachine"


class Template:
    """A template whose functions (`!Ref`, `!Sub`, `!GetAtt`) are worked out."""

    def __init__(self, text: str, parameters: Mapping[str, str] | None = None) -> None:
        data = _loaded(text)
        defaults = {name: each.get("Default", "") for name, each in data["Parameters"].items()}
        self._values: dict[str, Any] = {**_PSEUDO, **defaults, **(parameters or {})}
        self._resources: dict[str, Any] = data["Resources"]

    @property
    def machine(self) -> tuple[str, str]:
        """The name of the state machine, and its definition with everything filled in."""
        (properties,) = self._of(_MACHINE).values()
        definition: str = properties["DefinitionString"]
        for name, value in properties["DefinitionSubstitutions"].items():
            definition = definition.replace(f"${{{name}}}", str(value))
        return properties["StateMachineName"], definition

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        """The properties of each function, by its ARN."""
        return {self._arn(name): properties for name, properties in self._of(_LAMBDA).items()}

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """The properties of each job definition, by its ARN."""
        return {self._arn(name): properties for name, properties in self._of(_JOB).items()}

    def _of(self, kind: str) -> dict[str, dict[str, Any]]:
        return {
            name: self._resolved(each["Properties"]) for name, each in self._resources.items() if each["Type"] == kind
        }

    def _resolved(self, value: Any) -> Any:
        match value:
            case {"Ref": name}:
                return self._ref(name)
            case {"Fn::GetAtt": name}:
                return self._ref(name.partition(".")[0])
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", lambda found: str(self._ref(found[1])), text)
            case dict():
                resolved = {name: self._resolved(each) for name, each in value.items()}
                return {name: each for name, each in resolved.items() if each is not None}
            case list():
                return [self._resolved(each) for each in value]
            case _:
                return value

    def _ref(self, name: str) -> Any:
        name = name.removesuffix(".Arn")
        return self._values[name] if name in self._values else self._arn(name)

    def _arn(self, logical: str) -> str:
        resource = self._resources[logical]
        if resource["Type"] not in _ARNS:
            return f"arn:aws:simulated:::{logical}"
        name, prefix = _ARNS[resource["Type"]]
        suffix = ":1" if resource["Type"] == _JOB else ""
        return f"{prefix}{self._resolved(resource['Properties'][name])}{suffix}"


def _loaded(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Keeps CloudFormation's short tags as what they stand for."""

    def tagged(name: str) -> Callable[[Any, Any], dict[str, Any]]:
        return lambda loader, node: {name: loader.construct_scalar(node)}

    for tag, name in (("!Ref", "Ref"), ("!Sub", "Fn::Sub"), ("!GetAtt", "Fn::GetAtt")):
        Loader.add_constructor(tag, tagged(name))
    return yaml.load(text, Loader)  # noqa: S506 - a safe loader with three more tags
