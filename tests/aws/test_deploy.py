"""`deploy` as a person meets it: what is checked, shown, asked and sent, what fails and how it is said."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from hashlib import sha256
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
    plan,
    refusal_of,
    stack_says,
)
from tests.localstack_server import REGION, LocalStack, settled
from tests.moto_server import Reply, refusal

OUTPUT = re.compile(r"✓ Deployed stack '(?P<stack>[\w-]+)'\n(State Machine (?P<machine>\S+)\n)?Code +(?P<code>\S+)\n")


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


def stacks(project: Project, endpoint: str) -> list[str]:
    """The states of the project's stacks."""
    found = client(endpoint, "cloudformation").describe_stacks()["Stacks"]
    return [each["StackStatus"] for each in found if each["StackName"] == project.stack]


def code_of(endpoint: str, function: str) -> str:
    """The digest of a function's code."""
    return str(client(endpoint, "lambda").get_function(FunctionName=function)["Configuration"]["CodeSha256"])


def built(project: Project) -> str:
    """The digest of the package that was built last."""
    package = (project.folder / "lokki-build/lambdas/function.zip").read_bytes()
    return base64.b64encode(sha256(package).digest()).decode()


# --- a new stack


def test_a_new_stack_is_shown_asked_for_made_and_reported(project: Project, moto_server: str, s3: Any) -> None:
    code, out, said = project.run("deploy", answer="y\n")
    assert code == 0, said
    assert out.startswith(f"Creating stack '{project.stack}':\n")
    assert plan(out) == [
        "new: step get_birds",
        "new: step flap_bird",
        "new: step join_birds",
        "new: role of the functions",
        "new: role of the state machine",
        "new: state machine",
    ]
    assert f"Deploy stack '{project.stack}'? (y/N)" in out
    found = OUTPUT.search(out)
    assert found
    key = found["code"].removeprefix(f"s3://{project.settings['LOKKI_ARTIFACT_BUCKET']}/")
    assert key.startswith(f"{project.flow}/artifacts/lambdas/")
    assert s3.head_object(Bucket=project.settings["LOKKI_ARTIFACT_BUCKET"], Key=key)
    for step in ("get_birds", "flap_bird", "join_birds"):
        assert code_of(moto_server, f"{project.flow}-{step}") == built(project)
    (stack,) = client(moto_server, "cloudformation").describe_stacks(StackName=project.stack)["Stacks"]
    assert {each["Key"]: each["Value"] for each in stack["Tags"]} == {
        "lokki:managed": "true",
        "lokki:flow-name": project.flow,
    }


@pytest.mark.parametrize(
    ("arguments", "answer", "code", "words"),
    [
        (["deploy"], "n\n", 0, "Nothing was changed."),
        (["deploy"], "\n", 0, "Nothing was changed."),
        (["deploy"], None, 1, "Nobody can be asked here: add --confirm to say yes. Nothing was changed."),
        (["deploy", "--plan"], None, 0, ""),
    ],
)
def test_without_a_yes_nothing_is_left_behind(
    project: Project, moto_server: str, s3: Any, arguments: list[str], answer: str | None, code: int, words: str
) -> None:
    done, out, said = project.run(*arguments, answer=answer)
    assert (done, words in said) == (code, True)
    assert "new: step flap_bird" in plan(out)
    assert set(stacks(project, moto_server)) <= {"DELETE_COMPLETE"}
    assert "Contents" not in s3.list_objects_v2(Bucket=project.settings["LOKKI_ARTIFACT_BUCKET"])


def test_a_stack_may_have_another_name(project: Project, moto_server: str) -> None:
    out, _ = project.done("deploy", "--confirm", "--stack-name", f"{project.flow}-other")
    assert f"✓ Deployed stack '{project.flow}-other'" in out
    assert client(moto_server, "cloudformation").describe_stacks(StackName=f"{project.flow}-other")["Stacks"]


def test_a_second_stack_of_a_flow_is_refused_before_anything_is_changed(deployed: Project, between: Between) -> None:
    said = deployed.refused("deploy", "--confirm", "--stack-name", f"{deployed.flow}-other")
    assert f"is deployed in us-east-1 already, as stack '{deployed.stack}', and an account has its functions" in said
    assert said.count("\n") == 1
    assert between.count("cloudformation (Create|Execute|Delete).*|s3 PUT .*") == 0


def test_a_name_that_something_else_has_is_refused(project: Project, between: Between, moto_server: str) -> None:
    logs, name = client(moto_server, "logs"), f"/aws/lambda/{project.flow}-flap_bird"
    logs.create_log_group(logGroupName=name)
    said = project.refused("deploy", "--confirm")
    assert said == (
        f"error: Log group '{name}' exists in us-east-1 already and does not belong to stack '{project.stack}': remove "
        "it if nobody needs it, or rename the flow. Nothing was changed.\n"
    )
    assert between.count("cloudformation (Create|Execute|Delete).*|s3 PUT .*") == 0
    logs.delete_log_group(logGroupName=name)
    between.deployed(project)
    logs.create_log_group(logGroupName=f"/aws/lambda/{project.flow}-unite_birds")
    project.change("join_birds", "unite_birds")
    assert "-unite_birds' exists in us-east-1 already" in project.refused("deploy", "--confirm")


def test_names_that_may_not_be_looked_at_are_left_to_cloudformation(project: Project, between: Between) -> None:
    denied = Reply(400, b'{"__type": "AccessDeniedException", "message": "no"}')
    between.replies["logs DescribeLogGroups"] = between.replies["states DescribeStateMachine"] = lambda: denied
    out, _ = project.done("deploy", "--confirm")
    assert OUTPUT.search(out)


def test_parameters_become_defaults(project: Project) -> None:
    project.change("def get_birds(): return", "def get_birds(n: int): return n *")
    project.change("def NAME(): return get_birds()", "def NAME(n: int): return get_birds(n)")
    project.done("deploy", "--plan", "--n", "3")
    assert '{\\"n\\": 3}' in (project.folder / "lokki-build/statemachine.json").read_text()


def test_a_large_template_goes_by_way_of_the_bucket(project: Project, between: Between, s3: Any) -> None:
    steps = "\n".join(f"    @step\n    def call_{at}(birds): return birds\n" for at in range(40))
    project.text = project.text.replace("    @flow", f"{steps}\n    @flow").replace(
        "agg(join_birds)", "agg(join_birds)" + "".join(f".next(call_{at})" for at in range(40))
    )
    project.settings["LOKKI_AWS_ENDPOINT"] = between.url.replace("127.0.0.1", "localhost")
    project.done("deploy", "--plan")
    listed = s3.list_objects_v2(Bucket=project.settings["LOKKI_ARTIFACT_BUCKET"])["Contents"]
    (key,) = [each["Key"] for each in listed]
    assert re.fullmatch(rf"{project.flow}/artifacts/templates/[0-9a-f]{{16}}\.yaml", key)


# --- changes


def test_what_is_deployed_already_is_left_alone(deployed: Project, between: Between) -> None:
    out, _ = deployed.done("deploy")
    assert out == f"Stack '{deployed.stack}' is up to date: nothing changes.\n"
    assert between.count("cloudformation (Create|Execute|Delete).*|s3 PUT .*|lambda (PUT|POST) .*") == 0


def test_new_code_goes_to_the_functions_and_cloudformation_records_it(
    deployed: Project, between: Between, moto_server: str
) -> None:
    before = built(deployed)
    deployed.change("flappy", "happy")
    out, _ = deployed.done("deploy", "--confirm")
    assert plan(out) == ["steps get_birds, flap_bird, join_birds: code"]
    assert "The new code is live in all 3 functions." in out
    assert built(deployed) != before
    assert code_of(moto_server, f"{deployed.flow}-flap_bird") == built(deployed)
    assert between.count("lambda PUT /2015-03-31/functions/.*/code") == 3
    assert between.count("s3 PUT .*function.zip.*") == 1
    template = client(moto_server, "cloudformation").get_template(StackName=deployed.stack)["TemplateBody"]
    assert template == (deployed.folder / "lokki-build/template.yaml").read_text()
    assert "nothing changes" in deployed.done("deploy")[0]


def test_going_back_to_earlier_code_is_a_change_and_needs_no_upload(
    deployed: Project, between: Between, moto_server: str
) -> None:
    deployed.change("flappy", "happy")
    deployed.done("deploy", "--confirm")
    between.actions.clear()
    deployed.change("happy", "flappy")
    _, said = deployed.done("deploy", "--confirm")
    assert "The code is in the bucket already" in said
    assert between.count("s3 PUT .*") == 0
    assert code_of(moto_server, f"{deployed.flow}-flap_bird") == built(deployed)


def test_functions_that_refuse_new_code_are_changed_by_cloudformation(deployed: Project, between: Between) -> None:
    deployed.change("flappy", "happy")
    denied = Reply(403, b'{"Message": "no"}', {"x-amzn-ErrorType": "AccessDeniedException"})
    between.replies[f"lambda PUT /2015-03-31/functions/{deployed.flow}-flap_bird/code"] = lambda: denied
    out, said = deployed.done("deploy", "--confirm")
    assert "(AccessDeniedException)" in said
    assert "CloudFormation changes the whole stack instead." in said
    assert "is live" not in out
    assert OUTPUT.search(out)


def test_a_function_that_is_busy_is_asked_again(deployed: Project, between: Between) -> None:
    deployed.change("flappy", "happy")
    busy = Reply(409, b'{"Message": "busy"}', {"x-amzn-ErrorType": "ResourceConflictException"})
    between.replies[f"lambda PUT /2015-03-31/functions/{deployed.flow}-flap_bird/code"] = one_after_another(busy)
    out, _ = deployed.done("deploy", "--confirm")
    assert "The new code is live in all 3 functions." in out


def test_configuration_and_structure_are_changed_by_cloudformation(deployed: Project, moto_server: str) -> None:
    deployed.toml += "memory = 1024\n"
    deployed.change("join_birds", "unite_birds")
    out, _ = deployed.done("deploy", "--confirm")
    assert plan(out)[:2] == [
        "new: step unite_birds",
        "steps get_birds, flap_bird: code, memory 512 MB → 1024 MB",
    ]
    assert "role of the state machine: new permission lambda:InvokeFunction on step unite_birds" in plan(out)
    assert plan(out)[-2:] == [
        "state machine: new state UniteBirds, changed state GetBirdsMap, removed state JoinBirds",
        "removed: step join_birds",
    ]
    names = client(moto_server, "lambda").get_paginator("list_functions").paginate().search("Functions[].FunctionName")
    assert {each for each in names if each.startswith(f"{deployed.flow}-")} == {
        f"{deployed.flow}-{step}" for step in ("get_birds", "flap_bird", "unite_birds")
    }


def test_force_sends_and_sets_the_code_again(deployed: Project, between: Between) -> None:
    out, _ = deployed.done("deploy", "--confirm", "--force")
    assert "The new code is live in all 3 functions." in out
    assert between.count("s3 PUT .*function.zip.*") == 1
    assert between.count("lambda PUT /2015-03-31/functions/.*/code") == 3


# --- what is refused before anything is changed


def test_a_missing_bucket_is_offered_and_made(project: Project, s3: Any) -> None:
    project.settings["LOKKI_ARTIFACT_BUCKET"] = name = f"{project.flow}-bucket"
    out, _ = project.done("deploy", "--plan")
    assert f"Bucket '{name}' does not exist; deploying offers to create it." in out
    assert "Nobody can be asked here" in project.refused("deploy")
    code, _, said = project.run("deploy", answer="n\n")
    assert (code, said) == (1, f"error: There is no bucket '{name}' to deploy from: set aws.artifact_bucket.\n")
    out, said = project.done("deploy", "--confirm")
    assert f"Created bucket {name}." in said
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Reply(200, b"", {"x-amz-bucket-region": "eu-west-1"}),
            "is in eu-west-1, and the flow would be deployed to us",
        ),
        (refusal(403, "AccessDenied"), "exists, but these credentials may not use it"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_sentence(
    project: Project, between: Between, reply: Reply, words: str
) -> None:
    between.replies[f"s3 HEAD /{project.settings['LOKKI_ARTIFACT_BUCKET']}"] = lambda: reply
    said = project.refused("deploy", "--confirm")
    assert words in said
    assert said.count("\n") == 1
    assert between.count("cloudformation .*") == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [("ExpiredToken", "sign in again"), ("InvalidClientTokenId", "AWS does not know these credentials")],
)
def test_bad_credentials_are_one_sentence(project: Project, between: Between, code: str, words: str) -> None:
    between.replies["sts GetCallerIdentity"] = lambda: refusal_of(code, "no", 403)
    said = project.refused("deploy", "--confirm")
    assert words in said
    assert said.count("\n") == 1
    assert between.count("cloudformation .*|s3 .*") == 0


def test_no_credentials_are_one_sentence(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    said = project.refused("deploy", "--confirm")
    assert said == (
        "error: Could not ask who you are: there are no AWS credentials. Set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run "
        "`aws configure`.\n"
    )


@pytest.mark.parametrize(
    ("status", "tags", "words"),
    [
        ("UPDATE_ROLLBACK_FAILED", None, r"aws cloudformation continue-update-rollback --stack-name birds-\w+-stack"),
        ("UPDATE_IN_PROGRESS", None, "An update of stack .* is under way since .*03:04:58 .*wait for its end"),
        ("DELETE_IN_PROGRESS", None, "The removal of stack .* is under way since"),
        ("ROLLBACK_COMPLETE", None, "is empty: its creation failed .* Remove it and create it again. Nobody"),
        ("CREATE_COMPLETE", {}, "was not made by lokki, .* choose another name with --stack-name"),
        ("CREATE_COMPLETE", {"lokki:managed": "true", "lokki:flow-name": "bees"}, "is that of the flow 'bees'"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_explained(
    project: Project, between: Between, status: str, tags: dict[str, str] | None, words: str
) -> None:
    between.replies["cloudformation DescribeStacks"] = lambda: stack_says(status, project, tags)
    between.replies["cloudformation GetTemplate"] = lambda: answer_of(
        "GetTemplate", "<TemplateBody>Resources: {}</TemplateBody>"
    )
    between.replies["cloudformation DescribeStackEvents"] = lambda: events_say(
        project,
        ("Role", "AWS::IAM::Role", status, ""),
        (project.stack, STACK, status, ""),
        (project.stack, STACK, "CREATE_COMPLETE", ""),
    )
    said = project.refused("deploy")
    assert re.search(words, said)
    assert said.count("\n") == 1
    assert between.count("cloudformation (Create|Execute|Delete).*") == 0


def test_a_stack_that_was_never_created_is_removed_and_made_again(project: Project, between: Between) -> None:
    dead = stack_says("ROLLBACK_COMPLETE", project)
    between.replies["cloudformation DescribeStacks"] = one_after_another(dead, dead)
    between.replies["cloudformation DeleteStack"] = lambda: answer_of("DeleteStack", "")
    between.replies["cloudformation DescribeStackEvents"] = one_after_another(events_say(project))
    out, said = project.done("deploy", "--confirm")
    assert f"Removed what was left of stack '{project.stack}'." in said
    assert OUTPUT.search(out)


def test_a_stack_that_somebody_brings_to_life_meanwhile_is_not_removed(project: Project, between: Between) -> None:
    alive = stack_says("CREATE_IN_PROGRESS", project)
    between.replies["cloudformation DescribeStacks"] = one_after_another(
        stack_says("ROLLBACK_COMPLETE", project), alive, alive
    )
    said = project.refused("deploy", "--confirm")
    assert said == (
        f"error: Stack '{project.stack}' was changed since it was looked at (CREATE_IN_PROGRESS now): deploy again.\n"
    )
    assert between.count("cloudformation DeleteStack") == 0


def test_a_stack_that_others_are_planning_too_is_told_of_and_never_removed(project: Project, between: Between) -> None:
    cloudformation = client(project.settings["LOKKI_AWS_ENDPOINT"], "cloudformation")
    cloudformation.create_change_set(
        StackName=project.stack,
        ChangeSetName="left",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}),
    )
    out, said = project.done("deploy", "--confirm")
    assert re.match(rf"Stack '{project.stack}' is empty: a plan was made for it \(.*\) and never carried out, or", said)
    assert OUTPUT.search(out)
    assert between.count("cloudformation DeleteStack") == 0


def test_the_record_of_the_last_deployment_is_waited_for(deployed: Project, between: Between) -> None:
    busy = stack_says("UPDATE_IN_PROGRESS", deployed, change_set="lokki-code-12ab/1")
    ended = events_say(deployed, (deployed.stack, STACK, "UPDATE_COMPLETE", ""))
    between.replies["cloudformation DescribeStacks"] = one_after_another(busy, busy, busy)
    between.replies["cloudformation DescribeStackEvents"] = one_after_another(ended, ended)
    out, said = deployed.done("deploy")
    assert said == "CloudFormation is still recording the code of the last deployment: waiting for it ...\n"
    assert "nothing changes" in out


# --- what goes wrong on the way


def test_a_failure_names_the_first_resource_and_what_to_do(project: Project, between: Between) -> None:
    between.replies["cloudformation ExecuteChangeSet"] = lambda: answer_of("ExecuteChangeSet", "")
    between.replies["cloudformation DescribeStackEvents"] = one_after_another(
        events_say(project, (project.stack, STACK, "REVIEW_IN_PROGRESS", "")),
        events_say(
            project,
            (project.stack, STACK, "ROLLBACK_COMPLETE", ""),
            ("GetBirdsFunction", FUNCTION, "CREATE_FAILED", "Resource creation cancelled"),
            ("FlapBirdFunction", FUNCTION, "CREATE_FAILED", "Function already exists"),
            (project.stack, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
        ),
    )
    said = project.refused("deploy", "--confirm")
    assert said.splitlines()[-1] == (
        f"error: Stack '{project.stack}' failed: step flap_bird: Function already exists. Something else has this "
        "name. Remove that, or rename the flow. Nothing of it is left; deploying again offers to remove the empty "
        "stack."
    )
    assert re.search(r"^  \S+  step flap_bird: failed \(Function already exists\)$", said, re.MULTILINE)


def test_a_second_deployment_says_that_the_first_is_under_way(deployed: Project, between: Between) -> None:
    deployed.toml += "memory = 1024\n"

    def overtaken() -> Reply:
        between.replies["cloudformation DescribeStacks"] = lambda: stack_says("UPDATE_IN_PROGRESS", deployed)
        return refusal_of("InvalidChangeSetStatus", "cannot be executed")

    between.replies["cloudformation ExecuteChangeSet"] = overtaken
    said = deployed.refused("deploy", "--confirm")
    assert re.search(r"error: An update of stack .* is under way since .*: wait for its end, then try again", said)


def test_a_stack_that_is_removed_meanwhile_is_said(deployed: Project, between: Between, moto_server: str) -> None:
    deployed.toml += "memory = 1024\n"

    def removed() -> Reply:
        client(moto_server, "cloudformation").delete_stack(StackName=deployed.stack)
        return answer_of("ExecuteChangeSet", "")

    between.replies["cloudformation ExecuteChangeSet"] = removed
    said = deployed.refused("deploy", "--confirm")
    assert "was removed by somebody else while it was being deployed" in said.splitlines()[-1]


def test_credentials_that_expire_on_the_way_leave_a_clear_word(deployed: Project, between: Between) -> None:
    deployed.toml += "memory = 1024\n"

    def executed() -> None:
        between.replies["cloudformation DescribeStacks"] = lambda: refusal_of("ExpiredToken", "is expired", 403)

    between.replies["cloudformation ExecuteChangeSet"] = executed
    said = deployed.refused("deploy", "--confirm").splitlines()[-1]
    assert "The credentials have expired" in said
    assert f"The update of stack '{deployed.stack}' goes on in AWS. Watch it: aws cloudformation" in said


def test_throttling_and_faults_of_aws_are_waited_out(project: Project, between: Between) -> None:
    throttled = refusal_of("Throttling", "Rate exceeded")
    between.replies["cloudformation CreateChangeSet"] = one_after_another(throttled, refusal_of("Oops", "", 503))
    between.replies["cloudformation DescribeStackEvents"] = one_after_another(throttled)
    out, _ = project.done("deploy", "--confirm")
    assert OUTPUT.search(out)


def test_an_upload_that_is_refused_deploys_nothing(project: Project, between: Between, moto_server: str) -> None:
    bucket = project.settings["LOKKI_ARTIFACT_BUCKET"]
    project.done("deploy", "--plan")
    key = re.search(r"S3Key: !Sub \$\{FlowName\}(\S+)", (project.folder / "lokki-build/template.yaml").read_text())
    assert key
    between.replies[f"s3 PUT /{bucket}/{project.flow}{key[1]}"] = lambda: refusal(403, "AccessDenied")
    said = project.refused("deploy", "--confirm")
    assert said.startswith("error: The upload failed, and nothing was deployed.")
    assert set(stacks(project, moto_server)) <= {"DELETE_COMPLETE"}


def test_interrupted_it_says_what_goes_on_in_aws(deployed: Project, between: Between) -> None:
    deployed.toml += "memory = 1024\n"
    process: subprocess.Popen[str]

    def interrupt() -> Reply:
        os.kill(process.pid, signal.SIGINT)
        return stack_says("UPDATE_IN_PROGRESS", deployed)

    def executed() -> None:
        between.replies["cloudformation DescribeStacks"] = interrupt

    between.replies["cloudformation ExecuteChangeSet"] = executed
    process = deployed.start("deploy", "--confirm", stdin=subprocess.DEVNULL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Interrupted. The update of stack '{deployed.stack}' goes on in AWS. Watch it: aws " in said


# --- from end to end


@pytest.mark.localstack
def test_a_flow_lives_on_localstack(own_account: LocalStack, at_home: Path) -> None:
    project = Project(at_home / "project", {"LOKKI_AWS_REGION": REGION, "LOKKI_ARTIFACT_BUCKET": "flocks"})
    project.settings["LOKKI_ARTIFACT_BUCKET"] = bucket = f"{project.flow}-data"
    out, said = project.done("deploy", "--confirm")
    assert re.search(r"^  \S+  step flap_bird: created$", said, re.MULTILINE)
    assert result_of(own_account, out, bucket) == "flappy goose, flappy duck"
    assert "nothing changes" in project.done("deploy")[0]

    project.toml += "memory = 1024\n"
    out, _ = project.done("deploy", "--confirm")
    assert plan(out) == ["steps get_birds, flap_bird, join_birds: memory 512 MB → 1024 MB"]

    project.change("join_birds", "unite_birds")
    out, said = project.done("deploy", "--confirm")
    assert {"new: step unite_birds", "removed: step join_birds"} <= set(plan(out))
    assert re.search(r"^  \S+  step join_birds: removed$", said, re.MULTILINE)

    project.change("flappy", "happy")
    out, _ = project.done("deploy", "--confirm")
    assert "The new code is live in all 3 functions." in out
    assert "nothing changes" in project.done("deploy")[0]  # once CloudFormation has recorded that
    assert result_of(own_account, out, bucket) == "happy goose, happy duck"

    project.change("happy", "flappy")
    project.done("deploy", "--confirm")
    out, _ = project.done("destroy", "--confirm", "--data")  # likewise
    assert f"✓ Removed stack '{project.stack}'" in out
    assert own_account.client("lambda").list_functions()["Functions"] == []
    assert own_account.client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert own_account.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.localstack
def test_a_creation_that_fails_on_localstack_is_explained_and_made_good(own_account: LocalStack, at_home: Path) -> None:
    project = Project(at_home / "project", {"LOKKI_AWS_REGION": REGION})
    project.settings["LOKKI_ARTIFACT_BUCKET"] = f"{project.flow}-data"
    where = {"LocationConstraint": REGION}
    own_account.client("s3").create_bucket(Bucket=f"{project.flow}-data", CreateBucketConfiguration=where)
    logs, taken = own_account.client("logs"), f"/aws/lambda/{project.flow}-flap_bird"
    here, there = pty.openpty()
    process = project.start("deploy", stdin=there)
    assert process.stdout
    shown = ""
    while not shown.endswith("(y/N)") and (letter := process.stdout.read(1)):
        shown += letter
    logs.create_log_group(logGroupName=taken)  # by somebody who is quicker
    os.write(here, b"y\n")
    _, said = process.communicate(timeout=100)
    os.close(here)
    os.close(there)
    assert process.returncode == 1
    assert re.search(rf"error: Stack '{project.stack}' failed: log of step flap_bird: .*exist", said)
    assert f"Log group '{taken}' exists in {REGION} already" in project.refused("deploy", "--confirm")
    logs.delete_log_group(logGroupName=taken)
    out, said = project.done("deploy", "--confirm")
    assert f"Removed what was left of stack '{project.stack}'." in said
    assert OUTPUT.search(out)


@pytest.mark.localstack
def test_a_second_stack_of_a_flow_is_refused_and_removing_what_there_is_of_one_leaves_the_first(
    own_account: LocalStack, at_home: Path
) -> None:
    project = Project(at_home / "project", {"LOKKI_AWS_REGION": REGION})
    project.settings["LOKKI_ARTIFACT_BUCKET"] = f"{project.flow}-data"
    project.done("deploy", "--confirm")
    said = project.refused("deploy", "--confirm", "--stack-name", "second")
    assert said == (
        f"error: Flow '{project.flow}' is deployed in {REGION} already, as stack '{project.stack}', and an account has "
        f"its functions and its state machine once in a region: deploy with --stack-name {project.stack}, to another "
        "--region, or rename the flow. Nothing was changed.\n"
    )
    stacks = own_account.client("cloudformation")
    template = (project.folder / "lokki-build/template.yaml").read_text()
    tags = [{"Key": "lokki:managed", "Value": "true"}]
    stacks.create_stack(StackName="second", TemplateBody=template, Capabilities=["CAPABILITY_IAM"], Tags=tags)
    settled(own_account, "second")
    assert stacks.describe_stacks(StackName="second")["Stacks"][0]["StackStatus"] == "CREATE_FAILED"
    project.done("destroy", "--confirm", "--stack-name", "second")
    assert len(own_account.client("lambda").list_functions()["Functions"]) == 3
    assert len(own_account.client("logs").describe_log_groups()["logGroups"]) == 3
    assert project.done("invoke")[0] == "flappy goose, flappy duck\n"


def result_of(account: LocalStack, out: str, bucket: str) -> Any:
    """The value of an execution of what was just deployed."""
    from lokki.store.s3 import S3Store

    found = OUTPUT.search(out)
    assert found
    begun = account.client("stepfunctions").start_execution(stateMachineArn=found["machine"], input="{}")
    ended = account.ended(begun["executionArn"])
    assert ended["status"] == "SUCCEEDED", ended
    store = S3Store(bucket=bucket, prefix="", client=account.client("s3"))
    return store.read(json.loads(ended["output"])["result_url"])
