"""What is there of calls in a job queue, found by its tags: what nobody waits for any more is terminated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twingraph.platforms.aws.account import Account, refusals
from twingraph.platforms.owners import Left, Orphaned

_THERE: tuple[Any, ...] = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
_AT_ONCE = 100  # jobs that Batch describes in one answer


def sweep(account: Account, queue: str, orphaned: Orphaned) -> None:
    """Terminate the jobs of a queue that are orphaned."""
    with refusals(f"look for jobs that were left in queue {queue!r}"):
        for job in _jobs(account, queue):
            left = _left(job.get("tags") or {})
            if left is not None and orphaned(left):
                reason = "The process of TwinGraph that waited for it is no more"
                account.client("batch").terminate_job(jobId=job["jobId"], reason=reason)


def _jobs(account: Account, queue: str) -> Iterator[Mapping[str, Any]]:
    client = account.client("batch")
    names = [
        each["jobId"]
        for status in _THERE
        for page in client.get_paginator("list_jobs").paginate(jobQueue=queue, jobStatus=status)
        for each in page["jobSummaryList"]
    ]
    for at in range(0, len(names), _AT_ONCE):
        yield from client.describe_jobs(jobs=names[at : at + _AT_ONCE])["jobs"]


def _left(tags: Mapping[str, str]) -> Left | None:
    """Whose a job is; None for what is not a call's."""
    if "twingraph:machine" not in tags:
        return None
    return Left(*(tags.get(f"twingraph:{name}", "") for name in Left._fields))
