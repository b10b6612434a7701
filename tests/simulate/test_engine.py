"""The engine of simulations: machines, functions and jobs written by hand, without lokki in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lokki.errors import SimulationError
from lokki.simulate.engine import Engine, Execution, Failure, Function, Job, Machine

ROOT = Path(__file__).resolve().parents[2]
INVOKE = "arn:aws:states:::lambda:invoke"
SUBMIT = "arn:aws:states:::batch:submitJob.sync"
BUCKET = "simulated-artifacts"

ECHO = "def lambda_handler(event, context):\n    return event\n"

Deploy = Callable[..., str]
Made = Callable[[Mapping[str, str]], str]


def arn(function: str) -> str:
    return f"arn:aws:lambda:us-east-1:123456789012:function:{function}"


def task(function: str, payload: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    parameters = {"FunctionName": arn(function), "Payload": payload}
    return {"Type": "Task", "Resource": INVOKE, "Parameters": parameters, "OutputPath": "$.Payload", **fields}


def job(name: str, overrides: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    parameters = {"JobName": name, "JobDefinition": name, "JobQueue": "queue", "ContainerOverrides": overrides}
    return {"Type": "Task", "Resource": SUBMIT, "Parameters": parameters, **fields}


def chain(**states: Mapping[str, Any]) -> dict[str, Any]:
    names = [*states, None]
    after = ({"Next": name} if name else {"End": True} for name in names[1:])
    return {"StartAt": names[0], "States": {name: {**states[name], **last} for name, last in zip(states, after)}}


def fan_out(body: Mapping[str, Any], key: Any, express: bool = False, **fields: Any) -> dict[str, Any]:
    """A DISTRIBUTED map over a JSON list in the bucket; children get `item`, `index` and what else `select` names."""
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS" if express else "STANDARD"}
    where = {"Bucket": BUCKET, **({"Key": key} if isinstance(key, str) else key)}
    select = {"item.$": "$$.Map.Item.Value", "index.$": "$$.Map.Item.Index", **fields.pop("select", {})}
    reader = {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}, "Parameters": where}
    return {
        "Type": "Map",
        "ItemReader": reader,
        "ItemSelector": select,
        "ItemProcessor": {"ProcessorConfig": config, **body},
        "Label": "Items",
        **fields,
    }


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as started:
        yield started


@pytest.fixture
def package(tmp_path: Path) -> Made:
    """Writes the files of a package; returns its folder."""

    def write(files: Mapping[str, str]) -> str:
        folder = tmp_path / f"package-{len(list(tmp_path.glob('package-*')))}"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return str(folder)

    return write


@pytest.fixture
def deploy(engine: Engine, package: Made, request: pytest.FixtureRequest) -> Deploy:
    """Deploys a machine whose functions are given as their code, by name; returns the machine's name."""

    def made(definition: Mapping[str, Any], functions: Mapping[str, str | Function], **others: Any) -> str:
        code = {
            name: Function(name, arn(name), package({"handler.py": what}), environment={"BUCKET": BUCKET})
            if isinstance(what, str)
            else what
            for name, what in functions.items()
        }
        name = "".join(letter for letter in request.node.name if letter.isalnum())[:60]
        others = {"bucket": BUCKET, **others}
        engine.deploy(Machine(name, json.dumps(definition), tuple(code.values()), **others))
        return name

    return made


@pytest.fixture
def listed(engine: Engine, request: pytest.FixtureRequest) -> Callable[[list[Any]], str]:
    """Puts a list into the bucket; returns its key."""

    def put(items: list[Any]) -> str:
        key = f"{request.node.name}.json"
        engine.client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(items))
        return key

    return put


def one(function: str, **fields: Any) -> dict[str, Any]:
    return chain(Only=task(function, {"event.$": "$"}, **fields))


def test_a_chain_hands_on_what_functions_return_and_is_counted(engine: Engine, deploy: Deploy) -> None:
    add = "def lambda_handler(event, context):\n    print('adding', event['n'])\n    return {'n': event['n'] + 1}\n"
    states = {name: task("add", {"n.$": "$.n"}) for name in ("First", "Second", "Third")}
    execution = engine.execute(deploy(chain(**states), {"add": add}), {"n": 1}, name="run-1")
    assert (execution.name, execution.status, execution.output) == ("run-1", "SUCCEEDED", {"n": 4})
    assert execution.logs == (("add", "adding 1"), ("add", "adding 2"), ("add", "adding 3"))
    assert engine.logs()[-3:] == list(execution.logs)
    counts = execution.counts
    assert counts.states == {"First": 1, "Second": 1, "Third": 1}
    assert (counts.transitions, counts.retries, counts.children) == (3, 0, 0)
    assert counts.invocations == {"add": 3}
    assert counts.billed_ms["add"] >= 3
    assert counts.payload == len('{"n":4}')
    assert counts.requests == {}
    assert execution.substitutions == ()


def test_a_machine_that_is_deployed_again_runs_the_new_code(engine: Engine, deploy: Deploy) -> None:
    machine = deploy(one("again"), {"again": "def lambda_handler(event, context):\n    return 1\n"})
    assert engine.execute(machine, {}).output == 1
    deploy(one("again"), {"again": "def lambda_handler(event, context):\n    return 2\n"})
    assert engine.execute(machine, {}).output == 2


def test_intrinsic_functions_and_the_context_are_evaluated(engine: Engine, deploy: Deploy) -> None:
    payload = {
        "text.$": "States.Format('{}/{}', $$.Execution.Name, $.at.index[0])",
        "json.$": "States.JsonToString($.at)",
        "value.$": "States.StringToJson($.text)",
        "input.$": "$$.Execution.Input",
        "state.$": "$$.State.Name",
        "tries.$": "$$.State.RetryCount",
    }
    kept = {"OutputPath": "$", "ResultSelector": {"got.$": "$.Payload"}, "ResultPath": "$"}
    machine = deploy(
        chain(Nothing=task("echo", {}, OutputPath="$", ResultPath=None), Only=task("echo", payload, **kept)),
        {"echo": ECHO},
    )
    given = {"at": {"index": [3]}, "text": '{"a": [1, null]}'}
    assert engine.execute(machine, given, name="run-2").output == {
        "got": {
            "text": "run-2/3",
            "json": '{"index":[3]}',
            "value": {"a": [1, None]},
            "input": given,
            "state": "Only",
            "tries": 0,
        }
    }


FLAKY = """
class LokkiRetryable(Exception): pass

def lambda_handler(event, context):
    print("try", event["tries"])
    if event["tries"] < event["needed"]:
        raise LokkiRetryable("not yet")
    return event["tries"]
"""


def retrier(**fields: Any) -> dict[str, Any]:
    usual = {"IntervalSeconds": 60, "BackoffRate": 2.0, "MaxDelaySeconds": 900, "JitterStrategy": "FULL"}
    return {"ErrorEquals": ["LokkiRetryable"], "MaxAttempts": 2, **usual, **fields}


@pytest.mark.parametrize(("needed", "status"), [(2, "SUCCEEDED"), (3, "FAILED")])
def test_a_task_is_retried_at_once(engine: Engine, deploy: Deploy, needed: int, status: str) -> None:
    payload = {"tries.$": "$$.State.RetryCount", "needed": needed}
    machine = deploy(chain(Only=task("flaky", payload, Retry=[retrier()])), {"flaky": FLAKY})
    execution = engine.execute(machine, {})
    assert execution.status == status
    assert execution.output == (2 if status == "SUCCEEDED" else None)
    assert execution.counts.retries == 2
    assert execution.counts.transitions == 3
    assert [line for _, line in execution.logs if line.startswith("try")] == ["try 0", "try 1", "try 2"]
    assert execution.substitutions == ("Waits before a retry are cut to 0.05 seconds.",)


def test_an_error_that_no_retrier_names_ends_the_execution(engine: Engine, deploy: Deploy) -> None:
    code = "def lambda_handler(event, context):\n    raise KeyError('a')\n"
    execution = engine.execute(deploy(one("fails", Retry=[retrier()]), {"fails": code}), {})
    assert (execution.status, execution.error, execution.counts.retries) == ("FAILED", "KeyError", 0)
    told = json.loads(execution.cause)
    assert (told["errorType"], told["errorMessage"]) == ("KeyError", "'a'")
    assert len(told["stackTrace"]) == 1
    assert 'handler.py", line 2, in lambda_handler' in told["stackTrace"][0]
    assert ("fails", "[ERROR] KeyError: 'a'") in execution.logs


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (
            "import time\ndef lambda_handler(event, context):\n    time.sleep(60)\n",
            "Sandbox.Timedout",
            "timed out after 1.00",
        ),
        ("def lambda_handler(event, context):\n    raise SystemExit(3)\n", "Runtime.ExitError", "exit status 3"),
        (
            "import os\ndef lambda_handler(event, context):\n    os.kill(os.getpid(), 9)\n",
            "Runtime.ExitError",
            "signal: 9",
        ),
        ("import no_such_package\n", "Runtime.ImportModuleError", "No module named 'no_such_package'"),
        ("raise ValueError('at import')\n", "ValueError", "at import"),
        ("import sys\nsys.exit(4)\n", "Runtime.ExitError", "exit status 4"),
        ("def lambda_handler(:\n", "Runtime.UserCodeSyntaxError", "Syntax error in module 'handler'"),
        ("def other(event, context):\n    pass\n", "Runtime.HandlerNotFound", "Handler 'lambda_handler' missing"),
        ("def lambda_handler(event, context):\n    return object()\n", "Runtime.MarshalError", "not JSON serializable"),
        (
            "def lambda_handler(event, context):\n    return 'x' * 7_000_000\n",
            "Function.ResponseSizeTooLarge",
            "7000002 bytes",
        ),
    ],
)
def test_what_goes_wrong_in_a_function_is_named_as_lambda_names_it(
    engine: Engine, deploy: Deploy, package: Made, code: str, error: str, message: str
) -> None:
    function = Function("wrong", arn("wrong"), package({"handler.py": code}), timeout=1)
    machine = deploy(one("wrong"), {"wrong": function})
    for _ in range(2):  # the second call finds a process that is fit for it, or none
        execution = engine.execute(machine, {})
        assert (execution.status, execution.error) == ("FAILED", error)
        assert message in json.loads(execution.cause)["errorMessage"]


def test_a_result_that_a_state_cannot_hold_fails_it(engine: Engine, deploy: Deploy) -> None:
    code = "def lambda_handler(event, context):\n    return 'x' * 300_000\n"
    execution = engine.execute(deploy(one("large"), {"large": code}), {})
    assert (execution.status, execution.error) == ("FAILED", "States.DataLimitExceeded")


LOOK = """
import os, sys

def found(name):
    try:
        return __import__(name).__file__
    except ImportError as error:
        return f"{type(error).__name__}: {error}"

def lambda_handler(event, context):
    return {
        "found": {name: found(name) for name in event["names"]},
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": sys.path[0],
        "name": context.function_name,
        "left": context.get_remaining_time_in_millis(),
    }
"""


def look(names: list[str]) -> dict[str, Any]:
    return chain(Only=task("look", {"names": names}))


@pytest.mark.parametrize("imports", ["packaged", "environment"])
def test_a_function_sees_its_package_and_what_lambda_brings(
    engine: Engine, deploy: Deploy, package: Made, imports: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package({"handler.py": LOOK, "mine.py": ""})
    function = Function("look", arn("look"), folder, environment={"GREETING": "hello"}, memory=256, imports=imports)
    names = ["mine", "json", "boto3", "dateutil", "yaml", "moto", "lokki", "twingraph", "tests"]
    output = engine.execute(deploy(look(names), {"look": function}), {}).output
    missing = {name for name, where in output["found"].items() if where.startswith("ModuleNotFoundError")}
    assert missing == {"lokki", "twingraph", "tests"} | ({"yaml", "moto"} if imports == "packaged" else set())
    assert output["found"]["mine"] == os.path.join(folder, "mine.py")
    assert (output["folder"], output["path"], output["name"]) == (folder, folder, "look")
    assert 0 < output["left"] <= 900_000
    environment = output["environment"]
    assert environment["GREETING"] == "hello"
    assert environment["AWS_ENDPOINT_URL"] == engine.endpoint
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environment["HOME"] != os.environ["HOME"]
    aws = {name for name in environment if name.startswith("AWS_")}
    assert aws == {
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
    }
    others = {"GREETING", "HOME", "LAMBDA_TASK_ROOT", "LANG", "LC_CTYPE", "PATH", "TMPDIR", "TZ", "_HANDLER"}
    assert set(environment) - aws <= others


def test_the_package_goes_before_all_that_is_installed(engine: Engine, deploy: Deploy, package: Made) -> None:
    own = {"lokki/__init__.py": "", "boto3/__init__.py": "", "yaml.py": ""}
    folder = package({"handler.py": LOOK, **own})
    for imports in ("packaged", "environment"):
        function = Function("look", arn("look"), folder, imports=imports)
        found = engine.execute(deploy(look(["lokki", "boto3", "yaml"]), {"look": function}), {}).output["found"]
        assert found == {name.split("/")[0].removesuffix(".py"): os.path.join(folder, name) for name in own}


def test_four_hundred_children_return_in_order(
    engine: Engine, deploy: Deploy, listed: Callable[[list[Any]], str]
) -> None:
    items = fan_out(
        chain(Double=task("double", {"n.$": "$.item"})), listed(list(range(400))), express=True, MaxConcurrency=0
    )
    code = "def lambda_handler(event, context):\n    return event['n'] * 2\n"
    execution = engine.execute(deploy(chain(Items=items), {"double": code}), {})
    assert execution.output == [2 * n for n in range(400)]
    counts = execution.counts
    assert (counts.children, counts.transitions) == (400, 401)
    assert counts.states == {"Items": 1, "Double": 400}
    assert counts.requests == {"interpreter": {"GET": 1}}
    assert [sentence.split()[0] for sentence in execution.substitutions] == ["Children", "No", "EXPRESS"]


def test_thousands_of_children_may_run_one_after_the_other(
    engine: Engine, deploy: Deploy, listed: Callable[[list[Any]], str]
) -> None:
    body = chain(Nothing={"Type": "Pass"})
    items = fan_out(body, listed([None] * 3000), MaxConcurrency=1, ResultPath=None)
    execution = engine.execute(deploy(chain(Items=items), {}), {"kept": True})
    assert execution.output == {"kept": True}
    assert execution.counts.children == 3000


def test_maps_in_maps(engine: Engine, deploy: Deploy) -> None:
    plan = """
    import boto3, json, os
    s3 = boto3.client("s3")

    def lambda_handler(event, context):
        key = event["key"]
        body = json.dumps(event["items"]).encode()
        s3.put_object(Bucket=os.environ["BUCKET"], Key=key, Body=body)
        part = s3.get_object(Bucket=os.environ["BUCKET"], Key=key, Range="bytes=0-0")["Body"].read()
        return {"first": part.decode(), "at": {"index": event["index"]}}
    """
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": BUCKET, "Prefix.$": "$.run"}}
    inner = fan_out(
        chain(Leaf=task("leaf", {"outer.$": "$.outer", "inner.$": "$.index", "item.$": "$.item", "run.$": "$.run"})),
        {"Key.$": "States.Format('{}/{}.json', $.run, $.at.index[0])"},
        select={"outer.$": "$.index", "run.$": "$.run"},
    )
    made = {
        "index.$": "States.Array($.index)",
        "items.$": "$.item",
        "key.$": "States.Format('{}/{}.json', $.run, $.index)",
    }
    keep = {"OutputPath": "$", "ResultSelector": {"index.$": "$.Payload.at.index"}, "ResultPath": "$.at"}
    outer = fan_out(
        chain(Plan=task("plan", made, **keep), Inner={**inner, "ResultPath": "$.leaves"}),
        {"Key.$": "States.Format('{}/top.json', $.run)"},
        select={"run.$": "$$.Execution.Name"},
        ResultWriter=writer,
        ResultPath=None,
    )
    first = {"index": [], "items.$": "$.items", "key.$": "States.Format('{}/top.json', $$.Execution.Name)"}
    head = task("plan", first, OutputPath="$", ResultSelector={}, ResultPath="$.made")
    named = {"Type": "Pass", "Parameters": {"run.$": "$$.Execution.Name"}}
    code = "def lambda_handler(event, context):\n    print(event)\n    return event\n"
    machine = deploy(chain(Head=head, Named=named, Outer=outer), {"leaf": code, "plan": plan})
    execution = engine.execute(machine, {"items": [["a", "b"], [], ["c"]]}, name="nested")
    print(execution)
    assert (execution.status, execution.error, execution.cause) == ("SUCCEEDED", "", "")
    print(execution)
    assert 0
