"""One call as a job that was submitted: looked at, its log handed on, its answers fetched, and ended."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from twingraph.envelope import unpack
from twingraph.placed import Outcome, Placed, Raised, Returned
from twingraph.platforms.aws.account import Account
from twingraph.platforms.aws.children import of_children
from twingraph.platforms.aws.job_failures import failure, misplaced, waiting
from twingraph.platforms.aws.job_log import JobLog
from twingraph.platforms.aws.parcels import Parcels
from twingraph.platforms.aws.watch import Watch

CALL = "call"
"""The parcel that the container opens."""
ANSWERS = "answers"
"""The folder of the answers; each is named by the number of its child, 0 where there are no others."""
_STARTED = ("STARTING", "RUNNING")
_SOON = 0.1  # seconds; within which the deadline counts as reached


class Job:
    """A job on its way.

    Args:
        call: the call.
        account: where it was submitted.
        parcels: its objects in the bucket; None where it runs a program of its image.
        watch: looks at the jobs of the account.
        name: Batch's name for it.
        queue: where it waits.
        size: how many children it has; None if it is no array.
        began: when its time began, on the monotonic clock.
    """

    def __init__(
        self,
        call: Placed,
        account: Account,
        parcels: Parcels | None,
        watch: Watch,
        name: str,
        queue: str,
        size: int | None,
        began: float,
    ) -> None:
        self.id = name
        self._queue = queue
        self._call = call
        self._account = account
        self._parcels = parcels
        self._watch = watch
        self._size = size
        limit = call.placement.timeout
        self._deadline = began + limit if limit else float("inf")
        self._sight = watch.add(name)
        self._log = JobLog(account, call, watch)
        self._started = False

    def look(self, seconds: float) -> Outcome | None:
        """What became of it, if that is known within so many seconds."""
        sight = self._sight
        sight.changed.wait(seconds)
        if sight.error is not None:
            return Raised(sight.error)
        job = sight.job
        if sight.ended:
            if not self._log.whole(job, seconds, monotonic() + _SOON >= self._deadline):
                return None
            return self._outcome(job)
        sight.changed.clear()
        if sight.status in _STARTED or _any_started(job):
            self._started = True
            self._log.follow(job)
        elif (error := misplaced(self._call.who, job)) is not None:
            self.terminate()
            return Raised(error)
        if not self._started and monotonic() + _SOON >= self._deadline:
            self.terminate()
            return Raised(waiting(self._account, self._call.who, job, self._queue, self._call.placement.timeout))
        return None

    def terminate(self) -> None:
        """End it, and all its children."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._account.client("batch").terminate_job(jobId=self.id, reason="TwinGraph does not wait for it any more")
        except (BotoCoreError, ClientError):  # then its own time limit ends it; why it is ended matters more
            self._call.log("warning", f"Batch job {self.id} could not be terminated; it ends by itself.")

    def clear(self) -> None:
        """Forget it, and remove what it left in the bucket."""
        self._watch.drop(self.id)
        if self._parcels is not None:
            self._parcels.remove()

    def _outcome(self, job: Mapping[str, Any]) -> Outcome:
        if self._parcels is None:
            return Returned(None) if job["status"] == "SUCCEEDED" else Raised(failure(self._call.who, job))
        if self._size is not None:
            return of_children(self._call, self._account, self._parcels, ANSWERS, job, self._size)
        answer = self._parcels.get(f"{ANSWERS}/0", perhaps=job["status"] == "FAILED")
        return unpack(answer, self._call) if answer is not None else Raised(failure(self._call.who, job))


def _any_started(job: Mapping[str, Any]) -> bool:
    """Whether any child of an array has begun."""
    counts = (job.get("arrayProperties") or {}).get("statusSummary") or {}
    return any(counts.get(status) for status in (*_STARTED, "SUCCEEDED", "FAILED"))
