"""`show`: the runs of a deployed flow, and one of them in detail; against LocalStack also how a run is watched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from threading import Event as Signal
from typing import Any

import pytest
from built_flows import config
from deployed_flows import numbers, open_squares_flow, square, squares_flow, study_flow, total
from simulated_flows import nested_flow

from lokki.aws.executions import find_execution, listed, run_in
from lokki.aws.history import History, said_of
from lokki.aws.machines import Machine, find_machine, parsed, read_definition
from lokki.aws.start import start
from lokki.aws.watching import watch
from lokki.builder.builder import compile_flow
from lokki.decorators import Flow, flow
from lokki.events import silent
from lokki.runtime.program import MENDING
from lokki.settings import LokkiConfig
from tests.aws.conftest import Said, Stage, told
from tests.localstack_server import REGION, LocalStack
from tests.moto_server import Reply

Command = Callable[..., Said]
MACHINE = Machine("arn:aws:states:us-east-1:123456789012:stateMachine:squares-flow", "squares-flow")


# --- lists


def test_the_newest_runs_in_a_table(stage: Stage, command: Command) -> None:
    names = [
        command(squares_flow, "invoke", "--n", "1", "--no-wait", *more)[1].strip() for more in ([], ["--run-id", "k"])
    ]
    code, out, err = command(squares_flow, "show", "--n", "2")
    head, *rows = (re.split(r"  +", line) for line in out.splitlines())
    assert (code, err, head) == (0, "", ["Run ID", "Status", "Start Time", "Duration", "--run-id"])
    assert sorted((row[0], row[4:]) for row in rows) == sorted(zip(names, ([], ["k"]), strict=True))
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row[2]) and row[3].endswith("s") for row in rows)


def test_the_newest_runs_as_json(stage: Stage, command: Command) -> None:
    name = command(open_squares_flow, "invoke", "--no-wait", "--run-id", "listed")[1].strip()
    _, out, _ = command(open_squares_flow, "show", "--json", "--n", "1")
    (only,) = map(json.loads, out.splitlines())
    assert (only["name"], only["run_id"]) == (name, "listed")


def page(first: int, size: int, token: str | None) -> Reply:
    """A page of a list of executions."""
    rows = [
        {"executionArn": f"arn:{at}", "name": f"run-{at}", "status": "SUCCEEDED", "startDate": 1.7e9}
        for at in range(first, first + size)
    ]
    return told(200, executions=rows, **({"nextToken": token} if token else {}))


def test_more_than_a_page_is_listed_page_by_page(stage: Stage) -> None:
    pages = iter([page(0, 1000, "a"), page(1000, 1000, "b"), page(2000, 1000, None)])
    stage.answers["ListExecutions"] = lambda: next(pages)
    assert [each.name for each in listed(stage.aws, MACHINE, most=1500)] == [f"run-{at}" for at in range(1500)]
    assert next(pages).body == page(2000, 1000, None).body


def test_a_flow_that_has_not_run(stage: Stage, command: Command) -> None:
    stage.answers["ListExecutions"] = lambda: page(0, 0, None)
    code, out, err = command(squares_flow, "show")
    assert (code, out) == (0, "")
    assert err.startswith("squares-flow has not run yet. Start it with: ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--n", "0"], "it takes a number of 1 or more, not '0'"),
        (["--bad", "3"], "Unexpected argument: '--bad'"),
        (["--result"], "Which result? Name a run"),
    ],
)
def test_options_that_make_no_sense(stage: Stage, command: Command, argv: list[str], said: str) -> None:
    code, _, err = command(squares_flow, "show", *argv)
    assert code == 1
    assert said in err


# --- one run


def test_a_run_is_found_by_name_run_id_and_arn(stage: Stage, command: Command) -> None:
    assert command(open_squares_flow, "invoke", "--run-id", "found")[:2] == (0, "[0, 1, 4]\n")
    machine = find_machine(stage.aws, "open-squares-flow")
    execution = find_execution(stage.aws, machine, "found")
    assert execution == find_execution(stage.aws, machine, execution.name)
    assert execution == find_execution(stage.aws, machine, execution.arn)
    assert (execution.run_id, execution.status, execution.given) == ("found", "SUCCEEDED", {"run_id": "found"})
    assert command(open_squares_flow, "show", "--run", "found", "--result")[:2] == (0, "[0, 1, 4]\n")


def test_the_value_of_a_map_is_whole_after_a_run_was_mended(stage: Stage, command: Command) -> None:
    first = command(open_squares_flow, "invoke", "--run-id", "mended", "--n", "4")[1]
    name = command(open_squares_flow, "show", "--n", "1")[1].splitlines()[1].split()[0]
    machine = find_machine(stage.aws, "open-squares-flow")
    mending = start(stage.aws, machine, {"n": 4, MENDING: True}, "mended")
    assert mending.mends
    done = watch(stage.aws, mending, read_definition(stage.aws, machine), silent, flow=machine.name)
    assert done.status == "SUCCEEDED"
    for each in (name, done.name):
        assert command(open_squares_flow, "show", "--run", each, "--result")[1] == first == "[0, 1, 4, 9]\n"


def test_an_unknown_run_names_the_nearest(stage: Stage, command: Command) -> None:
    command(study_flow, "invoke", "--run-id", "september", "--no-wait")
    code, _, err = command(study_flow, "show", "--run", "setpember")
    assert code == 1
    assert re.search(r"error: There is no run 'setpember' of 'study-flow'; did you mean .*\bseptember\b", err)


def test_a_run_without_a_result(stage: Stage, command: Command) -> None:
    command(squares_flow, "invoke", "--n", "2", "--bad", "1", "--run-id", "none")
    code, out, err = command(squares_flow, "show", "--run", "none", "--result")
    assert (code, out) == (1, "")
    assert "has no result: it is FAILED." in err


def test_a_flow_file_that_ends_elsewhere_than_what_is_deployed_says_so(stage: Stage, command: Command) -> None:
    @flow
    def open_squares_flow(n: int = 3) -> Any:
        return numbers().map(square).agg(total)

    code, out, err = command(open_squares_flow, "invoke", "--n", "2", "--run-id", "ahead")
    assert (code, out) == (1, "")
    said = "with the result that this flow file has. Nothing is stored at s3://.*/total/output.pkl.gz. Either that was"
    assert re.search(said, err)
    assert err.endswith("what is deployed is not this flow file with this configuration: deploy it again.\n")


def test_a_run_whose_parameters_do_not_go_with_the_flow_any_more_loses_nothing(stage: Stage, command: Command) -> None:
    deployed_flow = open_squares_flow
    command(deployed_flow, "invoke", "--n", "2", "--run-id", "early")

    def with_one_more() -> Flow:
        @flow
        def open_squares_flow(since: str, n: int = 3) -> Any:
            return numbers().map(square)

        return open_squares_flow

    code, _, err = command(with_one_more(), "redrive", "--run", "early", "--items", "0")
    assert code == 1
    assert "does not go with any more: Missing required parameter: '--since'. Invoke it anew." in err
    assert command(deployed_flow, "show", "--run", "early", "--result")[1] == "[0, 1]\n"


def test_an_endpoint_that_is_no_address(stage: Stage, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    code, _, err = command(squares_flow, "show")
    assert code == 1
    assert err.startswith("error: aws.endpoint is 'localhost:4566', which is no address: write it as in http://")


@pytest.mark.parametrize(
    ("name", "run"),
    [("nightly-20260501-093000-1a2b", "nightly"), ("20260501-093000-1a2b", ""), ("nightly", ""), ("a-b-c", "")],
)
def test_the_run_id_in_a_name(name: str, run: str) -> None:
    assert run_in(name) == run


# --- histories


def event(at: float, kind: str, **details: Any) -> dict[str, Any]:
    """An event that came so many seconds after the first."""
    name = kind[0].lower() + kind[1:]
    name = {"taskStateEntered": "stateEntered", "taskStateExited": "stateExited"}.get(name, name)
    return {"type": kind, "timestamp": 1.7e9 + at, f"{name}EventDetails": details}


RETRIED = [
    event(0, "ExecutionStarted", input="{}"),
    event(0, "TaskStateEntered", name="Total"),
    event(1, "TaskScheduled", resource="invoke", resourceType="lambda", region="x", parameters="{}"),
    event(3, "TaskFailed", resource="invoke", resourceType="lambda", error="LokkiRetryable", cause="{}"),
    event(5, "TaskScheduled", resource="invoke", resourceType="lambda", region="x", parameters="{}"),
    event(6, "TaskSucceeded", resource="invoke", resourceType="lambda", output="{}"),
    event(7, "TaskStateExited", name="Total", output="{}"),
    event(7, "TaskStateEntered", name="Last"),
    event(8, "TaskScheduled", resource="invoke", resourceType="lambda", region="x", parameters="{}"),
    event(9, "TaskFailed", resource="invoke", resourceType="lambda", error="ValueError", cause="no"),
    event(9, "ExecutionFailed", error="ValueError", cause="no"),
]


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": number, **each} for number, each in enumerate(events, 1)]


@pytest.mark.parametrize("cut", [1, 4, 10, 11])
def test_a_history_is_read_on_from_where_it_was(stage: Stage, cut: int) -> None:
    events = numbered(RETRIED)
    answers = iter([told(200, events=events[:cut]), told(200, events=events[::-1][:5], nextToken="more")])
    stage.answers["GetExecutionHistory"] = lambda: next(answers, told(200, events=events[::-1][5:]))
    history = History(stage.aws, "arn")
    history.read()
    total, last = history.read()
    assert (total.name, total.status, total.attempts, total.seconds, total.worked) == ("Total", "SUCCEEDED", 2, 7, 3)
    assert [(each.error, each.delay) for each in total.failed] == [("LokkiRetryable", 2)]
    assert (last.name, last.status, last.error, last.cause, last.seconds) == ("Last", "FAILED", "ValueError", "no", 2)


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        ("ValueError", '{"errorMessage": "ValueError: no (in step \'s\', item 3: 4)\\nTraceback"}', "ValueError: no"),
        (
            "Sandbox.Timedout",
            '{"errorMessage": "RequestId: 1-a Error: Task timed out"}',
            "Sandbox.Timedout: Task timed out",
        ),
        ("States.Runtime", "", "States.Runtime"),
        ("States.Runtime", "it is broken\nreally", "States.Runtime: it is broken"),
    ],
)
def test_what_went_wrong_in_a_line(error: str, cause: str, said: str) -> None:
    assert said_of(error, cause) == said


def test_a_definition_says_what_its_states_are() -> None:
    machine = compile_flow(nested_flow(), config()).files["statemachine.json"].decode()
    places = parsed(machine.replace("${", "arn:aws:lambda:a:b:function:").replace("}", "}")).places
    assert [(each.kind, each.node) for each in places] == [
        ("function", "numbers"),
        ("map", "numbers-map"),
        ("function", "collected-2"),
    ]
    assert [(each.kind, each.node) for each in places[1].inside] == [
        ("function", "spread"),
        ("map", "spread-map"),
        ("function", "collected"),
    ]
    assert places[1].manifest == "numbers/map_manifest.json"
    assert places[1].inside[1].manifest == ""
    assert [places[1].express, places[1].inside[1].express] == [False, True]


# --- against LocalStack


def deployed(there: LocalStack, flow: Flow, settings: LokkiConfig, given: Mapping[str, Any]) -> None:
    """Build a flow and have CloudFormation make it."""
    bundle = compile_flow(flow(**given), settings, {})
    bucket, code = settings.aws.artifact_bucket, bundle.functions.digest[:16]
    s3, formation = there.client("s3"), there.client("cloudformation")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    key = f"{flow.name}/artifacts/lambdas/{code}/function.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=bundle.files["lambdas/function.zip"])
    template = bundle.files["template.yaml"].decode()
    stack = f"{flow.name}-stack"
    formation.create_stack(StackName=stack, TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
    pause = Signal()
    while formation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"] == "CREATE_IN_PROGRESS":
        pause.wait(0.1)
    assert formation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"


@pytest.fixture
def settled(own_account: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LokkiConfig]:
    """Deploys a flow into an account of its own, to which environment and configuration lead."""

    def deploy(flow: Flow, **given: Any) -> LokkiConfig:
        bucket = f"lokki-{own_account.account}"
        monkeypatch.setenv("LOKKI_ARTIFACT_BUCKET", bucket)
        monkeypatch.setenv("LOKKI_AWS_REGION", REGION)
        monkeypatch.setenv("LOKKI_BATCH_JOB_QUEUE", "jobs")
        aws = {"artifact_bucket": bucket, "endpoint": own_account.endpoint, "region": REGION}
        settings = config(aws=aws, functions={"timeout": 3})
        deployed(own_account, flow, settings, given)
        return settings

    return deploy


def test_runs_are_watched_and_shown(
    settled: Callable[..., LokkiConfig], own_account: LocalStack, command: Command
) -> None:
    settled(squares_flow, n=1)
    _watch_one_that_succeeds(command)
    _find_a_child_that_was_cut_off(command)
    _count_what_is_tried_again(command)
    _tell_of_one_that_was_stopped(command, own_account)


def _watch_one_that_succeeds(command: Command) -> None:
    code, out, err = command(squares_flow, "invoke", "--n", "5", "--day", "2024-02-28", "--run-id", "leap")
    assert (code, out) == (0, "30 on datetime.date(2024, 2, 28)\n")
    said = re.sub(r"\d+\.\d+s|at \S+|\S*:execution:\S+", "~", err)
    said = re.sub(r"  \[.*\] \d/5 .*\n(?=  \[)", "", said)  # how often one looks depends on the machine
    assert said == (
        f"Started squares-flow in {REGION}: ~\n"
        "[INFO] Step 'numbers' started ~\n"
        "[INFO] Step 'numbers' completed in ~ (status=success)\n"
        "[INFO] Map 'square' started (5 items)\n"
        "  [=========================] 5/5 (100%) completed\n"
        "[INFO] Map 'square' completed in ~\n"
        "[INFO] Step 'total' started ~\n"
        "[INFO] Step 'total' completed in ~ (status=success)\n"
    )
    told = json.loads(command(squares_flow, "show", "--run", "leap", "--json")[1])
    assert [(each["step"], each["status"]) for each in told["steps"]] == [
        ("numbers", "SUCCEEDED"),
        ("numbers-map", "SUCCEEDED"),
        ("total", "SUCCEEDED"),
    ]
    counts = {"total": 5, "done": 5, "failed": 0, "children": 3, "body": ["square"]}
    assert told["steps"][1].items() >= counts.items()
    assert 0 < told["estimated_cost_usd"] < 0.01
    assert (told["run_id"], told["errors"], told["input"]["day"]) == ("leap", [], "2024-02-28")


def _find_a_child_that_was_cut_off(command: Command) -> None:
    code, _, err = command(squares_flow, "invoke", "--n", "5", "--cut", "3", "--how", "raise")
    assert code == 1
    assert "error: Step 'square' failed on item 2: Sandbox.Timedout: Task timed out after 3.00 seconds\n" in err
    assert "this item or one of the 1 after it" in err
    assert "longer than its function may, 3 seconds" in err
    code, out, _ = command(squares_flow, "show", "--run", err.split("--run ")[1].split()[0])
    assert code == 0
    assert re.search(r"^square \(map\) +FAILED +\S+ +3 of 5, 2 failed$", out, re.MULTILINE)
    assert re.search(r"^total +not reached$", out, re.MULTILINE)
    assert "Estimate of what AWS bills for this run:" in out


def _count_what_is_tried_again(command: Command) -> None:
    code, _, err = command(squares_flow, "invoke", "--n", "1", "--how", "flaky", "--run-id", "again")
    assert code == 1
    assert re.search(r"\[WARNING\] Step 'total' failed on attempt 1, trying again in 1s: OSError: no luck\n", err)
    steps = json.loads(command(squares_flow, "show", "--run", "again", "--json")[1])["steps"]
    assert (steps[2]["status"], steps[2]["retries"]) == ("FAILED", 1)


def _tell_of_one_that_was_stopped(command: Command, account: LocalStack) -> None:
    command(squares_flow, "invoke", "--n", "5", "--cut", "3", "--run-id", "halted", "--no-wait")
    states, pause = account.client("stepfunctions"), Signal()
    (machine,) = states.list_state_machines()["stateMachines"]
    arn = states.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"][0]["executionArn"]
    while not states.list_map_runs(executionArn=arn)["mapRuns"]:
        pause.wait(0.05)
    states.stop_execution(executionArn=arn)
    assert account.ended(arn)["status"] == "ABORTED"
    out = command(squares_flow, "show", "--run", "halted")[1]
    assert re.search(r"^square \(map\) +ABORTED ", out, re.MULTILINE), out
    assert re.search(r"^error: Run 'halted-\S+' was stopped.\nWhat is finished is kept. Go on", out, re.MULTILINE)


def test_maps_inside_maps_count_in_the_estimate(settled: Callable[..., LokkiConfig], command: Command) -> None:
    settled(nested_flow)
    assert command(nested_flow, "invoke", "--n", "4")[:2] == (0, "[[], [0], [0, 2], [0, 2, 4]]\n")
    out = command(nested_flow, "show", "--run", "nested-flow", "--json")[2]
    assert "did you mean" in out or "the newest are" in out
    name = command(nested_flow, "show", "--n", "1")[1].splitlines()[1].split()[0]
    text = command(nested_flow, "show", "--run", name)[1]
    assert "10 EXPRESS" not in text
    assert re.search(r"Lambda +16 invocations", text), text
