"""`build`: what AWS takes, made from the flow."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lokki.commands.shared import Command, configuration, given, in_bytes, logging_options, made
from lokki.decorators import Flow
from lokki.outcome import complain

if TYPE_CHECKING:
    from lokki.builder import Bundle, Package

_SHOWN = 12  # files of a folder that are named one by one


def _build_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    logging_options(parser, flow, default=argparse.SUPPRESS)


def _build(flow: Flow, _spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.builder import Builder
    from lokki.builder.samples import sampled

    config = configuration(flow, options)
    params = given(flow, rest, options)
    complete = all(each.name in params for each in flow.parameters if each.required)
    graph = made(flow, params) if complete else sampled(flow, params)
    bundle = Builder.build(graph, config, defaults=params)
    for warning in bundle.warnings:
        complain(f"[WARNING] {warning}")
    print("\n".join(summary(bundle, config.build_dir)))


def summary(bundle: Bundle, build_dir: str) -> Iterator[str]:
    """What was built, in lines."""
    from lokki.builder.costs import per_thousand

    deployment = bundle.deployment
    yield f"Built {deployment.graph.name} into {build_dir}{os.sep}"
    yield from (f"  {line}" for line in _files(bundle))
    yield ""
    yield from _rows(
        ("functions", f"{len(deployment.functions)}: {', '.join(each.key for each in deployment.functions)}"),
        ("Batch jobs", ", ".join(each.key for each in deployment.jobs)),
        ("states", str(deployment.state_count)),
        ("code", _code(bundle)),
        ("schedule", deployment.schedule or ""),
    )
    yield ""
    yield from per_thousand(deployment)


def _rows(*rows: tuple[str, str]) -> Iterator[str]:
    return (f"{name:<11} {text}" for name, text in rows if text)


def _files(bundle: Bundle) -> Iterator[str]:
    """Each file with its size; the many of an image's folder as one line."""
    folders: dict[str, list[str]] = {}
    for path in bundle.files:
        if path == ".gitignore":
            continue
        folders.setdefault(path.partition("/")[0] if "/" in path else "", []).append(path)
    for folder, paths in sorted(folders.items(), reverse=True):
        if len(paths) > _SHOWN:
            total = in_bytes(sum(len(bundle.files[path]) for path in paths))
            yield f"{folder + '/':<24} {total:>10}  {len(paths)} files"
            continue
        yield from (f"{path:<24} {in_bytes(len(bundle.files[path])):>10}" for path in paths)


def _code(bundle: Bundle) -> str:
    package: Package = bundle.functions
    largest = ", ".join(f"{name} {in_bytes(size)}" for name, size in package.largest[:3])
    if not package.zipped:
        where = (
            ""
            if bundle.deployment.config.aws.image_repository
            else " on this machine (aws.image_repository is not set)"
        )
        return f"an image{where}; {in_bytes(package.unzipped)} besides the packages that it installs ({largest})"
    from lokki.builder.package import MOST_UNZIPPED

    limit = f"{in_bytes(package.unzipped)} of the {in_bytes(MOST_UNZIPPED)} that Lambda takes unzipped"
    return f"a zip of {in_bytes(package.zipped)}; {limit} ({largest})"


COMMAND = Command(
    "compile the flow for AWS: code, state machine and templates",
    "Writes the code of the functions, statemachine.json, template.yaml (CloudFormation) and sam.yaml to build_dir.\n"
    "Nothing is sent anywhere. Parameters given here become the defaults of the deployed flow; required ones may\n"
    "be left out, and are then given to each execution.",
    ("",),
    _build_options,
    _build,
    needs=False,
)
