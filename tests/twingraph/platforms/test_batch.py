"""Components on Batch: jobs that are submitted, followed, ended and collected, on LocalStack, where they really run."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lokki.runtime.failure import Cancelled
from tests.contracts.platform import PlatformContract
from tests.localstack_server import LocalStack
from tests.moto_server import Asked, Relay, Reply
from tests.twingraph.calling import Heard, placed
from tests.twingraph.platforms.amazon import (
    account_with_bucket,
    be_killed,
    called,
    double,
    end_at_once,
    greet,
    lead_there,
    left_over,
    refuse,
    sleep,
)
from twingraph.errors import ComponentError, ComponentTimeoutError, PlatformError, PlatformUnavailableError
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import Platform, run
from twingraph.platforms.batch import Batch

QUEUE = "of-tests"
IMAGE = "twingraph-of-tests:1"
NOWHERE = "of-nobody:1"  # what Batch says of jobs is made up where this is used, so none has to run
CONFIG = {"job_queue": QUEUE}


@pytest.fixture(scope="module")
def shared(localstack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> LocalStack:
    """An account with a bucket and a queue; an image that is a folder, so that jobs are processes."""
    made = account_with_bucket(localstack)
    batch = made.client("batch")
    batch.create_compute_environment(computeEnvironmentName="machines", type="MANAGED")
    order = [{"order": 1, "computeEnvironment": "machines"}]
    batch.create_job_queue(jobQueueName=QUEUE, priority=1, computeEnvironmentOrder=order)
    made.put_folders({IMAGE: tmp_path_factory.mktemp("image")})
    return made


@pytest.fixture
def account(shared: LocalStack, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    lead_there(shared, monkeypatch)
    return shared


@pytest.fixture(scope="module")
def platform() -> Batch:
    return Batch()


@pytest.fixture(scope="module")
def relay_there(shared: LocalStack) -> Iterator[Relay]:
    """A relay in front of LocalStack, with what the last test left in it."""
    relay = Relay(shared.endpoint)
    yield relay
    relay.close()


@pytest.fixture
def between(account: LocalStack, relay_there: Relay) -> Iterator[Relay]:
    """A relay in front of LocalStack, which a test may make say something else."""
    yield relay_there
    relay_there.instead = lambda asked: None
    relay_there.asked.clear()


def jobs(account: LocalStack, status: str) -> list[dict[str, Any]]:
    """The jobs of the queue that have this status."""
    found = account.client("batch").list_jobs(jobQueue=QUEUE, jobStatus=status)["jobSummaryList"]
    ids = [each["jobId"] for each in found]
    described = account.client("batch").describe_jobs(jobs=ids)["jobs"] if ids else []
    return list(described)


def described_as(change: Callable[[dict[str, Any]], None]) -> Callable[[Asked], Reply | None]:
    """Answers of DescribeJobs, as if Batch said something else of the jobs."""

    def answer(asked: Asked) -> Reply | None:
        if not asked.path.endswith("/describejobs"):
            return None
        found = [{"jobId": each, "jobName": "of-test", "jobQueue": f"arn:aws:batch:eu-west-1:1:job-queue/{QUEUE}"}
                 for each in json.loads(asked.body)["jobs"]]  # fmt: skip
        for each in found:
            change(each)
        return Reply(200, json.dumps({"jobs": found}).encode(), {"Content-Type": "application/json"})

    return answer


class TestContract(PlatformContract):
    many = 24  # a job is a process that takes half a second of a processor, and Batch runs two at a time here
    at_once = 24
    enough = 6.0

    @pytest.fixture
    def platform(self, account: LocalStack, platform: Batch) -> Platform:
        self.account = account
        return platform

    def place(self, **changes: Any) -> Placement:
        return Placement(**{"platform": "batch", "image": IMAGE, "config": CONFIG, "timeout": 120.0, **changes})

    def left(self, calls: list[Placed]) -> list[str]:
        return left_over(self.account)


def share(numbers: list[int]) -> int:
    mine = numbers[int(os.environ["AWS_BATCH_JOB_ARRAY_INDEX"])]
    sys.stdout.write(f"mine is {mine}\n")
    if mine < 0:
        raise ValueError(f"{mine} is negative")
    return 2 * mine


def test_children_of_an_array_do_their_share(account: LocalStack, platform: Batch) -> None:
    heard = Heard()
    result = called(platform, share, [3, 1, 2], config={**CONFIG, "array_size": 3}, image=IMAGE, heard=heard)
    assert result == {"results": [6, 2, 4], "array_size": 3}
    assert sorted(line for _, line in heard.lines) == ["[0] mine is 3", "[1] mine is 1", "[2] mine is 2"]
    assert heard.usage["cpu_seconds"] > 0
    alone = called(platform, share, [3, 1, 2], config={**CONFIG, "array_size": 1}, image=IMAGE)
    assert alone == {"results": [6], "array_size": 1}
    assert left_over(account) == []


def test_an_array_fails_as_the_first_of_its_children_that_did(account: LocalStack, platform: Batch) -> None:
    with pytest.raises(ValueError, match="-2 is negative") as raised:
        called(platform, share, [1, -2, 3, -4], config={**CONFIG, "array_size": 4}, image=IMAGE)
    assert re.match(r"Child 1 of the 4 of Batch job .* failed, and so did 1 other\.", raised.value.__notes__[-1])


def test_a_job_has_what_its_component_asks_for(account: LocalStack, platform: Batch) -> None:
    heard = Heard()
    called(
        platform,
        greet,
        "finch",
        config={**CONFIG, "memory": "3G", "gpu": 0, "environment": {"TONE": "low"}},
        resources={"cpu": "500m"},
        labels={"team": "birds"},
        image=IMAGE,
        heard=heard,
        timeout=90,
    )
    job = next(each for each in jobs(account, "SUCCEEDED") if each["tags"].get("team") == "birds")
    assert heard.lines == [("info", "greeting finch low")]
    assert job["container"]["resourceRequirements"] == [
        {"type": "VCPU", "value": "0.5"},
        {"type": "MEMORY", "value": "3072"},
    ]
    assert (job["timeout"], job["retryStrategy"]) == ({"attemptDurationSeconds": 90}, {"attempts": 1})
    assert job["tags"]["twingraph:component"] == "greet"


def test_a_job_definition_is_registered_once_for_an_image_or_taken_as_it_is(account: LocalStack) -> None:
    client = account.client("batch")
    platform = Batch()
    for each in (platform, Batch()):
        assert called(each, double, 4, config=CONFIG, image=IMAGE) == 8
    found = client.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    (made,) = [each for each in found if each["jobDefinitionName"].startswith("twingraph-double-")]
    assert (made["containerProperties"]["image"], made["revision"]) == (IMAGE, 1)

    client.register_job_definition(
        jobDefinitionName="theirs",
        type="container",
        containerProperties={"image": IMAGE, "vcpus": 1, "memory": 512, "command": ["false"]},
    )
    assert called(platform, double, 4, config={**CONFIG, "job_definition": "theirs"}) == 8
    with pytest.raises(ComponentError, match="leave out one of them"):
        called(platform, double, 4, config={**CONFIG, "job_definition": "theirs"}, image=IMAGE)

    client.deregister_job_definition(jobDefinition=made["jobDefinitionArn"])
    assert called(platform, double, 4, config=CONFIG, image=IMAGE) == 8


@pytest.mark.parametrize(
    ("fn", "given", "image", "said"),
    [
        (double, 4, NOWHERE, r"because its image 'of-nobody:1' cannot be pulled \(CannotPullContainerError"),
        (end_at_once, 3, IMAGE, r"ended with exit code 3 before it answered: see what it printed last"),
        (be_killed, None, IMAGE, r"most likely because it needed more memory than the job has, 2,048 MiB: raise that"),
    ],
)
def test_a_job_that_ends_without_an_answer(
    account: LocalStack, platform: Batch, fn: Any, given: Any, image: str, said: str
) -> None:
    with pytest.raises(PlatformError, match=said):
        called(platform, fn, *([] if given is None else [given]), config=CONFIG, image=image)
    assert left_over(account) == []


@pytest.mark.parametrize(
    ("told", "kind", "said"),
    [
        (
            {"statusReason": "Host EC2 (instance i-0123) terminated."},
            PlatformError,
            r"was lost with its machine \(Host EC2 \(instance i-0123\) terminated\), .* a retry_policy runs it again",
        ),
        (
            {"statusReason": "Job attempt duration exceeded timeout"},
            ComponentTimeoutError,
            "was ended by Batch because it took longer than it may",
        ),
        (
            {
                "statusReason": "Task failed to start",
                "container": {
                    "image": "busybox",
                    "reason": 'CannotStartContainerError: exec: "python3": executable file not found in $PATH',
                },
            },
            PlatformError,
            "its image 'busybox' has no python3: take one with Python 3.8 or newer",
        ),
        (
            {"statusReason": "Essential container in task exited", "container": {
                "exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage",
                "resourceRequirements": [{"type": "MEMORY", "value": "64"}]}},
            PlatformError,
            "needed more memory than the job has, 64 MiB",
        ),
        ({"statusReason": "not today"}, PlatformError, "failed: not today"),
    ],
)  # fmt: skip
def test_what_batch_says_of_a_job_that_failed_is_one_sentence(
    platform: Batch, between: Relay, told: Mapping[str, Any], kind: type[Exception], said: str
) -> None:
    between.instead = described_as(lambda job: job.update({"status": "FAILED", **told}))
    with pytest.raises(kind, match=said):
        called(platform, double, 4, config={**CONFIG, "endpoint": between.url}, image=NOWHERE)


def test_a_job_that_does_not_begin_says_why(account: LocalStack, platform: Batch, between: Relay) -> None:
    config = {**CONFIG, "endpoint": between.url}
    between.instead = described_as(lambda job: job.update(status="RUNNABLE"))
    with pytest.raises(ComponentTimeoutError, match=r"its timeout of 3 s and has not even begun: .* RUNNABLE in queue"):
        called(platform, double, 4, config=config, image=NOWHERE, timeout=3)

    reason = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job needs more than any machine has"
    between.instead = described_as(lambda job: job.update(status="RUNNABLE", statusReason=reason))
    with pytest.raises(PlatformError, match=r"waits in the job queue in vain .* ask for less in config"):
        called(platform, double, 4, config=config, image=NOWHERE)

    client = account.client("batch")
    client.create_job_queue(jobQueueName="closed", priority=1, state="DISABLED", computeEnvironmentOrder=[])
    between.instead = described_as(lambda job: job.update(status="RUNNABLE"))
    with pytest.raises(ComponentTimeoutError, match=r"in queue 'closed' \(the queue is disabled\)"):
        called(platform, double, 4, config={**config, "job_queue": "closed"}, image=NOWHERE, timeout=3)


def test_a_job_that_nobody_waits_for_is_terminated(account: LocalStack, platform: Batch) -> None:
    call = placed(sleep, 600, place=Placement("batch", IMAGE, CONFIG))
    threading.Timer(1, call.stop.set).start()
    with pytest.raises(Cancelled):
        run(platform, call)
    while not (ended := [each for each in jobs(account, "FAILED") if each["jobName"] == f"sleep-{call.id}"]):
        threading.Event().wait(0.1)
    (job,) = ended
    assert job["statusReason"] == "TwinGraph does not wait for it any more"
    assert left_over(account) == []


def test_jobs_that_wait_are_asked_about_together(platform: Batch, between: Relay) -> None:
    seen: dict[str, int] = {}

    def later(job: dict[str, Any]) -> None:
        seen[job["jobId"]] = seen.get(job["jobId"], 0) + 1
        job.update(status="RUNNABLE" if len(seen) < 8 else "FAILED", statusReason="enough")

    between.instead = described_as(later)
    config = {**CONFIG, "endpoint": between.url}

    def one(x: int) -> str:
        with pytest.raises(PlatformError, match="failed: enough") as raised:
            called(platform, double, x, config=config, image=NOWHERE)
        return str(raised.value)

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(one, range(8)))) == 8
    asked = [json.loads(each.body)["jobs"] for each in between.asked if each.path.endswith("/describejobs")]
    assert len(asked[-1]) > 1
    assert all(len(set(each)) == len(each) for each in asked)


def test_what_may_not_be_looked_at_is_told(platform: Batch, between: Relay) -> None:
    config = {**CONFIG, "endpoint": between.url}
    refused = Reply(
        400,
        json.dumps({"__type": "AccessDeniedException", "message": "You may not perform it"}).encode(),
        {"Content-Type": "application/json", "x-amzn-ErrorType": "AccessDeniedException"},
    )
    between.instead = lambda asked: refused if "GetLogEvents" in asked.headers.get("X-Amz-Target", "") else None
    heard = Heard()
    assert called(platform, double, 4, config=config, image=IMAGE, heard=heard) == 8
    ((level, line),) = heard.lines
    assert level == "warning"
    assert line.startswith("The log in /aws/batch/job cannot be read: ")

    between.instead = lambda asked: refused if asked.path.endswith("/describejobs") else None
    with pytest.raises(PlatformError, match=r"Could not ask Batch how jobs are: .* Allow it to the credentials in use"):
        called(platform, double, 4, config=config, image=NOWHERE)


def test_what_batch_cannot_do_is_said_at_the_call(aws: None) -> None:
    config = {"region": "eu-west-1", "bucket": "b", **CONFIG}
    for given, said in (
        ({"array_size": 0}, "config['array_size'] is between 1 and 10000, not 0"),
        ({"vcpus": "many"}, "config['vcpus'] takes a number such as 2, not 'many'"),
        ({"gpu": "all"}, "config['gpu'] takes a number of GPUs, not 'all'"),
        ({"memory": True}, "config['memory'] takes a size such as '2G', not True"),
    ):
        with pytest.raises(ComponentError, match=re.escape(said)):
            called(Batch(), double, 4, config={**config, **given}, image=IMAGE)


def test_where_batch_cannot_be_used_it_says_what_is_missing(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    config = {"region": "eu-west-1", "endpoint": "http://127.0.0.1:1"}
    with pytest.raises(PlatformUnavailableError, match="which job queue it goes to"):
        called(Batch(), double, 4, config=config, image=IMAGE)
    with pytest.raises(PlatformUnavailableError, match="There is no bucket for what a call is given and answers"):
        called(Batch(), double, 4, config={**config, **CONFIG}, image=IMAGE)
    with pytest.raises(PlatformUnavailableError, match=r"Could not write to s3://b/twingraph/calls/.*aws\.endpoint"):
        called(Batch(), double, 4, config={**config, **CONFIG, "bucket": "b"}, image=IMAGE)


def test_a_queue_that_is_not_there_is_named(account: LocalStack, platform: Batch) -> None:
    with pytest.raises(PlatformError, match="Could not submit a job for component 'double' to queue 'of-nobody'"):
        called(platform, double, 4, config={"job_queue": "of-nobody"}, image=IMAGE)
    with pytest.raises(PlatformError, match="does not say what its job runs in: name a job definition"):
        called(platform, double, 4, config=CONFIG)
    assert left_over(account) == []


def test_what_batch_is_used_from_is_told(account: LocalStack) -> None:
    assert Batch().check().startswith(f"AWS Batch in eu-west-1, account {account.account} at {account.endpoint}, with")
    with pytest.raises(LookupError, match="seed"):
        called(Batch(), refuse, "seed", config=CONFIG, image=IMAGE)
