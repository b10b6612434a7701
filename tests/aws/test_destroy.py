"""`destroy` as a person meets it: what it names, asks, removes and leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws.deployed import client
from tests.aws.projects import (
    FUNCTION,
    STACK,
    Between,
    Project,
    answer_of,
    events_say,
    one_after_another,
    refusal_of,
    stack_says,
)
from tests.localstack_server import REGION, LocalStack
from tests.moto_server import Reply, refusal


@pytest.fixture
def between(moto_server: str) -> Iterator[Between]:
    """A relay in front of the shared server."""
    relay = Between(moto_server)
    yield relay
    relay.close()


@pytest.fixture
def project(at_home: Path, bucket: str, between: Between) -> Project:
    """A flow that can be deployed."""
    return between.project(at_home / "project", bucket)


@pytest.fixture
def deployed(project: Project, between: Between) -> Project:
    """A flow that has been deployed."""
    return between.deployed(project)


@pytest.fixture
def bucket_of(deployed: Project) -> str:
    """The bucket of a deployed flow."""
    return deployed.settings["LOKKI_ARTIFACT_BUCKET"]


def keys(s3: Any, bucket: str) -> list[str]:
    """What a bucket holds."""
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def there(endpoint: str, stack: str) -> bool:
    """Whether there is a stack of that name."""
    found = client(endpoint, "cloudformation").describe_stacks()["Stacks"]
    return any(each["StackName"] == stack for each in found)


def test_it_names_what_goes_asks_and_leaves_the_data(
    deployed: Project,
    bucket_of: str,
    moto_server: str,
    s3: Any,
) -> None:
    code, out, said = deployed.run("destroy", answer="y\n")
    assert code == 0, said
    assert said.splitlines() == [
        f"Stack '{deployed.stack}' would be removed, with",
        "  3 functions: flap_bird, get_birds, join_birds",
        f"  the state machine {deployed.flow}, with the history of its executions",
        "  their roles and logs",
        "What is in the bucket stays (--data removes it too).",
    ]
    assert f"Remove stack '{deployed.stack}'? (y/N)" in out
    assert f"✓ Removed stack '{deployed.stack}'" in out
    assert not there(moto_server, deployed.stack)
    names = client(moto_server, "lambda").get_paginator("list_functions").paginate().search("Functions[].FunctionName")
    assert not [each for each in names if each.startswith(deployed.flow)]
    assert len(keys(s3, bucket_of)) == 1


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [("n\n", 0, "Nothing was removed."), (None, 1, "Nobody can be asked here: add --confirm to say yes.")],
)
def test_without_a_yes_all_stays(
    deployed: Project,
    moto_server: str,
    answer: str | None,
    code: int,
    words: str,
) -> None:
    done, _, said = deployed.run("destroy", "--data", answer=answer)
    assert (done, words in said) == (code, True)
    assert there(moto_server, deployed.stack)


def test_data_is_counted_asked_for_and_removed(deployed: Project, bucket_of: str, s3: Any) -> None:
    for key in (f"{deployed.flow}/runs/1/a", f"{deployed.flow}/runs/1/b", "bees/runs/1/a", f"{deployed.flow}-2/runs/1"):
        s3.put_object(Bucket=bucket_of, Key=key, Body=b"12345")
    code, out, said = deployed.run("destroy", "--data", answer="y\nn\n")
    assert code == 0, said
    assert re.search(r"Remove 2 objects in runs/ and 1 object in artifacts/ \([\d.]+ kB\) of s3://", out)
    assert "The data stays." in said
    assert len(keys(s3, bucket_of)) == 5
    code, out, said = deployed.run("destroy", "--data", answer="y\n")
    assert code == 0, said
    assert said.startswith(f"There is no stack '{deployed.stack}' in us-east-1 (account 123456789012).")
    assert "✓ Removed 3 objects." in out
    assert keys(s3, bucket_of) == ["bees/runs/1/a", f"{deployed.flow}-2/runs/1"]


def test_the_prefix_counts(project: Project, s3: Any) -> None:
    project.settings["LOKKI_AWS_PREFIX"] = "team/a"
    bucket = project.settings["LOKKI_ARTIFACT_BUCKET"]
    project.done("deploy", "--confirm")
    s3.put_object(Bucket=bucket, Key=f"{project.flow}/runs/1/a", Body=b"1")
    project.done("destroy", "--confirm", "--data")
    assert keys(s3, bucket) == [f"{project.flow}/runs/1/a"]


def test_old_versions_are_told_of(deployed: Project, bucket_of: str, s3: Any) -> None:
    s3.put_bucket_versioning(Bucket=bucket_of, VersioningConfiguration={"Status": "Enabled"})
    out, _ = deployed.done("destroy", "--confirm", "--data")
    assert "✓ Removed 1 object. The bucket keeps old versions of them." in out
    left = s3.list_object_versions(Bucket=bucket_of)
    for each in [*left["Versions"], *left["DeleteMarkers"]]:
        s3.delete_object(Bucket=bucket_of, Key=each["Key"], VersionId=each["VersionId"])


def test_a_stack_that_is_not_there_is_said(project: Project) -> None:
    assert project.refused("destroy", "--confirm", "--data") == (
        f"error: There is no stack '{project.stack}' in us-east-1 (account 123456789012). Another name: --stack-name; "
        "another region: --region.\n"
    )


def test_what_others_made_stays(project: Project, moto_server: str) -> None:
    name = f"{project.flow}-others"
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    client(moto_server, "cloudformation").create_stack(StackName=name, TemplateBody=template)
    said = project.refused("destroy", "--confirm", "--stack-name", name)
    assert said == f"error: Stack '{name}' was not made by lokki (it has no tag lokki:managed): it stays.\n"
    assert there(moto_server, name)


def test_running_executions_are_named(deployed: Project, between: Between) -> None:
    machine = f"arn:aws:states:us-east-1:1:stateMachine:{deployed.flow}"
    running = {
        "executionArn": f"{machine}:1",
        "name": "1",
        "status": "RUNNING",
        "stateMachineArn": machine,
        "startDate": 1,
    }
    answer = Reply(200, json.dumps({"executions": [running]}).encode(), {"Content-Type": "application/x-amz-json-1.0"})
    between.replies["states ListExecutions"] = lambda: answer
    outputs = f"<member><OutputKey>StateMachineArn</OutputKey><OutputValue>{machine}</OutputValue></member>"
    stack = stack_says("CREATE_COMPLETE", deployed)
    told = stack.body.replace(b"<Tags>", f"<Outputs>{outputs}</Outputs><Tags>".encode())
    between.replies["cloudformation DescribeStacks"] = lambda: Reply(200, told, stack.headers)
    assert "  1 execution that is still running" in deployed.refused("destroy").splitlines()


def test_a_stack_that_is_being_changed_stays(deployed: Project, between: Between) -> None:
    between.replies["cloudformation DescribeStacks"] = lambda: stack_says("UPDATE_IN_PROGRESS", deployed)
    said = deployed.refused("destroy", "--confirm")
    assert re.search("An update of stack .* is under way since .*: wait for its end, then try again", said)
    assert between.count("cloudformation DeleteStack") == 0


def test_what_cannot_be_removed_is_named_with_the_reason(deployed: Project, between: Between) -> None:
    between.replies["cloudformation DeleteStack"] = lambda: answer_of("DeleteStack", "")
    between.replies["cloudformation DescribeStackEvents"] = one_after_another(
        events_say(deployed, (deployed.stack, STACK, "CREATE_COMPLETE", "")),
        events_say(
            deployed,
            (deployed.stack, STACK, "DELETE_FAILED", "The following resource(s) failed to delete"),
            ("FlapBirdFunction", FUNCTION, "DELETE_FAILED", "AccessDenied: you may not"),
            ("GetBirdsFunction", FUNCTION, "DELETE_COMPLETE", ""),
            (deployed.stack, STACK, "DELETE_IN_PROGRESS", "User Initiated"),
        ),
    )
    said = deployed.refused("destroy", "--confirm").splitlines()
    assert re.search(
        r"step get_birds: removed\n.*step flap_bird: failed \(AccessDenied: you may not\)", "\n".join(said)
    )
    assert said[-1] == (
        f"error: Stack '{deployed.stack}' is not gone: step flap_bird: AccessDenied: you may not. The credentials may "
        "not do this: docs/deploying.md lists what a deployer needs. What could not be removed is still there: remove "
        "the cause, then destroy it again."
    )


def test_data_that_cannot_be_removed_is_named(deployed: Project, bucket_of: str, between: Between) -> None:
    between.replies[f"s3 POST /{bucket_of}?delete"] = lambda: refusal(403, "AccessDenied")
    said = deployed.refused("destroy", "--confirm", "--data")
    assert said.splitlines()[-1].startswith(f"error: Could not remove objects of s3://{bucket_of}/{deployed.flow}/")


def test_interrupted_it_says_what_goes_on(deployed: Project, between: Between) -> None:
    process: subprocess.Popen[str]

    def interrupt() -> Reply:
        os.kill(process.pid, signal.SIGINT)
        return stack_says("DELETE_IN_PROGRESS", deployed)

    def begun() -> Reply:
        between.replies["cloudformation DescribeStacks"] = interrupt
        return answer_of("DeleteStack", "")

    between.replies["cloudformation DeleteStack"] = begun
    process = deployed.start("destroy", "--confirm", stdin=subprocess.DEVNULL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Interrupted. The removal of stack '{deployed.stack}' goes on in AWS. Watch it: aws " in said


def test_credentials_that_expire_on_the_way_leave_a_clear_word(deployed: Project, between: Between) -> None:
    def begun() -> None:
        between.replies["cloudformation DescribeStacks"] = lambda: refusal_of("ExpiredToken", "is expired", 403)

    between.replies["cloudformation DeleteStack"] = begun
    said = deployed.refused("destroy", "--confirm").splitlines()[-1]
    assert "The credentials have expired" in said
    assert f"The removal of stack '{deployed.stack}' goes on in AWS." in said


@pytest.mark.localstack
def test_each_resource_is_told_of_on_localstack(own_account: LocalStack, at_home: Path) -> None:
    flow = Project(at_home / "project", {"LOKKI_AWS_REGION": REGION})
    flow.settings["LOKKI_ARTIFACT_BUCKET"] = bucket = f"{flow.flow}-data"
    flow.done("deploy", "--confirm")
    out, said = flow.done("destroy", "--confirm")
    for what in ("state machine", "step flap_bird", "role of the functions", "log of step join_birds"):
        assert re.search(rf"^  \S+  {what}: removed$", said, re.MULTILINE)
    assert out == f"✓ Removed stack '{flow.stack}'\n"
    assert own_account.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    assert "There is no stack" in flow.refused("destroy", "--confirm")
