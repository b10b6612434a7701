"""Somebody else in the same account at the same time: two deployments at once, a flow that is removed.

LocalStack lets any change set be executed at any time. Where that matters a relay in front of it does what AWS does:
of several change sets of a stack one is executed, and the others are gone with it.
"""

from __future__ import annotations

import re
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.aws.projects import Between, Project
from tests.localstack_server import REGION, LocalStack, settled
from tests.moto_server import Asked, Reply

EXECUTE = "cloudformation ExecuteChangeSet"
SLOW = (
    'def flap_bird(bird): return f"flappy {bird}"',
    """def flap_bird(bird):
        import os, time
        while not os.path.exists("GATE"):
            time.sleep(0.02)
        return f"flappy {bird}\"""",
)


class OneWins(Between):
    """A relay that lets two deployments come to the point where each executes its change set, and then lets both go."""

    def __init__(self, account: LocalStack, stack: str) -> None:
        super().__init__(account.endpoint)
        self._formation = account.client("cloudformation")
        self._stack = stack
        self._lock = threading.Lock()
        self.both = threading.Barrier(2)
        self.meet = True

    def answer(self, asked: Asked, body: bytes) -> Reply:
        if not self.meet or b"Action=ExecuteChangeSet" not in body:
            return super().answer(asked, body)
        self.both.wait(100)
        with self._lock:
            reply = super().answer(asked, body)
            if reply.status == 200:
                self._drop_others()
        return reply

    def _drop_others(self) -> None:
        for each in self._formation.list_change_sets(StackName=self._stack)["Summaries"]:
            if each["ExecutionStatus"] == "AVAILABLE":
                self._formation.delete_change_set(ChangeSetName=each["ChangeSetId"], StackName=self._stack)


def project_in(folder: Path, account: LocalStack, **given: Any) -> Project:
    """A project that keeps its data in a bucket of its own."""
    made = Project(folder, {"LOKKI_AWS_REGION": REGION}, **given)
    made.settings["LOKKI_ARTIFACT_BUCKET"] = bucket = f"{made.flow}-data"
    where = {"LocationConstraint": REGION}
    account.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    return made


@pytest.fixture
def rivals(own_account: LocalStack, at_home: Path) -> tuple[Project, Project]:
    """The same flow in two folders."""
    mine = project_in(at_home / "mine", own_account)
    return mine, Project(at_home / "theirs", mine.settings, name=mine.name)


@pytest.fixture
def relay(own_account: LocalStack, rivals: tuple[Project, Project]) -> Iterator[OneWins]:
    """A relay that both rivals go through."""
    made = OneWins(own_account, rivals[0].stack)
    yield made
    made.both.abort()
    made.close()


@pytest.mark.parametrize("what", ["creation", "configuration", "code"])
def test_of_two_deployments_at_once_one_wins_and_the_other_says_so(
    own_account: LocalStack, rivals: tuple[Project, Project], relay: OneWins, what: str
) -> None:
    for each in rivals:
        each.settings = {**each.settings, "LOKKI_AWS_ENDPOINT": relay.url}
    relay.meet = False
    if what != "creation":
        rivals[0].done("deploy", "--confirm")
    relay.meet = True
    if what == "configuration":
        for each, memory in zip(rivals, (1024, 2048), strict=True):
            each.toml += f"memory = {memory}\n"
    for each, word in zip(rivals, ("happy", "sloppy"), strict=True):
        each.change("flappy", word)
    processes = [each.start("deploy", "--confirm", stdin=subprocess.DEVNULL) for each in rivals]
    ends = [process.communicate(timeout=200) for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 1], ends
    winner, loser = rivals[codes.index(0)], rivals[codes.index(1)]
    *_, error = ends[codes.index(1)][1].splitlines()
    assert re.match(
        r"error: (An update|The creation) of stack .* is under way since .*: wait for its end, then try again|"
        r"error: Stack '.*' was changed since the plan was made: deploy again",
        error,
    ), ends
    assert ("functions of stack" in error and "have the new code" in error) == (what == "code")
    settled(own_account, winner.stack)
    assert deployed_by(winner, own_account)
    relay.meet = False
    loser.done("deploy", "--confirm")
    settled(own_account, winner.stack)
    assert deployed_by(loser, own_account)


def deployed_by(project: Project, account: LocalStack) -> bool:
    """Whether all that is deployed is what this project has built: template and code."""
    template = account.client("cloudformation").get_template(StackName=project.stack)["TemplateBody"]
    package = (project.folder / "lokki-build/lambdas/function.zip").read_bytes()
    found = {each["CodeSha256"] for each in account.client("lambda").list_functions()["Functions"]}
    whole = str(template) == (project.folder / "lokki-build/template.yaml").read_text()
    return whole and found == {b64encode(sha256(package).digest()).decode()}


def error_of(project: Project, *arguments: str) -> str:
    """The sentence with which a command fails."""
    said = project.refused(*arguments)
    assert "Traceback" not in said
    return said.splitlines()[-1].removeprefix("error: ")


def test_a_state_machine_that_somebody_removed(own_account: LocalStack, at_home: Path) -> None:
    project = project_in(at_home / "project", own_account)
    project.done("deploy", "--confirm")
    name = project.done("invoke", "--no-wait")[0].strip()
    machines = own_account.client("stepfunctions")
    (machine,) = machines.list_state_machines()["stateMachines"]
    arn = machine["stateMachineArn"].replace(":stateMachine:", ":execution:") + f":{name}"
    own_account.ended(arn)
    machines.delete_state_machine(stateMachineArn=machine["stateMachineArn"])
    for command in (["invoke"], ["show"], ["logs"], ["redrive", "--run", "yesterday"]):
        error = error_of(project, *command)
        assert re.search("was removed by somebody else. Deploy the flow again, after destroy if its stack is", error), (
            error
        )
    assert error_of(project, "deploy").endswith("remove the stack with destroy, then deploy again.")
    project.done("destroy", "--confirm")
    project.done("deploy", "--confirm")
    assert project.done("invoke")[0] == "flappy goose, flappy duck\n"


def test_a_stack_that_somebody_removes_while_it_runs(own_account: LocalStack, at_home: Path) -> None:
    project = project_in(at_home / "project", own_account)
    project.change(SLOW[0], SLOW[1].replace("GATE", str(at_home / "gate")))
    project.done("deploy", "--confirm")
    process = project.start("invoke", stdin=subprocess.DEVNULL)
    assert process.stderr is not None
    for line in process.stderr:
        if "Map 'flap_bird' started" in line:
            break
    formation, pause = own_account.client("cloudformation"), threading.Event()
    formation.delete_stack(StackName=project.stack)
    while any(each["StackStatus"] != "DELETE_COMPLETE" for each in formation.describe_stacks()["Stacks"]):
        pause.wait(0.1)
    (at_home / "gate").touch()
    out, said = process.communicate(timeout=100)
    assert (process.returncode, out) == (1, ""), said
    assert "Traceback" not in said
    assert re.search("The function is gone: deploy the flow again.|was removed while it ran, together with its", said)
    for command in (["invoke"], ["show"], ["logs"], ["redrive", "--run", "x"], ["show", "--run", "x"]):
        error = error_of(project, *command)
        assert error.startswith(f"Flow '{project.flow}' is not deployed in {REGION}: there is no stack "), error
    assert error_of(project, "destroy", "--confirm").startswith(f"There is no stack '{project.stack}' in {REGION} (")
    project.done("deploy", "--confirm")
    assert project.done("invoke")[0] == "flappy goose, flappy duck\n"
