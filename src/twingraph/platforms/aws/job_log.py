"""What a job prints, handed on while it runs and to the end: the streams of CloudWatch that its container writes to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lokki.frozen import replace
from twingraph.envelope import Frames
from twingraph.placed import Placed
from twingraph.platforms.aws.account import Account
from twingraph.platforms.aws.children import children
from twingraph.platforms.aws.log_lines import Stream
from twingraph.platforms.aws.watch import Watch

_GROUP = "/aws/batch/job"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds between two looks at a log that grows
_LOOKS = 5.0  # a second, at all logs together: CloudWatch allows an account 25
_GRACE = {"SUCCEEDED": 15.0, "FAILED": 3.0}  # seconds in which last lines arrive; a job that failed may have none
_MOST_CHILDREN = 50  # whose logs are handed on


class JobLog:
    """The log of one job, or of the children of an array.

    Args:
        account: where the job is.
        call: hears the lines.
        watch: knows how many others wait.
    """

    def __init__(self, account: Account, call: Placed, watch: Watch) -> None:
        self._account = account
        self._call = call
        self._watch = watch
        self._logs: list[_Log] = []
        self._last = 0.0
        self._pause = _FIRST_PAUSE
        self._until = 0.0

    def follow(self, job: Mapping[str, Any]) -> None:
        """Hand on what is new, unless that was done just now."""
        now = time.monotonic()
        if "arrayProperties" in job or now - self._last < max(self._pause, self._watch.jobs / _LOOKS):
            return
        self._last, self._pause = now, min(_LONGEST_PAUSE, self._pause * 1.5)
        self._open([(job, "")])
        for log in self._logs:
            log.read()

    def whole(self, job: Mapping[str, Any], seconds: float, late: bool) -> bool:
        """Whether all of it was handed on, after waiting for that at most so many seconds; `late` gives it up."""
        if not self._until:
            silent = self._call.command and job["status"] == "SUCCEEDED"  # it does not say where its log ends
            self._until = time.monotonic() + (0.0 if silent else _GRACE.get(str(job["status"]), 0.0))
            self._logs = self._logs or self._open(self._writers(job))
        for log in self._logs:
            log.read()
        if late or time.monotonic() >= self._until or all(log.ended for log in self._logs):
            for log in self._logs:
                log.close()
            return True
        time.sleep(min(seconds, 1.0))
        return False

    def _writers(self, job: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
        """The jobs whose containers wrote, and what their lines are marked with."""
        size = (job.get("arrayProperties") or {}).get("size")
        if not size:
            return [(job, "")]
        if size > _MOST_CHILDREN:
            self._call.log(
                "warning",
                f"These are the lines of the first {_MOST_CHILDREN} children; those of the others are in {_GROUP}, in "
                "streams that Batch names for each child.",
            )
        found = children(self._account, job["jobId"], range(min(size, _MOST_CHILDREN)))
        return [(each, f"[{each['jobId'].rpartition(':')[2]}] ") for each in found]

    def _open(self, writers: list[tuple[Mapping[str, Any], str]]) -> list[_Log]:
        if not self._logs:
            for job, mark in writers:
                container = job.get("container") or {}
                settings = container.get("logConfiguration") or {}
                if container.get("logStreamName") and settings.get("logDriver", "awslogs") == "awslogs":
                    group = (settings.get("options") or {}).get("awslogs-group", _GROUP)
                    stream = Stream(self._account, group, container["logStreamName"])
                    self._logs.append(_Log(self._call, stream, mark))
        return self._logs


class _Log:
    def __init__(self, call: Placed, stream: Stream, mark: str) -> None:
        self._call = replace(call, log=lambda level, line: call.log(level, mark + line)) if mark else call
        self._stream = stream
        self._frames = Frames(self._call)

    @property
    def ended(self) -> bool:
        """Whether no more is to come."""
        return self._frames.ended or bool(self._stream.refusal)

    def read(self) -> None:
        """Hand on what is new."""
        if not self.ended:
            for line in self._stream.read():
                self._frames.line(line)

    def close(self) -> None:
        """Say so if it could not be read."""
        if self._stream.refusal:
            self._call.log("warning", f"The log in {self._stream.group} cannot be read: {self._stream.refusal}")
