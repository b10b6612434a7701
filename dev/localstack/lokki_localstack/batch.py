"""The API of AWS Batch, which LocalStack lacks: queues, job definitions and jobs, as far as flows use them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from localstack.aws.api import CommonServiceException, RequestContext
from localstack.aws.connect import connect_to

from lokki_localstack.arrays import ArrayJob, Child
from lokki_localstack.jobs import Job

Request = dict[str, Any]
_SUMMARY = (
    "jobArn",
    "jobId",
    "jobName",
    "createdAt",
    "status",
    "statusReason",
    "startedAt",
    "stoppedAt",
    "jobDefinition",
)


class Store:
    """What an account has in a region."""

    def __init__(self, account: str, region: str) -> None:
        self.account, self.region = account, region
        self.environments: dict[str, Request] = {}
        self.queues: dict[str, Request] = {}
        self.definitions: dict[str, list[Request]] = defaultdict(list)
        self.jobs: dict[str, Job] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def arn(self, kind: str, name: str) -> str:
        """The ARN of what has this name."""
        return f"arn:aws:batch:{self.region}:{self.account}:{kind}/{name}"

    def client(self, service: str) -> Any:
        """A client for another service of the account."""
        return getattr(connect_to(aws_access_key_id=self.account, region_name=self.region), service)


class BatchProvider:
    """The operations by their names."""

    service = "batch"

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str], Store] = {}

    def dispatch_table(self) -> dict[str, Callable[[RequestContext, Request], Request]]:
        """The operations as LocalStack calls them."""

        def operation(method: Callable[[Store, Request], Request | None]) -> Any:
            def called(context: RequestContext, request: Request | None) -> Request:
                key = (context.account_id, context.region)
                return method(self._stores.setdefault(key, Store(*key)), dict(request or {})) or {}

            return called

        return {name: operation(getattr(self, name)) for name in dir(self) if name[0].isupper()}

    def CreateComputeEnvironment(self, store: Store, request: Request) -> Request:
        name = request["computeEnvironmentName"]
        _refuse_another(store.environments, name)
        made = {"computeEnvironmentName": name, "computeEnvironmentArn": store.arn("compute-environment", name)}
        store.environments[name] = {"state": "ENABLED", **request, **made, "status": "VALID"}
        return made

    def UpdateComputeEnvironment(self, store: Store, request: Request) -> Request:
        found = _found(store.environments, request.pop("computeEnvironment"))
        found.update(request)
        return {key: found[key] for key in ("computeEnvironmentName", "computeEnvironmentArn")}

    def DescribeComputeEnvironments(self, store: Store, request: Request) -> Request:
        return {"computeEnvironments": _selected(store.environments, request.get("computeEnvironments"))}

    def DeleteComputeEnvironment(self, store: Store, request: Request) -> None:
        store.environments.pop(_name(request["computeEnvironment"]), None)

    def CreateJobQueue(self, store: Store, request: Request) -> Request:
        name = request["jobQueueName"]
        _refuse_another(store.queues, name)
        for each in request.get("computeEnvironmentOrder", []):
            _found(store.environments, each["computeEnvironment"])
        made = {"jobQueueName": name, "jobQueueArn": store.arn("job-queue", name)}
        store.queues[name] = {"state": "ENABLED", **request, **made, "status": "VALID"}
        return made

    def UpdateJobQueue(self, store: Store, request: Request) -> Request:
        found = _found(store.queues, request.pop("jobQueue"))
        found.update(request)
        return {key: found[key] for key in ("jobQueueName", "jobQueueArn")}

    def DescribeJobQueues(self, store: Store, request: Request) -> Request:
        return {"jobQueues": _selected(store.queues, request.get("jobQueues"))}

    def DeleteJobQueue(self, store: Store, request: Request) -> None:
        store.queues.pop(_name(request["jobQueue"]), None)

    def RegisterJobDefinition(self, store: Store, request: Request) -> Request:
        name = request["jobDefinitionName"]
        revision = len(store.definitions[name]) + 1
        arn = store.arn("job-definition", f"{name}:{revision}")
        made = {"jobDefinitionName": name, "jobDefinitionArn": arn, "revision": revision}
        store.definitions[name].append({**request, **made, "status": "ACTIVE"})
        store.tags[arn] = dict(request.get("tags") or {})
        return made

    def DeregisterJobDefinition(self, store: Store, request: Request) -> None:
        _definition(store, request["jobDefinition"])["status"] = "INACTIVE"

    def DescribeJobDefinitions(self, store: Store, request: Request) -> Request:
        wanted = request.get("jobDefinitions") or []
        name, status = request.get("jobDefinitionName"), request.get("status")
        found = [
            each
            for revisions in store.definitions.values()
            for each in revisions
            if name in (None, each["jobDefinitionName"])
            and status in (None, each["status"])
            and (not wanted or any(_is(each, reference) for reference in wanted))
        ]
        return {"jobDefinitions": found}

    def SubmitJob(self, store: Store, request: Request) -> Request:
        queue = _found(store.queues, request["jobQueue"])
        kind = ArrayJob if request.get("arrayProperties") else Job
        try:
            job = kind(store, request, queue, _definition(store, request["jobDefinition"]))
        except ValueError as error:
            raise _refusal(str(error)) from error
        store.jobs[job.id] = job
        threading.Thread(target=job.run, daemon=True).start()
        return {"jobArn": job.arn, "jobId": job.id, "jobName": request["jobName"]}

    def DescribeJobs(self, store: Store, request: Request) -> Request:
        found = (store.jobs.get(_name(each)) for each in request["jobs"])
        return {"jobs": [job.describe() for job in found if job]}

    def ListJobs(self, store: Store, request: Request) -> Request:
        parent = request.get("arrayJobId")
        jobs = [job for job in store.jobs.values() if not isinstance(job, Child) or job.id.startswith(f"{parent}:")]
        if parent:
            jobs = [job for job in jobs if isinstance(job, Child)]
        if queue := request.get("jobQueue"):
            arn = _found(store.queues, queue)["jobQueueArn"]
            jobs = [job for job in jobs if job.queue["jobQueueArn"] == arn]
        status = request.get("jobStatus") or (None if request.get("filters") else "RUNNING")
        shown = [job.describe() for job in jobs if status in (None, job.status)]
        return {"jobSummaryList": [{field: each[field] for field in _SUMMARY if field in each} for each in shown]}

    def TerminateJob(self, store: Store, request: Request) -> None:
        if job := store.jobs.get(request["jobId"]):
            job.terminate(request["reason"])

    def CancelJob(self, store: Store, request: Request) -> None:
        job = store.jobs.get(request["jobId"])
        if job and job.status not in ("STARTING", "RUNNING"):
            job.terminate(request["reason"])

    def TagResource(self, store: Store, request: Request) -> None:
        store.tags.setdefault(request["resourceArn"], {}).update(request["tags"])

    def UntagResource(self, store: Store, request: Request) -> None:
        for key in request["tagKeys"]:
            store.tags.get(request["resourceArn"], {}).pop(key, None)

    def ListTagsForResource(self, store: Store, request: Request) -> Request:
        return {"tags": store.tags.get(request["resourceArn"], {})}


def _refusal(message: str) -> CommonServiceException:
    return CommonServiceException("ClientException", message, status_code=400)


def _name(name_or_arn: str) -> str:
    return name_or_arn.rpartition("/")[2]


def _found(known: dict[str, Request], name_or_arn: str) -> Request:
    if _name(name_or_arn) not in known:
        raise _refusal(f"Object {name_or_arn} does not exist")
    return known[_name(name_or_arn)]


def _refuse_another(known: dict[str, Request], name: str) -> None:
    if name in known:
        raise _refusal("Object already exists")


def _selected(known: dict[str, Request], wanted: list[str] | None) -> list[Request]:
    if not wanted:
        return list(known.values())
    return [known[_name(each)] for each in wanted if _name(each) in known]


def _is(definition: Request, reference: str) -> bool:
    name, _, revision = _name(reference).partition(":")
    return name == definition["jobDefinitionName"] and revision in ("", str(definition["revision"]))


def _definition(store: Store, reference: str) -> Request:
    for each in reversed(store.definitions.get(_name(reference).partition(":")[0], [])):
        if each["status"] == "ACTIVE" and _is(each, reference):
            return each
    raise _refusal(f"JobDefinition {reference} not found")
