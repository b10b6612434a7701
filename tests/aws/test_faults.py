"""What becomes of `deploy` and `destroy` when AWS, the network or somebody else gets in the way half-way.

Between the commands and moto is a relay that loses, cuts and refuses. Whatever it does, the command ends with one
sentence that says where, what, and what to do; and what is left in AWS is said.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws.deployed import client
from tests.aws.projects import Between, Project, one_after_another, refusal_of
from tests.builder.projects import write
from tests.moto_server import LOST, Reply, refusal

ZIP = "s3 PUT .*function.zip.*"
THROTTLED = refusal_of("Throttling", "Rate exceeded")
BROKEN = Reply(503)
SIGN_IN = Reply(200, b"<html><body>Welcome to the Hotel Wifi</body></html>", {"Content-Type": "text/html"})


@pytest.fixture
def between(moto_server: str) -> Iterator[Between]:
    """A relay in front of the shared server."""
    relay = Between(moto_server)
    yield relay
    relay.close()


@pytest.fixture
def project(at_home: Path, bucket: str, between: Between) -> Project:
    """A flow that can be deployed by somebody who gives up after the second time."""
    made = between.project(at_home / "project", bucket)
    made.settings["AWS_MAX_ATTEMPTS"] = "2"
    return made


@pytest.fixture
def deployed(project: Project, between: Between) -> Project:
    """A flow that has been deployed."""
    return between.deployed(project)


def error_of(project: Project, *arguments: str) -> str:
    """The one sentence with which a command fails; what it told before is no part of it, and no traceback is."""
    said = project.refused(*arguments)
    assert "Traceback" not in said
    *_, last = said.splitlines()
    assert said.count("error: ") == 1
    assert last.startswith("error: ")
    return last.removeprefix("error: ")


def left(project: Project, endpoint: str) -> list[str]:
    """What is left in AWS of a project: stacks, change sets, functions, unfinished uploads."""
    formation = client(endpoint, "cloudformation")
    stacks = [each for each in formation.describe_stacks()["Stacks"] if each["StackName"] == project.stack]
    found = [each["StackStatus"] for each in stacks if each["StackStatus"] != "DELETE_COMPLETE"]
    sets = formation.list_change_sets(StackName=project.stack)["Summaries"]
    found += [each["ChangeSetName"] for each in sets if each["StackName"] == project.stack]
    names = client(endpoint, "lambda").get_paginator("list_functions").paginate().search("Functions[].FunctionName")
    found += [each for each in names if each.startswith(f"{project.flow}-")]
    uploads = client(endpoint, "s3").list_multipart_uploads(Bucket=project.settings["LOKKI_ARTIFACT_BUCKET"])
    return found + [each["Key"] for each in uploads.get("Uploads", ())]


def test_a_build_folder_that_is_not_ours_stays_and_nothing_is_asked(project: Project, between: Between) -> None:
    write(project.folder, {"lokki-build/diary.txt": "dear diary"})
    assert error_of(project, "deploy", "--confirm").startswith("lokki-build holds files that no build has made")
    assert [(each.name, each.read_text()) for each in (project.folder / "lokki-build").iterdir()] == [
        ("diary.txt", "dear diary")
    ]
    assert between.actions == []


# --- AWS is busy or out of order


@pytest.mark.parametrize(
    ("action", "reply", "said"),
    [
        ("sts GetCallerIdentity", BROKEN, r"Could not ask who you are: .*503.* AWS was asked 2 times, ever more slow"),
        ("cloudformation DescribeStacks", THROTTLED, r"look at stack '.*': Rate exceeded \(Throttling\)\. AWS was ask"),
        ("cloudformation CreateChangeSet", THROTTLED, r"look at what changes in stack '.*': Rate exceeded"),
        ("cloudformation DescribeChangeSet", BROKEN, r"look at what changes in stack '.*503.* AWS was asked 2 times"),
        ("s3 PUT .*function.zip.*", refusal(503, "SlowDown", "Reduce your rate"), r"upload failed, and nothing was"),
        ("s3 HEAD .*function.zip", BROKEN, r"Could not look for s3://.*function\.zip: .*503.* AWS was asked 2 times"),
        ("cloudformation ExecuteChangeSet", THROTTLED, r"start the change of stack '.*': Rate exceeded .* AWS was ask"),
        ("sts GetCallerIdentity", SIGN_IN, r"Could not ask who you are: what answered is not AWS\. Check aws\.endp"),
    ],
)  # fmt: skip
def test_what_goes_on_failing_is_given_up_and_leaves_nothing(
    project: Project, between: Between, moto_server: str, action: str, reply: Reply, said: str
) -> None:
    between.replies[action] = lambda: reply
    error = error_of(project, "deploy", "--confirm")
    assert re.search(said, error), error
    assert between.count(action) == (1 if reply is SIGN_IN else 2)
    assert left(project, moto_server) == []


def test_what_fails_a_few_times_is_asked_again(project: Project, between: Between) -> None:
    del project.settings["AWS_MAX_ATTEMPTS"]
    between.replies["cloudformation CreateChangeSet"] = one_after_another(THROTTLED, BROKEN, THROTTLED)
    between.replies[ZIP] = one_after_another(refusal(503, "SlowDown"), refusal(500, "InternalError"))
    project.done("deploy", "--confirm")
    assert between.count("cloudformation CreateChangeSet") == 4
    assert between.count(ZIP) == 3
    attempts = [each.headers["amz-sdk-request"] for each in between.asked if each.method == "PUT"]
    assert [each.split("attempt=")[1] for each in attempts] == ["3; max=8"]  # the refused ones never came so far


# --- the network is cut


def test_an_upload_that_is_cut_is_sent_again(project: Project, between: Between) -> None:
    between.cut(ZIP, after=10_000, times=1)
    out, _ = project.done("deploy", "--confirm")
    assert "✓ Deployed stack" in out
    assert between.count(ZIP) == 1


def test_an_upload_that_is_cut_again_and_again_deploys_nothing(
    project: Project, between: Between, moto_server: str, s3: Any
) -> None:
    between.cut(ZIP, after=10_000)
    error = error_of(project, "deploy", "--confirm")
    assert re.match(
        r"The upload failed, and nothing was deployed\. s3://\S+/function\.zip cannot be written: http://\S+ does not "
        r"answer; check aws\.endpoint \(LOKKI_AWS_ENDPOINT\) \(.*\)\.$",
        error,
    ), error
    assert left(project, moto_server) == []
    assert "Contents" not in s3.list_objects_v2(Bucket=project.settings["LOKKI_ARTIFACT_BUCKET"])


@pytest.mark.parametrize("for_good", [False, True])
def test_parts_of_a_large_upload_are_removed_or_told_of(
    project: Project, between: Between, moto_server: str, for_good: bool
) -> None:
    digits = random.Random(1).randbytes(9 << 20).hex()
    write(project.folder, {"feathers.py": f"DOWN = '{digits}'\n"})
    project.change("from lokki", "import feathers\n    from lokki")
    bucket, key = project.settings["LOKKI_ARTIFACT_BUCKET"], r"s3://\S+/function\.zip"
    between.cut(f"{ZIP}partNumber=2.*" + ("|s3 DELETE .*" if for_good else ""), after=10_000)
    error = error_of(project, "deploy", "--confirm")
    assert re.match(
        rf"The upload failed, and nothing was deployed\. {key} cannot be written: .* does not answer", error
    )
    unfinished = client(moto_server, "s3").list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert len(unfinished) == for_good
    assert (f"Parts of it are left: aws s3api abort-multipart-upload --bucket {bucket} " in error) == for_good
    for each in unfinished:
        client(moto_server, "s3").abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])


@pytest.mark.parametrize(
    "asked", ["cloudformation CreateChangeSet", "cloudformation ExecuteChangeSet", "cloudformation DescribeStackEvents"]
)
def test_an_answer_that_is_lost_is_asked_for_again(deployed: Project, between: Between, asked: str) -> None:
    deployed.toml += "memory = 1024\n"
    between.replies[asked] = one_after_another(LOST)
    out, _ = deployed.done("deploy", "--confirm")
    assert "memory 512 MB → 1024 MB" in out
    assert between.count(asked) > 1
    assert "nothing changes" in deployed.done("deploy")[0]


def test_a_bucket_whose_making_was_lost_is_ours(project: Project, between: Between, s3: Any) -> None:
    project.settings["LOKKI_ARTIFACT_BUCKET"] = name = f"{project.flow}-bucket"
    project.settings["LOKKI_AWS_REGION"] = "eu-west-1"
    between.replies[f"s3 PUT /{name}"] = one_after_another(LOST)
    project.done("deploy", "--confirm")
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 1


def test_what_may_have_begun_is_said(deployed: Project, between: Between) -> None:
    deployed.toml += "memory = 1024\n"

    def gone() -> Reply:
        between.torn = lambda asked: 0
        return LOST

    between.replies["cloudformation ExecuteChangeSet"] = gone
    error = error_of(deployed, "deploy", "--confirm")
    assert re.match("Could not start the change of stack '.*': Connection was closed .* Check aws", error)
    assert re.search(
        r"It is not known whether AWS got so far: The update of stack '.*' goes on in AWS\. Watch it: aws cloudf", error
    )


def test_a_removal_that_may_have_begun_is_said(deployed: Project, between: Between, moto_server: str) -> None:
    between.replies["cloudformation DeleteStack"] = lambda: LOST
    error = error_of(deployed, "destroy", "--confirm")
    assert re.search("known whether AWS got so far: The removal of stack '.*' goes on in AWS. Watch it: aws", error)
    del between.replies["cloudformation DeleteStack"]
    assert "There is no stack" in deployed.refused("destroy", "--confirm")


# --- credentials expire


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("cloudformation CreateChangeSet", r"look at what changes in stack '.*: The .* The credentials have exp"),
        ("cloudformation DescribeChangeSet", r"look at what changes in stack '.*: The .* The credentials have exp"),
        ("s3 HEAD .*function.zip", r"Could not look for s3://.*\(400\)\. .* most likely the credentials have expired"),
        (ZIP, r"upload failed, and nothing was deployed\. s3://.*: the AWS credentials have expired; sign in again"),
        ("cloudformation DescribeStackEvents", r"Could not read the events of stack '.* The credentials have exp"),
        ("cloudformation ExecuteChangeSet", r"Could not start the change of stack '.* The credentials have exp"),
    ],
)
def test_credentials_that_expire_before_the_change_leave_things_as_they_were(
    deployed: Project, between: Between, last: str, said: str
) -> None:
    deployed.toml += "memory = 1024\n"
    deployed.change("flappy", "happy")
    between.expire(last)
    code, _, told = deployed.run("deploy", "--confirm")
    *notes, error = told.splitlines()
    assert (code, "Traceback" in told) == (1, False)
    assert re.match(f"error: .*{said}", error), told
    assert not re.search("goes on in AWS|new code", error)
    planned = last != "cloudformation CreateChangeSet"
    assert any(re.match("The change set .* could not be removed; it does nothing", each) for each in notes) == planned


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("lambda PUT .*flap_bird/code", "are getting new code, some may have it: deploy again to finish."),
        ("lambda GET .*flap_bird/configuration", "are getting new code, some may have it: deploy again to finish."),
        ("cloudformation ExecuteChangeSet", "have the new code, and CloudFormation does not know: deploy again."),
    ],
)
def test_credentials_that_expire_while_functions_get_new_code(
    deployed: Project, between: Between, last: str, said: str
) -> None:
    deployed.change("flappy", "happy")
    between.expire(last)
    error = error_of(deployed, "deploy", "--confirm")
    assert "The credentials have expired" in error
    assert re.search(rf"unctions of stack '{deployed.stack}' {said}$", error)
    between.expire("")
    assert "The new code is live in all 3 functions." in deployed.done("deploy", "--confirm")[0]


def test_credentials_that_expire_after_the_change(deployed: Project, between: Between) -> None:
    between.expire("lambda PUT .*/code")
    deployed.toml += "memory = 1024\n"
    error = error_of(deployed, "deploy", "--confirm", "--force")
    assert re.match("Could not give function '.*' its new code: .* The credentials have expired", error)
    assert error.endswith(f"Stack '{deployed.stack}' is deployed.")
