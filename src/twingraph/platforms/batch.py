"""Calls as jobs of AWS Batch: each is submitted with a link to its parcel in a bucket, which its container opens.

With `array_size` a call is an array job: every child is called with the same arguments, finds its number in the
variable AWS_BATCH_JOB_ARRAY_INDEX, and does its share. The call returns `{"results": [...], "array_size": n}`, in the
order of these numbers.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from math import ceil
from time import monotonic
from typing import Any

from lokki.frozen import replace
from twingraph.envelope import pack, worker_source
from twingraph.errors import ComponentError, PlatformError, PlatformUnavailableError
from twingraph.placed import Outcome, Placed
from twingraph.platforms import owners
from twingraph.platforms.aws import options
from twingraph.platforms.aws.account import Account, Accounts, described, refusals, tags
from twingraph.platforms.aws.definitions import Definitions, content, requirements
from twingraph.platforms.aws.entry import INDEX
from twingraph.platforms.aws.jobs import ANSWERS, CALL, Job
from twingraph.platforms.aws.left import sweep
from twingraph.platforms.aws.parcels import Parcels
from twingraph.platforms.aws.watch import Watch

_MOST_CHILDREN = 10_000
_VCPUS, _MEMORY = 1.0, 2048  # of a job whose definition is registered here, where nothing else is said
_LEAST_LIMIT = 60  # seconds; Batch knows no shorter time limit
_LARGEST_OVERRIDES = 7500  # characters; ECS takes 8192, and adds some of its own
_LINK = "TWINGRAPH_CALL"
_START = f"""\
import json, os, time, urllib.request
link = os.environ.pop("{_LINK}")
for wait in (1, 5, 20, 0):
    try:
        parcel = json.load(urllib.request.urlopen(link, timeout=60))
        break
    except OSError as error:
        if not wait or getattr(error, "code", 500) < 500:
            raise
        time.sleep(wait)
names = {{"__name__": "twingraph_entry"}}
exec(parcel["entry"], names)
names["run"](parcel)
"""


class Batch:
    """The platform."""

    name = "batch"
    options = frozenset({
        "job_definition", "job_queue", "vcpus", "memory", "gpu", "array_size", "environment", "timeout", "job_role",
        "execution_role", "fargate", "share_identifier", "bucket", "region", "endpoint", "pickle",
    })  # fmt: skip

    def __init__(self) -> None:
        self._accounts = Accounts()
        self._definitions = Definitions()
        self._watches: dict[Account, Watch] = {}
        self._lock = threading.Lock()

    def check(self) -> str:
        account = self._accounts.of({})
        told = described(account, "AWS Batch")
        with refusals("list the job queues"):
            found = account.client("batch").describe_job_queues()["jobQueues"]
        names = sorted(each["jobQueueName"] for each in found if each["state"] == "ENABLED")
        if not names:
            raise PlatformUnavailableError(f"{told} has no job queue that is enabled: create one.")
        return f"{told}, with the job queue{'s' if len(names) > 1 else ''} {', '.join(names)}"

    def start(self, call: Placed) -> Job:
        began = monotonic()
        account = self._accounts.of(call.placement.config)
        queue = _queue(call, account)
        size = options.whole(call, "array_size", 1, _MOST_CHILDREN)
        request, needs = _request(call, queue, size), _needs(call)
        definition = options.text(call, "job_definition")
        if call.command:
            request["containerOverrides"] = _commanded(call, needs)
            job = self._submitted(account, call, request, definition)
            return Job(call, account, None, self._watch(account), job, queue, None, began)
        parcels = Parcels(account, call.id, 2 * call.placement.timeout + 3600 if call.placement.timeout else 1e9)
        try:
            parcels.put(CALL, self._parcel(call, parcels, size))
            request["containerOverrides"] = _overrides(call, needs, parcels.to_read(CALL))
            job = self._submitted(account, call, request, definition)
        except BaseException:
            parcels.remove()
            raise
        return Job(call, account, parcels, self._watch(account), job, queue, size, began)

    def poll(self, job: Job, seconds: float) -> Outcome | None:
        return job.look(seconds)

    def cancel(self, job: Job) -> None:
        job.terminate()

    def clear(self, job: Job) -> None:
        job.clear()

    def sweep(self, config: Mapping[str, Any], orphaned: owners.Orphaned) -> None:
        """End the jobs that nobody waits for any more, in the queue that this configuration leads to."""
        account = self._accounts.of(config)
        if queue := str(config.get("job_queue") or account.queue):
            sweep(account, queue, orphaned)

    def _submitted(self, account: Account, call: Placed, request: Mapping[str, Any], definition: str) -> str:
        arn = definition or self._registered(account, call)
        client = account.client("batch")
        with refusals(f"submit a job for {call.who[0].lower()}{call.who[1:]} to queue {request['jobQueue']!r}"):
            try:
                answer = client.submit_job(jobDefinition=arn, **request)
            except client.exceptions.ClientException:
                if definition:
                    raise
                self._definitions.forget(account, arn)  # perhaps it was removed
                answer = client.submit_job(jobDefinition=self._registered(account, call), **request)
        return str(answer["jobId"])

    def _registered(self, account: Account, call: Placed) -> str:
        """A job definition for the image that the component names."""
        image = call.placement.image
        if image is None:
            raise PlatformError(
                f"{call.who} does not say what its job runs in: name a job definition in "
                "config={'job_definition': ...}, or an image in docker_image, for which one is registered."
            )
        roles = options.text(call, "job_role"), options.text(call, "execution_role")
        told = content(image, _VCPUS, _MEMORY, *roles, options.flag(call, "fargate"))
        return self._definitions.of(account, call.component, told, call.placement.labels)

    def _parcel(self, call: Placed, parcels: Parcels, size: int | None) -> bytes:
        """All that the container needs: how it starts, the worker, the call, and where to post the answer."""
        if size == 1:  # Batch has no arrays of one
            environment = {**call.placement.environment, INDEX: "0"}
            call = replace(call, placement=replace(call.placement, environment=environment))
        form = parcels.to_post(ANSWERS, map(str, range(size or 1)))
        told = {
            "id": call.id,
            "envelope": pack(call).decode(),
            "url": form.url,
            "fields": form.fields,
            **self._programs,
        }
        return json.dumps(told).encode()

    @cached_property
    def _programs(self) -> dict[str, str]:
        entry = files("twingraph.platforms.aws").joinpath("entry.py").read_text("utf-8")
        return {"entry": entry, "worker": worker_source()}

    def _watch(self, account: Account) -> Watch:
        with self._lock:
            return self._watches.setdefault(account, Watch(account))


def _queue(call: Placed, account: Account) -> str:
    queue = options.text(call, "job_queue") or account.queue
    if not queue:
        raise PlatformUnavailableError(
            f"{call.who} does not say which job queue it goes to: name one in "
            "config={'job_queue': ...}, TWINGRAPH_BATCH_QUEUE or batch.job_queue."
        )
    if call.placement.image is not None and options.text(call, "job_definition"):
        raise ComponentError(
            f"{call.who} names a job definition, which says what image jobs run in, and docker_image "
            "too: leave out one of them."
        )
    return queue


def _request(call: Placed, queue: str, size: int | None) -> dict[str, Any]:
    """What is asked of Batch, without what the container is told."""
    name = call.run if call.command else call.component
    plain = re.sub(r"[^\w-]", "-", name, flags=re.ASCII).strip("-") or "component"
    request: dict[str, Any] = {
        "jobName": f"{plain[:80]}-{call.id}",
        "jobQueue": queue,
        "retryStrategy": {"attempts": 1},  # trying again is the component's own policy
        "tags": tags(call.placement.labels, **_marks(call)),
        "propagateTags": True,
    }
    if call.placement.timeout:  # a job that nobody ends any more ends by itself
        request["timeout"] = {"attemptDurationSeconds": max(_LEAST_LIMIT, ceil(call.placement.timeout))}
    if size is not None and size > 1:
        request["arrayProperties"] = {"size": size}
    if share := options.text(call, "share_identifier"):
        request["shareIdentifier"] = share
    return request


def _marks(call: Placed) -> dict[str, str]:
    """What tells whose a job is, and whether anybody still waits for it."""
    told = {"component": call.component, "run": call.run, "owner": owners.owner(), "machine": owners.machine_label()}
    return {**told, "launch": call.id} if call.command else told


def _needs(call: Placed) -> list[dict[str, str]]:
    """What the component asks for, in Batch's words."""
    return requirements(
        options.processors(call, "vcpus"), options.mebibytes(call, "memory", 4, 2**31), options.graphics(call)
    )


def _commanded(call: Placed, needs: list[dict[str, str]]) -> dict[str, Any]:
    """What the container of a program is told."""
    return {
        "command": list(call.command),
        "environment": [{"name": name, "value": value} for name, value in call.placement.environment.items()],
        **({"resourceRequirements": needs} if needs else {}),
    }


def _overrides(call: Placed, needs: list[dict[str, str]], link: str) -> dict[str, Any]:
    """What the container is told: how to start, and what it may use."""
    overrides: dict[str, Any] = {
        "command": ["python3", "-c", _START],
        "environment": [{"name": _LINK, "value": link}],
        **({"resourceRequirements": needs} if needs else {}),
    }
    # The envelope has the variables too, for the function; here they are there when Python starts, if there is room.
    variables = [
        {"name": name, "value": value}
        for name, value in call.placement.environment.items()
        if not name.startswith("AWS_BATCH")
    ]
    whole = {**overrides, "environment": [*overrides["environment"], *variables]}
    return whole if len(json.dumps(whole)) <= _LARGEST_OVERRIDES else overrides
