"""A template as data, and that data as YAML: CloudFormation's functions as values that know their short tags.

What a template says twice on different machines must be the same bytes, so the order of keys is the order in which
they were put in, no line is wrapped, and nothing is abbreviated with YAML's anchors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lokki.frozen import frozen

_NAME = re.compile(r"\$\{([A-Za-z0-9:.]+)\}")


@frozen
class Intrinsic:
    """A function of CloudFormation, as in `!Ref S3Bucket`: its short tag and what stands after it."""

    tag: str
    value: str


@frozen
class Block:
    """A long text, written line by line."""

    text: str


def ref(name: str) -> Intrinsic:
    """The value of a parameter, or what identifies a resource."""
    return Intrinsic("!Ref", name)


def arn(logical: str) -> Intrinsic:
    """The ARN of a resource of this template."""
    return Intrinsic("!GetAtt", f"{logical}.Arn")


def sub(text: str) -> Intrinsic | str:
    """A text with `${names}` in it that are filled in at deployment."""
    if whole := _NAME.fullmatch(text):
        return ref(whole[1])
    return Intrinsic("!Sub", text) if _NAME.search(text) else text


def names(value: Any) -> set[str]:
    """The parameters, pseudo parameters and resources that a part of a template refers to."""
    match value:
        case Intrinsic("!Sub", text):
            return {name.partition(".")[0] for name in _NAME.findall(text)}
        case Intrinsic(_, name):
            return {name.partition(".")[0]}
        case Mapping():
            return set().union(*(names(each) for each in value.values()))
        case list() | tuple():
            return set().union(*(names(each) for each in value))
        case _:
            return set()


def text_of(template: Mapping[str, Any]) -> str:
    """The template as YAML."""
    import yaml

    class Dumper(yaml.SafeDumper):
        analysis: Any
        event: Any

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def choose_scalar_style(self) -> str:
            style: str = super().choose_scalar_style()
            bare = style == "'" and self.event.tag.startswith("!") and self.analysis.allow_block_plain
            return "" if bare else style  # !Ref S3Bucket rather than !Ref 'S3Bucket'

    def intrinsic(dumper: yaml.SafeDumper, value: Intrinsic) -> yaml.Node:
        return dumper.represent_scalar(value.tag, value.value)

    def block(dumper: yaml.SafeDumper, value: Block) -> yaml.Node:
        # the other line breaks that Unicode has do not survive in a block
        style = '"' if re.search("[\x85\u2028\u2029]", value.text) else "|"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value.text, style)

    Dumper.add_representer(Intrinsic, intrinsic)
    Dumper.add_representer(Block, block)
    return yaml.dump(dict(template), Dumper=Dumper, sort_keys=False, width=float("inf"), allow_unicode=True)
