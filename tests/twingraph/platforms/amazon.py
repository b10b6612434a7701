"""What the tests of Lambda and Batch share: an account of LocalStack with a bucket, and calls on a platform."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.localstack_server import REGION, LocalStack, lead_to, new_account
from tests.twingraph.calling import Heard, placed
from twingraph.placement import placement
from twingraph.platforms.base import Platform, run


def account_with_bucket(localstack: LocalStack) -> LocalStack:
    """An account in which there is nothing but a bucket."""
    own = new_account(localstack)
    own.client("s3").create_bucket(Bucket=bucket_of(own), CreateBucketConfiguration={"LocationConstraint": REGION})
    return own


def bucket_of(account: LocalStack) -> str:
    """The name of the bucket, as no other account has one."""
    return f"lent-by-calls-of-{account.account}"


def lead_there(account: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment lead to the account and its bucket."""
    lead_to(account, monkeypatch)
    monkeypatch.setenv("TWINGRAPH_BUCKET", bucket_of(account))


def left_over(account: LocalStack) -> list[str]:
    """The keys of what is in the bucket."""
    return [each["Key"] for each in account.client("s3").list_objects_v2(Bucket=bucket_of(account)).get("Contents", [])]


def called(
    platform: Platform,
    fn: Callable[..., Any],
    *args: Any,
    config: Mapping[str, Any],
    heard: Heard | None = None,
    timeout: float | None = 60,
    image: str | None = None,
    resources: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Any:
    """What a call on a platform returns, or raises."""
    place = placement(
        fn.__name__,
        platform=platform.name,
        image=image,
        config=config,
        timeout=timeout,
        resources=resources,
        environment=environment,
        labels=labels,
    )
    return run(platform, placed(fn, *args, place=place, heard=heard))


def double(x: int) -> int:
    return 2 * x


def greet(name: str) -> str:
    sys.stdout.write(f"greeting {name} {os.environ.get('TONE')}\n")
    return f"hello {name}"


def end_at_once(code: int) -> None:
    os._exit(code)


def be_killed() -> None:
    os.kill(os.getpid(), 9)


def refuse(word: str) -> None:
    raise LookupError(word)


def echo(content: bytes) -> bytes:
    return content


def sleep(seconds: float) -> None:
    sys.stdout.write("asleep\n")
    time.sleep(seconds)
