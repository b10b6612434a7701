"""Lambda and Batch on moto, whose functions and jobs are containers of a real Docker engine.

What AWS does with more than a few calls is tested on LocalStack; here a second reading of its API has to be understood.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.contracts.platform import HeardAtTheEnd
from tests.docker_engine import PYTHON
from tests.docker_engine import Docker as Engine
from tests.localstack_server import LocalStack
from tests.moto_server import serving
from tests.twingraph.platforms.amazon import account_with_bucket, lead_there, left_over
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.awslambda import Lambda
from twingraph.platforms.base import Platform
from twingraph.platforms.batch import Batch

ROLE, QUEUE = "of-functions", "of-tests"
FUNCTIONS = "twingraph-functions-of-moto"
FUNCTION = """
import importlib, json, os, sys
sys.path.insert(0, "/var/task")
module, _, name = sys.argv[1].rpartition(".")
class Context:
    aws_request_id = os.urandom(16).hex()
    def get_remaining_time_in_millis(self):
        return 1000 * int(os.environ["AWS_LAMBDA_FUNCTION_TIMEOUT"])
answer = getattr(importlib.import_module(module), name)(json.loads(sys.argv[2]), Context())
print()
print(json.dumps(answer))
"""
"""What the images that moto calls functions in do: the last line that they print is the answer."""


@pytest.fixture(scope="module")
def shared(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """An account of a moto server that calls functions and runs jobs in containers, which reach it over loopback."""
    docker, folder = Engine(), tmp_path_factory.mktemp("moto")
    (folder / "function.py").write_text(FUNCTION)
    (folder / "Dockerfile").write_text(
        f'FROM {PYTHON}\nCOPY function.py /\nENTRYPOINT ["python", "-u", "/function.py"]\n'
    )
    docker("build", "--quiet", f"--tag={FUNCTIONS}:python3.13", str(folder))
    docker("tag", PYTHON, "busybox:latest")  # with which moto puts a function's code where its container finds it
    end_functions(docker)
    with serving(folder, MOTO_DOCKER_NETWORK_MODE="host", MOTO_DOCKER_LAMBDA_IMAGE=FUNCTIONS) as endpoint:
        made = account_with_bucket(LocalStack(endpoint, "123456789012"))
        trusted = json.dumps({"Version": "2012-10-17", "Statement": []})
        made.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=trusted)
        batch = made.client("batch")
        machines = {"computeEnvironmentName": "machines", "type": "UNMANAGED", "state": "ENABLED"}
        role = made.client("iam").get_role(RoleName=ROLE)["Role"]["Arn"]
        batch.create_compute_environment(**machines, serviceRole=role)
        order = [{"order": 1, "computeEnvironment": "machines"}]
        batch.create_job_queue(jobQueueName=QUEUE, priority=1, state="ENABLED", computeEnvironmentOrder=order)
        yield made
    end_functions(docker)


def end_functions(docker: Engine) -> None:
    """Remove containers of functions that nobody waits for: they hold the code, which moto then cannot renew."""
    if left := docker("ps", "--all", "--quiet", f"--filter=ancestor={FUNCTIONS}:python3.13").split():
        docker("rm", "--force", "--volumes", *left)


@pytest.fixture
def account(shared: LocalStack, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    lead_there(shared, monkeypatch)
    return shared


class OnMoto(HeardAtTheEnd):
    many: ClassVar[int] = 4
    at_once: ClassVar[int] = 2
    enough: ClassVar[float] = 6.0
    account: LocalStack

    def left(self, calls: list[Placed]) -> list[str]:
        return left_over(self.account)


class TestLambda(OnMoto):
    @pytest.fixture
    def platform(self, account: LocalStack) -> Platform:
        self.account = account
        return Lambda()

    def place(self, **changes: Any) -> Placement:
        config = {"role": ROLE, "runtime": "python3.13", "function_name": "contract", "timeout": 30}
        return Placement(**{"platform": "lambda", "config": config, "timeout": 60.0, **changes})


class TestBatch(OnMoto):
    @pytest.fixture
    def platform(self, account: LocalStack) -> Platform:
        self.account = account
        return Batch()

    def place(self, **changes: Any) -> Placement:
        config = {"job_queue": QUEUE}
        return Placement(**{"platform": "batch", "image": PYTHON, "config": config, "timeout": 120.0, **changes})
