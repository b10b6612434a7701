"""Templates as the tests read them: YAML in which every function of CloudFormation is the text that it makes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from built_flows import CODE, described

from lokki.builder.cloudformation import build_template
from lokki.builder.sam import build_sam
from lokki.decorators import Flow
from lokki.frozen import frozen
from lokki.settings import LokkiConfig


@frozen
class Built:
    """What a build writes for CloudFormation and SAM."""

    definition: str
    template: str
    sam: str

    @property
    def loaded(self) -> dict[str, Any]:
        """The template as data."""
        return load(self.template)

    @property
    def resources(self) -> dict[str, Any]:
        """Its resources: for each name its properties."""
        return {name: each["Properties"] for name, each in self.loaded["Resources"].items()}


def built(flow: Flow, config: LokkiConfig, code: str = CODE) -> Built:
    """All templates of a flow."""
    deployment, definition = described(flow, config)
    texts = (
        build(deployment, definition, module="birds", python="3.13", code=code) for build in (build_template, build_sam)
    )
    return Built(definition, *texts)


def load(text: str) -> dict[str, Any]:
    """A template as data: `!Ref A` is `${A}`, `!GetAtt A.Arn` is `${A.Arn}`, `!Sub text` is the text."""
    found: dict[str, Any] = yaml.load(text, _Loader)
    return found


def texts(value: Any) -> Iterator[str]:
    """Every text in a part of a template, values only."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def lint(files: Sequence[Path]) -> list[Any]:
    """What cfn-lint finds, errors and warnings; half of the files in each of two processes."""
    script = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "--format", "json"]
    halves = [subprocess.Popen([*command, *map(str, files[at::2])], stdout=subprocess.PIPE) for at in (0, 1)]
    return [each for half in halves for each in json.loads(half.communicate()[0])]


class _Loader(yaml.SafeLoader):
    pass


def _filled(_: yaml.SafeLoader, tag: str, node: yaml.Node) -> str:
    assert isinstance(node, yaml.ScalarNode)
    text: str = node.value
    return {"Ref": f"${{{text}}}", "GetAtt": f"${{{text}}}", "Sub": text}[tag]


_Loader.add_multi_constructor("!", _filled)
