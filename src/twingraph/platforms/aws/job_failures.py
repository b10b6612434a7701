"""Why a job did not answer, in one sentence: what Batch and its container say of it, and what helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twingraph.errors import ComponentTimeoutError, PlatformError
from twingraph.platforms.aws.account import Account

_KILLED = 137
_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
_COMMON = ("Essential container in task exited", "Array Child Job failed")


def failure(caller: str, job: Mapping[str, Any]) -> Exception:
    """What became of a job that has failed, or that succeeded without an answer.

    Args:
        caller: who was called, as sentences call it.
        job: the job as Batch describes it.
    """
    container = job.get("container") or {}
    said = [str(job.get("statusReason") or ""), str(container.get("reason") or "")]
    text, code = " ".join(said), container.get("exitCode")
    image = container.get("image", "")
    who = f"{caller} in Batch job {job.get('jobName', job.get('jobId'))!r}"
    if "OutOfMemory" in text or code == _KILLED:
        sure = "needed" if "OutOfMemory" in text else "was killed, most likely because it needed"
        has = _memory(container)
        return PlatformError(
            f"{who} {sure} more memory than the job has{has}: raise that with config={{'memory': ...}} (MiB)."
        )
    if "timeout" in text.lower() and "duration" in text.lower():
        return ComponentTimeoutError(f"{who} was ended by Batch because it took longer than it may: raise timeout=.")
    if "CannotPull" in text or ("pull" in text.lower() and "image" in text.lower()):
        return PlatformError(
            f"{who} could not start, because its image {image!r} cannot be pulled ({_first(said)}): check its "
            "name, and whether the queue's network and the execution role let it be pulled."
        )
    if _NO_PROGRAM.search(text) or (code == 127 and "image" in container):
        return PlatformError(
            f"{who} could not start, because its image {image!r} has no python3: take one with Python 3.8 or newer."
        )
    if text.startswith("Host EC2"):
        return PlatformError(
            f"{who} was lost with its machine ({_first(said)}), as happens to Spot instances: a retry_policy runs it "
            "again."
        )
    return _other(who, job, said, code)


def _other(who: str, job: Mapping[str, Any], said: list[str], code: int | None) -> PlatformError:
    if job["status"] == "SUCCEEDED":
        return PlatformError(
            f"{who} left no answer in the bucket: something else removed it, or the job definition starts its image "
            "with a program that does not run the command it is given."
        )
    why = "; ".join(each.rstrip(".") for each in said if each and each not in _COMMON)
    if code:
        ended = f"ended with exit code {code}"
        why = f"{ended}; {why}" if why else ended
        return PlatformError(f"{who} {why} before it answered: see what it printed last.")
    return PlatformError(f"{who} failed: {why or 'Batch gives no reason'}.")


def _first(said: list[str]) -> str:
    return next((each.rstrip(".") for each in reversed(said) if each and each not in _COMMON), "no reason is given")


def _memory(container: Mapping[str, Any]) -> str:
    asked = [each["value"] for each in container.get("resourceRequirements") or [] if each["type"] == "MEMORY"]
    return f", {int(float(asked[0])):,} MiB" if asked else ""


def misplaced(who: str, job: Mapping[str, Any]) -> PlatformError | None:
    """That no machine of the queue can ever run the job, where Batch says so."""
    reason = str(job.get("statusReason") or "")
    if not reason.startswith("MISCONFIGURATION"):
        return None
    return PlatformError(
        f"{who} waits in the job queue in vain ({reason.rstrip('.')}): ask for less in config, or "
        "name another job_queue."
    )


def waiting(account: Account, who: str, job: Mapping[str, Any], queue: str, seconds: float) -> ComponentTimeoutError:
    """That a job has not begun in all the time that it may take, and why."""
    why = str(job.get("statusReason") or "").rstrip(".") or _why(account, queue)
    return ComponentTimeoutError(
        f"{who} took longer than its timeout of {seconds:g} s and has not even begun: its job is "
        f"{job.get('status', 'SUBMITTED')} in queue {queue.rpartition('/')[2]!r}{f' ({why})' if why else ''}. Raise "
        "timeout=, which includes the time in the queue, or see that the queue has machines for it."
    )


def _why(account: Account, queue: str) -> str:
    """What is wrong with a queue or its compute environments, as far as one may know."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = account.client("batch")
    try:
        found = client.describe_job_queues(jobQueues=[queue])["jobQueues"]
        if not found:
            return "which is not there any more"
        if trouble := _trouble("the queue", found[0]):
            return trouble
        names = [each["computeEnvironment"] for each in found[0].get("computeEnvironmentOrder", [])]
        places = client.describe_compute_environments(computeEnvironments=names)["computeEnvironments"]
        told = [_trouble(f"compute environment {each['computeEnvironmentName']!r}", each) for each in places]
        return "; ".join(filter(None, told)) or "other jobs are before it, or its machines are still starting"
    except (BotoCoreError, ClientError):  # then the sentence does without
        return ""


def _trouble(what: str, found: Mapping[str, Any]) -> str:
    if found.get("state") == "DISABLED":
        return f"{what} is disabled"
    if found.get("status") not in (None, "VALID"):
        return f"{what} is {found['status']}: {str(found.get('statusReason') or '').rstrip('.')}".rstrip(": ")
    return ""
