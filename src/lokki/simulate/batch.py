"""Batch: jobs, each a process of its package that runs one command."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from lokki.simulate.counting import Tally
from lokki.simulate.machine import Job
from lokki.simulate.processes import Keeper, Process

RETRY_STRATEGY = "Batch's own RetryStrategy is not applied: every job gets one attempt."
_CUT_OFF = "Job attempt duration exceeded timeout"
_FAILED = "Essential container in task exited"


class UnknownJob(LookupError):
    """There is no job definition of that name."""


class Submitted:
    """A job that was submitted, and how far it is."""

    def __init__(self, job: Job, name: str, queue: str, tally: Tally) -> None:
        self.id = str(uuid4())
        self.job = job
        self.tally = tally
        self.over = threading.Event()
        self.process: Process | None = None
        self._told: dict[str, Any] = {"JobId": self.id, "JobName": name, "JobQueue": queue, "Status": "SUBMITTED"}
        self._told |= {"JobDefinition": job.arn, "CreatedAt": _now(), "StatusReason": "", "Container": {}}

    @property
    def status(self) -> str:
        """SUBMITTED, RUNNING, SUCCEEDED or FAILED."""
        status: str = self._told["Status"]
        return status

    def describe(self) -> dict[str, Any]:
        """What DescribeJobs says of it, named as a state machine sees it."""
        return dict(self._told)

    def running(self, process: Process) -> None:
        """It got a process."""
        self.process = process
        self._told |= {"Status": "RUNNING", "StartedAt": _now()}

    def ended(self, exit_code: int, reason: str) -> None:
        """It is over."""
        self._told |= {"StoppedAt": _now(), "StatusReason": reason, "Container": {"ExitCode": exit_code}}
        self._told["Status"] = "FAILED" if exit_code or reason == _CUT_OFF else "SUCCEEDED"
        self.over.set()


class Jobs:
    """The job definitions that are deployed, and the jobs that were submitted.

    Args:
        keeper: starts their processes.
        at_once: so many run at a time.
    """

    def __init__(self, keeper: Keeper, at_once: int = 0) -> None:
        self._keeper = keeper
        self._turns = threading.Semaphore(at_once or max(2, os.cpu_count() or 1))
        self._known: dict[str, Job] = {}
        self._submitted: dict[str, Submitted] = {}

    def deploy(self, jobs: Iterable[Job]) -> None:
        """Add job definitions, or replace those of the same name."""
        for job in jobs:
            self._known[job.name] = self._known[job.arn] = job

    def submit(self, parameters: Mapping[str, Any], tally: Tally) -> Submitted:
        """Start a job as SubmitJob does, in a thread of its own."""
        name = parameters["JobDefinition"]
        job = self._known.get(name)
        if job is None:
            raise UnknownJob(f"Job definition {name} does not exist")
        if "RetryStrategy" in parameters:
            tally.substituted(RETRY_STRATEGY)
        submitted = Submitted(job, parameters.get("JobName", job.name), parameters.get("JobQueue", ""), tally)
        self._submitted[submitted.id] = submitted
        threading.Thread(target=self._run, args=(submitted, parameters), daemon=True).start()
        return submitted

    def stop(self, tally: Tally) -> None:
        """End the jobs of an execution."""
        for submitted in list(self._submitted.values()):
            if submitted.tally is tally and submitted.process:
                submitted.process.kill()

    def _run(self, submitted: Submitted, parameters: Mapping[str, Any]) -> None:
        job = submitted.job
        with self._turns:
            begun = time.monotonic()
            process = self._keeper.start("jobs", _start(submitted, parameters))
            process.caller.tally = submitted.tally
            submitted.running(process)
            reason = ""
            try:
                process.hear(parameters.get("Timeout", {}).get("AttemptDurationSeconds", job.timeout))
            except TimeoutError:
                process.kill()
                reason = _CUT_OFF
            status = process.end()
        submitted.tally.add("jobs", job.name)
        submitted.tally.add("job_ms", job.name, round((time.monotonic() - begun) * 1000))
        submitted.tally.wrote(job.name, process.written())
        exit_code = status if status >= 0 else 128 - status
        submitted.ended(exit_code, reason or (_FAILED if exit_code else ""))
        del self._submitted[submitted.id]


def _start(submitted: Submitted, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the job's process is told."""
    job = submitted.job
    overrides = parameters.get("ContainerOverrides", {})
    environment = {**job.environment, "AWS_BATCH_JOB_ID": submitted.id, "AWS_BATCH_JOB_ATTEMPT": "1"}
    for pair in overrides.get("Environment", ()):
        environment[pair.get("Name") or pair["name"]] = pair["Value"] if "Value" in pair else pair["value"]
    command = list(overrides.get("Command", job.command))
    return {"folder": job.folder, "command": command, "environment": environment, "imports": job.imports}


def _now() -> int:
    return round(time.time() * 1000)
