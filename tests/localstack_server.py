"""AWS on this machine, for tests from end to end: LocalStack, as `dev/localstack/start` starts it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests import aws_calls
from tests.moto_server import OTHERS

VARIABLE = "LOKKI_TEST_LOCALSTACK"
DEFAULT = "http://127.0.0.1:4566"
REGION = "eu-west-1"
HEALTH, IMAGES = "/_localstack/health", "/_lokki/images"
_open = build_opener(ProxyHandler({})).open  # what is asked is on this machine, whatever proxy there is


@dataclass(frozen=True)
class LocalStack:
    """A LocalStack that answers, and an account in it."""

    endpoint: str
    account: str = "000000000000"

    def client(self, service: str) -> Any:
        """A client for looking at what there is in the account."""
        from botocore.config import Config
        from botocore.session import get_session

        return get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.account,
            aws_secret_access_key="test",
            config=Config(s3={"addressing_style": "path"}),
        )

    def put_folders(self, folders: Mapping[str, Path | None]) -> None:
        """Let folders take the place of images, by the names of these; None takes a folder away again."""
        body = {name: None if path is None else str(path) for name, path in folders.items()}
        request = Request(self.endpoint + IMAGES, json.dumps(body).encode(), method="PUT")
        try:
            _open(request, timeout=10).close()
        except HTTPError:
            pytest.skip(f"The LocalStack at {self.endpoint} is not that of dev/localstack/start")

    def ended(self, execution: str) -> dict[str, Any]:
        """What Step Functions says of an execution when it has ended."""
        states, pause = self.client("stepfunctions"), Event()
        while (found := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            pause.wait(0.05)
        return dict(found)


@pytest.fixture(scope="session")
def localstack() -> LocalStack:
    """A LocalStack, in the account that all tests share."""
    endpoint = os.environ.get(VARIABLE) or DEFAULT
    if endpoint == "off":
        pytest.skip(f"{VARIABLE} is off")
    if not _answers(endpoint):
        pytest.skip(f"No LocalStack answers at {endpoint}: start it with dev/localstack/start")
    return LocalStack(endpoint)


@pytest.fixture
def own_account(localstack: LocalStack, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStack]:
    """An account in which nothing is yet, and an environment that leads to it and to no other.

    What the commands of the test ask of AWS must be allowed by the policy that the documentation gives a deployer.
    """
    own = new_account(localstack)
    lead_to(own, monkeypatch)
    monkeypatch.setenv(aws_calls.VARIABLE, str(at_home / "calls"))
    yield own
    assert aws_calls.refused(at_home / "calls", own.account, REGION) == []


def new_account(localstack: LocalStack) -> LocalStack:
    """An account in which nothing is yet."""
    return LocalStack(localstack.endpoint, f"{random.SystemRandom().randrange(10**12):012}")


def lead_to(own: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment lead to an account, and to no other."""
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    environ = {
        "AWS_ACCESS_KEY_ID": own.account,  # LocalStack takes a number for the account
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": own.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def _answers(endpoint: str) -> bool:
    try:
        with _open(endpoint + HEALTH, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def settled(account: LocalStack, stack: str) -> None:
    """Wait until CloudFormation has nothing to do."""
    from threading import Event

    while (
        account.client("cloudformation")
        .describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        .endswith("_IN_PROGRESS")
    ):
        Event().wait(0.1)
