"""The services of `dev/` do what tests from end to end rely on."""

from __future__ import annotations

import io
import json
import zipfile
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.docker_engine import LAMBDA, PYTHON, Docker
from tests.localstack_server import REGION, LocalStack

HANDLER = """
import boto3

def squared(event, context):
    print("squaring", event["n"])
    if event["n"] == event["bad"]:
        raise ValueError(f"I do not square {event['n']}")
    return event["n"] ** 2

def listed(event, context):
    return sorted(each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket=event["bucket"])["Contents"])
"""


class Machine:
    """A bucket, two functions and a state machine that calls one of them for each item of an object in the bucket."""

    def __init__(self, localstack: LocalStack) -> None:
        self.localstack = localstack
        self.bucket = f"lokki-{localstack.account}"
        self.s3 = localstack.client("s3")
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = localstack.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument=document)
        self.role = role["Role"]["Arn"]
        self.functions = localstack.client("lambda")
        for name in ("squared", "listed"):
            self._create(name)

    def _create(self, name: str) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("app.py", HANDLER)
        self.functions.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler=f"app.{name}",
            Role=self.role,
            Code={"ZipFile": archive.getvalue()},
        )

    def run(self, numbers: int, bad: int | None = None, **fields: Any) -> dict[str, Any]:
        """Run the machine over so many numbers to its end."""
        items = [{"n": n, "bad": bad} for n in range(numbers)]
        self.s3.put_object(Bucket=self.bucket, Key="items.json", Body=json.dumps(items).encode())
        states = self.localstack.client("stepfunctions")
        name = f"machine-{len(states.list_state_machines()['stateMachines'])}"
        definition = {"StartAt": "Squares", "States": {"Squares": self._map(fields)}}
        made = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=self.role)
        started = states.start_execution(stateMachineArn=made["stateMachineArn"], input="{}")
        return self.localstack.ended(started["executionArn"])

    def _map(self, fields: dict[str, Any]) -> dict[str, Any]:
        task = {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": "squared", "Payload.$": "$"},
            "OutputPath": "$.Payload",
            "End": True,
        }
        config = {"Mode": "DISTRIBUTED", "ExecutionType": fields.pop("kind", "STANDARD")}
        return {
            "Type": "Map",
            "ItemReader": {
                "Resource": "arn:aws:states:::s3:getObject",
                "ReaderConfig": {"InputType": "JSON"},
                "Parameters": {"Bucket": self.bucket, "Key": "items.json"},
            },
            "ItemProcessor": {"ProcessorConfig": config, "StartAt": "Square", "States": {"Square": task}},
            "End": True,
            **fields,
        }

    def called(self, name: str, event: dict[str, Any]) -> Any:
        """What a function answers."""
        answer = self.functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
        return json.loads(answer["Payload"].read())

    def read(self, key: str) -> Any:
        """A document in the bucket."""
        return json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())


@pytest.fixture
def machine(own_account: LocalStack) -> Machine:
    return Machine(own_account)


@pytest.mark.localstack
@pytest.mark.parametrize("kind", ["STANDARD", "EXPRESS"])
def test_a_state_machine_calls_a_function_for_each_item(machine: Machine, kind: str) -> None:
    ended = machine.run(5, kind=kind)
    assert (ended["status"], json.loads(ended["output"])) == ("SUCCEEDED", [0, 1, 4, 9, 16])
    logs, pause = machine.localstack.client("logs"), Event()
    lines: list[str] = []
    while len(lines) < 5:  # they arrive a little later than the results
        pause.wait(0.05)
        said = logs.filter_log_events(logGroupName="/aws/lambda/squared")["events"]
        lines = sorted(each["message"].strip() for each in said if "squaring" in each["message"])
    assert lines == [f"squaring {n}" for n in range(5)]


@pytest.mark.localstack
def test_a_function_reaches_the_bucket_of_its_account(machine: Machine) -> None:
    machine.s3.put_object(Bucket=machine.bucket, Key="a", Body=b"")
    assert machine.called("listed", {"bucket": machine.bucket}) == ["a"]


@pytest.mark.localstack
def test_a_map_fails_with_its_first_child_unless_it_tolerates_that(machine: Machine) -> None:
    failed = machine.run(5, bad=3)
    assert (failed["status"], failed["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    parameters = {"Bucket": machine.bucket, "Prefix": "results"}
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": parameters}
    tolerated = machine.run(5, bad=3, ToleratedFailurePercentage=20, ResultWriter=writer)
    assert tolerated["status"] == "SUCCEEDED"
    files = machine.read(json.loads(tolerated["output"])["ResultWriterDetails"]["Key"])["ResultFiles"]
    results = machine.read(files["SUCCEEDED"][0]["Key"])
    assert sorted(json.loads(each["Output"]) for each in results) == [0, 1, 4, 16]
    (failure,) = machine.read(files["FAILED"][0]["Key"])
    assert failure["Error"] == "ValueError"
    assert "I do not square 3" in failure["Cause"]


@pytest.mark.localstack
def test_a_job_runs_in_the_folder_that_takes_the_place_of_its_image(own_account: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import os; print('job', os.environ['NUMBER'])")
    own_account.put_folders({own_account.account: tmp_path})
    batch, pause = own_account.client("batch"), Event()
    batch.create_compute_environment(computeEnvironmentName="some", type="UNMANAGED")
    order = [{"order": 1, "computeEnvironment": "some"}]
    batch.create_job_queue(jobQueueName="queue", priority=1, computeEnvironmentOrder=order)
    container = {"image": own_account.account, "command": ["python", "main.py"]}
    batch.register_job_definition(jobDefinitionName="some", type="container", containerProperties=container)
    overrides = {"environment": [{"name": "NUMBER", "value": "7"}]}
    job = batch.submit_job(jobName="one", jobQueue="queue", jobDefinition="some", containerOverrides=overrides)["jobId"]
    while (ended := batch.describe_jobs(jobs=[job])["jobs"][0])["status"] not in ("SUCCEEDED", "FAILED"):
        pause.wait(0.05)
    own_account.put_folders({own_account.account: None})
    assert (ended["status"], ended["container"]["exitCode"]) == ("SUCCEEDED", 0)
    stream = {"logGroupName": "/aws/batch/job", "logStreamName": ended["container"]["logStreamName"]}
    said = own_account.client("logs").get_log_events(**stream)["events"]
    assert [each["message"] for each in said] == ["job 7"]


@pytest.mark.docker
def test_docker_runs_python(docker: Docker) -> None:
    assert docker.run(PYTHON, "python", "-c", "print(6 * 7)") == "42\n"


@pytest.mark.docker
def test_the_image_of_lambda_answers_calls(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return event['n'] * 2\n")
    (tmp_path / "Dockerfile").write_text(f'FROM {LAMBDA}\nCOPY app.py ./\nCMD ["app.handler"]\n')
    docker("build", "--tag", docker.tag, str(tmp_path))
    container = docker.start("--publish=127.0.0.1::8080", docker.tag)
    port = docker("port", container, "8080").rpartition(":")[2]
    assert _called(int(port), {"n": 21}) == 42


@pytest.mark.docker
def test_a_function_that_is_an_image_runs_in_docker(own_account: LocalStack, docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return event['n'] * 2\n")
    (tmp_path / "Dockerfile").write_text(f'FROM {LAMBDA}\nCOPY app.py ./\nCMD ["app.handler"]\n')
    docker("build", "--tag", docker.tag, str(tmp_path))
    functions = own_account.client("lambda")
    code = {"ImageUri": f"{docker.tag}:latest"}
    role = f"arn:aws:iam::{own_account.account}:role/any"
    functions.create_function(FunctionName="image", PackageType="Image", Role=role, Code=code)
    answer = functions.invoke(FunctionName="image", Payload=b'{"n": 21}')
    assert json.loads(answer["Payload"].read()) == 42
    functions.delete_function(FunctionName="image")


def _called(port: int, event: dict[str, Any]) -> Any:
    """The answer of the function that listens on a port, which it does not at once."""
    pause = Event()
    while True:
        connection = HTTPConnection("127.0.0.1", port)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            return json.loads(connection.getresponse().read())
        except ConnectionError:
            pause.wait(0.1)
        finally:
            connection.close()
