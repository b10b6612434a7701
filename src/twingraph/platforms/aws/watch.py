"""One pair of eyes for all jobs that wait: they are asked about together, a hundred at a time, ever less often.

So a thousand calls that wait ask Batch no more often than a few do, and none of them more than it allows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from lokki.aws.client import code_of
from twingraph.errors import PlatformError
from twingraph.platforms.aws.account import Account, refusals

_FIRST, _LONGEST = 0.2, 5.0  # seconds between two looks; the first after something has happened
_AT_ONCE = 100  # jobs that Batch tells about in one answer
_ENDED = ("SUCCEEDED", "FAILED")
_LASTING = ("AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException",
            "UnrecognizedClientException", "InvalidClientTokenId")  # fmt: skip


class Sight:
    """What is known of a job.

    Attributes:
        job: what Batch said last; empty before that.
        error: why nothing more will be known.
        changed: raised when either has changed.
    """

    def __init__(self) -> None:
        self.job: Mapping[str, Any] = {}
        self.error: Exception | None = None
        self.changed = threading.Event()

    @property
    def status(self) -> str:
        """The job's status in Batch's words."""
        return str(self.job.get("status", "SUBMITTED"))

    @property
    def ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.status in _ENDED


class Watch:
    """Looks at the jobs of an account, in a thread that is there as long as there are some."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sights: dict[str, Sight] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._looking = False

    def add(self, job: str) -> Sight:
        """Look at this job from now on."""
        sight = Sight()
        with self._lock:
            self._sights[job] = sight
            start, self._looking = not self._looking, True
        self._news.set()
        if start:
            threading.Thread(target=self._look, name="batch-watch", daemon=True).start()
        return sight

    def drop(self, job: str) -> None:
        """Do not look at it any more."""
        with self._lock:
            self._sights.pop(job, None)

    @property
    def jobs(self) -> int:
        """How many jobs are looked at."""
        return len(self._sights)

    def _look(self) -> None:
        pause = _FIRST
        while True:
            self._news.clear()
            with self._lock:
                waiting = [job for job, sight in self._sights.items() if not sight.ended]
                if not self._sights:
                    self._looking = False
                    return
            changed = self._asked(waiting)
            pause = _FIRST if changed else min(_LONGEST, pause * 1.5)
            if self._news.wait(pause):
                pause = _FIRST
                threading.Event().wait(_FIRST)  # others are likely to follow

    def _asked(self, jobs: list[str]) -> bool:
        """Whether something has happened to any of them."""
        from botocore.exceptions import BotoCoreError, ClientError

        changed = False
        for at in range(0, len(jobs), _AT_ONCE):
            some = jobs[at : at + _AT_ONCE]
            try:
                found = self._account.client("batch").describe_jobs(jobs=some)["jobs"]
            except ClientError as error:
                if code_of(error) not in _LASTING:
                    return changed  # Batch is too busy or out of order, and calls have a time limit of their own
                changed |= self._failed(some, error)
            except BotoCoreError as error:
                if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
                    changed |= self._failed(some, error)
            else:
                changed |= self._seen(found)
        return changed

    def _seen(self, found: list[Mapping[str, Any]]) -> bool:
        changed = False
        for job in found:
            sight = self._sights.get(job["jobId"])
            if sight is None:
                continue
            if (sight.job.get("status"), sight.job.get("statusReason")) != (job["status"], job.get("statusReason")):
                changed = True
                sight.job = job
                sight.changed.set()
            sight.job = job
        return changed

    def _failed(self, jobs: list[str], error: Exception) -> bool:
        try:
            with refusals("ask Batch how jobs are"):
                raise error
        except PlatformError as told:  # for those who wait
            for job in jobs:
                if (sight := self._sights.get(job)) is not None:
                    sight.error = told
                    sight.changed.set()
        return True
