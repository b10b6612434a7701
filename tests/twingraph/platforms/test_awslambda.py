"""Components on Lambda: functions that are made, kept up to date and called, on LocalStack, where they really run."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lokki.builder.package import zipped
from lokki.runtime.failure import Cancelled
from tests.contracts.platform import HeardAtTheEnd
from tests.localstack_server import LocalStack
from tests.moto_server import Asked, Relay, Reply
from tests.twingraph.calling import Heard, placed
from tests.twingraph.platforms.amazon import (
    account_with_bucket,
    be_killed,
    called,
    double,
    echo,
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
from twingraph.platforms.awslambda import Lambda
from twingraph.platforms.base import Platform, run

ROLE = "of-functions"
CONFIG = {"role": ROLE, "runtime": "python3.13", "function_name": "of-tests"}
MEGABYTE = 1024**2


@pytest.fixture(scope="module")
def shared(localstack: LocalStack) -> LocalStack:
    """An account that the tests of this file share, so that a function is made once."""
    return account_with_bucket(localstack)


@pytest.fixture
def account(shared: LocalStack, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    lead_there(shared, monkeypatch)
    return shared


@pytest.fixture(scope="module")
def platform() -> Lambda:
    return Lambda()


@pytest.fixture
def between(account: LocalStack) -> Iterator[Relay]:
    """A relay in front of LocalStack."""
    relay = Relay(account.endpoint)
    yield relay
    relay.close()


def refusing(status: int, code: str, message: str) -> Callable[[Asked], Reply | None]:
    """Lambda refuses to call functions."""

    def answer(asked: Asked) -> Reply | None:
        if not asked.path.endswith("/invocations"):
            return None
        return Reply(status, json.dumps({"message": message}).encode(), {"x-amzn-ErrorType": code})

    return answer


busy = refusing(429, "TooManyRequestsException", "Rate Exceeded.")


class TestContract(HeardAtTheEnd):
    at_once = 24

    @pytest.fixture
    def platform(self, account: LocalStack, platform: Lambda) -> Platform:
        self.account = account
        return platform

    @pytest.fixture(autouse=True)
    def few_at_once(self, account: LocalStack, platform: Lambda) -> None:
        """The function has few places, so that some of many calls are refused and made again."""
        run(platform, placed(double, 1, place=self.place()))
        account.client("lambda").put_function_concurrency(FunctionName="contract", ReservedConcurrentExecutions=8)

    def place(self, **changes: Any) -> Placement:
        config = {**CONFIG, "function_name": "contract", "timeout": 30}
        return Placement(**{"platform": "lambda", "config": config, "timeout": 60.0, **changes})

    def left(self, calls: list[Placed]) -> list[str]:
        return left_over(self.account)


def test_a_function_is_made_once_however_many_call_it_and_is_tagged(account: LocalStack, platform: Lambda) -> None:
    config = {**CONFIG, "function_name": "made-once"}
    with ThreadPoolExecutor(12) as pool:
        results = list(
            pool.map(lambda x: called(platform, double, x, config=config, labels={"team": "birds/1"}), range(12))
        )
    assert results == [2 * x for x in range(12)]
    found = account.client("lambda").get_function(FunctionName="made-once")
    tags = found["Tags"]
    assert (tags["team"], tags["twingraph:component"]) == ("birds/1", "double")
    assert found["Configuration"]["Version"] == "$LATEST"
    assert left_over(account) == []


def test_a_function_follows_its_settings_and_the_worker(account: LocalStack, platform: Lambda) -> None:
    client = account.client("lambda")
    config = {**CONFIG, "function_name": "follows", "memory_size": 256, "environment": {"TONE": "low"}}
    heard = Heard()
    called(platform, greet, "finch", config=config, heard=heard)
    before = client.get_function(FunctionName="follows")
    client.tag_resource(Resource=before["Configuration"]["FunctionArn"], Tags={"twingraph:code": "of another version"})

    other = {**config, "memory_size": 512, "environment": {"TONE": "high"}}
    called(platform, greet, "finch", config=other, heard=heard, environment={"TONE": "higher"})
    after = client.get_function(FunctionName="follows")
    assert heard.lines == [("info", "greeting finch low"), ("info", "greeting finch higher")]
    assert [each["Configuration"]["MemorySize"] for each in (before, after)] == [256, 512]
    assert after["Configuration"]["Environment"]["Variables"] == {"TONE": "high"}
    assert after["Tags"]["twingraph:code"] == before["Tags"]["twingraph:code"] != "of another version"


def test_a_role_that_was_made_just_now_is_waited_for(platform: Lambda, between: Relay) -> None:
    said = {"message": "The role defined for the function cannot be assumed by Lambda."}
    refused: list[Asked] = []

    def at_first(asked: Asked) -> Reply | None:
        if refused or asked.method != "POST" or not asked.path.endswith("/functions"):
            return None
        refused.append(asked)
        return Reply(400, json.dumps(said).encode(), {"x-amzn-ErrorType": "InvalidParameterValueException"})

    between.instead = at_first
    assert called(platform, double, 4, config={**CONFIG, "function_name": "new", "endpoint": between.url}) == 8
    assert len(refused) == 1


def test_a_function_that_lambda_cannot_make_says_why(platform: Lambda, between: Relay) -> None:
    said = {"State": "Failed", "StateReason": "The layer is gone.", "StateReasonCode": "InternalError"}

    def failed(asked: Asked) -> Reply | None:
        ready = asked.path.endswith("/configuration") and asked.method == "GET"
        return Reply(200, json.dumps(said).encode()) if ready else None

    between.instead = failed
    with pytest.raises(
        PlatformError, match=r"could not make the function 'failing' ready: The layer is gone\. Correct"
    ):
        called(platform, double, 4, config={**CONFIG, "function_name": "failing", "endpoint": between.url})


def test_a_function_of_its_own_is_named_after_the_component(account: LocalStack, platform: Lambda) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "function_name"}
    assert called(platform, double, 4, config=config, resources={"cpu": 1, "memory": "1G"}, timeout=50) == 8
    made = account.client("lambda").get_function_configuration(FunctionName="twingraph-double")
    assert (made["MemorySize"], made["Timeout"], made["Handler"]) == (1024, 50, "twingraph_worker.lambda_handler")


def test_a_function_that_somebody_else_made_is_left_as_it_is(account: LocalStack, platform: Lambda) -> None:
    client = account.client("lambda")
    arn = f"arn:aws:iam::{account.account}:role/{ROLE}"
    code = {"theirs.py": b"def handler(event, context): return {'theirs': len(event)}"}
    client.create_function(
        FunctionName="theirs", Runtime="python3.13", Role=arn, Handler="theirs.handler", Code={"ZipFile": zipped(code)}
    )
    with pytest.raises(PlatformError, match="'theirs' does not carry TwinGraph's worker: it answered") as raised:
        called(platform, double, 4, config={**CONFIG, "function_name": "theirs", "memory_size": 1024})
    assert "another function_name" in str(raised.value)
    code = {"odd.py": b"def handler(event, context): raise KeyError(sorted(event)[0])"}
    for name, handler, said in (
        ("raising", "odd.handler", "does not carry TwinGraph's worker: it raised KeyError: 'answer'"),
        ("broken", "missing.handler", "does not load .* its handler has to be TwinGraph's worker"),
    ):
        client.create_function(
            FunctionName=name, Runtime="python3.13", Role=arn, Handler=handler, Code={"ZipFile": zipped(code)}
        )
        with pytest.raises(PlatformError, match=said):
            called(platform, double, 4, config={"function_name": name})
    assert client.get_function_configuration(FunctionName="theirs")["MemorySize"] == 128


def test_a_function_with_our_worker_is_called_without_a_role(account: LocalStack, platform: Lambda) -> None:
    called(platform, double, 1, config=CONFIG)
    config = {"function_name": "of-tests"}
    assert called(platform, double, 4, config=config) == 8
    with pytest.raises(PlatformError, match="There is no function 'of-nobody' in eu-west-1: name one that carries"):
        called(platform, double, 4, config={"function_name": "of-nobody"})
    with pytest.raises(PlatformError, match="does not say which function runs it: name one"):
        called(platform, double, 4, config={})


def test_a_function_that_was_removed_meanwhile_is_made_again(account: LocalStack, platform: Lambda) -> None:
    config = {**CONFIG, "function_name": "removed"}
    called(platform, double, 1, config=config)
    account.client("lambda").delete_function(FunctionName="removed")
    assert called(platform, double, 2, config=config) == 4


def test_what_lambda_does_not_pass_on_goes_through_the_bucket(account: LocalStack, platform: Lambda) -> None:
    content = bytes(5 * MEGABYTE)
    assert called(platform, echo, content, config=CONFIG) == content
    assert left_over(account) == []


def late_and_large(seconds: float) -> bytes:
    time.sleep(seconds)
    return bytes(5 * 1024**2)


def test_an_answer_that_nobody_waits_for_is_thrown_away(account: LocalStack, platform: Lambda) -> None:
    call = placed(late_and_large, 3.0, place=Placement("lambda", config=CONFIG))
    threading.Timer(1, call.stop.set).start()
    with pytest.raises(Cancelled):
        run(platform, call)
    for thread in threading.enumerate():
        if thread.name == f"lambda-{call.id}":
            thread.join()
    assert left_over(account) == []


def test_without_a_bucket_the_limit_is_named(
    account: LocalStack, platform: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWINGRAPH_BUCKET")
    with pytest.raises(PlatformError, match="component 'echo' is given is larger than the 6 MB") as raised:
        called(platform, echo, bytes(5 * MEGABYTE), config=CONFIG)
    assert "TWINGRAPH_BUCKET" in str(raised.value)
    with pytest.raises(PlatformError, match="component 'bytes' returned is larger than the 6 MB"):
        called(platform, bytes, 5 * MEGABYTE, config=CONFIG)


@pytest.mark.parametrize(
    ("fn", "given", "kind", "said"),
    [
        (sleep, 30, ComponentTimeoutError, r"that the function may run, 1 s: raise that with config={'timeout': ...}"),
        (be_killed, None, PlatformError, r"more memory than the function has, 512 MB: raise .*'memory_size'"),
        (end_at_once, 3, PlatformError, r"ended before it answered \(Runtime exited with error: exit status 3\)"),
    ],
)
def test_a_function_that_ends_without_an_answer(
    account: LocalStack, platform: Lambda, fn: Any, given: Any, kind: type[Exception], said: str
) -> None:
    config = {**CONFIG, "function_name": "short", "timeout": 1}
    with pytest.raises(kind, match=said):
        called(platform, fn, *([] if given is None else [given]), config=config)


def test_an_error_comes_with_its_traceback(account: LocalStack, platform: Lambda) -> None:
    with pytest.raises(LookupError, match="seed") as raised:
        called(platform, refuse, "seed", config=CONFIG)
    assert "in refuse" in raised.value.__notes__[-1]


def test_a_long_log_comes_whole(account: LocalStack, platform: Lambda) -> None:
    def count() -> None:
        for number in range(500):
            sys.stdout.write(f"line {number} {'.' * 20}\n")

    heard = Heard()
    called(platform, count, config=CONFIG, heard=heard)
    assert [line for _, line in heard.lines] == [f"line {number} {'.' * 20}" for number in range(500)]


def test_a_call_that_lambda_is_too_busy_for_is_made_again(
    account: LocalStack, platform: Lambda, between: Relay
) -> None:
    config = {**CONFIG, "endpoint": between.url}
    refused: list[Asked] = []

    def first_three(asked: Asked) -> Reply | None:
        reply = busy(asked) if len(refused) < 3 else None
        refused.extend([asked] if reply else [])
        return reply

    between.instead = first_three
    assert called(platform, double, 4, config=config) == 8
    assert len(refused) == 3

    between.instead = busy
    with pytest.raises(PlatformError, match=r"Could not call the function 'of-tests': Rate Exceeded"):
        called(platform, double, 4, config={**config, "retries": 2})
    with pytest.raises(ComponentTimeoutError, match="longer than its timeout of 1 s"):
        called(platform, double, 4, config=config, timeout=1)

    between.instead = refusing(403, "AccessDeniedException", "You may not perform: lambda:InvokeFunction")
    with pytest.raises(PlatformError, match=r"lambda:InvokeFunction .* Allow it to the credentials in use"):
        called(platform, double, 4, config=config)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"config": {"memory_size": 64}}, "config['memory_size'] is between 128 and 10240, not 64"),
        ({"config": {"timeout": "1m"}}, "config['timeout'] takes a whole number, not '1m'"),
        ({"config": {"layers": "arn"}}, "config['layers'] takes a list of texts, not 'arn'"),
        ({"config": {}, "resources": {"gpu": 1}}, "Lambda has no GPUs; platform='batch' has"),
        ({"config": {}, "image": "python:3.13"}, "docker_image has no effect on Lambda"),
        ({"config": {}, "resources": {"memory": "much"}}, "resources['memory'] takes a size such as '2G', not 'much'"),
    ],
)
def test_what_lambda_cannot_do_is_said_at_the_call(aws: None, given: dict[str, Any], said: str) -> None:
    given = {**given, "config": {"role": ROLE, "region": "eu-west-1", **given["config"]}}
    with pytest.raises(ComponentError, match=re.escape(said)):
        called(Lambda(), double, 4, **given)


def test_where_lambda_cannot_be_used_it_says_what_is_missing(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlatformUnavailableError, match="not said which AWS region to use: set AWS_REGION"):
        Lambda().check()
    config = {"function_name": "x", "region": "eu-west-1", "endpoint": "http://127.0.0.1:1"}
    with pytest.raises(PlatformUnavailableError, match=r"Could not call the function 'x': .*Check aws\.endpoint"):
        called(Lambda(), double, 4, config=config)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(PlatformUnavailableError, match="there are no AWS credentials"):
        called(Lambda(), double, 4, config=config)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(PlatformUnavailableError, match="boto3, the library that speaks to AWS, cannot be imported"):
        called(Lambda(), double, 4, config=config)


def test_what_lambda_is_used_from_is_told(account: LocalStack) -> None:
    assert Lambda().check() == f"AWS Lambda in eu-west-1, account {account.account} at {account.endpoint}"
