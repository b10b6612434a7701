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
from lokki.simulate.engine import Engine, Execution, Function, Job, Machine

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
    return {
        "StartAt": names[0],
        "States": {name: {**states[name], **last} for name, last in zip(states, after, strict=True)},
    }


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
    execution = engine.execute(deploy(chain(**states), {"add": add}), {"n": 1, "mark": "\u00b5"}, name="run-1")
    assert (execution.name, execution.status, execution.output) == ("run-1", "SUCCEEDED", {"n": 4})
    assert execution.logs == (("add", "adding 1"), ("add", "adding 2"), ("add", "adding 3"))
    assert engine.logs()[-3:] == list(execution.logs)
    counts = execution.counts
    assert counts.states == {"First": 1, "Second": 1, "Third": 1}
    assert (counts.transitions, counts.retries, counts.children) == (3, 0, 0)
    assert counts.invocations == {"add": 3}
    assert counts.billed_ms["add"] >= 3
    assert counts.payload == len('{"n":1,"mark":".."}')
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
    slow = error == "Sandbox.Timedout"
    function = Function("wrong", arn("wrong"), package({"handler.py": code}), timeout=1 if slow else 60)
    machine = deploy(one("wrong"), {"wrong": function})
    for _ in range(1 if slow else 2):  # the second call finds a process that is fit for it, or none
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
    engine: Engine, deploy: Deploy, package: Made, imports: str
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
    others = {"GREETING", "HOME", "LAMBDA_TASK_ROOT", "LANG", "PATH", "TMPDIR", "TZ", "_HANDLER"}
    assert set(environment) - aws == others


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
    items = fan_out(body, listed([None] * 1500), MaxConcurrency=1, ResultPath=None)
    execution = engine.execute(deploy(chain(Items=items), {}), {"kept": True})
    assert execution.output == {"kept": True}
    assert execution.counts.children == 1500


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
    assert (execution.status, execution.error, execution.cause) == ("SUCCEEDED", "", "")
    assert execution.output == {"run": "nested"}
    leaves = [(0, 0, "a"), (0, 1, "b"), (2, 0, "c")]
    said = sorted(line for _, line in execution.logs)
    assert said == [str({"outer": o, "inner": i, "item": item, "run": "nested"}) for o, i, item in leaves]
    counts = execution.counts
    assert counts.states == {"Head": 1, "Named": 1, "Outer": 1, "Plan": 3, "Inner": 3, "Leaf": 3}
    assert counts.children == 6
    assert counts.requests == {"functions": {"PUT": 4, "GET range": 4}, "interpreter": {"GET": 4, "PUT": 1}}
    written = engine.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="nested/")["Contents"]
    assert [found["Key"].endswith("/manifest.json") for found in written].count(True) == 1


def test_a_child_is_an_execution_of_its_own(engine: Engine, deploy: Deploy, listed: Callable[[list[Any]], str]) -> None:
    payload = {"name.$": "$$.Execution.Name", "id.$": "$$.Execution.Id", "input.$": "$$.Execution.Input"}
    items = fan_out(chain(Child=task("echo", payload)), listed(["a", "b"]), select={"parent.$": "$$.Execution.Name"})
    machine = deploy(chain(Items=items), {"echo": ECHO})
    first, second = engine.execute(machine, {"x": 1}, name="family").output
    assert first["input"] == {"item": "a", "index": 0, "parent": "family"}
    assert second["input"] == {"item": "b", "index": 1, "parent": "family"}
    assert len({"family", first["name"], second["name"]}) == 3
    assert first["id"] == f"arn:aws:states:us-east-1:123456789012:execution:{machine}/Items:{first['name']}"


FRAGILE = """
def lambda_handler(event, context):
    if event["item"] in (3, 5):
        raise ValueError(f"item {event['item']}")
    return event["item"]
"""


def fragile(key: str, **fields: Any) -> dict[str, Any]:
    body = chain(Check=task("fragile", {"item.$": "$.item"}), After={"Type": "Pass"})
    return chain(Items=fan_out(body, key, MaxConcurrency=1, **fields))


def test_a_child_that_fails_ends_its_map(engine: Engine, deploy: Deploy, listed: Callable[[list[Any]], str]) -> None:
    execution = engine.execute(deploy(fragile(listed(list(range(8)))), {"fragile": FRAGILE}), {})
    assert (execution.status, execution.error) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    assert execution.cause == "The specified tolerated failure threshold was exceeded"
    (failure,) = execution.failures
    assert (failure.state, failure.index, failure.error) == ("Items", 3, "ValueError")
    assert json.loads(failure.cause)["errorMessage"] == "item 3"
    assert execution.counts.children == 4
    assert execution.counts.states == {"Items": 1, "Check": 4, "After": 3}
    assert execution.substitutions[1].startswith("A map fails when more of its children fail than it tolerates")


@pytest.mark.parametrize(
    ("tolerated", "children"),
    [
        ({"ToleratedFailureCount": 1}, 6),
        ({"ToleratedFailureCount": 2}, 0),
        ({"ToleratedFailurePercentage": 20}, 6),
        ({"ToleratedFailurePercentage": 25}, 0),
        ({"ToleratedFailureCount": 1, "ToleratedFailurePercentage": 99}, 6),
    ],
)
def test_a_map_tolerates_as_many_failures_as_it_says(
    engine: Engine,
    deploy: Deploy,
    listed: Callable[[list[Any]], str],
    tolerated: Mapping[str, int],
    children: int,
) -> None:
    """`children` are those that ran before the map failed; 0 when it did not."""
    machine = deploy(fragile(listed(list(range(8))), **tolerated), {"fragile": FRAGILE})
    execution = engine.execute(machine, {})
    assert execution.status == ("FAILED" if children else "SUCCEEDED")
    assert execution.output == (None if children else [0, 1, 2, None, 4, None, 6, 7])
    assert execution.counts.children == (children or 8)
    assert [failure.index for failure in execution.failures] == [3, 5]


def test_a_map_that_fails_can_be_retried_and_caught(
    engine: Engine, deploy: Deploy, listed: Callable[[list[Any]], str]
) -> None:
    threshold = ["States.ExceedToleratedFailureThreshold"]
    retry = [{"ErrorEquals": threshold, "MaxAttempts": 1, "IntervalSeconds": 1}]
    catch = [{"ErrorEquals": threshold, "Next": "Caught", "ResultPath": "$.why"}]
    definition = fragile(listed([1, 3]), Retry=retry, Catch=catch)
    definition["States"]["Caught"] = {"Type": "Pass", "End": True}
    execution = engine.execute(deploy(definition, {"fragile": FRAGILE}), {"kept": 1})
    assert execution.status == "SUCCEEDED"
    assert (execution.output["kept"], execution.output["why"]["Error"]) == (1, threshold[0])
    assert (execution.counts.children, execution.counts.retries) == (4, 1)


def test_a_map_over_nothing_and_one_over_what_is_not_there(
    engine: Engine, deploy: Deploy, listed: Callable[[list[Any]], str]
) -> None:
    empty = engine.execute(deploy(fragile(listed([])), {"fragile": FRAGILE}), {})
    assert (empty.status, empty.output, empty.counts.children) == ("SUCCEEDED", [], 0)
    missing = engine.execute(deploy(fragile("no/such/key.json"), {"fragile": FRAGILE}), {})
    assert (missing.status, missing.error) == ("FAILED", "States.ItemReaderFailed")
    assert "NoSuchKey" in missing.cause


BATCH = """
import json, os, sys, time

print(sys.argv, os.environ["LOKKI_INPUT"], os.environ["LOKKI_ATTEMPT"], os.environ["MODE"])
match os.environ["LOKKI_STATE"]:
    case "fail":
        raise ValueError("in the job")
    case "exit":
        sys.exit(7)
    case "hang":
        time.sleep(60)
    case "write":
        import boto3
        boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key="job", Body=b"done")
"""


def batch(package: Made) -> Job:
    environment = {"MODE": "definition", "BUCKET": BUCKET}
    where = "arn:aws:batch:us-east-1:123456789012:job-definition/train:1"
    return Job("train", where, package({"batch_main.py": BATCH}), environment=environment, timeout=1)


def overrides(state: str) -> dict[str, Any]:
    pairs = {"LOKKI_STATE": state, "MODE": "override"}
    fixed = [{"Name": name, "Value": value} for name, value in pairs.items()]
    fixed.append({"Name": "LOKKI_INPUT", "Value.$": "States.JsonToString($)"})
    tries = {"Name": "LOKKI_ATTEMPT", "Value.$": "States.Format('{}', $$.State.RetryCount)"}
    return {"Environment": [*fixed, tries]}


def test_a_batch_job_runs_its_command(engine: Engine, deploy: Deploy, package: Made) -> None:
    machine = deploy(chain(Train=job("train", overrides("write"))), {}, jobs=(batch(package),))
    execution = engine.execute(machine, {"given": 1})
    assert (execution.status, execution.error, execution.cause) == ("SUCCEEDED", "", "")
    assert (execution.output["Status"], execution.output["Container"]) == ("SUCCEEDED", {"ExitCode": 0})
    assert execution.logs == (("train", """['batch_main.py'] {"given":1} 0 override"""),)
    counts = execution.counts
    assert (counts.jobs, counts.states, counts.requests) == ({"train": 1}, {"Train": 1}, {"jobs": {"PUT": 1}})
    assert counts.job_ms["train"] > 0
    assert engine.client("s3").get_object(Bucket=BUCKET, Key="job")["Body"].read() == b"done"


@pytest.mark.parametrize(
    ("state", "exit_code", "reason"),
    [
        ("fail", 1, "Essential container in task exited"),
        ("exit", 7, "Essential container in task exited"),
        ("hang", 137, "Job attempt duration exceeded timeout"),
    ],
)
def test_a_batch_job_that_fails_is_retried_by_its_state(
    engine: Engine, deploy: Deploy, package: Made, state: str, exit_code: int, reason: str
) -> None:
    retry = [{"ErrorEquals": ["States.TaskFailed"], "MaxAttempts": 1}]
    machine = deploy(chain(Train=job("train", overrides(state), Retry=retry)), {}, jobs=(batch(package),))
    execution = engine.execute(machine, {})
    assert (execution.status, execution.error) == ("FAILED", "States.TaskFailed")
    told = json.loads(execution.cause)
    assert (told["Container"], told["StatusReason"]) == ({"ExitCode": exit_code}, reason)
    assert (execution.counts.jobs, execution.counts.retries) == ({"train": 2}, 1)
    if state == "fail":
        assert execution.logs[-1] == ("train", "ValueError: in the job")


def test_a_job_or_function_that_is_not_deployed_is_named(engine: Engine, deploy: Deploy) -> None:
    nothing = engine.execute(deploy(chain(Train=job("absent", {})), {}), {})
    assert (nothing.status, nothing.error) == ("FAILED", "Batch.ClientException")
    assert "absent" in nothing.cause
    neither = engine.execute(deploy(one("missing"), {}), {})
    assert (neither.status, neither.error) == ("FAILED", "Lambda.ResourceNotFoundException")
    assert "function:missing" in neither.cause


def test_requests_to_s3_are_told_apart(engine: Engine, deploy: Deploy) -> None:
    code = """
    import boto3, os
    s3 = boto3.client("s3")

    def lambda_handler(event, context):
        at = {"Bucket": os.environ["BUCKET"], "Key": "one"}
        s3.put_object(**at, Body=b"abc")
        s3.get_object(**at)
        s3.get_object(**at, Range="bytes=0-1")
        s3.head_object(**at)
        s3.copy_object(Bucket=at["Bucket"], Key="two", CopySource=at)
        s3.list_objects_v2(Bucket=at["Bucket"], Prefix="uploads")
        upload = s3.create_multipart_upload(**at)["UploadId"]
        part = s3.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"abc")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload=parts)
        s3.delete_object(**at)
        s3.delete_objects(Bucket=at["Bucket"], Delete={"Objects": [{"Key": "two"}]})
    """
    execution = engine.execute(deploy(one("asks"), {"asks": code}), {})
    once = dict.fromkeys(("PUT", "GET", "GET range", "HEAD", "COPY", "LIST"), 1)
    assert execution.counts.requests == {"functions": {**once, "multipart": 3, "DELETE": 2}}


def test_executions_at_the_same_time_are_counted_apart(engine: Engine, deploy: Deploy) -> None:
    code = """
    import boto3, os
    s3 = boto3.client("s3")

    def lambda_handler(event, context):
        for number in range(event["n"]):
            s3.put_object(Bucket=os.environ["BUCKET"], Key=str(number), Body=b"")
        print(event["n"])
    """
    machine = deploy(
        chain(One=task("puts", {"n.$": "$.n"}, ResultPath=None, OutputPath="$"), Two=task("puts", {"n": 1})),
        {"puts": code},
    )
    found: dict[int, Execution] = {}

    def execute(number: int) -> None:
        found[number] = engine.execute(machine, {"n": number})

    threads = [threading.Thread(target=execute, args=(number,)) for number in (3, 11, 23)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, execution in found.items():
        assert execution.counts.requests == {"functions": {"PUT": number + 1}}
        assert execution.logs == (("puts", str(number)), ("puts", "1"))
    assert sorted(found) == [3, 11, 23]


SLOW = """
import os, time

def lambda_handler(event, context):
    with open("begun", "w") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(60)

if __name__ == "__main__":
    lambda_handler({}, None)
"""


@pytest.mark.parametrize("kind", ["function", "job"])
def test_an_execution_that_takes_too_long_is_ended(engine: Engine, deploy: Deploy, package: Made, kind: str) -> None:
    folder = package({"handler.py": SLOW})
    jobs = (Job("slow", "slow:1", folder, command=("python", "handler.py")),)
    definition = one("slow") if kind == "function" else chain(Only=job("slow", {}))
    machine = deploy(definition, {"slow": Function("slow", arn("slow"), folder)}, jobs=jobs)
    execution = engine.execute(machine, {}, timeout=0.5)
    assert (execution.status, execution.output) == ("TIMED_OUT", None)
    process = int(read(Path(folder, "begun")))
    assert until(lambda: not alive(process))


def test_a_name_is_taken_once(engine: Engine, deploy: Deploy) -> None:
    machine = deploy(chain(Nothing={"Type": "Pass"}), {})
    engine.execute(machine, {}, name="once")
    with pytest.raises(SimulationError, match="an execution 'once' of this state machine already"):
        engine.execute(machine, {}, name="once")
    with pytest.raises(SimulationError, match="'no-such-machine' in the engine: deploy it first"):
        engine.execute("no-such-machine", {})


def test_a_definition_that_is_no_state_machine_is_refused(engine: Engine, deploy: Deploy) -> None:
    with pytest.raises(SimulationError, match="cannot read the state machine"):
        deploy({"StartAt": "Nowhere"}, {})


def test_the_services_are_for_those_whom_the_engine_knows(engine: Engine, deploy: Deploy) -> None:
    import boto3
    from botocore.exceptions import ClientError

    secret = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:database-AbCdEf"
    machine = deploy(one("echo"), {"echo": ECHO}, secrets={secret: '{"password": "first"}'})
    deploy(one("echo"), {"echo": ECHO}, secrets={secret: '{"password": "second"}'})
    abroad = boto3.client("secretsmanager", **reach(engine), region_name="eu-west-1")
    assert json.loads(abroad.get_secret_value(SecretId=secret)["SecretString"]) == {"password": "second"}
    states = engine.client("stepfunctions")
    machines = [found["stateMachineArn"] for found in states.list_state_machines()["stateMachines"]]
    started = states.start_execution(stateMachineArn=next(one for one in machines if one.endswith(machine)), input="{}")
    assert started["executionArn"]
    stranger = boto3.client("s3", **{**reach(engine), "aws_access_key_id": "AKIASTRANGER"}, region_name="us-east-1")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        stranger.list_buckets()


def reach(engine: Engine) -> dict[str, Any]:
    environment = engine.environment
    return {
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": environment["AWS_ENDPOINT_URL"],
    }


def test_processes_that_are_not_forked_do_the_same(package: Made) -> None:
    folder = package({"handler.py": LOOK, "batch_main.py": BATCH})
    definition = chain(**look(["handler", "boto3", "yaml", "lokki"])["States"])
    with Engine(fork=False) as engine:
        engine.deploy(Machine("fresh", json.dumps(definition), (Function("look", arn("look"), folder, timeout=30),)))
        found = engine.execute("fresh", {}).output["found"]
    assert [found["yaml"], found["lokki"]] == [
        f"ModuleNotFoundError: No module named '{name}'" for name in ("yaml", "lokki")
    ]
    assert found["handler"] == os.path.join(folder, "handler.py")


ORPHAN = """
import json, os, signal, sys
from lokki.simulate.engine import Engine, Function, Machine

definition, folder, how = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
with Engine() as engine:
    function = Function("sleeps", "arn:aws:lambda:us-east-1:123456789012:function:sleeps", folder)
    engine.deploy(Machine("orphan", json.dumps(definition), (function,)))
    engine.execute("orphan", {})
"""

SLEEPS = """
import os, subprocess, sys, time

def lambda_handler(event, context):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open("begun", "w") as file:
        file.write(f"{os.getpid()} {os.getppid()} {child.pid}\\n")
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_all_ends_with_the_process_that_started_it(package: Made, tmp_path: Path, how: str) -> None:
    import signal

    folder = package({"handler.py": SLEEPS})
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)}
    arguments = [sys.executable, "-c", ORPHAN, json.dumps(one("sleeps")), folder, how]
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as parent:
        processes = [int(number) for number in until(lambda: read(Path(folder, "begun"))).split()]
        parent.send_signal(signal.Signals[how])
        _, said = parent.communicate()
    assert until(lambda: not any(map(alive, processes)))
    assert until(lambda: not list(tmp_path.glob("lokki-simulate-*")))
    assert ("KeyboardInterrupt" in said, "SimulationError" in said) == (how == "SIGINT", False)


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once it is true."""
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_missing_moto_says_what_to_install() -> None:
    start = "from lokki.simulate.engine import Engine; Engine().__enter__()"
    code = f"import sys; sys.path.append({str(ROOT / 'src')!r}); {start}"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'lokki-twingraph[simulate]'.")


def test_an_engine_that_ends_says_so(package: Made) -> None:
    code = """
    import os, signal, subprocess

    def lambda_handler(event, context):
        keeper = os.getppid()
        engine = subprocess.check_output(["ps", "-o", "ppid=", "-p", str(keeper)], text=True)
        os.kill(int(engine), signal.SIGKILL)
    """
    function = Function("kills", arn("kills"), package({"handler.py": code}))
    with Engine() as engine:
        engine.deploy(Machine("kills", json.dumps(one("kills")), (function,)))
        for _ in range(2):
            with pytest.raises(SimulationError, match="ended unexpectedly"):
                engine.execute("kills", {})


def test_an_engine_that_does_not_run_says_so() -> None:
    with pytest.raises(SimulationError, match="with Engine"):
        Engine().execute("machine", {})
