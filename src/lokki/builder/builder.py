"""The build: all stages in order, and the one place that writes.

`compile_flow` is a function of the flow, the configuration, the project's files and its lock: the same in gives the
same bytes out, on any machine. `write` puts them where `build_dir` says.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from lokki.builder.cloudformation import build_template
from lokki.builder.dependencies import install, python_version, requirements
from lokki.builder.package import Package, batch_files, lambda_files
from lokki.builder.program import program_of
from lokki.builder.resources import Deployment, describe
from lokki.builder.sam import build_sam
from lokki.builder.source import BUILT, collect
from lokki.builder.state_machine import build_state_machine, text_of
from lokki.decorators import Flow
from lokki.errors import BuildError, ConfigurationError
from lokki.frozen import frozen
from lokki.graph import FlowGraph
from lokki.settings import LokkiConfig


@frozen
class Bundle:
    """A built flow: every file, by its path below `build_dir`.

    Attributes:
        deployment: what must exist for it.
        files: the content of each file.
        functions: the package of the functions.
        jobs: the package of the Batch jobs, if there are any.
        python: the Python that functions run on.
        root: the folder that the names of the project's modules start from.
        warnings: sentences about what may not be as meant.
    """

    deployment: Deployment
    files: Mapping[str, bytes]
    functions: Package
    jobs: Package | None
    python: str
    root: str
    warnings: tuple[str, ...]


class Builder:
    """Builds flows."""

    @staticmethod
    def build(graph: FlowGraph, config: LokkiConfig, defaults: Mapping[str, Any] | None = None) -> Bundle:
        """Build a flow into `config.build_dir`.

        Args:
            graph: what calling the flow returned.
            config: the configuration.
            defaults: parameters that an execution uses when its input does not give them.
        """
        bundle = compile_flow(graph, config, defaults)
        write(bundle, config.build_dir)
        return bundle


def compile_flow(
    graph: FlowGraph, config: LokkiConfig, defaults: Mapping[str, Any] | None = None, *, here: bool = False
) -> Bundle:
    """All that `Builder.build` writes, unwritten; with `here`, with packages that run on this machine's Python."""
    flow = graph.remake
    if not isinstance(flow, Flow):
        raise BuildError(
            f"Flow {graph.name!r} was not made by a flow function, so no execution could evaluate it: it cannot be "
            "compiled. Write it with @flow and a chain of steps."
        )
    if not config.aws.artifact_bucket:
        raise ConfigurationError(
            "aws.artifact_bucket is not set: name the S3 bucket for packages and values in lokki.toml "
            '([aws] artifact_bucket = "...") or in LOKKI_ARTIFACT_BUCKET.',
            "aws.artifact_bucket",
        )
    deployment = describe(graph, config)
    _check_schedule(deployment, flow, defaults or {})
    definition = text_of(build_state_machine(deployment, defaults))
    source = collect(flow, config)
    program = program_of(deployment, flow, source.module, source.files)
    python = python_version(config, source.project)
    pinned = requirements(source.project)
    with _temporary() as folder:
        version, processor = (None, None) if here else (python, config.lambda_.architecture)
        needed = pinned if config.lambda_.package_type == "zip" else ""
        installed = install(needed, folder, version, processor, source.project)
        functions = lambda_files(source, program, config, python, pinned, installed)
    jobs = batch_files(source, program, config, python, pinned) if deployment.jobs else None
    told = {"module": source.module, "python": python, "code": functions.digest}
    files = {
        **functions.files,
        **(jobs.files if jobs else {}),
        "statemachine.json": definition.encode(),
        "template.yaml": build_template(deployment, definition, **told).encode(),
        "sam.yaml": build_sam(deployment, definition, **told).encode(),
    }
    files[".gitignore"] = b"*\n"
    files[BUILT] = _mark(deployment, functions, jobs)
    return Bundle(deployment, dict(sorted(files.items())), functions, jobs, python, source.root, source.warnings)


def _temporary() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="lokki-")
    except OSError as error:
        raise BuildError(
            f"There is no place for temporary files: {error.strerror}. Make room, or set TMPDIR to a folder that has "
            "some."
        ) from error


def write(bundle: Bundle, build_dir: str) -> None:
    """Write a bundle in place of what an earlier build wrote there; a folder that no build has made stays as it is."""
    target = os.path.realpath(build_dir)
    _check_target(target, build_dir)
    parent = os.path.dirname(target)
    try:
        os.makedirs(parent, exist_ok=True)
        new = tempfile.mkdtemp(prefix=f".{os.path.basename(target)}-", dir=parent)
        try:
            for path, content in bundle.files.items():
                _write_file(os.path.join(new, path), content)
            os.chmod(new, 0o755)  # noqa: S103 - a folder like any other: mkdtemp makes it for its owner only
            _put_in_place(new, target, build_dir)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    except OSError as error:
        raise BuildError(f"{build_dir} cannot be written: {error.strerror or error}.") from error


def _check_target(target: str, shown: str) -> None:
    if all(_is_foreign(target, shown) for _ in range(2)):  # a folder that another build just removes is half empty
        raise BuildError(
            f"{shown} holds files that no build has made (there is no {BUILT} in it), and a build replaces the "
            "whole folder. Set build_dir to another folder, or empty this one."
        )


def _is_foreign(target: str, shown: str) -> bool:
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        why = "is a file" if os.path.isfile(target) else f"cannot be read ({error.strerror})"
        raise BuildError(f"{shown} {why}: set build_dir to another folder.") from error
    return bool(names) and BUILT not in names


def _write_file(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def _put_in_place(new: str, target: str, shown: str) -> None:
    """Two builds at once: the last one stays, whole."""
    for number in count():
        _check_target(target, shown)
        old = f"{new}-old-{number}"
        try:
            with suppress(FileNotFoundError):
                os.rename(target, old)
            os.rename(new, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another build was quicker: that is the older one
                raise
        finally:
            if not os.path.lexists(target):
                with suppress(OSError):
                    os.rename(old, target)
            shutil.rmtree(old, ignore_errors=True)


def _check_schedule(deployment: Deployment, flow: Flow, defaults: Mapping[str, Any]) -> None:
    missing = [each.flag for each in flow.parameters if each.required and each.name not in defaults]
    if deployment.schedule and missing:
        raise BuildError(
            f"Flow {flow.name!r} starts by itself ({deployment.schedule}), and nothing gives it {', '.join(missing)}: "
            f"give a default in its signature, or build with {missing[0]} ..."
        )


def _mark(deployment: Deployment, functions: Package, jobs: Package | None) -> bytes:
    """What deploying needs to know of a build, and how the folder is recognised."""
    told = {
        "flow": deployment.graph.name,
        "fingerprint": deployment.graph.fingerprint,
        "package_type": deployment.config.lambda_.package_type,
        "code": functions.digest,
        "jobs": jobs.digest if jobs else None,
        "functions": {each.key: each.name for each in deployment.functions},
    }
    return (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()
