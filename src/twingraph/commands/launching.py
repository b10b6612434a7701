"""What `twingraph serve` and `twingraph worker` are told of executions that run as jobs of an engine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twingraph.errors import TwinGraphError
from twingraph.settings import launch_settings

if TYPE_CHECKING:
    from twingraph.server.launching import Launch

_ENGINES = ("kubernetes", "batch")
_RESOURCES = ("cpu", "memory", "gpu")
_OPTIONS = {"namespace": "namespace", "job_queue": "job_queue", "job_definition": "job_definition"}


def launch_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group(
        "executions as jobs",
        "Each execution is a job that runs `twingraph worker --once` against the database, which is PostgreSQL. Its\n"
        "image: FROM python:3.13-slim, RUN pip install 'lokki-twingraph[postgres]', COPY the files; no ENTRYPOINT.\n"
        "TWINGRAPH_LAUNCH, TWINGRAPH_LAUNCH_IMAGE and so on say what is not said here, and TWINGRAPH_LAUNCH_DB the\n"
        "URL of the database that jobs get, where that is another than --db.",
    )
    group.add_argument("--launch", choices=_ENGINES, help="where executions run, in place of processes here")
    group.add_argument(
        "--image", metavar="NAME", help="the image of jobs: it has TwinGraph, and the files as named here"
    )
    group.add_argument("--namespace", metavar="NAME", help="of Kubernetes; default: the kubeconfig's")
    group.add_argument("--job-queue", metavar="NAME", help="of Batch; default: TWINGRAPH_BATCH_QUEUE, batch.job_queue")
    group.add_argument("--job-definition", metavar="NAME", help="of Batch, in place of --image")
    group.add_argument("--cpu", metavar="N", help="processors of a job, such as 2 or 500m")
    group.add_argument("--memory", metavar="SIZE", help="memory of a job, such as 4G")
    group.add_argument("--gpu", metavar="N", type=int, help="GPUs of a job")
    group.add_argument(
        "--launch-config", metavar="JSON", help="what else a component on that platform takes as config=, as JSON"
    )


def launch_of(options: argparse.Namespace) -> Launch | None:
    """How executions are to be launched; None where they run here."""
    told = launch_settings()
    said = {name: getattr(options, name) or told.get(name) for name in ("launch", "image", *_OPTIONS, *_RESOURCES)}
    engine = said["launch"]
    if engine is None:
        return None
    if engine not in _ENGINES:
        raise TwinGraphError(
            f"Executions are launched on {' or '.join(_ENGINES)}, not on {engine!r} (TWINGRAPH_LAUNCH)."
        )
    from twingraph.server.launching import Launch

    config = {**_config(options.launch_config or told.get("config") or "{}")}
    config.update({key: said[name] for name, key in _OPTIONS.items() if said[name]})
    resources = {name: said[name] for name in _RESOURCES if said[name] is not None}
    return Launch(engine, said["image"], config, {**resources, **_gpus(resources)}, told.get("db", ""))


def _config(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise TwinGraphError(
            f'--launch-config takes a JSON object such as {{"service_account": "runner"}}: {error}.'
        ) from None
    if not isinstance(found, dict):
        raise TwinGraphError(f"--launch-config takes a JSON object, not {text!r}.")
    return found


def _gpus(resources: Mapping[str, Any]) -> dict[str, int]:
    try:
        return {"gpu": int(resources["gpu"])} if "gpu" in resources else {}
    except ValueError:
        raise TwinGraphError(f"TWINGRAPH_LAUNCH_GPU is a number of GPUs, not {resources['gpu']!r}.") from None
